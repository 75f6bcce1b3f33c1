/*
 * Faults: what each is called, who is blamed, what follows, and what the run ends with when nothing helps.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/policy_bed.h"

#define EXIT_STATUS(code) ((code) << 8)

static struct bed b;

static int setup(void **unused)
{
	(void)unused;
	bed_init(&b, 2);
	return 0;
}

static int teardown(void **unused)
{
	(void)unused;
	bed_fini(&b);
	return 0;
}

static void expect(enum run_state state)
{
	assert_string_equal(
	    policy_run_state_name(policy_run_state(b.p)), policy_run_state_name(state));
}

static const struct decision_end *ended(void)
{
	const struct decision_end *end = bed_decision(&b, DECISION_END, 0);

	assert_non_null(end);
	expect(RUN_ENDED);
	assert_int_equal(policy_exit_code(b.p), end->exit_code);
	return end;
}

/* From nothing to the end of a run without trouble. */
static void test_undisturbed(void **unused)
{
	(void)unused;
	expect(RUN_WAITING);
	bed_hello(&b, 1, 0);
	bed_turn(&b, BED_MS);
	assert_non_null(bed_decision(&b, DECISION_CLEAR, 0)); /* before the first start, too (H6) */
	assert_null(bed_decision(&b, DECISION_START, 0));
	bed_clear(&b, 0);
	bed_turn(&b, BED_MS);
	const struct decision_start *start = bed_decision(&b, DECISION_START, 0);

	assert_non_null(start);
	assert_int_equal(start->attempt, 1);
	assert_int_equal(start->source, START_SCRATCH);
	assert_int_equal(start->incident, 0);
	bed_started(&b, 0);
	bed_turn(&b, BED_MS);
	expect(RUN_STARTING);
	bed_started(&b, 1);
	bed_turn(&b, BED_MS);
	expect(RUN_RUNNING);
	bed_connected(&b, 0);
	bed_connected(&b, 1);
	bed_rows(&b, 1, 10);
	assert_int_equal(policy_last_step(b.p), 10);
	bed_exit(&b, 0, 0, false);
	bed_turn(&b, BED_MS);
	expect(RUN_RUNNING);
	bed_death(&b, 1, true, 0, b.now_ns);
	bed_turn(&b, BED_MS);
	expect(RUN_RUNNING); /* not reaped yet */
	bed_exit(&b, 1, 0, false);
	bed_turn(&b, BED_MS);
	expect(RUN_CLEARING);
	bed_clear(&b, 0);
	bed_turn(&b, BED_MS);
	assert_int_equal(ended()->reason, END_DONE);
	assert_int_equal(policy_exit_code(b.p), 0);
	/* Said again to whoever asks. */
	bed_session(&b);
	bed_hello(&b, 2, 0);
	bed_turn(&b, BED_MS);
	assert_int_equal(ended()->reason, END_DONE);
}

static void test_exit(void **unused)
{
	(void)unused;
	bed_up(&b);
	bed_rows(&b, 1, 3);
	bed_death(&b, 1, true, EXIT_STATUS(7), b.now_ns);
	bed_turn(&b, BED_MS);
	const struct decision_fault *fault = bed_fault(&b);

	assert_int_equal(fault->fault, FAULT_EXIT);
	assert_int_equal(fault->rank, 1);
	assert_int_equal(fault->detail, 7);
	assert_int_equal(fault->incident, 1);
	assert_int_equal(fault->step, 3);
	assert_true(fault->onset_step == STEP_NONE);
	const struct decision_capture *tail = bed_decision(&b, DECISION_CAPTURE, 0);

	assert_int_equal(tail->evidence_kind, EVIDENCE_TAIL);
	assert_int_equal(tail->rank, 1);
	expect(RUN_CLEARING);
	/* Later deaths are consequences. */
	bed_exit(&b, 0, 9, false);
	bed_exit(&b, 1, EXIT_STATUS(7), false);
	bed_turn(&b, BED_MS);
	assert_int_equal(b.out.count, 0);
	bed_restart(&b, 3);
	bed_row(&b, 4, 100 * BED_MS);
	bed_turn(&b, BED_MS);
	const struct decision_recovered *over = bed_decision(&b, DECISION_RECOVERED, 0);

	assert_non_null(over);
	assert_int_equal(over->incident, 1);
	assert_int_equal(over->attempt, 2);
	assert_int_equal(over->step, 4);
	assert_int_equal(over->redone_steps, 0);
}

