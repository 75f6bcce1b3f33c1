/*
 * One table of options a subcommand: what is parsed is what --help prints.
 *
 * Long options with - or _ between their words, `--name value` or `--name=value`, and short ones with a value
 * behind them or in the next word.  Parsing stops at the first word that is no option, or behind `--`.
 */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include <stddef.h>

struct option_spec {
	const char *name;     /* without the dashes */
	char letter;          /* 0: none */
	const char *argument; /* what --help calls its value; NULL: a flag */
	const char *meaning;  /* one line; default included */
};

struct options {
	const char *command;  /* "run" */
	const char *synopsis; /* "[OPTIONS] [--] COMMAND [ARG...]" */
	const struct option_spec *specs;
	size_t spec_count;
	const struct option_spec *more; /* taken as well, and left out of --help; or NULL */
	size_t more_count;
	int argc;
	char **argv;
	int at;    /* next word; starts at 1 */
	int words; /* other words that were taken in between */
};

enum options_result {
	OPTIONS_END = -1,  /* at is the first word that is no option */
	OPTIONS_HELP = -2, /* --help was printed: end with 0 */
	OPTIONS_BAD = -3,  /* one line was written to standard error: end with CLI_EXIT_USAGE */
};

/* Index into specs (into more, counted on from spec_count) of the next option, or an enum options_result.  *value_out: borrowed from argv, or NULL. */
int options_next(struct options *o, const char **value_out);

#endif
