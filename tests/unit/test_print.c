/*
 * The schema leaves no byte of a record out, holdfast-journal(5) says what the structs say, and the JSON of every
 * kind holds every field with its value.
 *
 * HOLDFAST_MAN_JOURNAL names the page.  With the argument "page" the program prints the page's tables as they
 * should be, to be put into it.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "journal/check.h"
#include "journal/print.h"
#include "journal/schema.h"
#include "tests/unit/samples.h"

static uint64_t seed;
static struct cause why;

static const char *type_name(const struct schema_field *field)
{
	static const char *const names[] = {
	    [SCHEMA_U16] = "u16",
	    [SCHEMA_U32] = "u32",
	    [SCHEMA_I32] = "i32",
	    [SCHEMA_U64] = "u64",
	    [SCHEMA_I64] = "i64",
	    [SCHEMA_F32] = "f32",
	    [SCHEMA_F64] = "f64",
	    [SCHEMA_CHAR] = "char",
	    [SCHEMA_BYTES] = "u8",
	    [SCHEMA_CONFIG] = "policy",
	    [SCHEMA_HEAD] = "head",
	};

	return names[field->type];
}

/* One row of a table of the page: ".It 48 u32 rank", with the count behind an array's type. */
static void table_row(const struct schema_field *field, char *out, size_t size)
{
	size_t count = field->size_bytes / schema_element_size(field->type);

	if (count > 1)
		snprintf(out, size, ".It Li %u Ta %s[%zu] Ta %s", field->offset, type_name(field),
		    count, field->name);
	else
		snprintf(out, size, ".It Li %u Ta %s Ta %s", field->offset, type_name(field),
		    field->name);
}

static void covers(const char *name, const struct schema_field *field, size_t size)
{
	size_t at = 0;

	for (; field->type != SCHEMA_END; field++) {
		if (field->offset != at)
			fail_msg("%s: %s at %u, not %zu", name, field->name, field->offset, at);
		assert_int_equal(field->size_bytes % schema_element_size(field->type), 0);
		at += field->size_bytes;
	}
	if (at != size)
		fail_msg("%s: fields end at %zu, the struct at %zu", name, at, size);
}

static void leaves_nothing_out(void **state)
{
	(void)state;
	covers("head", schema_head, sizeof(struct record));
	covers("config", schema_config, sizeof(struct policy_config));
	covers("agent_rank", schema_agent_rank, sizeof(struct agent_rank));
	covers("rank_cell", schema_rank_cell, sizeof(struct rank_cell));
	for (uint32_t kind = 0; kind <= UINT16_MAX; kind++) {
		assert_int_equal(schema_of(kind) != NULL, check_fixed_size(kind) != 0);
		if (schema_of(kind) != NULL)
			covers(check_kind_name(kind), schema_of(kind), check_fixed_size(kind));
	}
}

/* A page's table of one struct, between the line that opens it and .El, must be `field`s rows and no more. */
static void page_has(const char *page, const char *name, const struct schema_field *field)
{
	char opening[128], row[128];
	const char *at;

	snprintf(opening, sizeof(opening), "\n.\\\" table %s\n", name);
	at = strstr(page, opening);
	if (at == NULL)
		fail_msg("the page has no table of %s", name);
	for (; field->type != SCHEMA_END; field++) {
		table_row(field, row, sizeof(row));
		at = strstr(at + 1, "\n.It Li ");
		if (at == NULL || strncmp(at + 1, row, strlen(row)) != 0 ||
		    (at[1 + strlen(row)] != ' ' && at[1 + strlen(row)] != '\n'))
			fail_msg("the page's table of %s has \"%.60s\", not \"%s\"", name,
			    at != NULL ? at + 1 : "", row);
	}
	at = strchr(at + 1, '\n');
	while (at != NULL && strncmp(at, "\n.El", 4) != 0) {
		if (strncmp(at, "\n.It", 4) == 0)
			fail_msg("the page's table of %s has a row too many", name);
		at = strchr(at + 1, '\n');
	}
	assert_non_null(at);
}

static void page_tells_the_truth(void **state)
{
	const char *path = getenv("HOLDFAST_MAN_JOURNAL");
	char *page, line[128];
	size_t size;

	(void)state;
	if (path == NULL) {
		print_message("skipped: HOLDFAST_MAN_JOURNAL names no page\n");
		skip();
	}
	page = sample_read("/", path, &size);
	page_has(page, "head", schema_head);
	page_has(page, "policy", schema_config);
	page_has(page, "agent_rank", schema_agent_rank);
	page_has(page, "rank_cell", schema_rank_cell);
	for (const uint16_t *kind = sample_kinds; *kind != 0; kind++) {
		snprintf(line, sizeof(line), "\n.Ss %u: %s, %zu bytes\n", *kind,
		    check_kind_name(*kind), check_fixed_size(*kind));
		if (strstr(page, line) == NULL)
			fail_msg("the page has no section \"%s\"", line);
		page_has(page, check_kind_name(*kind), schema_of(*kind) + 1);
	}
	free(page);
}

