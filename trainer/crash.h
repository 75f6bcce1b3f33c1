/*
 * What happens when the trainer crashes: the agent is told, and may read the crashing thread's stack while the
 * thread still exists, for at most CHANNEL_CRASH_WAIT_MS; then the process ends as it would have without us, with
 * the same signal, the same siginfo and the same core dump (H9, H11).
 *
 * A handler is installed only where the program has none.  State is one per process: signal handlers have no
 * context of their own.
 */
#ifndef TRAINER_CRASH_H
#define TRAINER_CRASH_H

#include "trainer/channel.h"

/*
 * Handle SIGSEGV, SIGBUS, SIGFPE, SIGILL and SIGABRT where they have their default action, and give the calling
 * thread an alternate stack when it has none, so that an overflown stack is reported too.  What cannot be had is
 * done without.
 * map		borrowed until crash_remove().
 */
void crash_install(struct channel *map);

/* Give back what crash_install() changed, where nobody has changed it since.  For the same thread. */
void crash_remove(void);

#endif
