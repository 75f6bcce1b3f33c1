/* See choose.h. */
#include <string.h>

#include "supervisor/policy/attempt.h"
#include "supervisor/policy/choose.h"
#include "supervisor/policy/decide.h"
#include "supervisor/policy/incident.h"
#include "supervisor/policy/ladder.h"

#define REPORTED_MAX 8u /* bad snapshots that one survey declares */

static void wait_for_answer(struct moment *m)
{
	attempt_enter(m->p, RUN_CHOOSING,
	    after_ns(after_ns(m->now_ns, m->p->config.verify_max_ns), ANSWER_MARGIN_NS));
}

/* Nothing beyond the last good row, nothing from the onset of a fault on, nothing a loop came back from. */
static uint64_t before_step(const struct policy *p)
{
	uint64_t newest = RULE(RULE_ONSET) ? p->good_step : p->last_step;
	uint64_t before = newest == STEP_NONE ? 0 : newest + 1;

	if (RULE(RULE_ONSET))
		before = lesser(before, p->onset_step);
	return lesser(before, p->floor_step);
}

/*
 * Of checkpoints that were kept aside.  A script that reports each tenth step names its checkpoints by other steps,
 * too: up to where the next row would be they are as good as the row before.  One that reports none is bounded by
 * the floor alone.
 */
static uint64_t kept_before(const struct policy *p)
{
	uint64_t before = NEVER;
	uint64_t ahead = p->onset_step == STEP_NONE ? greater(p->stride, 1) : 1;

	if (p->good_step != STEP_NONE && p->good_step < NEVER - ahead)
		before = p->good_step + ahead;
	if (RULE(RULE_ONSET))
		before = lesser(before, p->onset_step);
	return lesser(before, p->floor_step);
}

static struct rung *pick(struct policy *p)
{
	const struct choice *c = &p->choice;
	struct ladder_range range = {.before_step = lesser(c->before_step, c->below_step),
	    .kept_before = lesser(c->kept_before, c->below_step),
	    .above_step = c->memory_step};

	return ladder_pick(p, &range);
}

/* Nothing is left below the floor, but a rung above it is: what did not work once is better than all work lost. */
static bool lift_floor(struct policy *p)
{
	struct choice before = p->choice;
	uint64_t floor_step = p->floor_step;

	if (floor_step == STEP_NONE)
		return false;
	p->floor_step = STEP_NONE;
	p->choice.before_step = before_step(p);
	p->choice.kept_before = kept_before(p);
	p->choice.below_step = STEP_NONE;
	if (pick(p) != NULL)
		return true;
	p->choice = before;
	p->floor_step = floor_step;
	return false;
}

static bool holds(const struct rank *rank, uint64_t step)
{
	for (uint32_t slot = 0; slot < MEMORY_SLOTS; slot++)
		if (rank->memory[slot] == step)
			return true;
	return false;
}

/* The newest step before the limit that every rank holds verified. */
static uint64_t common_step(const struct policy *p)
{
	uint64_t best = STEP_NONE;

	for (uint32_t slot = 0; slot < MEMORY_SLOTS; slot++) {
		uint64_t step = p->ranks[0].memory[slot];
		bool everywhere = step != STEP_NONE && step < p->choice.before_step;

		for (uint32_t i = 1; i < p->rank_count && everywhere && RULE(RULE_EVERYWHERE); i++)
			everywhere = holds(&p->ranks[i], step);
		if (everywhere && step_later(step, best))
			best = step;
	}
	return best;
}

/* The newest rung that memory does not better; when none is left, memory; else from the beginning. */
static void try_next(struct moment *m)
{
	struct policy *p = m->p;
	struct choice *c = &p->choice;
	struct rung *rung = pick(p);

	if (rung == NULL && c->memory_step == STEP_NONE && c->unread == 0 && lift_floor(p))
		rung = pick(p);
	if (rung != NULL && RULE(RULE_VERIFY)) {
		c->stage = CHOOSING_VERIFY;
		c->rung_step = rung->step;
		decide_verify(m, rung);
		wait_for_answer(m);
	} else if (rung != NULL) {
		attempt_start(m, START_FILE, rung->step, rung);
	} else if (c->memory_step != STEP_NONE) {
		attempt_start(m, START_MEMORY, c->memory_step, NULL);
	} else if (c->unread > 0) {
		attempt_wait_for_files(m);
	} else {
		attempt_start(m, START_SCRATCH, STEP_NONE, NULL);
	}
}

