/* See manifest.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "supervisor/ladder/manifest.h"

#define MANIFEST_VERSION 1
#define TEXT_MAX_BYTES 65536u
#define PATH_ROOM (PATTERN_PATH_MAX + sizeof(MANIFEST_NAME) + 1)

static const char digits[] = "0123456789abcdef";

static void encode_path(const char *path, char out[3 * PATTERN_PATH_MAX])
{
	for (; *path != '\0'; path++) {
		unsigned char byte = (unsigned char)*path;

		if (byte > ' ' && byte < 0x7f && byte != '%') {
			*out++ = (char)byte;
			continue;
		}
		*out++ = '%';
		*out++ = digits[byte >> 4];
		*out++ = digits[byte & 15];
	}
	*out = '\0';
}

static int nibble(char c)
{
	const char *at = c != '\0' ? strchr(digits, c) : NULL;

	return at != NULL ? (int)(at - digits) : -1;
}

static bool decode_path(const char *text, char *out, size_t size)
{
	size_t length = 0;

	if (text == NULL)
		return false;
	for (; *text != '\0'; text++) {
		char byte = *text;

		if (byte == '%') {
			int high = nibble(text[1]), low = high < 0 ? -1 : nibble(text[2]);

			if (low < 0 || (high | low) == 0)
				return false;
			byte = (char)(high << 4 | low);
			text += 2;
		}
		if (length + 1 >= size)
			return false;
		out[length++] = byte;
	}
	out[length] = '\0';
	return length > 0;
}

static void encode_bytes(const uint8_t bytes[16], char out[33])
{
	for (unsigned i = 0; i < 16; i++) {
		out[2 * i] = digits[bytes[i] >> 4];
		out[2 * i + 1] = digits[bytes[i] & 15];
	}
	out[32] = '\0';
}

static bool decode_bytes(const char *text, uint8_t bytes[16])
{
	if (text == NULL || strlen(text) != 32)
		return false;
	for (unsigned i = 0; i < 16; i++) {
		int high = nibble(text[2 * i]), low = nibble(text[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		bytes[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

static uint64_t number(const json_t *json, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(json, key));
}

static bool decode(struct manifest *m, const json_t *json)
{
	json_t *step = json_object_get(json, "step");

	if (number(json, "version") != MANIFEST_VERSION || number(json, "ordinal") == 0)
		return false;
	m->ordinal = number(json, "ordinal");
	m->step = json_is_integer(step) ? (uint64_t)json_integer_value(step) : STEP_NONE;
	m->size_bytes = number(json, "size_bytes");
	m->file_count = number(json, "file_count");
	m->mtime_ns = (int64_t)number(json, "mtime_ns");
	m->flags = (uint32_t)number(json, "flags");
	m->finite = (uint32_t)number(json, "finite");
	return decode_bytes(json_string_value(json_object_get(json, "digest")), m->digest) &&
	    decode_bytes(json_string_value(json_object_get(json, "source")), m->source) &&
	    decode_path(json_string_value(json_object_get(json, "name")), m->name, sizeof(m->name)) &&
	    strchr(m->name, '/') == NULL &&
	    decode_path(json_string_value(json_object_get(json, "original")), m->original,
		sizeof(m->original));
}

enum status manifest_read(struct manifest *m, const char *dir, struct cause *why)
{
	char path[PATH_ROOM], *text = malloc(TEXT_MAX_BYTES);
	struct manifest read_one = {0};
	ssize_t length = -1;
	json_t *json = NULL;
	bool good;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, MANIFEST_NAME);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0 || text == NULL) {
		enum status status = fd < 0 && errno == ENOENT ? STATUS_NONE : STATUS_SYS;

		cause_set(why, CAUSE_ERRNO, errno, "open", path);
		if (fd >= 0)
			close(fd);
		free(text);
		return status;
	}
	length = read(fd, text, TEXT_MAX_BYTES);
	if (length > 0)
		json = json_loadb(text, (size_t)length, 0, NULL);
	good = json_is_object(json) && decode(&read_one, json);
	if (good)
		*m = read_one;
	else
		cause_set(why, CAUSE_DATA, 0, "read", path);
	json_decref(json);
	close(fd);
	free(text);
	return good ? STATUS_OK : STATUS_BAD;
}

static json_t *encode(const struct manifest *m)
{
	static char name[3 * PATTERN_PATH_MAX], original[3 * PATTERN_PATH_MAX];
	char digest[33], source[33];

	encode_path(m->name, name);
	encode_path(m->original, original);
	encode_bytes(m->digest, digest);
	encode_bytes(m->source, source);
	return json_pack("{s:i, s:I, s:o, s:s, s:s, s:I, s:I, s:I, s:i, s:i, s:s, s:s}", "version",
	    MANIFEST_VERSION, "ordinal", (json_int_t)m->ordinal, "step",
	    m->step == STEP_NONE ? json_null() : json_integer((json_int_t)m->step), "name", name,
	    "original", original, "size_bytes", (json_int_t)m->size_bytes, "file_count",
	    (json_int_t)m->file_count, "mtime_ns", (json_int_t)m->mtime_ns, "flags", (int)m->flags,
	    "finite", (int)m->finite, "digest", digest, "source", source);
}

enum status manifest_write(const struct manifest *m, const char *dir, struct cause *why)
{
	char path[PATH_ROOM], *text = NULL;
	json_t *json = encode(m);
	int error = 0, fd;

	snprintf(path, sizeof(path), "%s/%s", dir, MANIFEST_NAME);
	if (json != NULL)
		text = json_dumps(json, JSON_INDENT(1));
	json_decref(json);
	fd = text == NULL ? -1 : open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0) {
		error = text == NULL ? ENOMEM : errno;
	} else {
		size_t length = strlen(text);
		ssize_t written = write(fd, text, length);

		if (written != (ssize_t)length)
			error = written < 0 ? errno : ENOSPC;
		else if (fsync(fd) != 0)
			error = errno;
		close(fd);
	}
	free(text);
	if (error == 0)
		return STATUS_OK;
	cause_set(why, CAUSE_ERRNO, error, "write", path);
	return STATUS_SYS;
}
