#include "journal/print.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <zstd.h>

#include "journal/check.h"
#include "journal/schema.h"

/* Of the doubles of a step row, whose bits a replayed step is compared by. */
static const struct {
	const char *name, *bits_name;
} BITS[] = {
    {"loss", "loss_bits"},
    {"grad_norm", "grad_norm_bits"},
    {"learning_rate", "learning_rate_bits"},
};

static enum status no_memory(struct cause *why)
{
	cause_set(why, CAUSE_ERRNO, ENOMEM, "print", "");
	return STATUS_SYS;
}

json_t *print_double(double value)
{
	if (isnan(value))
		return json_string("nan");
	if (isinf(value))
		return json_string(value > 0 ? "inf" : "-inf");
	return json_real(value);
}

/* Bytes of the UTF-8 sequence at text, or 0 when there is none. */
static size_t utf8_length(const uint8_t *text, size_t size)
{
	uint8_t lead = text[0];
	size_t length = lead < 0x80 ? 1
	    : lead < 0xc2           ? 0
	    : lead < 0xe0           ? 2
	    : lead < 0xf0           ? 3
	    : lead < 0xf5           ? 4
				    : 0;

	if (length == 0 || length > size || lead == 0)
		return 0;
	for (size_t i = 1; i < length; i++) {
		if ((text[i] & 0xc0) != 0x80)
			return 0;
	}
	/* Overlong forms, surrogates, and what lies beyond U+10FFFF. */
	if ((lead == 0xe0 && text[1] < 0xa0) || (lead == 0xed && text[1] > 0x9f) ||
	    (lead == 0xf0 && text[1] < 0x90) || (lead == 0xf4 && text[1] > 0x8f))
		return 0;
	return length;
}

json_t *print_text(const char *text, size_t size_bytes)
{
	static const char replacement[] = "\xef\xbf\xbd";
	const uint8_t *in = (const uint8_t *)text;
	char *clean = malloc(size_bytes * 3 + 1);
	size_t used = 0;
	json_t *out;

	if (clean == NULL)
		return NULL;
	for (size_t at = 0; at < size_bytes;) {
		size_t length = utf8_length(in + at, size_bytes - at);
		memcpy(clean + used, length != 0 ? text + at : replacement, length != 0 ? length : 3);
		used += length != 0 ? length : 3;
		at += length != 0 ? length : 1;
	}
	out = json_stringn_nocheck(clean, used);
	free(clean);
	return out;
}

static json_t *print_hex(const uint8_t *bytes, size_t size)
{
	static const char digits[] = "0123456789abcdef";
	char text[2 * 32];

	if (size > sizeof(text) / 2)
		size = sizeof(text) / 2;
	for (size_t i = 0; i < size; i++) {
		text[2 * i] = digits[bytes[i] >> 4];
		text[2 * i + 1] = digits[bytes[i] & 15];
	}
	return json_stringn_nocheck(text, 2 * size);
}

/* A number as the digits a person would write: the most significant first. */
static json_t *print_hex_number(uint64_t value)
{
	return json_sprintf("%016llx", (unsigned long long)value);
}

static json_t *print_unsigned(uint64_t value)
{
	if (value > INT64_MAX)
		return json_sprintf("%llu", (unsigned long long)value);
	return json_integer((json_int_t)value);
}

static json_t *print_flags(const struct schema_field *field, uint64_t value)
{
	json_t *words = json_array();
	uint64_t rest = value;

	if (words == NULL)
		return NULL;
	for (unsigned bit = 0; bit < field->word_count; bit++) {
		if (!(value & 1ull << bit))
			continue;
		rest &= ~(1ull << bit);
		if (json_array_append_new(words, json_string(field->words[bit])) != 0)
			goto fail;
	}
	if (rest != 0 && json_array_append_new(words, json_integer((json_int_t)rest)) != 0)
		goto fail;
	return words;
fail:
	json_decref(words);
	return NULL;
}

static json_t *print_number(const struct schema_field *field, uint64_t value)
{
	switch (field->meaning) {
	case SCHEMA_STEP:
		return value == STEP_NONE ? json_null() : print_unsigned(value);
	case SCHEMA_RANK:
		return value == RANK_NONE ? json_null() : print_unsigned(value);
	case SCHEMA_HEX:
		return print_hex_number(value);
	case SCHEMA_FLAGS:
		return print_flags(field, value);
	case SCHEMA_WORD:
		if (value < field->word_count && field->words[value] != NULL)
			return json_string(field->words[value]);
		return print_unsigned(value);
	default:
		return print_unsigned(value);
	}
}

