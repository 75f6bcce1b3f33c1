/*
 * The ranks of one attempt on this node: their processes, channels, output, and their end.
 *
 * The crew does what it is told and says what it sees, as records through the link.  It starts attempt N+1
 * only when nothing of N is left (H6), and keeps the channels of N until the journal holds their reports.
 */
#ifndef AGENT_CREW_H
#define AGENT_CREW_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/resource.h>

#include "journal/record.h"
#include "supervisor/agent/agent.h"
#include "supervisor/agent/link.h"
#include "supervisor/agent/spawn.h"

struct crew;
struct event_base;

/* Pids of the agent's own helpers: they are spared when an attempt is cleared. */
typedef size_t crew_spare(void *context, int pids[], size_t max);

struct crew_setup {
	struct event_base *base;
	const struct run_options *options;
	const struct spawn_signals *signals;
	struct link *link;
	const struct sweep_others *others; /* borrowed, as long as the crew */
	crew_spare *spare;
	void *context;
};

/* Also takes up the channels an earlier agent left in shared memory.  STATUS_SYS: why says what failed. */
MUST_CHECK enum status crew_new(const struct crew_setup *setup, struct crew **out, struct cause *why);

/* Kill what is alive; with remove, leave no shared memory of the run.  NULL is allowed. */
void crew_free(struct crew *c, bool remove);

/* Attempt held now (alive or not yet cleared); 0 for none.  Fills what RECORD_AGENT says of the ranks. */
uint32_t crew_attempt(const struct crew *c);
void crew_describe(const struct crew *c, struct agent_rank out[]);

/* What a start is given beside its decision; the path is borrowed for the call, the command until the next start. */
struct crew_resume {
	const char *path;           /* the checkpoint for START_FILE, else NULL */
	const char *const *command; /* NULL-terminated */
	uint64_t step;              /* that its state is of; STEP_NONE: not known */
};

/* Commands. */
void crew_start(struct crew *c, const struct decision_start *start, const struct crew_resume *resume);
void crew_kill(struct crew *c, const struct decision_kill *kill);
void crew_clear(struct crew *c, const struct decision_clear *clear);
void crew_sample(struct crew *c, const struct decision_sample *sample);
void crew_ask(struct crew *c, const struct decision_ask *ask);

/* The supervisor has made reports durable, or wants them again. */
void crew_ack(struct crew *c, const struct wire_ack *ack);
void crew_rewind(struct crew *c);

/* Send what there is and the link takes: reports and messages, in an order that keeps H3. */
void crew_pump(struct crew *c);

/* The last step that a rank of the held attempt reported, or the one it resumed from; STEP_NONE: none. */
uint64_t crew_last_step(const struct crew *c);

/* A child changed state: true when it is a rank or the logger. */
bool crew_child(struct crew *c, int pid, int wait_status, const struct rusage *usage);

/* Pids of the crew's helpers (loggers). */
size_t crew_helper_pids(const struct crew *c, int pids[], size_t max);

/* True while a rank's last words are on their way into its files. */
bool crew_output_pending(const struct crew *c, uint32_t attempt, uint32_t rank);

/* A rank's evidence was taken: a crash handler need not wait any longer. */
void crew_release_crashed(struct crew *c, uint32_t attempt, uint32_t rank);

/* What evidence of a rank needs.  False: no such rank in this attempt. */
struct crew_rank_view {
	int pid; /* 0: not alive */
	uint32_t crash_tid;
	char out_path[4096], err_path[4096], recorded_path[4096];
};
bool crew_view(const struct crew *c, uint32_t attempt, uint32_t rank, struct crew_rank_view *view);

/* Path of a rank's snapshots; static storage of the crew, valid until the next call. */
const char *crew_snapshot_path(struct crew *c, uint32_t rank);

#endif
