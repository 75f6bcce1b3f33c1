/*
 * The run's table, walked whole: every state with every kind of record, sound and not.
 *
 * Nothing crashes, a state is followed only by those that may follow it, what a state has no use for leaves
 * the digest alone, and so does every record of another attempt or of a rank that does not exist (H7).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/policy_bed.h"

#define KINDS 132u
#define SIZE_MAX_BYTES 1024u
#define RANKS 2u

static uint64_t random_state;

static uint64_t next_random(void)
{
	uint64_t z = random_state += 0x9e3779b97f4a7c15ull;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	return z ^ (z >> 27);
}

/* Bring a bed to the state. */
static void reach(struct bed *b, enum run_state state)
{
	bed_init(b, RANKS);
	if (state == RUN_WAITING)
		return;
	if (state == RUN_CLEARING || state == RUN_STARTING) {
		bed_hello(b, 1, 0);
		bed_turn(b, BED_MS);
		if (state == RUN_STARTING) {
			bed_clear(b, 0);
			bed_turn(b, BED_MS);
		}
		return;
	}
	bed_up(b);
	bed_rows(b, 1, 8);
	switch (state) {
	case RUN_STOPPING:
	case RUN_ENDED:
		bed_control(b, CONTROL_STOP);
		bed_turn(b, BED_MS);
		if (state == RUN_STOPPING)
			return;
		bed_control(b, CONTROL_STOP);
		bed_turn(b, BED_MS);
		bed_clear(b, 0);
		bed_turn(b, BED_MS);
		return;
	case RUN_CAPTURING: {
		struct record_crashing *crash = bed_post(b, RECORD_CRASHING, sizeof(*crash));

		crash->attempt = 1;
		crash->signal = 11;
		bed_turn(b, BED_MS);
		return;
	}
	case RUN_CHOOSING:
	case RUN_BACKOFF:
		for (int failure = 0; failure < 3; failure++) {
			bed_exit(b, 0, 1 << 8, false);
			bed_turn(b, BED_MS);
			if (failure < 1 && state == RUN_BACKOFF) {
				bed_restart(b, 8);
				continue;
			}
			bed_clear(b, 0);
			bed_turn(b, BED_MS);
			return;
		}
		return;
	default:
		return;
	}
}

/* Which kinds mean something in a state, besides session, agent, control and a rung's digest. */
static bool meant(enum run_state state, uint32_t kind)
{
	static const uint32_t live[] = {RECORD_CONNECTED, RECORD_PHASE, RECORD_STEP, RECORD_GAP,
	    RECORD_STOPPED, RECORD_DEATH, RECORD_EXIT, RECORD_DAMAGE, RECORD_SAVED, RECORD_STARTED,
	    RECORD_WRITING, RECORD_NO_ROOM, 0};
	static const struct {
		bool live;
		uint32_t own[3];
	} use[RUN_STATE_COUNT] = {[RUN_WAITING] = {false, {RECORD_RUN}},
	    [RUN_CHOOSING] = {false, {RECORD_MEMORY, RECORD_VERIFIED}},
	    [RUN_STARTING] = {true, {RECORD_SPAWN, RECORD_CRASHING}},
	    [RUN_RUNNING] = {true, {RECORD_CRASHING, RECORD_SAMPLE}},
	    [RUN_STOPPING] = {true, {0}},
	    [RUN_CAPTURING] = {true, {RECORD_EVIDENCE}},
	    [RUN_CLEARING] = {true, {RECORD_CLEAR}}};

	if (kind == RECORD_SESSION || kind == RECORD_AGENT || kind == RECORD_CONTROL ||
	    kind == RECORD_RUNG || kind == RECORD_KEPT)
		return true;
	for (uint32_t i = 0; i < 3; i++)
		if (use[state].own[i] == kind)
			return true;
	for (uint32_t i = 0; use[state].live && live[i] != 0; i++)
		if (live[i] == kind)
			return true;
	return false;
}

