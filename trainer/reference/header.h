/*
 * The JSON header of a safetensors file, read from bytes that nobody vouches for.
 *
 * It reads exactly what the format needs: one object of objects, strings without escapes, lists of whole
 * numbers.  Anything else, and anything beyond the limits of safetensors.h, is refused with its offset.
 */
#ifndef TRAINER_REFERENCE_HEADER_H
#define TRAINER_REFERENCE_HEADER_H

#include "trainer/reference/safetensors.h"

/*
 * Parse the header's size bytes into out's fields and tensors.
 *
 * text		borrowed; need not end with a NUL.
 * data		what follows the header in memory, data_bytes long; tensors point into it.
 * out		fields and tensors have room for the maxima; the counts are set on success.
 * Returns	STATUS_OK, or STATUS_BAD with cause.number the offset in text.
 */
MUST_CHECK enum status header_parse(const char *text, size_t size, const char *data,
    uint64_t data_bytes, struct safetensors *out, struct cause *why);

#endif
