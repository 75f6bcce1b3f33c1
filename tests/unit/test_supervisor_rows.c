/*
 * Row assembly: what the ranks report reaches the journal once each, in order, or a gap stands there (H3), in
 * rows that wait for every rank that can still report.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "journal/check.h"
#include "supervisor/rows.h"
#include "tests/unit/samples.h"

#define RANKS_HERE 5u
#define SECOND_NS 1000000000ull

/* --- what came out -------------------------------------------------------------------------------------- */

struct outcome {
	struct record **records;
	size_t count, capacity;
	uint64_t last_seq[RANKS_HERE]; /* of each rank, in the records so far */
	char wrong[160];               /* the first breach of H3 */
};

static void see_seq(struct outcome *o, uint32_t rank, uint64_t first, uint64_t last)
{
	if (first != o->last_seq[rank] + 1 && o->wrong[0] == '\0')
		snprintf(o->wrong, sizeof(o->wrong), "rank %u: %llu comes after %llu", rank,
		    (unsigned long long)first, (unsigned long long)o->last_seq[rank]);
	o->last_seq[rank] = last;
}

static const struct rank_cell *cell_of(const struct record *r, uint32_t rank)
{
	const struct record_step *row = (const struct record_step *)r;

	return (const struct rank_cell *)(row + 1) + rank;
}

static void see(struct outcome *o, const struct record *r)
{
	if (r->kind == RECORD_STEP) {
		uint32_t rank_count = ((const struct record_step *)r)->rank_count;

		for (uint32_t rank = 0; rank < rank_count; rank++)
			if (cell_of(r, rank)->flags & CELL_PRESENT)
				see_seq(o, rank, cell_of(r, rank)->ring_seq,
				    cell_of(r, rank)->ring_seq);
	} else if (r->kind == RECORD_PHASE) {
		const struct record_phase *phase = (const struct record_phase *)r;

		see_seq(o, phase->rank, phase->ring_seq, phase->ring_seq);
	} else if (r->kind == RECORD_SAVED) {
		const struct record_saved *saved = (const struct record_saved *)r;

		see_seq(o, saved->rank, saved->ring_seq, saved->ring_seq);
	} else {
		const struct record_gap *gap = (const struct record_gap *)r;

		assert_int_equal(r->kind, RECORD_GAP);
		see_seq(o, gap->rank, gap->first_ring_seq, gap->first_ring_seq + gap->count - 1);
	}
}

static void on_emit(void *context, struct record *r)
{
	struct outcome *o = context;
	struct cause why;

	assert_int_equal(check_record(r, r->size_bytes, &why), STATUS_OK);
	if (o->count == o->capacity) {
		o->capacity = o->capacity == 0 ? 64 : o->capacity * 2;
		o->records = realloc(o->records, o->capacity * sizeof(*o->records));
		assert_non_null(o->records);
	}
	o->records[o->count++] = r;
	see(o, r);
}

static void outcome_clear(struct outcome *o)
{
	for (size_t i = 0; i < o->count; i++)
		free(o->records[i]);
	free(o->records);
	memset(o, 0, sizeof(*o));
}

static const struct record_step *row_at(const struct outcome *o, size_t index)
{
	assert_true(index < o->count);
	assert_int_equal(o->records[index]->kind, RECORD_STEP);
	return (const struct record_step *)o->records[index];
}

/* --- what goes in --------------------------------------------------------------------------------------- */

static struct iteration report(uint32_t kind, uint64_t ring_seq, uint64_t step)
{
	return (struct iteration){
	    .kind = kind, .ring_seq = ring_seq, .step = step, .fields = 1, .loss = 0.5};
}

static void add_at(struct rows *rows, uint32_t rank, uint64_t ring_seq, uint64_t step, uint64_t time_ns)
{
	struct iteration it = report(ITERATION_STEP, ring_seq, step);

	assert_int_equal(rows_add(rows, 1, rank, &it, time_ns, NULL), STATUS_OK);
}

static void add(struct rows *rows, uint32_t rank, uint64_t ring_seq, uint64_t step)
{
	add_at(rows, rank, ring_seq, step, SECOND_NS + step);
}

static struct rows *start(struct outcome *o, uint32_t rank_count, uint32_t connected)
{
	static const uint64_t none[RANKS_HERE];
	struct rows *rows = rows_new(rank_count, on_emit, o);

	assert_non_null(rows);
	memset(o, 0, sizeof(*o));
	rows_start(rows, 1, none, STEP_NONE);
	for (uint32_t rank = 0; rank < connected; rank++)
		rows_expect(rows, 1, rank);
	return rows;
}