#define TO(state) (1u << (state))
static const uint32_t FOLLOWS[RUN_STATE_COUNT] = {
    [RUN_WAITING] = TO(RUN_CLEARING),
    [RUN_CHOOSING] = TO(RUN_STARTING) | TO(RUN_CLEARING),
    [RUN_BACKOFF] = TO(RUN_CHOOSING) | TO(RUN_STARTING) | TO(RUN_CLEARING),
    [RUN_STARTING] = TO(RUN_RUNNING) | TO(RUN_CLEARING) | TO(RUN_CAPTURING),
    [RUN_RUNNING] = TO(RUN_STOPPING) | TO(RUN_CAPTURING) | TO(RUN_CLEARING),
    [RUN_STOPPING] = TO(RUN_CLEARING),
    [RUN_CAPTURING] = TO(RUN_CLEARING),
    [RUN_CLEARING] = TO(RUN_ENDED) | TO(RUN_BACKOFF) | TO(RUN_CHOOSING) | TO(RUN_STARTING),
    [RUN_ENDED] = TO(RUN_CLEARING),
};

static const uint32_t NO_SUBJECT[] = {RECORD_RUN, RECORD_SESSION, RECORD_AGENT, RECORD_RUNG,
    RECORD_CONTROL, RECORD_TROUBLE, RECORD_KEPT, 0};

static bool has_subject(uint32_t kind)
{
	for (uint32_t i = 0; NO_SUBJECT[i] != 0; i++)
		if (NO_SUBJECT[i] == kind)
			return false;
	return kind != 0 && kind <= RECORD_INPUT_LAST;
}

enum flavour { SOUND = 0, OTHER_ATTEMPT, NO_SUCH_RANK, FLAVOURS };

/* Noise with a head, and a subject that fits the flavour. */
static struct record *noise(struct bed *b, uint32_t kind, enum flavour flavour)
{
	struct record *r = bed_post(b, (uint16_t)kind, SIZE_MAX_BYTES);
	uint32_t attempt = policy_attempt(b->p), *words = (uint32_t *)(r + 1);

	for (uint32_t i = 0; i < (SIZE_MAX_BYTES - sizeof(*r)) / 4; i++)
		words[i] = (uint32_t)next_random() % (next_random() % 4 == 0 ? UINT32_MAX : 6);
	if (kind == RECORD_MEMORY || kind == RECORD_VERIFIED)
		attempt++;
	if (flavour == OTHER_ATTEMPT)
		attempt += next_random() % 2 == 0 ? UINT32_MAX : 1;
	words[0] = flavour == NO_SUCH_RANK ? RANKS + (uint32_t)next_random() % 99
					   : (uint32_t)next_random() % RANKS;
	words[1] = attempt;
	if (kind == RECORD_VERIFIED || kind == RECORD_WRITING)
		words[0] = attempt;
	if (kind == RECORD_STEP) {
		((struct record_step *)r)->role = 0;
		((struct record_step *)r)->rank_count = RANKS;
	}
	if (kind == RECORD_RUN)
		((struct record_run *)r)->config = b->config;
	if (kind == RECORD_SESSION)
		((struct record_session *)r)->config = b->config;
	return r;
}

static void one(enum run_state state, uint32_t kind, enum flavour flavour)
{
	struct bed b;
	uint64_t before;
	enum run_state after;

	reach(&b, state);
	assert_int_equal(policy_run_state(b.p), state);
	/* The number of the message itself is state: taken out of what is compared. */
	noise(&b, kind, flavour)->source_seq = 0;
	before = policy_digest(b.p);
	bed_turn(&b, 0);
	after = policy_run_state(b.p);
	if (after != state && (FOLLOWS[state] & TO(after)) == 0)
		fail_msg("kind %u: %s is followed by %s", kind, policy_run_state_name(state),
		    policy_run_state_name(after));
	if (!meant(state, kind) || (flavour != SOUND && has_subject(kind))) {
		bool no_rank = kind == RECORD_STEP || kind == RECORD_CLEAR ||
		    kind == RECORD_VERIFIED || kind == RECORD_WRITING;

		if (flavour != NO_SUCH_RANK || !no_rank || !meant(state, kind)) {
			if (policy_digest(b.p) != before || b.out.count > 0)
				fail_msg("kind %u changes %s (flavour %u)", kind,
				    policy_run_state_name(state), flavour);
		}
	}
	bed_fini(&b);
}

static void test_whole_table(void **unused)
{
	(void)unused;
	for (uint32_t state = 0; state < RUN_STATE_COUNT; state++)
		for (uint32_t kind = 0; kind < KINDS; kind++)
			for (uint32_t round = 0; round < 8; round++)
				one((enum run_state)state, kind, (enum flavour)(round % FLAVOURS));
}

