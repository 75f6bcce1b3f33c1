/* See output.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "supervisor/agent/output.h"

#define LOGGERS_MAX 8u
#define CAP_BYTES "268435456" /* a file keeps this much */

struct output {
	const struct spawn_signals *signals;
	const char *run_dir;
	uint32_t rank_count, attempt;
	int loggers[LOGGERS_MAX]; /* the last is this attempt's; others drain earlier ones */
	int current;              /* pid of this attempt's, 0: none */
	int counters_fd;
	_Atomic uint64_t *counters;
	int *read_ends,
	    *write_ends; /* two a rank; -1: closed.  read_ends has one place more, for counters_fd */
};

extern char **environ;

static bool make_counters(struct output *o)
{
	size_t size = o->rank_count * sizeof(uint64_t);
	void *map;

	o->counters_fd = memfd_create("holdfast-output", MFD_CLOEXEC);
	if (o->counters_fd < 0 || ftruncate(o->counters_fd, (off_t)size) != 0)
		return false;
	map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, o->counters_fd, 0);
	o->counters = map != MAP_FAILED ? map : NULL;
	return o->counters != NULL;
}

struct output *output_new(const struct spawn_signals *signals, const char *run_dir, uint32_t rank_count)
{
	struct output *o = calloc(1, sizeof(*o));

	if (o == NULL)
		return NULL;
	o->signals = signals;
	o->run_dir = run_dir;
	o->rank_count = rank_count;
	o->counters_fd = -1;
	o->read_ends = malloc((rank_count * 2 + 1) * sizeof(int));
	o->write_ends = malloc((rank_count * 2 + 1) * sizeof(int));
	for (uint32_t i = 0; o->read_ends != NULL && o->write_ends != NULL && i < rank_count * 2; i++)
		o->read_ends[i] = o->write_ends[i] = -1;
	if (o->read_ends == NULL || o->write_ends == NULL || !make_counters(o)) {
		free(o->read_ends);
		free(o->write_ends);
		o->read_ends = o->write_ends = NULL;
		output_free(o);
		return NULL;
	}
	return o;
}

static void close_all(int ends[], uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		if (ends[i] >= 0)
			close(ends[i]);
		ends[i] = -1;
	}
}

void output_free(struct output *o)
{
	if (o == NULL)
		return;
	if (o->read_ends != NULL)
		close_all(o->read_ends, o->rank_count * 2);
	if (o->write_ends != NULL)
		close_all(o->write_ends, o->rank_count * 2);
	if (o->counters != NULL)
		munmap(o->counters, o->rank_count * sizeof(uint64_t));
	if (o->counters_fd >= 0)
		close(o->counters_fd);
	free(o->read_ends);
	free(o->write_ends);
	free(o);
}

static bool start_logger(struct output *o)
{
	char dir[4096], ranks[16];
	const char *command[] = {"/proc/self/exe", "helper-logger", "--dir", dir, "--ranks", ranks,
	    "--cap-bytes", CAP_BYTES, NULL};
	/* It starts with more descriptors than the user's limit may allow. */
	struct spawn_signals signals = *o->signals;
	struct spawn_result result;
	unsigned slot = 0;

	signals.files.rlim_cur = 0;

	snprintf(dir, sizeof(dir), "%s/logs/attempt-%03u", o->run_dir, o->attempt);
	snprintf(ranks, sizeof(ranks), "%u", o->rank_count);
	o->read_ends[o->rank_count * 2] = o->counters_fd;
	struct spawn_request request = {.command = command,
	    .environment = environ,
	    .in_fd = -1,
	    .out_fd = -1,
	    .err_fd = -1,
	    .keep_fds = o->read_ends,
	    .keep_count = o->rank_count * 2 + 1,
	    .signals = &signals};

	if (spawn_process(&request, &result) != STATUS_OK) {
		errno = result.error;
		return false;
	}
	if (result.pidfd >= 0)
		close(result.pidfd);
	while (slot < LOGGERS_MAX - 1 && o->loggers[slot] != 0)
		slot++;
	o->loggers[slot] = result.pid;
	o->current = result.pid;
	return true;
}

bool output_start(struct output *o, uint32_t attempt)
{
	close_all(o->read_ends, o->rank_count * 2);
	close_all(o->write_ends, o->rank_count * 2);
	o->attempt = attempt;
	o->current = 0;
	for (uint32_t i = 0; i < o->rank_count; i++)
		o->counters[i] = 0;
	for (uint32_t i = 0; i < o->rank_count * 2; i++) {
		int ends[2];

		if (pipe2(ends, O_CLOEXEC) != 0)
			return false;
		o->read_ends[i] = ends[0];
		o->write_ends[i] = ends[1];
	}
	return start_logger(o);
}

int output_end(const struct output *o, uint32_t rank, unsigned which)
{
	return o->write_ends[rank * 2 + which];
}

void output_seal(struct output *o)
{
	close_all(o->write_ends, o->rank_count * 2);
}

uint64_t output_bytes(const struct output *o, uint32_t rank)
{
	return o->counters[rank];
}

bool output_pending(const struct output *o, uint32_t rank)
{
	for (unsigned which = 0; which < 2; which++) {
		int waiting = 0, fd = o->read_ends[rank * 2 + which];

		if (fd >= 0 && ioctl(fd, FIONREAD, &waiting) == 0 && waiting > 0)
			return true;
	}
	return false;
}

bool output_child(struct output *o, int pid, bool orderly)
{
	for (unsigned i = 0; i < LOGGERS_MAX; i++) {
		if (o->loggers[i] != pid)
			continue;
		o->loggers[i] = 0;
		if (pid == o->current) {
			o->current = 0;
			if (!orderly)
				(void)start_logger(
				    o); /* without one the trainers wait for room in their pipes */
		}
		return true;
	}
	return false;
}

size_t output_pids(const struct output *o, int pids[], size_t max)
{
	size_t count = 0;

	for (unsigned i = 0; i < LOGGERS_MAX && count < max; i++)
		if (o->loggers[i] != 0)
			pids[count++] = o->loggers[i];
	return count;
}
