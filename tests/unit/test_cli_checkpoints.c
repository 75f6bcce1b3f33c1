/*
 * What is typed about the ladder on files: patterns that cannot be are refused, relative ones mean the directory the
 * run was started from, sizes are in units of 1024, and words are split as a shell does it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "journal/record.h"
#include "supervisor/cli/checkpoints.h"

static void test_patterns(void **unused)
{
	static char long_path[RECORD_TEXT_MAX + 1];

	(void)unused;
	memset(long_path, 'a', RECORD_TEXT_MAX);
	assert_null(checkpoints_pattern_fault("ckpt.pt"));
	assert_null(checkpoints_pattern_fault("/out/checkpoint-{step}/model.pt"));
	assert_non_null(checkpoints_pattern_fault(""));
	assert_non_null(checkpoints_pattern_fault("/"));
	assert_non_null(checkpoints_pattern_fault("{step}/{step}.pt"));
	assert_non_null(checkpoints_pattern_fault(long_path));
	long_path[RECORD_TEXT_MAX - 1] = '\0';
	assert_null(checkpoints_pattern_fault(long_path));
}

static void expect_absolute(const char *text, const char *path)
{
	char *found = checkpoints_absolute(text, "/home/me");

	assert_non_null(found);
	assert_string_equal(found, path);
	free(found);
}

static void test_absolute(void **unused)
{
	static char long_path[RECORD_TEXT_MAX];

	(void)unused;
	expect_absolute("ckpt.pt", "/home/me/ckpt.pt");
	expect_absolute("./out//ckpt.pt", "/home/me/out//ckpt.pt");
	expect_absolute(".//out/", "/home/me/out");
	expect_absolute("/abs/c-{step}/", "/abs/c-{step}");
	expect_absolute("../c", "/home/me/../c");
	memset(long_path, 'a', RECORD_TEXT_MAX - 1);
	assert_null(checkpoints_absolute(long_path, "/home/me"));
}

static void test_modes(void **unused)
{
	(void)unused;
	assert_true(checkpoints_is_mode("auto"));
	assert_true(checkpoints_is_mode("inplace"));
	assert_false(checkpoints_is_mode(""));
	assert_false(checkpoints_is_mode("aut"));
	assert_false(checkpoints_is_mode("Auto"));
}

static void test_sizes(void **unused)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} good[] = {{"1", 1}, {"1048576", 1048576}, {"1k", 1024}, {"2K", 2048}, {"500M", 524288000},
	    {"20G", 21474836480}, {"20GiB", 21474836480}, {"20GB", 21474836480}, {"1.5M", 1572864},
	    {"1P", 1125899906842624}};
	static const char *const bad[] = {"", "0", "-1", " 1", "M", "1X", "1MM", "1M ", "nan",
	    "inf", "0x10", "1e", "99999999999999P", "1iM"};
	uint64_t bytes = 7;

	(void)unused;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_true(checkpoints_size(good[i].text, &bytes));
		assert_int_equal(bytes, good[i].bytes);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		bytes = 7;
		if (checkpoints_size(bad[i], &bytes) || bytes != 7)
			fail_msg("'%s' was taken for a size", bad[i]);
	}
}

static void expect_words(const char *text, const char *const words[])
{
	char **found = checkpoints_words(text);

	assert_non_null(found);
	for (size_t i = 0; words[i] != NULL; i++) {
		assert_non_null(found[i]);
		assert_string_equal(found[i], words[i]);
	}
	for (size_t i = 0;; i++)
		if (words[i] == NULL) {
			assert_null(found[i]);
			break;
		}
	free(found);
}

static void test_words(void **unused)
{
	static const char *const bad[] = {"", "  ", "'a", "\"a b", "a\\", "a 'b' \"c"};

	(void)unused;
	expect_words("--init_from=resume", (const char *const[]){"--init_from=resume", NULL});
	expect_words("  a\tb  c ", (const char *const[]){"a", "b", "c", NULL});
	expect_words("'a b' \"c d\"e f\\ g", (const char *const[]){"a b", "c de", "f g", NULL});
	expect_words("'' \"\"", (const char *const[]){"", "", NULL});
	expect_words("'\\' \"\\\"\" '\"' \"'\"", (const char *const[]){"\\", "\"", "\"", "'", NULL});
	expect_words("--from {checkpoint} --step={step}",
	    (const char *const[]){"--from", "{checkpoint}", "--step={step}", NULL});
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (checkpoints_words(bad[i]) != NULL)
			fail_msg("<%s> was split into words", bad[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_patterns),
	    cmocka_unit_test(test_absolute),
	    cmocka_unit_test(test_modes),
	    cmocka_unit_test(test_sizes),
	    cmocka_unit_test(test_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
