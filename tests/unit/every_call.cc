/*
 * Every call of libholdfast from C++: the header is C++, the symbols are found, and without a supervisor each
 * call does nothing and says so.  Built with the shared library and with the static one.
 */
#include <cerrno>
#include <cstdio>

#include "trainer/holdfast.h"

static int failures;

static void expect(const char *what, long got, long wanted)
{
	if (got == wanted)
		return;
	std::fprintf(stderr, "%s: %ld instead of %ld\n", what, got, wanted);
	failures++;
}

int main()
{
	holdfast *hf = holdfast_open();
	struct holdfast_resume from;
	struct holdfast_step report = {};
	uint64_t size_bytes = 7;
	char byte = 1;

	expect("open", hf != nullptr, 0);
	holdfast_resume_from(hf, &from);
	expect("source", from.source, HOLDFAST_FROM_SCRATCH);
	expect("attempt", from.attempt, 0);
	expect("step", from.step == HOLDFAST_STEP_NONE, 1);
	expect("path", from.path != nullptr, 0);
	report.fields = HOLDFAST_LOSS | HOLDFAST_COMPUTE;
	holdfast_phase(hf, HOLDFAST_PHASE_RESTORE);
	holdfast_step(hf, &report);
	holdfast_wait_begin(hf);
	holdfast_wait_end(hf);
	expect("snapshot_begin", holdfast_snapshot_begin(hf, 1, 1), -ENOTCONN);
	expect("snapshot_write", holdfast_snapshot_write(hf, &byte, 1), -ENOTCONN);
	expect("snapshot_commit", holdfast_snapshot_commit(hf), -ENOTCONN);
	expect("restore_begin", holdfast_restore_begin(hf, 1, &size_bytes), -ENOTCONN);
	expect("restore_read", holdfast_restore_read(hf, &byte, 1), -ENOTCONN);
	expect("restore_end", holdfast_restore_end(hf), -ENOTCONN);
	expect("size", static_cast<long>(size_bytes), 7);
	expect("checkpoint_saved", holdfast_checkpoint_saved(hf, 1, "a", 1), 0);
	expect("should_stop", holdfast_should_stop(hf), 0);
	expect("should_checkpoint", holdfast_should_checkpoint(hf), 0);
	holdfast_close(hf);
	return failures != 0;
}
