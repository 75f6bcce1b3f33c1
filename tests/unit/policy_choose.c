/*
 * From where a restart goes on: memory that all ranks hold, rungs newest first and each verified in this restart
 * (H8), never from the onset of the fault on, one state older when a loop shows; and the rungs' standings.
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
	bed_init(&b, 2);
	b.config.tries_max = 9;
	return 0;
}

static int teardown(void **unused)
{
	(void)unused;
	bed_fini(&b);
	return 0;
}

/* A fault that ends the attempt, cleared; back from the wait. */
static void fail_and_clear(int32_t wait_status)
{
	bed_exit(&b, 0, wait_status, false);
	bed_turn(&b, BED_MS);
	bed_clear(&b, 0);
	bed_turn(&b, BED_MS);
	if (policy_run_state(b.p) == RUN_BACKOFF)
		assert_true(bed_wait(&b, 600 * BED_S));
}

static uint64_t surveyed_before(void)
{
	const struct decision_survey *survey = bed_decision(&b, DECISION_SURVEY, 0);

	assert_non_null(survey);
	assert_int_equal(survey->attempt, policy_attempt(b.p) + 1);
	return survey->before_step;
}

static void answer_memory(uint64_t newest0, uint64_t older0, uint64_t newest1, uint64_t older1)
{
	bed_memory(&b, 0, newest0, older0, STEP_NONE);
	bed_turn(&b, BED_MS);
	assert_int_equal(b.out.count, 0); /* not every rank has answered */
	bed_memory(&b, 1, newest1, older1, STEP_NONE);
	bed_turn(&b, BED_MS);
}

static void no_memory(void)
{
	answer_memory(STEP_NONE, STEP_NONE, STEP_NONE, STEP_NONE);
}

static void expect_start(enum start_source source, uint64_t step)
{
	const struct decision_start *start = bed_decision(&b, DECISION_START, 0);

	assert_non_null(start);
	assert_int_equal(start->source, source);
	assert_true(start->step == step);
}

static void expect_verify(uint64_t step)
{
	const struct decision_verify *verify = bed_decision(&b, DECISION_VERIFY, 0);

	assert_null(bed_decision(&b, DECISION_START, 0));
	assert_non_null(verify);
	assert_int_equal(verify->step, step);
	assert_true(verify->rung_first_seq != 0 && verify->rung_first_seq == verify->rung_last_seq);
}

static void expect_standing(uint64_t step, enum standing previous, enum standing standing)
{
	for (uint32_t i = 0;; i++) {
		const struct decision_standing *d = bed_decision(&b, DECISION_STANDING, i);

		assert_non_null(d);
		if (d->step != step)
			continue;
		assert_int_equal(d->previous, previous);
		assert_int_equal(d->standing, standing);
		return;
	}
}

static void begin_attempt(void)
{
	bed_started(&b, 0);
	bed_started(&b, 1);
	bed_connected(&b, 0);
	bed_connected(&b, 1);
	memset(b.ring_seq, 0, sizeof(b.ring_seq));
	bed_turn(&b, BED_MS);
}

static void test_memory(void **unused)
{
	(void)unused;
	bed_up(&b);
	bed_rows(&b, 1, 8);
	fail_and_clear(9);
	assert_int_equal(surveyed_before(), 9);
	answer_memory(8, 7, 7, 6); /* 7 is the newest that both hold */
	expect_start(START_MEMORY, 7);
}

static void test_memory_in_no_common_step(void **unused)
{
	(void)unused;
	bed_up(&b);
	bed_rows(&b, 1, 8);
	fail_and_clear(9);
	answer_memory(8, 6, 7, 5);
	expect_start(START_SCRATCH, STEP_NONE);
}

/* A partial row is no step that a state may be loaded of. */
static void test_partial_row_is_no_step(void **unused)
{
	(void)unused;
	bed_up(&b);
	bed_rows(&b, 1, 8);
	bed_row_partial(&b, 9, 1);
	bed_turn(&b, BED_MS);
	assert_int_equal(policy_last_step(b.p), 8);
	fail_and_clear(9);
	assert_int_equal(surveyed_before(), 9);
}

static void test_survey_that_does_not_answer(void **unused)
{
	(void)unused;
	bed_up(&b);
	bed_rows(&b, 1, 8);
	fail_and_clear(9);
	bed_memory(&b, 0, 8, 7, STEP_NONE);
	bed_turn(&b, BED_MS);
	assert_true(bed_wait(&b, b.config.verify_max_ns + 3 * BED_S));
	expect_start(START_SCRATCH, STEP_NONE);
}

