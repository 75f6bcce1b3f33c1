/*
 * helper-logger: the ranks' output into files, so that neither a full nor a hanging disk reaches the agent.
 *
 * A file keeps its first and its last part: beyond the cap the middle is punched out (it reads as zeros and
 * takes no space).  What the disk refuses is counted, dropped, and said in the file once it is taken again: a
 * trainer never fails because its log does.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "supervisor/agent/helper.h"
#include "supervisor/agent/spawn.h"

#define FIRST_FD 3
#define PUNCH_BYTES (1 << 20)

struct output {
	int pipe_fd, file_fd; /* -1: ended; not open */
	uint64_t size_bytes, dropped_bytes, punched_bytes;
};

struct logger {
	const char *dir;
	unsigned ranks;
	uint64_t cap_bytes;
	struct output *outputs;
	_Atomic uint64_t *counters; /* a rank; NULL when they cannot be mapped */
};

static void output_open(const struct logger *l, unsigned index)
{
	struct output *o = &l->outputs[index];
	char path[4096];
	struct stat st;

	(void)mkdir(l->dir, 0700);
	snprintf(path, sizeof(path), "%s/rank-%04u.%s", l->dir, index / 2, index % 2 ? "err" : "out");
	o->file_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (o->file_fd >= 0 && fstat(o->file_fd, &st) == 0)
		o->size_bytes = (uint64_t)st.st_size;
}

/* Give the middle back to the file system: keep half the cap at the front and half at the end. */
static void output_cap(const struct logger *l, struct output *o)
{
	uint64_t head = l->cap_bytes / 2;

	if (o->punched_bytes < head)
		o->punched_bytes = head;
	if (o->size_bytes < o->punched_bytes + l->cap_bytes - head + PUNCH_BYTES)
		return;
	uint64_t end = o->size_bytes - (l->cap_bytes - head);

	if (fallocate(o->file_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		(off_t)o->punched_bytes, (off_t)(end - o->punched_bytes)) == 0)
		o->punched_bytes = end;
}

static void output_write(const struct logger *l, unsigned index, const char *bytes, size_t length)
{
	struct output *o = &l->outputs[index];

	if (o->file_fd < 0)
		output_open(l, index);
	if (o->file_fd >= 0 && o->dropped_bytes > 0) {
		char note[96];
		int size = snprintf(note, sizeof(note),
		    "\n[holdfast: %llu bytes could not be written here]\n",
		    (unsigned long long)o->dropped_bytes);

		if (write(o->file_fd, note, (size_t)size) == size) {
			o->size_bytes += (uint64_t)size;
			o->dropped_bytes = 0;
		}
	}
	while (length > 0) {
		ssize_t written = o->file_fd >= 0 ? write(o->file_fd, bytes, length) : -1;

		if (written < 0 && o->file_fd >= 0 && errno == EINTR)
			continue;
		if (written <= 0) {
			o->dropped_bytes += length;
			return;
		}
		o->size_bytes += (uint64_t)written;
		bytes += written;
		length -= (size_t)written;
	}
	output_cap(l, o);
}

/* Move what is there; false when the pipe has ended. */
static bool output_move(const struct logger *l, unsigned index)
{
	static char bytes[65536];
	struct output *o = &l->outputs[index];
	ssize_t length = read(o->pipe_fd, bytes, sizeof(bytes));

	if (length < 0 && (errno == EINTR || errno == EAGAIN))
		return true;
	if (length <= 0) {
		close(o->pipe_fd);
		o->pipe_fd = -1;
		return false;
	}
	if (l->counters != NULL)
		l->counters[index / 2] += (uint64_t)length;
	output_write(l, index, bytes, (size_t)length);
	return true;
}

static void run(const struct logger *l)
{
	unsigned count = l->ranks * 2, open_pipes = count;
	struct pollfd *polls = calloc(count, sizeof(*polls));

	while (polls != NULL && open_pipes > 0) {
		for (unsigned i = 0; i < count; i++)
			polls[i] = (struct pollfd){.fd = l->outputs[i].pipe_fd, .events = POLLIN};
		if (poll(polls, count, -1) < 0 && errno != EINTR)
			break;
		for (unsigned i = 0; i < count; i++)
			if (polls[i].fd >= 0 && polls[i].revents != 0 && !output_move(l, i))
				open_pipes--;
	}
	free(polls);
}

int helper_logger_main(int argc, char **argv)
{
	struct logger l = {.cap_bytes = 256u << 20};

	for (int i = 1; i + 1 < argc; i += 2) {
		if (strcmp(argv[i], "--dir") == 0)
			l.dir = argv[i + 1];
		else if (strcmp(argv[i], "--ranks") == 0)
			l.ranks = (unsigned)strtoul(argv[i + 1], NULL, 10);
		else if (strcmp(argv[i], "--cap-bytes") == 0)
			l.cap_bytes = strtoull(argv[i + 1], NULL, 10);
	}
	if (l.dir == NULL || l.ranks == 0 ||
	    (l.outputs = calloc(l.ranks * 2, sizeof(*l.outputs))) == NULL)
		return 64;
	prctl(PR_SET_NAME, "holdfast-logger");
	spawn_more_files();       /* poll takes no more than the limit */
	signal(SIGXFSZ, SIG_IGN); /* a limit on file sizes is like a full disk */
	for (unsigned i = 0; i < l.ranks * 2; i++)
		l.outputs[i] = (struct output){.pipe_fd = FIRST_FD + (int)i, .file_fd = -1};
	void *map = mmap(NULL, l.ranks * sizeof(uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED,
	    FIRST_FD + (int)l.ranks * 2, 0);

	l.counters = map != MAP_FAILED ? map : NULL;
	for (unsigned i = 0; i < l.ranks * 2; i++)
		output_open(&l, i);
	run(&l);
	free(l.outputs);
	return 0;
}
