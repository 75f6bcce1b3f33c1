/*
 * helper-logger: the ranks' output into files, so that neither a full nor a hanging disk reaches the agent; and what it
 * says of their iterations into their channels (agent/reporter.h).
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

#include "supervisor/agent/follow.h"
#include "supervisor/agent/helper.h"
#include "supervisor/agent/notify.h"
#include "supervisor/agent/reporter.h"
#include "supervisor/agent/spawn.h"
#include "supervisor/clock.h"
#include "supervisor/progress/progress.h"

#define FIRST_FD 3
#define PUNCH_BYTES (1 << 20)
#define MOVE_BYTES 65536u
#define NEWS_BYTES 4096u /* of a datagram */
#define NEWS_A_ROUND 64u
#define LOOK_MS 50 /* how often a file is looked at that is followed */

struct output {
	int pipe_fd, file_fd; /* -1: ended; not open */
	uint64_t size_bytes, dropped_bytes, punched_bytes;
};

struct logger {
	const char *dir, *progress, *shm_dir, *run_hex;
	unsigned ranks, attempt;
	uint64_t cap_bytes, after_step;
	bool notify;
	struct output *outputs;
	struct logger_words *words; /* NULL when they cannot be mapped */
	struct reporter *reporter;  /* NULL: nothing is recognised */
	struct regex *pattern;
	struct follow file; /* path NULL: none is followed */
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

/* The user's pattern takes longer than it may: said once, where the lines are that it is for. */
static void note_slowness(const struct logger *l, unsigned index)
{
	static const char note[] = "\n[holdfast: the --progress pattern takes too long on some of "
				   "these lines; they are left out]\n";

	if (reporter_too_slow(l->reporter))
		output_write(l, index, note, sizeof(note) - 1);
}

/* What was read is looked at before it is written: a disk that hangs does not keep what is known to be there. */
static void take(const struct logger *l, unsigned index, const char *bytes, size_t length)
{
	struct logger_rank *rank = l->words != NULL ? &l->words->ranks[index / 2] : NULL;

	if (rank != NULL)
		rank->bytes += (uint64_t)length;
	/* With a file that is followed, that is where the iterations are. */
	if (l->reporter != NULL && l->file.path == NULL)
		reporter_bytes(l->reporter, index / 2, index % 2 ? REPORTER_ERR : REPORTER_OUT,
		    bytes, length, clock_monotonic_ns());
	if (rank != NULL)
		atomic_store(&rank->busy, 0);
	output_write(l, index, bytes, length);
	if (l->reporter != NULL)
		note_slowness(l, index);
}

static void end_pipe(const struct logger *l, unsigned index)
{
	close(l->outputs[index].pipe_fd);
	l->outputs[index].pipe_fd = -1;
	if (l->reporter != NULL && l->file.path == NULL)
		reporter_end(l->reporter, index / 2, index % 2 ? REPORTER_ERR : REPORTER_OUT,
		    clock_monotonic_ns());
	if (l->words != NULL)
		atomic_store(&l->words->ranks[index / 2].busy, 0);
}

/* Move what is there; false when the pipe has ended. */
static bool output_move(const struct logger *l, unsigned index)
{
	static char bytes[MOVE_BYTES];
	ssize_t length;

	/* Set before the pipe is empty, so that who finds it empty finds this. */
	if (l->words != NULL)
		atomic_store(&l->words->ranks[index / 2].busy, 1);
	length = read(l->outputs[index].pipe_fd, bytes, sizeof(bytes));
	if (length > 0) {
		take(l, index, bytes, (size_t)length);
		return true;
	}
	if (length < 0 && (errno == EINTR || errno == EAGAIN)) {
		if (l->words != NULL)
			atomic_store(&l->words->ranks[index / 2].busy, 0);
		return true;
	}
	end_pipe(l, index);
	return false;
}

static void take_news(const struct logger *l, unsigned rank, int fd)
{
	char text[NEWS_BYTES];
	struct notify_news news;

	/* In turn with the rest: a rank that says nothing else does not keep us from its output. */
	for (unsigned i = 0; i < NEWS_A_ROUND && notify_read(fd, text, sizeof(text), &news); i++) {
		uint64_t now_ns = clock_monotonic_ns();

		if (news.alive)
			reporter_alive(l->reporter, rank, now_ns);
		if (news.ready)
			reporter_ready(l->reporter, rank, now_ns);
		if (news.status != NULL)
			reporter_text(l->reporter, rank, news.status, news.status_bytes, now_ns);
	}
}

static void on_file(void *context, const char *bytes, size_t length)
{
	const struct logger *l = context;

	reporter_bytes(l->reporter, 0, REPORTER_OUT, bytes, length, clock_monotonic_ns());
}

static void look_at_file(struct logger *l)
{
	struct logger_words *w = l->words;

	(void)follow_look(&l->file, on_file, l);
	w->file_device = l->file.device;
	w->file_inode = l->file.inode;
	w->file_offset = l->file.offset;
	atomic_fetch_add(&w->looks, 1);
}

/*
 * One round of what poll() found.  A rank's standard error comes before its output: a progress bar is drawn there, and
 * what is printed beside it belongs to the bar's last drawing.  Returns how many pipes ended.
 */
static unsigned move_all(const struct logger *l, const struct pollfd polls[])
{
	unsigned ended = 0, pipes = l->ranks * 2;

	for (unsigned i = 0; i < pipes; i++) {
		unsigned index = i ^ 1u;

		if (polls[index].fd >= 0 && polls[index].revents != 0 && !output_move(l, index))
			ended++;
	}
	for (unsigned rank = 0; l->notify && rank < l->ranks; rank++)
		if (polls[pipes + rank].revents != 0)
			take_news(l, rank, polls[pipes + rank].fd);
	return ended;
}

static void run(struct logger *l)
{
	unsigned pipes = l->ranks * 2, open_pipes = pipes;
	unsigned count = pipes + (l->notify ? l->ranks : 0);
	struct pollfd *polls = calloc(count, sizeof(*polls));
	uint64_t look_ns = 0;

	while (polls != NULL && open_pipes > 0) {
		for (unsigned i = 0; i < count; i++)
			polls[i] = (struct pollfd){
			    .fd = i < pipes ? l->outputs[i].pipe_fd : FIRST_FD + 1 + (int)i,
			    .events = POLLIN};
		if (poll(polls, count, l->file.path != NULL ? LOOK_MS : -1) < 0 && errno != EINTR)
			break;
		open_pipes -= move_all(l, polls);
		if (l->file.path != NULL && clock_monotonic_ns() - look_ns >= LOOK_MS * 1000000ull) {
			look_at_file(l);
			look_ns = clock_monotonic_ns();
		}
	}
	if (l->file.path != NULL) {
		look_at_file(l);
		reporter_end(l->reporter, 0, REPORTER_OUT, clock_monotonic_ns());
		look_at_file(l); /* whoever counts the looks learns that this one is over */
	}
	free(polls);
}

/* Where the iterations are looked for.  Whatever fails here, output goes on into its files. */
static void begin_reporting(struct logger *l)
{
	enum progress_source source = progress_source_of(l->progress);
	struct reporter_setup setup = {.shm = {.dir = l->shm_dir, .run_hex = l->run_hex},
	    .words = l->words,
	    .ranks = l->ranks,
	    .attempt = l->attempt,
	    .after_step = l->after_step};
	struct cause why;

	if (source == PROGRESS_FROM_NOTHING || l->words == NULL || l->shm_dir == NULL ||
	    l->run_hex == NULL)
		return;
	if (source == PROGRESS_FROM_PATTERN && regex_new(l->progress, &l->pattern, &why) != STATUS_OK)
		return;
	setup.pattern = l->pattern;
	l->reporter = reporter_new(&setup);
	if (l->reporter == NULL || source != PROGRESS_FROM_FILE)
		return;
	follow_init(&l->file, progress_path(l->progress));
	l->file.device = l->words->file_device;
	l->file.inode = l->words->file_inode;
	l->file.offset = l->words->file_offset;
	look_at_file(l); /* what is in it now is of before */
}

static void read_arguments(struct logger *l, int argc, char **argv)
{
	for (int i = 1; i + 1 < argc; i += 2) {
		const char *value = argv[i + 1];

		if (strcmp(argv[i], "--dir") == 0)
			l->dir = value;
		else if (strcmp(argv[i], "--ranks") == 0)
			l->ranks = (unsigned)strtoul(value, NULL, 10);
		else if (strcmp(argv[i], "--cap-bytes") == 0)
			l->cap_bytes = strtoull(value, NULL, 10);
		else if (strcmp(argv[i], "--progress") == 0)
			l->progress = value;
		else if (strcmp(argv[i], "--shm-dir") == 0)
			l->shm_dir = value;
		else if (strcmp(argv[i], "--run") == 0)
			l->run_hex = value;
		else if (strcmp(argv[i], "--attempt") == 0)
			l->attempt = (unsigned)strtoul(value, NULL, 10);
		else if (strcmp(argv[i], "--after-step") == 0)
			l->after_step = strtoull(value, NULL, 10);
		else if (strcmp(argv[i], "--notify") == 0)
			l->notify = true;
	}
}

int helper_logger_main(int argc, char **argv)
{
	struct logger l = {.cap_bytes = 256u << 20, .progress = "none", .after_step = STEP_NONE};
	size_t size;

	read_arguments(&l, argc, argv);
	if (l.dir == NULL || l.ranks == 0 ||
	    (l.outputs = calloc(l.ranks * 2, sizeof(*l.outputs))) == NULL)
		return 64;
	prctl(PR_SET_NAME, "holdfast-logger");
	spawn_more_files();       /* poll takes no more than the limit */
	signal(SIGXFSZ, SIG_IGN); /* a limit on file sizes is like a full disk */
	for (unsigned i = 0; i < l.ranks * 2; i++)
		l.outputs[i] = (struct output){.pipe_fd = FIRST_FD + (int)i, .file_fd = -1};
	size = sizeof(*l.words) + l.ranks * sizeof(l.words->ranks[0]);
	void *map = mmap(
	    NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, FIRST_FD + (int)l.ranks * 2, 0);

	l.words = map != MAP_FAILED ? map : NULL;
	for (unsigned i = 0; i < l.ranks * 2; i++)
		output_open(&l, i);
	begin_reporting(&l);
	l.notify = l.notify && l.reporter != NULL;
	run(&l);
	reporter_free(l.reporter);
	regex_free(l.pattern);
	free(l.outputs);
	return 0;
}
