/*
 * helper-keeper.  See keeper.h.
 *
 * One thread, one loop: it looks (tracker), lets a child keep what has come to rest (kept_save(), which may take
 * minutes, hang or crash), and talks to the agent.  One child at a time.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "supervisor/clock.h"
#include "supervisor/ladder/keeper.h"
#include "supervisor/ladder/kept.h"
#include "supervisor/ladder/tracker.h"

#define MS 1000000ull
#define READ_EVERY_NS (20 * MS) /* notices of a flood merge meanwhile */
#define WRITING_EVERY_NS (1000 * MS)
#define TROUBLE_EVERY_NS (60000 * MS) /* the same trouble */
#define BUSY_RETRY_NS (500 * MS)
#define TROUBLE_RETRY_NS (30000 * MS)
#define LOCK_RETRY_MS 100
#define ITEMS_MIN 8u
#define ITEMS_MORE 2u /* followed beyond those that are kept */
#define NICE 10
/* linux/ioprio.h: the lowest of the best-effort class, so that the trainer's own reads come first. */
#define IOPRIO_WHO_PROCESS 1
#define IOPRIO_LOW ((2 << 13) | 7)

struct job {
	int pid, fd; /* pid 0: none */
	uint64_t writing;
	bool at_start;
	struct kept_plan plan;
	char path[PATTERN_PATH_MAX];
};

struct keeper {
	struct pattern pattern;
	const char *run_dir;
	enum kept_mode mode;
	uint64_t keep, budget_bytes;
	struct kept kept;
	struct tracker tracker;
	struct job job;
	struct keeper_message message; /* one at a time; too large for the stack of every function */
	uint64_t protected_ordinal, also_protected;
	bool may_prune; /* the agent has said what must stay */
	bool stop;
	uint64_t written_ns; /* when KEEPER_WRITING was said last */
	uint64_t announced;  /* the last writing that was announced */
	uint64_t read_ns;    /* when the notices were read last */
	uint64_t trouble_ns; /* when trouble_number was said last */
	int trouble_number;
};

/* --- talking --------------------------------------------------------------------------------------------- */

static struct keeper_message *message(struct keeper *k, enum keeper_kind kind)
{
	k->message = (struct keeper_message){.kind = kind, .step = STEP_NONE};
	return &k->message;
}

