/* See crew.h. */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <event2/event.h>

#include "supervisor/agent/crew.h"
#include "supervisor/agent/deathwatch.h"
#include "supervisor/agent/oom.h"
#include "supervisor/agent/output.h"
#include "supervisor/agent/rankenv.h"
#include "supervisor/agent/ring.h"
#include "supervisor/agent/shm.h"
#include "supervisor/agent/sweep.h"
#include "supervisor/agent/tell.h"
#include "supervisor/agent/warm.h"
#include "supervisor/clock.h"

#define POLL_MS 10      /* how often the rings are looked at while reports come quickly */
#define POLL_MAX_MS 100 /* … and while they come slowly */
#define POLL_SHARE 8u   /* of the time since the last report */
#define CLEAR_POLL_MS 2 /* how often a clearing attempt is looked at */
#define CRASH_GRACE_NS 50000000ull /* a crashed process may end by its own signal */
#define LAST_WORDS_NS                                                                              \
	500000000ull /* an end waits for its output to be looked through, so long at most */
#define SPARE_MAX 256u

struct member {
	int pid, pidfd;     /* 0, -1: no process */
	uint64_t killed_ns; /* monotonic; when we sent SIGKILL, 0 never */
	uint64_t alarm_answered_ns;
	uint64_t ended_ns; /* monotonic; when it was reaped */
	bool connected, death_told, crash_told;
	struct ring ring;
};

struct crew {
	struct crew_setup setup;
	char run_hex[33]; /* of the run id */
	struct shm shm;
	char path[SHM_PATH_MAX];
	struct deathwatch *watch;
	struct event *news, *poll, *clear_timer;
	int news_fd;
	uint64_t reported_ns; /* monotonic; when a ring last held something in this attempt, 0 never */
	uint64_t last_step; /* that passed by in this attempt, or that it resumed from */
	uint32_t attempt;   /* whose members these are */
	uint32_t cleared;   /* highest attempt proven gone */
	bool environment_swept;
	/* clearing */
	uint32_t clearing; /* attempt being ended; meaningful while clear_deadline_ns != 0 */
	uint64_t clear_deadline_ns; /* monotonic */
	uint32_t swept;
	struct output *output;
	const char *const *command;              /* of this attempt; borrowed */
	struct warm *warm;                       /* NULL: not wanted */
	bool start_pending;                      /* an attempt waits for the warm interpreter */
	uint32_t progress_rank, progress_format; /* told last; format 0: nothing was */
	struct oom oom;
	uint32_t rank_count;
	struct member members[];
};

/* --- names --------------------------------------------------------------------------------------------- */

const char *crew_snapshot_path(struct crew *c, uint32_t rank)
{
	shm_snapshot_path(&c->shm, rank, c->path);
	return c->path;
}

static void log_path(
    const struct crew *c, uint32_t attempt, uint32_t rank, const char *end, char out[4096])
{
	snprintf(out, 4096, "%s/logs/attempt-%03u/rank-%04u.%s", c->setup.options->run_dir, attempt,
	    rank, end);
}

static struct tell say(const struct crew *c, uint32_t rank)
{
	return (struct tell){.link = c->setup.link, .attempt = c->attempt, .rank = rank};
}

/* --- saying what is seen -------------------------------------------------------------------------------- */

/* A SIGKILL that is not ours may be the kernel's. */
static enum oom_kill suspect_oom(const struct crew *c, const struct member *m, int wait_status)
{
	return WIFSIGNALED(wait_status) && WTERMSIG(wait_status) == SIGKILL && m->killed_ns == 0
	    ? oom_suspect(&c->oom)
	    : OOM_NONE;
}

static void say_death(struct crew *c, uint32_t rank, const struct death_news *news)
{
	struct member *m = &c->members[rank];

	if (m->death_told)
		return;
	m->death_told = true;
	tell_death(say(c, rank), news,
	    news->status_known ? suspect_oom(c, m, news->wait_status) : OOM_NONE);
}

