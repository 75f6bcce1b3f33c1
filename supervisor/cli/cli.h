/*
 * The subcommands people type.  Each parses its own words, prints to standard output, says what went wrong
 * in one line on standard error, and returns holdfast's exit code.  All but run, torchrun and stop only read the
 * journal; they work while a run lives, after it, and on a copy.
 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

enum cli_exit {
	CLI_EXIT_USAGE = 64,  /* the words are off */
	CLI_EXIT_BUG = 70,    /* ours */
	CLI_EXIT_AGAIN = 75,  /* try again later: in use, disk full */
	CLI_EXIT_CONFIG = 78, /* the directory, the journal or the machine is not as it must be */
};

/* argv[0] is the subcommand's own name. */
int cli_run(int argc, char **argv);
int cli_torchrun(int argc, char **argv);
int cli_status(int argc, char **argv);
int cli_log(int argc, char **argv);
int cli_why(int argc, char **argv);
int cli_stop(int argc, char **argv);

/* The helper behind `holdfast run`'s own lines: --dir DIR [--json], until the run ends or its parent dies. */
int cli_display(int argc, char **argv);

#endif
