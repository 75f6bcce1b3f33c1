/*
 * The journal in memory, and the watch over it.
 *
 * Every committed turn is folded at once into a second policy, which has seen nothing but the journal: the same
 * decisions and the same digest must come out (H4, H5).  The records are read as they are committed, by rules
 * of this file's own: ring order (H3), one attempt at a time (H6), what a start may load (H8), evidence before
 * the end (H9).
 */
#ifndef SIM_LEDGER_H
#define SIM_LEDGER_H

#include "tests/sim/world.h"

/* Of a world, whose end is the caller's; memory being short ends the program. */
struct ledger *ledger_new(struct world *w);
void ledger_free(struct ledger *l);

/* Commit a turn.  inputs' seq was assigned already; decisions get theirs.  live: the policy that decided. */
void ledger_commit(struct world *w, struct record *const inputs[], size_t count, uint64_t now_ns,
    struct decisions *decided, const struct policy *live);

uint64_t ledger_last_seq(const struct ledger *l);
const struct record *ledger_get(const struct ledger *l, uint64_t seq); /* NULL: not committed */

/* A policy made by folding all of it, given to the caller; every turn is compared on the way. */
struct policy *ledger_fold(struct world *w);

/* Highest source_seq such that all messages of this agent up to it are committed. */
uint64_t ledger_source_seq(const struct ledger *l, const uint8_t agent_id[16]);
/* Highest ring_seq such that all reports up to it are committed, or a gap stands there. */
uint64_t ledger_ring_seq(const struct ledger *l, uint32_t attempt, uint32_t rank);

bool ledger_fresh(const struct ledger *l);
uint32_t ledger_session(const struct ledger *l);
uint32_t ledger_incidents(const struct ledger *l);
uint32_t ledger_attempts(const struct ledger *l);
uint32_t ledger_end_reason(const struct ledger *l); /* 0 while it goes on */
int32_t ledger_exit_code(const struct ledger *l);
uint32_t ledger_unrecovered(const struct ledger *l);
uint64_t ledger_missing_step(const struct ledger *l); /* first of 1…step_count without a complete row */
/* Restarting faults since the last new step. */
uint32_t ledger_failures(const struct ledger *l);
uint32_t ledger_newest_attempt(const struct ledger *l); /* the one that made the newest step */
bool ledger_stepped(const struct ledger *l);
/* A random committed input that speaks of an attempt before the current one, or NULL. */
const struct record *ledger_stale(struct world *w, uint32_t attempt);
/* A random committed message of the agent of now, or NULL. */
const struct record *ledger_duplicate(struct world *w);

#endif
