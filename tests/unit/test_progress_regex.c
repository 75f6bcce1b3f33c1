/*
 * Patterns of the user's: what they find, what is wrong with them, and that none of them, on no line, takes long.
 */
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "supervisor/progress/lines.h"
#include "supervisor/progress/recogniser.h"

#define DEADLINE_S 30

static struct regex *compile(const char *text)
{
	struct regex *p = NULL;
	struct cause why = {0};

	if (regex_new(text, &p, &why) != STATUS_OK)
		fail_msg("%s: at %lld: %s", text, (long long)why.number, why.subject);
	return p;
}

static void finds_its_groups(void **unused)
{
	struct regex *p = compile(
	    "^it (?<step>\\d+)/\\d+ .*?(?:loss|perte) (?<loss>\\S+)(?: gn (?<grad_norm>\\S+))?"
	    "(?: lr (?<lr>\\S+))?(?: n (?<tokens>\\d+))?(?: t (?<time>[\\d.]+)s)?");
	const char *line = "it 12/100 | perte 0.5 gn 1e2 lr 3e-4 n 4096 t 1.5s";
	struct scan scan;

	(void)unused;
	assert_int_equal(regex_match(p, line, strlen(line), &scan), REGEX_YES);
	assert_int_equal(scan.values[SCAN_STEP].count, 12);
	assert_true(scan.values[SCAN_LOSS].number == 0.5);
	assert_true(scan.values[SCAN_GRAD_NORM].number == 100);
	assert_true(scan.values[SCAN_LEARNING_RATE].number == 3e-4);
	assert_int_equal(scan.values[SCAN_TOKENS].count, 4096);
	assert_true(scan.values[SCAN_TIME].number == 1.5);
	line = "it 13/100 | loss nan";
	assert_int_equal(regex_match(p, line, strlen(line), &scan), REGEX_YES);
	assert_true(scan.values[SCAN_LOSS].seen && isnan(scan.values[SCAN_LOSS].number));
	assert_false(scan.values[SCAN_GRAD_NORM].seen);
	line = "it x/100 | loss nan";
	assert_int_equal(regex_match(p, line, strlen(line), &scan), REGEX_NO);
	assert_int_equal(regex_match(p, "", 0, &scan), REGEX_NO);
	regex_free(p);
	/* One name in two places, and a step that is none. */
	p = compile("(?J)(?:a (?<step>\\S+)|b (?<step>\\S+))");
	assert_int_equal(regex_match(p, "b 7", 3, &scan), REGEX_YES);
	assert_int_equal(scan.values[SCAN_STEP].count, 7);
	assert_int_equal(regex_match(p, "a 7x", 4, &scan), REGEX_NO);
	assert_int_equal(regex_match(p, "a -7", 4, &scan), REGEX_NO);
	regex_free(p);
	/* Bytes that are no characters are no match, and no error. */
	p = compile("(*UTF)(?<step>\\d+)");
	assert_int_equal(regex_match(p, "\xff 7", 3, &scan), REGEX_NO);
	assert_int_equal(regex_match(p, "7", 1, &scan), REGEX_YES);
	regex_free(p);
}

static void says_what_is_wrong(void **unused)
{
	static const struct {
		const char *text, *word;
		int64_t offset;
	} wrong[] = {{"step (?<step>\\d+", "parenthesis", 16}, {"(?<step>[z-a])", "range", 11},
	    {"loss (?<loss>\\S+)", "named step", 17}, {"", "named step", 0},
	    {"(?<step>\\d+) (?<los>\\S+)", "'los'", 16}, {"(?<step>\\d+)\\C", "\\C", 14},
	    {"(?<step>(((a{1000}){1000}){1000}))", "too large", 34}};
	struct regex *p = NULL;
	struct cause why;

	(void)unused;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		assert_int_equal(regex_new(wrong[i].text, &p, &why), STATUS_REFUSED);
		assert_null(p);
		if (strstr(why.subject, wrong[i].word) == NULL || why.number != wrong[i].offset ||
		    strchr(why.subject, '\n') != NULL)
			fail_msg("%s: at %lld: %s", wrong[i].text, (long long)why.number, why.subject);
	}
	char *longest = malloc(10001);

	assert_non_null(longest);
	memset(longest, 'a', 10000);
	longest[10000] = '\0';
	assert_int_equal(regex_new(longest, &p, &why), STATUS_REFUSED);
	free(longest);
}

