/*
 * Checkpoints that a keeper puts aside: which of them become rungs, how far they are trusted, from which a restart
 * goes on with and without steps, and what they mean to the stall detector and to the budget.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/policy_bed.h"

static struct bed b;

static int setup(void **unused)
{
	(void)unused;
	bed_init(&b, 1);
	b.config.tries_max = 3;
	return 0;
}

static int teardown(void **unused)
{
	(void)unused;
	bed_fini(&b);
	return 0;
}

/* Up, without a word from the trainer. */
static void up_silent(void)
{
	bed_hello(&b, 1, 0);
	bed_turn(&b, BED_MS);
	bed_clear(&b, 0);
	bed_turn(&b, BED_MS);
	bed_started(&b, 0);
	bed_turn(&b, BED_MS);
	assert_int_equal(policy_run_state(b.p), RUN_RUNNING);
}

static void keep(uint64_t ordinal, uint64_t step)
{
	bed_kept(&b, ordinal, step, 0);
	bed_turn(&b, BED_MS);
}

/* Of a script that is silent, its checkpoint being one file without a step in its name. */
static void keep_silent(uint64_t ordinal)
{
	bed_kept(&b, ordinal, ordinal, KEPT_ORDINAL);
	bed_turn(&b, 10 * BED_S);
}

/* The attempt ends, is cleared, and the policy has chosen or asks. */
static void fall(int32_t wait_status)
{
	bed_exit(&b, 0, wait_status, false);
	bed_turn(&b, BED_MS);
	assert_int_equal(policy_run_state(b.p), RUN_CLEARING);
	bed_clear(&b, 0);
	bed_turn(&b, BED_MS);
	if (policy_run_state(b.p) == RUN_BACKOFF)
		assert_true(bed_wait(&b, 600 * BED_S));
}

static void survey_finds_nothing(void)
{
	assert_non_null(bed_decision(&b, DECISION_SURVEY, 0));
	bed_memory(&b, 0, STEP_NONE, STEP_NONE, STEP_NONE);
	bed_turn(&b, BED_MS);
}

static const struct decision_verify *expect_verify(uint64_t step)
{
	const struct decision_verify *verify = bed_decision(&b, DECISION_VERIFY, 0);

	assert_null(bed_decision(&b, DECISION_START, 0));
	assert_non_null(verify);
	assert_int_equal(verify->step, step);
	assert_int_equal(verify->shard_count, 1);
	assert_true(verify->rung_first_seq != 0 && verify->rung_first_seq == verify->rung_last_seq);
	return verify;
}

static void expect_start(enum start_source source, uint64_t step)
{
	const struct decision_start *start = bed_decision(&b, DECISION_START, 0);

	assert_non_null(start);
	assert_int_equal(start->source, source);
	assert_true(start->step == step);
	bed_started(&b, 0);
	memset(b.ring_seq, 0, sizeof(b.ring_seq));
	bed_turn(&b, BED_MS);
}

static void load(uint64_t step)
{
	expect_verify(step);
	bed_verified(&b, step, VERIFY_OK);
	bed_turn(&b, BED_MS);
	expect_start(START_FILE, step);
}

static void expect_standing(uint64_t step, enum standing previous, enum standing standing)
{
	for (uint32_t i = 0;; i++) {
		const struct decision_standing *d = bed_decision(&b, DECISION_STANDING, i);

		assert_non_null(d);
		if (d->step != step || d->previous != previous)
			continue;
		assert_int_equal(d->standing, standing);
		return;
	}
}

static uint64_t protected(uint32_t place)
{
	uint64_t ordinals[POLICY_PROTECTED];

	policy_protected(b.p, ordinals);
	return ordinals[place];
}

/* A candidate at once, good after K rows, and then the one that is not given up. */
static void test_candidate_to_good(void **unused)
{
	(void)unused;
	bed_up(&b);
	bed_rows(&b, 1, 3);
	keep(1, 3);
	expect_standing(3, STANDING_NONE, STANDING_CANDIDATE);
	assert_int_equal(protected(0), 0);
	bed_rows(&b, 4, 7);
	assert_int_equal(bed_decisions(&b, DECISION_STANDING), 0);
	bed_rows(&b, 8, 8);
	expect_standing(3, STANDING_CANDIDATE, STANDING_GOOD);
	assert_int_equal(protected(0), 1);
	keep(2, 8);
	bed_rows(&b, 9, 13);
	assert_int_equal(protected(0), 2);
	/* Said again by a keeper that was started anew, it is no news. */
	bed_kept(&b, 2, 8, KEPT_AGAIN);
	bed_turn(&b, BED_MS);
	assert_int_equal(b.out.count, 0);
}

