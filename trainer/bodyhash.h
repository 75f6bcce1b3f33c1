/*
 * XXH3-128 of bytes that come in pieces, and XXH3-64 of a few: the digests of snapshots.
 *
 * xxHash is compiled in, so that the library needs nothing but libc.
 */
#ifndef TRAINER_BODYHASH_H
#define TRAINER_BODYHASH_H

#include <stdalign.h>
#include <stddef.h>
#include <stdint.h>

#define BODYHASH_CHUNK_BYTES                                                                       \
	(256u << 10) /* stays in a core's own cache between digesting and copying */

struct bodyhash {
	alignas(64) unsigned char state[576]; /* an XXH3_state_t */
};

/* Begin, go on with size_bytes bytes of data (borrowed), and end with the canonical (big-endian) digest. */
void bodyhash_init(struct bodyhash *h);
void bodyhash_update(struct bodyhash *h, const void *data, size_t size_bytes);
void bodyhash_final(const struct bodyhash *h, uint8_t digest_out[16]);

/* As bodyhash_update(), for a processor that has AVX2 (trainer/bodyhash_wide.c).  Not to be called by others. */
void bodyhash_update_wide(struct bodyhash *h, const void *data, size_t size_bytes);

/* XXH3-64 of size_bytes bytes of data (borrowed). */
uint64_t bodyhash_short(const void *data, size_t size_bytes);

#endif
