/*
 * Every call of libholdfast, from C++ and without a supervisor: it compiles, it links to the shared library and to the
 * static one, and it does nothing.
 */
#include "trainer/holdfast.h"

#include <cerrno>
#include <cstdio>

static int failures;

static void expect(bool holds, const char *what)
{
	if (holds)
		return;
	std::fprintf(stderr, "not so: %s\n", what);
	failures++;
}

#define EXPECT(condition) expect(condition, #condition)

int main()
{
	struct holdfast *hf = holdfast_open();
	struct holdfast_resume from;
	struct holdfast_step report = {};
	uint64_t size_bytes = 7;
	char byte = 0;

	EXPECT(hf == nullptr);
	holdfast_resume_from(hf, &from);
	EXPECT(from.source == HOLDFAST_FROM_SCRATCH && from.attempt == 0);
	EXPECT(from.step == HOLDFAST_STEP_NONE && from.path == nullptr);
	report.step = 1;
	report.fields = HOLDFAST_LOSS | HOLDFAST_GRAD_NORM;
	holdfast_step(hf, &report);
	holdfast_phase(hf, HOLDFAST_PHASE_EVALUATION);
	holdfast_wait_begin(hf);
	holdfast_wait_end(hf);
	EXPECT(holdfast_snapshot_begin(hf, 1, 1) == -ENOTCONN);
	EXPECT(holdfast_snapshot_write(hf, &byte, 1) == -ENOTCONN);
	EXPECT(holdfast_snapshot_commit(hf) == -ENOTCONN);
	EXPECT(holdfast_restore_begin(hf, 1, &size_bytes) == -ENOTCONN && size_bytes == 7);
	EXPECT(holdfast_restore_read(hf, &byte, 1) == -ENOTCONN);
	EXPECT(holdfast_restore_end(hf) == -ENOTCONN);
	EXPECT(holdfast_checkpoint_saved(hf, 1, "/checkpoint", 1) == 0);
	EXPECT(holdfast_should_stop(hf) == 0);
	EXPECT(holdfast_should_checkpoint(hf) == 0);
	holdfast_close(hf);
	return failures != 0;
}
