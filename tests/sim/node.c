/* See node.h. */
#include <stdlib.h>
#include <string.h>

#include "tests/sim/cohort.h"
#include "tests/sim/ledger.h"
#include "tests/sim/mishap.h"
#include "tests/sim/node.h"
#include "tests/sim/overseer.h"
#include "tests/sim/shelf.h"

#define WIRE_NS 100000ull
#define MESSAGES_MAX 8192u

struct node {
	bool alive, welcomed, stuck;
	uint64_t generation; /* of the agent */
	uint64_t link;       /* of its connection to the supervisor of now; 0: none */
	uint64_t links;
	uint8_t agent_id[16];
	uint32_t held; /* attempt */
	uint64_t last_seq;
	struct record *messages[MESSAGES_MAX]; /* oldest first */
	size_t count, sent;
};

struct node *node_new(struct world *w)
{
	(void)w;
	return world_sure(calloc(1, sizeof(struct node)));
}

static void drop_messages(struct node *n, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(n->messages[i]);
	n->count -= count;
	memmove(n->messages, n->messages + count, n->count * sizeof(n->messages[0]));
	n->sent = n->sent > count ? n->sent - count : 0;
}

void node_free(struct node *n)
{
	drop_messages(n, n->count);
	free(n);
}

bool node_alive(const struct world *w)
{
	return w->node->alive;
}

void node_get_stuck(struct world *w)
{
	w->node->stuck = true;
}

/* --- the link ----------------------------------------------------------------------------------------- */

static void on_deliver(struct world *w, uint64_t link, uint64_t unused, void *data)
{
	(void)unused;
	overseer_record(w, link, data);
}

struct report {
	struct iteration it;
	uint32_t attempt, rank;
	char path[32];
};

static void on_deliver_report(struct world *w, uint64_t link, uint64_t unused, void *data)
{
	struct report *report = data;

	(void)unused;
	overseer_report(w, link, report->attempt, report->rank, &report->it,
	    report->it.kind == ITERATION_CHECKPOINT ? report->path : NULL);
	free(report);
}

/* Rings first: what a rank reported lies before the news of its end. */
void node_pump(struct world *w)
{
	struct node *n = w->node;

	if (!n->alive || !n->welcomed)
		return;
	for (uint32_t rank = 0; rank < w->rank_count; rank++) {
		struct report report = {.rank = rank};

		while (cohort_take_report(w, rank, &report.attempt, &report.it, report.path))
			world_after(w, WIRE_NS, on_deliver_report, n->link, 0,
			    world_copy(&report, sizeof(report)));
	}
	for (; n->sent < n->count; n->sent++)
		world_after(w, WIRE_NS, on_deliver, n->link, 0,
		    world_copy(n->messages[n->sent], n->messages[n->sent]->size_bytes));
}

void node_post(struct world *w, void *message)
{
	struct node *n = w->node;
	struct record *r = message;

	if (!n->alive || n->count == MESSAGES_MAX) {
		if (n->alive)
			world_fail(w, "more than %u messages wait", MESSAGES_MAX);
		free(r);
		return;
	}
	r->source_seq = ++n->last_seq;
	n->messages[n->count++] = r;
	node_pump(w);
}

static void on_overseer_begin(struct world *w, uint64_t generation, uint64_t unused, void *data)
{
	struct node *n = w->node;
	struct record_agent *hello;

	(void)unused;
	(void)data;
	if (!n->alive || generation != n->generation)
		return;
	n->link = ++n->links;
	overseer_begin(w, n->link);
	hello = world_record(
	    w, RECORD_AGENT, sizeof(*hello) + w->rank_count * sizeof(struct agent_rank));
	memcpy(hello->agent_id, n->agent_id, 16);
	hello->attempt = n->held;
	hello->rank_count = w->rank_count;
	hello->gone = n->held == 0;
	cohort_describe(w, n->held, (struct agent_rank *)(hello + 1));
	world_after(w, world_between(w, WIRE_NS, 3 * S), on_deliver, n->link, 0, hello);
}

