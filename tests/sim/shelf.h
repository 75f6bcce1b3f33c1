/*
 * The simulated keeper: it puts copies of checkpoints aside, says so late, again after the agent's death, and gives
 * the oldest up; and of a rank that died while it saved it keeps what is torn, as of a format without a check.
 */
#ifndef SIM_SHELF_H
#define SIM_SHELF_H

#include "tests/sim/world.h"

/* Of a world, whose end is the caller's; memory being short ends the program. */
struct shelf *shelf_new(void);
void shelf_free(struct shelf *s);

/* What a rank has saved, or was saving when it died. */
struct shelf_copy {
	uint64_t ordinal; /* from 1 */
	uint64_t step, state;
	uint32_t attempt;
	bool nan, torn, rotten, gone;
};
void shelf_saved(struct world *w, const struct shelf_copy *copy);

/* Another agent, with a keeper of its own. */
void shelf_begin(struct world *w);

/* The newest copy that was said: its bytes change. */
void shelf_rot(struct world *w);

/* The copy that the RECORD_KEPT of this seq tells of; NULL when there is none. */
const struct shelf_copy *shelf_find(const struct world *w, uint64_t seq);

/* What verifying it gives: enum verify_result. */
uint32_t shelf_verify(const struct world *w, uint64_t seq);

#endif
