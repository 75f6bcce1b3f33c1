/* See output.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "supervisor/agent/helper.h"
#include "supervisor/agent/notify.h"
#include "supervisor/agent/output.h"
#include "supervisor/progress/progress.h"

#define LOGGERS_MAX 8u
#define CAP_BYTES "268435456" /* a file keeps this much */
#define FILES_A_RANK 8u       /* descriptors that a rank takes at most */
#define FILES_ASIDE 16u       /* of ranks, for everything else */

struct output {
	struct output_setup setup;
	enum progress_source source;
	uint32_t rank_count, attempt;
	uint64_t after_step;
	int loggers[LOGGERS_MAX]; /* the last is this attempt's; others drain earlier ones */
	int current;              /* pid of this attempt's, 0: none */
	int words_fd;
	struct logger_words *words;
	uint64_t looks_wanted; /* of a file that is followed, until nothing more is in it */
	bool notify;           /* each rank has its socket */
	/* Two a rank; -1: closed.  Behind the reading ends lie words_fd, and a socket a rank. */
	int *read_ends, *write_ends;
};

extern char **environ;

static size_t words_size(const struct output *o)
{
	return sizeof(*o->words) + o->rank_count * sizeof(o->words->ranks[0]);
}

static bool make_words(struct output *o)
{
	void *map;

	o->words_fd = memfd_create("holdfast-output", MFD_CLOEXEC);
	if (o->words_fd < 0 || ftruncate(o->words_fd, (off_t)words_size(o)) != 0)
		return false;
	map = mmap(NULL, words_size(o), PROT_READ | PROT_WRITE, MAP_SHARED, o->words_fd, 0);
	o->words = map != MAP_FAILED ? map : NULL;
	return o->words != NULL;
}

struct output *output_new(const struct output_setup *setup)
{
	struct output *o = calloc(1, sizeof(*o));
	uint32_t ends = setup->rank_count * 2;

