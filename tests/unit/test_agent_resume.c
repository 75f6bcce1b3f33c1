/*
 * The command of a start that goes on from a kept checkpoint: the run's own words as they are, then those of
 * --resume-args with {step} and {checkpoint} replaced, wherever in a word they stand.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "journal/record.h"
#include "supervisor/agent/resume.h"

static const char *const COMMAND[] = {"python3", "train.py", "--note={step}", NULL};

static void expect(
    const char *const args[], uint64_t step, const char *checkpoint, const char *const words[])
{
	const char **command = resume_command(COMMAND, args, step, checkpoint);
	size_t i = 0;

	assert_non_null(command);
	for (; words[i] != NULL; i++) {
		assert_non_null(command[i]);
		assert_string_equal(command[i], words[i]);
	}
	assert_null(command[i]);
	free((void *)command);
}

static void test_nothing_is_added(void **unused)
{
	static const char *const none[] = {NULL};
	const char *const words[] = {"python3", "train.py", "--note={step}", NULL};

	(void)unused;
	expect(NULL, 7, "/c", words);
	expect(none, 7, "/c", words);
}

static void test_names_are_replaced(void **unused)
{
	static const char *const args[] = {"--from", "{checkpoint}", "a{step}b{step}{checkpoint}",
	    "{step", "{}", "{{step}}", "", NULL};

	(void)unused;
	expect(args, 120, "/out/c k.pt",
	    (const char *const[]){"python3", "train.py", "--note={step}", "--from", "/out/c k.pt",
		"a120b120/out/c k.pt", "{step", "{}", "{120}", "", NULL});
	/* A name in what is put in is not looked at again. */
	expect(args, STEP_NONE, "/{step}/{checkpoint}",
	    (const char *const[]){"python3", "train.py", "--note={step}", "--from",
		"/{step}/{checkpoint}", "ab/{step}/{checkpoint}", "{step", "{}", "{}", "", NULL});
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_nothing_is_added),
	    cmocka_unit_test(test_names_are_replaced),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