void choose_begin(struct moment *m)
{
	struct policy *p = m->p;

	p->choice = (struct choice){.before_step = before_step(p),
	    .kept_before = kept_before(p),
	    .below_step = STEP_NONE,
	    .memory_step = STEP_NONE,
	    .rung_step = STEP_NONE,
	    .stage = CHOOSING_SURVEY};
	if (p->choice.before_step == 0) {
		/* No snapshot can be of use: there is no survey to wait for. */
		try_next(m);
		return;
	}
	for (uint32_t i = 0; i < p->rank_count; i++)
		p->ranks[i].flags &= ~(uint32_t)RANK_FLAG_ANSWERED;
	decide_survey(m);
	wait_for_answer(m);
}

/* A snapshot that fails its digest is reported once; the survey has stepped down by leaving it out. */
static void report_bad(struct moment *m, const struct record_memory *answer)
{
	struct suspicion s = {.time_ns = m->now_ns,
	    .onset_step = answer->bad_step,
	    .fault = FAULT_BAD_SNAPSHOT,
	    .rank = answer->rank};

	if (m->p->choice.reported == REPORTED_MAX || incident_known(m->p, &s))
		return;
	m->p->choice.reported++;
	(void)incident_declare(m, &s, INCIDENT_ASIDE);
}

void choose_on_memory(struct moment *m, const struct record *r)
{
	const struct record_memory *answer = (const struct record_memory *)r;
	struct policy *p = m->p;
	struct rank *rank = &p->ranks[answer->rank];

	if (p->choice.stage != CHOOSING_SURVEY || (rank->flags & RANK_FLAG_ANSWERED) != 0)
		return;
	rank->flags |= RANK_FLAG_ANSWERED;
	memcpy(rank->memory, answer->step, sizeof(rank->memory));
	if (answer->bad_step != STEP_NONE)
		report_bad(m, answer);
	if (++p->choice.answered < p->rank_count)
		return;
	p->choice.memory_step = common_step(p);
	try_next(m);
}

/* The rung cannot be loaded now.  Only one whose bytes are known to be others is bad: a file that is missing or
 * cannot be read may be whole, on a disk that comes back. */
static void refuse_rung(struct moment *m, enum verify_result result)
{
	struct policy *p = m->p;
	struct rung *rung = ladder_find(p, p->choice.rung_step);
	struct suspicion s = {.time_ns = m->now_ns,
	    .onset_step = p->choice.rung_step,
	    .fault = FAULT_BAD_CHECKPOINT,
	    .rank = RANK_NONE,
	    .detail = (int32_t)result,
	    .limit_ns = result == VERIFY_LATE ? p->config.verify_max_ns : 0};

	bool altered = result == VERIFY_SIZE || result == VERIFY_DIGEST;

	(void)incident_declare(m, &s, INCIDENT_ASIDE);
	if (!altered)
		p->choice.unread++;
	if (rung != NULL)
		decide_standing(m, rung, altered ? STANDING_BAD : STANDING_SUSPECT);
	p->choice.below_step = p->choice.rung_step;
	try_next(m);
}

void choose_on_verified(struct moment *m, const struct record *r)
{
	const struct record_verified *answer = (const struct record_verified *)r;
	struct policy *p = m->p;
	struct rung *rung = ladder_find(p, answer->step);

	if (p->choice.stage != CHOOSING_VERIFY || answer->step != p->choice.rung_step)
		return;
	if (answer->result == VERIFY_OK && rung != NULL && rung->standing != STANDING_BAD)
		attempt_start(m, START_FILE, rung->step, rung);
	else
		refuse_rung(m, answer->result != VERIFY_OK ? answer->result : VERIFY_MISSING);
}

void choose_on_time(struct moment *m)
{
	if (m->now_ns < m->p->wait_ns)
		return;
	if (m->p->choice.stage == CHOOSING_SURVEY)
		try_next(m); /* a survey that does not answer counts as an empty memory */
	else
		refuse_rung(m, VERIFY_LATE);
}

void choose_reissue(struct moment *m)
{
	struct policy *p = m->p;
	struct rung *rung = ladder_find(p, p->choice.rung_step);

	if (p->choice.stage == CHOOSING_SURVEY) {
		decide_survey(m);
	} else if (rung != NULL) {
		decide_verify(m, rung);
	} else {
		try_next(m);
		return;
	}
	wait_for_answer(m);
}
