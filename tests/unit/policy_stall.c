/*
 * The stall detector at its thresholds: a nanosecond before nothing is asked, at the limit it is; who is blamed,
 * idle and spinning, phases, and what stops the clock.
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
	bed_init(&b, 3);
	return 0;
}

static int teardown(void **unused)
{
	(void)unused;
	bed_fini(&b);
	return 0;
}

/* After exactly limit_ns of silence samples are asked for, and not before. */
static void expect_limit(uint64_t limit_ns)
{
	bed_turn(&b, limit_ns - 1);
	assert_int_equal(b.out.count, 0);
	bed_turn(&b, 1);
	assert_int_equal(bed_decisions(&b, DECISION_SAMPLE), 1);
}

static void up_with_rows(uint64_t count, uint64_t duration_ns)
{
	bed_up(&b);
	for (uint64_t step = 1; step <= count; step++) {
		bed_row(&b, step, duration_ns);
		bed_turn(&b, duration_ns);
	}
}

static void test_before_anything_is_known(void **unused)
{
	(void)unused;
	bed_up(&b);
	expect_limit(b.config.stall_first_ns);
}

/* The first row of an attempt teaches nothing about steps: three more have to come. */
static void test_rows_to_learn(void **unused)
{
	(void)unused;
	up_with_rows(3, BED_S);
	expect_limit(b.config.stall_first_ns);
	bed_row(&b, 4, BED_S);
	bed_turn(&b, 0);
	expect_limit(10 * BED_S);
}

static void test_minimum(void **unused)
{
	(void)unused;
	up_with_rows(10, 5 * BED_MS);
	expect_limit(b.config.stall_min_ns);
}

static void test_maximum(void **unused)
{
	(void)unused;
	b.config.stall_max_ns = 20 * BED_S;
	up_with_rows(10, 5 * BED_S);
	expect_limit(20 * BED_S);
}

/* One long step counts for as long as it is in the window, and no longer. */
static void test_window(void **unused)
{
	(void)unused;
	up_with_rows(4, BED_S);
	bed_row(&b, 5, 3 * BED_S);
	bed_turn(&b, BED_S);
	for (uint64_t step = 6; step < 5 + POLICY_DURATIONS; step++) {
		bed_row(&b, step, BED_S);
		bed_turn(&b, BED_S);
	}
	expect_limit(30 * BED_S);
	bed_row(&b, 5 + POLICY_DURATIONS, BED_S);
	bed_turn(&b, 0);
	expect_limit(10 * BED_S);
}

static void test_first_row_of_next_attempt(void **unused)
{
	(void)unused;
	bed_up(&b);
	bed_row(&b, 1, BED_MS);
	b.inputs[0]->time_ns = b.now_ns + 500 * BED_MS;
	bed_turn(&b, 500 * BED_MS);
	bed_exit(&b, 0, 1 << 8, false);
	bed_turn(&b, BED_MS);
	bed_restart(&b, 1);
	/* Start to first row took 502 ms: a turn for STARTED and one for CONNECTED lie in it. */
	expect_limit(5020 * BED_MS);
}

static void test_phases(void **unused)
{
	(void)unused;
	up_with_rows(6, 5 * BED_MS);
	bed_phase(&b, 0, PHASE_STEP, PHASE_EVALUATION, BED_S);
	bed_turn(&b, 0);
	expect_limit(b.config.stall_first_ns); /* an evaluation was never seen */
	bed_phase(&b, 0, PHASE_EVALUATION, PHASE_STEP, 4 * BED_S);
	bed_turn(&b, 0);
	expect_limit(b.config.stall_min_ns);
	bed_phase(&b, 0, PHASE_STEP, PHASE_EVALUATION, BED_S);
	bed_turn(&b, 0);
	expect_limit(40 * BED_S);
}

/* To the second samples: rank 0 has used cpu_ns of the time in between. */
static void sampled_twice(uint64_t interval_ns, uint64_t cpu_ns, bool others_wait)
{
	for (uint32_t rank = 0; rank < 3; rank++)
		bed_sample(&b, rank, 7 * BED_S, others_wait && rank != 0, 6);
	bed_turn(&b, 0);
	assert_int_equal(b.out.count, 0);
	bed_turn(&b, interval_ns - 1);
	assert_int_equal(b.out.count, 0);
	bed_turn(&b, 1);
	assert_int_equal(bed_decisions(&b, DECISION_SAMPLE), 1);
	for (uint32_t rank = 0; rank < 3; rank++)
		bed_sample(&b, rank, 7 * BED_S + (rank == 0 ? cpu_ns : interval_ns),
		    others_wait && rank != 0, 6);
	bed_turn(&b, 0);
}

/* A confirm interval is an eighth of the limit: 250 ms of 2 s. */
#define CONFIRM (250 * BED_MS)

