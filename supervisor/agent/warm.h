/*
 * The warm interpreter: one process of the command's own Python, with modules imported, that ranks are forked from.
 *
 * Importing is most of what a restart of a PyTorch script takes.  `--warm MODULES` has it done beforehand: the user's
 * command is started once more, with warm.py (embedded, written to RUNDIR/warm/) in the place of sitecustomize.  There
 * it imports the modules and waits; each start makes a rank of it that goes on as the interpreter would have.
 *
 * A rank made here is what a rank made by spawn.h is: the agent's own child, reaped by waitid, dead with the agent,
 * with the descriptors, signals, limits, arguments and environment of the request (H12).  Whatever the agent cannot
 * have in time it does without: a command that is no Python, modules that cannot be imported or that leave threads,
 * processes or devices behind, an interpreter that died or does not answer.  Starts are cold then, and one line on
 * standard error says so.  An interpreter that died is replaced for the starts to come.
 *
 * A fork that answers too late never runs: it waits for a word from the agent, and finds its socket closed (H6).
 */
#ifndef AGENT_WARM_H
#define AGENT_WARM_H

#include <stdbool.h>
#include <stddef.h>

#include "supervisor/agent/spawn.h"

struct warm;
struct event_base;

/* Everything is borrowed and outlives the warm interpreter, but environment, which is copied. */
struct warm_setup {
	struct event_base *base;
	const struct spawn_signals *signals;
	const char *run_dir, *work_dir;
	char *const *command;     /* of the ranks, as they are started first */
	char *const *environment; /* of some rank; what only one rank or attempt has is left out */
	const char *modules;      /* "torch,torch.distributed"; checked by warm_modules_ok() */
	void (*settled)(void *context); /* called once, from the loop: nobody need wait any longer */
	void *context;
};

/* Whether a text is a list of module names, with commas between them. */
bool warm_modules_ok(const char *modules);

/* Begins at once.  NULL: memory is short. */
struct warm *warm_new(const struct warm_setup *setup);

/* Kill it and wait until it is gone.  NULL is allowed. */
void warm_free(struct warm *w);

/* False while the first interpreter is on its way: the first start had better wait for it. True for NULL. */
bool warm_settled(const struct warm *w);

/*
 * Start a process: warm where that is possible, else as spawn_process() does.
 *
 * w		may be NULL.
 * request	in_fd is -1, keep_count 0; the other fields as for spawn_process().
 * result	filled as by spawn_process().
 * warm_out	whether it was forked from the warm interpreter.
 * Returns	as spawn_process().
 * Context	the agent's loop; waits for the answer, a few seconds at most.
 */
MUST_CHECK enum status warm_process(struct warm *w, const struct spawn_request *request,
    struct spawn_result *result, bool *warm_out);

/* A child ended: true when it was the interpreter.  NULL is allowed. */
bool warm_child(struct warm *w, int pid, int wait_status);

/* Its pid, at most max; returns how many.  NULL is allowed. */
size_t warm_pids(const struct warm *w, int pids[], size_t max);

#endif