/* must: wait until the agent takes it; else it is dropped when there is no room. */
static void say(struct keeper *k, bool must)
{
	while (!k->stop) {
		struct pollfd poll_one = {.fd = KEEPER_SOCKET_FD, .events = POLLOUT};

		if (send(KEEPER_SOCKET_FD, &k->message, sizeof(k->message),
			MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
			return;
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN && errno != ENOBUFS)
			k->stop = true;
		else if (!must)
			return;
		else
			(void)poll(&poll_one, 1, 1000);
	}
}

static void say_trouble(struct keeper *k, int number, const char *path)
{
	uint64_t now_ns = clock_monotonic_ns();
	struct keeper_message *m;

	if (number == k->trouble_number && now_ns < k->trouble_ns + TROUBLE_EVERY_NS)
		return;
	k->trouble_number = number;
	k->trouble_ns = now_ns;
	m = message(k, KEEPER_TROUBLE);
	m->error = number;
	snprintf(m->original, sizeof(m->original), "%s", path);
	say(k, true);
}

static void say_kept(struct keeper *k, const struct manifest *kept, uint32_t flags, uint64_t writing)
{
	struct keeper_message *m = message(k, KEEPER_KEPT);

	m->flags = (kept->flags & ~MANIFEST_RENAMED) | flags;
	m->step = kept->step;
	m->ordinal = kept->ordinal;
	m->size_bytes = kept->size_bytes;
	m->file_count = kept->file_count;
	m->writing = writing;
	m->finite = kept->finite;
	memcpy(m->digest, kept->digest, sizeof(m->digest));
	(void)kept_path(&k->kept, kept, m->kept);
	snprintf(m->original, sizeof(m->original), "%s", kept->original);
	say(k, true);
}

static void say_writing(struct keeper *k, const struct item *item, uint64_t now_ns)
{
	struct keeper_message *m = message(k, KEEPER_WRITING);

	m->flags = item->writing > k->announced ? KEEPER_BEGINS : 0;
	m->step = item->step;
	m->writing = item->writing;
	m->size_bytes = item->size_bytes;
	snprintf(m->original, sizeof(m->original), "%s", item->path);
	/* Which step it belongs to is asked at the beginning only. */
	say(k, (m->flags & KEEPER_BEGINS) != 0);
	k->written_ns = now_ns;
}

static void say_activity(struct keeper *k, uint64_t now_ns)
{
	struct tracker *t = &k->tracker;
	uint64_t newest = k->announced;

	for (size_t i = 0; i < t->count; i++) {
		const struct item *item = &t->items[i];
		bool recent = item->changed_ns > k->written_ns &&
		    now_ns >= k->written_ns + WRITING_EVERY_NS;

		if (item->writing == 0 ||
		    (item->writing <= k->announced && !(tracker_open(item) && recent)))
			continue;
		say_writing(k, item, now_ns);
		newest = item->writing > newest ? item->writing : newest;
	}
	k->announced = newest;
	if (t->apart_seen && now_ns >= k->written_ns + WRITING_EVERY_NS) {
		struct keeper_message *m = message(k, KEEPER_WRITING);
		struct stat st;

		m->step = t->apart_step;
		m->size_bytes = stat(t->apart, &st) == 0 && S_ISREG(st.st_mode) ? (uint64_t)st.st_size
										: 0;
		snprintf(m->original, sizeof(m->original), "%s", t->apart);
		say(k, false);
		k->written_ns = now_ns;
	}
	t->apart_seen = false;
}

/* --- pruning --------------------------------------------------------------------------------------------- */

static void drop(struct keeper *k, size_t index, int reason)
{
	struct keeper_message *m = message(k, KEEPER_DROPPED);

	m->ordinal = k->kept.entries[index]->ordinal;
	m->step = k->kept.entries[index]->step;
	m->error = reason;
	(void)kept_path(&k->kept, k->kept.entries[index], m->kept);
	kept_drop(&k->kept, index);
	say(k, true);
}

/* The oldest that may go; never the protected ones, nor the newest `spare`. */
static bool drop_oldest(struct keeper *k, size_t spare)
{
	for (size_t i = 0; k->may_prune && i + spare < k->kept.count; i++) {
		if (k->kept.entries[i]->ordinal == k->protected_ordinal ||
		    k->kept.entries[i]->ordinal == k->also_protected)
			continue;
		drop(k, i, 0);
		return true;
	}
	return false;
}

/* need_bytes: of one that is about to be kept. */
static void prune(struct keeper *k, uint64_t need_bytes)
{
	while (drop_oldest(k, k->keep))
		;
	while (k->budget_bytes != 0 && kept_size_bytes(&k->kept) + need_bytes > k->budget_bytes &&
	    drop_oldest(k, 1))
		;
	if (k->may_prune && k->budget_bytes != 0 && kept_size_bytes(&k->kept) > k->budget_bytes)
		say_trouble(k, EDQUOT, k->kept.dir);
}

/* Copies of links that somebody wrote to are copies of nothing. */
static void drop_changed(struct keeper *k)
{
	for (size_t i = k->kept.count; i-- > 0;) {
		if (!kept_changed(&k->kept, k->kept.entries[i]))
			continue;
		kept_distrust_links(&k->kept);
		drop(k, i, ESTALE);
	}
}

/* --- keeping --------------------------------------------------------------------------------------------- */

/*
 * Links share their bytes with the file.  They are safe for one that was renamed into place.  A numbered file is
 * most likely written once: but not before another copy stands beside it is that relied on.
 */
static bool may_link(const struct keeper *k, const struct item *item)
{
	struct stat st;

	if (k->kept.rewritten || lstat(item->path, &st) != 0 || S_ISLNK(st.st_mode))
		return false;
	if (item->renamed)
		return true;
	if (!k->pattern.numbered || item->at_start)
		return false;
	for (size_t i = 0; i < k->kept.count; i++)
		if (k->kept.entries[i]->step != item->step)
			return true;
	return false;
}

static void run_child(struct keeper *k, int fd, pid_t parent)
{
	static struct kept_result result;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	/* The agent waits for the socket's end, which must be the keeper's. */
	close(KEEPER_SOCKET_FD);
	(void)setpriority(PRIO_PROCESS, 0, NICE);
	(void)syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_LOW);
	kept_save(&k->kept, &k->job.plan, &result);
	_exit(write(fd, &result, sizeof(result)) == (ssize_t)sizeof(result) ? 0 : 1);
}

