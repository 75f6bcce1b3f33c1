/* See agent.h.  The agent's loop: the supervisor's commands go to crew and errands; children come back here. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <event2/event.h>

#include "journal/check.h"
#include "supervisor/agent/agent.h"
#include "supervisor/agent/crew.h"
#include "supervisor/agent/errands.h"
#include "supervisor/agent/keeping.h"
#include "supervisor/agent/sweep.h"
#include "supervisor/clock.h"

#define EXIT_OUR_BUG 70
#define SUPERVISOR_TRIES_MAX 8u /* short lives in a row, with nothing to supervise */
#define SUPERVISOR_SHORT_NS 2000000000ull
#define SUPERVISOR_AT_ONCE 2u /* short lives after which the next is still started at once */
#define SUPERVISOR_BACKOFF_MAX_MS 5000u
#define SUPERVISOR_LIVE_MAX_MS 400u /* while trainers live, for a fault may wait for it */
#define LAST_ANSWERS_S 15 /* how long what was asked for last may take to be answered and durable */
#define UP_WAIT_S 5       /* a run that is verifying what it goes on from for longer is up, too */
#define FAREWELL_S 5      /* how long display and supervisor may take to end */
#define RUNGS_MAX 1024u
#define SUPERVISOR_FD 3
#define SELF "/proc/self/exe"

struct agent {
	const struct run_options *options;
	struct spawn_signals signals;
	struct sweep_others others;
	struct event_base *base;
	struct link *link;
	struct crew *crew;
	struct errands *errands;
	struct keeping *keeping;
	struct event *on_term, *on_int, *on_usr1, *on_usr2, *on_child, *restart, *farewell, *up;
	uint8_t id[16];
	int supervisor_pid;   /* 0: none */
	int display_pid;      /* 0: none */
	unsigned short_lives; /* supervisors in a row that ended soon after their start */
	uint64_t supervisor_start_ns;
	unsigned stops_asked;
	bool up_told;
	int end_code; /* the run has ended with it; -1: it goes on */
	uint32_t end_reason;
	int exit_code; /* ours, once nothing is left to do; -1: not yet */
};

static void finish(struct agent *a, int exit_code)
{
	struct timeval wait = {.tv_sec = FAREWELL_S};

	if (a->exit_code >= 0)
		return;
	a->exit_code = exit_code;
	/* Without an end in the journal the display would wait for one. */
	if (a->end_code < 0 && a->display_pid != 0)
		kill(a->display_pid, SIGTERM);
	event_add(a->farewell, &wait);
	if (a->supervisor_pid == 0 && a->display_pid == 0)
		event_base_loopbreak(a->base);
}

/* The run has ended; the agent does when what it was asked for is answered and durable: the evidence of the
 * last fault is what somebody will want to read. */
static void finish_when_answered(struct agent *a)
{
	if (a->end_code < 0 || !errands_idle(a->errands) || !link_idle(a->link))
		return;
	if (a->end_reason == END_STOPPED && !keeping_idle(a->keeping))
		return; /* what the trainers saved when they were asked to stop is what goes on later */
	finish(a, a->end_code);
	link_close(a->link);
}

static void on_keeping_idle(void *context)
{
	finish_when_answered(context);
}

static void end_run(struct agent *a, const struct decision_end *end)
{
	struct timeval wait = {.tv_sec = LAST_ANSWERS_S};
	bool given_up = end->reason != END_DONE && end->reason != END_STOPPED;

	/* Where nobody wants to see how it goes, that it failed is an error all the same. */
	if (given_up && !a->options->display && a->end_code < 0)
		fprintf(stderr,
		    "holdfast: the run was given up, exit status %d; holdfast why %s explains it\n",
		    end->exit_code, a->options->run_dir);
	a->end_code = end->exit_code;
	a->end_reason = end->reason;
	event_add(a->farewell, &wait);
	finish_when_answered(a);
}

/* --- the supervisor -------------------------------------------------------------------------------------- */

static struct record *make_run_record(const struct run_options *o)
{
	size_t text = strlen(o->work_dir) + 1;
	uint32_t arguments = 0;