/* A row of the attempt that failed, still on its way, recovers nothing; rows done again do not either. */
static void test_recovered_by_new_step_only(void **unused)
{
	(void)unused;
	bed_up(&b);
	bed_rows(&b, 1, 3);
	bed_death(&b, 1, true, EXIT_STATUS(7), b.now_ns);
	bed_row(&b, 4, 100 * BED_MS);
	bed_turn(&b, BED_MS);
	assert_int_equal(bed_fault(&b)->step, 4);
	assert_null(bed_decision(&b, DECISION_RECOVERED, 0));
	bed_rows(&b, 5, 5);
	assert_int_equal(policy_last_step(b.p), 5);
	assert_null(bed_decision(&b, DECISION_RECOVERED, 0));
	bed_restart(&b, 3);
	bed_rows(&b, 4, 5);
	assert_null(bed_decision(&b, DECISION_RECOVERED, 0));
	bed_rows(&b, 6, 6);
	assert_int_equal(
	    ((const struct decision_recovered *)bed_decision(&b, DECISION_RECOVERED, 0))->redone_steps,
	    2);
}

/* Who died first is blamed, whoever was noticed first. */
static void test_first_death(void **unused)
{
	(void)unused;
	bed_up(&b);
	bed_rows(&b, 1, 3);
	bed_death(&b, 0, true, EXIT_STATUS(1), b.now_ns + 2000);
	bed_death(&b, 1, true, 9, b.now_ns + 1000);
	bed_turn(&b, BED_MS);
	assert_int_equal(bed_fault(&b)->rank, 1);
	assert_int_equal(bed_fault(&b)->fault, FAULT_SIGNAL);
	assert_int_equal(bed_fault(&b)->detail, 9);
}

/* A death whose status is not known yet comes before a later one whose status is. */
static void test_first_death_unknown(void **unused)
{
	(void)unused;
	bed_up(&b);
	bed_rows(&b, 1, 3);
	bed_death(&b, 1, false, 0, b.now_ns);
	bed_turn(&b, BED_MS);
	assert_int_equal(b.out.count, 0);
	bed_death(&b, 0, true, EXIT_STATUS(1), b.now_ns);
	bed_turn(&b, BED_MS);
	assert_int_equal(b.out.count, 0);
	bed_exit(&b, 1, 9, true);
	bed_turn(&b, BED_MS);
	assert_int_equal(bed_fault(&b)->rank, 1);
	assert_int_equal(bed_fault(&b)->fault, FAULT_OUT_OF_MEMORY);
}

/* The first notice of a death may say it already; it is not waited for. */
static void test_death_out_of_memory(void **unused)
{
	(void)unused;
	bed_up(&b);
	bed_rows(&b, 1, 3);
	bed_death_oom(&b, 1);
	bed_turn(&b, BED_MS);
	assert_int_equal(bed_fault(&b)->rank, 1);
	assert_int_equal(bed_fault(&b)->fault, FAULT_OUT_OF_MEMORY);
}

