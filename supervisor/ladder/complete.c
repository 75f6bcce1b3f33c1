/*
 * See complete.h.  The zip format from its end (APPNOTE 4.3): central directory, [zip64 end record, zip64
 * locator,] end record, comment.  Numbers are little-endian and lie unaligned.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "supervisor/ladder/complete.h"
#include "supervisor/ladder/content.h"

#define JSON_MAX_BYTES (64u << 20)
#define DIRECTORY_MAX_BYTES                                                                        \
	(64u << 20) /* of a zip's central directory; 46 bytes and a name an entry */

#define END_BYTES 22u
#define COMMENT_MAX_BYTES 65535u
#define LOCATOR_BYTES 20u
#define END64_BYTES 56u
#define ENTRY_BYTES 46u
#define LOCAL_BYTES 30u

static const unsigned char end_sign[4] = "PK\5\6", locator_sign[4] = "PK\6\7",
			   end64_sign[4] = "PK\6\6", entry_sign[4] = "PK\1\2",
			   local_sign[4] = "PK\3\4";

struct file {
	const char *path;
	int fd;
	uint64_t size_bytes;
	int error; /* of a read that failed: then nothing is said about the format */
};

static uint64_t number(const unsigned char *at, unsigned bytes)
{
	uint64_t value = 0;

	for (unsigned i = bytes; i-- > 0;)
		value = value << 8 | at[i];
	return value;
}

/* False: the file does not hold these bytes, or could not be read. */
static bool take(struct file *f, void *bytes, uint64_t size, uint64_t offset)
{
	ssize_t length;

	if (offset > f->size_bytes || size > f->size_bytes - offset)
		return false;
	length = content_read(f->fd, bytes, size, (off_t)offset);
	if (length < 0)
		f->error = errno;
	return length == (ssize_t)size;
}

struct central {
	uint64_t offset, size_bytes, entries;
	uint64_t end; /* where what follows it begins */
};

/* The 64-bit end record that stands before the end record at `at`, when there is one. */
static bool find_end64(struct file *f, uint64_t at, struct central *out)
{
	unsigned char locator[LOCATOR_BYTES], end[END64_BYTES];
	uint64_t place;

	if (at < LOCATOR_BYTES || !take(f, locator, sizeof(locator), at - LOCATOR_BYTES) ||
	    memcmp(locator, locator_sign, 4) != 0)
		return false;
	place = number(locator + 8, 8);
	if (!take(f, end, sizeof(end), place) || memcmp(end, end64_sign, 4) != 0)
		return false;
	*out = (struct central){.offset = number(end + 48, 8),
	    .size_bytes = number(end + 40, 8),
	    .entries = number(end + 32, 8),
	    .end = place};
	return true;
}

/* The end record is the last thing in the file; only its comment may stand behind it. */
static bool find_central(struct file *f, struct central *out)
{
	uint64_t window = END_BYTES + COMMENT_MAX_BYTES;
	unsigned char *bytes;
	bool found = false;

	if (window > f->size_bytes)
		window = f->size_bytes;
	bytes = malloc(window + 1);
	if (bytes == NULL || !take(f, bytes, window, f->size_bytes - window)) {
		free(bytes);
		return false;
	}
	for (uint64_t at = window < END_BYTES ? 0 : window - END_BYTES + 1; !found && at-- > 0;) {
		const unsigned char *end = bytes + at;

		if (memcmp(end, end_sign, 4) != 0 || number(end + 20, 2) != window - at - END_BYTES)
			continue;
		found = true;
		*out = (struct central){.offset = number(end + 16, 4),
		    .size_bytes = number(end + 12, 4),
		    .entries = number(end + 10, 2),
		    .end = f->size_bytes - window + at};
		if (out->offset == UINT32_MAX || out->size_bytes == UINT32_MAX ||
		    out->entries == UINT16_MAX)
			found = find_end64(f, out->end, out);
		else
			(void)find_end64(f, out->end, out);
	}
	free(bytes);
	return found;
}

/* A field of an entry's 64-bit extension, where the entry itself says that it is there. */
static void widen(const unsigned char *entry, uint64_t *packed, uint64_t *offset)
{
	const unsigned char *extra = entry + ENTRY_BYTES + number(entry + 28, 2);
	uint64_t left = number(entry + 30, 2);

	while (left >= 4) {
		uint64_t size = number(extra + 2, 2), at = 4;

		if (size > left - 4)
			return;
		if (number(extra, 2) == 1) {
			if (number(entry + 24, 4) == UINT32_MAX)
				at += 8;
			if (*packed == UINT32_MAX && at + 8 <= size + 4) {
				*packed = number(extra + at, 8);
				at += 8;
			}
			if (*offset == UINT32_MAX && at + 8 <= size + 4)
				*offset = number(extra + at, 8);
			return;
		}
		extra += 4 + size;
		left -= 4 + size;
	}
}

