/*
 * The agent: one per node, the parent of everything else.  It spawns, watches and reaps the trainers, owns
 * their shared memory and keeps the supervisor alive.  It decides nothing, touches no disk that could block
 * it and unwinds, digests and displays nothing itself: that is helpers' work.
 *
 * Invariants: H6 (one attempt at a time), H10, H11, H12.
 */
#ifndef AGENT_AGENT_H
#define AGENT_AGENT_H

#include <stdbool.h>
#include <stdint.h>

#include "journal/record.h"
#include "journal/status.h"
#include "supervisor/agent/rankenv.h"

/* The ladder on files. */
struct checkpoint_options {
	const char *pattern;            /* absolute; NULL: the script's files are let alone */
	const char *mode;               /* as helper-keeper takes it */
	uint32_t keep;                  /* copies */
	uint64_t budget_bytes;          /* of all copies; 0: no limit */
	const char *const *resume_args; /* NULL-terminated; NULL: nothing is added to the command */
};

/* What `holdfast run` was asked for.  Everything is borrowed and outlives the agent. */
struct run_options {
	const char *run_dir;  /* absolute; exists, 0700, with journal/ logs/ checkpoints/ inside */
	const char *shm_dir;  /* absolute; "/dev/shm" unless told otherwise */
	const char *work_dir; /* absolute: the directory the trainers start in */
	char *const *command; /* NULL-terminated */
	const char *progress; /* where iterations are looked for; supervisor/progress/progress.h */
	const char *warm;     /* modules to keep imported; NULL: none */
	uint32_t rank_count;
	uint8_t run_id[16];   /* from the journal, or fresh random bytes for a new run */
	bool resumed;         /* the journal holds an unfinished run already */
	bool display;         /* spawn the display helper (progress or plain lines) */
	bool json;            /* the display prints JSON lines */
	uint64_t total_steps; /* for the display only: iterations of the whole run; 0: not known */
	int lock_fd;          /* the run directory's lock, held; CLOEXEC */
	int port_fd;          /* holds the port of names; CLOEXEC */
	struct rankenv_names names;
	int up_fd; /* a byte is written there, once, when the trainers run; CLOEXEC; -1: nobody waits */
	struct policy_config config;
	struct checkpoint_options checkpoint;
};

/*
 * Run to the end of the run.
 * Returns	the exit code of `holdfast run`: 0, the trainer's own, 128+signal, 70, 75.
 * Context	main thread of a process with no children and one thread; blocks until the end.
 */
int agent_run(const struct run_options *options);

#endif
