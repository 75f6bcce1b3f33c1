/*
 * The agent's end of a channel: maps it, reads new reports, moves the read cursor when they are durable.
 *
 * Trusts nothing in the mapping: every slot is copied out and checked, cursors are kept here, and the first
 * nonsense closes the ring for the rest of the attempt (H10).  Never waits.  Invariants: H2, H3.
 */
#ifndef AGENT_RING_H
#define AGENT_RING_H

#include <stdbool.h>

#include "journal/status.h"
#include "trainer/channel.h"

struct ring {
	struct channel *map;  /* NULL: none */
	char *path;           /* owned */
	int guard;            /* of the mapping, against a file that shrinks */
	uint64_t tail;        /* slots below it are durable */
	uint64_t sent;        /* slots below it were given out, since the last rewind */
	uint64_t given;       /* slots below it were given out at least once */
	uint64_t last_seq;    /* ring_seq of the last slot given out */
	uint64_t durable_seq; /* ring_seq of the last durable slot */
	uint64_t lost_seq; /* the trainer is gone, and so are its reports up to this one; 0: not so */
	bool damaged;
	bool damage_reported;
	uint64_t damage_offset, damage_value;
	uint32_t rank, attempt;
};

/*
 * Make and map a channel.  head is borrowed; path must not exist.
 * Returns STATUS_FULL (no room for shared memory there), STATUS_SYS.
 */
MUST_CHECK enum status ring_create(
    struct ring *ring, const char *path, const struct channel_head *head, struct cause *why);

/* Map what an earlier agent left.  STATUS_BAD: not a channel of ours. */
MUST_CHECK enum status ring_adopt(struct ring *ring, const char *path, struct cause *why);

/* Unmap; with remove also unlink the file. */
void ring_fini(struct ring *ring, bool remove);

/*
 * Copy out the next reports, at most max; after ring_end(), an ITERATION_LOST where no slot shows a hole.
 * path_out	RECORD_TEXT_MAX bytes; filled for a checkpoint, which then is the only one of the call.
 * Returns how many; 0 when there are none, or the ring is damaged.
 */
uint32_t ring_read(struct ring *ring, struct iteration *out, uint32_t max, char *path_out);

/* Nobody writes to the channel any more: reports that were lost behind the last slot are to be told of. */
void ring_end(struct ring *ring);

/* True when ring_read() would give something. */
bool ring_has_more(const struct ring *ring);

/* The journal holds this rank's reports up to ring_seq. */
void ring_ack(struct ring *ring, uint64_t ring_seq);

/* Give out again what is not durable. */
void ring_rewind(struct ring *ring);

#endif
