/*
 * The simulated world: virtual time, a queue of what is to happen, and everything that lives in it.
 *
 *	overseer  the supervisor: real policy, real row assembly, simulated commits and crashes
 *	ledger    the journal, in memory, and the watch over H1…H9 as it grows
 *	node      the agent: performs decisions, numbers its messages, keeps them until acknowledged
 *	cohort    the trainers, their rings, snapshots and checkpoint files
 *	shelf     copies of checkpoints that a keeper puts aside
 *	mishap    what goes wrong, and when
 *
 * All of it is a function of the seed.  A broken invariant ends the world with a sentence that says which.
 */
#ifndef SIM_WORLD_H
#define SIM_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "journal/record.h"
#include "supervisor/policy/policy.h"
#include "trainer/channel.h"

#define MS 1000000ull
#define S 1000000000ull
#define SIM_RANKS 8u
#define WORLD_TIME_MAX (48ull * 3600 * S)

struct world;
struct ledger;
struct overseer;
struct node;
struct cohort;
struct mishap;
struct shelf;

typedef void world_event(struct world *w, uint64_t a, uint64_t b, void *data);

/* Guards of the simulated parts that the controls take away; the policy's own are enum policy_rule. */
enum sim_break {
	BREAK_NONE = 0,
	BREAK_EARLY_PERFORM, /* decisions leave before they are committed (H1) */
	BREAK_EARLY_ACK,     /* messages are acknowledged before they are committed (H2) */
	BREAK_LOST_REPORT,   /* a ring report is dropped without a gap (H3) */
	BREAK_UNJOURNALED,   /* turns without decisions are not journaled (H4) */
	BREAK_ALTERED,       /* a decision is journaled otherwise than it was taken (H5) */
	BREAK_LOST_MESSAGE,  /* messages that were not acknowledged are not sent again */
	BREAK_STALE_SLOTS,   /* snapshots newer than the restored one stay in memory */
	BREAK_COUNT
};

struct world {
	uint64_t seed, random;
	uint64_t now_ns;
	struct event *heap;
	size_t heap_count, heap_capacity;
	uint64_t order;
	uint64_t turns;
	uint32_t rank_count;
	uint64_t step_count; /* steps 1 … step_count make the run */
	struct policy_config config;
	enum sim_break broken;
	bool verbose, failed, over;
	char why[256];
	struct ledger *ledger;
	struct overseer *overseer;
	struct node *node;
	struct cohort *cohort;
	struct mishap *mishap;
	struct shelf *shelf;
};

/* What came of a seed. */
struct world_result {
	bool failed;
	char why[256];
	uint64_t virtual_ns, turns;
	uint32_t incidents, attempts;
	uint32_t end_reason;
};

/* Run one seed to its end. */
struct world_result world_run(uint64_t seed, enum sim_break broken, bool verbose);

/* Have run(w, a, b, data) called delay_ns from now.  data is from malloc or NULL, and run's to free. */
void world_after(
    struct world *w, uint64_t delay_ns, world_event *run, uint64_t a, uint64_t b, void *data);

/* A promise is broken: the first sentence stands. */
void world_fail(struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Tell, when verbose. */
void world_say(struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));

uint64_t world_random(struct world *w);
uint64_t world_between(struct world *w, uint64_t low, uint64_t high); /* both included */
bool world_chance(struct world *w, uint32_t percent);

/* A zeroed record from malloc, with its head filled; time is now. */
void *world_record(const struct world *w, uint16_t kind, size_t size_bytes);
void *world_copy(const void *bytes, size_t size);

/* memory itself; ends the program when it is NULL. */
void *world_sure(void *memory);

#endif
