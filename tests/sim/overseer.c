/* See overseer.h. */
#include <stdlib.h>
#include <string.h>

#include "supervisor/rows.h"
#include "tests/sim/ledger.h"
#include "tests/sim/node.h"
#include "tests/sim/overseer.h"

#define INPUTS_MAX 4096u

struct overseer {
	bool alive, committing;
	uint64_t link;       /* of this process */
	uint64_t generation; /* events of an earlier process mean nothing */
	struct policy *policy;
	struct rows *rows;
	uint32_t rows_attempt;
	struct record *inputs[INPUTS_MAX];
	size_t count;
	size_t turn_count; /* of them, in the turn that is being committed */
	uint64_t turn_ns;
	uint64_t decided_deadline_ns;
	uint8_t agent_id[16];
	bool greeted;
	enum overseer_crash crash;
	struct decisions decided;
};

struct overseer *overseer_new(struct world *w)
{
	(void)w;
	return world_sure(calloc(1, sizeof(struct overseer)));
}

static void forget(struct overseer *o)
{
	for (size_t i = 0; i < o->count; i++)
		free(o->inputs[i]);
	o->count = 0;
	policy_free(o->policy);
	o->policy = NULL;
	rows_free(o->rows);
	o->rows = NULL;
	o->alive = false;
	o->committing = false;
	o->greeted = false;
	o->crash = CRASH_NONE;
	o->generation++;
}

void overseer_free(struct overseer *o)
{
	forget(o);
	free(o);
}

bool overseer_alive(const struct world *w)
{
	return w->overseer->alive;
}

const struct policy *overseer_policy(const struct world *w)
{
	return w->overseer->policy;
}

void overseer_die(struct world *w)
{
	if (!w->overseer->alive)
		return;
	world_say(w, "supervisor dies");
	forget(w->overseer);
	node_on_overseer_end(w);
}

void overseer_crash_at(struct world *w, enum overseer_crash point)
{
	if (point == CRASH_NOW)
		overseer_die(w);
	else
		w->overseer->crash = point;
}

static bool crash_here(struct world *w, enum overseer_crash point)
{
	if (w->overseer->crash != point)
		return false;
	overseer_die(w);
	return true;
}

static void on_turn(struct world *w, uint64_t generation, uint64_t unused, void *data);
static void on_commit(struct world *w, uint64_t generation, uint64_t unused, void *data);

static void post(struct world *w, struct record *r)
{
	struct overseer *o = w->overseer;

	if (o->count == INPUTS_MAX) {
		world_fail(w, "more than %u inputs wait", INPUTS_MAX);
		free(r);
		return;
	}
	o->inputs[o->count++] = r;
	if (!o->committing)
		world_after(w, 20000, on_turn, o->generation, 0, NULL);
}

static void on_row(void *context, struct record *r)
{
	post(context, r);
}

static void begin_rows(struct world *w, uint32_t attempt)
{
	struct overseer *o = w->overseer;
	uint64_t ring_seq[SIM_RANKS] = {0};

	for (uint32_t rank = 0; rank < w->rank_count; rank++)
		ring_seq[rank] = policy_ring_seq(o->policy, attempt, rank);
	o->rows_attempt = attempt;
	rows_start(o->rows, attempt, ring_seq, policy_last_step(o->policy));
	for (uint32_t rank = 0; rank < w->rank_count; rank++) {
		enum rank_state state = policy_rank_state(o->policy, rank);

		if (state == RANK_CONNECTED || state == RANK_STOPPED)
			rows_expect(o->rows, attempt, rank);
	}
}

/* Rows wait two seconds for ranks that never connect. */
static void on_tick(struct world *w, uint64_t generation, uint64_t unused, void *data)
{
	struct overseer *o = w->overseer;

	(void)unused;
	(void)data;
	if (!o->alive || generation != o->generation)
		return;
	rows_age(o->rows, w->now_ns);
	world_after(w, S, on_tick, generation, 0, NULL);
}

