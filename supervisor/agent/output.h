/*
 * The ranks' standard output and error: pipes whose reading ends a logger (agent/logger.c) drains into files.
 *
 * The agent keeps the reading ends open too, reading nothing: so a logger that dies is replaced without a trainer
 * ever meeting a closed pipe, and the agent can tell whether the last words of a rank have been taken.
 */
#ifndef AGENT_OUTPUT_H
#define AGENT_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "supervisor/agent/shm.h"
#include "supervisor/agent/spawn.h"

struct output;

struct output_setup {
	const struct spawn_signals *signals;
	const char *run_dir;
	struct shm shm;
	const char *progress; /* where iterations are looked for, as `holdfast run --progress` takes it */
	uint32_t rank_count;
};

/* What setup points to is borrowed.  NULL: memory is short. */
struct output *output_new(const struct output_setup *setup);
void output_free(struct output *o); /* NULL is allowed; loggers end by themselves */

/*
 * New pipes and a logger for an attempt, whose files are RUNDIR/logs/attempt-NNN/rank-NNNN.{out,err}.
 * after_step: what the attempt continues from, or STEP_NONE.  False: errno.
 */
bool output_start(struct output *o, uint32_t attempt, uint64_t after_step);

/* Where the rank's datagrams for sd_notify(3) go; out has SHM_PATH_MAX bytes.  False: there is no such socket. */
bool output_notify_path(const struct output *o, uint32_t rank, char out[SHM_PATH_MAX]);

/* The writing end for a rank, standard output (0) or error (1); valid until output_seal(). */
int output_end(const struct output *o, uint32_t rank, unsigned which);

/* Every rank has its ends: close ours, so that the pipes end with the ranks. */
void output_seal(struct output *o);

/* Bytes that a rank wrote in this attempt and a logger took. */
uint64_t output_bytes(const struct output *o, uint32_t rank);

/* True when something that a rank wrote was not taken yet. */
bool output_pending(const struct output *o, uint32_t rank);

/*
 * A process of the attempt has ended just now: what it said last is to be waited for.  Then whether all that the
 * rank, or every rank (RANK_NONE), wrote has been looked through for iterations, and those it shows lie in the rings.
 */
void output_ended(struct output *o);
bool output_recognised(const struct output *o, uint32_t rank);

/* Whose output is reported, and what was recognised there: false while there is none. */
bool output_progress(const struct output *o, uint32_t *rank_out, uint32_t *format_out);

/* A child ended: true when it was a logger; one that left work is replaced. */
bool output_child(struct output *o, int pid, bool orderly);
size_t output_pids(const struct output *o, int pids[], size_t max);

#endif
