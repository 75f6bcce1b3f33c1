/*
 * What /proc says of a process and its threads.
 *
 * Only reads, never stops anything; works on processes that may not be traced.  All text it gives out is
 * escaped already and fits one line.
 */
#ifndef EVIDENCE_THREADS_H
#define EVIDENCE_THREADS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct thread {
	pid_t tid;
	char state; /* field 3 of its stat: R S D T t Z X I; '?' when it is gone */
	char name[64];
	char wait_channel[96]; /* the kernel function it sleeps in, or "-" */
	char system_call[256]; /* its name or number and arguments, "running", or "-" */
};

/* Reads a small file whole into buffer, NUL-terminated and cut at buffer_size - 1.
 * Returns the bytes read or -errno. */
ssize_t threads_read_file(const char *path, char *buffer, size_t buffer_size);

/*
 * The process's thread ids in ascending order with first, then pid, in front where they exist.
 * tids	borrowed; room for `room` entries.
 * total_out	borrowed; how many there are, also beyond room.
 * Returns	the number filled, or -errno (-ESRCH: no such process).
 */
int threads_list(pid_t pid, pid_t first, pid_t *tids, int room, int *total_out);

/* Fills *thread; state is '?' when it is gone. */
void threads_look(pid_t pid, pid_t tid, struct thread *thread);

/* Field 3 of /proc/PID/task/TID/stat, or '?'. */
char threads_state(pid_t pid, pid_t tid);

/* Field 22 of /proc/PID/stat in seconds before now, negative when it cannot be read. */
double threads_age_s(pid_t pid);

#endif
