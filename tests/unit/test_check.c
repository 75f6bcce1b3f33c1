/*
 * check_record() takes every valid record, and refuses every truncation and every wrong count, so that what it
 * took may be used without a further look (H10).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "journal/check.h"
#include "tests/unit/samples.h"

static uint64_t seed;

static void *copy_of(const void *bytes, size_t size)
{
	void *copy = malloc(size != 0 ? size : 1);

	assert_non_null(copy);
	memcpy(copy, bytes, size);
	return copy;
}

static void refuse(
    const void *bytes, size_t size, enum status expected, const char *what, uint64_t value)
{
	struct cause why = {0};
	enum status status = check_record(bytes, size, &why);

	if (status != expected)
		fail_msg("%s %llu of %s: status %d, not %d", what, (unsigned long long)value,
		    check_kind_name(((const struct record *)bytes)->kind), status, expected);
	assert_int_equal(why.domain, CAUSE_DATA);
}

static void takes_every_kind(void **state)
{
	(void)state;
	for (const uint16_t *kind = sample_kinds; *kind != 0; kind++) {
		for (int i = 0; i < 20; i++) {
			struct record *r = sample_record(*kind, &seed);
			struct cause why = {0};
			enum status status = check_record(r, r->size_bytes, &why);
			if (status != STATUS_OK)
				fail_msg("%s: status %d, %s at %lld", check_kind_name(*kind),
				    status, why.subject, (long long)why.number);
			free(r);
		}
	}
}

/* Every shorter length, as it stands and with a head that claims it, in a block of exactly that length. */
static void refuses_truncations(void **state)
{
	(void)state;
	for (const uint16_t *kind = sample_kinds; *kind != 0; kind++) {
		struct record *r = sample_record(*kind, &seed);
		for (uint32_t size = 0; size < r->size_bytes; size++) {
			struct record *cut = copy_of(r, size);
			assert_int_equal(check_record(cut, size, NULL), STATUS_BAD);
			if (size >= sizeof(*r)) {
				cut->size_bytes = size;
				refuse(cut, size, STATUS_BAD, "length", size);
			}
			free(cut);
		}
		free(r);
	}
}

static void refuses_longer_ones(void **state)
{
	(void)state;
	for (const uint16_t *kind = sample_kinds; *kind != 0; kind++) {
		struct record *r = sample_record(*kind, &seed);
		for (uint32_t more = 1; more <= 64; more++) {
			uint32_t size = r->size_bytes + more;
			struct record *longer = calloc(1, size);
			assert_non_null(longer);
			memcpy(longer, r, r->size_bytes);
			refuse(longer, size, STATUS_BAD, "unclaimed length", size);
			longer->size_bytes = size;
			refuse(longer, size, STATUS_BAD, "length", size);
			free(longer);
		}
		free(r);
	}
}

/* slack: values this near the right one only reach into the padding, which no count can tell. */
static void wrong_count(uint16_t kind, size_t offset, uint32_t slack)
{
	static const uint32_t others[] = {0, 7, 64, 4096, 4097, RANKS_MAX, RANKS_MAX + 1,
	    RECORD_SIZE_MAX, RECORD_SIZE_MAX + 1, INT32_MAX, 0x80000000u, UINT32_MAX - 8, UINT32_MAX};
	struct record *r = sample_record(kind, &seed);
	uint32_t right, value;

	memcpy(&right, (uint8_t *)r + offset, 4);
	for (uint32_t i = 0; i < 64 + sizeof(others) / sizeof(others[0]); i++) {
		value = i < 64 ? right - 32 + i : others[i - 64];
		if (value == right || (value > right ? value - right : right - value) <= slack)
			continue;
		memcpy((uint8_t *)r + offset, &value, 4);
		refuse(r, r->size_bytes, STATUS_BAD, "count", value);
	}
	free(r);
}

static void refuses_wrong_counts(void **state)
{
	(void)state;
	wrong_count(RECORD_RUN, offsetof(struct record_run, argument_count), 0);
	wrong_count(RECORD_RUN, offsetof(struct record_run, text_bytes), 0);
	wrong_count(RECORD_AGENT, offsetof(struct record_agent, rank_count), 0);
	wrong_count(RECORD_STEP, offsetof(struct record_step, rank_count), 0);
	wrong_count(RECORD_STEP, offsetof(struct record_step, present_count), 0);
	wrong_count(RECORD_SAVED, offsetof(struct record_saved, text_bytes), 0);
	wrong_count(RECORD_RUNG, offsetof(struct record_rung, text_bytes), 0);
	wrong_count(RECORD_KEPT, offsetof(struct record_kept, text_bytes), 0);
	wrong_count(RECORD_EVIDENCE, offsetof(struct record_evidence, text_bytes), 7);
}