static void test_idle(void **unused)
{
	(void)unused;
	up_with_rows(6, 5 * BED_MS);
	uint64_t since_ns = b.now_ns;

	expect_limit(2 * BED_S);
	sampled_twice(CONFIRM, CONFIRM / 5 - 1, true);
	const struct decision_fault *fault = bed_fault(&b);

	assert_int_equal(fault->fault, FAULT_STALL_IDLE);
	assert_int_equal(fault->rank, 0);
	assert_int_equal(fault->onset_ns, since_ns);
	assert_int_equal(fault->limit_ns, 2 * BED_S);
	assert_int_equal(fault->value_ns, 2 * BED_S + CONFIRM);
	/* Evidence first (H9), the blamed rank's before the others'. */
	assert_int_equal(
	    ((const struct decision_capture *)bed_decision(&b, DECISION_CAPTURE, 0))->rank, 0);
	assert_int_equal(bed_decisions(&b, DECISION_CAPTURE), 3);
	assert_null(bed_decision(&b, DECISION_CLEAR, 0));
	assert_int_equal(policy_run_state(b.p), RUN_CAPTURING);
	for (uint32_t rank = 0; rank < 3; rank++) {
		struct record_evidence *evidence = bed_post(&b, RECORD_EVIDENCE, sizeof(*evidence));

		assert_int_equal(policy_run_state(b.p), RUN_CAPTURING);
		evidence->rank = rank;
		evidence->attempt = 1;
		evidence->incident = 1;
		evidence->evidence_kind = EVIDENCE_STACKS;
		bed_turn(&b, BED_MS);
	}
	assert_non_null(bed_decision(&b, DECISION_CLEAR, 0));
}

/* Who spins has twice the limit. */
static void test_spinning(void **unused)
{
	(void)unused;
	up_with_rows(6, 5 * BED_MS);
	uint64_t since_ns = b.now_ns;

	expect_limit(2 * BED_S);
	sampled_twice(CONFIRM, CONFIRM / 5, true);
	assert_int_equal(b.out.count, 0);
	expect_limit(since_ns + 4 * BED_S - b.now_ns);
	sampled_twice(CONFIRM, CONFIRM, true);
	assert_int_equal(bed_fault(&b)->fault, FAULT_STALL_SPINNING);
	assert_int_equal(bed_fault(&b)->rank, 0);
}

static void test_progress_calls_it_off(void **unused)
{
	(void)unused;
	up_with_rows(6, 5 * BED_MS);
	expect_limit(2 * BED_S);
	for (uint32_t rank = 0; rank < 3; rank++)
		bed_sample(&b, rank, 0, false, 6);
	bed_turn(&b, 0);
	bed_row(&b, 7, 5 * BED_MS);
	bed_turn(&b, 0);
	expect_limit(2 * BED_S);
}

static void test_samples_that_do_not_come(void **unused)
{
	(void)unused;
	up_with_rows(6, 5 * BED_MS);
	expect_limit(2 * BED_S);
	bed_turn(&b, CONFIRM);
	assert_int_equal(bed_decisions(&b, DECISION_SAMPLE), 1);
	bed_turn(&b, 2 * BED_S - 1);
	assert_int_equal(b.out.count, 0);
	bed_turn(&b, 1);
	assert_int_equal(bed_fault(&b)->fault, FAULT_STALL_IDLE);
}

/* Two ranks with samples, one to be blamed. */
static uint32_t blamed(const uint64_t step[3], const bool waits[3], const uint64_t cpu_ns[3])
{
	setup(NULL);
	up_with_rows(6, 5 * BED_MS);
	expect_limit(2 * BED_S);
	for (uint32_t rank = 0; rank < 3; rank++)
		bed_sample(&b, rank, 0, waits[rank], step[rank]);
	bed_turn(&b, 0);
	bed_turn(&b, CONFIRM);
	for (uint32_t rank = 0; rank < 3; rank++)
		bed_sample(&b, rank, cpu_ns[rank], waits[rank], step[rank]);
	bed_turn(&b, 0);
	uint32_t rank = bed_fault(&b)->rank;

	bed_fini(&b);
	return rank;
}

static void test_blame(void **unused)
{
	static const bool none[3] = {false, false, false}, all[3] = {true, true, true};
	static const uint64_t same[3] = {6, 6, 6}, no_cpu[3] = {0, 0, 0};

	(void)unused;
	/* Who does not wait; then who is behind; then who does least; then the lowest. */
	assert_int_equal(
	    blamed((uint64_t[]){5, 6, 6}, (bool[]){true, false, true}, (uint64_t[]){0, 9, 0}), 1);
	assert_int_equal(blamed((uint64_t[]){6, 6, 5}, none, (uint64_t[]){0, 1, 9}), 2);
	assert_int_equal(blamed((uint64_t[]){6, STEP_NONE, 0}, none, no_cpu), 1);
	assert_int_equal(blamed(same, none, (uint64_t[]){9, 9, 3}), 2);
	assert_int_equal(blamed(same, none, no_cpu), 0);
	assert_int_equal(blamed((uint64_t[]){6, 4, 6}, all, no_cpu), 1);
}