static void test_unknown_death_has_a_deadline(void **unused)
{
	(void)unused;
	bed_up(&b);
	bed_rows(&b, 1, 3);
	bed_death(&b, 1, false, 0, b.now_ns);
	bed_turn(&b, BED_MS);
	while (bed_decision(&b, DECISION_FAULT, 0) == NULL)
		assert_true(bed_wait(&b, 11 * BED_S));
	assert_int_equal(bed_fault(&b)->rank, 1);
	assert_int_equal(bed_fault(&b)->fault, FAULT_SIGNAL);
	assert_int_equal(bed_fault(&b)->detail, 0);
}

/* An unknown death that turns out to be a good end is none; the crash behind it counts. */
static void test_unknown_death_was_good(void **unused)
{
	(void)unused;
	bed_up(&b);
	bed_rows(&b, 1, 3);
	bed_death(&b, 1, false, 0, b.now_ns);
	bed_death(&b, 0, true, EXIT_STATUS(4), b.now_ns + 5);
	bed_turn(&b, BED_MS);
	assert_int_equal(b.out.count, 0);
	bed_exit(&b, 1, 0, false);
	bed_turn(&b, BED_MS);
	assert_int_equal(bed_fault(&b)->rank, 0);
	assert_int_equal(bed_fault(&b)->detail, 4);
}

static void post_crash(uint32_t rank)
{
	struct record_crashing *crash = bed_post(&b, RECORD_CRASHING, sizeof(*crash));

	crash->rank = rank;
	crash->attempt = policy_attempt(b.p);
	crash->signal = 11;
}

/* The stacks of a crashing rank are taken while it waits, and it is not ended before (H9). */
static void test_crash(void **unused)
{
	(void)unused;
	bed_up(&b);
	bed_rows(&b, 1, 3);
	post_crash(1);
	bed_turn(&b, BED_MS);
	assert_int_equal(bed_fault(&b)->fault, FAULT_SIGNAL);
	assert_int_equal(bed_fault(&b)->detail, 11);
	const struct decision_capture *capture = bed_decision(&b, DECISION_CAPTURE, 0);

	assert_int_equal(capture->evidence_kind, EVIDENCE_STACKS);
	assert_int_equal(capture->incident, 1);
	assert_null(bed_decision(&b, DECISION_CLEAR, 0));
	expect(RUN_CAPTURING);
	struct record_evidence *evidence = bed_post(&b, RECORD_EVIDENCE, sizeof(*evidence));

	evidence->rank = 1;
	evidence->attempt = 1;
	evidence->incident = 1;
	evidence->evidence_kind = EVIDENCE_STACKS;
	bed_turn(&b, BED_MS);
	assert_non_null(bed_decision(&b, DECISION_CLEAR, 0));
	expect(RUN_CLEARING);
}

/* A death before the crash that turns out to be a good end: the crash is the fault, its stacks are still there. */
static void test_crash_behind_a_good_end(void **unused)
{
	(void)unused;
	bed_up(&b);
	bed_rows(&b, 1, 3);
	bed_death(&b, 1, false, 0, b.now_ns);
	bed_turn(&b, BED_MS);
	post_crash(0);
	bed_turn(&b, BED_MS);
	assert_int_equal(b.out.count, 0);
	bed_exit(&b, 1, 0, false);
	bed_turn(&b, BED_MS);
	assert_int_equal(bed_fault(&b)->fault, FAULT_SIGNAL);
	assert_int_equal(bed_fault(&b)->rank, 0);
	expect(RUN_CAPTURING);
}

/* A crash after a death that was the cause is a consequence. */
static void test_crash_behind_a_death(void **unused)
{
	(void)unused;
	bed_up(&b);
	bed_rows(&b, 1, 3);
	bed_death(&b, 1, false, 0, b.now_ns);
	bed_turn(&b, BED_MS);
	post_crash(0);
	bed_turn(&b, BED_MS);
	bed_exit(&b, 1, 9, false);
	bed_turn(&b, BED_MS);
	assert_int_equal(bed_fault(&b)->rank, 1);
	assert_int_equal(bed_fault(&b)->detail, 9);
}

