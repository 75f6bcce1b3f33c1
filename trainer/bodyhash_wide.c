/*
 * bodyhash_update() for processors with AVX2, four times as fast as with what every x86-64 has.
 *
 * xxHash chooses its vectors when it is compiled; the state and the digests are the same for all of them, so that
 * the choice can be made anew with every piece.  Only for bodyhash.c, which asks the processor first.
 */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#pragma GCC target("avx2")
#endif

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "trainer/bodyhash.h"

void bodyhash_update_wide(struct bodyhash *h, const void *data, size_t size_bytes)
{
	XXH3_128bits_update((XXH3_state_t *)(void *)h->state, data, size_bytes);
}
