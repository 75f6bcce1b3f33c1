/*
 * The turn with the real journal and the real policy: folding the journal gives the live state after every turn
 * (H4, H5), a supervisor that dies at any failpoint of any turn has done nothing that is not in the journal (H1)
 * and lost nothing that it acknowledged (H2), and a journal that cannot be written stops nothing.
 *
 * The agent is a script: it answers each decision as a healthy node would, reports steps, and lets a rank die.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "journal/check.h"
#include "journal/store.h"
#include "supervisor/failpoint.h"
#include "supervisor/turn.h"
#include "tests/unit/samples.h"

#define RANKS_HERE 2u
#define TURNS_MAX 2000u
#define STEPS_HERE 24u
#define MS 1000000ull

static struct cause why;

/* --- the script ------------------------------------------------------------------------------------------ */

struct script {
	struct turn *turn;
	struct turn_history history;
	char *journal;
	uint64_t now_ns;
	uint64_t source_seq;
	uint64_t ring_seq; /* of both ranks */
	uint64_t next_step, held_step;
	uint32_t attempt;
	uint8_t agent_id[16];
	bool started, hurt, ended;
	unsigned crashes; /* a rank dies this often, in different attempts */
	unsigned seen_count, performed_count;
	int report_fd; /* what was performed and acknowledged is written there; -1: nowhere */
	/* Answers that wait to be posted: callbacks must not post while a turn runs. */
	struct record *answers[64];
	unsigned answer_count;
};

/* What a child tells its parent before it dies. */
struct said {
	uint64_t acknowledged; /* a turn; 0: the decision below was performed */
	uint64_t seq, digest;  /* digest: of the decision's bytes */
};

static uint64_t hash(const void *bytes, size_t size)
{
	uint64_t value = 1469598103934665603ull;

	for (size_t i = 0; i < size; i++)
		value = (value ^ ((const uint8_t *)bytes)[i]) * 1099511628211ull;
	return value;
}

static void say(const struct script *s, struct said said)
{
	if (s->report_fd >= 0 && write(s->report_fd, &said, sizeof(said)) != sizeof(said))
		_exit(2);
}

static void *make(struct script *s, uint16_t kind, size_t extra)
{
	size_t size = RECORD_ROUND(check_fixed_size(kind) + extra);
	struct record *r = calloc(1, size);

	if (r == NULL)
		abort();
	*r = (struct record){.kind = kind,
	    .version = 1,
	    .size_bytes = (uint32_t)size,
	    .time_ns = s->now_ns,
	    .source_seq = kind == RECORD_STEP ? 0 : ++s->source_seq};
	if (s->answer_count == sizeof(s->answers) / sizeof(s->answers[0]))
		abort();
	s->answers[s->answer_count++] = r;
	return r;
}

static void say_hello(struct script *s)
{
	struct record_session *session = make(s, RECORD_SESSION, 0);

	session->head.source_seq = 0;
	session->session = s->history.session + 1;
	policy_config_default(&session->config);
	s->source_seq = 0;
	struct record_agent *hello = make(s, RECORD_AGENT, RANKS_HERE * sizeof(struct agent_rank));

	hello->head.source_seq = 0;
	s->source_seq = 0;
	memcpy(hello->agent_id, s->agent_id, sizeof(s->agent_id));
	hello->rank_count = RANKS_HERE;
	hello->gone = 1;
}

static void answer_start(struct script *s, const struct decision_start *start)
{
	s->attempt = start->attempt;
	s->started = true;
	s->hurt = false;
	s->ring_seq = 0;
	s->next_step = start->step == STEP_NONE ? 0 : start->step + 1;
	for (uint32_t rank = 0; rank < RANKS_HERE; rank++) {
		struct record_started *started = make(s, RECORD_STARTED, 0);
		struct record_connected *connected = make(s, RECORD_CONNECTED, 0);

		started->rank = connected->rank = rank;
		started->attempt = connected->attempt = start->attempt;
		started->pid = connected->pid = 100 + rank;
		connected->version = 1;
	}
}

static void answer_survey(struct script *s, const struct decision_survey *survey)
{
	for (uint32_t rank = 0; rank < RANKS_HERE; rank++) {
		struct record_memory *memory = make(s, RECORD_MEMORY, 0);

		memory->rank = rank;
		memory->attempt = survey->attempt;
		memory->step[0] = s->held_step < survey->before_step ? s->held_step : STEP_NONE;
		memory->step[1] = memory->step[2] = memory->bad_step = STEP_NONE;
		memory->size_bytes = 4096;
	}
}

