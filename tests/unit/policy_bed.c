/* See policy_bed.h. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/policy_bed.h"

void bed_init(struct bed *b, uint32_t rank_count)
{
	memset(b, 0, sizeof(*b));
	b->rank_count = rank_count;
	policy_config_default(&b->config);
	b->p = policy_new(rank_count);
	b->fold = policy_new(rank_count);
	assert_non_null(b->p);
	assert_non_null(b->fold);
}

static void drop_inputs(struct bed *b)
{
	for (size_t i = 0; i < b->count; i++)
		free(b->inputs[i]);
	b->count = 0;
}

void bed_fini(struct bed *b)
{
	drop_inputs(b);
	policy_free(b->p);
	policy_free(b->fold);
}

void bed_turn(struct bed *b, uint64_t delay_ns)
{
	static struct decisions again;
	uint64_t before = policy_digest(b->p);

	b->now_ns += delay_ns;
	for (size_t i = 0; i < b->count; i++)
		b->inputs[i]->seq = ++b->seq;
	policy_turn(b->p, (const struct record *const *)b->inputs, b->count, b->now_ns, &b->out);
	if (b->count == 0 && b->out.count == 0) {
		assert_int_equal(policy_digest(b->p), before);
		return;
	}
	b->seq += b->out.count + 1;
	policy_turn(b->fold, (const struct record *const *)b->inputs, b->count, b->now_ns, &again);
	assert_int_equal(again.count, b->out.count);
	assert_int_equal(again.size_bytes, b->out.size_bytes);
	assert_memory_equal(again.bytes, b->out.bytes, again.size_bytes);
	assert_int_equal(policy_digest(b->fold), policy_digest(b->p));
	/* A deadline that has passed was dealt with. */
	assert_true(b->count > 0 || policy_deadline_ns(b->p) > b->now_ns || b->out.count > 0);
	drop_inputs(b);
}

bool bed_wait(struct bed *b, uint64_t within_ns)
{
	uint64_t deadline = policy_deadline_ns(b->p);

	if (deadline > b->now_ns + within_ns)
		return false;
	bed_turn(b, deadline > b->now_ns ? deadline - b->now_ns : 0);
	return true;
}

const void *bed_decision(const struct bed *b, uint16_t kind, uint32_t index)
{
	const uint8_t *at = b->out.bytes;

	for (uint32_t i = 0; i < b->out.count; i++) {
		const struct record *r = (const struct record *)(const void *)at;

		if (r->kind == kind && index-- == 0)
			return r;
		at += r->size_bytes;
	}
	return NULL;
}

uint32_t bed_decisions(const struct bed *b, uint16_t kind)
{
	uint32_t count = 0;

	while (bed_decision(b, kind, count) != NULL)
		count++;
	return count;
}

const struct decision_fault *bed_fault(const struct bed *b)
{
	const struct decision_fault *fault = bed_decision(b, DECISION_FAULT, 0);

	assert_non_null(fault);
	assert_int_equal(bed_decisions(b, DECISION_FAULT), 1);
	return fault;
}

void *bed_post(struct bed *b, uint16_t kind, size_t size)
{
	struct record *r = calloc(1, RECORD_ROUND(size));

	assert_non_null(r);
	assert_true(b->count < BED_INPUTS);
	r->kind = kind;
	r->version = 1;
	r->size_bytes = (uint32_t)RECORD_ROUND(size);
	r->time_ns = b->now_ns;
	if (kind != RECORD_RUN && kind != RECORD_SESSION && kind != RECORD_AGENT &&
	    kind != RECORD_CONTROL && kind != RECORD_STEP && kind != RECORD_PHASE &&
	    kind != RECORD_SAVED)
		r->source_seq = ++b->source_seq;
	b->inputs[b->count++] = r;
	return r;
}

void bed_session(struct bed *b)
{
	struct record_session *session = bed_post(b, RECORD_SESSION, sizeof(*session));

	session->config = b->config;
}

void bed_hello(struct bed *b, uint8_t agent, uint32_t held)
{
	struct record_agent *hello;

	if (b->seq == 0 && b->count == 0) {
		struct record_run *run = bed_post(b, RECORD_RUN, sizeof(*run));

		run->rank_count = b->rank_count;
		run->config = b->config;
		bed_session(b);
	}
	hello = bed_post(b, RECORD_AGENT, sizeof(*hello));
	if (policy_source_seq(b->p, (uint8_t[16]){agent}) == 0)
		b->source_seq = 0;
	hello->agent_id[0] = agent;
	hello->attempt = held;
}

#define ABOUT(type, kind, number)                                                                  \
	struct type *r = bed_post(b, kind, sizeof(*r));                                            \
	r->rank = number;                                                                          \
	r->attempt = policy_attempt(b->p)

