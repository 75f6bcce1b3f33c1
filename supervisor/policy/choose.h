/*
 * From which state the next attempt starts: the newest one that can be trusted and was verified just now.
 *
 * First the snapshots in memory are surveyed, and every rank must hold the step; a rung of the ladder that is
 * newer than what memory holds is tried before it; from scratch only when no checkpoint that may be whole is left.  H8: no MEMORY without the
 * answers to this restart's own survey, no FILE without this restart's own verification.
 */
#ifndef POLICY_CHOOSE_H
#define POLICY_CHOOSE_H

#include "supervisor/policy/state.h"

void choose_begin(struct moment *m);
void choose_on_memory(struct moment *m, const struct record *r);
void choose_on_verified(struct moment *m, const struct record *r);
void choose_on_time(struct moment *m); /* an answer did not come */
void choose_reissue(struct moment *m);

#endif