static void start_job(struct keeper *k, struct item *item, uint64_t now_ns)
{
	struct job *job = &k->job;
	pid_t parent = getpid();
	int ends[2];

	/* What was linked has to be looked at before it is the reason to trust links. */
	drop_changed(k);
	prune(k, k->mode == KEPT_IN_PLACE ? 0 : item->size_bytes);
	snprintf(job->path, sizeof(job->path), "%s", item->path);
	job->plan = (struct kept_plan){.path = job->path,
	    .step = item->step,
	    .mode = k->mode,
	    .may_link = may_link(k, item),
	    .renamed = item->renamed,
	    .may_be_parts = now_ns >= tracker_whole_ns(item)};
	memcpy(job->plan.source, item->signature, sizeof(job->plan.source));
	job->writing = item->writing;
	job->at_start = item->at_start;
	item->retry_ns = now_ns + TROUBLE_RETRY_NS;
	if (pipe2(ends, O_CLOEXEC) != 0) {
		say_trouble(k, errno, item->path);
		return;
	}
	job->pid = fork();
	if (job->pid == 0)
		run_child(k, ends[1], parent);
	close(ends[1]);
	if (job->pid < 0) {
		job->pid = 0;
		close(ends[0]);
		say_trouble(k, EAGAIN, item->path);
		return;
	}
	job->fd = ends[0];
	/* What is written from now on is another writing. */
	item->writing = 0;
}

/* The result of the child; false when it died without one. */
static bool take_result(struct job *job, struct kept_result *result)
{
	size_t done = 0;
	ssize_t length;

	do {
		length = read(job->fd, (char *)result + done, sizeof(*result) - done);
		if (length > 0)
			done += (size_t)length;
	} while (length > 0 || (length < 0 && errno == EINTR));
	close(job->fd);
	while (waitpid(job->pid, NULL, 0) < 0 && errno == EINTR)
		;
	job->pid = 0;
	return done == sizeof(*result);
}

static void on_kept(struct keeper *k, const struct manifest *made)
{
	uint32_t flags = k->job.at_start ? KEEPER_AT_START : 0;

	if (kept_enter(&k->kept, made) != STATUS_OK) {
		say_trouble(k, ENOMEM, made->original);
		return;
	}
	say_kept(k, made, flags, k->job.writing);
	prune(k, 0);
}

/* The same bytes: either somebody put them back (their time is that of then), or the script wrote them again. */
static void on_kept_before(struct keeper *k, const struct item *item, const struct manifest *made)
{
	size_t index = kept_find(&k->kept, made->ordinal);
	bool put_back = item == NULL || item->mtime_ns == made->mtime_ns;

	if (index == KEPT_NONE)
		return;
	say_kept(k, made, put_back ? KEEPER_AGAIN : KEEPER_REWRITTEN, k->job.writing);
}

static void on_not_now(struct item *item, const struct kept_result *result)
{
	item->look = true;
	item->retry_ns = result->why.number == EINPROGRESS ? tracker_whole_ns(item)
							   : clock_monotonic_ns() + BUSY_RETRY_NS;
}

static void on_result(struct keeper *k)
{
	static struct kept_result result;
	bool whole = take_result(&k->job, &result);
	struct item *item = tracker_find(&k->tracker, k->job.path);

	if (!whole) {
		kept_clean(&k->kept);
		say_trouble(k, ECHILD, k->job.path);
		return;
	}
	if (result.status == STATUS_OK)
		on_kept(k, &result.made);
	else if (result.status == STATUS_NONE)
		on_kept_before(k, item, &result.made);
	else if (result.status == STATUS_FULL || result.status == STATUS_SYS)
		say_trouble(k, (int)result.why.number, result.why.subject);
	if (item == NULL)
		return;
	/* What could not be kept yet is still of that writing, unless another one has begun. */
	if (result.status != STATUS_OK && result.status != STATUS_NONE &&
	    result.status != STATUS_BAD && item->writing == 0)
		item->writing = k->job.writing;
	if (result.status == STATUS_OK || result.status == STATUS_NONE || result.status == STATUS_BAD)
		tracker_settle(item, k->job.plan.source);
	else if (result.status == STATUS_AGAIN)
		on_not_now(item, &result);
	/* The newest is worth more than the oldest. */
	else if (result.status == STATUS_FULL && k->kept.count > 2 && drop_oldest(k, 1))
		item->retry_ns = 0;
}