	for (; o->command[arguments] != NULL; arguments++)
		text += strlen(o->command[arguments]) + 1;
	struct record_run *r = link_record(RECORD_RUN, sizeof(*r), text);
	char *at = (char *)(r + 1);

	for (uint32_t i = 0; i <= arguments; i++) {
		const char *word = i < arguments ? o->command[i] : o->work_dir;
		size_t size = strlen(word) + 1;

		memcpy(at, word, size);
		at += size;
	}
	memcpy(r->run_id, o->run_id, sizeof(r->run_id));
	r->rank_count = o->rank_count;
	r->node_count = 1;
	r->argument_count = arguments;
	r->text_bytes = (uint32_t)text;
	r->config = o->config;
	return &r->head;
}

static void say_hello(struct agent *a)
{
	uint32_t ranks = a->options->rank_count;
	struct record *run = make_run_record(a->options);
	struct record_agent *hello = link_record(
	    RECORD_AGENT, sizeof(*hello), ranks * sizeof(struct agent_rank));

	memcpy(hello->agent_id, a->id, sizeof(hello->agent_id));
	hello->agent_pid = (uint32_t)getpid();
	hello->attempt = crew_attempt(a->crew);
	hello->rank_count = ranks;
	hello->gone = hello->attempt == 0;
	hello->head.time_ns = clock_monotonic_ns();
	crew_describe(a->crew, (struct agent_rank *)(hello + 1));
	link_hello(a->link, WIRE_RUN, run);
	link_hello(a->link, WIRE_RECORD, &hello->head);
	free(run);
	free(hello);
}

static bool spawn_supervisor(struct agent *a)
{
	char dir[4096];
	const char *command[] = {SELF, "supervisor", "--dir", dir, "--fd", "3", NULL};
	struct spawn_result result;
	extern char **environ;
	int ends[2];

	snprintf(dir, sizeof(dir), "%s", a->options->run_dir);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
		return false;
	struct spawn_request request = {.command = command,
	    .environment = environ,
	    .in_fd = -1,
	    .out_fd = -1,
	    .err_fd = -1,
	    .keep_fds = &ends[1],
	    .keep_count = 1,
	    .signals = &a->signals,
	    .die_with_parent = true};
	bool started = spawn_process(&request, &result) == STATUS_OK;

	close(ends[1]);
	if (!started) {
		close(ends[0]);
		return false;
	}
	if (result.pidfd >= 0)
		close(result.pidfd);
	a->supervisor_pid = result.pid;
	if (!link_open(a->link, ends[0])) {
		close(ends[0]);
		return true; /* it will see its end closed, end, and be started again */
	}
	say_hello(a);
	return true;
}

/* Start a supervisor now, or after a pause that grows while it does not come up. */
static void restart_supervisor(struct agent *a)
{
	unsigned beyond = a->short_lives > SUPERVISOR_AT_ONCE ? a->short_lives - SUPERVISOR_AT_ONCE
							      : 0;
	unsigned wait_ms = beyond == 0 ? 0 : 50u << (beyond < 7 ? beyond : 7);
	struct timeval wait;

	if (a->exit_code >= 0 || a->supervisor_pid != 0)
		return;
	unsigned max_ms = crew_attempt(a->crew) != 0 ? SUPERVISOR_LIVE_MAX_MS
						     : SUPERVISOR_BACKOFF_MAX_MS;

	if (wait_ms > max_ms)
		wait_ms = max_ms;
	wait = (struct timeval){.tv_sec = wait_ms / 1000, .tv_usec = wait_ms % 1000 * 1000};
	event_add(a->restart, &wait);
}

static void on_restart(evutil_socket_t fd, short what, void *argument)
{
	struct agent *a = argument;

	(void)fd;
	(void)what;
	if (a->supervisor_pid != 0 || a->exit_code >= 0)
		return;
	a->supervisor_start_ns = clock_monotonic_ns();
	if (!spawn_supervisor(a)) {
		a->short_lives++;
		restart_supervisor(a);
	}
}