static void test_capture_ends_with_death_or_deadline(void **unused)
{
	(void)unused;
	bed_up(&b);
	bed_rows(&b, 1, 3);
	post_crash(1);
	bed_turn(&b, BED_MS);
	bed_death(&b, 1, true, 11, b.now_ns);
	bed_turn(&b, BED_MS);
	expect(RUN_CLEARING);
	bed_restart(&b, 3);
	post_crash(0);
	bed_turn(&b, BED_MS);
	expect(RUN_CAPTURING);
	uint64_t since_ns = b.now_ns;

	assert_true(bed_wait(&b, 60 * BED_S));
	expect(RUN_CLEARING);
	assert_in_range(
	    b.now_ns - since_ns, b.config.capture_max_ns, b.config.capture_max_ns + 3 * BED_S);
}

static void test_not_finite(void **unused)
{
	(void)unused;
	bed_up(&b);
	bed_rows(&b, 1, 3);
	bed_row_nan(&b, 4, 1);
	bed_turn(&b, BED_MS);
	assert_int_equal(bed_fault(&b)->fault, FAULT_NOT_FINITE);
	assert_int_equal(bed_fault(&b)->rank, 1);
	assert_int_equal(bed_fault(&b)->onset_step, 4);
	assert_int_equal(policy_last_step(b.p), 4);
	bed_row(&b, 5, 100 * BED_MS);
	bed_turn(&b, BED_MS);
	bed_clear(&b, 0);
	bed_turn(&b, BED_MS);
	const struct decision_survey *survey = bed_decision(&b, DECISION_SURVEY, 0);

	assert_int_equal(survey->before_step, 4);
}

static void post_spawn(enum spawn_stage stage, int32_t error)
{
	struct record_spawn *spawn = bed_post(&b, RECORD_SPAWN, sizeof(*spawn));

	spawn->attempt = policy_attempt(b.p);
	spawn->stage = stage;
	spawn->error = error;
}

static int32_t code_of_spawn(enum spawn_stage stage, int32_t error)
{
	setup(NULL);
	bed_hello(&b, 1, 0);
	bed_turn(&b, BED_MS);
	for (uint32_t attempt = 1; attempt <= b.config.tries_first_max; attempt++) {
		bed_clear(&b, 0);
		bed_turn(&b, BED_MS);
		expect(RUN_STARTING);
		post_spawn(stage, error);
		bed_turn(&b, BED_MS);
		assert_int_equal(bed_fault(&b)->fault, FAULT_SPAWN);
	}
	bed_clear(&b, 0);
	bed_turn(&b, BED_MS);
	int32_t code = ended()->exit_code;

	assert_int_equal(ended()->reason, END_NEVER_STEPPED);
	bed_fini(&b);
	return code;
}

static void test_spawn_codes(void **unused)
{
	(void)unused;
	assert_int_equal(code_of_spawn(SPAWN_EXEC, 2), 127);
	assert_int_equal(code_of_spawn(SPAWN_EXEC, 13), 126);
	assert_int_equal(code_of_spawn(SPAWN_FORK, 11), 75);
}

/* Fail an attempt that has come to RUNNING. */
static void fail_with(int32_t wait_status)
{
	bed_exit(&b, 0, wait_status, false);
	bed_turn(&b, BED_MS);
	expect(RUN_CLEARING);
}

