/*
 * A training from its start, or from where it was interrupted, to its end, with its supervisor told.
 *
 * Per iteration: update, snapshot in memory, report, then what is due (checkpoint file, evaluation, a line of
 * output).  So a step that was reported can be continued from.
 *
 * A state that is not finite is reported and trained on for TRAINLOOP_NOT_FINITE_MAX iterations, which gives
 * the supervisor the time to act; it is saved nowhere, for it would push out the states worth going back to.
 */
#ifndef TRAINER_REFERENCE_TRAINLOOP_H
#define TRAINER_REFERENCE_TRAINLOOP_H

#include "trainer/holdfast.h"
#include "trainer/reference/recipe.h"

#define TRAINLOOP_NOT_FINITE_MAX 10u

/*
 * Run the recipe.
 * hf		NULL when not supervised.
 * Returns	the program's exit status; on any but 0, one line says why on standard error.
 */
int trainloop_run(const struct recipe *recipe, struct holdfast *hf);

#endif