static void on_perform(void *context, const struct record *r)
{
	struct script *s = context;

	s->performed_count++;
	say(s, (struct said){.seq = r->seq, .digest = hash(r, r->size_bytes)});
	switch (r->kind) {
	case DECISION_START:
		answer_start(s, (const struct decision_start *)r);
		break;
	case DECISION_CLEAR:
		s->started = false;
		((struct record_clear *)make(s, RECORD_CLEAR, 0))
		    ->attempt = ((const struct decision_clear *)r)->attempt;
		break;
	case DECISION_SURVEY:
		answer_survey(s, (const struct decision_survey *)r);
		break;
	case DECISION_CAPTURE: {
		const struct decision_capture *capture = (const struct decision_capture *)r;
		struct record_evidence *evidence = make(s, RECORD_EVIDENCE, 0);

		evidence->rank = capture->rank;
		evidence->attempt = capture->attempt;
		evidence->incident = capture->incident;
		evidence->evidence_kind = capture->evidence_kind;
		break;
	}
	case DECISION_END:
		s->ended = true;
		break;
	default:
		break;
	}
}

static void on_seen(void *context, const struct record *r)
{
	(void)r;
	((struct script *)context)->seen_count++;
}

static void report_step(struct script *s)
{
	struct record_step *row = make(s, RECORD_STEP, RANKS_HERE * sizeof(struct rank_cell));

	s->ring_seq++;
	row->attempt = s->attempt;
	row->step = s->next_step;
	row->loss = 1.0 / (double)(s->next_step + 1);
	row->fields = FIELD_LOSS;
	row->duration_ns = 10 * MS;
	row->rank_count = row->present_count = RANKS_HERE;
	for (uint32_t rank = 0; rank < RANKS_HERE; rank++)
		((struct rank_cell *)(row + 1))[rank] = (struct rank_cell){
		    .ring_seq = s->ring_seq, .duration_us = 10000, .flags = CELL_PRESENT};
	s->held_step = s->next_step++;
}

static void end_rank(struct script *s, uint32_t rank, int wait_status)
{
	struct record_death *death = make(s, RECORD_DEATH, 0);
	struct record_exit *end = make(s, RECORD_EXIT, 0);

	death->rank = end->rank = rank;
	death->attempt = end->attempt = s->attempt;
	death->wait_status = end->wait_status = wait_status;
	death->status_known = 1;
	death->source = DEATH_FUTEX;
}

/* What happens by itself when nothing has to be answered. */
static void live(struct script *s)
{
	if (!s->started)
		return;
	if (s->crashes > 0 && s->next_step % 7 == 6 && !s->hurt) {
		s->hurt = true;
		s->crashes--;
		end_rank(s, 1, SIGKILL);
		end_rank(s, 0, SIGKILL);
	} else if (s->next_step >= STEPS_HERE && !s->hurt) {
		s->hurt = true;
		end_rank(s, 0, 0);
		end_rank(s, 1, 0);
	} else if (!s->hurt) {
		report_step(s);
	}
}

static void script_open(struct script *s, const char *dir)
{
	const struct turn_callbacks callbacks = {.perform = on_perform, .seen = on_seen, .context = s};

	s->report_fd = -1;
	s->held_step = STEP_NONE;
	assert_true(asprintf(&s->journal, "%s/journal", dir) > 0);
	if (turn_open(s->journal, RANKS_HERE, &callbacks, &s->turn, &s->history, &why) != STATUS_OK)
		fail_msg("turn_open: %s %lld %s", why.step, (long long)why.number, why.subject);
	s->now_ns = s->history.last_time_ns;
	memset(s->agent_id, (int)s->history.session + 1, sizeof(s->agent_id));
	if (s->history.fresh) {
		static const char text[] = "train\0/dir";
		struct record_run *run = make(s, RECORD_RUN, sizeof(text));

		run->head.source_seq = 0;
		run->rank_count = RANKS_HERE;
		run->node_count = run->argument_count = 1;
		run->text_bytes = sizeof(text);
		memcpy(run + 1, text, sizeof(text));
		policy_config_default(&run->config);
	} else if (policy_last_step(turn_policy(s->turn)) != STEP_NONE) {
		s->held_step = policy_last_step(turn_policy(s->turn));
	}
	say_hello(s);
}