/* Whether an end may come from another rank's: a broken connection ends in an error, an abort or a SIGPIPE. */
static bool may_follow(int wait_status)
{
	return WIFEXITED(wait_status)
	    ? WEXITSTATUS(wait_status) != 0
	    : WTERMSIG(wait_status) == SIGABRT || WTERMSIG(wait_status) == SIGPIPE;
}

/*
 * A rank ended as those do that lose a peer.  One that a signal is ending at this moment began to die before it:
 * freeing memory takes a while, and what ended together is reaped in any order.  So that one is told first.
 */
static void say_who_was_first(struct crew *c, uint32_t ended, const struct death_news *news)
{
	struct death_news earlier = {
	    .monotonic_ns = news->monotonic_ns - 1, .status_known = 1, .source = DEATH_PROC};

	if (c->clear_deadline_ns != 0 || !news->status_known || !may_follow(news->wait_status))
		return;
	for (uint32_t rank = 0; rank < c->rank_count; rank++)
		if (rank != ended && c->members[rank].pid != 0 && c->members[rank].killed_ns == 0 &&
		    deathwatch_status(c->members[rank].pid, &earlier.wait_status) &&
		    !may_follow(earlier.wait_status))
			say_death(c, rank, &earlier);
}

static void notice_death(struct crew *c, uint32_t rank, const struct death_news *news)
{
	if (c->members[rank].death_told)
		return;
	say_who_was_first(c, rank, news);
	say_death(c, rank, news);
}

static void notice_crash(struct crew *c, uint32_t rank, uint64_t monotonic_ns)
{
	struct member *m = &c->members[rank];

	if (m->crash_told || m->ring.map == NULL)
		return;
	m->crash_told = true;
	tell_crashing(say(c, rank), &m->ring.map->control, monotonic_ns);
}

static void notice_damage(struct crew *c, uint32_t rank)
{
	struct ring *ring = &c->members[rank].ring;

	if (!ring->damaged || ring->damage_reported)
		return;
	ring->damage_reported = true;
	tell_damage((struct tell){.link = c->setup.link, .attempt = ring->attempt, .rank = rank}, ring);
}

static void on_news(evutil_socket_t fd, short what, void *argument)
{
	struct crew *c = argument;
	struct death_news news;

	(void)what;
	while (read(fd, &news, sizeof(news)) == (ssize_t)sizeof(news)) {
		if (news.attempt != c->attempt || news.rank >= c->rank_count ||
		    c->members[news.rank].pid == 0)
			continue;
		news.source = DEATH_FUTEX;
		if (news.kind == NEWS_CRASHING)
			notice_crash(c, news.rank, news.monotonic_ns);
		else
			notice_death(c, news.rank, &news);
	}
}

/* --- reports --------------------------------------------------------------------------------------------- */

/* Whether nothing more can be read from the rings of a rank, or of all (RANK_NONE). */
static bool rings_drained(const struct crew *c, uint32_t of_rank)
{
	for (uint32_t rank = 0; rank < c->rank_count; rank++)
		if ((of_rank == RANK_NONE || of_rank == rank) && ring_has_more(&c->members[rank].ring))
			return false;
	return true;
}

/* A path as the trainer gave it means something in its directory only. */
static void make_absolute(const struct crew *c, char path[RECORD_TEXT_MAX])
{
	char whole[RECORD_TEXT_MAX];
	int length;

	if (path[0] == '/')
		return;
	length = snprintf(whole, sizeof(whole), "%s/%s", c->setup.options->work_dir, path);
	if (length > 0 && (size_t)length < sizeof(whole))
		memcpy(path, whole, (size_t)length + 1);
}

