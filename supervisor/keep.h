/*
 * The records that performing a decision needs beside it: announced checkpoint files, their digests, and kept copies.
 *
 * Filled by the fold and by each turn; bounded: the oldest are forgotten first (the policy remembers fewer).
 */
#ifndef SUPERVISOR_KEEP_H
#define SUPERVISOR_KEEP_H

#include <stddef.h>

#include "journal/record.h"

#define KEEP_MAX 4096u

struct keep {
	struct record *records[KEEP_MAX]; /* copies, by rising seq from first */
	size_t first, count;
};

/* Copy r when it is of a kind that is kept; memory being short, it is not kept and its rung will not be used. */
void keep_see(struct keep *k, const struct record *r);
void keep_fini(struct keep *k);

/* The first kept record of `kind` with seq >= from, NULL when none; step STEP_NONE: any. */
const struct record *keep_find(
    const struct keep *k, enum record_kind kind, uint64_t from_seq, uint64_t to_seq, uint64_t step);

#endif