static json_t *printed(const struct record *r, unsigned flags)
{
	json_t *object = NULL;
	enum status status = print_record_json(r, flags, &object, &why);

	if (status != STATUS_OK)
		fail_msg("%s: status %d (%s %s)", check_kind_name(r->kind), status, why.step,
		    why.subject);
	return object;
}

/* Does the object hold each field that is not reserved? */
static void has_fields(const json_t *object, const struct schema_field *field)
{
	for (; field->type != SCHEMA_END; field++) {
		if (field->type == SCHEMA_HEAD)
			has_fields(object, schema_head);
		else if (field->type == SCHEMA_CONFIG)
			has_fields(json_object_get(object, field->name), schema_config);
		else if (json_object_get(object, field->name) == NULL &&
		    field->meaning != SCHEMA_RESERVED)
			fail_msg("no \"%s\"", field->name);
	}
}

static void prints_every_kind(void **state)
{
	(void)state;
	for (const uint16_t *kind = sample_kinds; *kind != 0; kind++) {
		for (int i = 0; i < 20; i++) {
			struct record *r = sample_record(*kind, &seed);
			json_t *object = printed(r, PRINT_CELLS | PRINT_EVIDENCE), *again;
			char *text = json_dumps(object, JSON_COMPACT);
			assert_non_null(text);
			again = json_loads(text, 0, NULL);
			if (again == NULL)
				fail_msg("%s: not JSON: %s", check_kind_name(*kind), text);
			assert_true(json_equal(object, again));
			has_fields(object, schema_of(*kind));
			assert_string_equal(json_string_value(json_object_get(object, "kind")),
			    check_kind_name(*kind));
			assert_int_equal(
			    json_integer_value(json_object_get(object, "time_ns")), r->time_ns);
			json_decref(object);
			json_decref(again);
			free(text);
			free(r);
		}
	}
}

static const char *text_of(const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));

	if (text == NULL)
		fail_msg("\"%s\" is no string", name);
	return text;
}

static void prints_what_follows(void **state)
{
	struct record *r;
	json_t *o;

	(void)state;
	r = sample_record(RECORD_RUN, &seed);
	o = printed(r, 0);
	assert_int_equal(json_array_size(json_object_get(o, "arguments")), 4);
	assert_string_equal(
	    json_string_value(json_array_get(json_object_get(o, "arguments"), 2)), "--name=a b");
	assert_string_equal(text_of(o, "directory"), "/home/user/run");
	assert_int_equal(strlen(text_of(o, "run_id")), 32);
	json_decref(o);
	free(r);
	r = sample_record(RECORD_AGENT, &seed);
	o = printed(r, 0);
	assert_int_equal(json_array_size(json_object_get(o, "ranks")), 3);
	json_decref(o);
	free(r);
	r = sample_record(RECORD_STEP, &seed);
	o = printed(r, 0);
	assert_null(json_object_get(o, "cells"));
	json_decref(o);
	o = printed(r, PRINT_CELLS);
	assert_int_equal(json_array_size(json_object_get(o, "cells")), 3);
	json_decref(o);
	free(r);
	r = sample_record(RECORD_RUNG, &seed);
	o = printed(r, 0);
	assert_string_equal(text_of(o, "path"), "/home/user/run/checkpoints/step-800.safetensors");
	json_decref(o);
	/* What is not UTF-8 in a path is replaced, not refused. */
	((char *)r)[sizeof(struct record_rung) + 3] = (char)0xff;
	((char *)r)[sizeof(struct record_rung) + 4] = (char)0xc3;
	o = printed(r, 0);
	assert_memory_equal(text_of(o, "path"), "/ho\xef\xbf\xbd\xef\xbf\xbd/user", 14);
	json_decref(o);
	free(r);
	r = sample_record(RECORD_KEPT, &seed);
	o = printed(r, 0);
	assert_string_equal(text_of(o, "kept"), "/run/checkpoints/000007-step-800/ckpt.pt");
	assert_string_equal(text_of(o, "original"), "/home/user/out/ckpt.pt");
	json_decref(o);
	free(r);
	r = sample_record(RECORD_EVIDENCE, &seed);
	o = printed(r, 0);
	assert_null(json_object_get(o, "text"));
	json_decref(o);
	o = printed(r, PRINT_EVIDENCE);
	assert_string_equal(text_of(o, "text"), "thread 1\n  0x1 main\n");
	json_decref(o);
	for (int delta = -1; delta <= 1; delta++) {
		enum status status;
		((struct record_evidence *)r)->raw_bytes += (uint32_t)delta;
		status = print_record_json(r, PRINT_EVIDENCE, &o, &why);
		assert_int_equal(status, delta == 0 ? STATUS_OK : STATUS_BAD);
		if (status == STATUS_OK)
			json_decref(o);
		((struct record_evidence *)r)->raw_bytes -= (uint32_t)delta;
	}
	for (uint32_t i = 0; i < ((struct record_evidence *)r)->text_bytes; i++) {
		/* A damaged frame may unpack to something else; it must not crash. */
		((uint8_t *)r)[sizeof(struct record_evidence) + i] ^= 0x55;
		if (print_record_json(r, PRINT_EVIDENCE, &o, &why) == STATUS_OK)
			json_decref(o);
		((uint8_t *)r)[sizeof(struct record_evidence) + i] ^= 0x55;
	}
	free(r);
	r = sample_record(RECORD_GAP, &seed);
	r->kind = 99;
	assert_int_equal(print_record_json(r, 0, &o, &why), STATUS_REFUSED);
	free(r);
}

