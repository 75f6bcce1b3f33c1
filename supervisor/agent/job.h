/*
 * Helpers: short-lived processes that do for the agent what could block or crash it, each with a deadline.
 *
 * A job's standard output is collected up to a limit; when the process has ended and its output is at its end,
 * or the deadline has passed (then it is killed first), done is called once.
 */
#ifndef AGENT_JOB_H
#define AGENT_JOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "supervisor/agent/spawn.h"

struct event_base;
struct job;

struct job_end {
	int wait_status;    /* as waitpid gives it; -1 when it could not be started */
	bool late;          /* ended by the deadline */
	const char *output; /* borrowed for the call; NUL behind it */
	size_t output_bytes;
};
typedef void job_done(void *context, const struct job_end *end);

struct job_request {
	const char *const *command; /* NULL-terminated */
	const struct spawn_signals *signals;
	uint64_t deadline_ns; /* from now; at least a millisecond */
	size_t output_max_bytes;
	job_done *done;
	void *context;
};

/* Starts the job; done is called from the event loop, never from here.  False: memory is short. */
bool job_start(struct event_base *base, const struct job_request *request, struct job **list);

/* A child ended: when it is one of the list's jobs, take note.  True when it was. */
bool job_reaped(struct job *list, int pid, int wait_status);

/* Pids of the running jobs, at most max; returns how many. */
size_t job_pids(const struct job *list, int pids[], size_t max);

/* Kill and forget all, without calling done. */
void job_cancel_all(struct job **list);

#endif