static void start_next(struct keeper *k, uint64_t now_ns)
{
	struct tracker *t = &k->tracker;
	struct item *first = NULL;

	if (k->job.pid != 0)
		return;
	/* The oldest first, so that the ordinals follow the script. */
	for (size_t i = 0; i < t->count; i++) {
		struct item *item = &t->items[i];
		size_t known;

		if (item->look || tracker_ready_ns(t, item) > now_ns)
			continue;
		known = kept_known(&k->kept, item->path, item->signature);
		if (known != KEPT_NONE) {
			tracker_settle(item, item->signature);
			item->writing = 0;
		} else if (first == NULL || item->mtime_ns < first->mtime_ns) {
			first = item;
		}
	}
	if (first != NULL)
		start_job(k, first, now_ns);
}

/* --- the loop -------------------------------------------------------------------------------------------- */

static void hear(struct keeper *k)
{
	static struct keeper_message heard;

	for (;;) {
		ssize_t length = recv(KEEPER_SOCKET_FD, &heard, sizeof(heard), MSG_DONTWAIT);
		size_t index;

		if (length < 0 && errno == EINTR)
			continue;
		if (length < 0 && errno == EAGAIN)
			return;
		if (length <= 0 || (length == (ssize_t)sizeof(heard) && heard.kind == KEEPER_STOP)) {
			k->stop = true;
			return;
		}
		if (length != (ssize_t)sizeof(heard))
			continue;
		if (heard.kind == KEEPER_PROTECT) {
			k->protected_ordinal = heard.ordinal;
			k->also_protected = heard.also;
			k->may_prune = true;
			prune(k, 0);
		} else if (heard.kind == KEEPER_DROP) {
			index = kept_find(&k->kept, heard.ordinal);
			if (index != KEPT_NONE)
				drop(k, index, 0);
		}
	}
}

static uint64_t next_ns(const struct keeper *k)
{
	const struct tracker *t = &k->tracker;
	uint64_t next = tracker_due_ns(t);

	for (size_t i = 0; i < t->count && k->job.pid == 0; i++) {
		uint64_t ready_ns = tracker_ready_ns(t, &t->items[i]);

		if (!t->items[i].look && ready_ns < next)
			next = ready_ns;
	}
	return next;
}

static void wait_for_something(struct keeper *k, uint64_t now_ns)
{
	bool may_read = now_ns >= k->read_ns + READ_EVERY_NS;
	uint64_t next = next_ns(k), most_ns = may_read ? 1000 * MS : READ_EVERY_NS;
	uint64_t wait_ns = next <= now_ns ? 0 : next - now_ns < most_ns ? next - now_ns : most_ns;
	struct pollfd polls[] = {
	    {.fd = KEEPER_SOCKET_FD, .events = POLLIN},
	    {.fd = may_read ? k->tracker.watch.fd : -1, .events = POLLIN},
	    {.fd = k->job.pid != 0 ? k->job.fd : -1, .events = POLLIN},
	};

	if (poll(polls, 3, (int)((wait_ns + MS - 1) / MS)) <= 0)
		return;
	if (polls[0].revents != 0)
		hear(k);
	if (polls[1].revents != 0) {
		k->read_ns = clock_monotonic_ns();
		tracker_read(&k->tracker);
	}
	if (polls[2].revents != 0)
		on_result(k);
}