static void script_close(struct script *s)
{
	for (unsigned i = 0; i < s->answer_count; i++)
		free(s->answers[i]);
	turn_close(s->turn);
	free(s->journal);
}

/* One turn of the script; time goes on by ten milliseconds, or to the policy's next deadline. */
static enum status script_turn(struct script *s)
{
	if (s->answer_count == 0)
		live(s);
	s->now_ns += 10 * MS;
	if (s->answer_count == 0 && policy_deadline_ns(turn_policy(s->turn)) > s->now_ns)
		s->now_ns = policy_deadline_ns(turn_policy(s->turn));
	for (unsigned i = 0; i < s->answer_count; i++)
		assert_true(turn_post(s->turn, s->answers[i]));
	s->answer_count = 0;
	assert_true(turn_due(s->turn, s->now_ns));
	uint64_t number = turn_number(s->turn);
	enum status status = turn_run(s->turn, s->now_ns, &why);

	if (status == STATUS_OK)
		say(s, (struct said){.acknowledged = number});
	return status;
}

static void script_finish(struct script *s)
{
	for (unsigned i = 0; !s->ended; i++) {
		assert_true(i < TURNS_MAX);
		enum status status = script_turn(s);

		assert_true(status == STATUS_OK || status == STATUS_NONE);
	}
}

/* --- what the journal says ------------------------------------------------------------------------------- */

struct reading {
	uint64_t turns, late_turns, late_decisions, troubles, trouble_late_count, rows, digest;
	uint64_t last_seq;
};

/* Fold the journal here, apart from turn.c; every turn must come out as it is recorded. */
static struct reading read_journal(const char *journal)
{
	struct store_reader *rd;
	const struct record *r;
	struct reading reading = {0};
	struct policy *p = policy_new(RANKS_HERE);
	static struct decisions made;
	const struct record *inputs[256];
	size_t count = 0, decided = 0, decided_bytes = 0;
	static uint8_t decisions[POLICY_DECISIONS_BYTES];

	if (store_reader_open(journal, &rd, &why) != STATUS_OK)
		fail_msg("open to read: %s %lld", why.step, (long long)why.number);
	reading.last_seq = store_reader_last_seq(rd);
	for (uint64_t seq = 1; seq <= reading.last_seq; seq++) {
		assert_int_equal(store_reader_get(rd, seq, &r, &why), STATUS_OK);
		assert_int_equal(check_record(r, r->size_bytes, &why), STATUS_OK);
		assert_int_equal(r->seq, seq);
		assert_int_equal(r->turn, reading.turns + 1);
		if (r->kind == RECORD_TURN) {
			const struct record_turn *end = (const struct record_turn *)r;
			const uint8_t *mine, *theirs = decisions;

			policy_turn(p, inputs, count, r->time_ns, &made);
			assert_int_equal(end->input_count, count);
			assert_int_equal(end->decision_count, decided);
			assert_int_equal(made.count, decided);
			assert_int_equal(made.size_bytes, decided_bytes);
			for (mine = made.bytes; mine < made.bytes + made.size_bytes;) {
				const struct record *d = (const struct record *)(const void *)mine;

				assert_memory_equal(
				    d + 1, theirs + sizeof(*d), d->size_bytes - sizeof(*d));
				mine += d->size_bytes;
				theirs += d->size_bytes;
			}
			if (policy_digest(p) != end->state_digest)
				fail_msg("turn %llu folds to another state",
				    (unsigned long long)r->turn);
			reading.turns++;
			reading.late_turns += end->late;
			reading.late_decisions += end->late ? decided : 0;
			count = decided = decided_bytes = 0;
		} else if (record_is_decision(r)) {
			memcpy(decisions + decided_bytes, r, r->size_bytes);
			decided_bytes += r->size_bytes;
			decided++;
		} else {
			assert_true(count < 256);
			inputs[count++] = r;
			reading.rows += r->kind == RECORD_STEP;
			if (r->kind == RECORD_TROUBLE) {
				reading.troubles++;
				reading.trouble_late_count = ((const struct record_trouble *)r)->late_count;
			}
		}
	}
	assert_int_equal(count + decided, 0);
	reading.digest = policy_digest(p);
	store_reader_close(rd);
	policy_free(p);
	return reading;
}

/* --- tests ---------------------------------------------------------------------------------------------- */