static void finish(struct rows *rows, struct outcome *o)
{
	rows_free(rows);
	if (o->wrong[0] != '\0')
		fail_msg("%s", o->wrong);
	outcome_clear(o);
}

/* --- tests ---------------------------------------------------------------------------------------------- */

static void complete_rows(void **state)
{
	struct outcome o;
	struct rows *rows = start(&o, 3, 3);

	(void)state;
	for (uint64_t step = 0; step < 100; step++) {
		add(rows, 2, step + 1, step);
		add(rows, 0, step + 1, step);
		assert_int_equal(o.count, step);
		add(rows, 1, step + 1, step);
		assert_int_equal(o.count, step + 1);
		assert_int_equal(row_at(&o, step)->step, step);
		assert_int_equal(row_at(&o, step)->present_count, 3);
		assert_int_equal(row_at(&o, step)->flags, 0);
		assert_int_equal(row_at(&o, step)->attempt, 1);
	}
	finish(rows, &o);
}

static void values_are_the_lowest_ranks(void **state)
{
	struct outcome o;
	struct rows *rows = start(&o, 3, 3);
	struct iteration it = report(ITERATION_STEP, 1, 7);

	(void)state;
	it.fields = FIELD_LOSS | FIELD_DIGEST | FIELD_COMPUTE | FIELD_TOKENS;
	for (uint32_t rank = 3; rank-- > 0;) {
		it.loss = rank + 0.25;
		it.digest = 100 + rank;
		it.tokens = 1000 + rank;
		it.duration_ns = 5000000;
		it.compute_ns = rank == 1 ? 4000000 : 1000000;
		assert_int_equal(rows_add(rows, 1, rank, &it, 50 + rank, NULL), STATUS_OK);
	}
	const struct record_step *row = row_at(&o, 0);

	assert_true(row->loss == 0.25);
	assert_int_equal(row->digest, 100);
	assert_int_equal(row->tokens, 1000);
	assert_int_equal(row->slowest_rank, 1); /* by its own work; all take as long as the slowest */
	assert_int_equal(row->duration_ns, 5000000);
	assert_int_equal(row->head.time_ns, 52);
	assert_int_equal(cell_of(&row->head, 2)->digest, 102);
	assert_int_equal(cell_of(&row->head, 1)->compute_us, 4000);
	finish(rows, &o);
}

static void saturating_durations(void **state)
{
	static const struct {
		uint64_t ns;
		uint32_t us;
	} cases[] = {{0, 0}, {499, 0}, {500, 1}, {1500, 2}, {UINT32_MAX * 1000ull, UINT32_MAX},
	    {UINT32_MAX * 1000ull + 500, UINT32_MAX}, {UINT64_MAX - 100, UINT32_MAX},
	    {UINT64_MAX, UINT32_MAX}};
	struct outcome o;
	struct rows *rows = start(&o, 1, 1);

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct iteration it = report(ITERATION_STEP, i + 1, i);

		it.duration_ns = cases[i].ns;
		assert_int_equal(rows_add(rows, 1, 0, &it, 1, NULL), STATUS_OK);
		assert_int_equal(cell_of(o.records[i], 0)->duration_us, cases[i].us);
	}
	finish(rows, &o);
}

static void a_rank_ahead(void **state)
{
	struct outcome o;
	struct rows *rows = start(&o, 2, 2);

	(void)state;
	for (uint64_t step = 0; step < 50; step++)
		add(rows, 0, step + 1, step);
	assert_int_equal(o.count, 0);
	for (uint64_t step = 0; step < 50; step++) {
		add(rows, 1, step + 1, step);
		assert_int_equal(o.count, step + 1);
		assert_int_equal(row_at(&o, step)->present_count, 2);
	}
	finish(rows, &o);
}

