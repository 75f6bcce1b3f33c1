/*
 * helper-digest and helper-survey: whether a checkpoint file or a snapshot is what it was.
 *
 * Files are read, not mapped: one that shrinks under us is an error, not a signal.  H8, H10.
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "supervisor/agent/helper.h"
#include "trainer/snapshot.h"

#define CHUNK_BYTES (1u << 20)
#define HEADER_MAX_BYTES (64u << 20)
#define SURVEY_ENOUGH 2u /* good snapshots a rank: ranks are at most one step apart */

static ssize_t read_full(int fd, void *bytes, size_t size, off_t offset)
{
	size_t done = 0;

	while (done < size) {
		ssize_t length = pread(fd, (char *)bytes + done, size - done, offset + (off_t)done);

		if (length < 0 && errno == EINTR)
			continue;
		if (length < 0)
			return -1;
		if (length == 0)
			break;
		done += (size_t)length;
	}
	return (ssize_t)done;
}

static int digest_file(int fd, struct helper_digest *out)
{
	XXH3_state_t *state = XXH3_createState();
	char *chunk = malloc(CHUNK_BYTES);
	XXH128_canonical_t canonical;
	int error = 0;

	if (state == NULL || chunk == NULL)
		error = ENOMEM;
	else
		XXH3_128bits_reset(state);
	while (error == 0) {
		ssize_t length = read_full(fd, chunk, CHUNK_BYTES, (off_t)out->size_bytes);

		if (length < 0)
			error = errno;
		if (length <= 0)
			break;
		XXH3_128bits_update(state, chunk, (size_t)length);
		out->size_bytes += (uint64_t)length;
	}
	if (error == 0) {
		XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(state));
		memcpy(out->digest, canonical.digest, sizeof(out->digest));
	}
	free(chunk);
	XXH3_freeState(state);
	return error;
}

/* Exponent bits all ones: an infinity or a NaN.  IEEE 754 formats and bfloat16. */
static bool chunk_finite(const char *dtype, const void *bytes, size_t size)
{
	if (strcmp(dtype, "F32") == 0) {
		const uint32_t *v = bytes;

		for (size_t i = 0; i < size / 4; i++)
			if ((v[i] & 0x7f800000u) == 0x7f800000u)
				return false;
	} else if (strcmp(dtype, "F64") == 0) {
		const uint64_t *v = bytes;

		for (size_t i = 0; i < size / 8; i++)
			if ((v[i] & 0x7ff0000000000000ull) == 0x7ff0000000000000ull)
				return false;
	} else if (strcmp(dtype, "BF16") == 0 || strcmp(dtype, "F16") == 0) {
		const uint16_t *v = bytes, mask = dtype[0] == 'B' ? 0x7f80 : 0x7c00;

		for (size_t i = 0; i < size / 2; i++)
			if ((v[i] & mask) == mask)
				return false;
	}
	return true;
}

static bool tensor_finite(int fd, const char *dtype, uint64_t begin, uint64_t end)
{
	char *chunk = malloc(CHUNK_BYTES);
	bool finite = chunk != NULL;

	while (finite && begin < end) {
		size_t wanted = end - begin < CHUNK_BYTES ? (size_t)(end - begin) : CHUNK_BYTES;
		ssize_t length = read_full(fd, chunk, wanted, (off_t)begin);

		if (length != (ssize_t)wanted)
			finite = false;
		else
			finite = chunk_finite(dtype, chunk, wanted);
		begin += wanted;
	}
	free(chunk);
	return finite;
}

/* The safetensors format: u64 length of a JSON header, the header, the tensors at their data_offsets. */
static uint32_t look_through(int fd, uint64_t size_bytes)
{
	uint64_t header_bytes;
	uint32_t finite = 1;
	char *text;

	if (read_full(fd, &header_bytes, 8, 0) != 8 || header_bytes < 2 ||
	    header_bytes > HEADER_MAX_BYTES || header_bytes > size_bytes - 8 ||
	    (text = malloc(header_bytes)) == NULL)
		return 2;
	json_t *header = read_full(fd, text, header_bytes, 8) == (ssize_t)header_bytes
	    ? json_loadb(text, header_bytes, 0, NULL)
	    : NULL;
	const char *name;
	json_t *tensor;

	free(text);
	if (!json_is_object(header)) {
		json_decref(header);
		return 2;
	}
	json_object_foreach(header, name, tensor)
	{
		json_t *offsets = json_object_get(tensor, "data_offsets");
		const char *dtype = json_string_value(json_object_get(tensor, "dtype"));
		json_int_t begin = json_integer_value(json_array_get(offsets, 0));
		json_int_t end = json_integer_value(json_array_get(offsets, 1));

		if (strcmp(name, "__metadata__") == 0)
			continue;
		if (dtype == NULL || begin < 0 || end < begin ||
		    (uint64_t)end > size_bytes - 8 - header_bytes) {
			finite = 2;
			break;
		}
		if (!tensor_finite(fd, dtype, 8 + header_bytes + (uint64_t)begin,
			8 + header_bytes + (uint64_t)end)) {
			finite = 0;
			break;
		}
	}
	json_decref(header);
	return finite;
}

static bool ends_with(const char *text, const char *end)
{
	size_t a = strlen(text), b = strlen(end);

	return a >= b && strcmp(text + a - b, end) == 0;
}

static const char *path_argument(int argc, char **argv)
{
	return argc == 3 && strcmp(argv[1], "--path") == 0 ? argv[2] : NULL;
}

static int write_result(const void *bytes, size_t size)
{
	return write(STDOUT_FILENO, bytes, size) == (ssize_t)size ? 0 : 1;
}

/* A trainer may name anything: a FIFO that nobody writes to and a device without end are no checkpoints (H10). */
static int open_checkpoint(const char *path, int *error)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;

	*error = fd < 0 ? errno : 0;
	if (fd >= 0 && fstat(fd, &st) != 0)
		*error = errno;
	else if (fd >= 0 && !S_ISREG(st.st_mode))
		*error = S_ISDIR(st.st_mode) ? EISDIR : EINVAL;
	if (*error != 0 && fd >= 0)
		close(fd);
	return *error != 0 ? -1 : fd;
}

int helper_digest_main(int argc, char **argv)
{
	struct helper_digest out = {.finite = 2};
	const char *path = path_argument(argc, argv);
	int fd;

	if (path == NULL)
		return 64;
	fd = open_checkpoint(path, &out.error);
	if (fd >= 0) {
		out.error = digest_file(fd, &out);
		if (out.error == 0 && ends_with(path, ".safetensors") && out.size_bytes > 8)
			out.finite = look_through(fd, out.size_bytes);
		close(fd);
	}
	if (out.error != 0) {
		out.size_bytes = 0;
		memset(out.digest, 0, sizeof(out.digest));
	}
	return write_result(&out, sizeof(out));
}

int helper_survey_main(int argc, char **argv)
{
	struct snapshot_finding findings[MEMORY_SLOTS] = {0};

	if (argc != 5 || strcmp(argv[1], "--path") != 0 || strcmp(argv[3], "--before-step") != 0)
		return 64;
	/* No file, or not ours: nothing found. */
	(void)snapshot_survey_newest(argv[2], strtoull(argv[4], NULL, 10), SURVEY_ENOUGH, findings);
	return write_result(findings, sizeof(findings));
}
