/*
 * All threads' stacks of a foreign process, by ptrace and libunwind.
 *
 * Every thread is seized and interrupted, so that the stacks are of one moment, unwound, and let go.  The
 * process is left as it was found: a running thread runs on, a system call that was interrupted is restarted
 * by the kernel as after any stop (the few that signal(7) lists as never restarted return EINTR), a process
 * stopped by a signal stays stopped, and a signal that arrived meanwhile is passed on.  If the caller dies in
 * the middle the kernel does the same.  A thread in uninterruptible sleep is not waited for: what the kernel
 * shows of it stands instead of its stack.
 *
 * Must not: change the process, wait beyond the deadline, or trust what it reads from it (H10).
 */
#ifndef EVIDENCE_STACKS_H
#define EVIDENCE_STACKS_H

#include <stdint.h>
#include <sys/types.h>

#include "supervisor/evidence/sheet.h"

#define STACKS_THREADS_MAX 256u
#define STACKS_FRAMES_MAX 128u
#define STACKS_TEXT_MAX (512u << 10) /* bytes */

struct stacks_outcome {
	uint32_t thread_count;  /* that are listed in the text */
	uint32_t unwound_count; /* of these with a stack */
	int error;              /* errno of the first PTRACE_SEIZE that was refused, or 0 */
	uint64_t held_ns;       /* from the first interrupt to the last detach */
	uint64_t taken_ns;      /* all of it */
};

/*
 * Append the threads of pid to sheet: first_tid's first, marked, if it is not 0; then the main thread.
 * until_ns	CLOCK_MONOTONIC; after that the process is let go and the rest of the stacks left out.
 * outcome	borrowed; filled always.
 * Returns	0; -ESRCH when there is no such process; -ENOMEM.
 * Context	as report_compose().
 */
int stacks_take(pid_t pid, pid_t first_tid, uint64_t until_ns, struct sheet *sheet,
    struct stacks_outcome *outcome);

#endif