/* A hole of one rank does not tear rows that the others can still complete. */
static void a_gap(void **state)
{
	struct outcome o;
	struct rows *rows = start(&o, 2, 2);

	(void)state;
	for (uint64_t step = 0; step < 10; step++)
		add(rows, 0, step + 1, step);
	add(rows, 0, 16, 15); /* 11 to 15 are lost */
	add(rows, 0, 17, 16);
	for (uint64_t step = 0; step < 17; step++)
		add(rows, 1, step + 1, step);
	assert_int_equal(o.count, 18); /* 17 rows and the gap */
	for (size_t i = 0, step = 0; i < o.count; i++) {
		if (o.records[i]->kind == RECORD_GAP) {
			const struct record_gap *gap = (const struct record_gap *)o.records[i];

			assert_int_equal(gap->rank, 0);
			assert_int_equal(gap->first_ring_seq, 11);
			assert_int_equal(gap->count, 5);
			continue;
		}
		bool torn = step >= 10 && step < 15;

		assert_int_equal(row_at(&o, i)->step, step);
		assert_int_equal(row_at(&o, i)->present_count, torn ? 1 : 2);
		assert_int_equal(row_at(&o, i)->flags & STEP_PARTIAL, torn ? STEP_PARTIAL : 0);
		step++;
	}
	finish(rows, &o);
}

/* Lost with nothing behind it: the gap stands behind the rank's own last row. */
static void a_gap_at_the_end(void **state)
{
	struct outcome o;
	struct rows *rows = start(&o, 2, 2);
	struct iteration lost = report(ITERATION_LOST, 5, 0);

	(void)state;
	add(rows, 0, 1, 0);
	add(rows, 0, 2, 1);
	add(rows, 1, 1, 0);
	rows_exit(rows, 1, 0);
	for (unsigned again = 0; again < 2; again++)
		assert_int_equal(rows_add(rows, 1, 0, &lost, 3 * SECOND_NS, NULL), STATUS_OK);
	rows_flush(rows, 1);
	assert_int_equal(o.count, 3);
	assert_int_equal(row_at(&o, 1)->step, 1);
	const struct record_gap *gap = (const struct record_gap *)o.records[2];

	assert_int_equal(gap->head.kind, RECORD_GAP);
	assert_int_equal(gap->first_ring_seq, 3);
	assert_int_equal(gap->count, 3);
	finish(rows, &o);
}

static void skipped_steps(void **state)
{
	struct outcome o;
	struct rows *rows = start(&o, 2, 2);

	(void)state;
	add(rows, 0, 1, 0);
	add(rows, 1, 1, 0);
	add(rows, 0, 2, 10); /* both skip to 10; rank 1 by way of 5 */
	add(rows, 1, 2, 5);
	add(rows, 1, 3, 10);
	assert_int_equal(o.count, 3);
	assert_int_equal(row_at(&o, 1)->step, 5);
	assert_int_equal(row_at(&o, 1)->present_count, 1);
	assert_int_equal(row_at(&o, 1)->flags, STEP_PARTIAL);
	assert_int_equal(row_at(&o, 2)->step, 10);
	assert_int_equal(row_at(&o, 2)->present_count, 2);
	finish(rows, &o);
}

/* What one rank prints is what there is: nobody waits for the others, unless they report by themselves. */
static void printed_steps_wait_for_nobody(void **unused)
{
	struct iteration it = report(ITERATION_STEP, 1, 7);
	struct outcome o;
	struct rows *rows = start(&o, 3, 0);

	(void)unused;
	it.printed = 1;
	assert_int_equal(rows_add(rows, 1, 1, &it, SECOND_NS, NULL), STATUS_OK);
	assert_int_equal(o.count, 1);
	assert_int_equal(row_at(&o, 0)->step, 7);
	assert_int_equal(row_at(&o, 0)->flags, 0);
	assert_int_equal(row_at(&o, 0)->present_count, 1);
	rows_expect(rows, 1, 2);
	it.ring_seq = 2;
	it.step = 8;
	assert_int_equal(rows_add(rows, 1, 1, &it, SECOND_NS, NULL), STATUS_OK);
	assert_int_equal(o.count, 1);
	add(rows, 2, 1, 8);
	assert_int_equal(o.count, 2);
	assert_int_equal(row_at(&o, 1)->present_count, 2);
	rows_free(rows);
	outcome_clear(&o);
}

static void a_rank_that_never_connects(void **state)
{
	struct outcome o;
	struct rows *rows = start(&o, 3, 2);
	const uint64_t t = 100 * SECOND_NS;

	(void)state;
	add_at(rows, 0, 1, 0, t);
	add_at(rows, 1, 1, 0, t);
	rows_age(rows, t + 2 * SECOND_NS);
	assert_int_equal(o.count, 0); /* control: not before its time */
	rows_age(rows, t + 2 * SECOND_NS + 1);
	assert_int_equal(o.count, 1);
	assert_int_equal(row_at(&o, 0)->present_count, 2);
	/* From now on nobody waits for it any more. */
	add_at(rows, 0, 2, 1, t + 3 * SECOND_NS);
	add_at(rows, 1, 2, 1, t + 3 * SECOND_NS);
	assert_int_equal(o.count, 2);
	/* Until it does connect. */
	rows_expect(rows, 1, 2);
	add_at(rows, 0, 3, 2, t + 4 * SECOND_NS);
	add_at(rows, 1, 3, 2, t + 4 * SECOND_NS);
	rows_age(rows, t + 400 * SECOND_NS);
	assert_int_equal(o.count, 2);
	add_at(rows, 2, 1, 2, t + 4 * SECOND_NS);
	assert_int_equal(o.count, 3);
	assert_int_equal(row_at(&o, 2)->present_count, 3);
	finish(rows, &o);
}

