/*
 * holdfast: one binary with subcommands.  Finds the subcommand and hands over.
 *
 * The helper-… words are how the agent starts its own helpers; they are no interface for people.
 */
#include <stdio.h>
#include <string.h>

#include "supervisor/agent/helper.h"
#include "supervisor/cli/cli.h"
#include "supervisor/evidence/evidence.h"
#include "supervisor/ladder/keeper.h"
#include "supervisor/supervisor.h"

struct subcommand {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *summary; /* NULL: started by holdfast itself */
};

static const struct subcommand subcommands[] = {
    {"run", cli_run, "supervise a command; continue if the directory holds an unfinished run"},
    {"torchrun", cli_torchrun, "run, with the flags of torchrun"},
    {"status", cli_status, "where a run stands"},
    {"log", cli_log, "the iterations, one line each"},
    {"why", cli_why, "each interruption explained"},
    {"stop", cli_stop, "ask a live run to save and end"},
    {"supervisor", supervisor_main, NULL},
    {"helper-display", cli_display, NULL},
    {"helper-logger", helper_logger_main, NULL},
    {"helper-survey", helper_survey_main, NULL},
    {"helper-digest", helper_digest_main, NULL},
    {"helper-evidence", evidence_main, NULL},
    {"helper-keeper", helper_keeper_main, NULL},
    {"helper-restore", helper_restore_main, NULL},
};

static void print_help(FILE *out)
{
	fprintf(out, "usage: holdfast COMMAND [ARG...]\n\n");
	for (size_t i = 0; i < sizeof(subcommands) / sizeof(subcommands[0]); i++)
		if (subcommands[i].summary != NULL)
			fprintf(out, "  %-8s %s\n", subcommands[i].name, subcommands[i].summary);
	fprintf(out, "\nholdfast COMMAND --help tells the options; holdfast(1) the rest.\n");
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		fprintf(stderr, "holdfast: a command is missing; try holdfast --help\n");
		return CLI_EXIT_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
		print_help(stdout);
		return 0;
	}
	if (strcmp(argv[1], "--version") == 0) {
		printf("holdfast %s\n", HOLDFAST_VERSION);
		return 0;
	}
	for (size_t i = 0; i < sizeof(subcommands) / sizeof(subcommands[0]); i++)
		if (strcmp(argv[1], subcommands[i].name) == 0)
			return subcommands[i].run(argc - 1, argv + 1);
	fprintf(stderr, "holdfast: there is no command '%s'; try holdfast --help\n", argv[1]);
	return CLI_EXIT_USAGE;
}
