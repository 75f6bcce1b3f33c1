/*
 * Starting processes: trainers and the agent's own helpers.
 *
 * A trainer gets what the user's shell would have given it (H12): the signal dispositions and mask the agent
 * was started with, no descriptor but its three, the agent's limits and environment plus what is named.  It
 * dies with the agent (PR_SET_PDEATHSIG, parent checked), in a process group of its own, so that a terminal's
 * Ctrl-C reaches holdfast only.  The child does nothing between fork and exec that is not async-signal-safe,
 * and reports a failure as {stage, errno} through a pipe that exec closes.
 */
#ifndef AGENT_SPAWN_H
#define AGENT_SPAWN_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/resource.h>

#include "journal/record.h"
#include "journal/status.h"

#define SPAWN_SIGNALS 65

/* Dispositions, mask and limit of descriptors at the agent's own start, to be given on. */
struct spawn_signals {
	sigset_t mask;
	bool ignored[SPAWN_SIGNALS];
	struct rlimit files; /* rlim_cur 0: leave the limit as it is */
};
void spawn_signals_save(struct spawn_signals *saved);

/* Take as many descriptors as the hard limit allows: a rank takes several.  Children get the saved limit back. */
void spawn_more_files(void);

struct spawn_request {
	const char *const *command; /* argv; [0] is looked up in PATH of environment */
	char *const *environment;   /* NULL-terminated */
	const char *work_dir;       /* NULL: stay */
	int in_fd, out_fd, err_fd; /* become 0, 1, 2; -1: /dev/null for in, inherited for out and err */
	const int *keep_fds;       /* further descriptors given on, from 3 upwards in this order */
	size_t keep_count;
	int stay_fd; /* given on under its own number, 3 or above; 0: none */
	const struct spawn_signals *signals;
	bool die_with_parent;
};

struct spawn_result {
	int pid, pidfd;
	uint64_t process_start; /* /proc/PID/stat field 22 */
	enum spawn_stage stage; /* on failure */
	int error;
};

/* Returns STATUS_OK, or STATUS_SYS with result->stage and result->error (nothing is left behind then). */
MUST_CHECK enum status spawn_process(const struct spawn_request *request, struct spawn_result *result);

/* Field 22 of /proc/PID/stat; 0 when it cannot be read. */
uint64_t spawn_process_start(int pid);

#endif
