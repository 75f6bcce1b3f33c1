/*
 * From a rank's output to its channel: lines are recognised, and iterations reported like a trainer's own.
 *
 * The first rank whose output shows a step is the one that reports; it becomes the producer of its channel.  Where a
 * trainer reports by itself, nothing is: its word is better.  No output can hold this up: matching a pattern
 * of the user's has a quarter of the time, and lines beyond that are not looked at.  What must outlive the process
 * lies in struct logger_words.  Invariants: H3, H10, H11.
 */
#ifndef AGENT_REPORTER_H
#define AGENT_REPORTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "supervisor/agent/helper.h"
#include "supervisor/agent/shm.h"
#include "supervisor/progress/regex.h"

enum reporter_stream {
	REPORTER_OUT = 0,
	REPORTER_ERR = 1
}; /* of a rank; a followed file is rank 0's output */

struct reporter_setup {
	struct shm shm;             /* its texts are borrowed */
	struct logger_words *words; /* borrowed */
	struct regex *pattern;      /* borrowed; NULL: the common formats */
	uint32_t ranks, attempt;
	uint64_t after_step; /* what the attempt continues from, or STEP_NONE */
};

struct reporter;

/* NULL: memory is short. */
struct reporter *reporter_new(const struct reporter_setup *setup);
void reporter_free(struct reporter *rp); /* NULL is allowed */

/* What a rank wrote to a stream, read at now_ns (monotonic, likewise below); bytes are borrowed. */
void reporter_bytes(struct reporter *rp, uint32_t rank, enum reporter_stream stream,
    const char *bytes, size_t length, uint64_t now_ns);

/* Nothing more comes from that stream. */
void reporter_end(struct reporter *rp, uint32_t rank, enum reporter_stream stream, uint64_t now_ns);

/* A text that the rank says itself; it counts as a line of its output. */
void reporter_text(
    struct reporter *rp, uint32_t rank, const char *text, size_t length, uint64_t now_ns);

/* The rank says that its start is over, or that it is alive. */
void reporter_ready(struct reporter *rp, uint32_t rank, uint64_t now_ns);
void reporter_alive(struct reporter *rp, uint32_t rank, uint64_t now_ns);

/* True once: lines were left out because the pattern takes too long on them. */
bool reporter_too_slow(struct reporter *rp);

#endif
