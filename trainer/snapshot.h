/*
 * Snapshots in shared memory: three slots a rank that outlive the trainer.
 *
 * File layout (little-endian):
 *	offset 0       struct snapshot_file     magic, version, capacity of a slot, checksum of itself
 *	offset 4096*k  struct snapshot_slot     k = 1, 2, 3: the slot's header
 *	offset 16384   3 × slot_bytes           bodies (slot_bytes is a multiple of 4096)
 *
 * A slot is complete when its header's checksum holds.  begin picks an incomplete slot, else one whose step is
 * not before the new one (left over from where a restart stepped back from), else the one committed longest ago;
 * clears its header, copies in pieces while digesting them, and writes the header last.
 * So a writer that dies at any instruction leaves the two other slots untouched.  A file whose slots are too
 * small is replaced, by rename, when the first snapshot in the new one is committed.
 *
 * Readers (the trainer's restore and the agent's survey helper) trust nothing in the file: sizes are checked
 * against the file's real length, headers against their XXH3-64, bodies against their XXH3-128 (H8, H10).
 */
#ifndef TRAINER_SNAPSHOT_H
#define TRAINER_SNAPSHOT_H

#include <stddef.h>
#include <stdint.h>

#include "journal/record.h"

#define SNAPSHOT_MAGIC 0x313050414e534648ull /* "HFSNAP01" */
#define SNAPSHOT_VERSION 1u
#define SNAPSHOT_BODY_OFFSET 16384u

struct snapshot_file {
	uint64_t magic;
	uint32_t version, slot_count;
	uint64_t slot_bytes;
	uint64_t checksum; /* XXH3-64 of the fields above */
};

struct snapshot_slot {
	uint64_t step;
	uint64_t size_bytes;
	uint64_t sequence;  /* counts commits of this rank, over all attempts */
	uint8_t digest[16]; /* XXH3-128 of the body's size_bytes bytes, canonical */
	uint64_t checksum;  /* XXH3-64 of the fields above; 0 while the slot is being written */
};

/* What snapshot_survey() found in one slot. */
enum snapshot_state {
	SNAPSHOT_EMPTY = 0,
	SNAPSHOT_GOOD,
	SNAPSHOT_TORN /* header whole, body wrong */
};
struct snapshot_finding {
	enum snapshot_state state;
	uint64_t step, size_bytes;
};

/*
 * Verify every slot of the snapshot file at path (used by the agent's helper; reads it with pread(2) or
 * a private mapping; safe against truncation by another process).
 * finding    borrowed; MEMORY_SLOTS entries are filled on success.
 * Returns 0, or a negative errno: -ENOENT no file, -EBADMSG not a snapshot file.
 */
int snapshot_survey(const char *path, struct snapshot_finding finding[MEMORY_SLOTS]);

/*
 * The same for slots of steps < before_step (STEP_NONE: all), newest first, until `enough` of them are good: a
 * restart waits for this, and older ones are seldom needed.  What was not looked at is SNAPSHOT_EMPTY.
 */
int snapshot_survey_newest(const char *path, uint64_t before_step, unsigned enough,
    struct snapshot_finding finding[MEMORY_SLOTS]);

/* The checksums of the two headers. */
uint64_t snapshot_file_checksum(const struct snapshot_file *file);
uint64_t snapshot_slot_checksum(const struct snapshot_slot *slot);

/* Where the header and the body of slot index (from 0) begin. */
static inline uint64_t snapshot_slot_offset(unsigned index)
{
	return 4096u * ((uint64_t)index + 1);
}
static inline uint64_t snapshot_body_offset(const struct snapshot_file *file, unsigned index)
{
	return SNAPSHOT_BODY_OFFSET + file->slot_bytes * index;
}

/*
 * Open the snapshot file at path with flags (O_RDONLY, O_RDWR) and read its header.
 * out		filled on success: whole, of our version, its slots within what an offset can say.
 * Returns	the descriptor, the caller's to close, or a negative errno: -ENOENT no file, -EBADMSG not a
 *		snapshot file, -EPERM another user's.
 */
int snapshot_open(const char *path, int flags, struct snapshot_file *out);

/* Read the header of a slot.  Returns 0, -ENODATA (incomplete, damaged or never written), or a negative errno. */
int snapshot_read_slot(
    int fd, const struct snapshot_file *file, unsigned index, struct snapshot_slot *out);

/*
 * Compare a slot's body with the digest in its header, reading it with pread(2).
 * slot		borrowed; as snapshot_read_slot() gave it.
 * Returns	0, -EBADMSG (other bytes, or fewer), -ENOMEM, or a negative errno of the reading.
 */
int snapshot_check_body(
    int fd, const struct snapshot_file *file, unsigned index, const struct snapshot_slot *slot);

#endif