void node_on_overseer_end(struct world *w)
{
	struct node *n = w->node;

	n->welcomed = false;
	n->link = 0;
	n->sent = 0;
	if (w->broken == BREAK_LOST_MESSAGE)
		drop_messages(n, n->count);
	if (n->alive)
		world_after(w, world_between(w, 20 * MS, 300 * MS), on_overseer_begin,
		    n->generation, 0, NULL);
}

static void on_welcome(struct world *w, uint64_t link, uint64_t source_seq, void *data)
{
	struct node *n = w->node;
	size_t acked = 0;

	(void)data;
	if (!n->alive || link != n->link)
		return;
	while (acked < n->count && n->messages[acked]->source_seq <= source_seq)
		acked++;
	drop_messages(n, acked);
	n->sent = 0;
	n->welcomed = true;
	cohort_rewind(w);
	node_pump(w);
}

void node_welcome(struct world *w, uint64_t link, uint64_t source_seq)
{
	world_after(w, WIRE_NS, on_welcome, link, source_seq, NULL);
}

static void on_ack(struct world *w, uint64_t link, uint64_t source_seq, void *data)
{
	struct node *n = w->node;
	size_t acked = 0;

	(void)data;
	if (!n->alive || link != n->link)
		return;
	if (source_seq > ledger_source_seq(w->ledger, n->agent_id))
		world_fail(w, "H2: message %llu is acknowledged and not in the journal",
		    (unsigned long long)source_seq);
	while (acked < n->sent && n->messages[acked]->source_seq <= source_seq)
		acked++;
	drop_messages(n, acked);
}

void node_ack(struct world *w, uint64_t link, uint64_t source_seq)
{
	world_after(w, WIRE_NS, on_ack, link, source_seq, NULL);
}

static void on_ack_ring(struct world *w, uint64_t link, uint64_t ring_seq, void *data)
{
	uint32_t *subject = data;

	if (w->node->alive && link == w->node->link) {
		if (ring_seq > ledger_ring_seq(w->ledger, subject[0], subject[1]))
			world_fail(w,
			    "H2: report %llu of rank %u is acknowledged and not in the journal",
			    (unsigned long long)ring_seq, subject[1]);
		cohort_ack(w, subject[0], subject[1], ring_seq);
	}
	free(subject);
}

void node_ack_ring(struct world *w, uint64_t link, uint32_t attempt, uint32_t rank, uint64_t ring_seq)
{
	uint32_t subject[2] = {attempt, rank};

	world_after(w, WIRE_NS, on_ack_ring, link, ring_seq, world_copy(subject, sizeof(subject)));
}

/* --- life --------------------------------------------------------------------------------------------- */

static void on_begin(struct world *w, uint64_t a, uint64_t b, void *data)
{
	(void)a;
	(void)b;
	(void)data;
	node_begin(w);
}

void node_begin(struct world *w)
{
	struct node *n = w->node;
	uint64_t id[2] = {world_random(w), world_random(w)};

	world_say(w, "agent begins");
	n->alive = true;
	n->generation++;
	n->held = 0;
	n->last_seq = 0;
	memcpy(n->agent_id, id, sizeof(id));
	world_after(w, MS, on_overseer_begin, n->generation, 0, NULL);
	shelf_begin(w);
}

static void vanish(struct world *w)
{
	struct node *n = w->node;

	n->alive = false;
	n->welcomed = false;
	n->link = 0;
	n->generation++;
	drop_messages(n, n->count);
	n->sent = 0;
	cohort_vanish(w);
	overseer_die(w);
}

void node_die(struct world *w)
{
	world_say(w, "agent dies");
	vanish(w);
	world_after(w, world_between(w, 100 * MS, 20 * S), on_begin, 0, 0, NULL);
}