/* tries_max restarts without a new step; the waits between them double. */
static void test_budget_and_backoff(void **unused)
{
	static const uint64_t waits[] = {0, BED_S, 2 * BED_S, 4 * BED_S, 4 * BED_S};

	(void)unused;
	b.config.tries_max = 5;
	b.config.backoff_max_ns = 4 * BED_S;
	bed_up(&b);
	bed_rows(&b, 1, 5);
	for (uint32_t i = 0; i < 5; i++) {
		fail_with(9 - (int32_t)i % 2); /* not the same fingerprint each time */
		bed_clear(&b, 0);
		bed_turn(&b, BED_MS);
		uint64_t since_ns = b.now_ns;

		if (waits[i] > 0) {
			expect(RUN_BACKOFF);
			assert_true(bed_wait(&b, 60 * BED_S));
		}
		assert_int_equal(b.now_ns - since_ns, waits[i]);
		if (policy_run_state(b.p) == RUN_CHOOSING) {
			bed_memory(&b, 0, STEP_NONE, STEP_NONE, STEP_NONE);
			bed_memory(&b, 1, STEP_NONE, STEP_NONE, STEP_NONE);
			bed_turn(&b, BED_MS);
		}
		bed_started(&b, 0);
		bed_started(&b, 1);
		bed_turn(&b, BED_MS);
	}
	fail_with(9);
	bed_clear(&b, 0);
	bed_turn(&b, BED_MS);
	assert_int_equal(ended()->reason, END_NO_PROGRESS);
	assert_int_equal(policy_exit_code(b.p), 137);
}

/* Progress gives the budget back. */
static void test_progress_resets_budget(void **unused)
{
	(void)unused;
	bed_up(&b);
	bed_rows(&b, 1, 1);
	for (uint64_t step = 2; step < 20; step++) {
		fail_with(9);
		bed_restart(&b, step - 1);
		bed_rows(&b, step, step);
		expect(RUN_RUNNING);
	}
	/* The control: rows done again are none. */
	for (uint32_t i = 0; i < b.config.tries_max; i++) {
		fail_with(9);
		bed_restart(&b, 18);
		bed_rows(&b, 19, 19);
	}
	fail_with(EXIT_STATUS(3));
	bed_clear(&b, 0);
	bed_turn(&b, BED_MS);
	assert_int_equal(ended()->reason, END_NO_PROGRESS);
	assert_int_equal(policy_exit_code(b.p), 3);
}

static void test_never_stepped(void **unused)
{
	(void)unused;
	bed_up(&b);
	fail_with(EXIT_STATUS(2));
	bed_restart(&b, STEP_NONE);
	fail_with(EXIT_STATUS(2));
	bed_clear(&b, 0);
	bed_turn(&b, BED_MS);
	assert_int_equal(ended()->reason, END_NEVER_STEPPED);
	assert_int_equal(policy_exit_code(b.p), 2);
	/* The command is run again: it is open again, with its budget. */
	bed_session(&b);
	bed_hello(&b, 2, 0);
	bed_turn(&b, BED_MS);
	expect(RUN_CLEARING);
	assert_int_equal(policy_exit_code(b.p), -1);
}

static void test_kick_is_free(void **unused)
{
	(void)unused;
	bed_up(&b);
	bed_rows(&b, 1, 3);
	for (uint32_t i = 0; i < 10; i++) {
		bed_control(&b, CONTROL_KICK);
		bed_turn(&b, BED_MS);
		assert_int_equal(bed_fault(&b)->fault, FAULT_KICK);
		bed_restart(&b, 3);
	}
	expect(RUN_RUNNING);
}

static void test_stuck(void **unused)
{
	(void)unused;
	bed_up(&b);
	fail_with(9);
	bed_clear(&b, 1);
	bed_turn(&b, BED_MS);
	assert_int_equal(ended()->reason, END_STUCK);
	assert_int_equal(policy_exit_code(b.p), 75);
}

static void test_clear_has_a_deadline(void **unused)
{
	(void)unused;
	bed_up(&b);
	fail_with(9);
	uint64_t since_ns = b.now_ns;

	assert_true(bed_wait(&b, 600 * BED_S));
	assert_int_equal(ended()->reason, END_STUCK);
	assert_in_range(b.now_ns - since_ns, b.config.clear_max_ns, b.config.clear_max_ns + 3 * BED_S);
}