static void run(struct keeper *k)
{
	while (!k->stop) {
		uint64_t now_ns = clock_monotonic_ns();
		struct cause why;

		if (now_ns >= tracker_due_ns(&k->tracker)) {
			if (tracker_look(&k->tracker, now_ns, &why) != STATUS_OK)
				say_trouble(k, (int)why.number, why.subject);
			drop_changed(k);
		}
		say_activity(k, now_ns);
		start_next(k, now_ns);
		wait_for_something(k, clock_monotonic_ns());
	}
	if (k->job.pid != 0) {
		(void)kill(k->job.pid, SIGKILL);
		while (waitpid(k->job.pid, NULL, 0) < 0 && errno == EINTR)
			;
		kept_clean(&k->kept);
	}
}

/* Another keeper may still be dying, or what it started. */
static enum status take_possession(struct keeper *k, struct cause *why)
{
	enum status status;

	while ((status = kept_open(&k->kept, k->run_dir, why)) == STATUS_AGAIN ||
	    status == STATUS_FULL) {
		struct pollfd poll_one = {.fd = KEEPER_SOCKET_FD, .events = POLLIN};

		say_trouble(k, status == STATUS_FULL ? ENOSPC : EBUSY, k->run_dir);
		if (poll(&poll_one, 1, LOCK_RETRY_MS) > 0)
			hear(k);
		if (k->stop)
			break;
	}
	return status;
}

static void greet(struct keeper *k)
{
	struct cause why;

	if (tracker_look(&k->tracker, clock_monotonic_ns(), &why) != STATUS_OK)
		say_trouble(k, (int)why.number, why.subject);
	message(k, KEEPER_READY)->flags = k->tracker.watch.polling ? KEEPER_POLLING : 0;
	say(k, true);
	drop_changed(k);
	for (size_t i = 0; i < k->kept.count; i++)
		say_kept(k, k->kept.entries[i], KEEPER_AGAIN, 0);
}

static bool parse_mode(const char *word, enum kept_mode *mode)
{
	static const char *const words[] = {
	    [KEPT_AUTO] = "auto", [KEPT_LINK] = "link", [KEPT_COPY] = "copy", [KEPT_IN_PLACE] = "inplace"};

	for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strcmp(word, words[i]) == 0) {
			*mode = (enum kept_mode)i;
			return true;
		}
	}
	return false;
}

static bool parse(struct keeper *k, int argc, char **argv)
{
	const char *pattern = NULL;
	struct cause why;

	for (int i = 1; i + 1 < argc; i += 2) {
		if (strcmp(argv[i], "--pattern") == 0)
			pattern = argv[i + 1];
		else if (strcmp(argv[i], "--run-dir") == 0)
			k->run_dir = argv[i + 1];
		else if (strcmp(argv[i], "--keep") == 0)
			k->keep = strtoull(argv[i + 1], NULL, 10);
		else if (strcmp(argv[i], "--budget-bytes") == 0)
			k->budget_bytes = strtoull(argv[i + 1], NULL, 10);
		else if (strcmp(argv[i], "--mode") != 0 || !parse_mode(argv[i + 1], &k->mode))
			return false;
	}
	if (argc % 2 == 0 || pattern == NULL || k->run_dir == NULL || k->run_dir[0] != '/' ||
	    k->keep < 2)
		return false;
	if (k->keep > KEPT_MAX / 2)
		k->keep = KEPT_MAX / 2;
	return pattern_parse(&k->pattern, pattern, &why) == STATUS_OK;
}

int helper_keeper_main(int argc, char **argv)
{
	static struct keeper k;
	struct cause why;
	enum status status;

	if (!parse(&k, argc, argv))
		return 64;
	(void)prctl(PR_SET_NAME, "holdfast-keeper");
	(void)signal(SIGPIPE, SIG_IGN);
	(void)signal(SIGXFSZ, SIG_IGN); /* a limit on file sizes is like a full disk */
	(void)fcntl(KEEPER_SOCKET_FD, F_SETFD, FD_CLOEXEC);
	status = take_possession(&k, &why);
	if (k.stop)
		return 0;
	if (status != STATUS_OK) {
		say_trouble(&k, (int)why.number, why.subject);
		return 1;
	}
	if (tracker_init(&k.tracker, &k.pattern,
		k.keep + ITEMS_MORE > ITEMS_MIN ? k.keep + ITEMS_MORE : ITEMS_MIN) != STATUS_OK)
		return 1;
	greet(&k);
	run(&k);
	tracker_fini(&k.tracker);
	kept_close(&k.kept);
	return 0;
}