/* --- commands ----------------------------------------------------------------------------------------- */

static void on_cleared(struct world *w, uint64_t generation, uint64_t attempt, void *data)
{
	struct record_clear *answer;

	(void)data;
	if (!w->node->alive || generation != w->node->generation)
		return;
	answer = world_record(w, RECORD_CLEAR, sizeof(*answer));
	answer->attempt = (uint32_t)attempt;
	answer->stuck = w->node->stuck;
	if (attempt >= w->node->held && !w->node->stuck)
		w->node->held = 0;
	node_post(w, answer);
}

static void on_kill_all(struct world *w, uint64_t generation, uint64_t attempt, void *data)
{
	uint64_t *deadline_ns = data;

	if (w->node->alive && generation == w->node->generation) {
		/* Said again for an attempt that another one followed already, it ends nothing. */
		if (attempt >= w->node->held)
			cohort_reap_all(w);
		world_after(w, w->node->stuck ? *deadline_ns : world_between(w, MS, 20 * MS),
		    on_cleared, generation, attempt, NULL);
	}
	free(deadline_ns);
}

static void do_capture(struct world *w, const struct decision_capture *d)
{
	struct record_evidence *answer = world_record(w, RECORD_EVIDENCE, sizeof(*answer));

	answer->rank = d->rank;
	answer->attempt = d->attempt;
	answer->incident = d->incident;
	answer->evidence_kind = d->evidence_kind;
	cohort_on_captured(w, d->attempt, d->rank);
	node_post(w, answer);
}

/* The file as it is, and as it was digested. */
static void do_verify(struct world *w, const struct decision_verify *d)
{
	struct record_verified *answer = world_record(w, RECORD_VERIFIED, sizeof(*answer));
	uint32_t found = 0;

	answer->attempt = d->attempt;
	answer->step = d->step;
	answer->result = VERIFY_OK;
	if (shelf_find(w, d->rung_first_seq) != NULL) {
		answer->result = shelf_verify(w, d->rung_first_seq);
		node_post(w, answer);
		return;
	}
	for (uint64_t seq = d->rung_first_seq; seq <= d->rung_last_seq; seq++) {
		const struct record_rung *rung = (const struct record_rung *)ledger_get(w->ledger, seq);
		uint8_t digest[16];

		if (rung == NULL || rung->head.kind != RECORD_RUNG || rung->step != d->step)
			continue;
		found++;
		if (!cohort_file_digest(w, rung->step, rung->rank, digest))
			answer->result = VERIFY_MISSING;
		else if (memcmp(digest, rung->digest, sizeof(digest)) != 0)
			answer->result = VERIFY_DIGEST;
	}
	if (found < d->shard_count)
		answer->result = VERIFY_MISSING;
	node_post(w, answer);
}

static void do_digest(struct world *w, const struct decision_digest *d)
{
	const struct record_saved *saved = (const struct record_saved *)ledger_get(
	    w->ledger, d->saved_seq);
	struct record_rung *answer;

	if (saved == NULL || saved->head.kind != RECORD_SAVED) {
		world_fail(w, "a digest of record %llu, which is no checkpoint",
		    (unsigned long long)d->saved_seq);
		return;
	}
	answer = world_record(w, RECORD_RUNG, sizeof(*answer) + 8);
	answer->rank = saved->rank;
	answer->attempt = saved->attempt;
	answer->saved_seq = d->saved_seq;
	answer->step = saved->step;
	answer->shard_count = saved->shard_count;
	answer->text_bytes = 2;
	memcpy(answer + 1, "/", 2);
	answer->finite = cohort_file_finite(w, saved->step, saved->rank);
	if (!cohort_file_digest(w, saved->step, saved->rank, answer->digest))
		answer->error = 2;
	node_post(w, answer);
}

