/*
 * The option table: every way to write an option, where reading ends, and what is refused; and that --help lists
 * the table, each option once.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "supervisor/cli/options.h"

enum { RANKS, QUIET, STALL_MIN, COUNT };

static const struct option_spec specs[COUNT] = {
    [RANKS] = {"ranks", 'n', "N", "how many"},
    [QUIET] = {"quiet", 'q', NULL, "say nothing"},
    [STALL_MIN] = {"stall-min", 0, "TIME", "not earlier"},
};

struct words {
	char *argv[12];
	struct options o;
};

/* One command line, split at spaces. */
static void begin(struct words *w, char *line)
{
	static char name[] = "run";
	int argc = 0;

	w->argv[argc++] = name;
	for (char *word = strtok(line, " "); word != NULL && argc < 11; word = strtok(NULL, " "))
		w->argv[argc++] = word;
	w->o = (struct options){.command = "run",
	    .synopsis = "",
	    .specs = specs,
	    .spec_count = COUNT,
	    .argc = argc,
	    .argv = w->argv,
	    .at = 1};
}

/* Read all of `line`; `seen` gets one letter an option and its value, as in "n2 q". */
static int read_all(const char *line, char seen[128], const char **rest)
{
	static char copy[128];
	static struct words w;
	const char *value = NULL;
	int option;

	snprintf(copy, sizeof(copy), "%s", line);
	begin(&w, copy);
	seen[0] = '\0';
	while ((option = options_next(&w.o, &value)) >= 0) {
		size_t used = strlen(seen);

		snprintf(seen + used, 128 - used, "%s%c%s", used != 0 ? " " : "", "nqs"[option],
		    value != NULL ? value : "");
	}
	*rest = w.o.at < w.o.argc ? w.argv[w.o.at] : "";
	return option;
}

static void test_spellings(void **state)
{
	static const struct {
		const char *line, *seen, *rest;
	} lines[] = {
	    {"", "", ""},
	    {"-n 2 train", "n2", "train"},
	    {"-n2 train", "n2", "train"},
	    {"--ranks 2 -q", "n2 q", ""},
	    {"--ranks=2 --quiet", "n2 q", ""},
	    {"--ranks= --quiet", "n q", ""},
	    {"--stall-min 2s --stall_min 3s", "s2s s3s", ""},
	    {"--stall_min=a=b", "sa=b", ""},
	    {"-n -2", "n-2", ""}, /* a value is a value */
	    {"-q -- -n 2", "q", "-n"},
	    {"-q train -n 2", "q", "train"},
	    {"-q - -n 2", "q", "-"},
	    {"--", "", ""},
	};
	char seen[128];
	const char *rest;

	(void)state;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		assert_int_equal(read_all(lines[i].line, seen, &rest), OPTIONS_END);
		assert_string_equal(seen, lines[i].seen);
		assert_string_equal(rest, lines[i].rest);
	}
}

/* What options_next() says goes to a file for as long as `line` is read; the text, the caller's to free. */
static char *said(int fd, const char *line, int *result)
{
	char *text = calloc(1, 4096), seen[128];
	const char *rest;
	FILE *file = tmpfile();
	int saved = dup(fd);

	assert_true(text != NULL && file != NULL && saved >= 0);
	fflush(fd == STDOUT_FILENO ? stdout : stderr);
	dup2(fileno(file), fd);
	*result = read_all(line, seen, &rest);
	fflush(fd == STDOUT_FILENO ? stdout : stderr);
	dup2(saved, fd);
	close(saved);
	rewind(file);
	text[fread(text, 1, 4095, file)] = '\0';
	assert_int_equal(ferror(file), 0);
	(void)fclose(file);
	return text;
}

static void test_refused(void **state)
{
	static const char *const lines[] = {"--nonsense", "--rank 2", "--ranksx 2", "--ranks", "-n",
	    "--quiet=1", "-qn", "-Z", "--stall-min", "---ranks 2", "--=2", "--STALL-MIN 2s",
	    "-q --nonsense=3"};

	(void)state;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		int result;
		char *text = said(STDERR_FILENO, lines[i], &result);

		if (result != OPTIONS_BAD || strchr(text, '\n') != text + strlen(text) - 1 ||
		    strstr(text, "holdfast run --help") == NULL)
			fail_msg("'%s': %d, said: %s", lines[i], result, text);
		free(text);
	}
}

static void test_help(void **state)
{
	static const char *const lines[] = {"--help", "-h", "-q --help --nonsense"};

	(void)state;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		int result;
		char *text = said(STDOUT_FILENO, lines[i], &result);

		assert_int_equal(result, OPTIONS_HELP);
		for (size_t k = 0; k < COUNT; k++) {
			char name[64];
			const char *found;

			snprintf(name, sizeof(name), "--%s", specs[k].name);
			found = strstr(text, name);
			if (found == NULL || strstr(found + 1, name) != NULL)
				fail_msg("%s stands not once in: %s", name, text);
			assert_non_null(strstr(text, specs[k].meaning));
		}
		free(text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_spellings),
	    cmocka_unit_test(test_refused),
	    cmocka_unit_test(test_help),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
