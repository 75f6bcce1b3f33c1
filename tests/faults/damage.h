/*
 * Faults in files, made from outside: what a torn write, a bad disk or a wild store leaves behind.
 *
 * Everything that is chosen is chosen from the seed.  Every function returns 0 or -errno with *why_out
 * naming the step that failed (static storage); -ENOENT also when there is nothing that could be damaged.
 */
#ifndef FAULTS_DAMAGE_H
#define FAULTS_DAMAGE_H

#include <stdint.h>
#include <sys/types.h>

#define DAMAGE_OFFSET_ANY (-1)

struct damage {
	uint64_t at_ns;  /* CLOCK_MONOTONIC when it was done */
	uint64_t offset; /* first byte that was changed; for truncation the new length */
	uint64_t count;  /* bytes changed; files removed */
	uint64_t step;   /* of the snapshot slot; 0 elsewhere */
};

/* Change count bytes of the file, each for certain: in a row from offset, or scattered for
 * DAMAGE_OFFSET_ANY. */
int damage_flip(const char *path, int64_t offset, uint64_t count, uint64_t seed, struct damage *out,
    const char **why_out);

/* Shorten the file to a length from 0 to one byte less than it has. */
int damage_truncate(const char *path, uint64_t seed, struct damage *out, const char **why_out);

/*
 * Flip bytes in the body of the slot that was committed last in a snapshot file (trainer/snapshot.h).
 * pid	0, or a process that is stopped before and SIGKILLed after it, so that it cannot write the slot anew.
 */
int damage_snapshot(
    const char *path, uint64_t seed, pid_t pid, struct damage *out, const char **why_out);

/* Remove every file that matches the pattern. */
int damage_wipe(const char *pattern, struct damage *out, const char **why_out);

#endif
