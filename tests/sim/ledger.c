/* See ledger.h. */
#include <stdlib.h>
#include <string.h>

#include "tests/sim/ledger.h"
#include "tests/sim/mishap.h"

#define INCIDENTS_MAX 4096u
#define STEPS_MAX 256u

struct ledger {
	struct record **records; /* by seq - 1 */
	size_t count, capacity;
	struct policy *shadow;
	struct decisions scratch;
	uint64_t turn;
	uint8_t agent_id[16];
	uint64_t source_seq;
	uint64_t agent_since; /* seq of its first hello */
	uint64_t ring_seq[SIM_RANKS];
	uint32_t ring_attempt;
	uint32_t session, incidents, attempts, failures;
	uint32_t end_reason;
	int32_t exit_code;
	uint64_t newest_step;    /* complete and finite */
	uint32_t newest_attempt; /* that made it */
	uint8_t complete[STEPS_MAX];
	uint8_t open[INCIDENTS_MAX];
	/* what the start to come may load */
	uint32_t proof_attempt;
	uint64_t memory[SIM_RANKS][MEMORY_SLOTS];
	bool answered[SIM_RANKS];
	uint64_t verified_step;
	bool cleared;           /* the last attempt is proven gone */
	uint32_t evidence_rank; /* stalled, its stacks were not asked for yet */
};

struct ledger *ledger_new(struct world *w)
{
	struct ledger *l = world_sure(calloc(1, sizeof(*l)));

	l->shadow = world_sure(policy_new(w->rank_count));
	l->evidence_rank = RANK_NONE;
	l->verified_step = STEP_NONE;
	return l;
}

void ledger_free(struct ledger *l)
{
	for (size_t i = 0; i < l->count; i++)
		free(l->records[i]);
	free(l->records);
	policy_free(l->shadow);
	free(l);
}

uint64_t ledger_last_seq(const struct ledger *l)
{
	return l->count;
}

const struct record *ledger_get(const struct ledger *l, uint64_t seq)
{
	return seq >= 1 && seq <= l->count ? l->records[seq - 1] : NULL;
}

uint64_t ledger_source_seq(const struct ledger *l, const uint8_t agent_id[16])
{
	return memcmp(l->agent_id, agent_id, 16) == 0 ? l->source_seq : 0;
}

uint64_t ledger_ring_seq(const struct ledger *l, uint32_t attempt, uint32_t rank)
{
	return attempt == l->ring_attempt ? l->ring_seq[rank] : 0;
}

bool ledger_fresh(const struct ledger *l)
{
	return l->count == 0;
}

uint32_t ledger_session(const struct ledger *l)
{
	return l->session;
}

uint32_t ledger_incidents(const struct ledger *l)
{
	return l->incidents;
}

uint32_t ledger_attempts(const struct ledger *l)
{
	return l->attempts;
}

uint32_t ledger_end_reason(const struct ledger *l)
{
	return l->end_reason;
}

int32_t ledger_exit_code(const struct ledger *l)
{
	return l->exit_code;
}

uint32_t ledger_failures(const struct ledger *l)
{
	return l->failures;
}

bool ledger_stepped(const struct ledger *l)
{
	return l->newest_step > 0;
}

uint32_t ledger_newest_attempt(const struct ledger *l)
{
	return l->newest_attempt;
}

uint32_t ledger_unrecovered(const struct ledger *l)
{
	for (uint32_t i = 1; i <= l->incidents && i < INCIDENTS_MAX; i++)
		if (l->open[i] != 0)
			return i;
	return 0;
}

uint64_t ledger_missing_step(const struct ledger *l)
{
	uint64_t step = 1;

	while (step < STEPS_MAX && l->complete[step] != 0)
		step++;
	return step;
}

/* --- the watch ---------------------------------------------------------------------------------------- */

/* H3: a rank's reports stand in their order, without a hole. */
static void watch_ring(struct world *w, uint32_t attempt, uint32_t rank, uint64_t first, uint64_t last)
{
	struct ledger *l = w->ledger;

	if (attempt != l->ring_attempt || rank >= w->rank_count)
		return;
	if (last <= l->ring_seq[rank])
		return; /* again what stands there already: the policy has to see that, too */
	if (first != l->ring_seq[rank] + 1)
		world_fail(w, "H3: rank %u attempt %u: ring_seq %llu follows %llu", rank, attempt,
		    (unsigned long long)first, (unsigned long long)l->ring_seq[rank]);
	l->ring_seq[rank] = last;
}