static void supervisor_ended(struct agent *a, int wait_status)
{
	bool nothing_alive = crew_attempt(a->crew) == 0;

	link_close(a->link);
	a->supervisor_pid = 0;
	if (a->exit_code >= 0) {
		if (a->display_pid == 0)
			event_base_loopbreak(a->base);
		return;
	}
	/* It said why in a line of its own, before anything was started: that is the answer. */
	if (nothing_alive && WIFEXITED(wait_status) && WEXITSTATUS(wait_status) >= 64) {
		finish(a, WEXITSTATUS(wait_status));
		return;
	}
	if (clock_monotonic_ns() - a->supervisor_start_ns < SUPERVISOR_SHORT_NS)
		a->short_lives++;
	else
		a->short_lives = 0;
	if (nothing_alive && a->short_lives >= SUPERVISOR_TRIES_MAX) {
		fprintf(stderr, "holdfast: the supervisor ends again and again; giving up\n");
		finish(a, EXIT_OUR_BUG);
		return;
	}
	restart_supervisor(a);
}

static void on_link_end(void *context)
{
	struct agent *a = context;

	link_close(a->link);
	/* A supervisor that hung up is on its way out; one that is not is not obeyed any more. */
	if (a->supervisor_pid != 0)
		kill(a->supervisor_pid, a->exit_code >= 0 ? SIGTERM : SIGKILL);
}

static void on_link_room(void *context)
{
	struct agent *a = context;

	if (a->crew != NULL)
		crew_pump(a->crew);
}

/* --- commands -------------------------------------------------------------------------------------------- */

static void post_wish(struct agent *a, enum control_verb verb)
{
	struct record_control *r = link_record(RECORD_CONTROL, sizeof(*r), 0);

	r->verb = verb;
	r->rank = RANK_NONE;
	link_post(a->link, &r->head, 0);
}

/* The records behind a decision, checked; how many were of `kind`. */
static size_t attached(const struct wire_frame *frame, const struct record *decision, uint16_t kind,
    const struct record *out[], size_t max)
{
	const uint8_t *at = (const uint8_t *)decision + decision->size_bytes;
	const uint8_t *end = (const uint8_t *)frame->payload + frame->size_bytes;
	size_t count = 0;

	while (count < max && end - at >= (ptrdiff_t)sizeof(struct record)) {
		const struct record *r = (const struct record *)at;

		if (r->size_bytes > (size_t)(end - at) || r->kind != kind ||
		    check_record(r, r->size_bytes, NULL) != STATUS_OK)
			break;
		out[count++] = r;
		at += r->size_bytes;
	}
	return count;
}

static bool every_rank_runs(const struct agent *a, uint32_t attempt)
{
	struct crew_rank_view view;

	for (uint32_t rank = 0; rank < a->options->rank_count; rank++)
		if (!crew_view(a->crew, attempt, rank, &view) || view.pid == 0)
			return false;
	return true;
}

/* Who started a detached run waits for this.  One whose starter was ended meanwhile is one that nobody knows of. */
static void tell_up(struct agent *a)
{
	if (a->options->up_fd < 0 || a->up_told)
		return;
	a->up_told = true;
	event_del(a->up);
	if (write(a->options->up_fd, "u", 1) != 1)
		post_wish(a, CONTROL_STOP);
	close(a->options->up_fd);
}

static void on_up(evutil_socket_t fd, short what, void *argument)
{
	(void)fd;
	(void)what;
	tell_up(argument);
}

static void on_keeping_started(void *context, uint32_t attempt)
{
	struct agent *a = context;

	if (every_rank_runs(a, attempt))
		tell_up(a);
}

static void command_start(
    struct agent *a, const struct wire_frame *frame, const struct decision_start *start)
{
	const struct record *rung = NULL, *kept = NULL;
	const char *path = NULL;

	if (start->source == START_FILE && attached(frame, &start->head, RECORD_KEPT, &kept, 1) == 0 &&
	    attached(frame, &start->head, RECORD_RUNG, &rung, 1) == 1)
		path = RECORD_TEXT(rung, struct record_rung);
	keeping_start(a->keeping, start, path, (const struct record_kept *)kept);
}

static void command_verify(
    struct agent *a, const struct wire_frame *frame, const struct decision_verify *verify)
{
	const struct record *rungs[RUNGS_MAX];
	size_t count = attached(frame, &verify->head, RECORD_RUNG, rungs, RUNGS_MAX);

