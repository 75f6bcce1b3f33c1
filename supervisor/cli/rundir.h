/*
 * The run directory: finding it, who holds it, making it ready for a run.
 *
 *	journal/ logs/ checkpoints/   folders, 0700
 *	lock         locked (POSIX) by the agent while the run lives
 *	ballast      1 MiB, given up for the last words on a full disk
 *	control.sock while the run lives
 *
 * A run that is refused leaves the file system as it was.
 */
#ifndef CLI_RUNDIR_H
#define CLI_RUNDIR_H

#include <stdbool.h>

#define RUNDIR_DEFAULT "holdfast-run"
#define RUNDIR_PATH 4096
#define RUNDIR_FOLDERS 3

struct rundir {
	char path[RUNDIR_PATH]; /* absolute */
	int lock_fd;            /* CLOEXEC; the lock is this process's and ends with it; -1: none */
	/* what was made here, and is taken back by rundir_withdraw() */
	bool made_dir, made_lock, made_ballast, made_folder[RUNDIR_FOLDERS];
};

/*
 * Pid of the agent that holds dir; 0: nobody; -1: there is no lock file or it cannot be read.
 * Not for the process that holds the lock itself: closing any descriptor of the file would give its lock up.
 */
int rundir_holder(const char *dir);

/* DIR/journal into out (RUNDIR_PATH bytes).  False: too long. */
bool rundir_journal(const char *dir, char *out);

/*
 * Find or make dir and take its lock, and with it the right to change anything in it.
 *
 * rd		filled; rundir_withdraw() takes it back.
 * Returns	0, or the exit code after one line on standard error; nothing is left behind then.
 */
int rundir_take(struct rundir *rd, const char *dir);

/* Make what a run needs in a directory that was taken.  Returns 0, or the exit code after one line: withdraw then. */
int rundir_fill(struct rundir *rd);

/* Take back what was made, and give up the lock. */
void rundir_withdraw(struct rundir *rd);

#endif