/* One batch of a rank's reports; false when there is none. */
static bool pump_ring(struct crew *c, uint32_t rank)
{
	struct ring *ring = &c->members[rank].ring;
	struct iteration reports[256];
	char path[RECORD_TEXT_MAX];
	uint32_t count = ring_read(ring, reports, 256, path);
	struct wire_ring head = {.rank = rank, .attempt = ring->attempt, .count = count};

	if (count == 0)
		return false;
	c->reported_ns = clock_monotonic_ns();
	bool saved = reports[0].kind == ITERATION_CHECKPOINT;

	for (uint32_t i = 0; i < count && ring->attempt == c->attempt; i++)
		if (reports[i].kind == ITERATION_STEP)
			c->last_step = reports[i].step;

	if (saved)
		make_absolute(c, path);
	link_send_iterations(c->setup.link, &head, reports, saved ? path : NULL);
	return true;
}

/* In turn, so that a rank at full speed does not starve the others. */
static void pump_rings(struct crew *c)
{
	for (bool more = true; more;) {
		more = false;
		for (uint32_t rank = 0; rank < c->rank_count && link_has_room(c->setup.link); rank++)
			more = pump_ring(c, rank) || more;
	}
}

/* Whether what the rank printed, or all did, has become reports; who is slow with it is not waited for. */
static bool said_all(const struct crew *c, uint32_t rank, uint64_t since_ns)
{
	return output_recognised(c->output, rank) || clock_monotonic_ns() > since_ns + LAST_WORDS_NS;
}

/* What ends a rank or an attempt must not overtake its reports. */
static bool follows_reports(const struct crew *c, const struct record *r)
{
	if (r->kind == RECORD_EXIT) {
		uint32_t rank = ((const struct record_exit *)r)->rank;

		return said_all(c, rank, c->members[rank].ended_ns) && rings_drained(c, rank);
	}
	return r->kind != RECORD_CLEAR || rings_drained(c, RANK_NONE);
}

/* Said once, and again only when it is another's output, or reads otherwise. */
static void look_for_progress(struct crew *c)
{
	uint32_t rank, format;

	if (!output_progress(c->output, &rank, &format) ||
	    (rank == c->progress_rank && format == c->progress_format))
		return;
	c->progress_rank = rank;
	c->progress_format = format;
	tell_progress(say(c, rank), format);
}

void crew_pump(struct crew *c)
{
	const struct record *next;

	look_for_progress(c);
	while (link_has_room(c->setup.link) && (next = link_next(c->setup.link)) != NULL) {
		if (!follows_reports(c, next)) {
			pump_rings(c);
			if (!follows_reports(c, next))
				return;
		}
		link_send_next(c->setup.link);
	}
	pump_rings(c);
	for (uint32_t rank = 0; rank < c->rank_count; rank++)
		notice_damage(c, rank);
}

void crew_rewind(struct crew *c)
{
	for (uint32_t rank = 0; rank < c->rank_count; rank++)
		ring_rewind(&c->members[rank].ring);
	crew_pump(c);
}

void crew_ack(struct crew *c, const struct wire_ack *ack)
{
	if (ack->rank < c->rank_count && ack->attempt == c->members[ack->rank].ring.attempt)
		ring_ack(&c->members[ack->rank].ring, ack->ring_seq);
}

static void look_for_connection(struct crew *c, uint32_t rank)
{
	struct member *m = &c->members[rank];

	if (m->connected || m->pid == 0 || m->ring.map == NULL)
		return;
	uint32_t pid = atomic_load(&m->ring.map->control.connected);

	if (pid == 0)
		return;
	m->connected = true;
	deathwatch_add(c->watch, m->ring.map, rank, c->attempt, m->pid);
	tell_connected(say(c, rank), pid);
}

/* A report is late by an eighth of what lies between two, at most.  Before the first, a start is to be seen at once. */
static void poll_later(struct crew *c)
{
	uint64_t silent_ms = c->reported_ns == 0 ? 0
						 : (clock_monotonic_ns() - c->reported_ns) / 1000000;
	uint64_t wait_ms = silent_ms / POLL_SHARE;

	if (wait_ms < POLL_MS)
		wait_ms = POLL_MS;
	else if (wait_ms > POLL_MAX_MS)
		wait_ms = POLL_MAX_MS;
	struct timeval interval = {.tv_usec = (suseconds_t)wait_ms * 1000};

	event_add(c->poll, &interval);
}