static void test_torn_snapshot(void **unused)
{
	(void)unused;
	bed_up(&b);
	bed_rows(&b, 1, 8);
	fail_and_clear(9);
	bed_memory(&b, 1, 7, 6, 8);
	bed_turn(&b, BED_MS);
	assert_int_equal(bed_fault(&b)->fault, FAULT_BAD_SNAPSHOT);
	assert_int_equal(bed_fault(&b)->rank, 1);
	bed_memory(&b, 0, 8, 7, STEP_NONE);
	bed_turn(&b, BED_MS);
	expect_start(START_MEMORY, 7);
	begin_attempt();
	/* Seen again before there was any progress, it is not news. */
	fail_and_clear(9);
	bed_memory(&b, 1, 7, 6, 8);
	bed_turn(&b, BED_MS);
	assert_int_equal(b.out.count, 0);
}

static void test_candidate_to_good(void **unused)
{
	(void)unused;
	bed_up(&b);
	bed_rows(&b, 1, 3);
	bed_checkpoint(&b, 3, 1);
	expect_standing(3, STANDING_NONE, STANDING_CANDIDATE);
	bed_rows(&b, 4, 7);
	assert_int_equal(bed_decisions(&b, DECISION_STANDING), 0);
	bed_rows(&b, 8, 8); /* K = 5 */
	expect_standing(3, STANDING_CANDIDATE, STANDING_GOOD);
}

/* Newest first, one by one, each verified; then from the beginning. */
static void test_rungs(void **unused)
{
	(void)unused;
	bed_up(&b);
	for (uint64_t step = 1; step <= 9; step++) {
		bed_rows(&b, step, step);
		if (step % 3 == 0)
			bed_checkpoint(&b, step, step == 9 ? 0 : 2); /* 9 holds a NaN */
	}
	fail_and_clear(9);
	no_memory();
	expect_verify(6);
	bed_verified(&b, 6, VERIFY_DIGEST);
	bed_turn(&b, BED_MS);
	assert_int_equal(bed_fault(&b)->fault, FAULT_BAD_CHECKPOINT);
	expect_standing(6, STANDING_CANDIDATE, STANDING_BAD);
	expect_verify(3);
	bed_verified(&b, 6, VERIFY_OK); /* of another rung: not the answer */
	bed_turn(&b, BED_MS);
	assert_int_equal(b.out.count, 0);
	bed_verified(&b, 3, VERIFY_OK);
	bed_turn(&b, BED_MS);
	expect_start(START_FILE, 3);
	begin_attempt();
	/* A fault right after it: suspect, and tried again; the bad ones are not. */
	bed_exit(&b, 1, 9, false);
	bed_turn(&b, BED_MS);
	expect_standing(3, STANDING_GOOD, STANDING_SUSPECT);
	bed_clear(&b, 0);
	bed_turn(&b, BED_MS);
	assert_true(bed_wait(&b, 600 * BED_S));
	no_memory();
	expect_verify(3);
	assert_true(bed_wait(&b, b.config.verify_max_ns + 3 * BED_S));
	assert_int_equal(bed_fault(&b)->detail, VERIFY_LATE);
	/* It may be whole: it is waited for, not written over. */
	assert_int_equal(policy_run_state(b.p), RUN_BACKOFF);
	assert_true(bed_wait(&b, 600 * BED_S));
	no_memory();
	expect_verify(3);
	bed_verified(&b, 3, VERIFY_OK);
	bed_turn(&b, BED_MS);
	expect_start(START_FILE, 3);
}

/* Checkpoints that are all missing or unreadable: tried again as the budget allows, then "try again"; never from
 * the beginning, which would write over them. */
static void test_missing_files_are_waited_for(void **unused)
{
	unsigned rounds = 0;

	(void)unused;
	bed_up(&b);
	bed_rows(&b, 1, 6);
	bed_checkpoint(&b, 3, 1);
	fail_and_clear(9);
	for (;; rounds++) {
		no_memory();
		expect_verify(3);
		bed_verified(&b, 3, rounds % 2 == 0 ? VERIFY_MISSING : VERIFY_UNREADABLE);
		bed_turn(&b, BED_MS);
		assert_null(bed_decision(&b, DECISION_START, 0));
		if (policy_run_state(b.p) != RUN_BACKOFF)
			break;
		assert_true(bed_wait(&b, 600 * BED_S));
		assert_true(rounds < 10);
	}
	assert_true(rounds >= 2);
	assert_int_equal(policy_run_state(b.p), RUN_ENDED);
	assert_int_equal(policy_exit_code(b.p), 75);
}

/* K clean rows after a restart clear the suspicion. */
static void test_suspicion_is_cleared(void **unused)
{
	(void)unused;
	bed_up(&b);
	bed_rows(&b, 1, 4);
	bed_checkpoint(&b, 4, 1);
	for (uint32_t round = 0; round < 2; round++) {
		fail_and_clear(9 - (int32_t)round);
		no_memory();
		expect_verify(4);
		bed_verified(&b, 4, VERIFY_OK);
		bed_turn(&b, BED_MS);
		expect_start(START_FILE, 4);
		begin_attempt();
	}
	bed_rows(&b, 5, 8);
	bed_rows(&b, 9, 9);
	expect_standing(4, STANDING_SUSPECT, STANDING_GOOD);
}

