#include "trainer/reference/header.h"

#include <stdbool.h>
#include <string.h>

/* Where the reader is.  Once failed, every further call fails too. */
struct cursor {
	const char *text;
	size_t at, size;
	const char *wrong; /* the first thing that was wrong, or NULL */
	const char *data;  /* what follows the header */
	uint64_t data_bytes;
	uint64_t data_end; /* where the last tensor so far ends */
};

static bool refuse(struct cursor *c, const char *what)
{
	if (c->wrong == NULL)
		c->wrong = what;
	return false;
}

static void skip_space(struct cursor *c)
{
	while (c->at < c->size &&
	    (c->text[c->at] == ' ' || c->text[c->at] == '\n' || c->text[c->at] == '\t' ||
		c->text[c->at] == '\r'))
		c->at++;
}

/* Whether the next character is this one; it is then passed. */
static bool next_is(struct cursor *c, char character)
{
	skip_space(c);
	if (c->wrong != NULL || c->at >= c->size || c->text[c->at] != character)
		return false;
	c->at++;
	return true;
}

static bool expect(struct cursor *c, char character)
{
	return next_is(c, character) || refuse(c, "unexpected character");
}

static bool read_string(struct cursor *c, char *out, size_t out_size)
{
	size_t length = 0;

	if (!expect(c, '"'))
		return false;
	for (; c->at < c->size && c->text[c->at] != '"'; c->at++) {
		unsigned char character = (unsigned char)c->text[c->at];

		if (character < 0x20 || character == '\\')
			return refuse(c, "string with an escape");
		if (length + 1 >= out_size)
			return refuse(c, "string too long");
		out[length++] = (char)character;
	}
	out[length] = '\0';
	return expect(c, '"');
}

static bool read_number(struct cursor *c, uint64_t *out)
{
	uint64_t number = 0;
	size_t begin;

	skip_space(c);
	begin = c->at;
	for (; c->at < c->size && c->text[c->at] >= '0' && c->text[c->at] <= '9'; c->at++) {
		number = number * 10 + (uint64_t)(c->text[c->at] - '0');
		if (number > SAFETENSORS_FILE_MAX)
			return refuse(c, "number too large");
	}
	if (c->at == begin)
		return refuse(c, "not a number");
	*out = number;
	return true;
}

/* [n, …]: at most max numbers. */
static bool read_list(struct cursor *c, uint64_t *list, uint32_t max, uint32_t *count)
{
	*count = 0;
	if (!expect(c, '['))
		return false;
	if (next_is(c, ']'))
		return true;
	do {
		if (*count >= max)
			return refuse(c, "list too long");
		if (!read_number(c, &list[(*count)++]))
			return false;
	} while (next_is(c, ','));
	return expect(c, ']');
}

static bool read_metadata(struct cursor *c, struct safetensors *out)
{
	if (out->field_count > 0)
		return refuse(c, "metadata twice");
	if (!expect(c, '{'))
		return false;
	if (next_is(c, '}'))
		return true;
	do {
		struct safetensors_field *field = &out->fields[out->field_count];

		if (out->field_count >= SAFETENSORS_FIELDS_MAX)
			return refuse(c, "too many metadata fields");
		if (!read_string(c, field->name, sizeof(field->name)) || !expect(c, ':') ||
		    !read_string(c, field->value, sizeof(field->value)))
			return false;
		if (safetensors_field(out, field->name) != NULL)
			return refuse(c, "metadata field twice");
		out->field_count++;
	} while (next_is(c, ','));
	return expect(c, '}');
}

/* What a tensor's object says. */
struct entry {
	uint64_t shape[2], offsets[2];
	uint32_t shape_count, offset_count;
	bool is_float;
	uint32_t seen; /* which keys, a bit each: none may be missing or come twice */
};

static bool read_entry(struct cursor *c, struct entry *entry)
{
	*entry = (struct entry){0};
	if (!expect(c, '{'))
		return false;
	do {
		char key[16], type[16];
		uint32_t bit;

		if (!read_string(c, key, sizeof(key)) || !expect(c, ':'))
			return false;
		if (strcmp(key, "dtype") == 0) {
			bit = 1;
			if (!read_string(c, type, sizeof(type)))
				return false;
			entry->is_float = strcmp(type, "F32") == 0;
		} else if (strcmp(key, "shape") == 0) {
			bit = 2;
			if (!read_list(c, entry->shape, 2, &entry->shape_count))
				return false;
		} else if (strcmp(key, "data_offsets") == 0) {
			bit = 4;
			if (!read_list(c, entry->offsets, 2, &entry->offset_count))
				return false;
		} else {
			return refuse(c, "unknown key of a tensor");
		}
		if (entry->seen & bit)
			return refuse(c, "key twice");
		entry->seen |= bit;
	} while (next_is(c, ','));
	if (entry->seen != 7)
		return refuse(c, "key missing");
	return expect(c, '}');
}

/* Tensors lie one behind the other, the first at 0. */
static bool add_tensor(
    struct cursor *c, const char *name, const struct entry *entry, struct safetensors *out)
{
	struct safetensors_tensor *tensor = &out->tensors[out->tensor_count];
	uint64_t rows = entry->shape_count == 2 ? entry->shape[0] : 1;
	uint64_t columns = entry->shape_count >= 1 ? entry->shape[entry->shape_count - 1] : 0;

	if (!entry->is_float)
		return refuse(c, "tensor type that is not F32");
	if (rows < 1 || columns < 1 || rows > SAFETENSORS_FILE_MAX / 4 / columns)
		return refuse(c, "impossible shape");
	if (entry->offset_count != 2 || entry->offsets[0] != c->data_end ||
	    entry->offsets[1] != c->data_end + rows * columns * 4 || entry->offsets[1] > c->data_bytes)
		return refuse(c, "impossible data offsets");
	if (out->tensor_count >= SAFETENSORS_TENSORS_MAX)
		return refuse(c, "too many tensors");
	if (safetensors_tensor(out, name) != NULL)
		return refuse(c, "tensor twice");
	snprintf(tensor->name, sizeof(tensor->name), "%s", name);
	tensor->rows = entry->shape_count == 2 ? rows : 0;
	tensor->columns = columns;
	tensor->data = (const float *)(const void *)(c->data + c->data_end);
	c->data_end = entry->offsets[1];
	out->tensor_count++;
	return true;
}

enum status header_parse(const char *text, size_t size, const char *data, uint64_t data_bytes,
    struct safetensors *out, struct cause *why)
{
	struct cursor c = {.text = text, .size = size, .data = data, .data_bytes = data_bytes};
	bool good = expect(&c, '{');

	out->field_count = 0;
	out->tensor_count = 0;
	while (good) {
		char name[SAFETENSORS_NAME_MAX];
		struct entry entry;

		good = read_string(&c, name, sizeof(name)) && expect(&c, ':');
		if (good && strcmp(name, "__metadata__") == 0)
			good = read_metadata(&c, out);
		else if (good)
			good = read_entry(&c, &entry) && add_tensor(&c, name, &entry, out);
		if (!good || !next_is(&c, ','))
			break;
	}
	good = good && expect(&c, '}');
	skip_space(&c);
	if (good && c.at != size)
		good = refuse(&c, "something behind the header");
	if (good && c.data_end != data_bytes)
		good = refuse(&c, "data that no tensor names");
	if (good)
		return STATUS_OK;
	cause_set(why, CAUSE_DATA, (int64_t)c.at, c.wrong, "header");
	return STATUS_BAD;
}
