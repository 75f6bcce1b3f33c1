/*
 * The trainer's own use of its snapshot file: writing slots through a mapping, reading one back.
 *
 * Writing never disturbs what is committed: one slot of the three is open at a time, its header is cleared
 * before the first byte of it changes and written after the last.  A file that is too small is replaced by a new
 * one that takes its name only with its first committed snapshot.  All memory is had before it is touched, so that
 * a full file system is an error and never a SIGBUS.  For one thread.  Invariants: H8, H11.
 */
#ifndef TRAINER_SLOTS_H
#define TRAINER_SLOTS_H

#include <stdbool.h>

#include "trainer/bodyhash.h"
#include "trainer/snapshot.h"

struct slots {
	const char *path; /* borrowed */
	/* the mapped file */
	unsigned char *map; /* NULL: none */
	unsigned ready;     /* bit i: the page tables of slot i are filled */
	struct snapshot_file file;
	uint64_t device, inode;
	struct snapshot_slot slot[MEMORY_SLOTS]; /* headers as they are there; size_bytes 0: incomplete */
	uint64_t sequence;                       /* of the last commit */
	int staged_fd;     /* of a file that has not taken its name yet, else -1 */
	bool staged_named; /* … but has a name beside it */
	/* the snapshot that was begun */
	bool writing;
	unsigned index;
	uint64_t step, size_bytes, done_bytes;
	struct bodyhash hash;
	/* the restore that was begun */
	int restore_fd; /* else -1 */
	uint64_t restore_at, restore_left;
};

/* path: borrowed until slots_fini(); "" when there are to be no snapshots. */
void slots_init(struct slots *s, const char *path);

/* How large a file for snapshots of size_bytes is, all of them together. */
uint64_t slots_file_bytes(uint64_t size_bytes);

/* How large such a file could become now: what is free where it lies, or the limit on a file's size. */
uint64_t slots_room_bytes(const struct slots *s);

/* Give everything back; what was committed stays in its file. */
void slots_fini(struct slots *s);

/* As holdfast_snapshot_begin() and its companions in trainer/holdfast.h. */
int slots_begin(struct slots *s, uint64_t step, uint64_t size_bytes);
int slots_write(struct slots *s, const void *data, size_t size_bytes);
int slots_commit(struct slots *s);

/* Give up the snapshot that was begun, if any: its slot stays incomplete. */
void slots_drop(struct slots *s);

/* As holdfast_restore_begin() and its companions in trainer/holdfast.h. */
int slots_restore_begin(struct slots *s, uint64_t step, uint64_t *size_bytes_out);
int slots_restore_read(struct slots *s, void *data, size_t size_bytes);
int slots_restore_end(struct slots *s);

#endif