/* A rung that is newer than what memory holds comes first; memory is what is left when it fails. */
static void test_rung_newer_than_memory(void **unused)
{
	(void)unused;
	bed_up(&b);
	bed_rows(&b, 1, 6);
	bed_checkpoint(&b, 6, 1);
	fail_and_clear(9);
	answer_memory(4, 3, 4, 3);
	expect_verify(6);
	bed_verified(&b, 6, VERIFY_MISSING);
	bed_turn(&b, BED_MS);
	expect_start(START_MEMORY, 4);
}

/* Nothing from the onset on, until the step was done again cleanly. */
static void test_onset(void **unused)
{
	(void)unused;
	bed_up(&b);
	bed_rows(&b, 1, 5);
	bed_checkpoint(&b, 5, 1);
	bed_row_nan(&b, 6, 0);
	bed_turn(&b, BED_MS);
	bed_clear(&b, 0);
	bed_turn(&b, BED_MS);
	assert_int_equal(surveyed_before(), 6);
	answer_memory(6, 5, 6, 5);
	expect_start(START_MEMORY, 5);
	begin_attempt();
	fail_and_clear(9); /* before any row: still */
	assert_int_equal(surveyed_before(), 6);
	answer_memory(5, 4, 5, 4);
	begin_attempt();
	bed_rows(&b, 6, 6);
	fail_and_clear(9);
	assert_int_equal(surveyed_before(), 7);
}

/* Also where the run had been further than that before. */
static void test_onset_in_steps_done_again(void **unused)
{
	(void)unused;
	bed_up(&b);
	bed_rows(&b, 1, 8);
	fail_and_clear(9);
	answer_memory(4, 3, 4, 3);
	begin_attempt();
	bed_rows(&b, 5, 5);
	bed_row_nan(&b, 6, 1);
	bed_turn(&b, BED_MS);
	bed_clear(&b, 0);
	bed_turn(&b, BED_MS);
	assert_true(bed_wait(&b, 600 * BED_S));
	assert_int_equal(surveyed_before(), 6);
}

/* A checkpoint of a state from the onset on is bad, also when its digest comes late. */
static void test_onset_spoils_rungs(void **unused)
{
	(void)unused;
	bed_up(&b);
	bed_rows(&b, 1, 6);
	bed_checkpoint(&b, 6, 2);
	bed_row_nan(&b, 5, 0);
	bed_turn(&b, BED_MS);
	expect_standing(6, STANDING_CANDIDATE, STANDING_BAD);
}

/* The same fault at the same place: the next attempt starts from something older. */
static void test_loop_steps_down(void **unused)
{
	(void)unused;
	bed_up(&b);
	bed_rows(&b, 1, 8);
	fail_and_clear(9); /* at step 8 */
	answer_memory(8, 7, 8, 7);
	begin_attempt();
	fail_and_clear(9); /* before any row: not the same yet */
	assert_int_equal(surveyed_before(), 9);
	answer_memory(8, 7, 8, 7);
	begin_attempt();
	bed_exit(&b, 0, 9, false);
	bed_turn(&b, BED_MS);
	assert_int_equal(bed_fault(&b)->repeat, 1);
	bed_clear(&b, 0);
	bed_turn(&b, BED_MS);
	assert_true(bed_wait(&b, 600 * BED_S));
	assert_int_equal(surveyed_before(), 8);
	answer_memory(7, 6, 7, 6);
	expect_start(START_MEMORY, 7);
	begin_attempt();
	bed_rows(&b, 8, 9);
	/* A new step lifts it. */
	fail_and_clear(9);
	assert_int_equal(surveyed_before(), 10);
}

/* A rung whose program ends before it makes a step of it is not loaded again while an older one is left, and the
 * way down never ends at the beginning while any rung is whole. */
static void test_failed_load_steps_down(void **unused)
{
	(void)unused;
	bed_up(&b);
	bed_rows(&b, 1, 3);
	bed_checkpoint(&b, 3, 2);
	bed_rows(&b, 4, 6);
	bed_checkpoint(&b, 6, 2);
	fail_and_clear(9);
	no_memory();
	expect_verify(6);
	bed_verified(&b, 6, VERIFY_OK);
	bed_turn(&b, BED_MS);
	expect_start(START_FILE, 6);
	begin_attempt();
	fail_and_clear(65 << 8);
	no_memory();
	expect_verify(3);
	bed_verified(&b, 3, VERIFY_OK);
	bed_turn(&b, BED_MS);
	expect_start(START_FILE, 3);
	begin_attempt();
	fail_and_clear(65 << 8);
	no_memory();
	expect_verify(6);
}