	if (o == NULL)
		return NULL;
	o->setup = *setup;
	o->source = progress_source_of(setup->progress);
	o->rank_count = setup->rank_count;
	o->words_fd = -1;
	o->read_ends = malloc((ends + 1 + setup->rank_count) * sizeof(int));
	o->write_ends = malloc(ends * sizeof(int));
	for (uint32_t i = 0; o->read_ends != NULL && i < ends + 1 + setup->rank_count; i++)
		o->read_ends[i] = -1;
	for (uint32_t i = 0; o->write_ends != NULL && i < ends; i++)
		o->write_ends[i] = -1;
	if (o->read_ends == NULL || o->write_ends == NULL || !make_words(o)) {
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

static int *sockets_of(const struct output *o)
{
	return &o->read_ends[o->rank_count * 2 + 1];
}

void output_free(struct output *o)
{
	if (o == NULL)
		return;
	if (o->read_ends != NULL) {
		close_all(o->read_ends, o->rank_count * 2);
		close_all(sockets_of(o), o->rank_count);
	}
	if (o->write_ends != NULL)
		close_all(o->write_ends, o->rank_count * 2);
	if (o->words != NULL)
		munmap(o->words, words_size(o));
	if (o->words_fd >= 0)
		close(o->words_fd);
	free(o->read_ends);
	free(o->write_ends);
	free(o);
}

static bool start_logger(struct output *o)
{
	char dir[4096], ranks[16], attempt[16], after_step[24];
	const char *command[] = {"/proc/self/exe", "helper-logger", "--dir", dir, "--ranks", ranks,
	    "--cap-bytes", CAP_BYTES, "--progress", o->setup.progress, "--shm-dir",
	    o->setup.shm.dir, "--run", o->setup.shm.run_hex, "--attempt", attempt, "--after-step",
	    after_step, o->notify ? "--notify" : NULL, "1", NULL};
	/* It starts with more descriptors than the user's limit may allow. */
	struct spawn_signals signals = *o->setup.signals;
	struct spawn_result result;
	unsigned slot = 0;

	signals.files.rlim_cur = 0;

	snprintf(dir, sizeof(dir), "%s/logs/attempt-%03u", o->setup.run_dir, o->attempt);
	snprintf(ranks, sizeof(ranks), "%u", o->rank_count);
	snprintf(attempt, sizeof(attempt), "%u", o->attempt);
	snprintf(after_step, sizeof(after_step), "%llu", (unsigned long long)o->after_step);
	o->read_ends[o->rank_count * 2] = o->words_fd;
	struct spawn_request request = {.command = command,
	    .environment = environ,
	    .in_fd = -1,
	    .out_fd = -1,
	    .err_fd = -1,
	    .keep_fds = o->read_ends,
	    .keep_count = o->rank_count * 2 + 1 + (o->notify ? o->rank_count : 0),
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

bool output_notify_path(const struct output *o, uint32_t rank, char out[SHM_PATH_MAX])
{
	shm_notify_path(&o->setup.shm, o->attempt, rank, out);
	return o->notify;
}

/* A socket for every rank, or for none: a run goes on without them, and does not for want of descriptors. */
static void open_sockets(struct output *o)
{
	char path[SHM_PATH_MAX];
	struct rlimit files;

	close_all(sockets_of(o), o->rank_count);
	o->notify = o->source != PROGRESS_FROM_NOTHING && getrlimit(RLIMIT_NOFILE, &files) == 0 &&
	    files.rlim_cur / FILES_A_RANK > o->rank_count + FILES_ASIDE;
	for (uint32_t rank = 0; rank < o->rank_count && o->notify; rank++) {
		shm_notify_path(&o->setup.shm, o->attempt, rank, path);
		sockets_of(o)[rank] = notify_open(path);
		o->notify = sockets_of(o)[rank] >= 0;
	}
	if (!o->notify)
		close_all(sockets_of(o), o->rank_count);
}

/* A logger of the attempt before may still count its output in the old ones. */
static bool renew_words(struct output *o)
{
	struct logger_words *words = o->words;
	int fd = o->words_fd;

	if (!make_words(o)) {
		if (o->words_fd >= 0)
			close(o->words_fd);
		o->words = words;
		o->words_fd = fd;
		return false;
	}
	munmap(words, words_size(o));
	close(fd);
	return true;
}

bool output_start(struct output *o, uint32_t attempt, uint64_t after_step)
{
	close_all(o->read_ends, o->rank_count * 2);
	close_all(o->write_ends, o->rank_count * 2);
	o->attempt = attempt;
	o->after_step = after_step;
	o->current = 0;
	o->looks_wanted = 0;
	if (!renew_words(o))
		return false;
	for (uint32_t i = 0; i < o->rank_count * 2; i++) {
		int ends[2];

		if (pipe2(ends, O_CLOEXEC) != 0)
			return false;
		o->read_ends[i] = ends[0];
		o->write_ends[i] = ends[1];
	}
	open_sockets(o);
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
	return o->words->ranks[rank].bytes;
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

void output_ended(struct output *o)
{
	/* The look under way may have begun before; the one behind it did not. */
	if (o->source == PROGRESS_FROM_FILE)
		o->looks_wanted = atomic_load(&o->words->looks) + 2;
}

bool output_recognised(const struct output *o, uint32_t of_rank)
{
	if (o->source == PROGRESS_FROM_NOTHING)
		return true;
	if (atomic_load(&o->words->looks) < o->looks_wanted)
		return false;
	for (uint32_t rank = 0; rank < o->rank_count; rank++) {
		if (of_rank != RANK_NONE && of_rank != rank)
			continue;
		/* In this order: what was taken from the pipe was marked before. */
		if (output_pending(o, rank) || atomic_load(&o->words->ranks[rank].busy) != 0)
			return false;
	}
	return true;
}

bool output_progress(const struct output *o, uint32_t *rank_out, uint32_t *format_out)
{
	uint32_t reporter = atomic_load(&o->words->reporter);
	uint32_t format = atomic_load(&o->words->format);

	if (reporter == 0 || reporter > o->rank_count || format == PROGRESS_NONE ||
	    format >= PROGRESS_COUNT)
		return false;
	*rank_out = reporter - 1;
	*format_out = format;
	return true;
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
