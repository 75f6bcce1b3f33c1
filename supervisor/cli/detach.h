/*
 * holdfast run --detach: the run goes on in a session of its own, without the terminal.  The process that was typed
 * waits until the run is up, says its pid and directory, and ends; when it does not come up, it says why and ends
 * with the run's own exit status.
 *
 * What is refused before the run's directory is taken is said on the terminal.  From then on everything goes to
 * logs/holdfast.log there, and what this start has put into it is shown by the one who waits if the run ends before
 * it is up.  Keeps H12: no descriptor of this reaches a trainer.
 */
#ifndef CLI_DETACH_H
#define CLI_DETACH_H

#include <stdbool.h>

struct detach {
	bool json, quiet; /* how the waiting process speaks */
	int fd;           /* in the new process: where agent_run() is to say that it is up */
};

/*
 * Fork.  True in the new process, which leads a session of its own.  False in the old one, when all is over:
 * *exit_code_out is what to end with.  Call it before anything is locked or opened.
 */
bool detach_fork(struct detach *d, int *exit_code_out);

/*
 * In the new process: send its output to the log, and tell the one who waits where that is.
 * run_dir	absolute, with logs/ inside; borrowed for the call.
 * Returns 0, or an exit code, one line having been written to standard error.
 */
int detach_leave(struct detach *d, const char *run_dir);

#endif
