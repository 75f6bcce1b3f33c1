/* See mishap.h. */
#include <stdlib.h>

#include "tests/sim/cohort.h"
#include "tests/sim/ledger.h"
#include "tests/sim/mishap.h"
#include "tests/sim/node.h"
#include "tests/sim/overseer.h"

enum scenario {
	SCENARIO_NORMAL = 0,
	SCENARIO_DOOMED, /* a step that no attempt passes */
	SCENARIO_NEVER,  /* a command that fails before its first step */
	SCENARIO_NO_COMMAND,
	SCENARIO_STUCK, /* a process that cannot be ended */
};

enum kind {
	MISHAP_KILL = 0,
	MISHAP_EXIT,
	MISHAP_CRASH,
	MISHAP_OOM,
	MISHAP_STOP,
	MISHAP_STOP_AGAIN,
	MISHAP_SPIN,
	MISHAP_HANG,
	MISHAP_NAN,
	MISHAP_TEAR,
	MISHAP_ROT,
	MISHAP_POISON,
	MISHAP_OVERSEER,
	MISHAP_BOTH,
	MISHAP_AGENT,
	MISHAP_SPAWN,
	MISHAP_KICK,
	MISHAP_PERSON_STOPS,
	MISHAP_CHECKPOINT,
	MISHAP_DROP,
	MISHAP_DAMAGE,
	MISHAP_COUNT
};

struct mishap {
	enum scenario scenario;
	int32_t code; /* exit code a doomed run has to end with */
	uint32_t left;
	uint64_t pause_ns;       /* the longest time to the next one */
	uint32_t attempt;        /* in which the last one happened */
	uint32_t since_step;     /* that cost an attempt, since the last new step */
	uint32_t costly_attempt; /* in which the last of those happened */
	uint32_t victim;         /* of the first one in victim_attempt, or RANK_NONE */
	uint32_t victim_attempt;
	uint32_t hung; /* attempt in which something hangs */
	uint32_t again_rank;
	bool stop_asked;
};

static void on_mishap(struct world *w, uint64_t a, uint64_t b, void *data);

static void next(struct world *w)
{
	if (w->mishap->left > 0)
		world_after(w, world_between(w, MS, w->mishap->pause_ns), on_mishap, 0, 0, NULL);
}

struct mishap *mishap_new(struct world *w)
{
	struct mishap *h = world_sure(calloc(1, sizeof(*h)));
	uint32_t dice = (uint32_t)world_between(w, 0, 99);

	w->mishap = h;
	h->victim = RANK_NONE;
	h->pause_ns = world_between(w, 50, 5000) * MS;
	h->scenario = dice < 90 ? SCENARIO_NORMAL : (enum scenario)(1 + dice % 4);
	switch (h->scenario) {
	case SCENARIO_DOOMED:
		h->code = (int32_t)world_between(w, 1, 255);
		cohort_doom(w, world_between(w, 2, w->step_count),
		    (uint32_t)world_between(w, 0, w->rank_count - 1), h->code);
		break;
	case SCENARIO_NEVER:
		h->code = (int32_t)world_between(w, 1, 255);
		cohort_doom(w, 0, (uint32_t)world_between(w, 0, w->rank_count - 1), h->code);
		break;
	case SCENARIO_NO_COMMAND:
		h->code = world_chance(w, 50) ? 127 : 126;
		cohort_fail_spawn(w, h->code == 127 ? 2 : 13, true);
		break;
	case SCENARIO_STUCK:
		h->code = 75;
		h->left = 1;
		next(w);
		break;
	case SCENARIO_NORMAL:
		h->left = (uint32_t)world_between(w, 0, 8);
		next(w);
		break;
	}
	return h;
}

void mishap_free(struct mishap *h)
{
	free(h);
}

/* Whether one more failure is within the budget, those that are not noticed yet included. */
static bool affordable(struct world *w)
{
	struct mishap *h = w->mishap;

	/* A new step of the same attempt may have been on its way already when the last one happened. */
	if (ledger_newest_attempt(w->ledger) > h->costly_attempt)
		h->since_step = 0;
	return h->since_step < (ledger_stepped(w->ledger) ? 2u : 1u) && ledger_failures(w->ledger) < 2;
}

