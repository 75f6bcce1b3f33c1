/*
 * From the ranks' reports to the group's step rows.
 *
 * Each rank's reports are kept in their order until the row they belong to can be made: a row is made when
 * every expected rank has reported the step, or can no longer report it.  A phase or a saved checkpoint of a
 * rank passes only after that rank's earlier steps.  So the ring_seqs of a rank reach the journal without a
 * hole, or a RECORD_GAP stands there (H3), and one number says what is durable (H2).
 *
 * Nothing here is state that must survive: what was not made a record yet still lies in the rings.
 * No I/O.  Memory: at most CHANNEL_RING reports a rank (H10).
 */
#ifndef SUPERVISOR_ROWS_H
#define SUPERVISOR_ROWS_H

#include "journal/record.h"
#include "journal/status.h"
#include "trainer/channel.h"

struct rows;

/* What rows_* give out: a record made by malloc, now the receiver's. */
typedef void rows_emit(void *context, struct record *r);

/* NULL: memory is short.  emit is called with context from rows_add, rows_exit, rows_age and rows_flush. */
struct rows *rows_new(uint32_t rank_count, rows_emit *emit, void *context);
void rows_free(struct rows *rows); /* NULL is allowed */

/* A new attempt, or a new supervisor for it: ring_seq[rank] is the last one that the journal holds.
 * high_step: the newest complete row ever, or STEP_NONE. */
void rows_start(struct rows *rows, uint32_t attempt, const uint64_t ring_seq[], uint64_t high_step);

/* The rank opened its channel: rows wait for it from now on. */
void rows_expect(struct rows *rows, uint32_t attempt, uint32_t rank);

/*
 * One report.  time_ns is its run time; path is for ITERATION_CHECKPOINT.  Reports of another attempt and
 * those that the journal holds already are dropped.
 * Returns STATUS_OK; STATUS_FULL: the rank is CHANNEL_RING reports ahead of another; the report was not
 * taken and must come again (rewind); STATUS_SYS: memory is short, likewise.
 */
MUST_CHECK enum status rows_add(struct rows *rows, uint32_t attempt, uint32_t rank,
    const struct iteration *it, uint64_t time_ns, const char *path);

/* The rank's process ended: rows no longer wait for it. */
void rows_exit(struct rows *rows, uint32_t attempt, uint32_t rank);

/* Time passes: ranks that never connected are waited for only so long (2 s). */
void rows_age(struct rows *rows, uint64_t now_ns);

/* The attempt is gone: whatever is left becomes partial rows. */
void rows_flush(struct rows *rows, uint32_t attempt);

#endif