/* However often checkpoints come: the one that is next to become good waits for it, and then the one behind it. */
static void test_next_is_protected(void **unused)
{
	(void)unused;
	bed_up(&b);
	bed_rows(&b, 1, 1);
	keep(1, 1);
	bed_rows(&b, 2, 2);
	keep(2, 2);
	assert_int_equal(protected(0), 0);
	assert_int_equal(protected(1), 1);
	bed_rows(&b, 3, 5);
	keep(3, 5);
	assert_int_equal(protected(1), 1);
	bed_kept(&b, 2, 2, KEPT_GONE);
	bed_turn(&b, BED_MS);
	bed_rows(&b, 6, 6);
	assert_int_equal(protected(0), 1);
	assert_int_equal(protected(1), 3);
	bed_rows(&b, 7, 10);
	assert_int_equal(protected(0), 3);
	assert_int_equal(protected(1), 0);
}

static void test_newest_is_loaded(void **unused)
{
	(void)unused;
	bed_up(&b);
	bed_rows(&b, 1, 6);
	keep(1, 3);
	keep(2, 6);
	fall(9);
	survey_finds_nothing();
	load(6);
}

/* The rung that is verified for a start is not given up meanwhile when it is older than the good one. */
static void test_protected_while_verified(void **unused)
{
	(void)unused;
	bed_up(&b);
	bed_rows(&b, 1, 3);
	keep(7, 2);
	keep(8, 3);
	bed_rows(&b, 4, 12);
	assert_int_equal(protected(0), 8);
	keep(9, 12);
	fall(9);
	survey_finds_nothing();
	expect_verify(12);
	assert_int_equal(protected(0), 8);
	bed_verified(&b, 12, VERIFY_DIGEST);
	bed_turn(&b, BED_MS);
	expect_verify(3);
	bed_verified(&b, 3, VERIFY_DIGEST);
	bed_turn(&b, BED_MS);
	expect_verify(2);
	assert_int_equal(protected(0), 7);
}

/* Where a loop steps down below a rung that is still good, the one below is needed more. */
static void test_protected_below_the_good(void **unused)
{
	(void)unused;
	bed_up(&b);
	bed_rows(&b, 1, 4);
	keep(7, 2);
	keep(8, 4);
	bed_rows(&b, 5, 12);
	assert_int_equal(protected(0), 8);
	for (uint32_t round = 0; round < 2; round++) {
		fall(9);
		assert_non_null(bed_decision(&b, DECISION_SURVEY, 0));
		bed_memory(&b, 0, 4, STEP_NONE, STEP_NONE);
		bed_turn(&b, BED_MS);
		expect_start(START_MEMORY, 4);
	}
	fall(9);
	survey_finds_nothing();
	expect_verify(2);
	assert_int_equal(protected(0), 7);
}

static void test_gone(void **unused)
{
	(void)unused;
	bed_up(&b);
	bed_rows(&b, 1, 6);
	keep(1, 3);
	keep(2, 6);
	bed_kept(&b, 2, 6, KEPT_GONE);
	bed_turn(&b, BED_MS);
	expect_standing(6, STANDING_CANDIDATE, STANDING_NONE);
	fall(9);
	survey_finds_nothing();
	load(3);
}

/* One that holds a NaN is bad, and does not take the place of a whole one. */
static void test_not_finite(void **unused)
{
	(void)unused;
	bed_up(&b);
	bed_rows(&b, 1, 6);
	keep(1, 3);
	bed_kept(&b, 2, 3, 0)->finite = 0;
	bed_turn(&b, BED_MS);
	assert_int_equal(b.out.count, 0);
	bed_kept(&b, 3, 6, 0)->finite = 0;
	bed_turn(&b, BED_MS);
	expect_standing(6, STANDING_NONE, STANDING_BAD);
	fall(9);
	survey_finds_nothing();
	load(3);
}

