/*
 * The simulated supervisor process: inputs in, turns, commits, decisions and acknowledgements out; and its
 * death at any point of that.  The policy and the row assembly are the real ones.
 */
#ifndef SIM_OVERSEER_H
#define SIM_OVERSEER_H

#include "tests/sim/world.h"

enum overseer_crash {
	CRASH_NONE = 0,
	CRASH_NOW,
	CRASH_AFTER_DECIDE, /* nothing of the turn is committed */
	CRASH_AFTER_COMMIT, /* nothing of it is performed */
	CRASH_WHILE_PERFORMING,
	CRASH_BEFORE_ACK,
};

/* Of a world, whose end is the caller's; memory being short ends the program. */
struct overseer *overseer_new(struct world *w);
void overseer_free(struct overseer *o);

/* A new process: folds the journal and waits for the agent.  link numbers its connection. */
void overseer_begin(struct world *w, uint64_t link);
void overseer_die(struct world *w);                                 /* now */
void overseer_crash_at(struct world *w, enum overseer_crash point); /* in the next turn */
bool overseer_alive(const struct world *w);
const struct policy *overseer_policy(const struct world *w); /* NULL while it is dead */

/* From the agent, over connection link; r is taken. */
void overseer_record(struct world *w, uint64_t link, struct record *r);
void overseer_report(struct world *w, uint64_t link, uint32_t attempt, uint32_t rank,
    const struct iteration *it, const char *path);
void overseer_control(struct world *w, enum control_verb verb);

#endif