static json_t *print_element(const struct schema_field *field, const uint8_t *at)
{
	union {
		uint16_t u16;
		uint32_t u32;
		int32_t i32;
		uint64_t u64;
		int64_t i64;
		float f32;
		double f64;
	} v = {.u64 = 0};

	memcpy(&v, at, schema_element_size(field->type));
	switch (field->type) {
	case SCHEMA_U16:
		return print_number(field, v.u16);
	case SCHEMA_U32:
		return print_number(field, v.u32);
	case SCHEMA_U64:
		return print_number(field, v.u64);
	case SCHEMA_I32:
		return json_integer(v.i32);
	case SCHEMA_I64:
		return json_integer(v.i64);
	case SCHEMA_F32:
		return print_double((double)v.f32);
	case SCHEMA_F64:
		return print_double(v.f64);
	case SCHEMA_CHAR:
		return print_text((const char *)at, 1);
	default:
		return NULL;
	}
}

static json_t *print_struct(const struct schema_field *fields, const uint8_t *base);

static json_t *print_field(const struct schema_field *field, const uint8_t *at)
{
	size_t element_bytes = schema_element_size(field->type);
	json_t *array;

	if (field->type == SCHEMA_BYTES)
		return print_hex(at, field->size_bytes);
	if (field->type == SCHEMA_CHAR && field->size_bytes > 1)
		return print_text((const char *)at, strnlen((const char *)at, field->size_bytes));
	if (field->type == SCHEMA_CONFIG)
		return print_struct(schema_config, at);
	if (field->size_bytes == element_bytes)
		return print_element(field, at);
	array = json_array();
	for (size_t i = 0; array != NULL && i < field->size_bytes; i += element_bytes) {
		if (json_array_append_new(array, print_element(field, at + i)) != 0) {
			json_decref(array);
			return NULL;
		}
	}
	return array;
}

/* Enter the fields of the struct at base into an object; false: memory. */
static bool add_fields(json_t *object, const struct schema_field *fields, const uint8_t *base)
{
	for (; fields->type != SCHEMA_END; fields++) {
		const uint8_t *at = base + fields->offset;
		if (fields->meaning == SCHEMA_RESERVED)
			continue;
		if (fields->type == SCHEMA_HEAD) {
			if (!add_fields(object, schema_head, at))
				return false;
		} else if (json_object_set_new(object, fields->name, print_field(fields, at)) != 0) {
			return false;
		}
	}
	return true;
}

static json_t *print_struct(const struct schema_field *fields, const uint8_t *base)
{
	json_t *object = json_object();

	if (object != NULL && !add_fields(object, fields, base)) {
		json_decref(object);
		return NULL;
	}
	return object;
}

static bool add_run(json_t *object, const struct record_run *run)
{
	const char *text = RECORD_TEXT(run, struct record_run);
	json_t *arguments = json_array();

	for (uint32_t i = 0; arguments != NULL && i < run->argument_count; i++) {
		if (json_array_append_new(arguments, print_text(text, strlen(text))) != 0) {
			json_decref(arguments);
			return false;
		}
		text += strlen(text) + 1;
	}
	return json_object_set_new(object, "arguments", arguments) == 0 &&
	    json_object_set_new(object, "directory", print_text(text, strlen(text))) == 0;
}

static bool add_items(json_t *object, const char *name, const struct schema_field *fields,
    const uint8_t *items, size_t count, size_t item_bytes)
{
	json_t *array = json_array();

	for (size_t i = 0; array != NULL && i < count; i++) {
		if (json_array_append_new(array, print_struct(fields, items + i * item_bytes)) != 0) {
			json_decref(array);
			return false;
		}
	}
	return json_object_set_new(object, name, array) == 0;
}