/* What could not be kept, what lay there before, and what has no step among steps, are no rungs. */
static void test_no_rungs(void **unused)
{
	(void)unused;
	bed_up(&b);
	bed_rows(&b, 1, 6);
	bed_kept(&b, 0, 3, 0)->error = 28;
	bed_kept(&b, 1, 4, KEPT_FOREIGN);
	bed_kept(&b, 2, 2, KEPT_ORDINAL);
	bed_kept(&b, 3, STEP_NONE, 0);
	bed_turn(&b, BED_MS);
	assert_int_equal(b.out.count, 0);
	fall(9);
	survey_finds_nothing();
	expect_start(START_SCRATCH, STEP_NONE);
}

/* A format without a check: closed by the death of its writer, it may be torn; closed while it lives, or by one that
 * ended well, it is whole. */
static void test_maybe_torn(void **unused)
{
	(void)unused;
	bed_up(&b);
	bed_rows(&b, 1, 6);
	bed_kept(&b, 1, 3, KEPT_UNCHECKED);
	bed_turn(&b, BED_MS);
	expect_standing(3, STANDING_NONE, STANDING_CANDIDATE);
	bed_exit(&b, 0, 9, false);
	bed_turn(&b, BED_MS);
	bed_kept(&b, 2, 6, KEPT_UNCHECKED);
	bed_turn(&b, BED_MS);
	assert_int_equal(b.out.count, 0);
	bed_clear(&b, 0);
	bed_turn(&b, BED_MS);
	survey_finds_nothing();
	/* Nor is it one that a later attempt finds. */
	bed_kept(&b, 3, 6, KEPT_UNCHECKED)->attempt = 0;
	bed_turn(&b, BED_MS);
	assert_int_equal(b.out.count, 0);
	bed_verified(&b, 3, VERIFY_OK);
	bed_turn(&b, BED_MS);
	expect_start(START_FILE, 3);
	bed_rows(&b, 4, 9);
	bed_exit(&b, 0, 0, false);
	bed_turn(&b, BED_MS);
	bed_kept(&b, 4, 9, KEPT_UNCHECKED);
	bed_turn(&b, BED_MS);
	expect_standing(9, STANDING_NONE, STANDING_CANDIDATE);
}

/* Nothing from the onset of a fault on, however it comes. */
static void test_onset(void **unused)
{
	(void)unused;
	bed_up(&b);
	bed_rows(&b, 1, 5);
	keep(1, 5);
	bed_row_nan(&b, 6, 0);
	bed_turn(&b, BED_MS);
	bed_kept(&b, 2, 6, 0);
	bed_turn(&b, BED_MS);
	assert_int_equal(b.out.count, 0);
	bed_clear(&b, 0);
	bed_turn(&b, BED_MS);
	survey_finds_nothing();
	load(5);
}

/* A script that reports each tenth step saves in between.  What lies before the next row that could have been is as
 * good as the last one; but where the last row was followed by a NaN, it may have begun anywhere between. */
static void test_sparse_rows(void **unused)
{
	(void)unused;
	bed_up(&b);
	for (uint64_t step = 10; step <= 30; step += 10)
		bed_rows(&b, step, step);
	keep(1, 25);
	keep(2, 35);
	keep(3, 40);
	fall(9);
	survey_finds_nothing();
	load(35);
	bed_rows(&b, 40, 40);
	bed_row_nan(&b, 50, 0);
	bed_turn(&b, BED_MS);
	bed_clear(&b, 0);
	bed_turn(&b, BED_MS);
	survey_finds_nothing();
	expect_verify(40);
	bed_verified(&b, 40, VERIFY_OK);
	bed_turn(&b, BED_MS);
	expect_start(START_FILE, 40);
}

static void test_sparse_rows_and_nan(void **unused)
{
	(void)unused;
	bed_up(&b);
	for (uint64_t step = 10; step <= 30; step += 10)
		bed_rows(&b, step, step);
	keep(1, 25);
	keep(2, 35);
	bed_row_nan(&b, 40, 0);
	bed_turn(&b, BED_MS);
	bed_clear(&b, 0);
	bed_turn(&b, BED_MS);
	survey_finds_nothing();
	load(25);
}

/* With steps reported one by one, a checkpoint beyond the last whole row would leave a hole in the journal. */
static void test_rows_bound(void **unused)
{
	(void)unused;
	bed_up(&b);
	bed_rows(&b, 1, 6);
	keep(1, 4);
	keep(2, 7);
	fall(9);
	survey_finds_nothing();
	load(4);
}

/* --- without any step -------------------------------------------------------------------------------- */