	if (count == 0)
		count = attached(frame, &verify->head, RECORD_KEPT, rungs, 1);
	errands_verify(a->errands, verify, rungs, count);
}

static void command_digest(
    struct agent *a, const struct wire_frame *frame, const struct decision_digest *digest)
{
	const struct record *saved = NULL;

	if (attached(frame, &digest->head, RECORD_SAVED, &saved, 1) == 1)
		errands_digest(a->errands, digest, (const struct record_saved *)saved);
}

static bool take_command(struct agent *a, const struct wire_frame *frame)
{
	const struct record *r = frame->payload;

	if (frame->size_bytes < sizeof(*r) || r->size_bytes > frame->size_bytes ||
	    check_record(r, r->size_bytes, NULL) != STATUS_OK || !record_is_decision(r))
		return false;
	switch (r->kind) {
	case DECISION_START:
		command_start(a, frame, frame->payload);
		break;
	case DECISION_KILL:
		crew_kill(a->crew, frame->payload);
		break;
	case DECISION_CLEAR:
		keeping_cancel(a->keeping);
		crew_clear(a->crew, frame->payload);
		break;
	case DECISION_SAMPLE:
		crew_sample(a->crew, frame->payload);
		break;
	case DECISION_ASK:
		crew_ask(a->crew, frame->payload);
		break;
	case DECISION_CAPTURE:
		errands_capture(a->errands, frame->payload);
		break;
	case DECISION_SURVEY:
		errands_survey(a->errands, frame->payload);
		break;
	case DECISION_VERIFY:
		command_verify(a, frame, frame->payload);
		break;
	case DECISION_DIGEST:
		command_digest(a, frame, frame->payload);
		break;
	case DECISION_END:
		end_run(a, frame->payload);
		break;
	default:
		break; /* said for the readers */
	}
	return true;
}

static bool take_welcome(struct agent *a, const struct wire_frame *frame)
{
	const struct wire_welcome *welcome = frame->payload;
	const struct timeval wait = {.tv_sec = UP_WAIT_S};

	if (frame->size_bytes < sizeof(*welcome))
		return false;
	link_welcome(a->link, welcome->source_seq);
	if (a->options->up_fd >= 0 && !a->up_told && !event_pending(a->up, EV_TIMEOUT, NULL))
		event_add(a->up, &wait);
	crew_rewind(a->crew);
	return true;
}

static bool on_frame(void *context, const struct wire_frame *frame)
{
	struct agent *a = context;
	const struct wire_ack *ack = frame->payload;

	switch (frame->type) {
	case WIRE_WELCOME:
		return take_welcome(a, frame);
	case WIRE_COMMAND:
		return take_command(a, frame);
	case WIRE_ACK:
		if (frame->size_bytes < sizeof(*ack))
			return false;
		if (ack->source_seq != 0)
			link_ack(a->link, ack->source_seq);
		crew_ack(a->crew, ack);
		finish_when_answered(a);
		return true;
	case WIRE_REWIND:
		link_rewind(a->link);
		crew_rewind(a->crew);
		return true;
	case WIRE_PROTECT:
		if (frame->size_bytes < POLICY_PROTECTED * sizeof(uint64_t))
			return false;
		keeping_protect(a->keeping, frame->payload);
		return true;
	case WIRE_REFUSED:
		return true; /* its exit status says the same */
	default:
		return false;
	}
}

/* --- children and signals -------------------------------------------------------------------------------- */

static void on_children(evutil_socket_t number, short what, void *argument)
{
	struct agent *a = argument;
	struct rusage usage;
	int pid, wait_status;

	(void)number;
	(void)what;
	while ((pid = wait4(-1, &wait_status, WNOHANG | WUNTRACED | WCONTINUED, &usage)) > 0) {
		bool ended = WIFEXITED(wait_status) || WIFSIGNALED(wait_status);

		if (crew_child(a->crew, pid, wait_status, &usage))
			continue;
		/* A helper that somebody stopped would be waited for by everybody. */
		if (WIFSTOPPED(wait_status))
			kill(pid, SIGCONT);
		if (!ended)
			continue;
		if (errands_child(a->errands, pid, wait_status) ||
		    keeping_child(a->keeping, pid, wait_status))
			continue;
		if (pid == a->supervisor_pid) {
			supervisor_ended(a, wait_status);
		} else if (pid == a->display_pid) {
			a->display_pid = 0;
			if (a->exit_code >= 0 && a->supervisor_pid == 0)
				event_base_loopbreak(a->base);
		}
		/* Anything else is an orphan of a trainer's that came back to us, the subreaper. */
	}
}

