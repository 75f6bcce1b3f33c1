/* The supervisor process: see supervisor.h.  Its walk: agent's frame → decode → rows → post → turn → send. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

#include "journal/check.h"
#include "supervisor/clock.h"
#include "supervisor/control.h"
#include "supervisor/failpoint.h"
#include "supervisor/keep.h"
#include "supervisor/rows.h"
#include "supervisor/supervisor.h"
#include "supervisor/turn.h"
#include "supervisor/wire.h"

#define EXIT_OUR_BUG 70
#define EXIT_TRY_AGAIN 75
#define EXIT_CONFIGURATION 78
#define BALLAST_BYTES (1 << 20) /* as cli/rundir.c makes it */
#define BALLAST_SPARE 4ull
#define TICK_S 1
#define PROTECTED_UNTOLD UINT64_MAX
#define INPUT_HIGH_BYTES (WIRE_PAYLOAD_MAX + (1u << 20))

/* Something was not taken.  What follows it in the stream is of no use, until the agent says, in the stream, that
 * it begins again. */
enum rewind { REWIND_NONE = 0, REWIND_WANTED, REWIND_ASKED };

struct supervisor {
	const char *dir;
	char *journal_dir;
	struct event_base *base;
	struct bufferevent *agent;
	struct event *turn_event; /* activated when something was posted */
	struct event *deadline;   /* the policy's, and the retries' */
	struct event *tick;
	struct control *control;
	struct turn *turn; /* NULL before WIRE_RUN */
	struct rows *rows;
	struct keep keep;
	uint64_t run_offset;
	uint8_t agent_id[16]; /* of the last hello */
	uint64_t source_seq_acked;
	uint64_t *ring_acked;                      /* a rank */
	uint32_t ring_attempt;                     /* that ring_acked counts for */
	uint64_t protected_told[POLICY_PROTECTED]; /* ordinals; PROTECTED_UNTOLD: this agent was told none */
	uint32_t rank_count;
	enum rewind rewind;
	bool ballast_released;
	bool control_pending;
	int exit_code;
};

static uint64_t run_now(const struct supervisor *s)
{
	return clock_monotonic_ns() + s->run_offset;
}

static void say(const struct supervisor *s, const char *what, const struct cause *why)
{
	const char *detail = why->domain == CAUSE_ERRNO ? strerror((int)why->number) : "";

	fprintf(stderr, "holdfast: %s: %s: %s %s (%lld)\n", what,
	    why->subject[0] != '\0' ? why->subject : s->dir, why->step != NULL ? why->step : "",
	    detail, (long long)why->number);
}

static void stop_with(struct supervisor *s, int exit_code)
{
	s->exit_code = exit_code;
	event_base_loopbreak(s->base);
}

/* --- to the agent -------------------------------------------------------------------------------------- */

static void send_parts(
    struct supervisor *s, enum wire_type type, const struct wire_part *parts, size_t count)
{
	if (wire_send(bufferevent_get_output(s->agent), type, parts, count) != 0)
		stop_with(s, EXIT_OUR_BUG); /* memory: the successor sends it again */
}

static void send_one(struct supervisor *s, enum wire_type type, const void *bytes, size_t size_bytes)
{
	struct wire_part part = {bytes, size_bytes};

	send_parts(s, type, &part, 1);
}

#define ATTACH_MAX 1024u

/* A command with the rung's digests, or the record of its kept copy, behind it. */
static void send_with_rung(struct supervisor *s, const struct record *r, uint64_t first_seq,
    uint64_t last_seq, uint64_t step)
{
	struct wire_part parts[1 + ATTACH_MAX] = {{r, r->size_bytes}};
	size_t count = 1;
	uint64_t from = first_seq;
	const struct record *kept = keep_find(&s->keep, RECORD_KEPT, first_seq, last_seq, step);

	if (kept != NULL)
		parts[count++] = (struct wire_part){kept, kept->size_bytes};
	while (count <= ATTACH_MAX) {
		const struct record *rung = keep_find(&s->keep, RECORD_RUNG, from, last_seq, step);

		if (rung == NULL)
			break;
		parts[count++] = (struct wire_part){rung, rung->size_bytes};
		from = rung->seq + 1;
	}
	send_parts(s, WIRE_COMMAND, parts, count);
}