void bed_started(struct bed *b, uint32_t rank)
{
	ABOUT(record_started, RECORD_STARTED, rank);
}

void bed_connected(struct bed *b, uint32_t rank)
{
	ABOUT(record_connected, RECORD_CONNECTED, rank);
}

void bed_phase(struct bed *b, uint32_t rank, enum phase from, enum phase to, uint64_t duration_ns)
{
	ABOUT(record_phase, RECORD_PHASE, rank);
	r->ring_seq = ++b->ring_seq[rank];
	r->previous = from;
	r->phase = to;
	r->duration_ns = duration_ns;
}

static struct record_step *post_row(struct bed *b, uint64_t step, uint64_t duration_ns, uint32_t missing)
{
	struct record_step *row = bed_post(
	    b, RECORD_STEP, sizeof(*row) + b->rank_count * sizeof(struct rank_cell));
	struct rank_cell *cells = (struct rank_cell *)(row + 1);

	row->attempt = policy_attempt(b->p);
	row->step = step;
	row->duration_ns = duration_ns;
	row->rank_count = b->rank_count;
	for (uint32_t rank = 0; rank < b->rank_count; rank++) {
		if (rank == missing)
			continue;
		row->present_count++;
		cells[rank].flags = CELL_PRESENT;
		cells[rank].ring_seq = ++b->ring_seq[rank];
	}
	return row;
}

void bed_row(struct bed *b, uint64_t step, uint64_t duration_ns)
{
	(void)post_row(b, step, duration_ns, RANK_NONE);
}

void bed_row_nan(struct bed *b, uint64_t step, uint32_t rank)
{
	struct record_step *row = post_row(b, step, 100 * BED_MS, RANK_NONE);

	row->flags = STEP_NOT_FINITE;
	((struct rank_cell *)(row + 1))[rank].flags |= CELL_NOT_FINITE;
}

void bed_row_partial(struct bed *b, uint64_t step, uint32_t missing)
{
	post_row(b, step, 100 * BED_MS, missing)->flags = STEP_PARTIAL;
}

void bed_death(struct bed *b, uint32_t rank, bool known, int32_t wait_status, uint64_t time_ns)
{
	ABOUT(record_death, RECORD_DEATH, rank);
	r->head.time_ns = time_ns;
	r->status_known = known;
	r->wait_status = wait_status;
}

void bed_death_oom(struct bed *b, uint32_t rank)
{
	ABOUT(record_death, RECORD_DEATH, rank);
	r->status_known = 1;
	r->wait_status = 9;
	r->oom_killed = OOM_CERTAIN;
}

void bed_exit(struct bed *b, uint32_t rank, int32_t wait_status, bool oom)
{
	ABOUT(record_exit, RECORD_EXIT, rank);
	r->wait_status = wait_status;
	r->oom_killed = oom;
}

void bed_clear(struct bed *b, uint32_t stuck)
{
	struct record_clear *r = bed_post(b, RECORD_CLEAR, sizeof(*r));

	r->attempt = policy_attempt(b->p);
	r->stuck = stuck;
}

void bed_memory(struct bed *b, uint32_t rank, uint64_t newest, uint64_t older, uint64_t bad)
{
	ABOUT(record_memory, RECORD_MEMORY, rank);
	r->attempt++;
	r->step[0] = newest;
	r->step[1] = older;
	r->step[2] = STEP_NONE;
	r->bad_step = bad;
}

void bed_verified(struct bed *b, uint64_t step, enum verify_result result)
{
	struct record_verified *r = bed_post(b, RECORD_VERIFIED, sizeof(*r));

	r->attempt = policy_attempt(b->p) + 1;
	r->step = step;
	r->result = result;
}

void bed_checkpoint(struct bed *b, uint64_t step, uint32_t finite)
{
	ABOUT(record_saved, RECORD_SAVED, 0);
	const struct decision_digest *asked;
	struct record_rung *rung;

	r->ring_seq = ++b->ring_seq[0];
	r->step = step;
	r->shard_count = 1;
	bed_turn(b, BED_MS);
	asked = bed_decision(b, DECISION_DIGEST, 0);
	assert_non_null(asked);
	assert_int_equal(asked->step, step);
	rung = bed_post(b, RECORD_RUNG, sizeof(*rung));
	rung->attempt = policy_attempt(b->p);
	rung->saved_seq = asked->saved_seq;
	rung->step = step;
	rung->shard_count = 1;
	rung->finite = finite;
	bed_turn(b, BED_MS);
}

struct record_kept *bed_kept(struct bed *b, uint64_t ordinal, uint64_t step, uint32_t flags)
{
	struct record_kept *kept = bed_post(b, RECORD_KEPT, sizeof(*kept));

