/*
 * The ranks of one node average their gradients through one file of shared memory.
 *
 * File layout (little-endian; every area begins on a page):
 *	offset 0	struct group_head
 *	gradient_offset	world × stride_bytes: the gradients, float[count], of rank 0, 1, …
 *	sum_offset	float[count]: their average
 * with gradient_offset = GROUP_GRADIENT_OFFSET, stride_bytes = 4·count rounded up to GROUP_PAGE and
 * sum_offset = gradient_offset + world · stride_bytes.  The head repeats these numbers for readers.
 *
 * For fault drills: a rank works *in* its own gradient area.  It zeroes it at the start of an iteration, the
 * backward pass adds to it, and group_average() reads it at the end.  So a NaN that anybody writes anywhere
 * in [gradient_offset + r · stride_bytes, + 4·count) after that zeroing stays until the average is made, and
 * writing it once every few milliseconds through one iteration is sure to meet one.  The average, the gradient
 * norm and all parameters are then NaN at that iteration's end, on every rank.  struct group_layout
 * `group_layout` in the program's symbol table holds the fixed numbers.
 *
 * Determinism: rank r averages the r-th slice over all ranks, always adding rank 0, rank 1, … in this order,
 * so the bits depend on the world size and never on timing.
 *
 * Barriers: each rank counts up a word of its own and waits on those of the others with futexes, in slices of
 * GROUP_SLICE_MS.  A rank holds an open-file-description lock on byte GROUP_LOCK_RANK + rank from joining to
 * its end: the kernel drops it with the process, so a lock that is free means that the rank is gone,
 * however it went.  A rank that neither comes nor dies is given up after the timeout.  Nobody waits for ever.
 *
 * The file is made by whoever comes first, under a lock on byte GROUP_LOCK_JOIN; one that no live rank holds
 * is left from an earlier run, and is unlinked, never joined.  Rank 0 unlinks the file at an orderly end.
 */
#ifndef TRAINER_REFERENCE_GROUP_H
#define TRAINER_REFERENCE_GROUP_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "journal/status.h"

#define GROUP_MAGIC 0x3130505552474648ull /* "HFGRUP01" */
#define GROUP_RANKS_MAX 60u
#define GROUP_PAGE 4096u
#define GROUP_GRADIENT_OFFSET 8192u
#define GROUP_SLICE_MS 50
#define GROUP_LOCK_JOIN 0  /* byte offset */
#define GROUP_LOCK_RANK 64 /* byte offset of rank 0's */

/* What a rank brings to an iteration, beside its gradient.  One cache-line pair a rank, written by it alone. */
struct group_member {
	alignas(128) _Atomic uint32_t arrived; /* futex word: barriers that it has come to */
	_Atomic uint32_t pid;                  /* 0 until it joined */
	uint64_t step;                         /* that it is making: must be the same for all */
	double loss_sum;                       /* over its own lines */
	uint64_t target_count;                 /* tokens in that sum */
	uint32_t stop;                         /* 1: it was asked to stop */
};

struct group_head {
	uint64_t magic;
	uint32_t world;
	uint32_t reserved;
	uint64_t count; /* floats in a gradient */
	uint64_t gradient_offset, stride_bytes, sum_offset, size_bytes;
	struct group_member member[GROUP_RANKS_MAX];
};

/* The fixed part of the layout, as a symbol (`group_layout`). */
struct group_layout {
	uint64_t magic, gradient_offset, page_bytes;
	uint64_t offset_of_count, offset_of_stride_bytes;
};
extern const struct group_layout group_layout;

struct group_request {
	const char *path; /* of the file; not used when world is 1 */
	uint32_t rank, world;
	size_t count;
	uint32_t timeout_ms;                          /* for one barrier, joining included */
	void (*on_wait)(void *context, bool waiting); /* around every wait; may be NULL */
	void *context;
};

struct group {
	struct group_request request;
	char path[256];
	int fd;
	uint32_t barriers; /* that this rank has come to */
	struct group_head *head;
	float *gradient;      /* this rank's, [count]: zero it, then add */
	const float *average; /* [count]: valid from group_average() to the next one */
};

/* What all ranks together know after an iteration. */
struct group_totals {
	double loss; /* mean over all targets */
	uint64_t target_count;
	bool stop; /* some rank was asked to stop */
};

/*
 * Join the group; does not wait for the others.
 * Returns	STATUS_AGAIN (the group lost a rank, or this rank is in it already), STATUS_FULL (no shared
 *		memory for it), STATUS_SYS, STATUS_BAD (the file is another program's), STATUS_BUG.
 */
MUST_CHECK enum status group_join(
    struct group *group, const struct group_request *request, struct cause *why);

/* Leave; rank 0 removes the file when orderly, that is after the last group_meet().  Works after a failed join. */
void group_leave(struct group *group, bool orderly);

/*
 * Average group->gradient over all ranks into group->average, and add up what each brings.
 * mine		step, loss_sum, target_count and stop are read.
 * Returns	STATUS_AGAIN (a rank was lost: cause.number is it), STATUS_BAD (ranks are at different steps).
 */
MUST_CHECK enum status group_average(struct group *group, const struct group_member *mine,
    struct group_totals *out, struct cause *why);

/* Wait until every rank is here.  STATUS_AGAIN as above. */
MUST_CHECK enum status group_meet(struct group *group, struct cause *why);

#endif