static void on_poll(evutil_socket_t fd, short what, void *argument)
{
	struct crew *c = argument;

	(void)fd;
	(void)what;
	poll_later(c);
	oom_mark(&c->oom, clock_monotonic_ns());
	for (uint32_t rank = 0; rank < c->rank_count; rank++)
		look_for_connection(c, rank);
	crew_pump(c);
}

/* --- starting -------------------------------------------------------------------------------------------- */

/* Let go of the last attempt's channels.  The journal holds their reports by now, or they are damaged. */
static void release_rings(struct crew *c)
{
	for (uint32_t rank = 0; rank < c->rank_count; rank++) {
		struct member *m = &c->members[rank];

		deathwatch_forget(c->watch, rank);
		ring_fini(&m->ring, true);
		if (m->pidfd >= 0)
			close(m->pidfd);
		memset(m, 0, sizeof(*m));
		m->pidfd = -1;
	}
}

static MUST_CHECK enum status make_ring(struct crew *c, uint32_t rank,
    const struct decision_start *start, const char *path, struct cause *why)
{
	struct channel_head head = {.magic = CHANNEL_MAGIC,
	    .version = CHANNEL_VERSION,
	    .rank = rank,
	    .rank_count = c->rank_count,
	    .attempt = start->attempt,
	    .resume_source = start->source,
	    .resume_step = start->step};

	if (path != NULL && strlen(path) >= sizeof(head.resume_path)) {
		cause_set(why, CAUSE_ERRNO, ENAMETOOLONG, "start", path);
		return STATUS_SYS;
	}
	if (path != NULL)
		memcpy(head.resume_path, path, strlen(path) + 1);
	snprintf(
	    head.snapshot_path, sizeof(head.snapshot_path), "%.199s", crew_snapshot_path(c, rank));
	shm_channel_path(&c->shm, start->attempt, rank, c->path);
	/* An agent that died while it started this attempt may have left one. */
	unlink(c->path);
	return ring_create(&c->members[rank].ring, c->path, &head, why);
}

static bool start_rank(struct crew *c, uint32_t rank)
{
	struct member *m = &c->members[rank];
	char error_file[4096], notify_path[SHM_PATH_MAX];
	struct rankenv wanted = {.rank = rank,
	    .rank_count = c->rank_count,
	    .attempt = c->attempt,
	    .tries_max = c->setup.options->config.tries_max,
	    .names = c->setup.options->names,
	    .run_id_hex = c->run_hex,
	    .channel_path = m->ring.path,
	    .error_file = error_file,
	    .notify_path = output_notify_path(c->output, rank, notify_path) ? notify_path : NULL};
	struct spawn_result result = {.stage = SPAWN_PREPARE, .error = ENOMEM};
	bool warm = false;

	log_path(c, c->attempt, rank, "error.json", error_file);
	char **environment = rankenv_make(&wanted);
	struct spawn_request request = {.command = c->command,
	    .environment = environment,
	    .work_dir = c->setup.options->work_dir,
	    .in_fd = -1,
	    .out_fd = output_end(c->output, rank, 0),
	    .err_fd = output_end(c->output, rank, 1),
	    .signals = c->setup.signals,
	    .die_with_parent = true};
	bool started = environment != NULL &&
	    warm_process(c->warm, &request, &result, &warm) == STATUS_OK;

	free(environment);
	if (!started) {
		tell_spawn_failed(say(c, rank), result.stage, result.error);
		return false;
	}
	m->pid = result.pid;
	m->pidfd = result.pidfd;
	tell_started(say(c, rank), &result, warm);
	return true;
}

static void start_ranks(struct crew *c)
{
	bool ready = true;

	c->start_pending = false;
	for (uint32_t rank = 0; rank < c->rank_count && ready; rank++)
		ready = start_rank(c, rank);
	output_seal(c->output);
}

/* Nobody need wait for the warm interpreter any longer: it is there, or it will not be. */
static void on_warm_settled(void *context)
{
	struct crew *c = context;

	if (c->start_pending)
		start_ranks(c);
}