static bool add_step(json_t *object, const struct record_step *row, unsigned flags)
{
	double values[] = {row->loss, row->grad_norm, row->learning_rate};

	for (size_t i = 0; i < sizeof(BITS) / sizeof(BITS[0]); i++) {
		uint64_t bits;
		memcpy(&bits, &values[i], sizeof(bits));
		if (json_object_set_new(object, BITS[i].bits_name, print_hex_number(bits)) != 0)
			return false;
	}
	if (!(flags & PRINT_CELLS))
		return true;
	return add_items(object, "cells", schema_rank_cell, (const uint8_t *)(row + 1),
	    row->rank_count, sizeof(struct rank_cell));
}

static bool add_path(json_t *object, const char *path)
{
	return json_object_set_new(object, "path", print_text(path, strlen(path))) == 0;
}

/* Both paths behind a record_kept, the copy's and the original's. */
static bool add_paths(json_t *object, const char *kept)
{
	const char *original = kept + strlen(kept) + 1;

	return json_object_set_new(object, "kept", print_text(kept, strlen(kept))) == 0 &&
	    json_object_set_new(object, "original", print_text(original, strlen(original))) == 0;
}

static enum status add_evidence(
    json_t *object, const struct record_evidence *evidence, struct cause *why)
{
	char *text;
	size_t size;
	enum status status = print_evidence_text(evidence, &text, &size, why);

	if (status == STATUS_NONE)
		return json_object_set_new(object, "text", json_null()) == 0 ? STATUS_OK
									     : no_memory(why);
	if (status != STATUS_OK)
		return status;
	if (json_object_set_new(object, "text", print_text(text, size)) != 0)
		status = no_memory(why);
	free(text);
	return status;
}

enum status print_record_json(const struct record *r, unsigned flags, json_t **out, struct cause *why)
{
	const struct schema_field *fields = schema_of(r->kind);
	enum status status = STATUS_OK;
	json_t *object;
	bool fine = true;

	if (fields == NULL) {
		cause_set(why, CAUSE_DATA, r->kind, "print", "kind of record that is not known");
		return STATUS_REFUSED;
	}
	object = json_object();
	if (object == NULL)
		return no_memory(why);
	/* The kind as its word takes the place of its number, and leads the object. */
	fine = json_object_set_new(object, "kind", json_string(check_kind_name(r->kind))) == 0 &&
	    add_fields(object, fields, (const uint8_t *)r) &&
	    json_object_set_new(object, "kind", json_string(check_kind_name(r->kind))) == 0;
	if (fine && r->kind == RECORD_RUN)
		fine = add_run(object, (const struct record_run *)r);
	else if (fine && r->kind == RECORD_AGENT)
		fine = add_items(object, "ranks", schema_agent_rank,
		    (const uint8_t *)((const struct record_agent *)r + 1),
		    ((const struct record_agent *)r)->rank_count, sizeof(struct agent_rank));
	else if (fine && r->kind == RECORD_STEP)
		fine = add_step(object, (const struct record_step *)r, flags);
	else if (fine && r->kind == RECORD_SAVED)
		fine = add_path(object, RECORD_TEXT(r, struct record_saved));
	else if (fine && r->kind == RECORD_RUNG)
		fine = add_path(object, RECORD_TEXT(r, struct record_rung));
	else if (fine && r->kind == RECORD_KEPT)
		fine = add_paths(object, RECORD_TEXT(r, struct record_kept));
	else if (fine && r->kind == RECORD_EVIDENCE && (flags & PRINT_EVIDENCE))
		status = add_evidence(object, (const struct record_evidence *)r, why);
	if (!fine)
		status = no_memory(why);
	if (status != STATUS_OK) {
		json_decref(object);
		return status;
	}
	*out = object;
	return STATUS_OK;
}

enum status print_evidence_text(
    const struct record_evidence *evidence, char **out, size_t *size_out, struct cause *why)
{
	char *text;
	size_t size;

	if (evidence->text_bytes == 0)
		return STATUS_NONE;
	text = malloc((size_t)evidence->raw_bytes + 1);
	if (text == NULL)
		return no_memory(why);
	size = ZSTD_decompress(text, evidence->raw_bytes,
	    RECORD_TEXT(evidence, struct record_evidence), evidence->text_bytes);
	if (ZSTD_isError(size) || size != evidence->raw_bytes) {
		free(text);
		cause_set(why, CAUSE_DATA, (int64_t)evidence->head.seq, "unpack", "evidence");
		return STATUS_BAD;
	}
	text[size] = '\0';
	*out = text;
	*size_out = size;
	return STATUS_OK;
}
