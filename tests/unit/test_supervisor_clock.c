/*
 * Run time goes on across supervisors and reboots and never back; and what a decision needs is kept.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "supervisor/clock.h"
#include "supervisor/keep.h"

#define SECOND_NS 1000000000ull

static struct record_session session_at(uint64_t run_ns)
{
	struct record_session session = {
	    .head.time_ns = run_ns, .wall_ns = clock_wall_ns(), .monotonic_ns = clock_monotonic_ns()};

	clock_boot_id(session.boot_id);
	return session;
}

static uint64_t run_now(const struct record_session *last, uint64_t last_time_ns)
{
	uint64_t offset = clock_run_offset(last, last_time_ns);

	return clock_monotonic_ns() + offset;
}

static void expect_between(uint64_t value, uint64_t low, uint64_t high)
{
	if (value < low || value > high)
		fail_msg("%llu is not in %llu..%llu", (unsigned long long)value,
		    (unsigned long long)low, (unsigned long long)high);
}

static void a_new_run_begins_at_0(void **state)
{
	(void)state;
	expect_between(run_now(NULL, 0), 0, SECOND_NS);
}

static void within_one_boot(void **state)
{
	struct record_session last = session_at(500 * SECOND_NS);

	(void)state;
	expect_between(run_now(&last, 500 * SECOND_NS), 500 * SECOND_NS, 501 * SECOND_NS);
	/* A successor ten seconds of monotonic time later; wall time that was set back means nothing. */
	last.monotonic_ns -= 10 * SECOND_NS;
	last.wall_ns += (int64_t)(3600 * SECOND_NS);
	uint64_t first = clock_run_offset(&last, 505 * SECOND_NS);

	assert_true(first == clock_run_offset(&last, 505 * SECOND_NS)); /* the offset stays */
	assert_true(first == 500 * SECOND_NS - last.monotonic_ns);
	expect_between(run_now(&last, 505 * SECOND_NS), 510 * SECOND_NS, 511 * SECOND_NS);
}

static void across_a_reboot(void **state)
{
	struct record_session last = session_at(500 * SECOND_NS);

	(void)state;
	last.boot_id[3] ^= 1;
	/* Its last turn was at 560, a minute after the session's wall time; that was 100 s ago. */
	last.wall_ns -= (int64_t)(160 * SECOND_NS);
	last.monotonic_ns = 5 * SECOND_NS;
	expect_between(run_now(&last, 560 * SECOND_NS), 659 * SECOND_NS, 662 * SECOND_NS);
	/* A wall clock that went back does not take run time with it. */
	last.wall_ns += (int64_t)(100000 * SECOND_NS);
	expect_between(run_now(&last, 560 * SECOND_NS), 560 * SECOND_NS, 561 * SECOND_NS);
}

static void never_behind_the_last_turn(void **state)
{
	struct record_session last = session_at(500 * SECOND_NS);

	(void)state;
	/* The same boot, yet the journal is ahead of its clock: a suspended or a forged machine. */
	last.monotonic_ns += 50 * SECOND_NS;
	assert_true(run_now(&last, 500 * SECOND_NS) >= 500 * SECOND_NS);
	assert_true(run_now(&last, 900 * SECOND_NS) >= 900 * SECOND_NS);
}

static void the_boot_id_is_read(void **state)
{
	uint8_t a[16], b[16], zeros[16] = {0};

	(void)state;
	clock_boot_id(a);
	clock_boot_id(b);
	assert_memory_equal(a, b, 16);
	assert_memory_not_equal(a, zeros, 16);
}

/* --- keep ------------------------------------------------------------------------------------------------ */

static struct record_rung rung(uint64_t seq, uint64_t step)
{
	return (struct record_rung){
	    .head = {.kind = RECORD_RUNG, .size_bytes = sizeof(struct record_rung), .seq = seq},
	    .step = step};
}

static void kept_and_found(void **state)
{
	struct keep *k = calloc(1, sizeof(*k));
	struct record_saved saved = {
	    .head = {.kind = RECORD_SAVED, .size_bytes = sizeof(saved), .seq = 5}, .step = 100};
	struct record_exit other = {
	    .head = {.kind = RECORD_EXIT, .size_bytes = sizeof(other), .seq = 6}};

	(void)state;
	keep_see(k, &saved.head);
	keep_see(k, &other.head);
	for (uint64_t seq = 10; seq < 20; seq++) {
		struct record_rung r = rung(seq, seq % 2 ? 100 : 200);

		keep_see(k, &r.head);
	}
	assert_int_equal(k->count, 11);
	/* Of what the keeper says, the copies that can be loaded. */
	struct record_kept copy = {.head = {.kind = RECORD_KEPT, .size_bytes = sizeof(copy), .seq = 30},
	    .step = 400,
	    .ordinal = 1};

	keep_see(k, &copy.head);
	copy.flags = KEPT_GONE;
	copy.head.seq = 31;
	keep_see(k, &copy.head);
	copy.flags = 0;
	copy.error = 28;
	copy.head.seq = 32;
	keep_see(k, &copy.head);
	assert_int_equal(k->count, 12);
	assert_int_equal(keep_find(k, RECORD_KEPT, 0, UINT64_MAX, 400)->seq, 30);
	assert_int_equal(keep_find(k, RECORD_SAVED, 5, 5, STEP_NONE)->seq, 5);
	assert_null(keep_find(k, RECORD_EXIT, 0, UINT64_MAX, STEP_NONE));
	assert_int_equal(keep_find(k, RECORD_RUNG, 10, 19, 100)->seq, 11);
	assert_int_equal(keep_find(k, RECORD_RUNG, 12, 19, 100)->seq, 13);
	assert_null(keep_find(k, RECORD_RUNG, 12, 12, 100));
	assert_null(keep_find(k, RECORD_RUNG, 20, UINT64_MAX, STEP_NONE));
	assert_null(keep_find(k, RECORD_RUNG, 0, UINT64_MAX, 300));
	keep_fini(k);
	assert_int_equal(k->count, 0);
	free(k);
}

static void the_oldest_are_forgotten(void **state)
{
	struct keep *k = calloc(1, sizeof(*k));

	(void)state;
	for (uint64_t seq = 1; seq <= 2 * KEEP_MAX + 3; seq++) {
		struct record_rung r = rung(seq, seq);

		keep_see(k, &r.head);
	}
	assert_int_equal(k->count, KEEP_MAX);
	assert_null(keep_find(k, RECORD_RUNG, 0, KEEP_MAX + 3, STEP_NONE));
	assert_int_equal(keep_find(k, RECORD_RUNG, 0, UINT64_MAX, STEP_NONE)->seq, KEEP_MAX + 4);
	assert_int_equal(
	    keep_find(k, RECORD_RUNG, 0, UINT64_MAX, 2 * KEEP_MAX + 3)->seq, 2 * KEEP_MAX + 3);
	keep_fini(k);
	free(k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_new_run_begins_at_0),
	    cmocka_unit_test(within_one_boot),
	    cmocka_unit_test(across_a_reboot),
	    cmocka_unit_test(never_behind_the_last_turn),
	    cmocka_unit_test(the_boot_id_is_read),
	    cmocka_unit_test(kept_and_found),
	    cmocka_unit_test(the_oldest_are_forgotten),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