static bool entry_whole(struct file *f, const unsigned char *entry, uint64_t limit)
{
	uint64_t packed = number(entry + 20, 4), offset = number(entry + 42, 4), head;
	unsigned char local[LOCAL_BYTES];

	widen(entry, &packed, &offset);
	if (!take(f, local, sizeof(local), offset) || memcmp(local, local_sign, 4) != 0)
		return false;
	head = LOCAL_BYTES + number(local + 26, 2) + number(local + 28, 2);
	return offset <= limit && head <= limit - offset && packed <= limit - offset - head;
}

static bool zip_whole(struct file *f)
{
	struct central c;
	unsigned char *bytes;
	uint64_t at = 0, count = 0;
	bool whole = true;

	/* Archives may have bytes before the first entry, but then the offsets say so: torch has none. */
	if (!find_central(f, &c) || c.size_bytes > DIRECTORY_MAX_BYTES || c.offset > c.end ||
	    c.size_bytes != c.end - c.offset || (bytes = malloc(c.size_bytes + 1)) == NULL)
		return false;
	if (!take(f, bytes, c.size_bytes, c.offset))
		whole = false;
	for (; whole && at < c.size_bytes; count++) {
		uint64_t left = c.size_bytes - at, length;

		whole = left >= ENTRY_BYTES && memcmp(bytes + at, entry_sign, 4) == 0;
		if (!whole)
			break;
		length = ENTRY_BYTES + number(bytes + at + 28, 2) + number(bytes + at + 30, 2) +
		    number(bytes + at + 32, 2);
		whole = length <= left && entry_whole(f, bytes + at, c.offset);
		at += length;
	}
	free(bytes);
	return whole && count == c.entries;
}

static json_t *read_json(struct file *f, uint64_t size_bytes, uint64_t offset)
{
	char *text = size_bytes <= JSON_MAX_BYTES ? malloc(size_bytes + 1) : NULL;
	json_t *json = NULL;

	if (text != NULL && take(f, text, size_bytes, offset))
		json = json_loadb(text, size_bytes, 0, NULL);
	free(text);
	return json;
}

static bool safetensors_whole(struct file *f)
{
	unsigned char word[8];
	uint64_t header_bytes, data_bytes, last = 0;
	const char *name;
	json_t *header, *tensor;
	bool whole;

	if (!take(f, word, sizeof(word), 0))
		return false;
	header_bytes = number(word, 8);
	if (header_bytes < 2 || header_bytes > f->size_bytes - 8)
		return false;
	header = read_json(f, header_bytes, 8);
	whole = json_is_object(header);
	data_bytes = f->size_bytes - 8 - header_bytes;
	json_object_foreach(header, name, tensor)
	{
		json_t *offsets = json_object_get(tensor, "data_offsets");
		json_int_t begin = json_integer_value(json_array_get(offsets, 0));
		json_int_t end = json_integer_value(json_array_get(offsets, 1));

		if (strcmp(name, "__metadata__") == 0)
			continue;
		if (json_array_size(offsets) != 2 || begin < 0 || end < begin ||
		    (uint64_t)end > data_bytes)
			whole = false;
		else if ((uint64_t)end > last)
			last = (uint64_t)end;
	}
	json_decref(header);
	return whole && last == data_bytes;
}

static bool ends_with(const char *text, const char *end)
{
	size_t a = strlen(text), b = strlen(end);

	return a >= b && strcmp(text + a - b, end) == 0;
}

