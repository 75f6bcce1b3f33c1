/*
 * The part of the evidence that is shown first: the right thread, the right frames, the right lines of output, and
 * nothing that a terminal would obey.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "supervisor/cli/excerpt.h"

/* What is printed of a text; the caller's to free. */
static char *excerpt(const char *text)
{
	char *out = NULL;
	size_t size;
	FILE *file = open_memstream(&out, &size);

	assert_non_null(file);
	excerpt_print(file, text, "|");
	(void)fclose(file);
	return out;
}

static void expect(const char *text, const char *expected)
{
	char *out = excerpt(text);

	assert_string_equal(out, expected);
	free(out);
}

static void test_empty(void **state)
{
	(void)state;
	expect("", "");
	expect("\n\nstandard error /e, the last 0 of 0 bytes\n\nstandard output /o, the last 0 of "
	       "0 bytes\n",
	    "");
	expect("\nstandard error /e: No such file or directory\n",
	    "|standard error /e: No such file or directory\n");
}

static void test_crashed_thread(void **state)
{
	(void)state;
	expect("process 7\nstacks: taken\n\nstatus\n  State: S\n\nthreads\n"
	       "\nthread 8 (other), state S\n  #0   0x1 idle\n"
	       "\nthread 7 (main), which crashed, state S\n  #0   0x2 wait\n  #1   <signal handler "
	       "called>\n"
	       "  #2   0x3 crash\n  #3   0x4 main\n"
	       "\nstandard error /e, the last 5 of 5 bytes\noops\n"
	       "\nstandard output /o, the last 6 of 6 bytes\nhello\n",
	    "|thread 7 (main), which crashed, state S\n|  #2   0x3 crash\n|  #3   0x4 main\n"
	    "|(more threads: --full)\n"
	    "|standard error /e, the last 5 of 5 bytes\n|oops\n"
	    "|standard output /o, the last 6 of 6 bytes\n|hello\n");
}

/* Twelve frames and ten lines, and it is said when there are more. */
static void test_bounds(void **state)
{
	char text[8192] = "thread 1 (a), state R\n";
	char *out;

	(void)state;
	for (int i = 0; i < 30; i++)
		snprintf(
		    text + strlen(text), sizeof(text) - strlen(text), "  #%d 0x1 frame%d.\n", i, i);
	snprintf(text + strlen(text), sizeof(text) - strlen(text), "\nstandard error /e, the last\n");
	for (int i = 0; i < 30; i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "line%d.\n", i);
	out = excerpt(text);
	assert_non_null(strstr(out, "frame11."));
	assert_null(strstr(out, "frame12."));
	assert_non_null(strstr(out, "more frames"));
	assert_null(strstr(out, "more threads"));
	assert_null(strstr(out, "line19."));
	assert_non_null(strstr(out, "line20."));
	assert_non_null(strstr(out, "line29."));
	free(out);
}

/* A trainer may print what looks like a thread of ours. */
static void test_output_is_no_evidence(void **state)
{
	(void)state;
	expect("\nstandard error /e, the last 9 of 9 bytes\nthread 1 (a), which crashed, state S\n",
	    "|standard error /e, the last 9 of 9 bytes\n|thread 1 (a), which crashed, state S\n");
}

static void test_other_text(void **state)
{
	(void)state;
	expect("something\nelse", "|something\n|else\n");
}

/* Every byte, alone and behind one that begins a control of the second set. */
static void test_controls(void **state)
{
	(void)state;
	for (int c = 1; c < 256; c++) {
		char text[] = {'a', (char)0xc2, (char)c, 'z', '\n', '\0'};
		char *out = excerpt(text);

		for (const char *at = out; *at != '\0'; at++) {
			unsigned char byte = (unsigned char)*at, next = (unsigned char)at[1];

			if ((byte < 0x20 && byte != '\n' && byte != '\t') || byte == 0x7f ||
			    (byte == 0xc2 && next >= 0x80 && next < 0xa0))
				fail_msg("byte %02x came through behind %02x", byte, c);
		}
		free(out);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_empty),
	    cmocka_unit_test(test_crashed_thread),
	    cmocka_unit_test(test_bounds),
	    cmocka_unit_test(test_output_is_no_evidence),
	    cmocka_unit_test(test_other_text),
	    cmocka_unit_test(test_controls),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