static void refuses_numbers_out_of_range(void **state)
{
	struct record *r;

	(void)state;
	r = sample_record(RECORD_RUN, &seed);
	for (int i = 0; i < 2; i++) {
		((struct record_run *)r)->rank_count = i == 0 ? 0 : RANKS_MAX + 1;
		refuse(r, r->size_bytes, STATUS_BAD, "ranks", 0);
		((struct record_run *)r)->rank_count = 3;
		((struct record_run *)r)->node_count = i == 0 ? 0 : 4;
		refuse(r, r->size_bytes, STATUS_BAD, "nodes", 0);
		((struct record_run *)r)->node_count = 1;
	}
	assert_int_equal(check_record(r, r->size_bytes, NULL), STATUS_OK);
	free(r);
	r = sample_record(RECORD_EVIDENCE, &seed);
	((struct record_evidence *)r)->raw_bytes = RECORD_SIZE_MAX + 1;
	refuse(r, r->size_bytes, STATUS_BAD, "raw", 0);
	free(r);
	r = sample_record(RECORD_EXIT, &seed);
	((struct record_exit *)r)->rank = RANKS_MAX;
	refuse(r, r->size_bytes, STATUS_BAD, "rank", RANKS_MAX);
	((struct record_exit *)r)->rank = RANK_NONE;
	assert_int_equal(check_record(r, r->size_bytes, NULL), STATUS_OK);
	free(r);
	r = sample_record(RECORD_AGENT, &seed);
	((struct agent_rank *)((struct record_agent *)r + 1))[2].rank = RANKS_MAX;
	refuse(r, r->size_bytes, STATUS_BAD, "rank", RANKS_MAX);
	free(r);
}

/* Each NUL of a text replaced, and one put into the middle of a path. */
static void refuses_broken_texts(void **state)
{
	static const uint16_t kinds[] = {RECORD_RUN, RECORD_SAVED, RECORD_RUNG, RECORD_KEPT};

	(void)state;
	for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
		struct record *r = sample_record(kinds[k], &seed);
		char *text = (char *)r + check_fixed_size(kinds[k]);
		uint32_t size = kinds[k] == RECORD_RUN ? ((struct record_run *)r)->text_bytes
						       : ((uint32_t *)text)[-1];
		for (uint32_t i = 0; i < size; i++) {
			char was = text[i];
			text[i] = was == '\0' ? 'x' : '\0';
			refuse(r, r->size_bytes, STATUS_BAD, "text byte", i);
			text[i] = was;
		}
		assert_int_equal(check_record(r, r->size_bytes, NULL), STATUS_OK);
		/* As many NULs as there should be, but none at the end. */
		text[2] = '\0';
		text[size - 1] = 'x';
		refuse(r, r->size_bytes, STATUS_BAD, "open end", size);
		free(r);
	}
}

static void refuses_unknown_kinds_and_versions(void **state)
{
	struct record *r = sample_record(RECORD_GAP, &seed);
	struct cause why;

	(void)state;
	for (uint32_t kind = 0; kind <= UINT16_MAX; kind++) {
		bool known = false;
		for (const uint16_t *k = sample_kinds; *k != 0; k++)
			known |= *k == kind;
		assert_int_equal(check_fixed_size(kind) != 0, known);
		assert_int_equal(strcmp(check_kind_name(kind), "?") != 0, known);
		r->kind = (uint16_t)kind;
		if (!known) {
			assert_int_equal(check_record(r, r->size_bytes, &why), STATUS_REFUSED);
			assert_int_equal(why.number, kind);
		}
	}
	r->kind = RECORD_GAP;
	for (uint32_t version = 0; version <= UINT16_MAX; version++) {
		r->version = (uint16_t)version;
		if (version == 1)
			continue;
		assert_int_equal(check_record(r, r->size_bytes, &why), STATUS_REFUSED);
		assert_int_equal(why.number, version);
	}
	free(r);
}

static void has_words(void **state)
{
	(void)state;
	for (const uint16_t *a = sample_kinds; *a != 0; a++) {
		for (const uint16_t *b = sample_kinds; b < a; b++)
			assert_string_not_equal(check_kind_name(*a), check_kind_name(*b));
	}
	for (uint32_t i = 0; i < FAULT_COUNT; i++)
		assert_string_not_equal(check_fault_name(i), "?");
	assert_string_equal(check_fault_name(FAULT_COUNT), "?");
	for (uint32_t i = 0; i < PHASE_COUNT; i++)
		assert_string_not_equal(check_phase_name(i), "?");
	assert_string_equal(check_phase_name(PHASE_COUNT), "?");
	for (uint32_t i = 0; i <= STANDING_BAD; i++)
		assert_string_not_equal(check_standing_name(i), "?");
	assert_string_equal(check_standing_name(UINT32_MAX), "?");
	for (uint32_t i = END_DONE; i <= END_STUCK; i++)
		assert_string_not_equal(check_end_name(i), "?");
	assert_string_equal(check_end_name(0), "?");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(takes_every_kind),
	    cmocka_unit_test(refuses_truncations),
	    cmocka_unit_test(refuses_longer_ones),
	    cmocka_unit_test(refuses_wrong_counts),
	    cmocka_unit_test(refuses_numbers_out_of_range),
	    cmocka_unit_test(refuses_broken_texts),
	    cmocka_unit_test(refuses_unknown_kinds_and_versions),
	    cmocka_unit_test(has_words),
	};

	seed = sample_seed(1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
