/*
 * What a person reads: one line a decision, lower case, without a full stop.
 *
 * Each function writes at most size bytes, NUL included, and cuts what does not fit; size is at least 1.
 * SENTENCE_MAX is enough for all but long paths.  No I/O, no allocation, never fails.
 */
#ifndef JOURNAL_SENTENCE_H
#define JOURNAL_SENTENCE_H

#include <stddef.h>

#include "journal/record.h"

#define SENTENCE_MAX 512u

/* "rank 1 was killed by SIGKILL after step 812"; "rank 0 made no progress after step 5 for 4.2 s (limit 2.0 s) and used no CPU". */
void sentence_fault(const struct decision_fault *fault, char *out, size_t size);

/* "attempt 3 continues from memory after step 811"; path: of the rung for START_FILE, or NULL. */
void sentence_start(const struct decision_start *start, const char *path, char *out, size_t size);

/* "stepping again at step 812 after 0.4 s, 1 step was made again". */
void sentence_recovered(const struct decision_recovered *recovered, char *out, size_t size);

/* "process 4711 (python3) of attempt 2 cannot be ended: the kernel holds it in request_wait_answer". */
void sentence_stuck(const struct record_clear *clear, char *out, size_t size);

/* "the run is done: every rank ended with status 0". */
void sentence_end(const struct decision_end *end, char *out, size_t size);

/* "progress: nanoGPT lines of rank 0". */
void sentence_progress(uint32_t format, uint32_t rank, char *out, size_t size);

/* "rank 1 has no memory for its snapshots: 2 ranks need 3 GiB, 100 MiB is free; ...", and what to do. */
void sentence_no_room(const struct record_no_room *no_room, char *out, size_t size);

/* "checkpoint of step 800 is good". */
void sentence_standing(const struct decision_standing *standing, char *out, size_t size);

/* "rank 2 ended with status 1", "was killed by SIGSEGV": of a wait status. */
void sentence_exit(const struct record_exit *exit, char *out, size_t size);

/* "340 ms", "4.2 s", "12 min 30 s", "3 h 5 min". */
void sentence_duration(uint64_t duration_ns, char *out, size_t size);

/* "SIGKILL", or "signal 77" in out. */
void sentence_signal(int signal, char *out, size_t size);

#endif
