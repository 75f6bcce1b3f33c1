/*
 * Durations and counts as people type them: what each means, and that nothing else is taken for one.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "supervisor/cli/duration.h"

#define UNTOUCHED 12345u

static void test_durations(void **state)
{
	static const struct {
		const char *text;
		uint64_t ns;
	} good[] = {
	    {"1ms", 1000000ull},
	    {"250ms", 250000000ull},
	    {"2s", 2000000000ull},
	    {"2", 2000000000ull},
	    {"0.5s", 500000000ull},
	    {"1.5m", 90000000000ull},
	    {"10min", 600000000000ull},
	    {"1h", 3600000000000ull},
	    {"0.001", 1000000ull},
	    {"366d", 366ull * 86400 * 1000000000ull},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		uint64_t ns = UNTOUCHED;

		if (!duration_parse(good[i].text, &ns) || ns != good[i].ns)
			fail_msg("%s: %llu, not %llu", good[i].text, (unsigned long long)ns,
			    (unsigned long long)good[i].ns);
	}
}

static void test_no_durations(void **state)
{
	static const char *const bad[] = {"", " ", "s", "ms", "-1s", "+1s", " 1s", "1 s", "1s ",
	    "1x", "1ss", "1ms2", "1h30m", "0", "0s", "0.5ms", "0.0001s", "nan", "inf", "infinity",
	    "0x10s", "0x1p3", "1e400", "367d", "1e12h", "99999999999999999999999s", "1,5s", "1S",
	    ".5s", "..5s", "1..5s", "\xc2\xbds"};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		uint64_t ns = UNTOUCHED;

		if (duration_parse(bad[i], &ns))
			fail_msg("'%s' was taken for %llu ns", bad[i], (unsigned long long)ns);
		assert_int_equal(ns, UNTOUCHED);
	}
}

static void test_counts(void **state)
{
	static const char *const bad[] = {"", "-1", "+1", " 1", "1 ", "1x", "0x1", "1.0", "1e3",
	    "0", "11", "18446744073709551616", "99999999999999999999"};
	uint64_t count = UNTOUCHED;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (duration_count(bad[i], 1, 10, &count))
			fail_msg("'%s' was taken for %llu", bad[i], (unsigned long long)count);
	assert_int_equal(count, UNTOUCHED);
	assert_true(duration_count("1", 1, 10, &count));
	assert_int_equal(count, 1);
	assert_true(duration_count("010", 1, 10, &count));
	assert_int_equal(count, 10);
	assert_true(duration_count("18446744073709551615", 0, UINT64_MAX, &count));
	assert_true(count == UINT64_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_durations),
	    cmocka_unit_test(test_no_durations),
	    cmocka_unit_test(test_counts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
