/*
 * The journal on disk: LMDB, and LMDB nowhere else.
 *
 * A directory with LMDB's data.mdb and lock.mdb, 0700/0600.  Three tables:
 *	meta     text keys: "schema" u32, "run_id" 16 bytes
 *	record   key: seq (u64, native order, MDB_INTEGERKEY); value: the record, checksum filled in
 *	step     key: role u32, step u64, attempt u32, all big-endian; value: seq of its struct record_step
 *
 * One writer process at a time, one synchronous transaction a turn: no MDB_NOSYNC, no MDB_WRITEMAP, ever
 * (H2).  Readers open the same directory read-only, see a consistent snapshot, cost the writer nothing and
 * need no supervisor.  Invariants: H2, H3's order.  Nothing here interprets a record beyond its head.
 */
#ifndef JOURNAL_STORE_H
#define JOURNAL_STORE_H

#include <stddef.h>

#include "journal/record.h"
#include "journal/status.h"

struct store;        /* the one writer */
struct store_reader; /* any reader, in any process */

/*
 * Open for writing; make the journal when dir does not hold one.
 *
 * dir		path of the journal's directory, made 0700 if missing (its parent must exist).
 * out		filled on STATUS_OK; close with store_close().
 * Returns	STATUS_AGAIN (another process writes it: cause.number is its pid when known), STATUS_REFUSED
 *		(newer schema, cause.number is it), STATUS_FULL, STATUS_SYS, STATUS_BAD (not a journal, damaged).
 */
MUST_CHECK enum status store_open(const char *dir, struct store **out, struct cause *why);
void store_close(struct store *st); /* NULL is allowed; an open turn is dropped */

/* Last committed record's seq and last turn's number; 0 for an empty journal. */
uint64_t store_last_seq(const struct store *st);
uint64_t store_last_turn(const struct store *st);

/* Begin a turn.  Nothing of it is visible or durable before store_commit(). */
MUST_CHECK enum status store_begin(struct store *st, struct cause *why);

/*
 * Append one record to the open turn.
 *
 * r		borrowed; its head.seq, head.turn and head.checksum are filled in (the caller's memory is
 *		changed), its bytes are copied.  A RECORD_STEP also enters the step index.
 * Returns	STATUS_FULL (abort the turn, keep the records, try the turn again later), STATUS_SYS, STATUS_BUG.
 */
MUST_CHECK enum status store_append(struct store *st, struct record *r, struct cause *why);

/*
 * Make the open turn durable: when this returns STATUS_OK, its records survive kill -9 and power loss.
 * On any failure the turn is aborted, and the environment must be reopened (store_close, store_open)
 * before the next: a failed sync is never simply retried.
 */
MUST_CHECK enum status store_commit(struct store *st, struct cause *why);
void store_abort(struct store *st);

/*
 * Open for reading, now or years later; never writes to the journal, works on a read-only copy too.
 * Returns STATUS_NONE (no journal there), STATUS_REFUSED (newer schema), STATUS_BAD, STATUS_SYS.
 */
MUST_CHECK enum status store_reader_open(const char *dir, struct store_reader **out, struct cause *why);
void store_reader_close(struct store_reader *rd);

/* Take the newest snapshot; every pointer handed out before becomes invalid. */
MUST_CHECK enum status store_reader_refresh(struct store_reader *rd, struct cause *why);
uint64_t store_reader_last_seq(const struct store_reader *rd);

/*
 * Give the snapshot up before something that may take long, such as writing to a terminal: while one is held
 * the writer cannot use the room it frees, and the journal grows.  Go on with store_reader_refresh().
 */
void store_reader_park(struct store_reader *rd);

/*
 * One record by seq.  *out points into the snapshot, valid until refresh or close.  Its size and its
 * checksum were checked; its kind was not.  STATUS_NONE: beyond the end.  STATUS_BAD: damaged.
 */
MUST_CHECK enum status store_reader_get(
    struct store_reader *rd, uint64_t seq, const struct record **out, struct cause *why);

/*
 * The step row of the newest attempt that committed `step`; with attempt != 0 that attempt's.
 * STATUS_NONE when there is none.
 */
MUST_CHECK enum status store_reader_step(struct store_reader *rd, uint32_t role, uint64_t step,
    uint32_t attempt, const struct record_step **out, struct cause *why);

/*
 * Walk the step index upwards: the first row with (role, step, attempt) > *position, or the first of all when
 * position->step is STEP_NONE.  Rows of one step come in the order of their attempts.
 */
struct step_position {
	uint64_t step;
	uint32_t role, attempt;
};
MUST_CHECK enum status store_reader_next_step(struct store_reader *rd,
    struct step_position *position, const struct record_step **out, struct cause *why);

/* Walk it downwards from the end; position as above. */
MUST_CHECK enum status store_reader_previous_step(struct store_reader *rd,
    struct step_position *position, const struct record_step **out, struct cause *why);

#endif
