/* See content.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "supervisor/ladder/content.h"

#define HEADER_MAX_BYTES (64u << 20)
#define FINITE_UNKNOWN 2u

struct hasher {
	XXH3_state_t *state;
	bool directory;
};

struct hasher *hasher_new(bool directory)
{
	struct hasher *h = calloc(1, sizeof(*h));

	if (h == NULL)
		return NULL;
	h->directory = directory;
	h->state = XXH3_createState();
	if (h->state == NULL) {
		free(h);
		return NULL;
	}
	XXH3_128bits_reset(h->state);
	return h;
}

void hasher_free(struct hasher *h)
{
	if (h != NULL)
		XXH3_freeState(h->state);
	free(h);
}

void hasher_entry(struct hasher *h, const struct listing_entry *entry)
{
	if (!h->directory)
		return;
	XXH3_128bits_update(h->state, entry->name, strlen(entry->name) + 1);
	XXH3_128bits_update(h->state, &entry->type, 1);
	XXH3_128bits_update(h->state, &entry->size_bytes, sizeof(entry->size_bytes));
}

void hasher_bytes(struct hasher *h, const void *bytes, size_t size)
{
	XXH3_128bits_update(h->state, bytes, size);
}

void hasher_digest(const struct hasher *h, uint8_t digest[16])
{
	XXH128_canonical_t canonical;

	XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(h->state));
	memcpy(digest, canonical.digest, 16);
}

ssize_t content_read(int fd, void *bytes, size_t size, off_t offset)
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

int content_open(const char *path)
{
	struct stat st;
	int fd;

	/* To open a device may already do something: so it is looked at before, and again after. */
	if (stat(path, &st) != 0)
		return -1;
	if (!S_ISREG(st.st_mode)) {
		errno = S_ISDIR(st.st_mode) ? EISDIR : EINVAL;
		return -1;
	}
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd >= 0 && (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))) {
		close(fd);
		errno = EINVAL;
		return -1;
	}
	return fd;
}

static enum status failed(struct cause *why, int error, const char *path)
{
	cause_set(why, CAUSE_ERRNO, error, "read", path);
	return STATUS_SYS;
}

static enum status hash_file(struct hasher *h, const char *path, uint64_t size_bytes, struct cause *why)
{
	char *chunk = malloc(CONTENT_CHUNK_BYTES);
	int fd = content_open(path);
	enum status status = STATUS_OK;
	uint64_t done = 0;
	ssize_t length;

	if (chunk == NULL || fd < 0)
		status = failed(why, chunk == NULL ? ENOMEM : errno, path);
	/* One more read than there should be, to see that it has not grown. */
	while (status == STATUS_OK) {
		length = content_read(fd, chunk, CONTENT_CHUNK_BYTES, (off_t)done);
		if (length < 0)
			status = failed(why, errno, path);
		if (length <= 0)
			break;
		hasher_bytes(h, chunk, (size_t)length);
		done += (uint64_t)length;
		if (done > size_bytes)
			break;
	}
	if (status == STATUS_OK && done != size_bytes) {
		cause_set(why, CAUSE_ERRNO, ESTALE, "read", path);
		status = STATUS_AGAIN;
	}
	if (fd >= 0)
		close(fd);
	free(chunk);
	return status;
}

enum status content_hash(
    struct hasher *h, const char *path, const struct listing_entry *entry, struct cause *why)
{
	char target[LISTING_TARGET_MAX];
	ssize_t length;

	hasher_entry(h, entry);
	if (entry->type == 'f')
		return hash_file(h, path, entry->size_bytes, why);
	if (entry->type != 'l')
		return STATUS_OK;
	length = readlink(path, target, sizeof(target));
	if (length < 0)
		return failed(why, errno, path);
	hasher_bytes(h, target, (size_t)length);
	return STATUS_OK;
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
	char *chunk = malloc(CONTENT_CHUNK_BYTES);
	bool finite = chunk != NULL;

	while (finite && begin < end) {
		size_t wanted = end - begin < CONTENT_CHUNK_BYTES ? (size_t)(end - begin)
								  : CONTENT_CHUNK_BYTES;
		ssize_t length = content_read(fd, chunk, wanted, (off_t)begin);

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
uint32_t content_finite(int fd, uint64_t size_bytes)
{
	uint64_t header_bytes;
	uint32_t finite = 1;
	char *text;

	if (size_bytes <= 8 || content_read(fd, &header_bytes, 8, 0) != 8 || header_bytes < 2 ||
	    header_bytes > HEADER_MAX_BYTES || header_bytes > size_bytes - 8 ||
	    (text = malloc(header_bytes)) == NULL)
		return FINITE_UNKNOWN;
	json_t *header = content_read(fd, text, header_bytes, 8) == (ssize_t)header_bytes
	    ? json_loadb(text, header_bytes, 0, NULL)
	    : NULL;
	const char *name;
	json_t *tensor;

	free(text);
	if (!json_is_object(header)) {
		json_decref(header);
		return FINITE_UNKNOWN;
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
			finite = FINITE_UNKNOWN;
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

uint32_t content_look(const char *path, const struct listing *l)
{
	uint32_t finite = FINITE_UNKNOWN;

	for (size_t i = 0; i < l->count && finite != 0; i++) {
		const struct listing_entry *entry = &l->entries[i];
		char file[LISTING_TARGET_MAX];
		uint32_t found;
		int fd;

		if (entry->type != 'f' || !listing_path(path, entry, file, sizeof(file)) ||
		    !ends_with(file, ".safetensors") || (fd = content_open(file)) < 0)
			continue;
		found = content_finite(fd, entry->size_bytes);
		if (found != FINITE_UNKNOWN)
			finite = found;
		close(fd);
	}
	return finite;
}

enum status content_take(
    const char *path, const struct listing *l, struct content *out, struct cause *why)
{
	struct hasher *h = hasher_new(l->directory);
	enum status status = h == NULL ? failed(why, ENOMEM, path) : STATUS_OK;
	struct content made = {.size_bytes = l->size_bytes};
	char file[LISTING_TARGET_MAX];

	for (size_t i = 0; status == STATUS_OK && i < l->count; i++) {
		if (!listing_path(path, &l->entries[i], file, sizeof(file)))
			status = failed(why, ENAMETOOLONG, path);
		else
			status = content_hash(h, file, &l->entries[i], why);
	}
	if (status == STATUS_OK) {
		hasher_digest(h, made.digest);
		made.finite = content_look(path, l);
		*out = made;
	}
	hasher_free(h);
	return status;
}