/* Through the policy, as every signal: it is in the journal why a trainer saved, or died of it (H1). */
static void on_user_signal(evutil_socket_t number, short what, void *argument)
{
	(void)what;
	if (crew_attempt(((struct agent *)argument)->crew) != 0)
		post_wish(argument, number == SIGUSR1 ? CONTROL_USR1 : CONTROL_USR2);
}

static void on_stop_signal(evutil_socket_t number, short what, void *argument)
{
	struct agent *a = argument;

	(void)what;
	if (++a->stops_asked > 2) { /* asked three times: at once, without anybody's advice */
		finish(a, 128 + (int)number);
		event_base_loopbreak(a->base);
		return;
	}
	post_wish(a, CONTROL_STOP);
}

static void on_farewell(evutil_socket_t fd, short what, void *argument)
{
	struct agent *a = argument;

	(void)fd;
	(void)what;
	if (a->exit_code < 0 && a->end_code >= 0) {
		finish(a, a->end_code);
		link_close(a->link);
		return;
	}
	event_base_loopbreak(a->base);
}

static size_t on_spare(void *context, int pids[], size_t max)
{
	struct agent *a = context;
	size_t count = 0;

	if (a->supervisor_pid != 0)
		pids[count++] = a->supervisor_pid;
	if (a->display_pid != 0)
		pids[count++] = a->display_pid;
	count += crew_helper_pids(a->crew, pids + count, max - count);
	count += errands_pids(a->errands, pids + count, max - count);
	count += keeping_pids(a->keeping, pids + count, max - count);
	return count;
}

/* --- the process ----------------------------------------------------------------------------------------- */

static void spawn_display(struct agent *a)
{
	char dir[4096];
	char total[24];
	const char *command[] = {SELF, "helper-display", "--dir", dir, "--shm-dir",
	    a->options->shm_dir, NULL, NULL, NULL, NULL};
	size_t words = 6;
	struct spawn_result result;
	extern char **environ;

	snprintf(dir, sizeof(dir), "%s", a->options->run_dir);
	if (a->options->json)
		command[words++] = "--json";
	if (a->options->total_steps != 0) {
		snprintf(total, sizeof(total), "%llu", (unsigned long long)a->options->total_steps);
		command[words++] = "--total-steps";
		command[words++] = total;
	}
	struct spawn_request request = {.command = command,
	    .environment = environ,
	    .in_fd = -1,
	    .out_fd = -1,
	    .err_fd = -1,
	    .signals = &a->signals,
	    .die_with_parent = true};

	if (spawn_process(&request, &result) != STATUS_OK)
		return; /* the run goes on unseen; holdfast status shows it */
	if (result.pidfd >= 0)
		close(result.pidfd);
	a->display_pid = result.pid;
}

static bool make_events(struct agent *a)
{
	struct event_config *config = event_config_new();

	if (config == NULL)
		return false;
	event_config_set_flag(config, EVENT_BASE_FLAG_PRECISE_TIMER);
	a->base = event_base_new_with_config(config);
	event_config_free(config);
	if (a->base == NULL)
		return false;
	a->on_term = evsignal_new(a->base, SIGTERM, on_stop_signal, a);
	a->on_int = evsignal_new(a->base, SIGINT, on_stop_signal, a);
	a->on_usr1 = evsignal_new(a->base, SIGUSR1, on_user_signal, a);
	a->on_usr2 = evsignal_new(a->base, SIGUSR2, on_user_signal, a);
	a->on_child = evsignal_new(a->base, SIGCHLD, on_children, a);
	a->restart = evtimer_new(a->base, on_restart, a);
	a->farewell = evtimer_new(a->base, on_farewell, a);
	a->up = evtimer_new(a->base, on_up, a);
	return a->on_term != NULL && a->on_int != NULL && a->on_usr1 != NULL && a->on_usr2 != NULL &&
	    a->on_child != NULL && a->restart != NULL && a->farewell != NULL && a->up != NULL;
}