static void a_rank_that_exits(void **state)
{
	struct outcome o;
	struct rows *rows = start(&o, 2, 2);

	(void)state;
	add(rows, 0, 1, 0);
	add(rows, 1, 1, 0);
	add(rows, 0, 2, 1);
	add(rows, 0, 3, 2);
	assert_int_equal(o.count, 1);
	rows_exit(rows, 2, 1); /* of another attempt (H7) */
	rows_exit(rows, 1, 7); /* no such rank */
	assert_int_equal(o.count, 1);
	rows_exit(rows, 1, 1);
	assert_int_equal(o.count, 3);
	assert_int_equal(row_at(&o, 2)->step, 2);
	assert_int_equal(row_at(&o, 2)->present_count, 1);
	add(rows, 0, 4, 3);
	assert_int_equal(o.count, 4);
	finish(rows, &o);
}

static void flushed_at_clear(void **state)
{
	struct outcome o;
	struct rows *rows = start(&o, 3, 3);

	(void)state;
	add(rows, 0, 1, 0);
	add(rows, 0, 2, 1);
	add(rows, 1, 1, 0);
	rows_flush(rows, 2); /* of another attempt */
	assert_int_equal(o.count, 0);
	rows_flush(rows, 1);
	assert_int_equal(o.count, 2);
	assert_int_equal(row_at(&o, 0)->present_count, 2);
	assert_int_equal(row_at(&o, 0)->flags, STEP_PARTIAL);
	assert_int_equal(row_at(&o, 1)->present_count, 1);
	assert_int_equal(row_at(&o, 1)->flags, STEP_PARTIAL);
	finish(rows, &o);
}

static void not_finite(void **state)
{
	static const struct {
		uint32_t fields;
		double value;
		bool seen;
	} cases[] = {{FIELD_LOSS, NAN, true}, {FIELD_LOSS, INFINITY, true},
	    {FIELD_LOSS, -INFINITY, true}, {FIELD_GRAD_NORM, NAN, true},
	    {FIELD_LEARNING_RATE, INFINITY, true}, {FIELD_LOSS, 1e308, false},
	    {FIELD_NOT_FINITE, 1.0, true},
	    {FIELD_TOKENS, NAN, false}}; /* the last: not reported, so not looked at */

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct outcome o;
		struct rows *rows = start(&o, 2, 2);
		struct iteration it = report(ITERATION_STEP, 1, 0);

		add(rows, 0, 1, 0);
		it.fields = cases[i].fields;
		it.loss = it.grad_norm = it.learning_rate = cases[i].value;
		assert_int_equal(rows_add(rows, 1, 1, &it, 1, NULL), STATUS_OK);
		assert_int_equal(
		    row_at(&o, 0)->flags & STEP_NOT_FINITE, cases[i].seen ? STEP_NOT_FINITE : 0);
		assert_int_equal(cell_of(o.records[0], 0)->flags, CELL_PRESENT);
		assert_int_equal(cell_of(o.records[0], 1)->flags,
		    cases[i].seen ? CELL_PRESENT | CELL_NOT_FINITE : CELL_PRESENT);
		finish(rows, &o);
	}
}

static void steps_made_again(void **state)
{
	static const uint64_t none[RANKS_HERE];
	struct outcome o;
	struct rows *rows = start(&o, 1, 1);

	(void)state;
	rows_start(rows, 1, none, 2); /* steps up to 2 were committed before */
	for (uint64_t step = 1; step < 5; step++)
		add(rows, 0, step, step);
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(row_at(&o, i)->flags, i < 2 ? STEP_AGAIN : 0);
	finish(rows, &o);
}