void overseer_begin(struct world *w, uint64_t link)
{
	struct overseer *o = w->overseer;
	struct record_session *session = world_record(w, RECORD_SESSION, sizeof(*session));

	world_say(w, "supervisor %u begins", ledger_session(w->ledger) + 1);
	o->alive = true;
	o->link = link;
	o->policy = ledger_fold(w);
	o->rows = world_sure(rows_new(w->rank_count, on_row, w));
	begin_rows(w, policy_attempt(o->policy));
	if (ledger_fresh(w->ledger)) {
		struct record_run *run = world_record(w, RECORD_RUN, sizeof(*run) + 8);

		run->rank_count = w->rank_count;
		run->node_count = 1;
		run->argument_count = 1;
		run->text_bytes = 4;
		memcpy(run + 1, "a\0/", 4);
		run->config = w->config;
		post(w, &run->head);
	}
	session->session = ledger_session(w->ledger) + 1;
	session->config = w->config;
	post(w, &session->head);
	world_after(w, S, on_tick, o->generation, 0, NULL);
}

/* --- from the agent ----------------------------------------------------------------------------------- */

void overseer_record(struct world *w, uint64_t link, struct record *r)
{
	struct overseer *o = w->overseer;

	if (!o->alive || link != o->link) {
		free(r);
		return;
	}
	if (r->kind == RECORD_AGENT) {
		memcpy(o->agent_id, ((struct record_agent *)r)->agent_id, 16);
		o->greeted = true;
		node_welcome(w, link, policy_source_seq(o->policy, o->agent_id));
	} else if (r->kind == RECORD_CONNECTED) {
		const struct record_connected *c = (const struct record_connected *)r;

		rows_expect(o->rows, c->attempt, c->rank);
	} else if (r->kind == RECORD_EXIT) {
		rows_exit(o->rows, ((struct record_exit *)r)->attempt, ((struct record_exit *)r)->rank);
	} else if (r->kind == RECORD_CLEAR) {
		rows_flush(o->rows, ((const struct record_clear *)r)->attempt);
	}
	post(w, r);
}

void overseer_report(struct world *w, uint64_t link, uint32_t attempt, uint32_t rank,
    const struct iteration *it, const char *path)
{
	struct overseer *o = w->overseer;

	if (!o->alive || link != o->link)
		return;
	/* Who reports has connected, also when that news comes later. */
	rows_expect(o->rows, attempt, rank);
	if (rows_add(o->rows, attempt, rank, it, it->monotonic_ns, path) != STATUS_OK)
		world_fail(w, "a report of rank %u was not taken", rank);
}

void overseer_control(struct world *w, enum control_verb verb)
{
	struct record_control *r;

	if (!w->overseer->alive)
		return;
	r = world_record(w, RECORD_CONTROL, sizeof(*r));
	r->verb = verb;
	r->rank = RANK_NONE;
	post(w, &r->head);
}

/* --- the turn ----------------------------------------------------------------------------------------- */

static void perform(struct world *w, const struct record *r)
{
	struct overseer *o = w->overseer;

	if (r->kind == DECISION_START && ((const struct decision_start *)r)->attempt != o->rows_attempt)
		begin_rows(w, ((const struct decision_start *)r)->attempt);
	node_command(w, o->link, r);
}

static void perform_all(struct world *w)
{
	struct overseer *o = w->overseer;
	const uint8_t *at = o->decided.bytes;

	for (uint32_t i = 0; i < o->decided.count; i++) {
		const struct record *r = (const struct record *)at;

		at += r->size_bytes;
		perform(w, r);
		if (crash_here(w, CRASH_WHILE_PERFORMING))
			return;
	}
}

static void send_acks(struct world *w)
{
	struct overseer *o = w->overseer;

	if (!o->greeted)
		return;
	node_ack(w, o->link, policy_source_seq(o->policy, o->agent_id));
	for (uint32_t rank = 0; rank < w->rank_count; rank++)
		node_ack_ring(w, o->link, o->rows_attempt, rank,
		    policy_ring_seq(o->policy, o->rows_attempt, rank));
}