void crew_start(struct crew *c, const struct decision_start *start, const struct crew_resume *resume)
{
	uint32_t rank = 0;

	/* The same command again: a new supervisor repeats itself.  With nothing held, any number is new: a
	 * supervisor that died with uncommitted turns may have used it before. */
	if (start->rank_count != c->rank_count || c->cleared < c->attempt)
		return; /* H6 */
	release_rings(c);
	c->attempt = start->attempt;
	c->last_step = resume->step;
	c->command = resume->command;
	c->cleared = start->attempt - 1;
	bool ready = output_start(c->output, start->attempt, start->step);
	struct cause why = {.number = errno};

	while (ready && rank < c->rank_count) {
		ready = make_ring(c, rank, start, resume->path, &why) == STATUS_OK;
		rank += ready;
	}
	if (!ready)
		tell_spawn_failed(say(c, rank), SPAWN_PREPARE, (int)why.number);
	c->start_pending = ready;
	if (!ready)
		output_seal(c->output);
	else if (warm_settled(c->warm))
		start_ranks(c);
	c->reported_ns = 0;
	poll_later(c);
}

/* --- ending ---------------------------------------------------------------------------------------------- */

static void send_signal(struct member *m, int number)
{
	if (m->pid == 0)
		return;
	if (number == SIGKILL && m->killed_ns == 0)
		m->killed_ns = clock_monotonic_ns();
	if (m->pidfd >= 0)
		(void)syscall(SYS_pidfd_send_signal, m->pidfd, number, NULL, 0);
	else
		kill(m->pid, number); /* our own child, not reaped: the pid is still its */
}

void crew_kill(struct crew *c, const struct decision_kill *kill_decision)
{
	if (kill_decision->attempt != c->attempt)
		return;
	for (uint32_t rank = 0; rank < c->rank_count; rank++)
		if (kill_decision->rank == RANK_NONE || kill_decision->rank == rank)
			send_signal(&c->members[rank], kill_decision->signal);
}

static bool alive(const struct crew *c)
{
	for (uint32_t rank = 0; rank < c->rank_count; rank++)
		if (c->members[rank].pid != 0)
			return true;
	return false;
}

/* stuck_pid 0: nothing of the attempt is left. */
static void end_clearing(struct crew *c, uint32_t stuck_pid)
{
	c->clear_deadline_ns = 0;
	if (stuck_pid == 0) {
		for (uint32_t rank = 0; rank < c->rank_count; rank++)
			ring_end(&c->members[rank].ring);
		c->cleared = c->clearing > c->attempt ? c->clearing : c->attempt;
		shm_remove_attempts(&c->shm, c->cleared);
	}
	tell_clear((struct tell){.link = c->setup.link, .attempt = c->clearing}, c->swept, stuck_pid);
}

static struct sweep_result sweep(struct crew *c)
{
	int spare[SPARE_MAX];
	size_t count = c->setup.spare(c->setup.context, spare, SPARE_MAX);
	struct sweep_result result = sweep_descendants(spare, count, c->setup.others);

	/* What a dead agent left behind is nobody's descendant; once is enough, for we are the subreaper
	 * of everything started since. */
	if (result.found + result.ended == 0 && !c->environment_swept) {
		result = sweep_environment(c->run_hex);
		c->environment_swept = result.found == 0;
	}
	return result;
}

static uint64_t last_end_ns(const struct crew *c)
{
	uint64_t last = 0;

	for (uint32_t rank = 0; rank < c->rank_count; rank++)
		if (c->members[rank].ended_ns > last)
			last = c->members[rank].ended_ns;
	return last;
}