static void phases_and_files_keep_their_place(void **state)
{
	struct outcome o;
	struct rows *rows = start(&o, 2, 2);
	struct iteration phase = report(ITERATION_PHASE, 2, 0);
	struct iteration saved = report(ITERATION_CHECKPOINT, 3, 0);
	static const uint16_t order[] = {RECORD_STEP, RECORD_PHASE, RECORD_SAVED};

	(void)state;
	add(rows, 0, 1, 0);
	phase.phase = PHASE_CHECKPOINT;
	phase.previous = PHASE_STEP;
	assert_int_equal(rows_add(rows, 1, 0, &phase, 5, NULL), STATUS_OK);
	assert_int_equal(rows_add(rows, 1, 0, &saved, 6, "/a/step-0"), STATUS_OK);
	assert_int_equal(o.count, 0); /* they pass only behind the step */
	add(rows, 1, 1, 0);
	assert_int_equal(o.count, 3);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(o.records[i]->kind, order[i]);
	assert_string_equal(RECORD_TEXT(o.records[2], struct record_saved), "/a/step-0");
	finish(rows, &o);
}

static void a_full_queue(void **state)
{
	struct outcome o;
	struct rows *rows = start(&o, 2, 2);
	struct iteration it;

	(void)state;
	for (uint64_t step = 0; step < CHANNEL_RING; step++)
		add(rows, 0, step + 1, step);
	it = report(ITERATION_STEP, CHANNEL_RING + 1, CHANNEL_RING);
	assert_int_equal(rows_add(rows, 1, 0, &it, 1, NULL), STATUS_FULL);
	add(rows, 1, 1, 0);
	assert_int_equal(rows_add(rows, 1, 0, &it, 1, NULL), STATUS_OK); /* it came again */
	for (uint64_t step = 1; step <= CHANNEL_RING; step++)
		add(rows, 1, step + 1, step);
	assert_int_equal(o.count, CHANNEL_RING + 1);
	assert_int_equal(o.last_seq[0], CHANNEL_RING + 1);
	finish(rows, &o);
}

/* Strangers: another attempt, a rank that is none, a report that the journal holds. */
static void strangers(void **state)
{
	static const uint64_t held[RANKS_HERE] = {7};
	struct outcome o;
	struct rows *rows = start(&o, 1, 1);
	struct iteration it = report(ITERATION_STEP, 8, 3);

	(void)state;
	rows_start(rows, 2, held, STEP_NONE);
	o.last_seq[0] = 7;
	rows_expect(rows, 2, 0);
	assert_int_equal(rows_add(rows, 1, 0, &it, 1, NULL), STATUS_OK);
	assert_int_equal(rows_add(rows, 3, 0, &it, 1, NULL), STATUS_OK);
	assert_int_equal(rows_add(rows, 2, 1, &it, 1, NULL), STATUS_OK);
	assert_int_equal(rows_add(rows, 2, UINT32_MAX, &it, 1, NULL), STATUS_OK);
	it.ring_seq = 7;
	assert_int_equal(rows_add(rows, 2, 0, &it, 1, NULL), STATUS_OK);
	assert_int_equal(o.count, 0);
	it.ring_seq = 8;
	assert_int_equal(rows_add(rows, 2, 0, &it, 1, NULL), STATUS_OK);
	assert_int_equal(o.count, 1);
	assert_int_equal(rows_add(rows, 2, 0, &it, 1, NULL), STATUS_OK);
	assert_int_equal(o.count, 1);
	finish(rows, &o);
}

/* --- H3 over random lives ------------------------------------------------------------------------------- */

/* A rank as its ring would show it: the reports that were not dropped, in order. */
struct life {
	struct iteration *reports;
	size_t count, given; /* given: the next to be delivered */
	uint64_t made;       /* ring_seq of the newest */
};

static void live(struct life *l, uint64_t *seed, unsigned length)
{
	uint64_t step = sample_random(seed) % 3;

	l->reports = calloc(length, sizeof(*l->reports));
	assert_non_null(l->reports);
	for (unsigned i = 0; i < length; i++) {
		uint64_t dice = sample_random(seed) % 20;

		l->made++;
		if (dice == 0) { /* the ring was full for a while */
			uint64_t lost = sample_random(seed) % 5;

			l->made += lost;
			step += lost;
		}
		uint32_t kind = dice < 3 ? ITERATION_PHASE
		    : dice == 3          ? ITERATION_CHECKPOINT
					 : ITERATION_STEP;

		l->reports[l->count++] = report(kind, l->made, step);
		if (kind == ITERATION_STEP)
			step += sample_random(seed) % 30 == 0 ? 3 : 1;
	}
}