static void on_work(struct world *w, uint64_t generation, uint64_t unused, void *data)
{
	const struct record *r = data;

	(void)unused;
	if (w->node->alive && generation == w->node->generation) {
		switch (r->kind) {
		case DECISION_SAMPLE:
			cohort_sample(w, ((const struct decision_sample *)r)->attempt);
			break;
		case DECISION_CAPTURE:
			do_capture(w, (const struct decision_capture *)r);
			break;
		case DECISION_SURVEY:
			cohort_survey(w, ((const struct decision_survey *)r)->attempt,
			    ((const struct decision_survey *)r)->before_step);
			break;
		case DECISION_VERIFY:
			do_verify(w, (const struct decision_verify *)r);
			break;
		case DECISION_DIGEST:
			do_digest(w, (const struct decision_digest *)r);
			break;
		default:
			break;
		}
	}
	free(data);
}

static void do_start(struct world *w, const struct decision_start *d)
{
	struct node *n = w->node;

	if (n->held == d->attempt)
		return; /* said again */
	if (cohort_alive_count(w) > 0)
		world_fail(w, "H6: attempt %u starts beside living processes", d->attempt);
	n->held = d->attempt;
	cohort_start(w, d);
}

/* Work takes time; a helper now and then does not come back. */
static void later(struct world *w, const struct record *r, uint64_t longest_ns)
{
	world_after(w, world_between(w, 5 * MS, longest_ns), on_work, w->node->generation, 0,
	    world_copy(r, r->size_bytes));
}

static void obey(struct world *w, const struct record *r)
{
	struct node *n = w->node;

	switch (r->kind) {
	case DECISION_START:
		do_start(w, (const struct decision_start *)r);
		break;
	case DECISION_KILL:
		cohort_signal(w, ((const struct decision_kill *)r)->attempt,
		    ((const struct decision_kill *)r)->rank,
		    ((const struct decision_kill *)r)->signal);
		break;
	case DECISION_CLEAR:
		world_after(w, world_between(w, MS, world_chance(w, 5) ? 5 * S : 50 * MS),
		    on_kill_all, n->generation, ((const struct decision_clear *)r)->attempt,
		    world_copy(&((const struct decision_clear *)r)->deadline_ns, sizeof(uint64_t)));
		break;
	case DECISION_CAPTURE:
		if (!world_chance(w, 10))
			later(w, r, 300 * MS);
		break;
	case DECISION_SAMPLE:
		later(w, r, 10 * MS);
		break;
	case DECISION_SURVEY:
		later(w, r, 200 * MS);
		break;
	case DECISION_VERIFY:
		later(w, r, 500 * MS);
		break;
	case DECISION_DIGEST:
		later(w, r, S);
		break;
	case DECISION_ASK:
		cohort_ask(w, ((const struct decision_ask *)r)->attempt,
		    ((const struct decision_ask *)r)->what);
		break;
	case DECISION_END:
		if (cohort_alive_count(w) > 0 && ((const struct decision_end *)r)->reason != END_STUCK)
			world_fail(w, "the run ends and leaves processes behind");
		if (mishap_goes_on(w, (const struct decision_end *)r)) {
			world_after(w, S, on_begin, 0, 0, NULL);
			vanish(w);
		} else {
			w->over = true;
		}
		break;
	default:
		break;
	}
}

static void on_command(struct world *w, uint64_t link, uint64_t unused, void *data)
{
	const struct record *r = data, *stored;

	(void)unused;
	if (w->node->alive && link == w->node->link) {
		stored = ledger_get(w->ledger, r->seq);
		if (stored == NULL || stored->kind != r->kind || stored->turn != r->turn)
			world_fail(
			    w, "H1: a decision of kind %u is performed and not committed", r->kind);
		else
			obey(w, r);
	}
	free(data);
}

void node_command(struct world *w, uint64_t link, const struct record *r)
{
	world_after(w, WIRE_NS, on_command, link, 0, world_copy(r, r->size_bytes));
}
