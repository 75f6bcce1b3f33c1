/*
 * What the agent says of its ranks: each function makes one input record and gives it to the link.
 *
 * No state and no decision: the crew knows what was said already, the link numbers and keeps what is said.
 */
#ifndef AGENT_TELL_H
#define AGENT_TELL_H

#include <sys/resource.h>

#include "journal/record.h"
#include "supervisor/agent/deathwatch.h"
#include "supervisor/agent/link.h"
#include "supervisor/agent/ring.h"
#include "supervisor/agent/spawn.h"

/* Which rank of which attempt; everything is borrowed for the call. */
struct tell {
	struct link *link;
	uint32_t attempt, rank;
};

/* Its output is read for iterations, in that format (enum progress_format). */
void tell_progress(struct tell t, uint32_t format);

/* Its process exists, or could not be made: error is an errno. */
void tell_started(struct tell t, const struct spawn_result *process, bool warm);
void tell_spawn_failed(struct tell t, enum spawn_stage stage, int error);

/* pid: as the trainer says. */
void tell_connected(struct tell t, uint32_t pid);

/* The crash handler of a rank waits to be looked at; monotonic_ns: when that was noticed. */
void tell_crashing(struct tell t, const struct channel_control *control, uint64_t monotonic_ns);
/* Its channel holds what no trainer writes; ring->damaged is set. */
void tell_damage(struct tell t, const struct ring *ring);

/* number: the signal that stopped it; 0: it goes on. */
void tell_stopped(struct tell t, int number);
/* Noticed to die, as early as can be; and reaped. */
void tell_death(struct tell t, const struct death_news *news, enum oom_kill oom);
void tell_exit(struct tell t, int wait_status, const struct rusage *usage, enum oom_kill oom);

/* The attempt is gone, or one process of it cannot be ended (stuck_pid, which is described in the record; t.rank
 * means nothing). */
void tell_clear(struct tell t, uint32_t swept, uint32_t stuck_pid);

#endif