static void clear_on(struct crew *c)
{
	uint64_t now = clock_monotonic_ns();
	struct timeval again = {.tv_usec = CLEAR_POLL_MS * 1000};
	uint32_t stuck_pid = 0;

	for (uint32_t rank = 0; rank < c->rank_count; rank++) {
		struct member *m = &c->members[rank];
		bool leaving_by_itself = m->alarm_answered_ns != 0 &&
		    now < m->alarm_answered_ns + CRASH_GRACE_NS;

		if (m->pid == 0)
			continue;
		stuck_pid = (uint32_t)m->pid;
		if (m->killed_ns == 0 && !leaving_by_itself)
			send_signal(m, SIGKILL);
	}
	if (!alive(c)) {
		struct sweep_result left = sweep(c);

		c->swept += left.found;
		stuck_pid = left.stuck_pid;
		if (left.found + left.ended == 0 && said_all(c, RANK_NONE, last_end_ns(c))) {
			end_clearing(c, 0);
			return;
		}
	}
	if (now >= c->clear_deadline_ns) {
		end_clearing(c, stuck_pid);
		return;
	}
	event_add(c->clear_timer, &again);
}

static void on_clear_timer(evutil_socket_t fd, short what, void *argument)
{
	struct crew *c = argument;

	(void)fd;
	(void)what;
	if (c->clear_deadline_ns != 0)
		clear_on(c);
}

void crew_clear(struct crew *c, const struct decision_clear *clear)
{
	if (c->start_pending)
		output_seal(c->output);
	c->start_pending = false;
	c->clearing = clear->attempt;
	c->swept = 0;
	c->clear_deadline_ns = clock_monotonic_ns() + clear->deadline_ns;
	clear_on(c);
}

static void rank_ended(struct crew *c, uint32_t rank, int wait_status, const struct rusage *usage)
{
	struct member *m = &c->members[rank];
	struct death_news news = {.monotonic_ns = clock_monotonic_ns(),
	    .wait_status = wait_status,
	    .status_known = 1,
	    .source = DEATH_PIDFD};

	m->ended_ns = news.monotonic_ns;
	output_ended(c->output);
	/* It may have connected, crashed and died between two looks. */
	look_for_connection(c, rank);
	on_news(c->news_fd, 0, c);
	notice_death(c, rank, &news);
	tell_exit(say(c, rank), wait_status, usage, suspect_oom(c, m, wait_status));
	deathwatch_forget(c->watch, rank);
	if (m->pidfd >= 0)
		close(m->pidfd);
	m->pidfd = -1;
	m->pid = 0;
	if (c->clear_deadline_ns != 0)
		clear_on(c);
}

bool crew_child(struct crew *c, int pid, int wait_status, const struct rusage *usage)
{
	for (uint32_t rank = 0; rank < c->rank_count; rank++) {
		if (c->members[rank].pid != pid)
			continue;
		if (WIFSTOPPED(wait_status))
			tell_stopped(say(c, rank), WSTOPSIG(wait_status));
		else if (WIFCONTINUED(wait_status))
			tell_stopped(say(c, rank), 0);
		else
			rank_ended(c, rank, wait_status, usage);
		return true;
	}
	if (WIFSTOPPED(wait_status) || WIFCONTINUED(wait_status))
		return false;
	if (warm_child(c->warm, pid, wait_status))
		return true;
	return output_child(c->output, pid, WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 0);
}

/* --- asking ---------------------------------------------------------------------------------------------- */

void crew_ask(struct crew *c, const struct decision_ask *ask)
{
	if (ask->attempt != c->attempt)
		return;
	for (uint32_t rank = 0; rank < c->rank_count; rank++) {
		struct channel *map = c->members[rank].ring.map;

		if (map == NULL)
			continue;
		if (ask->what == ASK_STOP)
			atomic_store(&map->control.stop_asked, 1);
		else
			atomic_fetch_add(&map->control.checkpoint_asked, 1);
	}
}

