/*
 * The policy: from what happened to what is to be done.  A pure function of its own state, the inputs and
 * the time it is told.  No I/O, no clock, no randomness, no allocation after policy_new() (H5).
 *
 * The same code runs live (in a turn), on restart (fold), in an audit (replay) and in the simulator.
 * Inputs are journal records, decisions are journal records; see journal/record.h.
 *
 * Rules its callers keep:
 *   - inputs have their final seq when policy_turn() sees them; step rows and ring records of one rank come
 *     in the order of their ring_seq, with RECORD_GAPs where some are missing;
 *   - before the RECORD_CLEAR of an attempt, all its ring records were given, incomplete rows as
 *     STEP_PARTIAL;
 *   - a turn without inputs and without decisions changes nothing (policy_digest() stays) and is not
 *     journaled.
 *
 * Invariants: H1's other half (nothing is done here), H4, H5, H6, H7, H8.
 */
#ifndef POLICY_POLICY_H
#define POLICY_POLICY_H

#include <stdalign.h>
#include <stddef.h>

#include "journal/record.h"

#define POLICY_RUNGS 64u     /* rungs of the ladder that are remembered, oldest forgotten first */
#define POLICY_INCIDENTS 64u /* fingerprints that are remembered */
#define POLICY_DURATIONS 64u /* step durations in the window */
#define POLICY_DECISIONS_BYTES (64u << 10) /* one turn's decisions never take more */

struct policy;

/* One turn's decisions: whole records, one behind the other. */
struct decisions {
	uint32_t count;
	uint32_t size_bytes;
	alignas(8) uint8_t bytes[POLICY_DECISIONS_BYTES];
};

/* States of the run, in the order in which a run without trouble passes them. */
enum run_state {
	RUN_WAITING = 0, /* no agent has said hello in this session */
	RUN_CHOOSING,    /* from which state the next attempt starts is being verified */
	RUN_BACKOFF,     /* a restart waits for its time */
	RUN_STARTING,    /* DECISION_START was taken, not every rank's process exists yet */
	RUN_RUNNING,
	RUN_STOPPING,  /* trainers were asked to end */
	RUN_CAPTURING, /* evidence is being taken before the attempt is ended */
	RUN_CLEARING,  /* the attempt is being ended, and proven gone */
	RUN_ENDED,
	RUN_STATE_COUNT
};

enum rank_state {
	RANK_IDLE = 0,  /* no process in this attempt */
	RANK_STARTED,   /* its process exists */
	RANK_CONNECTED, /* it opened its channel */
	RANK_STOPPED,   /* stopped by a signal */
	RANK_DYING,     /* its death was noticed, it is not reaped yet */
	RANK_EXITED,    /* reaped */
	RANK_FAILED,    /* could not be started */
	RANK_STATE_COUNT
};

/* Fill *config with the defaults that holdfast(1) documents. */
void policy_config_default(struct policy_config *config);

/* NULL when memory is short.  rank_count: 1..RANKS_MAX, as in the RECORD_RUN that is to come. */
struct policy *policy_new(uint32_t rank_count);
void policy_free(struct policy *p); /* NULL is allowed */

/*
 * One turn.
 *
 * inputs	borrowed for the call, count of them, in the order in which they are journaled.
 * now_ns	run time, never less than in the turn before.
 * out		filled with the decisions; their heads have kind, version, size and time_ns.
 */
void policy_turn(struct policy *p, const struct record *const inputs[], size_t count,
    uint64_t now_ns, struct decisions *out);

/* Run time at which a turn is wanted even if nothing happens; UINT64_MAX for none. */
uint64_t policy_deadline_ns(const struct policy *p);

/* XXH3-64 of the whole state. */
uint64_t policy_digest(const struct policy *p);

enum run_state policy_run_state(const struct policy *p);
enum rank_state policy_rank_state(const struct policy *p, uint32_t rank);
uint32_t policy_attempt(const struct policy *p); /* current or last; 0 before the first */
uint32_t policy_rank_count(const struct policy *p);
uint64_t policy_last_step(const struct policy *p); /* newest complete row, or STEP_NONE */

/* Last ring_seq of rank that was seen in `attempt`; 0 when none, or when attempt is not the current one. */
uint64_t policy_ring_seq(const struct policy *p, uint32_t attempt, uint32_t rank);

/* Last source_seq seen of the agent with this id; 0 when it is not the last agent that said hello. */
uint64_t policy_source_seq(const struct policy *p, const uint8_t agent_id[16]);

/*
 * Which kept checkpoints must not be given up to make room: ordinals, 0 for none.  The first is the newest good one, or
 * the older one that is being verified.  The second is the oldest behind it that is still to be proven: were it given up
 * for newer ones, none would ever become good where checkpoints are frequent.
 */
#define POLICY_PROTECTED 2u
void policy_protected(const struct policy *p, uint64_t ordinals[POLICY_PROTECTED]);

/* The exit code of the run once it has ended, else -1. */
int policy_exit_code(const struct policy *p);

/* Words for people; "?" for a number that is none. */
const char *policy_run_state_name(enum run_state state);
const char *policy_rank_state_name(enum rank_state state);

#endif
