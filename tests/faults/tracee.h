/*
 * Faults made inside a running process from outside, by ptrace: no cooperation of the program is needed.
 *
 * Each call stops the main thread, changes it, and lets it go; the other threads run on.  What happens then
 * is the program's own doing: the kernel raises the fault in it, or it executes the system call or the loop.
 * A process that is stopped by a signal stays stopped, and the fault happens when it is continued.
 *
 * Every function returns 0, or -errno with *why_out naming the step that failed (static storage):
 * -ESRCH no such process (or a zombie), -EPERM it may not be traced, -ETIME it cannot be stopped,
 * -ENOSYS not on this processor.  *at_ns_out is CLOCK_MONOTONIC when the process was let go with the fault.
 */
#ifndef FAULTS_TRACEE_H
#define FAULTS_TRACEE_H

#include <stdint.h>
#include <sys/types.h>

/* Jump to an address that is never mapped, as a call through a wild pointer does: SIGSEGV. */
int tracee_segv(pid_t pid, uint64_t *at_ns_out, const char **why_out);

/* exit_group(code), as if the program had called it. */
int tracee_exit(pid_t pid, int code, uint64_t *at_ns_out, const char **why_out);

/* An endless loop in user space; the stack stays that of the interrupted code. */
int tracee_spin(pid_t pid, uint64_t *at_ns_out, const char **why_out);

#endif
