/*
 * The turn: decide, commit, perform (DESIGN §4), and the fold that brings a new supervisor to where the last
 * one was.
 *
 * Inputs are posted as they come; turn_run() numbers them, asks the policy, commits inputs and decisions in
 * one synchronous transaction, and only then has the decisions performed (H1).  What is posted meanwhile is
 * the next turn's.
 *
 * When the journal cannot be written, turns go on: their records wait in memory (about TURN_PENDING_BYTES; then
 * turn_has_room() is false and what comes must stay with its sender, the rings), their decisions are performed and
 * marked late, but for the end, which waits.  turn_retry() reopens the journal, verifies it and commits what waits,
 * in order.  A failed sync is never simply retried.  Invariants: H1, H2, H4, H5.
 */
#ifndef SUPERVISOR_TURN_H
#define SUPERVISOR_TURN_H

#include "journal/record.h"
#include "journal/status.h"
#include "supervisor/policy/policy.h"

#define TURN_PENDING_BYTES (8u << 20)
#define TURN_INPUTS_MAX 4096u /* a turn; the rest waits for the next */

struct turn;

/* Called for each committed decision (or late one), in order; r is borrowed. */
typedef void turn_perform(void *context, const struct record *r);

/* Called for each input, while folding and at the end of each turn: to keep what performing needs. */
typedef void turn_seen(void *context, const struct record *r);

struct turn_callbacks {
	turn_perform *perform;
	turn_seen *seen;
	void *context;
};

/* What the fold found. */
struct turn_history {
	bool fresh; /* no records yet */
	uint32_t rank_count;
	uint32_t session;      /* last session's number */
	uint64_t last_time_ns; /* of the last turn */
	uint64_t last_turn;
	uint64_t turns_differing; /* turns whose decisions or state came out otherwise than recorded (H4, H5) */
	uint64_t first_differing; /* … the first of them */
	struct record_session last_session;
	struct record_run *run; /* NULL when fresh; owned by the turn */
};

/*
 * Fold the journal at dir and open it for writing.
 *
 * rank_count	of the run about to be made; used when the journal is empty.
 * history	filled on STATUS_OK.
 * Returns	as store_reader_open and store_open do; STATUS_REFUSED when the journal's rank count is another.
 */
MUST_CHECK enum status turn_open(const char *dir, uint32_t rank_count,
    const struct turn_callbacks *callbacks, struct turn **out, struct turn_history *history,
    struct cause *why);
void turn_close(struct turn *t); /* NULL is allowed */

/* Give an input to the next turn.  r is from malloc and becomes the turn's.  False: memory is short, r was freed
 * and must come again. */
bool turn_post(struct turn *t, struct record *r);

/* False while the journal is in trouble and as much waits for it as may: take nothing more. */
bool turn_has_room(const struct turn *t);

/* True when something is posted or the policy's deadline has come. */
bool turn_due(const struct turn *t, uint64_t now_ns);

/*
 * Decide, commit, perform.
 *
 * Returns	STATUS_OK; STATUS_NONE when the turn changed nothing; otherwise the journal is in trouble: the
 *		turn was performed and marked late, why says how; turn_retry() from now on.
 */
MUST_CHECK enum status turn_run(struct turn *t, uint64_t now_ns, struct cause *why);

/* Reopen the journal, verify it, commit what waits.  STATUS_OK: out of trouble. */
MUST_CHECK enum status turn_retry(struct turn *t, uint64_t now_ns, struct cause *why);

/* The journal cannot be written: turns are late, reports are to stay in the rings. */
bool turn_in_trouble(const struct turn *t);

/* Borrowed; its state is that after the last turn. */
const struct policy *turn_policy(const struct turn *t);

/* The number that the turn to come will have. */
uint64_t turn_number(const struct turn *t);

#endif
