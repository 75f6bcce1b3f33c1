/*
 * Proving an attempt gone: finds and ends every process that belongs to it (H6).
 *
 * Two ways, both through /proc: the agent's descendants (it is a child subreaper, so orphans come back to it),
 * and, for what an earlier agent left behind, processes whose environment names this run.  Never waits.
 */
#ifndef AGENT_SWEEP_H
#define AGENT_SWEEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sweep_result {
	uint32_t found; /* processes alive, zombies not counted */
	/* Zombies that are not reaped yet.  One may have forked after its children were looked for, and what it left
	 * comes to us unseen; of another, a thread may hang in the kernel, and until that ends it stays a zombie.
	 * Nothing is proven gone before a look that meets neither. */
	uint32_t ended;
	uint32_t stuck_pid; /* one of the former, else of the latter; 0 for none */
};

/* Children that this process had before it became what it is: a shell that put something into the background and
 * then called exec leaves them to us.  They and what is below them are not ours to end. */
struct sweep_others {
	struct sweep_identity {
		int pid;
		uint64_t start; /* field 22 of /proc/PID/stat */
	} * list;               /* from malloc, the owner's */
	size_t count;
};

/* The children that are there now: to be asked before the first of our own is started. */
void sweep_remember(struct sweep_others *out);

/*
 * SIGKILL every descendant of this process that is not in spare (pids of the agent's own helpers, whose
 * children are not spared) nor below others (NULL: there are none), zombies aside.
 */
struct sweep_result sweep_descendants(
    const int spare[], size_t spare_count, const struct sweep_others *others);

/*
 * SIGKILL every process whose environment has CHANNEL_ENV_RUN=run_id_hex, except this process and its
 * descendants.  Reads only what this user may read: others' processes are not ours.
 */
struct sweep_result sweep_environment(const char *run_id_hex);

/* What a process is that cannot be ended; text is padded with NULs.  Its leader may be a zombie already while
 * another of its threads hangs: that thread is described.  All zero when it is gone. */
struct sweep_stuck {
	char state; /* a letter of proc_pid_stat(5) */
	char name[16];
	char where[40]; /* the kernel's function; empty where the kernel does not tell */
};
void sweep_describe(int pid, struct sweep_stuck *out);

/* CPU time of pid and all its descendants, those that ended and were waited for too, in ns, and the state letter of pid ('?' when it is gone). */
uint64_t sweep_cpu_ns(int pid, char *state_out);

#endif
