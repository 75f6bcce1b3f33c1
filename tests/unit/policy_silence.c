/*
 * Stalls of trainers that do not speak to us: what counts as a sign of life, how long there may be none, how that is
 * learned, and who is blamed.  Each limit is passed by a moment, and kept by a moment.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/policy_bed.h"

#define MINUTE (60 * BED_S)
#define HOUR (60 * MINUTE)

static struct bed b;
static const struct bed_pace idle[2] = {0};
static const struct bed_pace busy[2] = {{900, 0}, {900, 0}};
static const struct bed_pace prints[2] = {{900, 50}, {900, 0}};
/* Rank 1 waits for rank 0 without using its core, or the other way round. */
static const struct bed_pace one_computes[2] = {{900, 0}, {0, 0}};

static int setup(void **unused)
{
	(void)unused;
	bed_init(&b, 2);
	b.unaided = true;
	bed_up(&b);
	return 0;
}

static int teardown(void **unused)
{
	(void)unused;
	bed_fini(&b);
	return 0;
}

/* Idle from now on: a fault comes after the limit, and within a fifth of it beyond, and a moment. */
static const struct decision_fault *expect_idle_fault(uint64_t limit_ns)
{
	uint64_t since_ns = b.now_ns;
	const struct decision_fault *fault = bed_live(&b, 10 * limit_ns, idle);

	assert_non_null(fault);
	assert_int_equal(fault->fault, FAULT_STALL_IDLE);
	assert_int_equal(fault->limit_ns, limit_ns);
	assert_in_range(b.now_ns - since_ns, limit_ns, limit_ns / 5 * 6 + 10 * BED_S);
	assert_in_range(fault->onset_ns, since_ns, since_ns + limit_ns / 10 + 10 * BED_S);
	return fault;
}

static void rows(uint64_t from, uint64_t to, uint64_t duration_ns)
{
	for (uint64_t step = from; step <= to; step++) {
		bed_row(&b, step, duration_ns);
		bed_turn(&b, duration_ns);
	}
}

static void test_never_printed(void **unused)
{
	(void)unused;
	expect_idle_fault(b.config.stall_first_ns);
}

static void test_printed(void **unused)
{
	(void)unused;
	assert_null(bed_live(&b, HOUR, prints));
	expect_idle_fault(b.config.stall_silent_ns);
}

/* Who has only begun to print may still wait for others to come. */
static void test_printed_little(void **unused)
{
	(void)unused;
	assert_null(bed_live(&b, 150 * BED_S, prints));
	expect_idle_fault(b.config.stall_first_ns);
}

/* What never showed a step may have none to show. */
static void test_computes_for_days(void **unused)
{
	(void)unused;
	assert_null(bed_live(&b, 48 * HOUR, busy));
	assert_true(b.seq < 20000); /* records; the journal of two days grows by 2 MB */
	assert_null(bed_live(&b, HOUR, prints));
	assert_null(bed_live(&b, 48 * HOUR, busy));
	expect_idle_fault(b.config.stall_silent_ns);
}

/* One rank that computes is life, whoever else waits for it. */
static void test_one_computes(void **unused)
{
	(void)unused;
	assert_null(bed_live(&b, HOUR, prints));
	assert_null(bed_live(&b, 12 * HOUR, one_computes));
	const struct decision_fault *fault = expect_idle_fault(b.config.stall_silent_ns);

	assert_int_equal(fault->rank, RANK_NONE);
}

/* Threads that only look at a clock are not work; a hundredth of a core is. */
static void test_hundredth(void **unused)
{
	static const struct bed_pace little[2] = {{9, 0}, {9, 0}}, enough[2] = {{9, 0}, {11, 0}};

	(void)unused;
	assert_null(bed_live(&b, HOUR, prints));
	assert_null(bed_live(&b, 2 * HOUR, enough));
	assert_non_null(bed_live(&b, 2 * HOUR, little));
}

/* An idle time that came to an end by itself may come again, and be several times as long. */
static void test_learns(void **unused)
{
	(void)unused;
	assert_null(bed_live(&b, HOUR, prints));
	assert_null(bed_live(&b, 5 * MINUTE, idle));
	assert_null(bed_live(&b, HOUR, prints));
	assert_null(bed_live(&b, 20 * MINUTE, idle));
	assert_null(bed_live(&b, HOUR, prints));
	expect_idle_fault(b.config.stall_max_ns);
}

/* A limit that was passed is looked at once more, and what comes just then counts. */
static void test_at_the_last_moment(void **unused)
{
	uint64_t took_ns;

	assert_null(bed_live(&b, HOUR, prints));
	took_ns = b.now_ns;
	expect_idle_fault(b.config.stall_silent_ns);
	took_ns = b.now_ns - took_ns;
	bed_fini(&b);
	setup(unused);
	assert_null(bed_live(&b, HOUR, prints));
	assert_null(bed_live(&b, took_ns - 6 * BED_S, idle));
	assert_in_range(policy_deadline_ns(b.p) - b.now_ns, 0, 2 * BED_S); /* the look before */
	assert_null(bed_live(&b, 5 * BED_S, idle));
	assert_null(bed_live(&b, HOUR, prints));
}