static bool harm(struct world *w, enum harm what)
{
	return cohort_harm(w, (uint32_t)world_between(w, 0, w->rank_count - 1), what);
}

static void on_again(struct world *w, uint64_t attempt, uint64_t rank, void *data)
{
	(void)data;
	if (attempt == cohort_attempt(w))
		(void)cohort_harm(w, (uint32_t)rank, HARM_STOP);
}

static bool end_a_rank(struct world *w, enum harm what)
{
	struct mishap *h = w->mishap;
	uint32_t rank = (uint32_t)world_between(w, 0, w->rank_count - 1);
	bool first = cohort_alive_count(w) == w->rank_count;

	if (!cohort_harm(w, rank, what))
		return false;
	if (h->attempt != cohort_attempt(w) && first) {
		h->victim = rank;
		h->victim_attempt = cohort_attempt(w);
	} else if (h->victim_attempt == cohort_attempt(w)) {
		/* Two were harmed: the first may have been noticed after the second was decided on. */
		h->victim = RANK_NONE;
	}
	return true;
}

static bool hang_a_rank(struct world *w, enum harm what)
{
	if (!harm(w, what))
		return false;
	w->mishap->hung = cohort_attempt(w);
	return true;
}

static void crash_overseer(struct world *w)
{
	overseer_crash_at(w, (enum overseer_crash)world_between(w, CRASH_NOW, CRASH_BEFORE_ACK));
}

/* Those that cost an attempt.  False: not possible now. */
static bool happen_costly(struct world *w, enum kind kind)
{
	uint32_t rank = (uint32_t)world_between(w, 0, w->rank_count - 1);

	switch (kind) {
	case MISHAP_KILL:
		return end_a_rank(w, HARM_KILL);
	case MISHAP_EXIT:
		return end_a_rank(w, HARM_EXIT);
	case MISHAP_CRASH:
		return end_a_rank(w, HARM_CRASH);
	case MISHAP_OOM:
		return end_a_rank(w, HARM_OOM);
	case MISHAP_STOP:
		return harm(w, HARM_STOP);
	case MISHAP_STOP_AGAIN:
		if (!cohort_harm(w, rank, HARM_STOP))
			return false;
		world_after(w, world_between(w, S, 2 * S), on_again, cohort_attempt(w), rank, NULL);
		return true;
	case MISHAP_SPIN:
		return hang_a_rank(w, HARM_SPIN);
	case MISHAP_HANG:
		return hang_a_rank(w, HARM_HANG);
	case MISHAP_NAN:
		return harm(w, HARM_NAN);
	case MISHAP_TEAR:
		/* Only while the rank lives: what was verified for a restart is not torn behind its back. */
		if (!end_a_rank(w, HARM_KILL))
			return false;
		(void)cohort_tear(w, rank);
		return true;
	case MISHAP_ROT:
		if (!end_a_rank(w, HARM_KILL))
			return false;
		cohort_rot(w);
		return true;
	case MISHAP_POISON:
		/* It takes the whole budget: two more ends, until the second makes the run step down. */
		if (w->mishap->attempt == cohort_attempt(w) || w->mishap->since_step > 0 ||
		    ledger_failures(w->ledger) > 0 || !ledger_stepped(w->ledger) ||
		    !end_a_rank(w, HARM_KILL))
			return false;
		cohort_poison(w);
		return true;
	case MISHAP_BOTH:
		if (!end_a_rank(w, HARM_KILL))
			return false;
		crash_overseer(w);
		return true;
	case MISHAP_SPAWN:
		if (w->mishap->since_step > 0 || !ledger_stepped(w->ledger) ||
		    !end_a_rank(w, HARM_KILL))
			return false;
		cohort_fail_spawn(w, 11, false);
		return true;
	default:
		return false;
	}
}

