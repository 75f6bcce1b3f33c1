/* See keeping.h. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#include "supervisor/agent/job.h"
#include "supervisor/agent/keeping.h"
#include "supervisor/agent/resume.h"
#include "supervisor/agent/tell.h"
#include "supervisor/clock.h"
#include "supervisor/ladder/keeper.h"

#define SELF "/proc/self/exe"
#define READY_WAIT_S 2 /* the first start waits so long at most for the keeper to watch */
#define BACKOFF_FIRST_MS 100u
#define BACKOFF_MAX_MS 10000u
#define SHORT_LIFE_NS 10000000000ull
#define WRITINGS_MAX 64u /* that are remembered until they are kept */
#define MESSAGES_A_TURN 64u
#define COMPLAIN_AGAIN_NS 60000000000ull

/* What was so when the keeper saw a writing begin. */
struct writing {
	uint64_t number; /* 0: free */
	uint64_t step, name_step;
	uint32_t attempt;
	bool open; /* nothing came of it yet, and the file was not begun anew */
};

/* A start that waits for the keeper or for its files. */
struct pending_start {
	struct decision_start decision;
	char *path;       /* of the checkpoint, owned; NULL: none */
	uint64_t step;    /* what the state is of */
	bool kept;        /* path is the original of a kept checkpoint */
	bool wanted;      /* there is one */
	bool files_ready; /* nothing more is to be done to the files */
};

struct keeping {
	struct keeping_setup setup;
	const struct checkpoint_options *options;
	struct event *messages, *begin, *ready_wait;
	struct job *jobs;
	struct restore *restore; /* under way */
	int keeper_pid;          /* 0: none */
	int fd;                  /* our end of its socket; -1: none */
	uint64_t begun_ns;
	unsigned backoff_ms;
	unsigned keepers; /* started so far */
	bool waited;      /* a first start need not wait any more */
	bool ready;
	uint64_t protect[POLICY_PROTECTED]; /* ordinals; PROTECT_UNKNOWN: the supervisor said none yet */
	uint32_t attempt;                   /* last one started */
	struct writing writings[WRITINGS_MAX];
	size_t writing_next;
	struct pending_start start;
	const char **command; /* of the last start, owned */
	int complained;       /* errno of the last line that was printed */
	uint64_t complained_ns;
};
#define PROTECT_UNKNOWN UINT64_MAX

/* --- the keeper ------------------------------------------------------------------------------------------ */

static void begin_later(struct keeping *k)
{
	struct timeval wait = {.tv_sec = k->backoff_ms / 1000, .tv_usec = k->backoff_ms % 1000 * 1000};

	event_add(k->begin, &wait);
}

static void close_socket(struct keeping *k)
{
	if (k->messages != NULL)
		event_free(k->messages);
	k->messages = NULL;
	if (k->fd >= 0)
		close(k->fd);
	k->fd = -1;
	k->ready = false;
}