/* What a fault ended, or a stop by a signal was, is no rhythm. */
static void test_does_not_learn_from_faults(void **unused)
{
	(void)unused;
	assert_null(bed_live(&b, HOUR, prints));
	expect_idle_fault(b.config.stall_silent_ns);
	for (uint32_t rank = 0; rank < 2; rank++) {
		struct record_evidence *evidence = bed_post(&b, RECORD_EVIDENCE, sizeof(*evidence));

		evidence->rank = rank;
		evidence->attempt = 1;
		evidence->incident = 1;
		evidence->evidence_kind = EVIDENCE_STACKS;
	}
	bed_turn(&b, BED_MS);
	bed_restart(&b, STEP_NONE);
	memset(b.output_bytes, 0, sizeof(b.output_bytes));
	memset(b.cpu_ns, 0, sizeof(b.cpu_ns));
	assert_null(bed_live(&b, HOUR, prints));
	b.config.stall_stopped_ns = HOUR;
	bed_session(&b);
	bed_hello(&b, 1, 2);
	bed_turn(&b, BED_MS);
	assert_null(bed_live(&b, 5 * MINUTE, idle));
	bed_stopped(&b, 1, 19);
	bed_turn(&b, BED_MS);
	assert_null(bed_live(&b, 30 * MINUTE, idle));
	bed_stopped(&b, 1, 0);
	bed_turn(&b, BED_MS);
	assert_null(bed_live(&b, HOUR, prints));
	expect_idle_fault(b.config.stall_silent_ns);
}

/* Where steps are read out of the output, silence is rarer: a tenth of the time, or ten times the longest step. */
static void test_steps(void **unused)
{
	(void)unused;
	rows(1, 10, BED_S);
	expect_idle_fault(b.config.stall_silent_ns / 10);
}

static void test_long_steps(void **unused)
{
	(void)unused;
	rows(1, 10, MINUTE);
	expect_idle_fault(10 * MINUTE);
}

/* An evaluation that prints nothing computes; one that takes very long is a fault at last. */
static void test_steps_spinning(void **unused)
{
	(void)unused;
	rows(1, 10, BED_S);
	assert_null(bed_live(&b, 59 * MINUTE, busy));
	rows(11, 20, BED_S);
	assert_null(bed_live(&b, 59 * MINUTE, busy));
	const struct decision_fault *fault = bed_live(&b, 3 * MINUTE, busy);

	assert_non_null(fault);
	assert_int_equal(fault->fault, FAULT_STALL_SPINNING);
	assert_int_equal(fault->rank, RANK_NONE);
	assert_int_equal(fault->limit_ns, HOUR);
}

/* The others spin until rank 1 comes: it is the one. */
static void test_steps_one_idle(void **unused)
{
	(void)unused;
	rows(1, 10, BED_S);
	assert_null(bed_live(&b, 59 * MINUTE, one_computes));
	const struct decision_fault *fault = bed_live(&b, 3 * MINUTE, one_computes);

	assert_non_null(fault);
	assert_int_equal(fault->fault, FAULT_STALL_IDLE);
	assert_int_equal(fault->rank, 1);
}

/* A progress bar of an evaluation goes on: nobody knows better. */
static void test_steps_then_output(void **unused)
{
	(void)unused;
	rows(1, 10, BED_S);
	assert_null(bed_live(&b, 5 * HOUR, prints));
	expect_idle_fault(b.config.stall_silent_ns / 10);
}

/* The output told of an evaluation: it has the time of one. */
static void test_hinted_phase(void **unused)
{
	(void)unused;
	rows(1, 10, BED_S);
	bed_phase(&b, 0, PHASE_STEP, PHASE_EVALUATION, BED_S);
	bed_turn(&b, 0);
	expect_idle_fault(b.config.stall_first_ns);
}

/* A rank that opens its channel is gone by other rules from then on. */
static void test_aided(void **unused)
{
	(void)unused;
	assert_null(bed_live(&b, HOUR, prints));
	bed_connected(&b, 0);
	bed_turn(&b, BED_MS);
	for (uint64_t step = 1; step <= 10; step++) {
		bed_row(&b, step, BED_MS);
		bed_turn(&b, BED_MS);
	}
	bed_turn(&b, b.config.stall_min_ns - 1);
	assert_int_equal(b.out.count, 0);
	bed_turn(&b, 1);
	assert_int_equal(bed_decisions(&b, DECISION_SAMPLE), 1);
}

/* Who does not answer is asked again, and is not taken for idle. */
static void test_no_samples(void **unused)
{
	(void)unused;
	for (uint32_t i = 0; i < 10000; i++) {
		assert_true(bed_wait(&b, HOUR));
		assert_int_equal(bed_decisions(&b, DECISION_FAULT), 0);
		assert_int_equal(bed_decisions(&b, DECISION_SAMPLE), 1);
	}
	assert_true(b.now_ns > 5 * HOUR);
}

/* CPU time goes back when a process ends that its parent does not wait for. */
static void test_cpu_goes_back(void **unused)
{
	(void)unused;
	assert_null(bed_live(&b, HOUR, prints));
	for (uint32_t i = 0; i < 20; i++) {
		assert_null(bed_live(&b, 5 * MINUTE, idle));
		b.cpu_ns[0] -= BED_S;
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_never_printed),
	    TEST(test_printed),
	    TEST(test_printed_little),
	    TEST(test_computes_for_days),
	    TEST(test_one_computes),
	    TEST(test_hundredth),
	    TEST(test_learns),
	    TEST(test_at_the_last_moment),
	    TEST(test_does_not_learn_from_faults),
	    TEST(test_steps),
	    TEST(test_long_steps),
	    TEST(test_steps_spinning),
	    TEST(test_steps_one_idle),
	    TEST(test_steps_then_output),
	    TEST(test_hinted_phase),
	    TEST(test_aided),
	    TEST(test_no_samples),
	    TEST(test_cpu_goes_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