static void begin_attempt_rows(struct supervisor *s, uint32_t attempt)
{
	const struct policy *p = turn_policy(s->turn);
	uint64_t *ring_seq = calloc(s->rank_count, sizeof(*ring_seq));

	if (ring_seq == NULL) {
		stop_with(s, EXIT_OUR_BUG);
		return;
	}
	for (uint32_t rank = 0; rank < s->rank_count; rank++) {
		ring_seq[rank] = policy_ring_seq(p, attempt, rank);
		s->ring_acked[rank] = ring_seq[rank];
	}
	s->ring_attempt = attempt;
	rows_start(s->rows, attempt, ring_seq, policy_last_step(p));
	for (uint32_t rank = 0; rank < s->rank_count; rank++)
		if (policy_rank_state(p, rank) == RANK_CONNECTED ||
		    policy_rank_state(p, rank) == RANK_STOPPED)
			rows_expect(s->rows, attempt, rank);
	free(ring_seq);
}

static void on_perform(void *context, const struct record *r)
{
	struct supervisor *s = context;
	const struct record *saved;

	switch (r->kind) {
	case DECISION_START: {
		const struct decision_start *start = (const struct decision_start *)r;

		if (start->attempt != s->ring_attempt)
			begin_attempt_rows(s, start->attempt);
		send_with_rung(s, r, start->source == START_FILE ? start->rung_first_seq : 1,
		    start->source == START_FILE ? start->rung_last_seq : 0, start->step);
		break;
	}
	case DECISION_VERIFY: {
		const struct decision_verify *verify = (const struct decision_verify *)r;

		send_with_rung(s, r, verify->rung_first_seq, verify->rung_last_seq, verify->step);
		break;
	}
	case DECISION_DIGEST: {
		const struct decision_digest *digest = (const struct decision_digest *)r;

		saved = keep_find(
		    &s->keep, RECORD_SAVED, digest->saved_seq, digest->saved_seq, STEP_NONE);
		if (saved != NULL) {
			struct wire_part parts[] = {{r, r->size_bytes}, {saved, saved->size_bytes}};

			send_parts(s, WIRE_COMMAND, parts, 2);
		}
		break;
	}
	case DECISION_FAULT:
	case DECISION_RECOVERED:
	case DECISION_STANDING:
		break; /* said for the readers */
	default:
		send_one(s, WIRE_COMMAND, r, r->size_bytes);
		break;
	}
}

static void on_seen(void *context, const struct record *r)
{
	struct supervisor *s = context;

	keep_see(&s->keep, r);
}

/* Tell the agent what is durable now, and which copy is needed by what is. */
static void send_acks(struct supervisor *s)
{
	const struct policy *p = turn_policy(s->turn);
	uint64_t ordinals[POLICY_PROTECTED];
	struct wire_ack ack = {.rank = RANK_NONE, .attempt = s->ring_attempt};

	uint64_t source_seq = policy_source_seq(p, s->agent_id);

	if (source_seq != s->source_seq_acked) {
		ack.source_seq = source_seq;
		s->source_seq_acked = source_seq;
		send_one(s, WIRE_ACK, &ack, sizeof(ack));
	}
	policy_protected(p, ordinals);
	if (memcmp(ordinals, s->protected_told, sizeof(ordinals)) != 0) {
		memcpy(s->protected_told, ordinals, sizeof(ordinals));
		send_one(s, WIRE_PROTECT, ordinals, sizeof(ordinals));
	}
	for (uint32_t rank = 0; rank < s->rank_count; rank++) {
		uint64_t ring_seq = policy_ring_seq(p, s->ring_attempt, rank);

		if (ring_seq == s->ring_acked[rank])
			continue;
		ack = (struct wire_ack){.rank = rank, .attempt = s->ring_attempt, .ring_seq = ring_seq};
		s->ring_acked[rank] = ring_seq;
		send_one(s, WIRE_ACK, &ack, sizeof(ack));
	}
}

/* --- the turn ------------------------------------------------------------------------------------------ */