static void watch_row(struct world *w, const struct record_step *row)
{
	const struct rank_cell *cells = (const struct rank_cell *)(row + 1);
	struct ledger *l = w->ledger;

	for (uint32_t rank = 0; rank < row->rank_count; rank++)
		if (cells[rank].flags & CELL_PRESENT)
			watch_ring(w, row->attempt, rank, cells[rank].ring_seq, cells[rank].ring_seq);
	if (row->present_count != w->rank_count || (row->flags & STEP_PARTIAL) != 0 ||
	    row->step >= STEPS_MAX || row->attempt != l->attempts)
		return;
	l->complete[row->step] = 1;
	if ((row->flags & STEP_NOT_FINITE) == 0 && row->step > l->newest_step) {
		l->newest_step = row->step;
		l->newest_attempt = row->attempt;
		l->failures = 0;
	}
}

static void watch_input(struct world *w, const struct record *r)
{
	struct ledger *l = w->ledger;

	if (r->source_seq == l->source_seq + 1)
		l->source_seq++;
	switch (r->kind) {
	case RECORD_SESSION:
		l->session++;
		break;
	case RECORD_AGENT: {
		const struct record_agent *hello = (const struct record_agent *)r;

		if (memcmp(l->agent_id, hello->agent_id, 16) != 0) {
			l->source_seq = 0;
			l->agent_since = r->seq;
		}
		memcpy(l->agent_id, hello->agent_id, 16);
		if (l->end_reason != END_DONE)
			l->end_reason = 0;
		break;
	}
	case RECORD_STEP:
		watch_row(w, (const struct record_step *)r);
		break;
	case RECORD_PHASE: {
		const struct record_phase *p = (const struct record_phase *)r;

		watch_ring(w, p->attempt, p->rank, p->ring_seq, p->ring_seq);
		break;
	}
	case RECORD_SAVED: {
		const struct record_saved *s = (const struct record_saved *)r;

		watch_ring(w, s->attempt, s->rank, s->ring_seq, s->ring_seq);
		break;
	}
	case RECORD_GAP: {
		const struct record_gap *g = (const struct record_gap *)r;

		watch_ring(w, g->attempt, g->rank, g->first_ring_seq, g->first_ring_seq + g->count - 1);
		break;
	}
	case RECORD_CLEAR:
		if (((const struct record_clear *)r)->attempt == l->attempts)
			l->cleared = true;
		break;
	case RECORD_MEMORY: {
		const struct record_memory *m = (const struct record_memory *)r;

		if (m->attempt != l->attempts + 1 || m->rank >= w->rank_count)
			break;
		l->answered[m->rank] = true;
		memcpy(l->memory[m->rank], m->step, sizeof(m->step));
		break;
	}
	case RECORD_VERIFIED: {
		const struct record_verified *v = (const struct record_verified *)r;

		if (v->attempt == l->attempts + 1 && v->result == VERIFY_OK)
			l->verified_step = v->step;
		break;
	}
	default:
		break;
	}
}

/* H6 and H8: the attempt before is gone, and what is loaded was verified for this very start. */
static void watch_start(struct world *w, const struct decision_start *start)
{
	struct ledger *l = w->ledger;

	if (start->attempt == l->attempts)
		return; /* said again */
	if (start->attempt != l->attempts + 1)
		world_fail(w, "H6: attempt %u follows %u", start->attempt, l->attempts);
	if (!l->cleared)
		world_fail(w, "H6: attempt %u starts before the one before is gone", start->attempt);
	if (start->source == START_FILE && l->verified_step != start->step)
		world_fail(w, "H8: attempt %u loads rung %llu, which was not verified",
		    start->attempt, (unsigned long long)start->step);
	for (uint32_t rank = 0; start->source == START_MEMORY && rank < w->rank_count; rank++) {
		bool held = false;

		for (uint32_t i = 0; i < MEMORY_SLOTS; i++)
			held = held || l->memory[rank][i] == start->step;
		if (!l->answered[rank] || !held)
			world_fail(w, "H8: attempt %u loads memory of step %llu, which rank %u lacks",
			    start->attempt, (unsigned long long)start->step, rank);
	}
	l->attempts = start->attempt;
	l->cleared = false;
	l->verified_step = STEP_NONE;
	memset(l->answered, 0, sizeof(l->answered));
	memset(l->ring_seq, 0, sizeof(l->ring_seq));
	l->ring_attempt = start->attempt;
}