/* From the newest, without a survey of memory that cannot hold anything; never from the beginning. */
static void test_silent(void **unused)
{
	(void)unused;
	up_silent();
	keep_silent(1);
	keep_silent(2);
	expect_standing(1, STANDING_CANDIDATE, STANDING_GOOD);
	assert_int_equal(protected(0), 1);
	fall(9);
	assert_null(bed_decision(&b, DECISION_SURVEY, 0));
	load(2);
	keep_silent(3);
	assert_int_equal(bed_decisions(&b, DECISION_RECOVERED), 1);
	/* The same end further on is not the same fault again. */
	bed_exit(&b, 0, 9, false);
	bed_turn(&b, BED_MS);
	assert_int_equal(bed_fault(&b)->repeat, 0);
	bed_clear(&b, 0);
	bed_turn(&b, BED_MS);
	load(3);
}

/* What was loaded had been worked from when the next checkpoint was kept: no later end speaks against it. */
static void test_silent_loaded_well(void **unused)
{
	(void)unused;
	up_silent();
	keep_silent(1);
	keep_silent(2);
	fall(9);
	load(2);
	keep_silent(3);
	bed_exit(&b, 0, 1 << 8, false);
	bed_turn(&b, BED_MS);
	assert_null(bed_decision(&b, DECISION_STANDING, 0));
	bed_clear(&b, 0);
	bed_turn(&b, BED_MS);
	load(3);
}

/* Restarts are free as long as checkpoints come, and counted when none does, or always the same one. */
static void test_silent_budget(void **unused)
{
	uint64_t ordinal = 1;

	(void)unused;
	up_silent();
	keep_silent(ordinal);
	for (uint32_t round = 0; round < 10; round++) {
		fall(9);
		load(ordinal);
		keep_silent(++ordinal);
	}
	/* The same bytes under a new number are no new checkpoint; the same end again steps down. */
	for (uint32_t round = 0; round < 3; round++) {
		fall(9);
		load(ordinal - round);
		memset(bed_kept(&b, 12 + round, 12 + round, KEPT_ORDINAL)->digest, 0, 8);
		((struct record_kept *)b.inputs[0])->digest[0] = 11;
		bed_turn(&b, BED_S);
		bed_kept(&b, 12 + round, 12 + round, KEPT_GONE);
		bed_turn(&b, BED_S);
	}
	bed_exit(&b, 0, 9, false);
	bed_turn(&b, BED_MS);
	bed_clear(&b, 0);
	bed_turn(&b, BED_MS);
	assert_int_equal(policy_run_state(b.p), RUN_ENDED);
}

/* A silent command that dies before it ever saved anything is a mistake, as one that never stepped. */
static void test_silent_mistake(void **unused)
{
	(void)unused;
	up_silent();
	bed_exit(&b, 0, 1 << 8, false);
	bed_turn(&b, BED_MS);
	bed_clear(&b, 0);
	bed_turn(&b, BED_MS);
	expect_start(START_SCRATCH, STEP_NONE);
	bed_exit(&b, 0, 1 << 8, false);
	bed_turn(&b, BED_MS);
	bed_clear(&b, 0);
	bed_turn(&b, BED_MS);
	assert_int_equal(policy_run_state(b.p), RUN_ENDED);
}

/* A program that ends soon after it was given a file did not like it: the one before is next.  One that had worked
 * for long had loaded it. */
static void test_silent_steps_down(void **unused)
{
	(void)unused;
	up_silent();
	keep_silent(1);
	keep_silent(2);
	fall(9);
	load(2);
	bed_turn(&b, BED_S);
	fall(1 << 8);
	load(1);
	keep_silent(3);
	fall(9);
	load(3);
	bed_sample(&b, 0, BED_S, false, STEP_NONE); /* any input, long after */
	bed_turn(&b, 600 * BED_S);
	fall(1 << 8);
	load(3);
}

/* --- signs of life ----------------------------------------------------------------------------------- */