/* A new supervisor: it begins with what the journal holds, and gets all the rest again. */
static struct rows *succeed(struct rows *old, struct outcome *o, uint32_t ranks, struct life lives[])
{
	struct rows *rows = rows_new(ranks, on_emit, o);

	rows_free(old);
	assert_non_null(rows);
	rows_start(rows, 1, o->last_seq, STEP_NONE);
	for (uint32_t rank = 0; rank < ranks; rank++) {
		lives[rank].given = 0;
		rows_expect(rows, 1, rank);
	}
	return rows;
}

static void deliver(struct rows *rows, uint32_t rank, struct life *l, uint64_t *seed)
{
	uint64_t frame = 1 + sample_random(seed) % 20;

	if (sample_random(seed) % 10 == 0) /* rewound: some of it comes again */
		l->given -= sample_random(seed) % (l->given + 1);
	for (; frame > 0 && l->given < l->count; frame--, l->given++) {
		const struct iteration *it = &l->reports[l->given];

		assert_int_equal(rows_add(rows, 1, rank, it, SECOND_NS,
				     it->kind == ITERATION_CHECKPOINT ? "/x" : NULL),
		    STATUS_OK);
	}
}

static bool all_given(const struct life lives[], uint32_t ranks)
{
	for (uint32_t rank = 0; rank < ranks; rank++)
		if (lives[rank].given < lives[rank].count)
			return false;
	return true;
}

/* No step is put into two rows, unless its rank was lost and came back, or a supervisor died in between. */
static void expect_rising_steps(const struct outcome *o)
{
	uint64_t last = 0;
	bool any = false;

	for (size_t i = 0; i < o->count; i++) {
		if (o->records[i]->kind != RECORD_STEP)
			continue;
		if (any && row_at(o, i)->step <= last)
			fail_msg("row of step %llu behind that of step %llu",
			    (unsigned long long)row_at(o, i)->step, (unsigned long long)last);
		any = true;
		last = row_at(o, i)->step;
	}
}

static void contiguous_whatever_happens(void **state)
{
	uint64_t seed = sample_seed(4711);

	(void)state;
	for (unsigned round = 0; round < 400; round++) {
		uint32_t ranks = 1 + (uint32_t)(sample_random(&seed) % RANKS_HERE);
		struct life lives[RANKS_HERE] = {0};
		struct outcome o;
		struct rows *rows = start(&o, ranks, 0);
		bool exits = false;

		for (uint32_t rank = 0; rank < ranks; rank++)
			live(&lives[rank], &seed, 1 + (unsigned)(sample_random(&seed) % 200));
		while (!all_given(lives, ranks)) {
			uint32_t rank = (uint32_t)(sample_random(&seed) % ranks);
			uint64_t dice = sample_random(&seed) % 100;

			rows_expect(rows, 1, rank);
			if (dice == 0)
				rows = succeed(rows, &o, ranks, lives);
			else if (dice == 1)
				rows_age(rows, 60 * SECOND_NS);
			else if (dice == 2 && lives[rank].given == lives[rank].count)
				rows_exit(rows, 1, rank);
			else
				deliver(rows, rank, &lives[rank], &seed);
			exits = exits || dice <= 2;
		}
		rows_flush(rows, 1);
		for (uint32_t rank = 0; rank < ranks; rank++) {
			if (o.last_seq[rank] != lives[rank].made)
				fail_msg("round %u: rank %u ends at %llu, not %llu", round, rank,
				    (unsigned long long)o.last_seq[rank],
				    (unsigned long long)lives[rank].made);
			free(lives[rank].reports);
		}
		if (!exits)
			expect_rising_steps(&o);
		finish(rows, &o);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(printed_steps_wait_for_nobody),
	    cmocka_unit_test(complete_rows),
	    cmocka_unit_test(values_are_the_lowest_ranks),
	    cmocka_unit_test(saturating_durations),
	    cmocka_unit_test(a_rank_ahead),
	    cmocka_unit_test(a_gap),
	    cmocka_unit_test(a_gap_at_the_end),
	    cmocka_unit_test(skipped_steps),
	    cmocka_unit_test(a_rank_that_never_connects),
	    cmocka_unit_test(a_rank_that_exits),
	    cmocka_unit_test(flushed_at_clear),
	    cmocka_unit_test(not_finite),
	    cmocka_unit_test(steps_made_again),
	    cmocka_unit_test(phases_and_files_keep_their_place),
	    cmocka_unit_test(a_full_queue),
	    cmocka_unit_test(strangers),
	    cmocka_unit_test(contiguous_whatever_happens),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
