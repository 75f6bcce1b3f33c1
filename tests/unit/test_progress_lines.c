/*
 * Lines out of bytes: the same however the bytes are torn into pieces, none longer than is kept, and none that takes
 * long to find.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "supervisor/progress/lines.h"
#include "tests/unit/samples.h"

#define TEXT_MAX (256u << 10)

/* All lines, each behind its length. */
struct got {
	char bytes[2 * TEXT_MAX];
	size_t length, count;
};

static void take(void *context, const char *line, size_t length)
{
	struct got *got = context;
	uint32_t size = (uint32_t)length;

	assert_true(length > 0 && length <= LINES_MAX);
	assert_true(got->length + length + sizeof(size) <= sizeof(got->bytes));
	memcpy(got->bytes + got->length, &size, sizeof(size));
	memcpy(got->bytes + got->length + sizeof(size), line, length);
	got->length += length + sizeof(size);
	got->count++;
}

static void feed_whole(const char *text, size_t length, struct got *got, uint64_t *cut)
{
	static struct lines l;

	got->length = got->count = 0;
	lines_init(&l);
	lines_feed(&l, text, length, take, got);
	lines_end(&l, take, got);
	*cut = l.cut_count;
}

static void expect(const char *text, size_t length, const char *const lines[])
{
	static struct got got;
	size_t at = 0;
	uint64_t cut;

	feed_whole(text, length, &got, &cut);
	for (size_t i = 0; lines[i] != NULL; i++) {
		uint32_t size;

		assert_true(at < got.length);
		memcpy(&size, got.bytes + at, sizeof(size));
		assert_int_equal(size, strlen(lines[i]));
		assert_memory_equal(got.bytes + at + sizeof(size), lines[i], size);
		at += sizeof(size) + size;
	}
	assert_int_equal(at, got.length);
	assert_int_equal(cut, 0);
}

static void ends_of_lines(void **unused)
{
	const char *const none[] = {NULL};

	(void)unused;
	expect("", 0, none);
	expect("\n\r\n\n", 4, none);
	expect("a\nb", 3, (const char *const[]){"a", "b", NULL});
	expect("a\r\nb\r\n", 6, (const char *const[]){"a", "b", NULL});
	expect("\r 1%|\r 2%|\r\n", 12, (const char *const[]){" 1%|", " 2%|", NULL});
	expect("a\rb\nc\rd\n", 8, (const char *const[]){"a", "b", "c", "d", NULL});
}

static void long_lines_are_cut_and_counted(void **unused)
{
	static char text[2 * LINES_MAX + 64];
	static struct got got;
	uint64_t cut;
	uint32_t size;

	(void)unused;
	memset(text, 'x', sizeof(text));
	text[LINES_MAX] = '\n';         /* as long as may be */
	text[2 * LINES_MAX + 2] = '\n'; /* one byte too long */
	feed_whole(text, sizeof(text), &got, &cut);
	assert_int_equal(got.count, 3);
	assert_int_equal(cut, 1);
	memcpy(&size, got.bytes, sizeof(size));
	assert_int_equal(size, LINES_MAX);
	memcpy(&size, got.bytes + LINES_MAX + sizeof(size), sizeof(size));
	assert_int_equal(size, LINES_MAX);
}

/* Random bytes, with ends of lines as often as in text, in bars and in none. */
static size_t make_text(uint64_t *seed, char text[TEXT_MAX])
{
	static const unsigned ends[] = {4, 40, 400, 40000};
	size_t length = sample_random(seed) % TEXT_MAX;
	unsigned every = ends[sample_random(seed) % 4];

	for (size_t i = 0; i < length; i++) {
		uint64_t dice = sample_random(seed);

		text[i] = dice % every == 0 ? (dice >> 40 & 1 ? '\n' : '\r') : (char)(dice >> 20);
	}
	return length;
}

static void however_it_is_torn(void **unused)
{
	static char text[TEXT_MAX];
	static struct got whole, torn;
	static struct lines l;
	uint64_t seed = sample_seed(11), cut;

	(void)unused;
	for (unsigned round = 0; round < 200; round++) {
		size_t length = make_text(&seed, text);
		size_t piece_max = 1 + sample_random(&seed) % (round % 4 == 0 ? 3 : 70000);

		feed_whole(text, length, &whole, &cut);
		torn.length = torn.count = 0;
		lines_init(&l);
		for (size_t at = 0; at < length;) {
			size_t piece = 1 + sample_random(&seed) % piece_max;

			if (piece > length - at)
				piece = length - at;
			lines_feed(&l, text + at, piece, take, &torn);
			at += piece;
		}
		lines_end(&l, take, &torn);
		assert_int_equal(torn.length, whole.length);
		assert_memory_equal(torn.bytes, whole.bytes, whole.length);
		assert_int_equal(l.cut_count, cut);
	}
}

static void count(void *context, const char *line, size_t length)
{
	(void)line;
	*(size_t *)context += length;
}

/* Whoever looks for every end anew in all that is left takes minutes for this: the test's time limit tells. */
static void many_ends_of_one_kind(void **unused)
{
	static char text[4u << 20];
	static struct lines l;
	size_t bytes = 0;

	(void)unused;
	for (int kind = 0; kind < 2; kind++) {
		for (size_t i = 0; i < sizeof(text); i++)
			text[i] = i % 2 ? (kind ? '\r' : '\n') : 'x';
		lines_init(&l);
		for (unsigned i = 0; i < 8; i++)
			lines_feed(&l, text, sizeof(text), count, &bytes);
	}
	assert_int_equal(bytes, 16 * sizeof(text) / 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(ends_of_lines),
	    cmocka_unit_test(long_lines_are_cut_and_counted),
	    cmocka_unit_test(however_it_is_torn),
	    cmocka_unit_test(many_ends_of_one_kind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