static void sample_rank(struct crew *c, uint32_t rank)
{
	struct member *m = &c->members[rank];
	struct record_sample *r = link_record(RECORD_SAMPLE, sizeof(*r), 0);

	r->rank = rank;
	r->attempt = c->attempt;
	r->last_step = STEP_NONE;
	r->state = '?';
	if (m->pid != 0)
		r->cpu_ns = sweep_cpu_ns(m->pid, &r->state);
	r->output_bytes = output_bytes(c->output, rank);
	if (m->ring.map != NULL && m->connected && !m->ring.damaged) {
		struct channel_control *control = &m->ring.map->control;
		uint64_t since = atomic_load(&control->phase_since_ns);
		uint64_t now = clock_monotonic_ns();

		r->flags = SAMPLE_CHANNEL;
		r->phase = atomic_load(&control->phase) % PHASE_COUNT;
		r->phase_ns = now > since ? now - since : 0;
		r->waiting = atomic_load(&control->waiting) != 0;
		r->last_step = atomic_load(&control->last_step);
	}
	link_post(c->setup.link, &r->head, 0);
}

void crew_sample(struct crew *c, const struct decision_sample *sample)
{
	if (sample->attempt != c->attempt)
		return;
	for (uint32_t rank = 0; rank < c->rank_count; rank++)
		if (sample->rank == RANK_NONE || sample->rank == rank)
			sample_rank(c, rank);
}

void crew_release_crashed(struct crew *c, uint32_t attempt, uint32_t rank)
{
	if (attempt != c->attempt || rank >= c->rank_count)
		return;
	struct member *m = &c->members[rank];

	if (m->ring.map == NULL || !m->crash_told)
		return;
	m->alarm_answered_ns = clock_monotonic_ns();
	atomic_store(&m->ring.map->control.alarm_answer, 1);
	syscall(SYS_futex, &m->ring.map->control.alarm_answer, FUTEX_WAKE, 1, NULL, NULL, 0);
}

bool crew_view(const struct crew *c, uint32_t attempt, uint32_t rank, struct crew_rank_view *view)
{
	if (attempt != c->attempt || rank >= c->rank_count)
		return false;
	const struct member *m = &c->members[rank];

	view->pid = m->pid;
	view->crash_tid = m->crash_told && m->ring.map != NULL
	    ? atomic_load(&m->ring.map->control.crash_tid)
	    : 0;
	log_path(c, attempt, rank, "out", view->out_path);
	log_path(c, attempt, rank, "err", view->err_path);
	log_path(c, attempt, rank, "error.json", view->recorded_path);
	return true;
}

/* --- the crew -------------------------------------------------------------------------------------------- */

uint64_t crew_last_step(const struct crew *c)
{
	return c->last_step;
}

uint32_t crew_attempt(const struct crew *c)
{
	return c->attempt > c->cleared ? c->attempt : 0;
}

void crew_describe(const struct crew *c, struct agent_rank out[])
{
	for (uint32_t rank = 0; rank < c->rank_count; rank++) {
		const struct member *m = &c->members[rank];

		out[rank] = (struct agent_rank){.rank = rank, .pid = (uint32_t)m->pid};
		if (m->pid != 0)
			out[rank].flags |= AGENT_RANK_ALIVE;
		if (m->connected)
			out[rank].flags |= AGENT_RANK_CONNECTED;
	}
}

size_t crew_helper_pids(const struct crew *c, int pids[], size_t max)
{
	size_t count = output_pids(c->output, pids, max);

	return count + warm_pids(c->warm, pids + count, max - count);
}

bool crew_output_pending(const struct crew *c, uint32_t attempt, uint32_t rank)
{
	return attempt == c->attempt && rank < c->rank_count && output_pending(c->output, rank);
}

/* A channel that an agent before us left: its reports may not be in the journal yet. */
static void adopt_ring(void *context, uint32_t attempt, uint32_t rank, const char *path)
{
	struct crew *c = context;
	struct ring ring;

	if (rank >= c->rank_count || ring_adopt(&ring, path, NULL) != STATUS_OK)
		return;
	if (ring.attempt != attempt || ring.rank != rank) {
		ring_fini(&ring, false); /* scribbled over: nothing of it is believed */
		return;
	}
	/* Only the newest attempt can hold anything that is not in the journal. */
	if (c->members[rank].ring.map != NULL && c->members[rank].ring.attempt > attempt) {
		ring_fini(&ring, true);
		return;
	}
	ring_fini(&c->members[rank].ring, true);
	c->members[rank].ring = ring;
}

