/* See bodyhash.h. */
#include <assert.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "trainer/bodyhash.h"

static_assert(sizeof(struct bodyhash) >= sizeof(XXH3_state_t), "room for xxHash's state");
static_assert(alignof(struct bodyhash) >= alignof(XXH3_state_t), "alignment of xxHash's state");

static XXH3_state_t *state_of(struct bodyhash *h)
{
	return (XXH3_state_t *)(void *)h->state;
}

void bodyhash_init(struct bodyhash *h)
{
	XXH3_128bits_reset(state_of(h));
}

void bodyhash_update(struct bodyhash *h, const void *data, size_t size_bytes)
{
#if defined(__x86_64__)
	if (__builtin_cpu_supports("avx2")) {
		bodyhash_update_wide(h, data, size_bytes);
		return;
	}
#endif
	XXH3_128bits_update(state_of(h), data, size_bytes);
}

void bodyhash_final(const struct bodyhash *h, uint8_t digest_out[16])
{
	XXH128_canonical_t canonical;

	XXH128_canonicalFromHash(
	    &canonical, XXH3_128bits_digest((const XXH3_state_t *)(const void *)h->state));
	memcpy(digest_out, canonical.digest, sizeof(canonical.digest));
}

uint64_t bodyhash_short(const void *data, size_t size_bytes)
{
	return XXH3_64bits(data, size_bytes);
}