/* Grace, then the end; ranks without a channel are asked by a signal. */
static void test_stop(void **unused)
{
	(void)unused;
	bed_hello(&b, 1, 0);
	bed_turn(&b, BED_MS);
	bed_clear(&b, 0);
	bed_turn(&b, BED_MS);
	bed_started(&b, 0);
	bed_started(&b, 1);
	bed_connected(&b, 0);
	bed_turn(&b, BED_MS);
	bed_control(&b, CONTROL_STOP);
	bed_turn(&b, BED_MS);
	expect(RUN_STOPPING);
	const struct decision_kill *kill = bed_decision(&b, DECISION_KILL, 0);

	assert_non_null(bed_decision(&b, DECISION_ASK, 0));
	assert_int_equal(bed_decisions(&b, DECISION_KILL), 1);
	assert_int_equal(kill->rank, 1);
	assert_int_equal(kill->signal, 15);
	uint64_t since_ns = b.now_ns;

	bed_exit(&b, 1, 15, false);
	bed_turn(&b, BED_MS);
	assert_int_equal(bed_decisions(&b, DECISION_FAULT), 0);
	assert_true(bed_wait(&b, 600 * BED_S));
	assert_int_equal(b.now_ns - since_ns, b.config.stop_grace_ns);
	expect(RUN_CLEARING);
	bed_clear(&b, 0);
	bed_turn(&b, BED_MS);
	assert_int_equal(ended()->reason, END_STOPPED);
	assert_int_equal(policy_exit_code(b.p), 143);
}

static void test_stop_in_good_order(void **unused)
{
	(void)unused;
	bed_up(&b);
	bed_rows(&b, 1, 2);
	bed_control(&b, CONTROL_STOP);
	bed_turn(&b, BED_MS);
	assert_int_equal(bed_decisions(&b, DECISION_KILL), 0);
	bed_exit(&b, 0, 0, false);
	bed_exit(&b, 1, 0, false);
	bed_turn(&b, BED_MS);
	expect(RUN_CLEARING);
	bed_clear(&b, 0);
	bed_turn(&b, BED_MS);
	assert_int_equal(ended()->reason, END_STOPPED);
	/* A supervisor that died before it could say so says it again; only a new agent goes on. */
	bed_session(&b);
	bed_hello(&b, 1, 0);
	bed_turn(&b, BED_MS);
	assert_int_equal(ended()->reason, END_STOPPED);
	bed_session(&b);
	bed_hello(&b, 2, 0);
	bed_turn(&b, BED_MS);
	expect(RUN_CLEARING);
}

/* A start answers the fault that made it necessary, not one that was recovered from long ago. */
static void test_cause_of_a_start(void **unused)
{
	const struct decision_start *start;

	(void)unused;
	bed_up(&b);
	bed_rows(&b, 1, 3);
	fail_with(9);
	bed_clear(&b, 0);
	bed_turn(&b, BED_MS);
	bed_memory(&b, 0, 3, 2, STEP_NONE);
	bed_memory(&b, 1, 3, 2, STEP_NONE);
	bed_turn(&b, BED_MS);
	start = bed_decision(&b, DECISION_START, 0);
	assert_non_null(start);
	assert_int_equal(start->incident, 1); /* control */
	for (uint32_t rank = 0; rank < 2; rank++)
		bed_started(&b, rank);
	memset(b.ring_seq, 0, sizeof(b.ring_seq));
	bed_turn(&b, BED_MS);
	bed_rows(&b, 4, 4);
	bed_control(&b, CONTROL_STOP);
	bed_turn(&b, BED_MS);
	bed_exit(&b, 0, 0, false);
	bed_exit(&b, 1, 0, false);
	bed_turn(&b, BED_MS);
	bed_clear(&b, 0);
	bed_turn(&b, BED_MS);
	assert_int_equal(ended()->reason, END_STOPPED);
	bed_session(&b);
	bed_hello(&b, 2, 0);
	bed_turn(&b, BED_MS);
	bed_clear(&b, 0);
	bed_turn(&b, BED_MS);
	bed_memory(&b, 0, STEP_NONE, STEP_NONE, STEP_NONE);
	bed_memory(&b, 1, STEP_NONE, STEP_NONE, STEP_NONE);
	bed_turn(&b, BED_MS);
	start = bed_decision(&b, DECISION_START, 0);
	assert_non_null(start);
	assert_int_equal(start->incident, 0);
}