static void fold_is_live(void **state)
{
	char *dir = sample_directory();
	struct script s = {.crashes = 3};

	(void)state;
	script_open(&s, dir);
	assert_true(s.history.fresh);
	for (unsigned i = 0; !s.ended; i++) {
		assert_true(i < TURNS_MAX);
		uint64_t before = policy_digest(turn_policy(s.turn)), number = turn_number(s.turn);
		enum status status = script_turn(&s);

		assert_true(status == STATUS_OK || status == STATUS_NONE);
		struct reading reading = read_journal(s.journal);

		assert_int_equal(reading.turns, turn_number(s.turn) - 1);
		if (status == STATUS_NONE) { /* nothing changed, nothing is journaled */
			assert_int_equal(turn_number(s.turn), number);
			assert_true(policy_digest(turn_policy(s.turn)) == before);
		}
		if (reading.digest != policy_digest(turn_policy(s.turn)))
			fail_msg("turn %llu: the fold is not the live state",
			    (unsigned long long)number);
	}
	assert_int_equal(policy_exit_code(turn_policy(s.turn)), 0);
	assert_int_equal(s.crashes, 0);
	assert_int_equal(s.attempt, 4);
	script_close(&s);

	/* A successor folds the same, and sees every input again. */
	struct script next = {0};

	script_open(&next, dir);
	assert_int_equal(next.history.turns_differing, 0);
	assert_false(next.history.fresh);
	assert_int_equal(next.history.session, 1);
	assert_non_null(next.history.run);
	assert_int_equal(next.seen_count, s.seen_count);
	assert_int_equal(next.performed_count, 0);
	assert_int_equal(policy_exit_code(turn_policy(next.turn)), 0);
	script_close(&next);
	sample_remove(dir);
}

static void another_rank_count_is_refused(void **state)
{
	char *dir = sample_directory();
	struct script s = {0};
	const struct turn_callbacks callbacks = {
	    .perform = on_perform, .seen = on_seen, .context = &s};
	struct turn *other = NULL;
	struct turn_history history;

	(void)state;
	script_open(&s, dir);
	assert_int_equal(script_turn(&s), STATUS_OK);
	/* A second supervisor of the same journal: not now. */
	assert_int_equal(
	    turn_open(s.journal, RANKS_HERE, &callbacks, &other, &history, &why), STATUS_AGAIN);
	turn_close(s.turn);
	s.turn = NULL;
	assert_int_equal(turn_open(s.journal, RANKS_HERE + 1, &callbacks, &other, &history, &why),
	    STATUS_REFUSED);
	assert_null(other);
	assert_int_equal(
	    turn_open(s.journal, RANKS_HERE, &callbacks, &other, &history, &why), STATUS_OK);
	turn_close(other);
	script_close(&s);
	sample_remove(dir);
}

static void time_never_goes_back(void **state)
{
	char *dir = sample_directory();
	struct script s = {0};

	(void)state;
	script_open(&s, dir);
	for (unsigned i = 0; i < 20; i++) {
		if (i % 3 == 2)
			s.now_ns -= 15 * MS;
		enum status status = script_turn(&s);

		assert_true(status == STATUS_OK || status == STATUS_NONE);
	}
	assert_int_equal(read_journal(s.journal).digest, policy_digest(turn_policy(s.turn)));
	script_close(&s);
	sample_remove(dir);
}

/* --- failpoints ------------------------------------------------------------------------------------------ */

/* In a child: live until the failpoint; exits with 0 when it never came. */
static void live_and_die(const char *dir, unsigned point, unsigned turn, int report_fd)
{
	struct script s = {.crashes = 1};
	char text[512];

	snprintf(text, sizeof(text), "%u:%u:%s/died", point, turn, dir);
	setenv("HOLDFAST_FAILPOINT", text, 1);
	script_open(&s, dir);
	s.report_fd = report_fd;
	failpoint_init();
	script_finish(&s);
	script_close(&s);
	_exit(0);
}

/* What the dead one did is in the journal (H1), what it acknowledged too (H2). */
static void check_said(const char *journal, int fd)
{
	struct store_reader *rd = NULL;
	struct said said;
	const struct record *r;
	uint64_t turns = 0;

	if (store_reader_open(journal, &rd, &why) == STATUS_OK && store_reader_last_seq(rd) > 0) {
		assert_int_equal(store_reader_get(rd, store_reader_last_seq(rd), &r, &why), STATUS_OK);
		assert_int_equal(r->kind, RECORD_TURN); /* turns are whole */
		turns = r->turn;
	}
	while (read(fd, &said, sizeof(said)) == sizeof(said)) {
		if (said.acknowledged != 0) {
			assert_true(said.acknowledged <= turns);
			continue;
		}
		assert_non_null(rd);
		assert_int_equal(store_reader_get(rd, said.seq, &r, &why), STATUS_OK);
		assert_true(hash(r, r->size_bytes) == said.digest);
	}
	store_reader_close(rd);
}