static void arm_deadline(struct supervisor *s)
{
	uint64_t now = run_now(s), deadline = policy_deadline_ns(turn_policy(s->turn));
	uint64_t wait_ns = deadline <= now ? 0 : deadline - now;
	struct timeval wait = {.tv_sec = 3600};

	if (wait_ns < 3600000000000ull) {
		wait.tv_sec = (time_t)(wait_ns / 1000000000ull);
		wait.tv_usec = (suseconds_t)(wait_ns % 1000000000ull / 1000) + 1;
		if (wait.tv_usec >= 1000000) {
			wait.tv_sec++;
			wait.tv_usec -= 1000000;
		}
	}
	event_add(s->deadline, &wait);
}

/* The ballast is given up once, for the last words on a full disk. */
static void release_ballast(struct supervisor *s)
{
	char path[4096];

	if (s->ballast_released)
		return;
	snprintf(path, sizeof(path), "%s/ballast", s->dir);
	s->ballast_released = unlink(path) == 0;
}

/* There is room again, and more than the ballast itself would take away: have it for the next time. */
static void remake_ballast(struct supervisor *s)
{
	struct statvfs room;
	char path[4096];
	int fd;

	if (!s->ballast_released || statvfs(s->dir, &room) != 0 ||
	    (uint64_t)room.f_bavail * room.f_frsize < BALLAST_SPARE * BALLAST_BYTES)
		return;
	snprintf(path, sizeof(path), "%s/ballast", s->dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return;
	if (posix_fallocate(fd, 0, BALLAST_BYTES) == 0)
		s->ballast_released = false;
	else
		(void)unlink(path);
	close(fd);
}

static void on_turn(evutil_socket_t fd, short what, void *argument)
{
	struct supervisor *s = argument;
	struct cause why = {0};
	bool was_in_trouble = turn_in_trouble(s->turn);
	uint64_t number = turn_number(s->turn);

	(void)fd;
	(void)what;
	if (turn_due(s->turn, run_now(s))) {
		enum status status = turn_run(s->turn, run_now(s), &why);

		if (status != STATUS_OK && status != STATUS_NONE && !was_in_trouble) {
			say(s, "the journal cannot be written; training goes on, records wait in memory",
			    &why);
			release_ballast(s);
		}
	}
	if (!turn_in_trouble(s->turn)) {
		failpoint_pass(FAILPOINT_BEFORE_ACK, number);
		send_acks(s);
		failpoint_pass(FAILPOINT_AFTER_ACK, number);
		if (s->rewind == REWIND_WANTED) {
			s->rewind = REWIND_ASKED;
			send_one(s, WIRE_REWIND, "", 0);
		}
		if (s->control_pending) {
			s->control_pending = false;
			control_answer(s->control, "ok");
		}
	}
	if (turn_due(s->turn, run_now(s)))
		event_active(s->turn_event, EV_TIMEOUT, 0);
	arm_deadline(s);
}

static void on_deadline(evutil_socket_t fd, short what, void *argument)
{
	struct supervisor *s = argument;

	(void)fd;
	(void)what;
	event_active(s->turn_event, EV_TIMEOUT, 0);
}

static void on_tick(evutil_socket_t fd, short what, void *argument)
{
	struct supervisor *s = argument;
	struct cause why = {0};

	(void)fd;
	(void)what;
	if (s->turn == NULL)
		return;
	if (turn_in_trouble(s->turn)) {
		if (turn_retry(s->turn, run_now(s), &why) == STATUS_OK) {
			fprintf(stderr, "holdfast: the journal is written again: %s\n", s->dir);
			event_active(s->turn_event, EV_TIMEOUT, 0);
		}
		return;
	}
	remake_ballast(s);
	rows_age(s->rows, run_now(s));
	if (s->rewind == REWIND_WANTED || turn_due(s->turn, run_now(s)))
		event_active(s->turn_event, EV_TIMEOUT, 0);
}

static void post(struct supervisor *s, struct record *r)
{
	if (!turn_post(s->turn, r))
		stop_with(s, EXIT_OUR_BUG); /* memory: the successor gets it again */
	event_active(s->turn_event, EV_TIMEOUT, 0);
}

static void on_row(void *context, struct record *r)
{
	post(context, r);
}

static void on_wish(void *context, enum control_verb verb, uint32_t uid, uint32_t pid)
{
	struct supervisor *s = context;
	struct record_control *r = calloc(1, sizeof(*r));

	if (r == NULL || s->turn == NULL) {
		free(r);
		control_answer(s->control, "error: not ready yet; try again");
		return;
	}
	r->head = (struct record){
	    .kind = RECORD_CONTROL, .version = 1, .size_bytes = sizeof(*r), .time_ns = run_now(s)};
	r->verb = verb;
	r->uid = uid;
	r->pid = pid;
	r->rank = RANK_NONE;
	s->control_pending = true;
	post(s, &r->head);
}

/* --- from the agent ------------------------------------------------------------------------------------ */

/* Whether the journal holds the run that the agent was started for. */
static bool same_run(const struct record_run *mine, const struct record_run *theirs)
{
	return mine->rank_count == theirs->rank_count && mine->text_bytes == theirs->text_bytes &&
	    mine->argument_count == theirs->argument_count &&
	    memcmp(mine + 1, theirs + 1, mine->text_bytes) == 0;
}

static struct record *copy_record(const struct record *r)
{
	struct record *copy = malloc(r->size_bytes);

	if (copy != NULL)
		memcpy(copy, r, r->size_bytes);
	return copy;
}

static void post_session(
    struct supervisor *s, const struct turn_history *history, const struct policy_config *config)
{
	struct record_session *session = calloc(1, sizeof(*session));

	if (session == NULL) {
		stop_with(s, EXIT_OUR_BUG);
		return;
	}
	session->monotonic_ns = clock_monotonic_ns();
	session->wall_ns = clock_wall_ns();
	session->head = (struct record){.kind = RECORD_SESSION,
	    .version = 1,
	    .size_bytes = sizeof(*session),
	    .time_ns = session->monotonic_ns + s->run_offset};
	clock_boot_id(session->boot_id);
	session->supervisor_pid = (uint32_t)getpid();
	session->session = history->session + 1;
	session->config = *config;
	post(s, &session->head);
}

static void open_run(struct supervisor *s, const struct record_run *run)
{
	struct turn_callbacks callbacks = {.perform = on_perform, .seen = on_seen, .context = s};
	struct turn_history history;
	struct cause why = {0};
	enum status status = turn_open(
	    s->journal_dir, run->rank_count, &callbacks, &s->turn, &history, &why);
	uint32_t code = EXIT_CONFIGURATION;

	if (status == STATUS_OK && !history.fresh && !same_run(history.run, run))
		status = STATUS_REFUSED;
	if (status != STATUS_OK) {
		if (status == STATUS_AGAIN || status == STATUS_FULL)
			code = EXIT_TRY_AGAIN;
		say(s, "cannot open the journal", &why);
		send_one(s, WIRE_REFUSED, &code, sizeof(code));
		bufferevent_flush(s->agent, EV_WRITE, BEV_FINISHED);
		stop_with(s, (int)code);
		return;
	}
	if (history.turns_differing > 0)
		fprintf(stderr,
		    "holdfast: %s: this build decides differently from turn %llu on (%llu turns); "
		    "going on from "
		    "its own view\n",
		    s->dir, (unsigned long long)history.first_differing,
		    (unsigned long long)history.turns_differing);
	s->rank_count = run->rank_count;
	s->run_offset = clock_run_offset(
	    history.fresh ? NULL : &history.last_session, history.last_time_ns);
	s->rows = rows_new(s->rank_count, on_row, s);
	s->ring_acked = calloc(s->rank_count, sizeof(*s->ring_acked));
	if (s->rows == NULL || s->ring_acked == NULL) {
		stop_with(s, EXIT_OUR_BUG);
		return;
	}
	begin_attempt_rows(s, policy_attempt(turn_policy(s->turn)));
	if (history.fresh) {
		struct record *first = copy_record(&run->head);

		if (first == NULL) {
			stop_with(s, EXIT_OUR_BUG);
			return;
		}
		first->time_ns = run_now(s);
		((struct record_run *)first)->wall_ns = clock_wall_ns();
		post(s, first);
	}
	post_session(s, &history, &run->config);
}

/* A hello: answer what is durable already, so that the agent sends the rest. */
static void welcome(struct supervisor *s, const struct record_agent *hello)
{
	const struct policy *p = turn_policy(s->turn);
	struct wire_welcome answer = {
	    .source_seq = policy_source_seq(p, hello->agent_id), .attempt = policy_attempt(p)};

	memcpy(s->agent_id, hello->agent_id, sizeof(s->agent_id));
	s->source_seq_acked = answer.source_seq;
	s->protected_told[0] = PROTECTED_UNTOLD;
	send_one(s, WIRE_WELCOME, &answer, sizeof(answer));
}

/* What a record means for the rows, before the policy sees it. */
static void tell_rows(struct supervisor *s, const struct record *r)
{
	if (r->kind == RECORD_CONNECTED) {
		const struct record_connected *c = (const struct record_connected *)r;

		rows_expect(s->rows, c->attempt, c->rank);
	} else if (r->kind == RECORD_EXIT) {
		const struct record_exit *e = (const struct record_exit *)r;

		rows_exit(s->rows, e->attempt, e->rank);
	} else if (r->kind == RECORD_CLEAR) {
		rows_flush(s->rows, ((const struct record_clear *)r)->attempt);
	}
}

static bool take_record(struct supervisor *s, const struct record *r, size_t size_bytes)
{
	struct cause why = {0};

	if (size_bytes < sizeof(*r) || r->size_bytes > size_bytes ||
	    check_record(r, r->size_bytes, &why) != STATUS_OK || record_is_decision(r) ||
	    r->kind == RECORD_RUN || r->kind == RECORD_SESSION || r->kind == RECORD_TURN)
		return false;
	struct record *copy = copy_record(r);

	if (copy == NULL) {
		stop_with(s, EXIT_OUR_BUG);
		return true;
	}
	/* The agent said hello before the run's clock began. */
	copy->time_ns = (int64_t)(copy->time_ns + s->run_offset) < 0 ? 0
								     : copy->time_ns + s->run_offset;
	if (r->kind == RECORD_AGENT)
		welcome(s, (const struct record_agent *)r);
	tell_rows(s, copy);
	post(s, copy);
	return true;
}

static bool take_iterations(struct supervisor *s, const struct wire_frame *frame)
{
	const struct wire_ring *ring;
	const char *path;
	const struct iteration *it = wire_iterations(frame, &ring, &path);

	if (it == NULL)
		return false;
	uint64_t now = run_now(s);

	for (uint32_t i = 0; i < ring->count; i++) {
		/* The trainer's own word for the time: never later than now, never before the run. */
		uint64_t time_ns = it[i].monotonic_ns + s->run_offset;

		if (rows_add(s->rows, ring->attempt, ring->rank, &it[i],
			time_ns < now ? time_ns : now, path) != STATUS_OK) {
			s->rewind = REWIND_WANTED;
			break;
		}
	}
	return true;
}

static bool take_frame(struct supervisor *s, const struct wire_frame *frame)
{
	struct cause why = {0};

	switch (frame->type) {
	case WIRE_RUN:
		if (s->turn != NULL || frame->size_bytes < sizeof(struct record_run) ||
		    check_record(frame->payload, frame->size_bytes, &why) != STATUS_OK ||
		    ((const struct record *)frame->payload)->kind != RECORD_RUN)
			return false;
		open_run(s, frame->payload);
		return true;
	case WIRE_RECORD:
	case WIRE_ITERATIONS:
	case WIRE_SAVED:
		if (s->turn == NULL)
			return false;
		/* The journal is in trouble, and enough waits for it here: the rest stays with the agent. */
		if (!turn_has_room(s->turn) && s->rewind == REWIND_NONE)
			s->rewind = REWIND_WANTED;
		if (s->rewind != REWIND_NONE)
			return true;
		return frame->type == WIRE_RECORD ? take_record(s, frame->payload, frame->size_bytes)
						  : take_iterations(s, frame);
	case WIRE_REWIND:
		s->rewind = REWIND_NONE;
		return true;
	default:
		return false;
	}
}

static void on_read(struct bufferevent *stream, void *argument)
{
	struct supervisor *s = argument;
	struct evbuffer *in = bufferevent_get_input(stream);
	struct wire_frame frame;
	struct cause why = {0};
	enum status status = STATUS_OK;

	while (s->exit_code < 0 && (status = wire_peek(in, &frame, &why)) == STATUS_OK) {
		bool taken = take_frame(s, &frame);

		wire_done(in, &frame);
		if (!taken) {
			fprintf(stderr, "holdfast: supervisor: a frame of type %d is not understood\n",
			    (int)frame.type);
			stop_with(s, EXIT_OUR_BUG);
		}
	}
	if (status != STATUS_OK && status != STATUS_AGAIN)
		stop_with(s, EXIT_OUR_BUG);
}

static void on_agent_end(struct bufferevent *stream, short what, void *argument)
{
	(void)stream;
	(void)what;
	stop_with(argument, 0);
}

/* --- process ------------------------------------------------------------------------------------------- */

static bool make_loop(struct supervisor *s, int fd)
{
	struct event_config *config = event_config_new();
	struct timeval tick = {.tv_sec = TICK_S};

	if (config == NULL)
		return false;
	event_config_set_flag(config, EVENT_BASE_FLAG_PRECISE_TIMER);
	s->base = event_base_new_with_config(config);
	event_config_free(config);
	if (s->base == NULL || event_base_priority_init(s->base, 2) != 0)
		return false;
	evutil_make_socket_nonblocking(fd);
	s->agent = bufferevent_socket_new(s->base, fd, BEV_OPT_CLOSE_ON_FREE);
	s->turn_event = event_new(s->base, -1, 0, on_turn, s);
	s->deadline = evtimer_new(s->base, on_deadline, s);
	s->tick = event_new(s->base, -1, EV_PERSIST, on_tick, s);
	if (s->agent == NULL || s->turn_event == NULL || s->deadline == NULL || s->tick == NULL)
		return false;
	/* Reading comes first: what arrives during a commit is one batch. */
	bufferevent_priority_set(s->agent, 0);
	event_priority_set(s->turn_event, 1);
	event_priority_set(s->deadline, 1);
	bufferevent_setcb(s->agent, on_read, NULL, on_agent_end, s);
	bufferevent_setwatermark(s->agent, EV_READ, 0, INPUT_HIGH_BYTES);
	bufferevent_enable(s->agent, EV_READ | EV_WRITE);
	event_add(s->tick, &tick);
	return true;
}

static void supervisor_fini(struct supervisor *s)
{
	control_free(s->control);
	rows_free(s->rows);
	turn_close(s->turn);
	keep_fini(&s->keep);
	free(s->ring_acked);
	free(s->journal_dir);
	if (s->turn_event != NULL)
		event_free(s->turn_event);
	if (s->deadline != NULL)
		event_free(s->deadline);
	if (s->tick != NULL)
		event_free(s->tick);
	if (s->agent != NULL)
		bufferevent_free(s->agent);
	if (s->base != NULL)
		event_base_free(s->base);
}

int supervisor_main(int argc, char **argv)
{
	struct supervisor *s = calloc(1, sizeof(*s));
	struct cause why = {0};
	int fd = -1, code;

	prctl(PR_SET_NAME, "holdfast-superv");
	for (int i = 1; s != NULL && i + 1 < argc; i += 2) {
		if (strcmp(argv[i], "--dir") == 0)
			s->dir = argv[i + 1];
		else if (strcmp(argv[i], "--fd") == 0)
			fd = (int)strtol(argv[i + 1], NULL, 10);
	}
	if (s == NULL || s->dir == NULL || fd < 0 ||
	    asprintf(&s->journal_dir, "%s/journal", s->dir) < 0) {
		fprintf(stderr, "holdfast: supervisor is started by holdfast run\n");
		free(s);
		return 64;
	}
	signal(SIGPIPE, SIG_IGN);
	s->exit_code = -1;
	s->protected_told[0] = PROTECTED_UNTOLD;
	failpoint_init();
	if (!make_loop(s, fd)) {
		fprintf(stderr, "holdfast: supervisor: memory is short\n");
		supervisor_fini(s);
		free(s);
		return EXIT_OUR_BUG;
	}
	if (control_new(s->base, s->dir, on_wish, s, &s->control, &why) != STATUS_OK)
		say(s, "no control socket, holdfast stop will not reach this run", &why);
	event_base_dispatch(s->base);
	code = s->exit_code < 0 ? EXIT_OUR_BUG : s->exit_code;
	supervisor_fini(s);
	free(s);
	return code;
}
