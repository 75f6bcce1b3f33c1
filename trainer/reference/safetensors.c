#include "trainer/reference/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "trainer/reference/header.h"

#define DIGEST_DIGITS 32u
#define DIGEST_ZEROS "00000000000000000000000000000000"
#define SIZE_FIELD 8u

static enum status fail(struct cause *why, const char *step, const char *subject)
{
	int error = errno;

	cause_set(why, CAUSE_ERRNO, error, step, subject);
	return error == ENOSPC || error == ENOMEM || error == EDQUOT ? STATUS_FULL : STATUS_SYS;
}

const char *safetensors_field(const struct safetensors *content, const char *name)
{
	for (uint32_t i = 0; i < content->field_count; i++)
		if (strcmp(content->fields[i].name, name) == 0)
			return content->fields[i].value;
	return NULL;
}

const struct safetensors_tensor *safetensors_tensor(const struct safetensors *content, const char *name)
{
	for (uint32_t i = 0; i < content->tensor_count; i++)
		if (strcmp(content->tensors[i].name, name) == 0)
			return &content->tensors[i];
	return NULL;
}

static size_t tensor_bytes(const struct safetensors_tensor *tensor)
{
	return (size_t)((tensor->rows > 0 ? tensor->rows : 1) * tensor->columns * sizeof(float));
}

/* 32 digits of XXH3-128 over header and data, as they stand. */
static void digest_text(XXH3_state_t *state, char out[DIGEST_DIGITS + 1])
{
	XXH128_hash_t hash = XXH3_128bits_digest(state);

	snprintf(out, DIGEST_DIGITS + 1, "%016llx%016llx", (unsigned long long)hash.high64,
	    (unsigned long long)hash.low64);
}

/* A text that grows up to its bound; whether it fitted is asked once, at the end. */
struct text {
	char *bytes;
	size_t length, room;
	bool overflow;
};

__attribute__((format(printf, 2, 3))) static void text_add(struct text *text, const char *format, ...)
{
	va_list arguments;
	int length;

	va_start(arguments, format);
	length = vsnprintf(text->bytes + text->length, text->room - text->length, format, arguments);
	va_end(arguments);
	if (length < 0 || (size_t)length >= text->room - text->length)
		text->overflow = true;
	else
		text->length += (size_t)length;
}

static bool plain(const char *string)
{
	for (; *string != '\0'; string++)
		if (*string < 0x20 || *string > 0x7e || *string == '"' || *string == '\\')
			return false;
	return true;
}

/*
 * Build the size field and the header in memory; *digest_at is where the digest's digits are to stand.
 * The result is malloc'ed and the caller's.
 */
static enum status build_header(
    const struct safetensors *content, struct text *out, size_t *digest_at, struct cause *why)
{
	struct text text = {.room = SAFETENSORS_HEADER_MAX};
	uint64_t offset = 0, size;
	bool good = true;

	text.bytes = malloc(text.room);
	if (text.bytes == NULL)
		return fail(why, "allocate", "header");
	text.length = SIZE_FIELD;
	text_add(&text, "{\"__metadata__\":{\"digest\":\"");
	*digest_at = text.length;
	text_add(&text, DIGEST_ZEROS "\"");
	for (uint32_t i = 0; i < content->field_count; i++) {
		const struct safetensors_field *field = &content->fields[i];

		good = good && plain(field->name) && plain(field->value);
		text_add(&text, ",\"%s\":\"%s\"", field->name, field->value);
	}
	text_add(&text, "}");
	for (uint32_t i = 0; i < content->tensor_count; i++) {
		const struct safetensors_tensor *tensor = &content->tensors[i];
		uint64_t end = offset + tensor_bytes(tensor);

		good = good && plain(tensor->name);
		text_add(&text, ",\"%s\":{\"dtype\":\"F32\",\"shape\":[", tensor->name);
		if (tensor->rows > 0)
			text_add(&text, "%llu,", (unsigned long long)tensor->rows);
		text_add(&text, "%llu],\"data_offsets\":[%llu,%llu]}",
		    (unsigned long long)tensor->columns, (unsigned long long)offset,
		    (unsigned long long)end);
		offset = end;
	}
	text_add(&text, "}");
	while (!text.overflow && text.length % 8 != 0)
		text_add(&text, " ");
	if (!good || text.overflow) {
		free(text.bytes);
		cause_set(why, CAUSE_DATA, (int64_t)text.length, "build", "header");
		return STATUS_BUG;
	}
	size = text.length - SIZE_FIELD;
	memcpy(text.bytes, &size, SIZE_FIELD);
	*out = text;
	return STATUS_OK;
}

static int write_all(int fd, const void *data, size_t size)
{
	const char *at = data;

	while (size > 0) {
		ssize_t written = write(fd, at, size);

		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			return -1;
		at += written;
		size -= (size_t)written;
	}
	return 0;
}

static int sync_directory_of(const char *path)
{
	const char *slash = strrchr(path, '/');
	char *directory = slash == NULL ? strdup(".") : strndup(path, (size_t)(slash - path) + 1);
	int fd = directory != NULL ? open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	int result = fd >= 0 ? fsync(fd) : -1;

	if (fd >= 0)
		close(fd);
	free(directory);
	return result;
}

static enum status write_file(const char *path, const struct text *header,
    const struct safetensors *content, struct cause *why)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	int result;

	if (fd < 0)
		return fail(why, "open", path);
	result = write_all(fd, header->bytes, header->length);
	for (uint32_t i = 0; i < content->tensor_count && result == 0; i++)
		result = write_all(fd, content->tensors[i].data, tensor_bytes(&content->tensors[i]));
	if (result == 0)
		result = fsync(fd);
	if (result != 0) {
		enum status status = fail(why, "write", path);

		close(fd);
		(void)unlink(path);
		return status;
	}
	close(fd);
	return STATUS_OK;
}