static void send_to_keeper(struct keeping *k, uint32_t kind, uint64_t ordinal, uint64_t also)
{
	struct keeper_message message = {
	    .kind = kind, .step = STEP_NONE, .ordinal = ordinal, .also = also};

	/* A keeper that does not read is told again when it is started anew. */
	if (k->fd >= 0)
		(void)send(k->fd, &message, sizeof(message), MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void protect(struct keeping *k)
{
	if (k->ready && k->protect[0] != PROTECT_UNKNOWN)
		send_to_keeper(k, KEEPER_PROTECT, k->protect[0], k->protect[1]);
}

void keeping_protect(struct keeping *k, const uint64_t ordinals[POLICY_PROTECTED])
{
	memcpy(k->protect, ordinals, sizeof(k->protect));
	protect(k);
}

/* One line of what went wrong with which file, and again only when it is something else or long ago. */
static void complain(struct keeping *k, const char *path, const char *what, int error)
{
	uint64_t now = clock_monotonic_ns();

	if (error == k->complained && now < k->complained_ns + COMPLAIN_AGAIN_NS)
		return;
	k->complained = error;
	k->complained_ns = now;
	fprintf(stderr, "holdfast: %s: %s: %s\n", path, what, strerror(error));
}

/* --- what it says ---------------------------------------------------------------------------------------- */

static struct writing *find_writing(struct keeping *k, uint64_t number)
{
	for (size_t i = 0; i < WRITINGS_MAX && number != 0; i++)
		if (k->writings[i].number == number)
			return &k->writings[i];
	return NULL;
}

static void on_writing(struct keeping *k, const struct keeper_message *message)
{
	struct writing *writing = find_writing(k, message->writing);
	struct record_writing *r;

	if (writing == NULL && message->writing != 0) {
		/* What was reported before it began is in the rings by now. */
		crew_pump(k->setup.crew);
		for (size_t i = 0; i < WRITINGS_MAX; i++)
			if (k->writings[i].name_step == message->step)
				k->writings[i].open = false;
		writing = &k->writings[k->writing_next++ % WRITINGS_MAX];
		*writing = (struct writing){.number = message->writing,
		    .name_step = message->step,
		    .step = crew_last_step(k->setup.crew),
		    .attempt = k->attempt,
		    .open = true};
	}
	/* While something waits to be durable the next word of it, a second later, will do. */
	if (k->attempt == 0 || ((message->flags & KEEPER_BEGINS) == 0 && !link_idle(k->setup.link)))
		return;
	r = link_record(RECORD_WRITING, sizeof(*r), 0);
	r->attempt = k->attempt;
	r->step = message->step != STEP_NONE || writing == NULL ? message->step : writing->step;
	r->size_bytes = message->size_bytes;
	link_post(k->setup.link, &r->head, 0);
}

static uint32_t kept_flags(const struct keeping *k, const struct keeper_message *message)
{
	static const struct {
		uint32_t theirs, ours;
	} same[] = {{KEEPER_AGAIN, KEPT_AGAIN}, {KEEPER_REWRITTEN, KEPT_AGAIN},
	    {KEEPER_DIRECTORY, KEPT_DIRECTORY}, {KEEPER_IN_PLACE, KEPT_INPLACE},
	    {KEEPER_UNCHECKED, KEPT_UNCHECKED}};
	uint32_t flags = message->kind == KEEPER_DROPPED ? KEPT_GONE : 0;

	for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++)
		if ((message->flags & same[i].theirs) != 0)
			flags |= same[i].ours;
	/* The first keeper of a new run watches before the first rank is started. */
	if ((message->flags & KEEPER_AT_START) != 0 && k->keepers == 1 && !k->setup.options->resumed)
		flags |= KEPT_FOREIGN;
	return flags;
}

/* Which step it is of: by its name, by what was reported when its writing began, by when it was found, by none. */
static void fill_step(const struct keeping *k, const struct keeper_message *message,
    const struct writing *writing, struct record_kept *r)
{
	r->step = message->step;
	if (r->step == STEP_NONE && writing != NULL)
		r->step = writing->step;
	else if (r->step == STEP_NONE && (message->flags & KEEPER_AT_START) != 0)
		r->step = crew_last_step(k->setup.crew);
	if (r->step == STEP_NONE && message->ordinal != 0) {
		r->step = message->ordinal;
		r->flags |= KEPT_ORDINAL;
	}
}

/* KEEPER_KEPT, KEEPER_DROPPED and KEEPER_TROUBLE. */
static void on_checkpoint(struct keeping *k, const struct keeper_message *message)
{
	size_t kept_bytes = strlen(message->kept) + 1, original_bytes = strlen(message->original) + 1;
	struct writing *writing = find_writing(k, message->writing);
	struct record_kept *r = link_record(RECORD_KEPT, sizeof(*r), kept_bytes + original_bytes);

	r->attempt = writing != NULL ? writing->attempt : 0;
	r->flags = kept_flags(k, message);
	r->size_bytes = message->size_bytes;
	memcpy(r->digest, message->digest, sizeof(r->digest));
	r->finite = message->finite;
	r->error = message->error;
	r->text_bytes = (uint32_t)(kept_bytes + original_bytes);
	memcpy(r + 1, message->kept, kept_bytes);
	memcpy((char *)(r + 1) + kept_bytes, message->original, original_bytes);
	if (message->kind != KEEPER_TROUBLE)
		r->ordinal = message->ordinal;
	else if (r->error == 0)
		r->error = EIO;
	fill_step(k, message, writing, r);
	if (writing != NULL)
		writing->open = false;
	if (message->kind == KEEPER_TROUBLE)
		complain(k, message->original[0] != '\0' ? message->original : message->kept,
		    "no copy of this checkpoint is kept", r->error);
	link_post(k->setup.link, &r->head, 0);
	k->setup.on_idle(k->setup.context);
}

static void start_when_ready(struct keeping *k);

static void on_message(struct keeping *k, struct keeper_message *message)
{
	if (memchr(message->kept, '\0', sizeof(message->kept)) == NULL ||
	    memchr(message->original, '\0', sizeof(message->original)) == NULL)
		return;
	switch (message->kind) {
	case KEEPER_READY:
		k->ready = true;
		protect(k);
		start_when_ready(k);
		break;
	case KEEPER_WRITING:
		on_writing(k, message);
		break;
	case KEEPER_KEPT:
	case KEEPER_DROPPED:
	case KEEPER_TROUBLE:
		on_checkpoint(k, message);
		break;
	default:
		break;
	}
}

static void on_messages(evutil_socket_t fd, short what, void *argument)
{
	struct keeping *k = argument;
	struct keeper_message message;

	(void)what;
	for (unsigned i = 0; i < MESSAGES_A_TURN; i++) {
		ssize_t size = recv(fd, &message, sizeof(message), MSG_DONTWAIT);

		if (size == (ssize_t)sizeof(message)) {
			on_message(k, &message);
			continue;
		}
		if (size < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		/* It hung up, or speaks another language: it is started anew. */
		close_socket(k);
		if (k->keeper_pid != 0)
			kill(k->keeper_pid, SIGKILL);
		return;
	}
}

/* --- its life -------------------------------------------------------------------------------------------- */

static bool spawn_keeper(struct keeping *k, int end)
{
	char keep[16], budget[24];
	const char *command[] = {SELF, "helper-keeper", "--pattern", k->options->pattern,
	    "--run-dir", k->setup.options->run_dir, "--mode", k->options->mode, "--keep", keep,
	    "--budget-bytes", budget, NULL};
	struct spawn_result result;
	extern char **environ;

	snprintf(keep, sizeof(keep), "%u", k->options->keep);
	snprintf(budget, sizeof(budget), "%llu", (unsigned long long)k->options->budget_bytes);
	struct spawn_request request = {.command = command,
	    .environment = environ,
	    .in_fd = -1,
	    .out_fd = -1,
	    .err_fd = -1,
	    .keep_fds = &end,
	    .keep_count = 1,
	    .signals = k->setup.signals,
	    .die_with_parent = true};

	if (spawn_process(&request, &result) != STATUS_OK)
		return false;
	if (result.pidfd >= 0)
		close(result.pidfd);
	k->keeper_pid = result.pid;
	return true;
}

static void on_begin(evutil_socket_t fd, short what, void *argument)
{
	struct keeping *k = argument;
	int ends[2];
	bool begun;

	(void)fd;
	(void)what;
	if (k->keeper_pid != 0)
		return;
	k->begun_ns = clock_monotonic_ns();
	k->backoff_ms = k->backoff_ms * 2 < BACKOFF_MAX_MS ? k->backoff_ms * 2 : BACKOFF_MAX_MS;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
		begin_later(k);
		return;
	}
	begun = spawn_keeper(k, ends[1]);
	close(ends[1]);
	k->fd = ends[0];
	k->keepers++;
	/* The numbers of a keeper's writings are its own. */
	memset(k->writings, 0, sizeof(k->writings));
	if (begun)
		k->messages = event_new(k->setup.base, k->fd, EV_READ | EV_PERSIST, on_messages, k);
	if (k->messages == NULL || event_add(k->messages, NULL) != 0) {
		close_socket(k); /* the keeper ends with its socket, and is started again */
		if (!begun)
			begin_later(k);
	}
}

static void keeper_ended(struct keeping *k)
{
	k->keeper_pid = 0;
	close_socket(k);
	if (clock_monotonic_ns() - k->begun_ns > SHORT_LIFE_NS)
		k->backoff_ms = BACKOFF_FIRST_MS;
	begin_later(k);
	k->setup.on_idle(k->setup.context);
}

/* --- a start --------------------------------------------------------------------------------------------- */

static void forget_start(struct keeping *k)
{
	free(k->start.path);
	memset(&k->start, 0, sizeof(k->start));
	event_del(k->ready_wait);
}

static void start_crew(struct keeping *k)
{
	struct pending_start start = k->start;
	const struct run_options *options = k->setup.options;
	const char *const *own = (const char *const *)options->command;
	const char **command = resume_command(own, start.kept ? k->options->resume_args : NULL,
	    start.decision.step, start.path != NULL ? start.path : "");
	struct crew_resume resume = {.path = start.path, .step = start.step};

	k->start.path = NULL;
	forget_start(k);
	k->attempt = start.decision.attempt;
	free((void *)k->command);
	k->command = command;
	/* Memory being short, the plain command resumes as well as it did before. */
	resume.command = command != NULL ? command : own;
	crew_start(k->setup.crew, &start.decision, &resume);
	free(start.path);
	k->setup.on_started(k->setup.context, start.decision.attempt);
}

static void start_when_ready(struct keeping *k)
{
	if (k->start.wanted && k->start.files_ready && (k->waited || k->ready)) {
		k->waited = true;
		start_crew(k);
	}
}

static void on_ready_wait(evutil_socket_t fd, short what, void *argument)
{
	struct keeping *k = argument;

	(void)fd;
	(void)what;
	k->waited = true;
	start_when_ready(k);
}

/* A restore that was asked for; it outlives its question when that is withdrawn. */
struct restore {
	struct keeping *owner;
	char *kept, *original; /* owned; kept NULL: nothing was chosen */
};

static void restore_free(struct restore *restore)
{
	if (restore == NULL)
		return;
	free(restore->kept);
	free(restore->original);
	free(restore);
}

static void refuse_start(struct keeping *k, int error)
{
	struct tell tell = {.link = k->setup.link, .attempt = k->start.decision.attempt};

	forget_start(k);
	tell_spawn_failed(tell, SPAWN_PREPARE, error);
}

static int take_answer(const struct job_end *end, struct restore_answer *answer)
{
	memset(answer, 0, sizeof(*answer));
	if (end->late)
		return ETIMEDOUT;
	if (end->wait_status != 0 || end->output_bytes != sizeof(*answer))
		return EIO;
	memcpy(answer, end->output, sizeof(*answer));
	answer->subject[sizeof(answer->subject) - 1] = '\0';
	answer->aside[sizeof(answer->aside) - 1] = '\0';
	return answer->error;
}

static void on_restored(void *context, const struct job_end *end)
{
	struct restore *restore = context;
	struct keeping *k = restore->owner;
	struct restore_answer answer;
	int error = take_answer(end, &answer);
	bool chosen = restore->kept != NULL;

	if (answer.moved_count > 0)
		fprintf(stderr, "holdfast: %s: %s moved to %s\n",
		    restore->original != NULL ? restore->original : k->options->pattern,
		    chosen ? "what is not to be loaded was" : "an incomplete checkpoint was",
		    answer.aside);
	if (error != 0)
		complain(k, answer.subject[0] != '\0' ? answer.subject : k->options->pattern,
		    chosen ? "this checkpoint could not be put back" : "not looked through", error);
	k->restore = NULL;
	restore_free(restore);
	/* Where nothing was chosen the script may well find its way. */
	if (error != 0 && chosen) {
		refuse_start(k, error);
		return;
	}
	k->start.files_ready = true;
	start_when_ready(k);
}

static bool begin_restore(struct keeping *k, const struct record_kept *kept)
{
	const char *run_dir = k->setup.options->run_dir, *pattern = k->options->pattern;
	const char *none[] = {
	    SELF, "helper-restore", "--run-dir", run_dir, "--pattern", pattern, "--none", NULL};
	const char *put[] = {SELF, "helper-restore", "--run-dir", run_dir, "--pattern", pattern,
	    "--kept", NULL, "--original", NULL, NULL};
	struct restore *restore = calloc(1, sizeof(*restore));
	struct job_request request = {.signals = k->setup.signals,
	    .deadline_ns = k->setup.options->config.verify_max_ns,
	    .output_max_bytes = sizeof(struct restore_answer),
	    .done = on_restored,
	    .context = restore};

	if (restore == NULL)
		return false;
	restore->owner = k;
	request.command = none;
	if (kept != NULL) {
		restore->kept = strdup(RECORD_TEXT(kept, struct record_kept));
		restore->original = strdup(k->start.path);
		if (restore->kept == NULL || restore->original == NULL) {
			restore_free(restore);
			return false;
		}
		put[7] = restore->kept;
		put[9] = restore->original;
		request.command = put;
	}
	if (!job_start(k->setup.base, &request, &k->jobs)) {
		restore_free(restore);
		return false;
	}
	k->restore = restore;
	return true;
}

void keeping_start(struct keeping *k, const struct decision_start *start, const char *path,
    const struct record_kept *kept)
{
	struct timeval wait = {.tv_sec = READY_WAIT_S};

	/* A new supervisor repeats itself.  Beside living ranks nothing is put back (H6). */
	if (crew_attempt(k->setup.crew) != 0 ||
	    (k->start.wanted && k->start.decision.attempt == start->attempt))
		return;
	keeping_cancel(k);
	if (kept != NULL)
		path = RECORD_TEXT(kept, struct record_kept) +
		    strlen(RECORD_TEXT(kept, struct record_kept)) + 1;
	k->start = (struct pending_start){.decision = *start,
	    .path = path != NULL ? strdup(path) : NULL,
	    .step = kept != NULL && (kept->flags & KEPT_ORDINAL) != 0 ? STEP_NONE : start->step,
	    .kept = kept != NULL,
	    .wanted = true,
	    .files_ready = k->options->pattern == NULL};
	k->waited = k->waited || k->options->pattern == NULL;
	if ((path != NULL && k->start.path == NULL) ||
	    (!k->start.files_ready && !begin_restore(k, kept))) {
		refuse_start(k, ENOMEM);
		return;
	}
	if (!k->waited)
		event_add(k->ready_wait, &wait);
	start_when_ready(k);
}

void keeping_cancel(struct keeping *k)
{
	job_cancel_all(&k->jobs);
	restore_free(k->restore);
	k->restore = NULL;
	forget_start(k);
}

/* --- the rest -------------------------------------------------------------------------------------------- */

bool keeping_idle(const struct keeping *k)
{
	for (size_t i = 0; i < WRITINGS_MAX && k->ready; i++)
		if (k->writings[i].open)
			return false;
	return true;
}

bool keeping_child(struct keeping *k, int pid, int wait_status)
{
	if (job_reaped(k->jobs, pid, wait_status))
		return true;
	if (pid != k->keeper_pid)
		return false;
	keeper_ended(k);
	return true;
}

size_t keeping_pids(const struct keeping *k, int pids[], size_t max)
{
	size_t count = job_pids(k->jobs, pids, max);

	if (k->keeper_pid != 0 && count < max)
		pids[count++] = k->keeper_pid;
	return count;
}

struct keeping *keeping_new(const struct keeping_setup *setup)
{
	struct keeping *k = calloc(1, sizeof(*k));
	struct timeval at_once = {0};

	if (k == NULL)
		return NULL;
	k->setup = *setup;
	k->options = &setup->options->checkpoint;
	k->fd = -1;
	k->protect[0] = PROTECT_UNKNOWN;
	k->backoff_ms = BACKOFF_FIRST_MS;
	k->begin = evtimer_new(setup->base, on_begin, k);
	k->ready_wait = evtimer_new(setup->base, on_ready_wait, k);
	if (k->begin == NULL || k->ready_wait == NULL) {
		keeping_free(k);
		return NULL;
	}
	if (k->options->pattern != NULL)
		event_add(k->begin, &at_once);
	return k;
}

void keeping_free(struct keeping *k)
{
	if (k == NULL)
		return;
	job_cancel_all(&k->jobs);
	restore_free(k->restore);
	free(k->start.path);
	free((void *)k->command);
	send_to_keeper(k, KEEPER_STOP, 0, 0);
	close_socket(k);
	if (k->begin != NULL)
		event_free(k->begin);
	if (k->ready_wait != NULL)
		event_free(k->ready_wait);
	free(k);
}