static MUST_CHECK enum status agent_init(struct agent *a, struct cause *why)
{
	struct link_callbacks callbacks = {
	    .on_frame = on_frame, .on_room = on_link_room, .on_end = on_link_end, .context = a};
	enum status status;

	if (getrandom(a->id, sizeof(a->id), 0) != (ssize_t)sizeof(a->id) || !make_events(a) ||
	    (a->link = link_new(a->base, &callbacks)) == NULL) {
		cause_set(why, CAUSE_ERRNO, ENOMEM, "start", "agent");
		return STATUS_SYS;
	}
	struct crew_setup setup = {.base = a->base,
	    .options = a->options,
	    .signals = &a->signals,
	    .link = a->link,
	    .others = &a->others,
	    .spare = on_spare,
	    .context = a};

	status = crew_new(&setup, &a->crew, why);
	if (status != STATUS_OK)
		return status;
	a->errands = errands_new(a->base, &a->signals, a->link, a->crew, a->options->rank_count);
	struct keeping_setup keeping = {.base = a->base,
	    .options = a->options,
	    .signals = &a->signals,
	    .link = a->link,
	    .crew = a->crew,
	    .on_idle = on_keeping_idle,
	    .on_started = on_keeping_started,
	    .context = a};

	a->keeping = keeping_new(&keeping);
	if (a->errands == NULL || a->keeping == NULL) {
		cause_set(why, CAUSE_ERRNO, ENOMEM, "start", "agent");
		return STATUS_SYS;
	}
	event_add(a->on_term, NULL);
	event_add(a->on_int, NULL);
	event_add(a->on_usr1, NULL);
	event_add(a->on_usr2, NULL);
	event_add(a->on_child, NULL);
	return STATUS_OK;
}

/* Leaving without an end: whatever the trainers started goes with them, within two seconds. */
static void end_descendants(const struct sweep_others *others)
{
	const struct timespec pause = {.tv_nsec = 2000000};

	for (unsigned i = 0; i < 1000; i++) {
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		struct sweep_result left = sweep_descendants(NULL, 0, others);

		if (left.found + left.ended == 0)
			return;
		nanosleep(&pause, NULL);
	}
}

static void agent_fini(struct agent *a)
{
	struct event *events[] = {a->on_term, a->on_int, a->on_usr1, a->on_usr2, a->on_child,
	    a->restart, a->farewell, a->up};

	errands_free(a->errands);
	keeping_free(a->keeping);
	/* Shared memory goes with an end that the journal knows; otherwise the next agent wants what is in it. */
	crew_free(a->crew, a->end_code >= 0);
	if (a->end_code < 0)
		end_descendants(&a->others);
	link_free(a->link);
	for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++)
		if (events[i] != NULL)
			event_free(events[i]);
	if (a->base != NULL)
		event_base_free(a->base);
	free(a->others.list);
}

int agent_run(const struct run_options *options)
{
	struct agent *a = calloc(1, sizeof(*a));
	struct cause why = {0};
	int exit_code;

	if (a == NULL) {
		fprintf(stderr, "holdfast: memory is short\n");
		return EXIT_OUR_BUG;
	}
	a->options = options;
	a->exit_code = -1;
	a->end_code = -1;
	/* What the trainers are to inherit is what we were given, before we change it. */
	spawn_signals_save(&a->signals);
	spawn_more_files();
	signal(SIGHUP, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	sweep_remember(&a->others);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	if (agent_init(a, &why) != STATUS_OK) {
		fprintf(stderr, "holdfast: cannot start: %s %s: %s\n", why.step, why.subject,
		    strerror((int)why.number));
		agent_fini(a);
		free(a);
		return EXIT_OUR_BUG;
	}
	if (options->display)
		spawn_display(a);
	restart_supervisor(a);
	event_base_dispatch(a->base);
	exit_code = a->exit_code < 0 ? EXIT_OUR_BUG : a->exit_code;
	agent_fini(a);
	free(a);
	return exit_code;
}
