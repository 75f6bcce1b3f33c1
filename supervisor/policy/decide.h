/*
 * Builders of decisions: each appends one whole record to the turn's decisions.  They read the state and
 * never change it.  That they fit is by construction: what one turn can emit is bounded where it is emitted.
 */
#ifndef POLICY_DECIDE_H
#define POLICY_DECIDE_H

#include "supervisor/policy/state.h"

/* False once a turn has decided so much that what may wait or be left out, a flood of checkpoints, is (H10). */
bool decide_has_room(const struct moment *m);

void decide_start(struct moment *m); /* as p->start says */
void decide_kill(struct moment *m, uint32_t rank, int32_t signal);
void decide_clear(struct moment *m);
void decide_sample(struct moment *m);
void decide_capture(struct moment *m, uint32_t rank, enum evidence_kind kind);
void decide_survey(struct moment *m);
void decide_verify(struct moment *m, const struct rung *rung);
void decide_standing(struct moment *m, struct rung *rung, enum standing standing); /* sets it too */
void decide_ask(struct moment *m, enum ask what);
void decide_end(struct moment *m);
void decide_digest(struct moment *m, const struct pending *pending);

/* The two whose fields their caller knows best; the head is filled here. */
struct decision_fault *decide_fault(struct moment *m);
struct decision_recovered *decide_recovered(struct moment *m);

#endif