/* Passed on to all ranks while there are any, also while they save; never more than a turn's decisions hold. */
static void test_user_signals(void **unused)
{
	const struct decision_kill *kill;

	(void)unused;
	bed_hello(&b, 1, 0);
	bed_control(&b, CONTROL_USR1);
	bed_turn(&b, BED_MS);
	assert_int_equal(bed_decisions(&b, DECISION_KILL), 0);
	bed_fini(&b);
	setup(NULL);
	bed_up(&b);
	bed_control(&b, CONTROL_USR1);
	bed_control(&b, CONTROL_USR2);
	bed_turn(&b, BED_MS);
	assert_int_equal(bed_decisions(&b, DECISION_KILL), 2);
	for (uint32_t i = 0; i < 2; i++) {
		kill = bed_decision(&b, DECISION_KILL, i);
		assert_int_equal(kill->rank, RANK_NONE);
		assert_int_equal(kill->signal, i == 0 ? 10 : 12);
	}
	bed_control(&b, CONTROL_STOP);
	bed_turn(&b, BED_MS);
	for (uint32_t i = 0; i < 400; i++)
		bed_control(&b, CONTROL_USR1);
	bed_turn(&b, BED_MS);
	assert_in_range(bed_decisions(&b, DECISION_KILL), 1, 16);
	expect(RUN_STOPPING);
}

static void test_checkpoint_asked_once_a_turn(void **unused)
{
	(void)unused;
	bed_up(&b);
	bed_control(&b, CONTROL_CHECKPOINT);
	bed_control(&b, CONTROL_CHECKPOINT);
	bed_turn(&b, BED_MS);
	assert_int_equal(bed_decisions(&b, DECISION_ASK), 1);
}

/* A rank is stopped: just before the grace nothing, then SIGCONT; the second time a restart. */
static void test_stopped(void **unused)
{
	(void)unused;
	bed_up(&b);
	bed_rows(&b, 1, 5);
	bed_stopped(&b, 1, 19);
	bed_turn(&b, 0);
	bed_turn(&b, b.config.stall_stopped_ns - 1);
	assert_int_equal(b.out.count, 0);
	bed_turn(&b, 1);
	assert_int_equal(bed_fault(&b)->fault, FAULT_STOPPED);
	assert_int_equal(bed_fault(&b)->detail, 19);
	const struct decision_kill *kill = bed_decision(&b, DECISION_KILL, 0);

	assert_int_equal(kill->signal, 18);
	assert_int_equal(kill->rank, 1);
	expect(RUN_RUNNING);
	bed_stopped(&b, 1, 0);
	bed_turn(&b, BED_MS);
	bed_row(&b, 6, 700 * BED_MS);
	bed_turn(&b, BED_MS);
	assert_non_null(bed_decision(&b, DECISION_RECOVERED, 0));
	bed_stopped(&b, 1, 19);
	bed_turn(&b, 0);
	bed_turn(&b, b.config.stall_stopped_ns);
	assert_int_equal(bed_fault(&b)->fault, FAULT_STOPPED);
	assert_int_equal(bed_decisions(&b, DECISION_KILL), 0);
	expect(RUN_CAPTURING);
}

