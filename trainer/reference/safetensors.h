/*
 * Files of named tensors in the safetensors format.
 *
 *	u64	size of the header, a multiple of 8
 *	header	one JSON object, padded with spaces: "__metadata__": {string: string}, then for each tensor
 *		"NAME": {"dtype": "F32", "shape": […], "data_offsets": [begin, end]}
 *	data	the tensors, without holes, in the header's order
 *
 * Beside what the format asks for, every file of ours carries "digest" in its metadata: XXH3-128 of the
 * header's bytes, with the digest's own 32 digits written as zeros, followed by the data.  So every flipped
 * bit is found, also where the format could not tell.
 *
 * The reader believes nothing: sizes are checked against the file's length, names, types and offsets
 * against each other, and every number is bounded before it is used.  Only F32 is read.
 */
#ifndef TRAINER_REFERENCE_SAFETENSORS_H
#define TRAINER_REFERENCE_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "journal/status.h"

#define SAFETENSORS_NAME_MAX 64u /* bytes, with the NUL */
#define SAFETENSORS_VALUE_MAX 512u
#define SAFETENSORS_FIELDS_MAX 16u
#define SAFETENSORS_TENSORS_MAX 2048u
#define SAFETENSORS_HEADER_MAX (1u << 20)
#define SAFETENSORS_FILE_MAX (1ull << 31)

struct safetensors_field {
	char name[SAFETENSORS_NAME_MAX];
	char value[SAFETENSORS_VALUE_MAX];
};

struct safetensors_tensor {
	char name[SAFETENSORS_NAME_MAX];
	uint64_t rows; /* 0: a vector */
	uint64_t columns;
	const float *data; /* borrowed when writing; points into the file's memory when read */
};

struct safetensors {
	struct safetensors_field *fields;
	struct safetensors_tensor *tensors;
	uint32_t field_count, tensor_count;
	char *memory; /* the whole file, owned; NULL when writing */
};

/*
 * Write a file: to PATH.partial first, synced, renamed to PATH, its directory synced.
 * Names and values must be printable ASCII without quotes and backslashes; "digest" is added.
 * Returns STATUS_FULL, STATUS_SYS, STATUS_BUG.  On failure the file at PATH, if any, is as it was.
 */
MUST_CHECK enum status safetensors_write(
    const char *path, const struct safetensors *content, struct cause *why);

/* Read and check a whole file; end with safetensors_fini().  STATUS_BAD, STATUS_SYS, STATUS_FULL. */
MUST_CHECK enum status safetensors_read(const char *path, struct safetensors *out, struct cause *why);
void safetensors_fini(struct safetensors *content);

/* A metadata value, or NULL; a tensor, or NULL. */
const char *safetensors_field(const struct safetensors *content, const char *name);
const struct safetensors_tensor *safetensors_tensor(
    const struct safetensors *content, const char *name);

#endif
