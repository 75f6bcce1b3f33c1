/*
 * A C++ program that uses an installed libholdfast: the header is C++, the symbols are found.
 */
#include <cstdio>
#include <holdfast.h>

int main()
{
	holdfast *hf = holdfast_open();
	holdfast_resume from = {};
	struct holdfast_step report = {};

	report.step = 1;
	report.fields = HOLDFAST_LOSS | HOLDFAST_TOKENS;
	holdfast_resume_from(hf, &from);
	holdfast_step(hf, &report);
	holdfast_phase(hf, HOLDFAST_PHASE_EVALUATION);
	if (hf != nullptr || from.attempt != 0 || from.step != HOLDFAST_STEP_NONE) {
		std::fprintf(stderr, "not supervised, and yet attempt %u\n", from.attempt);
		return 1;
	}
	holdfast_close(hf);
	std::printf("consumer ok\n");
	return 0;
}