enum status safetensors_write(const char *path, const struct safetensors *content, struct cause *why)
{
	char *partial, digits[DIGEST_DIGITS + 1];
	XXH3_state_t state;
	struct text header = {0};
	size_t digest_at = 0;
	enum status status = build_header(content, &header, &digest_at, why);

	if (status != STATUS_OK)
		return status;
	if (asprintf(&partial, "%s.partial", path) < 0) {
		free(header.bytes);
		return fail(why, "allocate", path);
	}
	XXH3_INITSTATE(&state);
	(void)XXH3_128bits_reset(&state);
	(void)XXH3_128bits_update(&state, header.bytes, header.length);
	for (uint32_t i = 0; i < content->tensor_count; i++)
		(void)XXH3_128bits_update(
		    &state, content->tensors[i].data, tensor_bytes(&content->tensors[i]));
	digest_text(&state, digits);
	memcpy(header.bytes + digest_at, digits, DIGEST_DIGITS);
	status = write_file(partial, &header, content, why);
	free(header.bytes);
	if (status == STATUS_OK && rename(partial, path) != 0) {
		status = fail(why, "rename", path);
		(void)unlink(partial);
	}
	free(partial);
	if (status == STATUS_OK && sync_directory_of(path) != 0)
		status = fail(why, "sync the directory of", path);
	return status;
}

static enum status bad(struct cause *why, int64_t number, const char *step, const char *path)
{
	cause_set(why, number != 0 ? CAUSE_DATA : CAUSE_NONE, number, step, path);
	return STATUS_BAD;
}

/* Read the whole file into memory that is ours: a file that another process cuts off cannot hurt later. */
static enum status read_whole(const char *path, char **out, size_t *size_out, struct cause *why)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	size_t size, have = 0;
	char *memory;

	if (fd < 0)
		return fail(why, "open", path);
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size < (off_t)SIZE_FIELD ||
	    (uint64_t)st.st_size > SAFETENSORS_FILE_MAX) {
		close(fd);
		return bad(why, 0, "not a safetensors file by its type or size", path);
	}
	size = (size_t)st.st_size;
	memory = malloc(size);
	while (memory != NULL && have < size) {
		ssize_t some = read(fd, memory + have, size - have);

		if (some < 0 && errno == EINTR)
			continue;
		if (some <= 0)
			break;
		have += (size_t)some;
	}
	if (memory == NULL || have < size) {
		enum status status = fail(why, "read", path);

		free(memory);
		close(fd);
		return status;
	}
	close(fd);
	*out = memory;
	*size_out = size;
	return STATUS_OK;
}

/* Compare the digest in the metadata with the bytes it stands in; the header is changed in memory. */
static bool digest_holds(const struct safetensors *content, char *memory, size_t header_end, size_t size)
{
	const char *stated = safetensors_field(content, "digest");
	static const char lead[] = "{\"__metadata__\":{\"digest\":\"";
	size_t at = SIZE_FIELD + sizeof(lead) - 1;
	char digits[DIGEST_DIGITS + 1];
	XXH3_state_t state;

	/* Ours always stands first; anywhere else it would have to be searched for. */
	if (stated == NULL || strlen(stated) != DIGEST_DIGITS || at + DIGEST_DIGITS > header_end ||
	    memcmp(memory + SIZE_FIELD, lead, sizeof(lead) - 1) != 0)
		return false;
	memset(memory + at, '0', DIGEST_DIGITS);
	XXH3_INITSTATE(&state);
	(void)XXH3_128bits_reset(&state);
	(void)XXH3_128bits_update(&state, memory, size);
	digest_text(&state, digits);
	return strcmp(digits, stated) == 0;
}

enum status safetensors_read(const char *path, struct safetensors *out, struct cause *why)
{
	struct safetensors content = {0};
	size_t size = 0;
	uint64_t header_size;
	enum status status = read_whole(path, &content.memory, &size, why);

	if (status != STATUS_OK)
		return status;
	memcpy(&header_size, content.memory, SIZE_FIELD);
	content.fields = calloc(SAFETENSORS_FIELDS_MAX, sizeof(*content.fields));
	content.tensors = calloc(SAFETENSORS_TENSORS_MAX, sizeof(*content.tensors));
	if (content.fields == NULL || content.tensors == NULL) {
		status = fail(why, "allocate", path);
	} else if (header_size > size - SIZE_FIELD || header_size > SAFETENSORS_HEADER_MAX ||
	    header_size % 8 != 0) {
		status = bad(why, 0, "impossible header size", path);
	} else {
		const char *text = content.memory + SIZE_FIELD;
		struct cause inner = {0};

		status = header_parse(text, header_size, text + header_size,
		    size - SIZE_FIELD - header_size, &content, &inner);
		if (status != STATUS_OK)
			status = bad(why, inner.number, inner.step, path);
		else if (!digest_holds(&content, content.memory, SIZE_FIELD + header_size, size))
			status = bad(why, 0, "the digest is not that of the bytes", path);
	}
	if (status != STATUS_OK)
		safetensors_fini(&content);
	else
		*out = content;
	return status;
}

void safetensors_fini(struct safetensors *content)
{
	free(content->fields);
	free(content->tensors);
	free(content->memory);
	*content = (struct safetensors){0};
}
