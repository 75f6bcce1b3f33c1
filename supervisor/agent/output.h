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

#include "supervisor/agent/spawn.h"

struct output;

/* signals and run_dir are borrowed.  NULL: memory is short. */
struct output *output_new(
    const struct spawn_signals *signals, const char *run_dir, uint32_t rank_count);
void output_free(struct output *o); /* NULL is allowed; loggers end by themselves */

/* New pipes and a logger for an attempt, whose files are RUNDIR/logs/attempt-NNN/rank-NNNN.{out,err}. False: errno. */
bool output_start(struct output *o, uint32_t attempt);

/* The writing end for a rank, standard output (0) or error (1); valid until output_seal(). */
int output_end(const struct output *o, uint32_t rank, unsigned which);

/* Every rank has its ends: close ours, so that the pipes end with the ranks. */
void output_seal(struct output *o);

/* Bytes that a rank wrote in this attempt and a logger took. */
uint64_t output_bytes(const struct output *o, uint32_t rank);

/* True when something that a rank wrote was not taken yet. */
bool output_pending(const struct output *o, uint32_t rank);

/* A child ended: true when it was a logger; one that left work is replaced. */
bool output_child(struct output *o, int pid, bool orderly);
size_t output_pids(const struct output *o, int pids[], size_t max);

#endif
