/*
 * Valid records of every kind, filled with seeded noise, and what tests on files need.
 */
#ifndef UNIT_SAMPLES_H
#define UNIT_SAMPLES_H

#include <stddef.h>

#include "journal/record.h"

/* Every kind there is; 0 ends the list. */
extern const uint16_t sample_kinds[];

/* A valid record with all fields random but its counts; seq, turn and checksum 0.  free() it. */
struct record *sample_record(uint16_t kind, uint64_t *seed);

/* A complete step row of ranks ranks without noise in its step, attempt and flags.  free() it. */
struct record_step *sample_step(uint32_t ranks, uint32_t attempt, uint64_t step);

/* The next number of a seeded sequence. */
uint64_t sample_random(uint64_t *seed);

/* HOLDFAST_SEED from the environment, else `otherwise`; printed. */
uint64_t sample_seed(uint64_t otherwise);

/* A fresh directory under TMPDIR; sample_remove() takes a whole tree away and free()s its name. */
char *sample_directory(void);
void sample_remove(char *dir);

/* A whole file; free() it. */
char *sample_read(const char *dir, const char *name, size_t *size);
void sample_write(const char *dir, const char *name, const void *bytes, size_t size);

/* Copy every plain file of the directory `from` into the directory `to`, which is made. */
void sample_copy(const char *from, const char *to);

#endif