/* What is killed from outside says nothing of the file it loaded. */
static void test_killed_load_is_repeated(void **unused)
{
	(void)unused;
	bed_up(&b);
	bed_rows(&b, 1, 3);
	bed_checkpoint(&b, 3, 2);
	bed_rows(&b, 4, 6);
	bed_checkpoint(&b, 6, 2);
	fail_and_clear(9);
	no_memory();
	bed_verified(&b, 6, VERIFY_OK);
	bed_turn(&b, BED_MS);
	begin_attempt();
	fail_and_clear(9);
	no_memory();
	expect_verify(6);
}

/* A file that was written again is not what was digested. */
static void test_rewritten_checkpoint(void **unused)
{
	(void)unused;
	bed_up(&b);
	bed_rows(&b, 1, 6);
	bed_checkpoint(&b, 6, 1);
	struct record_saved *saved = bed_post(&b, RECORD_SAVED, sizeof(*saved));

	saved->attempt = 1;
	saved->ring_seq = ++b.ring_seq[0];
	saved->step = 6;
	saved->shard_count = 1;
	bed_turn(&b, BED_MS);
	expect_standing(6, STANDING_CANDIDATE, STANDING_NONE);
	fail_and_clear(9);
	no_memory();
	expect_start(START_SCRATCH, STEP_NONE);
}

/* A rung is complete with its last shard. */
static void test_shards(void **unused)
{
	(void)unused;
	bed_up(&b);
	bed_rows(&b, 1, 6);
	for (uint32_t rank = 0; rank < 2; rank++) {
		struct record_saved *saved = bed_post(&b, RECORD_SAVED, sizeof(*saved));

		saved->rank = rank;
		saved->attempt = 1;
		saved->ring_seq = ++b.ring_seq[rank];
		saved->step = 6;
		saved->shard_count = 2;
	}
	bed_turn(&b, BED_MS);
	assert_int_equal(bed_decisions(&b, DECISION_DIGEST), 2);
	uint64_t asked[2];

	for (uint32_t rank = 0; rank < 2; rank++)
		asked[rank] = ((const struct decision_digest *)bed_decision(&b, DECISION_DIGEST, rank))
				  ->saved_seq;
	for (uint32_t rank = 0; rank < 2; rank++) {
		struct record_rung *rung = bed_post(&b, RECORD_RUNG, sizeof(*rung));

		rung->saved_seq = asked[rank];
		rung->step = 6;
		rung->finite = 1;
		bed_turn(&b, BED_MS);
		assert_int_equal(bed_decisions(&b, DECISION_STANDING), rank);
	}
	/* The same answer again adds nothing. */
	struct record_rung *rung = bed_post(&b, RECORD_RUNG, sizeof(*rung));

	rung->saved_seq = asked[0];
	rung->step = 6;
	bed_turn(&b, BED_MS);
	assert_int_equal(b.out.count, 0);
}

/* However many checkpoints are announced, few digests are under way, and the newest are not forgotten (H10). */
static void test_flood_of_checkpoints(void **unused)
{
	uint32_t digests = 0;

	(void)unused;
	bed_up(&b);
	bed_rows(&b, 1, 6);
	for (uint64_t step = 1; step <= 500; step++) {
		struct record_saved *saved = bed_post(&b, RECORD_SAVED, sizeof(*saved));

		saved->attempt = 1;
		saved->ring_seq = ++b.ring_seq[0];
		saved->step = step;
		saved->shard_count = 1;
	}
	bed_turn(&b, BED_MS);
	digests = bed_decisions(&b, DECISION_DIGEST);
	assert_in_range(digests, 1, 16);
	bed_session(&b);
	bed_hello(&b, 1, 1);
	bed_turn(&b, BED_MS);
	assert_int_equal(bed_decisions(&b, DECISION_DIGEST), digests);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_memory),
	    TEST(test_memory_in_no_common_step),
	    TEST(test_partial_row_is_no_step),
	    TEST(test_survey_that_does_not_answer),
	    TEST(test_torn_snapshot),
	    TEST(test_candidate_to_good),
	    TEST(test_rungs),
	    TEST(test_missing_files_are_waited_for),
	    TEST(test_suspicion_is_cleared),
	    TEST(test_rung_newer_than_memory),
	    TEST(test_onset),
	    TEST(test_onset_in_steps_done_again),
	    TEST(test_onset_spoils_rungs),
	    TEST(test_loop_steps_down),
	    TEST(test_failed_load_steps_down),
	    TEST(test_killed_load_is_repeated),
	    TEST(test_rewritten_checkpoint),
	    TEST(test_shards),
	    TEST(test_flood_of_checkpoints),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