/* Patterns that try for ever, on lines that make them: each is given up, and the alarm does not ring. */
static void none_takes_long(void **unused)
{
	static const char *const patterns[] = {"(a+)+$(?<step>\\d)", "(?<step>\\d)?(a|aa)+$",
	    "(?<step>(a*)*b)", "(a|b|ab)*c(?<step>1)", "(?<step>(?:a?){50}a{50})$",
	    "(.*)(.*)(.*)(.*)(.*)(?<step>x)", "(?<step>1)|(?R)*a(?R)b", "(?<step>(x+x+)+y)",
	    "^(?<step>(([a-z])+.)+[A-Z])$", "(?=(a+))a*b\\1(?<step>1)", "(?<!a{1,200})(?<step>b)"};
	static char line[LINES_MAX];
	unsigned limits = 0;
	struct scan scan;

	(void)unused;
	alarm(DEADLINE_S);
	for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
		struct regex *p = NULL;
		struct cause why;

		if (regex_new(patterns[i], &p, &why) != STATUS_OK)
			continue;
		for (unsigned kind = 0; kind < 3; kind++) {
			memset(line, kind == 1 ? 'x' : 'a', sizeof(line));
			for (size_t at = 1; kind == 2 && at < sizeof(line); at += 2)
				line[at] = 'b';
			line[sizeof(line) - 1] = '!';
			line[REGEX_LINE_MAX - 1] = '!';
			limits += regex_match(p, line, sizeof(line), &scan) == REGEX_LIMIT;
		}
		regex_free(p);
	}
	alarm(0);
	/* Half a million steps are not too many to take, and too many to take for one line. */
	struct regex *p = compile("(.*)(.*)(?<step>[xy])$");

	memset(line, 'a', 1000);
	assert_int_equal(regex_match(p, line, 1000, &scan), REGEX_LIMIT);
	regex_free(p);
	printf("%u matches were given up\n", limits);
	assert_true(limits >= 5);
}

static void a_line_is_looked_at_so_far(void **unused)
{
	static char line[LINES_MAX];
	struct regex *p = compile("step (?<step>\\d)");
	struct scan scan;

	(void)unused;
	memset(line, 'b', sizeof(line));
	memcpy(line + REGEX_LINE_MAX - 6, "step 7", 6);
	assert_int_equal(regex_match(p, line, sizeof(line), &scan), REGEX_YES);
	memset(line, 'b', REGEX_LINE_MAX);
	memcpy(line + REGEX_LINE_MAX - 5, "step 7", 6);
	assert_int_equal(regex_match(p, line, sizeof(line), &scan), REGEX_NO);
	regex_free(p);
}

/* The recogniser counts what is given up, and goes on. */
static void a_limit_is_counted(void **unused)
{
	static char line[LINES_MAX];
	struct regex *p = compile("^(a+)+$|^step (?<step>\\d+) loss (?<loss>\\S+)");
	static struct recogniser r;
	struct sighting out[RECOGNISER_OUT];

	(void)unused;
	recogniser_init(&r, p, STEP_NONE);
	assert_int_equal(recogniser_format(&r), PROGRESS_PATTERN);
	memset(line, 'a', sizeof(line));
	line[100] = '!';
	assert_int_equal(recogniser_line(&r, line, 200, out), 0);
	assert_int_equal(r.limit_count, 1);
	assert_int_equal(recogniser_line(&r, "step 5 loss -inf", 16, out), 1);
	assert_int_equal(out[0].step, 5);
	assert_true(isinf(out[0].loss));
	/* Colours are not in the way. */
	assert_int_equal(recogniser_line(&r, "\033[1mstep \033[32m6\033[0m loss 1", 26, out), 1);
	assert_int_equal(recogniser_line(&r, "step 6 loss 1", 13, out), 0);
	assert_int_equal(r.limit_count, 1);
	regex_free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(finds_its_groups),
	    cmocka_unit_test(says_what_is_wrong),
	    cmocka_unit_test(none_takes_long),
	    cmocka_unit_test(a_line_is_looked_at_so_far),
	    cmocka_unit_test(a_limit_is_counted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