/* Writing a checkpoint is no stall, however long it takes; that it is not progress shows in the budget above. */
static void test_writing_is_life(void **unused)
{
	(void)unused;
	b.config.stall_min_ns = 500 * BED_MS; /* a word a second is enough all the same */
	bed_up(&b);
	bed_rows(&b, 1, 6);
	for (uint32_t i = 0; i < 100; i++) {
		struct record_writing *writing = bed_post(&b, RECORD_WRITING, sizeof(*writing));

		writing->attempt = 1;
		writing->step = STEP_NONE;
		bed_turn(&b, BED_S);
		assert_int_equal(b.out.count, 0);
		/* The next word may be late, and the limit is shorter than the time between two. */
		assert_true(policy_deadline_ns(b.p) >= b.now_ns + 2 * BED_S);
	}
	/* Of a dead attempt it says nothing (H7). */
	uint64_t deadline_ns = policy_deadline_ns(b.p);
	struct record_writing *writing = bed_post(&b, RECORD_WRITING, sizeof(*writing));

	writing->attempt = 7;
	bed_turn(&b, BED_MS);
	assert_int_equal(policy_deadline_ns(b.p), deadline_ns);
	/* Nor does a keeper's trouble. */
	bed_kept(&b, 0, STEP_NONE, 0)->error = 28;
	bed_turn(&b, BED_MS);
	assert_int_equal(policy_deadline_ns(b.p), deadline_ns);
	assert_true(bed_wait(&b, 60 * BED_S));
	assert_int_equal(bed_decisions(&b, DECISION_SAMPLE), 1);
}

/* However many checkpoints come at once, a turn has room for what follows from them (H10). */
static void test_flood(void **unused)
{
	(void)unused;
	bed_up(&b);
	bed_rows(&b, 1, 6);
	for (uint64_t i = 1; i <= BED_INPUTS; i++)
		bed_kept(&b, i, i % 2, 0);
	bed_turn(&b, BED_MS);
	assert_true(b.out.size_bytes < POLICY_DECISIONS_BYTES);
	for (uint64_t i = 1; i <= 300; i++)
		bed_kept(&b, BED_INPUTS + i, i, 0);
	bed_turn(&b, BED_MS);
	assert_true(b.out.size_bytes < POLICY_DECISIONS_BYTES);
}

/* A digest that was asked for before the copy was kept comes after it, and changes nothing. */
static void test_digest_behind_a_copy(void **unused)
{
	struct record_saved *saved;
	struct record_rung *rung;
	uint64_t asked;

	(void)unused;
	bed_up(&b);
	bed_rows(&b, 1, 6);
	saved = bed_post(&b, RECORD_SAVED, sizeof(*saved));
	saved->attempt = 1;
	saved->ring_seq = ++b.ring_seq[0];
	saved->step = 6;
	saved->shard_count = 1;
	bed_turn(&b, BED_MS);
	assert_non_null(bed_decision(&b, DECISION_DIGEST, 0));
	asked = ((const struct decision_digest *)bed_decision(&b, DECISION_DIGEST, 0))->saved_seq;
	keep(1, 6);
	rung = bed_post(&b, RECORD_RUNG, sizeof(*rung));
	rung->attempt = 1;
	rung->saved_seq = asked;
	rung->step = 6;
	rung->shard_count = 1;
	rung->error = 2;
	bed_turn(&b, BED_MS);
	assert_int_equal(b.out.count, 0);
	fall(9);
	survey_finds_nothing();
	load(6);
}

/* The same step was saved again by the trainer's own word: the copy is not touched by it. */
static void test_announced_as_well(void **unused)
{
	struct record_saved *saved;

	(void)unused;
	bed_up(&b);
	bed_rows(&b, 1, 6);
	keep(1, 6);
	saved = bed_post(&b, RECORD_SAVED, sizeof(*saved));
	saved->attempt = 1;
	saved->ring_seq = ++b.ring_seq[0];
	saved->step = 6;
	saved->shard_count = 1;
	bed_turn(&b, BED_MS);
	assert_int_equal(b.out.count, 0);
	fall(9);
	survey_finds_nothing();
	load(6);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_candidate_to_good),
	    TEST(test_next_is_protected),
	    TEST(test_newest_is_loaded),
	    TEST(test_protected_while_verified),
	    TEST(test_protected_below_the_good),
	    TEST(test_gone),
	    TEST(test_not_finite),
	    TEST(test_no_rungs),
	    TEST(test_maybe_torn),
	    TEST(test_onset),
	    TEST(test_sparse_rows),
	    TEST(test_sparse_rows_and_nan),
	    TEST(test_rows_bound),
	    TEST(test_silent),
	    TEST(test_silent_loaded_well),
	    TEST(test_silent_budget),
	    TEST(test_silent_mistake),
	    TEST(test_silent_steps_down),
	    TEST(test_writing_is_life),
	    TEST(test_flood),
	    TEST(test_digest_behind_a_copy),
	    TEST(test_announced_as_well),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
