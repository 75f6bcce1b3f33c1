/*
 * A bed for the policy: inputs by name, turns at given times, decisions looked up; and a second policy that is fed
 * what a journal would hold, which has to come to the same state and decisions at every turn (H4, H5).
 */
#ifndef UNIT_POLICY_BED_H
#define UNIT_POLICY_BED_H

#include <stddef.h>

#include "journal/record.h"
#include "supervisor/policy/policy.h"

#define BED_MS 1000000ull
#define BED_S 1000000000ull
#define BED_INPUTS 1024u
#define BED_RANKS 4u

struct bed {
	struct policy *p, *fold;
	struct policy_config config;
	struct decisions out;
	uint64_t now_ns;
	uint64_t seq, source_seq;
	uint64_t ring_seq[BED_RANKS];
	uint64_t cpu_ns[BED_RANKS], output_bytes[BED_RANKS]; /* of what bed_live() lets the ranks do */
	bool unaided;                                        /* ranks do not open their channels */
	uint32_t rank_count;
	struct record *inputs[BED_INPUTS];
	size_t count;
};

/* setup(b) with the given number of ranks and default thresholds; nothing was input yet. */
void bed_init(struct bed *b, uint32_t rank_count);
void bed_fini(struct bed *b);

/* Run a turn, delay_ns after the one before, with what was posted. */
void bed_turn(struct bed *b, uint64_t delay_ns);
/* Let time pass until the policy wants a turn, and run it; at most within_ns.  False: it wants none. */
bool bed_wait(struct bed *b, uint64_t within_ns);

/* The index-th decision of the kind in the last turn, or NULL. */
const void *bed_decision(const struct bed *b, uint16_t kind, uint32_t index);
uint32_t bed_decisions(const struct bed *b, uint16_t kind);
const struct decision_fault *bed_fault(const struct bed *b); /* the only one; fails when there is none */

/* A zeroed record for the next turn; its time is now, it is numbered as the agent's unless own. */
void *bed_post(struct bed *b, uint16_t kind, size_t size);

void bed_hello(struct bed *b, uint8_t agent,
    uint32_t held); /* the run's and a session's records before it, at first */
void bed_session(struct bed *b);
void bed_started(struct bed *b, uint32_t rank);
void bed_connected(struct bed *b, uint32_t rank);
void bed_phase(struct bed *b, uint32_t rank, enum phase from, enum phase to, uint64_t duration_ns);
void bed_row(struct bed *b, uint64_t step, uint64_t duration_ns);
void bed_row_nan(struct bed *b, uint64_t step, uint32_t rank);
void bed_row_partial(struct bed *b, uint64_t step, uint32_t missing);
void bed_death(struct bed *b, uint32_t rank, bool known, int32_t wait_status, uint64_t time_ns);
void bed_death_oom(struct bed *b, uint32_t rank);
void bed_exit(struct bed *b, uint32_t rank, int32_t wait_status, bool oom);
void bed_clear(struct bed *b, uint32_t stuck);
void bed_memory(struct bed *b, uint32_t rank, uint64_t newest, uint64_t older, uint64_t bad);
void bed_verified(struct bed *b, uint64_t step, enum verify_result result);
/* A checkpoint of one shard, announced and digested in two turns. */
void bed_checkpoint(struct bed *b, uint64_t step, uint32_t finite);
/* A copy of a checkpoint of the current attempt is kept; its digest is of its ordinal.  For the next turn. */
struct record_kept *bed_kept(struct bed *b, uint64_t ordinal, uint64_t step, uint32_t flags);
void bed_sample(struct bed *b, uint32_t rank, uint64_t cpu_ns, bool waiting, uint64_t last_step);
void bed_stopped(struct bed *b, uint32_t rank, int32_t signal);
void bed_control(struct bed *b, enum control_verb verb);

/* What a rank does while it lives. */
struct bed_pace {
	uint64_t cpu_share; /* thousandths of a core */
	uint64_t output;    /* bytes a second */
};

/*
 * Let time pass; samples that are asked for show what the ranks do, at[rank] each.
 * Returns the fault that is declared meanwhile, valid until the next turn, or NULL.
 */
const struct decision_fault *bed_live(struct bed *b, uint64_t duration_ns, const struct bed_pace at[]);

/* Bring a new bed to RUN_RUNNING, attempt 1, every rank connected. */
void bed_up(struct bed *b);
/* … and on by rows 1…count of 100 ms each. */
void bed_rows(struct bed *b, uint64_t from, uint64_t to);
/* From RUN_CLEARING after a fault to RUN_RUNNING again: cleared, backoff over, memory of newest everywhere (or
 * STEP_NONE for nothing), all ranks connected. */
void bed_restart(struct bed *b, uint64_t newest);

#endif