static void watch_fault(struct world *w, const struct decision_fault *fault)
{
	struct ledger *l = w->ledger;

	world_say(w, "fault %u: kind %u attempt %u rank %u detail %d repeat %u", fault->incident,
	    fault->fault, fault->attempt, fault->rank, fault->detail, fault->repeat);
	if (fault->incident != l->incidents + 1 || fault->incident >= INCIDENTS_MAX)
		world_fail(w, "incident %u follows %u", fault->incident, l->incidents);
	l->incidents++;
	l->open[l->incidents % INCIDENTS_MAX] = 1;
	if (fault->fault == FAULT_STALL_IDLE || fault->fault == FAULT_STALL_SPINNING)
		l->evidence_rank = fault->rank;
	if (fault->fault != FAULT_BAD_SNAPSHOT && fault->fault != FAULT_BAD_CHECKPOINT)
		l->failures++;
	mishap_on_fault(w, fault);
}

static void watch_decision(struct world *w, const struct record *r)
{
	struct ledger *l = w->ledger;

	switch (r->kind) {
	case DECISION_START:
		watch_start(w, (const struct decision_start *)r);
		break;
	case DECISION_FAULT:
		watch_fault(w, (const struct decision_fault *)r);
		break;
	case DECISION_RECOVERED:
		if (l->open[((const struct decision_recovered *)r)->incident % INCIDENTS_MAX] == 0)
			world_fail(w, "an incident recovers that is not open");
		l->open[((const struct decision_recovered *)r)->incident % INCIDENTS_MAX] = 0;
		break;
	case DECISION_CAPTURE:
		if (((const struct decision_capture *)r)->rank == l->evidence_rank &&
		    ((const struct decision_capture *)r)->evidence_kind == EVIDENCE_STACKS)
			l->evidence_rank = RANK_NONE;
		break;
	case DECISION_CLEAR:
		if (l->evidence_rank != RANK_NONE)
			world_fail(w, "H9: rank %u stalled and is ended without evidence",
			    l->evidence_rank);
		l->cleared = false;
		break;
	case DECISION_END:
		l->end_reason = ((const struct decision_end *)r)->reason;
		l->exit_code = ((const struct decision_end *)r)->exit_code;
		break;
	default:
		break;
	}
}

/* --- commits ------------------------------------------------------------------------------------------ */

static void append(struct ledger *l, struct record *r)
{
	if (l->count == l->capacity) {
		l->capacity = l->capacity == 0 ? 1024 : l->capacity * 2;
		l->records = world_sure(realloc(l->records, l->capacity * sizeof(*l->records)));
	}
	l->records[l->count++] = r;
	r->seq = l->count;
	r->turn = l->turn;
}

/* Whether both are the same decisions; the numbering aside. */
static bool same_decision(const struct record *a, const struct record *b)
{
	return a->kind == b->kind && a->size_bytes == b->size_bytes && a->time_ns == b->time_ns &&
	    memcmp(a + 1, b + 1, a->size_bytes - sizeof(*a)) == 0;
}