	kept->attempt = policy_attempt(b->p);
	kept->flags = flags;
	kept->step = step;
	kept->ordinal = ordinal;
	kept->size_bytes = 1000;
	memcpy(kept->digest, &ordinal, sizeof(ordinal));
	kept->finite = 2;
	return kept;
}

void bed_sample(struct bed *b, uint32_t rank, uint64_t cpu_ns, bool waiting, uint64_t last_step)
{
	ABOUT(record_sample, RECORD_SAMPLE, rank);
	r->cpu_ns = cpu_ns;
	r->waiting = waiting;
	r->last_step = last_step;
	r->phase = PHASE_STEP;
	r->phase_ns = 3600 * BED_S;
	r->flags = SAMPLE_CHANNEL;
	r->state = 'S';
}

static void live(struct bed *b, uint64_t time_ns, const struct bed_pace at[])
{
	for (uint32_t rank = 0; rank < b->rank_count; rank++) {
		b->cpu_ns[rank] += time_ns / 1000 * at[rank].cpu_share;
		b->output_bytes[rank] += time_ns * at[rank].output / BED_S;
	}
}

static void answer(struct bed *b)
{
	for (uint32_t rank = 0; rank < b->rank_count; rank++) {
		ABOUT(record_sample, RECORD_SAMPLE, rank);
		r->cpu_ns = b->cpu_ns[rank];
		r->output_bytes = b->output_bytes[rank];
		r->last_step = STEP_NONE;
		r->state = 'S';
	}
}

const struct decision_fault *bed_live(struct bed *b, uint64_t duration_ns, const struct bed_pace at[])
{
	uint64_t end_ns = b->now_ns + duration_ns;

	while (b->now_ns < end_ns) {
		uint64_t next_ns = policy_deadline_ns(b->p);
		bool asked = bed_decisions(b, DECISION_SAMPLE) > 0;

		if (asked) {
			answer(b);
			next_ns = b->now_ns + BED_MS;
		}
		if (next_ns < b->now_ns)
			next_ns = b->now_ns;
		if (next_ns > end_ns && !asked) {
			live(b, end_ns - b->now_ns, at);
			b->now_ns = end_ns;
			break;
		}
		live(b, next_ns - b->now_ns, at);
		bed_turn(b, next_ns - b->now_ns);
		if (bed_decisions(b, DECISION_FAULT) > 0)
			return bed_fault(b);
	}
	return NULL;
}

void bed_stopped(struct bed *b, uint32_t rank, int32_t signal)
{
	ABOUT(record_stopped, RECORD_STOPPED, rank);
	r->signal = signal;
}

void bed_control(struct bed *b, enum control_verb verb)
{
	struct record_control *r = bed_post(b, RECORD_CONTROL, sizeof(*r));

	r->verb = verb;
	r->rank = RANK_NONE;
}

static void begin_ranks(struct bed *b)
{
	assert_int_equal(policy_run_state(b->p), RUN_STARTING);
	memset(b->ring_seq, 0, sizeof(b->ring_seq));
	for (uint32_t rank = 0; rank < b->rank_count; rank++)
		bed_started(b, rank);
	bed_turn(b, BED_MS);
	assert_int_equal(policy_run_state(b->p), RUN_RUNNING);
	for (uint32_t rank = 0; rank < b->rank_count && !b->unaided; rank++)
		bed_connected(b, rank);
	bed_turn(b, BED_MS);
}

void bed_up(struct bed *b)
{
	bed_hello(b, 1, 0);
	bed_turn(b, BED_MS);
	assert_int_equal(policy_run_state(b->p), RUN_CLEARING);
	bed_clear(b, 0);
	bed_turn(b, BED_MS);
	begin_ranks(b);
}

void bed_rows(struct bed *b, uint64_t from, uint64_t to)
{
	for (uint64_t step = from; step <= to; step++) {
		bed_row(b, step, 100 * BED_MS);
		bed_turn(b, 100 * BED_MS);
	}
}

void bed_restart(struct bed *b, uint64_t newest)
{
	assert_int_equal(policy_run_state(b->p), RUN_CLEARING);
	bed_clear(b, 0);
	bed_turn(b, BED_MS);
	if (policy_run_state(b->p) == RUN_BACKOFF)
		assert_true(bed_wait(b, 60 * BED_S));
	if (policy_run_state(b->p) == RUN_CHOOSING) {
		for (uint32_t rank = 0; rank < b->rank_count; rank++)
			bed_memory(b, rank, newest, STEP_NONE, STEP_NONE);
		bed_turn(b, BED_MS);
	}
	begin_ranks(b);
}