/* The interpreter that ranks are forked from is given what all of them have in common. */
static bool start_warm(struct crew *c)
{
	const struct run_options *o = c->setup.options;
	struct rankenv common = {.rank_count = c->rank_count,
	    .attempt = 1,
	    .tries_max = o->config.tries_max,
	    .names = o->names,
	    .run_id_hex = c->run_hex};
	char **environment = rankenv_make(&common);
	struct warm_setup setup = {.base = c->setup.base,
	    .signals = c->setup.signals,
	    .run_dir = o->run_dir,
	    .work_dir = o->work_dir,
	    .command = o->command,
	    .environment = environment,
	    .modules = o->warm,
	    .settled = on_warm_settled,
	    .context = c};

	c->warm = environment != NULL ? warm_new(&setup) : NULL;
	free(environment);
	return c->warm != NULL;
}

enum status crew_new(const struct crew_setup *setup, struct crew **out, struct cause *why)
{
	uint32_t rank_count = setup->options->rank_count;
	struct crew *c = calloc(1, sizeof(*c) + rank_count * sizeof(c->members[0]));
	enum status status;

	if (c == NULL) {
		cause_set(why, CAUSE_ERRNO, ENOMEM, "crew", "");
		return STATUS_SYS;
	}
	c->setup = *setup;
	c->rank_count = rank_count;
	c->last_step = STEP_NONE;
	for (unsigned i = 0; i < 16; i++)
		snprintf(c->run_hex + 2 * i, 3, "%02x", setup->options->run_id[i]);
	oom_init(&c->oom);
	c->shm = (struct shm){.dir = setup->options->shm_dir, .run_hex = c->run_hex};
	for (uint32_t rank = 0; rank < rank_count; rank++)
		c->members[rank].pidfd = -1;
	status = deathwatch_new(rank_count, &c->watch, &c->news_fd, why);
	struct output_setup output = {.signals = setup->signals,
	    .run_dir = setup->options->run_dir,
	    .shm = c->shm,
	    .progress = setup->options->progress,
	    .rank_count = rank_count};

	c->output = output_new(&output);
	if (status == STATUS_OK && c->output == NULL) {
		cause_set(why, CAUSE_ERRNO, ENOMEM, "output", "");
		status = STATUS_SYS;
	}
	if (status == STATUS_OK) {
		c->news = event_new(setup->base, c->news_fd, EV_READ | EV_PERSIST, on_news, c);
		c->poll = evtimer_new(setup->base, on_poll, c);
		c->clear_timer = evtimer_new(setup->base, on_clear_timer, c);
		if (c->news == NULL || c->poll == NULL || c->clear_timer == NULL) {
			cause_set(why, CAUSE_ERRNO, ENOMEM, "events", "");
			status = STATUS_SYS;
		}
	}
	if (status == STATUS_OK && setup->options->warm != NULL && !start_warm(c)) {
		cause_set(why, CAUSE_ERRNO, ENOMEM, "warm", "");
		status = STATUS_SYS;
	}
	if (status != STATUS_OK) {
		crew_free(c, false);
		return status;
	}
	event_add(c->news, NULL);
	shm_each_channel(&c->shm, adopt_ring, c);
	*out = c;
	return STATUS_OK;
}

void crew_free(struct crew *c, bool remove)
{
	if (c == NULL)
		return;
	for (uint32_t rank = 0; rank < c->rank_count; rank++)
		send_signal(&c->members[rank], SIGKILL);
	for (uint32_t rank = 0; rank < c->rank_count && c->watch != NULL; rank++) {
		deathwatch_forget(c->watch, rank);
		ring_fini(&c->members[rank].ring, false);
	}
	if (remove)
		shm_remove_all(&c->shm);
	deathwatch_free(c->watch);
	if (c->news != NULL)
		event_free(c->news);
	if (c->poll != NULL)
		event_free(c->poll);
	if (c->clear_timer != NULL)
		event_free(c->clear_timer);
	output_free(c->output);
	warm_free(c->warm);
	free(c);
}