static bool die_at(unsigned point, unsigned turn)
{
	char *dir = sample_directory(), *journal;
	int ends[2], status;

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	fflush(NULL);
	int pid = fork();

	assert_true(pid >= 0);
	if (pid == 0)
		live_and_die(dir, point, turn, ends[1]);
	close(ends[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	bool died = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;

	if (!died && status != 0)
		fail_msg("failpoint %u, turn %u: status %x", point, turn, status);
	assert_true(asprintf(&journal, "%s/journal", dir) > 0);
	check_said(journal, ends[0]);
	close(ends[0]);
	free(journal);
	if (died) {
		/* The successor finds the same state (H4), and brings the run to its end. */
		struct script next = {0};

		unsetenv("HOLDFAST_FAILPOINT");
		script_open(&next, dir);
		if (next.history.turns_differing != 0)
			fail_msg("failpoint %u, turn %u: %llu turns differ, from %llu on", point,
			    turn, (unsigned long long)next.history.turns_differing,
			    (unsigned long long)next.history.first_differing);
		if (policy_run_state(turn_policy(next.turn)) != RUN_ENDED)
			script_finish(&next);
		assert_int_equal(policy_exit_code(turn_policy(next.turn)), 0);
		assert_int_equal(
		    read_journal(next.journal).digest, policy_digest(turn_policy(next.turn)));
		script_close(&next);
	}
	sample_remove(dir);
	return died;
}

static void dead_at_every_failpoint(void **state)
{
	(void)state;
	for (unsigned point = FAILPOINT_BEFORE_DECIDE; point <= FAILPOINT_WHILE_PERFORMING; point++) {
		unsigned died = 0;

		for (unsigned turn = 1; turn <= 24; turn++)
			died += die_at(point, turn);
		/* Every turn has all but the last of them; only some turns decide anything. */
		if (point == FAILPOINT_WHILE_PERFORMING)
			assert_true(died >= 4);
		else
			assert_int_equal(died, 24);
	}
	assert_false(die_at(FAILPOINT_BEFORE_ACK, 3)); /* control: not in the turn */
}

/* Whoever comes second to the place lives on, and so does everybody when the variable means nothing. */
static void acts_once(void **state)
{
	static const char *const wrong[] = {"", "nonsense", "1", "1:1", "1:1:", ":::"};
	char *dir = sample_directory(), text[512];

	(void)state;
	sample_write(dir, "died", "", 0);
	snprintf(text, sizeof(text), "1:1:%s/died", dir);
	setenv("HOLDFAST_FAILPOINT", text, 1);
	failpoint_init();
	failpoint_pass(FAILPOINT_BEFORE_DECIDE, 1);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		setenv("HOLDFAST_FAILPOINT", wrong[i], 1);
		failpoint_init();
		failpoint_pass(FAILPOINT_BEFORE_DECIDE, 1);
	}
	unsetenv("HOLDFAST_FAILPOINT");
	failpoint_init();
	failpoint_pass(FAILPOINT_BEFORE_DECIDE, 0);
	sample_remove(dir);
}

/* --- trouble --------------------------------------------------------------------------------------------- */

static void set_file_limit(rlim_t bytes)
{
	struct rlimit limit;

	getrlimit(RLIMIT_FSIZE, &limit);
	limit.rlim_cur = bytes;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void trouble_and_back(void **state)
{
	char *dir = sample_directory();
	struct script s = {.crashes = 2};
	unsigned late = 0, ok = 0;

	(void)state;
	signal(SIGXFSZ, SIG_IGN);
	script_open(&s, dir);
	while (ok < 8)
		ok += script_turn(&s) == STATUS_OK;
	uint64_t committed = turn_number(s.turn) - 1;

	set_file_limit(4096); /* less than the file has: every write fails */
	for (unsigned i = 0; late < 20; i++) {
		assert_true(i < TURNS_MAX);
		enum status status = script_turn(&s);

		assert_true(status != STATUS_OK);
		if (status != STATUS_NONE)
			late++;
		assert_true(turn_in_trouble(s.turn));
		if (i % 5 == 4) /* still no room: nothing is lost by trying */
			assert_true(turn_retry(s.turn, s.now_ns, &why) != STATUS_OK);
	}
	assert_true(s.attempt > 1); /* the run was kept alive meanwhile */
	assert_int_equal(read_journal(s.journal).turns, committed);
	set_file_limit(RLIM_INFINITY);
	if (turn_retry(s.turn, s.now_ns, &why) != STATUS_OK)
		fail_msg("retry: %s %lld", why.step, (long long)why.number);
	assert_false(turn_in_trouble(s.turn));
	assert_false(s.ended);
	script_finish(&s);
	struct reading reading = read_journal(s.journal);

	assert_int_equal(reading.digest, policy_digest(turn_policy(s.turn)));
	assert_int_equal(reading.late_turns, late);
	assert_int_equal(reading.troubles, 1);
	assert_int_equal(reading.trouble_late_count, reading.late_decisions);
	assert_true(reading.late_decisions > 0);
	script_close(&s);
	struct script next = {0};

	script_open(&next, dir);
	assert_int_equal(next.history.turns_differing, 0);
	script_close(&next);
	sample_remove(dir);
}

/* A run that ends meanwhile: the end waits for the journal, for nobody would be left to write it. */
static void the_end_waits(void **state)
{
	char *dir = sample_directory();
	struct script s = {0};

	(void)state;
	signal(SIGXFSZ, SIG_IGN);
	script_open(&s, dir);
	while (s.next_step < STEPS_HERE)
		assert_int_equal(script_turn(&s), STATUS_OK);
	set_file_limit(4096);
	for (unsigned i = 0; policy_run_state(turn_policy(s.turn)) != RUN_ENDED; i++) {
		assert_true(i < 20);
		assert_true(script_turn(&s) != STATUS_OK);
	}
	assert_false(s.ended);
	assert_true(turn_retry(s.turn, s.now_ns, &why) != STATUS_OK);
	assert_false(s.ended);
	set_file_limit(RLIM_INFINITY);
	assert_int_equal(turn_retry(s.turn, s.now_ns, &why), STATUS_OK);
	assert_true(s.ended);
	assert_int_equal(turn_run(s.turn, s.now_ns, &why), STATUS_OK);
	assert_int_equal(read_journal(s.journal).digest, policy_digest(turn_policy(s.turn)));
	script_close(&s);
	sample_remove(dir);
}

/* What waits for the journal is bounded: beyond it the sender keeps what it has. */
static void trouble_is_bounded(void **state)
{
	char *dir = sample_directory();
	struct script s = {0};
	unsigned taken = 0;

	(void)state;
	signal(SIGXFSZ, SIG_IGN);
	script_open(&s, dir);
	for (unsigned i = 0; i < 6; i++)
		(void)script_turn(&s);
	set_file_limit(4096);
	for (;; taken++) {
		struct record_evidence *evidence = make(&s, RECORD_EVIDENCE, 64u << 10);

		s.answer_count--;
		evidence->attempt = 77;
		evidence->raw_bytes = evidence->text_bytes = 64u << 10;
		assert_true(turn_post(s.turn, &evidence->head));
		s.now_ns += MS;
		assert_true(turn_run(s.turn, s.now_ns, &why) != STATUS_OK);
		if (!turn_has_room(s.turn))
			break;
		assert_true(taken < 2 * TURN_PENDING_BYTES / (64u << 10));
	}
	assert_true(taken >= TURN_PENDING_BYTES / (65u << 10));
	set_file_limit(RLIM_INFINITY);
	assert_int_equal(turn_retry(s.turn, s.now_ns, &why), STATUS_OK);
	assert_true(turn_has_room(s.turn));
	assert_int_equal(turn_run(s.turn, s.now_ns, &why), STATUS_OK);
	script_close(&s);
	sample_remove(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(fold_is_live),
	    cmocka_unit_test(another_rank_count_is_refused),
	    cmocka_unit_test(time_never_goes_back),
	    cmocka_unit_test(dead_at_every_failpoint),
	    cmocka_unit_test(acts_once),
	    cmocka_unit_test(trouble_and_back),
	    cmocka_unit_test(the_end_waits),
	    cmocka_unit_test(trouble_is_bounded),
	};

	/* Processes die here, not machines: shared memory keeps what they wrote, and needs no disk's time. */
	if (access("/dev/shm", W_OK) == 0)
		setenv("TMPDIR", "/dev/shm", 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