static void test_stopped_again_later_is_continued_again(void **unused)
{
	(void)unused;
	bed_up(&b);
	bed_rows(&b, 1, 5);
	for (uint64_t round = 0; round < 3; round++) {
		bed_stopped(&b, 1, 19);
		bed_turn(&b, 0);
		bed_turn(&b, b.config.stall_stopped_ns);
		assert_int_equal(bed_decisions(&b, DECISION_KILL), 1);
		bed_stopped(&b, 1, 0);
		bed_turn(&b, BED_MS);
		bed_rows(&b, 6 + round * 5, 10 + round * 5);
	}
	expect(RUN_RUNNING);
}

/* The supervisor dies: the agent of before is told again what it waits for. */
static void test_reissue(void **unused)
{
	(void)unused;
	bed_hello(&b, 1, 0);
	bed_turn(&b, BED_MS);
	bed_clear(&b, 0);
	bed_turn(&b, BED_MS);
	bed_session(&b);
	bed_turn(&b, BED_MS);
	assert_int_equal(policy_deadline_ns(b.p), UINT64_MAX); /* nobody to ask, nothing to wait for */
	bed_hello(&b, 1, 0);
	bed_turn(&b, 7200 * BED_S);
	assert_int_equal(
	    ((const struct decision_start *)bed_decision(&b, DECISION_START, 0))->attempt, 1);
	assert_int_equal(bed_decisions(&b, DECISION_FAULT), 0);
	assert_true(policy_deadline_ns(b.p) > b.now_ns);
}

static void test_agent_lost(void **unused)
{
	(void)unused;
	bed_up(&b);
	bed_rows(&b, 1, 3);
	bed_session(&b);
	bed_hello(&b, 2, 0);
	bed_turn(&b, BED_S);
	assert_int_equal(bed_fault(&b)->fault, FAULT_AGENT_LOST);
	assert_int_equal(bed_fault(&b)->rank, RANK_NONE);
	assert_non_null(bed_decision(&b, DECISION_CLEAR, 0));
	assert_int_equal(policy_source_seq(b.p, (uint8_t[16]){1}), 0);
	bed_restart(&b, 3);
	bed_rows(&b, 4, 4);
	assert_non_null(bed_decision(&b, DECISION_RECOVERED, 0));
}

/* An attempt that a journal in trouble never learned of: its number is not given twice. */
static void test_attempt_ahead(void **unused)
{
	(void)unused;
	bed_up(&b);
	bed_rows(&b, 1, 3);
	bed_session(&b);
	bed_hello(&b, 1, 4);
	bed_turn(&b, BED_S);
	assert_int_equal(
	    ((const struct decision_clear *)bed_decision(&b, DECISION_CLEAR, 0))->attempt, 4);
	bed_restart(&b, 3);
	assert_int_equal(policy_attempt(b.p), 5);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_undisturbed),
	    TEST(test_exit),
	    TEST(test_recovered_by_new_step_only),
	    TEST(test_first_death),
	    TEST(test_first_death_unknown),
	    TEST(test_death_out_of_memory),
	    TEST(test_unknown_death_has_a_deadline),
	    TEST(test_unknown_death_was_good),
	    TEST(test_crash),
	    TEST(test_crash_behind_a_good_end),
	    TEST(test_crash_behind_a_death),
	    TEST(test_capture_ends_with_death_or_deadline),
	    TEST(test_not_finite),
	    cmocka_unit_test(test_spawn_codes),
	    TEST(test_budget_and_backoff),
	    TEST(test_progress_resets_budget),
	    TEST(test_never_stepped),
	    TEST(test_kick_is_free),
	    TEST(test_stuck),
	    TEST(test_clear_has_a_deadline),
	    TEST(test_stop),
	    TEST(test_stop_in_good_order),
	    TEST(test_cause_of_a_start),
	    TEST(test_user_signals),
	    TEST(test_checkpoint_asked_once_a_turn),
	    TEST(test_stopped),
	    TEST(test_stopped_again_later_is_continued_again),
	    TEST(test_reissue),
	    TEST(test_agent_lost),
	    TEST(test_attempt_ahead),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
