/*
 * The simulated trainers: ranks that compute, meet at a barrier, report, snapshot and checkpoint; and the memory
 * and files that outlive them.
 *
 * A rank's state is a chain of hashes over its steps, so that a wrong restore, a step left out and a step done
 * twice all show at the end.
 */
#ifndef SIM_COHORT_H
#define SIM_COHORT_H

#include "tests/sim/world.h"

/* Of a world, whose end is the caller's; memory being short ends the program. */
struct cohort *cohort_new(struct world *w);
void cohort_free(struct cohort *c);

/* For the agent. */
void cohort_start(struct world *w, const struct decision_start *start);
void cohort_signal(struct world *w, uint32_t attempt, uint32_t rank, int32_t signal);
void cohort_ask(struct world *w, uint32_t attempt, uint32_t what);
void cohort_reap_all(struct world *w); /* SIGKILL for all, every notice of an end given */
void cohort_vanish(struct world *w);   /* their agent died, and they with it, unseen */
void cohort_sample(struct world *w, uint32_t attempt);
void cohort_survey(struct world *w, uint32_t attempt, uint64_t before_step);
void cohort_on_captured(struct world *w, uint32_t attempt, uint32_t rank);
uint32_t cohort_alive_count(const struct world *w);
void cohort_describe(const struct world *w, uint32_t attempt, struct agent_rank *out);
bool cohort_file_digest(const struct world *w, uint64_t step, uint32_t rank, uint8_t digest[16]);
uint32_t cohort_file_finite(const struct world *w, uint64_t step, uint32_t rank);

/* The rings.  take: the next report that was not sent, false when there is none. */
bool cohort_take_report(
    struct world *w, uint32_t rank, uint32_t *attempt, struct iteration *it, char path[32]);
void cohort_rewind(struct world *w);
void cohort_ack(struct world *w, uint32_t attempt, uint32_t rank, uint64_t ring_seq);

/* What goes wrong.  All return false when the rank is not there to be harmed. */
enum harm {
	HARM_KILL = 0,
	HARM_EXIT,
	HARM_CRASH, /* SIGSEGV, with the library's handler */
	HARM_STOP,
	HARM_SPIN,
	HARM_HANG,
	HARM_NAN,
	HARM_OOM,
	HARM_DROP,   /* the next phase report finds the ring full */
	HARM_DAMAGE, /* the channel is overwritten */
};
bool cohort_harm(struct world *w, uint32_t rank, enum harm harm);
bool cohort_tear(struct world *w, uint32_t rank); /* the newest snapshot of that rank */
void cohort_rot(struct world *w);                 /* the newest checkpoint, and all of memory */
void cohort_fail_spawn(struct world *w, int32_t error, bool always);
/* The rank ends with this code whenever it comes to that step; 0: before its first. */
void cohort_doom(struct world *w, uint64_t step, uint32_t rank, int32_t code);
/* The state that the next attempt loads ends its rank 0 at once, as often as it is loaded. */
void cohort_poison(struct world *w);
uint32_t cohort_attempt(const struct world *w);

/* Whether every rank has ended in the state of an undisturbed run. */
bool cohort_is_right(const struct world *w);

#endif