/* Names under which no empty file is whole. */
static bool tensors_by_name(const char *path)
{
	static const char *const ends[] = {
	    ".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".npz", ".npy", ".distcp", ".pkl"};

	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
		if (ends_with(path, ends[i]))
			return true;
	return false;
}

static enum completeness judge_file(struct file *f)
{
	unsigned char sign[4];

	if (f->size_bytes == 0)
		return COMPLETE_TORN;
	if (ends_with(f->path, ".safetensors"))
		return safetensors_whole(f) ? COMPLETE_WHOLE : COMPLETE_TORN;
	if (ends_with(f->path, ".npz"))
		return zip_whole(f) ? COMPLETE_WHOLE : COMPLETE_TORN;
	/* The first bytes of a torn archive may be all there is of it. */
	if (f->size_bytes < sizeof(sign))
		return take(f, sign, f->size_bytes, 0) && memcmp(sign, local_sign, f->size_bytes) == 0
		    ? COMPLETE_TORN
		    : COMPLETE_UNCHECKED;
	if (!take(f, sign, sizeof(sign), 0))
		return COMPLETE_TORN;
	if (memcmp(sign, local_sign, 4) == 0 || memcmp(sign, end_sign, 4) == 0)
		return zip_whole(f) ? COMPLETE_WHOLE : COMPLETE_TORN;
	return COMPLETE_UNCHECKED;
}

static enum status check_file(
    const char *path, uint64_t size_bytes, enum completeness *out, struct cause *why)
{
	struct file f = {.path = path, .size_bytes = size_bytes, .fd = content_open(path)};

	if (f.fd < 0)
		f.error = errno;
	else
		*out = judge_file(&f);
	if (f.fd >= 0)
		close(f.fd);
	if (f.error == 0)
		return STATUS_OK;
	cause_set(why, CAUSE_ERRNO, f.error, "check", path);
	return STATUS_SYS;
}

/* NULL: not there, or no JSON. */
static json_t *load_json(const char *path, const struct listing_entry *entry)
{
	char name[LISTING_TARGET_MAX];
	struct file f = {.size_bytes = entry->size_bytes, .fd = -1};
	json_t *json = NULL;

	if (listing_path(path, entry, name, sizeof(name)) && (f.fd = content_open(name)) >= 0) {
		json = read_json(&f, entry->size_bytes, 0);
		close(f.fd);
	}
	return json;
}

/* {"weight_map": {"tensor": "file", …}}: every file that is named is there. */
static bool index_whole(const char *path, const struct listing *l, const struct listing_entry *entry)
{
	json_t *json = load_json(path, entry), *map = json_object_get(json, "weight_map"), *file;
	bool whole = json_is_object(json);
	const char *tensor, *before = "";

	json_object_foreach(map, tensor, file)
	{
		const char *name = json_string_value(file);

		if (name == NULL || strcmp(name, before) == 0)
			continue;
		before = name;
		if (listing_find(l, name) == NULL)
			whole = false;
	}
	json_decref(json);
	return whole;
}

static bool top_level(const struct listing_entry *entry)
{
	return entry->type == 'f' && strchr(entry->name, '/') == NULL;
}

/* What the file that is written last says. */
static enum completeness judge_markers(const char *path, const struct listing *l)
{
	const struct listing_entry *state = listing_find(l, "trainer_state.json"),
				   *metadata = listing_find(l, ".metadata");
	bool trainer = false, distributed = false;

	for (size_t i = 0; i < l->count; i++) {
		const struct listing_entry *entry = &l->entries[i];

		if (!top_level(entry))
			continue;
		if (ends_with(entry->name, ".index.json") && !index_whole(path, l, entry))
			return COMPLETE_TORN;
		if (strcmp(entry->name, "training_args.bin") == 0 ||
		    strcmp(entry->name, "optimizer.pt") == 0 ||
		    strcmp(entry->name, "scheduler.pt") == 0 ||
		    strncmp(entry->name, "rng_state", 9) == 0)
			trainer = true;
		if (ends_with(entry->name, ".distcp"))
			distributed = true;
	}
	if (distributed && (metadata == NULL || metadata->size_bytes == 0))
		return COMPLETE_TORN;
	if (state != NULL) {
		json_t *json = load_json(path, state);
		bool whole = json_is_object(json);

		json_decref(json);
		return whole ? COMPLETE_WHOLE : COMPLETE_TORN;
	}
	if (trainer)
		return COMPLETE_TORN;
	return distributed ? COMPLETE_WHOLE : COMPLETE_UNCHECKED;
}

enum status complete_check(
    const char *path, const struct listing *l, enum completeness *out, struct cause *why)
{
	enum completeness found = COMPLETE_TORN;
	enum status status;

	if (!l->directory && l->count == 1)
		return check_file(path, l->size_bytes, out, why);
	if (l->file_count == 0) {
		*out = COMPLETE_TORN;
		return STATUS_OK;
	}
	for (size_t i = 0; i < l->count; i++) {
		const struct listing_entry *entry = &l->entries[i];
		char name[LISTING_TARGET_MAX];

		if (entry->type != 'f' || (entry->size_bytes == 0 && !tensors_by_name(entry->name)))
			continue;
		if (!listing_path(path, entry, name, sizeof(name))) {
			cause_set(why, CAUSE_ERRNO, ENAMETOOLONG, "check", path);
			return STATUS_SYS;
		}
		status = check_file(name, entry->size_bytes, &found, why);
		if (status != STATUS_OK)
			return status;
		if (found == COMPLETE_TORN) {
			*out = COMPLETE_TORN;
			return STATUS_OK;
		}
	}
	*out = judge_markers(path, l);
	return STATUS_OK;
}