/* All say that they wait, one computes all the same: it is not the others' fault that nothing comes. */
static void test_blame_of_who_only_says_it_waits(void **unused)
{
	(void)unused;
	up_with_rows(6, 5 * BED_MS);
	uint64_t since_ns = b.now_ns;

	for (unsigned round = 0; round < 2; round++) {
		expect_limit(since_ns + (round + 1) * 2 * BED_S - b.now_ns);
		for (unsigned sample = 0; sample < 2; sample++) {
			for (uint32_t rank = 0; rank < 3; rank++)
				bed_sample(&b, rank,
				    rank == 1 ? (2 * round + sample + 1) * CONFIRM : 0, true, 6);
			bed_turn(&b, 0);
			if (sample == 0)
				bed_turn(&b, CONFIRM);
		}
	}
	assert_int_equal(bed_fault(&b)->fault, FAULT_STALL_SPINNING);
	assert_int_equal(bed_fault(&b)->rank, 1);
}

/* A sample that shows an evaluation within its time calls it off until that time is over. */
static void test_sampled_phase_postpones(void **unused)
{
	(void)unused;
	up_with_rows(6, 5 * BED_MS);
	bed_phase(&b, 1, PHASE_STEP, PHASE_EVALUATION, BED_S);
	bed_phase(&b, 1, PHASE_EVALUATION, PHASE_STEP, 4 * BED_S);
	bed_turn(&b, 0);
	expect_limit(2 * BED_S);
	bed_sample(&b, 0, 0, false, 6);
	struct record_sample *sample = (struct record_sample *)b.inputs[0];

	sample->phase = PHASE_EVALUATION;
	sample->phase_ns = 2 * BED_S;
	bed_turn(&b, 0);
	expect_limit(38 * BED_S);
	/* The control: beyond its time it does not. */
	bed_sample(&b, 0, 0, false, 6);
	sample = (struct record_sample *)b.inputs[0];
	sample->phase = PHASE_EVALUATION;
	sample->phase_ns = 41 * BED_S;
	bed_turn(&b, 0);
	bed_turn(&b, 5 * BED_S);
	assert_int_equal(bed_decisions(&b, DECISION_SAMPLE), 1);
}

/* While a rank stands stopped the clock stands; what the stop did to a row's duration teaches nothing. */
static void test_stopped_rank_stops_the_clock(void **unused)
{
	(void)unused;
	b.config.stall_stopped_ns = 100 * BED_S;
	up_with_rows(6, 5 * BED_MS);
	bed_stopped(&b, 1, 19);
	bed_turn(&b, 0);
	bed_turn(&b, 99 * BED_S);
	assert_int_equal(b.out.count, 0);
	bed_stopped(&b, 1, 0);
	bed_turn(&b, 0);
	bed_row(&b, 7, 99 * BED_S);
	bed_turn(&b, 0);
	expect_limit(2 * BED_S);
}

static void test_damaged_rank_is_not_blamed(void **unused)
{
	(void)unused;
	up_with_rows(6, 5 * BED_MS);
	struct record_damage *damage = bed_post(&b, RECORD_DAMAGE, sizeof(*damage));

	damage->attempt = 1;
	bed_turn(&b, 0);
	assert_int_equal(b.out.count, 0);
	assert_int_equal(policy_run_state(b.p), RUN_RUNNING);
	expect_limit(2 * BED_S);
	/* Its own last words would make it the one: nobody waits, all have come as far, it did least. */
	for (uint32_t round = 0; round < 2; round++) {
		for (uint32_t rank = 0; rank < 3; rank++)
			bed_sample(&b, rank, rank, false, 6);
		bed_turn(&b, 0);
		if (round == 0)
			bed_turn(&b, CONFIRM);
	}
	assert_int_equal(bed_fault(&b)->rank, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_before_anything_is_known),
	    TEST(test_rows_to_learn),
	    TEST(test_minimum),
	    TEST(test_maximum),
	    TEST(test_window),
	    TEST(test_first_row_of_next_attempt),
	    TEST(test_phases),
	    TEST(test_idle),
	    TEST(test_spinning),
	    TEST(test_progress_calls_it_off),
	    TEST(test_samples_that_do_not_come),
	    cmocka_unit_test(test_blame),
	    TEST(test_blame_of_who_only_says_it_waits),
	    TEST(test_sampled_phase_postpones),
	    TEST(test_stopped_rank_stops_the_clock),
	    TEST(test_damaged_rank_is_not_blamed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