static bool happen(struct world *w, enum kind kind)
{
	switch (kind) {
	case MISHAP_OVERSEER:
		if (!overseer_alive(w))
			return false;
		crash_overseer(w);
		return true;
	case MISHAP_AGENT:
		node_die(w);
		return true;
	case MISHAP_KICK:
		overseer_control(w, CONTROL_KICK);
		return true;
	case MISHAP_PERSON_STOPS:
		if (!overseer_alive(w))
			return false;
		w->mishap->stop_asked = true;
		overseer_control(w, CONTROL_STOP);
		return true;
	case MISHAP_CHECKPOINT:
		overseer_control(w, CONTROL_CHECKPOINT);
		return true;
	case MISHAP_DROP:
		return harm(w, HARM_DROP);
	case MISHAP_DAMAGE:
		return harm(w, HARM_DAMAGE);
	default:
		if (!affordable(w) || !happen_costly(w, kind))
			return false;
		w->mishap->costly_attempt = cohort_attempt(w);
		/* A rank that cannot be started costs another attempt behind the one that was killed. */
		w->mishap->since_step += kind == MISHAP_POISON ? 3 : kind == MISHAP_SPAWN ? 2 : 1;
		return true;
	}
}

static void on_mishap(struct world *w, uint64_t a, uint64_t b, void *data)
{
	struct mishap *h = w->mishap;
	enum kind kind = (enum kind)world_between(w, 0, MISHAP_COUNT - 1);

	(void)a;
	(void)b;
	(void)data;
	if (h->scenario == SCENARIO_STUCK) {
		node_get_stuck(w);
		kind = MISHAP_KILL;
	}
	if (node_alive(w) && happen(w, kind)) {
		world_say(w, "mishap %u", (unsigned)kind);
		h->left--;
		h->attempt = cohort_attempt(w);
	}
	next(w);
}

/* Who is blamed is who was harmed; nothing is a stall that does not hang. */
void mishap_on_fault(struct world *w, const struct decision_fault *fault)
{
	const struct mishap *h = w->mishap;

	switch (fault->fault) {
	case FAULT_EXIT:
	case FAULT_SIGNAL:
	case FAULT_OUT_OF_MEMORY:
		if (h->victim != RANK_NONE && fault->attempt == h->victim_attempt &&
		    fault->rank != h->victim)
			world_fail(w, "rank %u is blamed for what happened to rank %u", fault->rank,
			    h->victim);
		break;
	case FAULT_STALL_IDLE:
	case FAULT_STALL_SPINNING:
		if (fault->attempt != h->hung)
			world_fail(w, "attempt %u is ended as stalled, and nothing hangs in it",
			    fault->attempt);
		break;
	default:
		break;
	}
}

bool mishap_goes_on(struct world *w, const struct decision_end *end)
{
	struct mishap *h = w->mishap;

	if (end->reason != END_STOPPED || !h->stop_asked)
		return false;
	h->stop_asked = false;
	return true;
}

void mishap_judge(struct world *w)
{
	static const uint32_t REASONS[] = {[SCENARIO_NORMAL] = END_DONE,
	    [SCENARIO_DOOMED] = END_NO_PROGRESS,
	    [SCENARIO_NEVER] = END_NEVER_STEPPED,
	    [SCENARIO_NO_COMMAND] = END_NEVER_STEPPED,
	    [SCENARIO_STUCK] = END_STUCK};
	const struct mishap *h = w->mishap;
	uint32_t reason = ledger_end_reason(w->ledger);

	/* It may be done before a clearing had a chance to get stuck; the last one is one, too. */
	if (reason != REASONS[h->scenario] && !(h->scenario == SCENARIO_STUCK && reason == END_DONE))
		world_fail(w, "liveness: the run ends for reason %u, not %u", reason,
		    REASONS[h->scenario]);
	else if (reason != END_DONE && ledger_exit_code(w->ledger) != h->code)
		world_fail(
		    w, "the run ends with code %d, not %d", ledger_exit_code(w->ledger), h->code);
	if (reason != END_DONE || w->failed)
		return;
	if (ledger_exit_code(w->ledger) != 0)
		world_fail(w, "a run that is done ends with code %d", ledger_exit_code(w->ledger));
	if (ledger_missing_step(w->ledger) <= w->step_count)
		world_fail(w, "step %llu has no complete row",
		    (unsigned long long)ledger_missing_step(w->ledger));
	if (ledger_unrecovered(w->ledger) != 0)
		world_fail(w, "incident %u is never over", ledger_unrecovered(w->ledger));
	if (!cohort_is_right(w))
		world_fail(w, "the final state is not that of an undisturbed run");
}
