/*
 * A C program that uses an installed libholdfast.  It is not supervised, so that every call has to do nothing.
 */
#include <holdfast.h>
#include <stdio.h>

int main(void)
{
	struct holdfast *hf = holdfast_open();
	struct holdfast_resume from;
	const struct holdfast_step report = {.step = 1, .fields = HOLDFAST_LOSS, .loss = 0.5};

	holdfast_resume_from(hf, &from);
	holdfast_step(hf, &report);
	if (hf != NULL || from.attempt != 0 || from.source != HOLDFAST_FROM_SCRATCH) {
		fprintf(stderr, "not supervised, and yet attempt %u\n", from.attempt);
		return 1;
	}
	if (holdfast_should_stop(hf) || holdfast_snapshot_begin(hf, 1, 1) >= 0) {
		fprintf(stderr, "not supervised, and yet it is asked to stop or keeps a snapshot\n");
		return 1;
	}
	holdfast_close(hf);
	printf("consumer ok\n");
	return 0;
}