static void prints_special_values(void **state)
{
	struct record_step *row = sample_step(2, 3, STEP_NONE);
	json_t *o, *flags;

	(void)state;
	row->loss = NAN;
	row->grad_norm = -INFINITY;
	row->learning_rate = INFINITY;
	row->tokens = UINT64_MAX;
	row->slowest_rank = RANK_NONE;
	row->digest = 0xfedcba9876543210u;
	row->flags = STEP_PARTIAL | STEP_AGAIN | 0x100;
	o = printed(&row->head, 0);
	assert_string_equal(text_of(o, "loss"), "nan");
	assert_string_equal(text_of(o, "grad_norm"), "-inf");
	assert_string_equal(text_of(o, "learning_rate"), "inf");
	assert_string_equal(text_of(o, "learning_rate_bits"), "7ff0000000000000");
	assert_string_equal(text_of(o, "tokens"), "18446744073709551615");
	assert_string_equal(text_of(o, "digest"), "fedcba9876543210");
	assert_true(json_is_null(json_object_get(o, "step")));
	assert_true(json_is_null(json_object_get(o, "slowest_rank")));
	flags = json_object_get(o, "flags");
	assert_int_equal(json_array_size(flags), 3);
	assert_string_equal(json_string_value(json_array_get(flags, 0)), "partial");
	assert_string_equal(json_string_value(json_array_get(flags, 1)), "again");
	assert_int_equal(json_integer_value(json_array_get(flags, 2)), 0x100);
	json_decref(o);
	free(row);
}

/* Every double comes back from its text with the bits it had, and its bits are there too. */
static void prints_doubles_exactly(void **state)
{
	struct record_step *row = sample_step(1, 1, 1);

	(void)state;
	for (int i = 0; i < 5000; i++) {
		uint64_t bits = sample_random(&seed), back;
		json_t *o, *again;
		char *text, hex[17];
		double value;

		if (i == 0)
			bits = 0x8000000000000000u; /* -0.0 */
		else if (i == 1)
			bits = 1; /* the smallest there is */
		memcpy(&row->loss, &bits, 8);
		o = printed(&row->head, 0);
		snprintf(hex, sizeof(hex), "%016llx", (unsigned long long)bits);
		assert_string_equal(text_of(o, "loss_bits"), hex);
		if (isfinite(row->loss)) {
			text = json_dumps(o, 0);
			again = json_loads(text, 0, NULL);
			value = json_real_value(json_object_get(again, "loss"));
			memcpy(&back, &value, 8);
			if (back != bits)
				fail_msg("%016llx became %016llx", (unsigned long long)bits,
				    (unsigned long long)back);
			json_decref(again);
			free(text);
		}
		json_decref(o);
	}
	free(row);
}

static void print_table(const char *title, const char *name, const struct schema_field *field)
{
	char row[128];

	printf("%s\n.\\\" table %s\n.Bl -column \"0000\" \"policy[00]\" \"backoff_first_ns\"\n",
	    title, name);
	for (; field->type != SCHEMA_END; field++) {
		table_row(field, row, sizeof(row));
		printf("%s\n", row);
	}
	printf(".El\n");
}

static int print_page(void)
{
	char title[128];

	print_table(".Ss The head", "head", schema_head);
	print_table(".Ss The policy's configuration", "policy", schema_config);
	print_table(".Ss A rank of an agent", "agent_rank", schema_agent_rank);
	print_table(".Ss A rank's cell of a step row", "rank_cell", schema_rank_cell);
	for (const uint16_t *kind = sample_kinds; *kind != 0; kind++) {
		snprintf(title, sizeof(title), ".Ss %u: %s, %zu bytes", *kind,
		    check_kind_name(*kind), check_fixed_size(*kind));
		print_table(title, check_kind_name(*kind), schema_of(*kind) + 1);
	}
	return 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(leaves_nothing_out),
	    cmocka_unit_test(page_tells_the_truth),
	    cmocka_unit_test(prints_every_kind),
	    cmocka_unit_test(prints_what_follows),
	    cmocka_unit_test(prints_special_values),
	    cmocka_unit_test(prints_doubles_exactly),
	};

	if (argc == 2 && strcmp(argv[1], "page") == 0)
		return print_page();
	seed = sample_seed(1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
