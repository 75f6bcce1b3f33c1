/*
 * Random numbers without a state: a number is a function of (key, counter).
 *
 * So the position in the data is the whole state of the generator, and continuing exactly needs no more
 * than the position.  Two rounds of the splitmix64 finaliser over key and counter.
 */
#ifndef TRAINER_REFERENCE_RANDOM_H
#define TRAINER_REFERENCE_RANDOM_H

#include <stdint.h>

static inline uint64_t random_mix(uint64_t x)
{
	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9ull;
	x ^= x >> 27;
	x *= 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

static inline uint64_t random_at(uint64_t key, uint64_t counter)
{
	return random_mix(random_mix(key + 0x9e3779b97f4a7c15ull) ^
	    random_mix(counter * 0x9e3779b97f4a7c15ull + 0x6a09e667f3bcc909ull));
}

/* A number below limit, from the upper bits of a random one; limit is far below 2^32. */
static inline uint32_t random_below(uint64_t random, uint32_t limit)
{
	return (uint32_t)(((random >> 32) * limit) >> 32);
}

/* In [0, 1), 53 bits. */
static inline double random_unit(uint64_t random)
{
	return (double)(random >> 11) * 0x1p-53;
}

#endif
