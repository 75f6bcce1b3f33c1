/*
 * What a step row means: how far the run has come, and whether that can be trusted.
 */
#ifndef POLICY_ADVANCE_H
#define POLICY_ADVANCE_H

#include "supervisor/policy/state.h"

/* RECORD_STEP of the current attempt, also while it is being ended. */
void advance_on_row(struct moment *m, const struct record *r);

/* RECORD_SAVED of the current attempt. */
void advance_on_saved(struct moment *m, const struct record *r);

/* RECORD_WRITING of the current attempt: a sign of life, and no progress. */
void advance_on_writing(struct moment *m, const struct record *r);

/* RECORD_KEPT of any attempt: a rung, and progress where nothing reports steps. */
void advance_on_kept(struct moment *m, const struct record *r);

#endif
