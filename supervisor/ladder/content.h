/*
 * What is in a checkpoint: its digest, and whether its numbers are finite.
 *
 * The digest of a file is the XXH3-128 of its bytes.  That of a directory is the XXH3-128 of, for each of its
 * entries in the order of their names (as bytes): the name with its NUL, one byte 'f', 'd' or 'l', the size as
 * eight bytes (little-endian), and the file's bytes or the link's target.
 *
 * Files are read, not mapped: one that shrinks under us is an error, not a signal.  H8, H10.
 */
#ifndef LADDER_CONTENT_H
#define LADDER_CONTENT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "journal/status.h"
#include "supervisor/ladder/listing.h"

#define CONTENT_CHUNK_BYTES (1u << 20)

struct content {
	uint64_t size_bytes;
	uint8_t digest[16]; /* canonical (big-endian) */
	uint32_t finite; /* 1: the tensors of its safetensors files are; 0: some are not; 2: not known */
};

/* A digest in the making; feed it with the entries in their order. */
struct hasher;

/* NULL: memory is short. */
struct hasher *hasher_new(bool directory);
void hasher_free(struct hasher *h);

/* The next entry; of a directory's entries name, type and size count, of a file alone only its bytes. */
void hasher_entry(struct hasher *h, const struct listing_entry *entry);
void hasher_bytes(struct hasher *h, const void *bytes, size_t size);
void hasher_digest(const struct hasher *h, uint8_t digest[16]);

/* Exactly `size` bytes from `offset`; fewer at the end of the file; -1 with errno. */
ssize_t content_read(int fd, void *bytes, size_t size, off_t offset);

/*
 * A file or a link's target that must have the size the entry says, into the hasher.
 *
 * path		borrowed, of the entry itself.
 * Returns	STATUS_AGAIN when it is no longer what the entry says, STATUS_SYS.
 */
enum status content_hash(struct hasher *h, const char *path, const struct listing_entry *entry,
    struct cause *why) MUST_CHECK;

/* Open a regular file for reading, without ever waiting for its other end or having a terminal by it; -1: errno. */
int content_open(const char *path);

/* 0, 1 or 2 as in struct content: a safetensors file of that size; 2 also when it is none. */
uint32_t content_finite(int fd, uint64_t size_bytes);

/*
 * Everything at once: digest and finite of what `l` lists at path.
 *
 * Returns	STATUS_AGAIN when something was changed meanwhile, STATUS_SYS.
 */
enum status content_take(
    const char *path, const struct listing *l, struct content *out, struct cause *why) MUST_CHECK;

/* The finite part of it only. */
uint32_t content_look(const char *path, const struct listing *l);

#endif