/* Fold the records [from, the RECORD_TURN behind them] into p. */
static size_t fold_turn(struct world *w, struct policy *p, size_t from)
{
	struct ledger *l = w->ledger;
	const struct record *inputs[8192];
	size_t count = 0, at = from, first_decision;
	const uint8_t *mine = l->scratch.bytes;
	const struct record_turn *end;

	while (!record_is_decision(l->records[at]) && l->records[at]->kind != RECORD_TURN)
		inputs[count++] = l->records[at++];
	first_decision = at;
	while (l->records[at]->kind != RECORD_TURN)
		at++;
	end = (const struct record_turn *)l->records[at];
	policy_turn(p, inputs, count, end->head.time_ns, &l->scratch);
	if (l->scratch.count != at - first_decision)
		world_fail(w, "H5: turn %llu: %u decisions come out of the fold, %zu were taken",
		    (unsigned long long)end->head.turn, l->scratch.count, at - first_decision);
	for (size_t i = first_decision; i < at && !w->failed; i++) {
		if (!same_decision((const struct record *)mine, l->records[i]))
			world_fail(w, "H5: turn %llu: decision %zu comes out otherwise",
			    (unsigned long long)end->head.turn, i - first_decision);
		mine += ((const struct record *)mine)->size_bytes;
	}
	if (policy_digest(p) != end->state_digest)
		world_fail(w, "H4: turn %llu: the fold's state differs from the live one",
		    (unsigned long long)end->head.turn);
	return at + 1;
}

void ledger_commit(struct world *w, struct record *const inputs[], size_t count, uint64_t now_ns,
    struct decisions *decided, const struct policy *live)
{
	struct ledger *l = w->ledger;
	struct record_turn *end = world_record(w, RECORD_TURN, sizeof(*end));
	size_t from = l->count;
	uint8_t *at = decided->bytes;

	l->turn++;
	w->turns++;
	for (size_t i = 0; i < count; i++)
		append(l, world_copy(inputs[i], inputs[i]->size_bytes));
	for (uint32_t i = 0; i < decided->count; i++) {
		struct record *r = (struct record *)at;
		struct record *copy = world_copy(r, r->size_bytes);

		append(l, copy);
		r->seq = copy->seq;
		r->turn = copy->turn;
		if (w->broken == BREAK_ALTERED && r->kind == DECISION_CLEAR)
			((struct decision_clear *)copy)->deadline_ns++;
		at += r->size_bytes;
	}
	end->head.time_ns = now_ns;
	end->input_count = (uint32_t)count;
	end->decision_count = decided->count;
	end->state_digest = policy_digest(live);
	append(l, &end->head);
	(void)fold_turn(w, l->shadow, from);
	for (size_t i = from; i < l->count - 1; i++) {
		if (record_is_decision(l->records[i]))
			watch_decision(w, l->records[i]);
		else
			watch_input(w, l->records[i]);
	}
}

struct policy *ledger_fold(struct world *w)
{
	struct policy *p = world_sure(policy_new(w->rank_count));

	for (size_t at = 0; at < w->ledger->count && !w->failed;)
		at = fold_turn(w, p, at);
	return p;
}

const struct record *ledger_stale(struct world *w, uint32_t attempt)
{
	const struct ledger *l = w->ledger;

	for (uint32_t tries = 0; tries < 32 && l->count > 0; tries++) {
		const struct record *r = l->records[world_random(w) % l->count];

		switch (r->kind) {
		case RECORD_STARTED:
		case RECORD_CONNECTED:
		case RECORD_CRASHING:
		case RECORD_STOPPED:
		case RECORD_DEATH:
		case RECORD_EXIT:
		case RECORD_PHASE:
		case RECORD_SAMPLE:
			if (((const struct record_started *)r)->attempt < attempt)
				return r;
			break;
		case RECORD_CLEAR:
			if (((const struct record_clear *)r)->attempt < attempt)
				return r;
			break;
		case RECORD_STEP:
			if (((const struct record_step *)r)->attempt < attempt)
				return r;
			break;
		case RECORD_MEMORY:
			if (((const struct record_memory *)r)->attempt <= attempt)
				return r;
			break;
		case RECORD_VERIFIED:
			if (((const struct record_verified *)r)->attempt <= attempt)
				return r;
			break;
		default:
			break;
		}
	}
	return NULL;
}

const struct record *ledger_duplicate(struct world *w)
{
	const struct ledger *l = w->ledger;

	for (uint32_t tries = 0; tries < 32 && l->count > l->agent_since; tries++) {
		const struct record
		    *r = l->records[l->agent_since + world_random(w) % (l->count - l->agent_since)];

		if (r->source_seq != 0 && r->source_seq <= l->source_seq)
			return r;
	}
	return NULL;
}