/* Every state but those two waits for something, and says until when. */
static void test_deadlines(void **unused)
{
	(void)unused;
	for (uint32_t state = 0; state < RUN_STATE_COUNT; state++) {
		struct bed b;

		reach(&b, (enum run_state)state);
		if (state == RUN_WAITING || state == RUN_ENDED) {
			assert_int_equal(policy_deadline_ns(b.p), UINT64_MAX);
		} else {
			assert_true(policy_deadline_ns(b.p) > b.now_ns);
			assert_true(bed_wait(&b, 3600 * BED_S));
			assert_true(b.out.count > 0);
		}
		bed_fini(&b);
	}
}

/*
 * A supervisor dies in each state.  The agent of before is told again what the state waits for, for it may not
 * have heard it; with another agent the attempt is dead, and nothing starts before that is proven (H6).
 */
static void test_successor(void **unused)
{
	static const uint16_t said[RUN_STATE_COUNT] = {[RUN_CHOOSING] = DECISION_SURVEY,
	    [RUN_STARTING] = DECISION_START,
	    [RUN_STOPPING] = DECISION_ASK,
	    [RUN_CAPTURING] = DECISION_CAPTURE,
	    [RUN_CLEARING] = DECISION_CLEAR,
	    [RUN_ENDED] = DECISION_END};

	(void)unused;
	for (uint32_t state = RUN_CHOOSING; state < RUN_STATE_COUNT; state++)
		for (uint8_t agent = 1; agent <= 2; agent++) {
			struct bed b;

			reach(&b, (enum run_state)state);
			bed_session(&b);
			bed_turn(&b, BED_MS);
			assert_int_equal(policy_deadline_ns(b.p), UINT64_MAX);
			/* However long it took, nobody's silence in the meantime means anything. */
			bed_hello(&b, agent, agent == 1 ? policy_attempt(b.p) : 0);
			bed_turn(&b, state == RUN_BACKOFF ? BED_MS : 3000 * BED_S);
			if (agent == 2) {
				assert_int_equal(policy_run_state(b.p), RUN_CLEARING);
				assert_int_equal(bed_decisions(&b, DECISION_CLEAR), 1);
				assert_null(bed_decision(&b, DECISION_START, 0));
			} else if (state == RUN_STOPPING) {
				/* Its grace goes on while the supervisor is away. */
				assert_int_equal(policy_run_state(b.p), RUN_CLEARING);
				assert_int_equal(bed_decisions(&b, DECISION_ASK), 1);
			} else {
				assert_int_equal(policy_run_state(b.p), state);
				assert_int_equal(b.out.count, said[state] != 0 ? 1 : 0);
				if (said[state] != 0)
					assert_non_null(bed_decision(&b, said[state], 0));
			}
			bed_fini(&b);
		}
}

/* A message that was seen is dropped whatever it says, and so is a report that is in the journal. */
static void test_duplicates(void **unused)
{
	struct bed b;
	uint64_t before;

	(void)unused;
	bed_init(&b, RANKS);
	bed_up(&b);
	bed_rows(&b, 1, 5);
	bed_stopped(&b, 0, 19);
	bed_turn(&b, BED_MS);
	before = policy_digest(b.p);
	bed_stopped(&b, 0, 0);
	b.inputs[0]->source_seq = b.source_seq - 1;
	b.source_seq--;
	bed_turn(&b, BED_MS);
	assert_int_equal(policy_digest(b.p), before);
	b.ring_seq[0]--;
	b.ring_seq[1]--;
	bed_row(&b, 9, BED_S);
	bed_turn(&b, BED_MS);
	assert_int_equal(policy_digest(b.p), before);
	assert_int_equal(policy_last_step(b.p), 5);
	/* The control: the same row with numbers of its own counts. */
	bed_row(&b, 9, BED_S);
	bed_turn(&b, BED_MS);
	assert_int_equal(policy_last_step(b.p), 9);
	bed_fini(&b);
}

int main(void)
{
	const char *seed = getenv("HOLDFAST_SEED");
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_whole_table),
	    cmocka_unit_test(test_deadlines),
	    cmocka_unit_test(test_successor),
	    cmocka_unit_test(test_duplicates),
	};

	random_state = seed != NULL ? strtoull(seed, NULL, 10) : 1;
	printf("HOLDFAST_SEED=%llu\n", (unsigned long long)random_state);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
