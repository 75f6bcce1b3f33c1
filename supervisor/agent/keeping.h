/*
 * The agent's side of the ladder on files: it keeps a helper-keeper running, says to the supervisor what that one
 * finds (RECORD_WRITING, RECORD_KEPT), and has helper-restore put a checkpoint back before the ranks are started.
 *
 * It supplies what only the agent knows: which attempt wrote a checkpoint, and, where its name has no step, which
 * step had been reported when its writing began.  Without --checkpoint it does nothing but start the crew.
 *
 * Invariants: H6 (nothing is restored beside living ranks), H8 (what is loaded was verified and put back for this
 * very start), H10 (the helpers are waited for with deadlines, and believed nothing that is not checked).
 */
#ifndef AGENT_KEEPING_H
#define AGENT_KEEPING_H

#include <stdbool.h>
#include <stddef.h>

#include "journal/record.h"
#include "supervisor/agent/agent.h"
#include "supervisor/agent/crew.h"
#include "supervisor/agent/link.h"
#include "supervisor/agent/spawn.h"
#include "supervisor/policy/policy.h"

struct event_base;
struct keeping;

/* Everything is borrowed and outlives it. */
struct keeping_setup {
	struct event_base *base;
	const struct run_options *options;
	const struct spawn_signals *signals;
	struct link *link;
	struct crew *crew;
	void (*on_idle)(void *context); /* keeping_idle() may have become true */
	void (*on_started)(void *context, uint32_t attempt); /* the crew was given its start */
	void *context;
};

/* The keeper is started from the event loop.  NULL: memory is short. */
struct keeping *keeping_new(const struct keeping_setup *setup);
void keeping_free(struct keeping *k); /* ends the helpers; NULL is allowed */

/*
 * Start an attempt: once the keeper watches, and the files are as the start needs them.  path: of an announced
 * checkpoint; kept: the record of a kept one; both borrowed for the call, NULL when the start is from none.
 */
void keeping_start(struct keeping *k, const struct decision_start *start, const char *path,
    const struct record_kept *kept);

/* An attempt is being cleared: what was not started yet is not started any more. */
void keeping_cancel(struct keeping *k);

/* The copies of these ordinals must not be given up to make room; 0: none in particular.  Borrowed. */
void keeping_protect(struct keeping *k, const uint64_t ordinals[POLICY_PROTECTED]);

/* False while a checkpoint that the trainers have begun may still be on its way into the ladder. */
bool keeping_idle(const struct keeping *k);

/* A child ended: true when it was one of ours. */
bool keeping_child(struct keeping *k, int pid, int wait_status);
size_t keeping_pids(const struct keeping *k, int pids[], size_t max);

#endif