/* H7: what is said of an attempt that is over changes nothing; nor does what was said before. */
static void probe(struct world *w)
{
	struct overseer *o = w->overseer;
	bool again = world_chance(w, 50);
	const struct record *r = again ? ledger_duplicate(w)
				       : ledger_stale(w, policy_attempt(o->policy));
	uint64_t before = policy_digest(o->policy);
	struct record *copy;

	if (r == NULL || policy_deadline_ns(o->policy) <= w->now_ns)
		return;
	copy = world_copy(r, r->size_bytes);
	if (!again)
		copy->source_seq = 0;
	copy->seq = ledger_last_seq(w->ledger) + 1;
	policy_turn(o->policy, (const struct record *const[]){copy}, 1, w->now_ns, &o->decided);
	if (o->decided.count > 0 || policy_digest(o->policy) != before)
		world_fail(w, "H7: a record of kind %u %s changes the state", copy->kind,
		    again ? "that was seen before" : "of an attempt that is over");
	ledger_commit(w, &copy, 1, w->now_ns, &o->decided, o->policy);
	free(copy);
}

static void arm(struct world *w)
{
	struct overseer *o = w->overseer;
	uint64_t deadline = policy_deadline_ns(o->policy);

	if (o->count > 0)
		world_after(w, 20000, on_turn, o->generation, 0, NULL);
	else if (deadline != UINT64_MAX)
		world_after(w, deadline > w->now_ns ? deadline - w->now_ns : 0, on_turn,
		    o->generation, 0, NULL);
}

/* A turn for which there was no input has to decide something or leave the state alone. */
static void check_empty(struct world *w, uint64_t before, bool due)
{
	struct overseer *o = w->overseer;

	if (policy_digest(o->policy) != before)
		world_fail(w, "H4: a turn without inputs and decisions changes the state");
	if (due)
		world_fail(w, "a deadline passes in state %s and nothing is decided",
		    policy_run_state_name(policy_run_state(o->policy)));
}

static void on_turn(struct world *w, uint64_t generation, uint64_t unused, void *data)
{
	struct overseer *o = w->overseer;
	uint64_t before;
	bool due;

	(void)unused;
	(void)data;
	if (!o->alive || generation != o->generation || o->committing)
		return;
	due = policy_deadline_ns(o->policy) <= w->now_ns;
	if (o->count == 0 && !due && world_chance(w, 90))
		return;
	before = policy_digest(o->policy);
	o->turn_count = o->count;
	for (size_t i = 0; i < o->count; i++)
		o->inputs[i]->seq = ledger_last_seq(w->ledger) + 1 + i;
	policy_turn(
	    o->policy, (const struct record *const *)o->inputs, o->count, w->now_ns, &o->decided);
	if (o->turn_count == 0 && o->decided.count == 0) {
		check_empty(w, before, due);
		return;
	}
	if (crash_here(w, CRASH_AFTER_DECIDE))
		return;
	o->turn_ns = w->now_ns;
	o->committing = true;
	if (w->broken == BREAK_EARLY_PERFORM)
		perform_all(w);
	if (w->broken == BREAK_EARLY_ACK)
		send_acks(w);
	world_after(w, world_between(w, 300000, 700000), on_commit, o->generation, 0, NULL);
}

static void on_commit(struct world *w, uint64_t generation, uint64_t unused, void *data)
{
	struct overseer *o = w->overseer;

	(void)unused;
	(void)data;
	if (!o->alive || generation != o->generation)
		return;
	o->committing = false;
	if (w->broken != BREAK_UNJOURNALED || o->decided.count > 0)
		ledger_commit(w, o->inputs, o->turn_count, o->turn_ns, &o->decided, o->policy);
	for (size_t i = 0; i < o->turn_count; i++)
		free(o->inputs[i]);
	o->count -= o->turn_count;
	memmove(o->inputs, o->inputs + o->turn_count, o->count * sizeof(o->inputs[0]));
	if (w->failed || crash_here(w, CRASH_AFTER_COMMIT))
		return;
	if (w->broken != BREAK_EARLY_PERFORM)
		perform_all(w);
	if (!o->alive || crash_here(w, CRASH_BEFORE_ACK))
		return;
	send_acks(w);
	if (world_chance(w, 5))
		probe(w);
	arm(w);
}
