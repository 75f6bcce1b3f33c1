/*
 * What goes wrong in a world, and what has to come of it.
 *
 * Most worlds have up to eight mishaps, never more at a time than the budget allows: such a run must end as an
 * undisturbed one does.  Some are doomed: they must end soon, with the right reason and code.
 */
#ifndef SIM_MISHAP_H
#define SIM_MISHAP_H

#include "tests/sim/world.h"

/* Of a world, whose end is the caller's; memory being short ends the program. */
struct mishap *mishap_new(struct world *w);
void mishap_free(struct mishap *h);

/* A fault was declared: is it one that happened, and is the right rank blamed? */
void mishap_on_fault(struct world *w, const struct decision_fault *fault);

/* Whether the command is run again after this end. */
bool mishap_goes_on(struct world *w, const struct decision_end *end);

/* The world is over: is its end the one it had to have? */
void mishap_judge(struct world *w);

#endif
