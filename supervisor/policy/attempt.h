/*
 * The run's state machine: attempt after attempt until one is done, or the run is given up.
 *
 *	WAITING → CLEARING → (BACKOFF) → CHOOSING → STARTING → RUNNING → CLEARING → …
 *	with CAPTURING between a fault whose evidence must be taken alive and CLEARING, STOPPING between a
 *	person's wish and CLEARING, and ENDED after the last CLEARING.
 *
 * One table says which inputs mean something in which state; what it leaves out changes nothing.  CLEARING lies
 * before every start, so that an attempt never meets the one before it (H6).  Every state that waits for
 * somebody has a deadline, and every deadline that passes leads to a decision.
 */
#ifndef POLICY_ATTEMPT_H
#define POLICY_ATTEMPT_H

#include "supervisor/policy/state.h"

/* The one writer of the state.  wait_ns: its deadline, or NEVER. */
void attempt_enter(struct policy *p, enum run_state state, uint64_t wait_ns);

/* Start the next attempt.  rung: for START_FILE, else NULL. */
void attempt_start(struct moment *m, enum start_source source, uint64_t step, const struct rung *rung);

/* The only states left lie in checkpoints that cannot be read now, and to begin again would write over them: wait,
 * as long as the budget lasts, then give the run up with "try again". */
void attempt_wait_for_files(struct moment *m);

/* End the current attempt, whatever is left of it. */
void attempt_clear(struct moment *m);

/* Ask the trainers to end: those with a channel by it, the others by SIGTERM. */
void attempt_ask_stop(struct moment *m);

/* Take one input; one that means nothing in this state changes nothing. */
void attempt_on_input(struct moment *m, const struct record *r);

/* After the turn's inputs: what follows from them together, and from the time. */
void attempt_finish_turn(struct moment *m);

/* When the current state wants a turn; NEVER for not at all. */
uint64_t attempt_deadline_ns(const struct policy *p);

#endif
