/* See ladder.h. */
#include <string.h>

#include "supervisor/policy/decide.h"
#include "supervisor/policy/ladder.h"

/* shard_count 0: the place is free. */
static bool rung_used(const struct rung *rung)
{
	return rung->shard_count != 0;
}

struct rung *ladder_find(struct policy *p, uint64_t step)
{
	for (uint32_t i = 0; i < POLICY_RUNGS; i++)
		if (rung_used(&p->rungs[i]) && p->rungs[i].step == step)
			return &p->rungs[i];
	return NULL;
}

/* The state after this step comes out of an attempt that had gone wrong before it. */
static bool distrusted(const struct policy *p, uint64_t step, uint32_t attempt)
{
	return p->onset_step != STEP_NONE && step >= p->onset_step && attempt <= p->onset_attempt;
}

/* A free place, or that of the oldest announcement that the agent has not heard of: newer ones matter more. */
static struct pending *pending_place(struct policy *p)
{
	struct pending *oldest = NULL;

	for (uint32_t i = 0; i < POLICY_PENDING; i++) {
		struct pending *at = &p->pending[i];

		if (at->saved_seq == 0)
			return at;
		if (at->issued == 0 && (oldest == NULL || at->saved_seq < oldest->saved_seq))
			oldest = at;
	}
	return oldest;
}

void ladder_on_saved(struct moment *m, const struct record_saved *saved)
{
	struct policy *p = m->p;
	struct rung *rung = ladder_find(p, saved->step);
	struct pending *place;

	if (saved->shard_count == 0 || saved->step == STEP_NONE)
		return;
	/* The copy of that step that was kept is not touched by it. */
	if (rung != NULL && rung->ordinal != 0)
		return;
	/* Another shard of the same writing adds to the rung; anything else replaces it. */
	if (rung != NULL && (rung->attempt != saved->attempt || rung->standing != STANDING_NONE)) {
		decide_standing(m, rung, STANDING_NONE);
		*rung = (struct rung){0};
	}
	for (uint32_t i = 0; i < POLICY_PENDING; i++) {
		struct pending *at = &p->pending[i];

		if (at->saved_seq != 0 && at->step == saved->step &&
		    (at->attempt != saved->attempt ||
			(at->rank == saved->rank && at->shard_count == 1)))
			*at = (struct pending){0};
	}
	if (distrusted(p, saved->step, saved->attempt))
		return;
	place = pending_place(p);
	assert(place != NULL); /* fewer are under way than there are places */
	*place = (struct pending){.saved_seq = saved->head.seq,
	    .step = saved->step,
	    .attempt = saved->attempt,
	    .rank = saved->rank,
	    .shard_count = saved->shard_count};
}

void ladder_issue(struct moment *m, bool again)
{
	struct policy *p = m->p;
	uint32_t under_way = 0;

	for (uint32_t i = 0; i < POLICY_PENDING; i++) {
		if (p->pending[i].saved_seq == 0 || p->pending[i].issued == 0)
			continue;
		under_way++;
		if (again && RULE(RULE_REISSUE))
			decide_digest(m, &p->pending[i]);
	}
	while (under_way < POLICY_UNDER_WAY) {
		struct pending *oldest = NULL;

		for (uint32_t i = 0; i < POLICY_PENDING; i++) {
			struct pending *at = &p->pending[i];

			if (at->saved_seq != 0 && at->issued == 0 &&
			    (oldest == NULL || at->saved_seq < oldest->saved_seq))
				oldest = at;
		}
		if (oldest == NULL)
			return;
		oldest->issued = 1;
		decide_digest(m, oldest);
		under_way++;
	}
}

/* A free place, or that of the oldest rung. */
static struct rung *free_place(struct policy *p)
{
	struct rung *rung = &p->rungs[p->rung_next];

	for (uint32_t i = 0; i < POLICY_RUNGS; i++)
		if (!rung_used(&p->rungs[i]))
			return &p->rungs[i];
	p->rung_next = (p->rung_next + 1) % POLICY_RUNGS;
	return rung;
}

static struct rung *rung_place(struct policy *p, const struct pending *asked)
{
	struct rung *rung = ladder_find(p, asked->step);

	if (rung != NULL && rung->attempt == asked->attempt && rung->shard_count == asked->shard_count)
		return rung;
	if (rung == NULL)
		rung = free_place(p);
	*rung = (struct rung){.step = asked->step,
	    .clean_step = asked->step,
	    .attempt = asked->attempt,
	    .shard_count = asked->shard_count};
	return rung;
}

void ladder_on_rung(struct moment *m, const struct record_rung *answer)
{
	struct policy *p = m->p;
	struct pending *asked = NULL;
	struct rung *rung;

	for (uint32_t i = 0; i < POLICY_PENDING; i++)
		if (p->pending[i].saved_seq == answer->saved_seq && p->pending[i].issued != 0)
			asked = &p->pending[i];
	if (asked == NULL || asked->step != answer->step)
		return;
	rung = ladder_find(p, asked->step);
	/* A later attempt wrote that file again in the meantime: this digest is of nothing that still is. */
	if (rung != NULL && (rung->attempt > asked->attempt || rung->ordinal != 0)) {
		*asked = (struct pending){0};
		return;
	}
	rung = rung_place(p, asked);
	*asked = (struct pending){0};
	if (rung->shards == 0)
		rung->first_seq = answer->head.seq;
	rung->last_seq = answer->head.seq;
	rung->shards++;
	if (answer->error != 0 || answer->finite == 0)
		rung->spoilt = 1;
	if (rung->spoilt != 0)
		decide_standing(m, rung, STANDING_BAD);
	else if (rung->shards == rung->shard_count)
		decide_standing(m, rung, STANDING_CANDIDATE);
}

/* --- kept checkpoints --------------------------------------------------------------------------------- */

static struct rung *find_kept(struct policy *p, uint64_t ordinal)
{
	for (uint32_t i = 0; i < POLICY_RUNGS; i++)
		if (rung_used(&p->rungs[i]) && p->rungs[i].ordinal == ordinal)
			return &p->rungs[i];
	return NULL;
}

static uint64_t mark_of(const struct record_kept *kept)
{
	uint64_t mark;

	memcpy(&mark, kept->digest, sizeof(mark));
	return mark;
}

static bool mark_known(const struct policy *p, uint64_t mark)
{
	for (uint32_t i = 0; i < POLICY_RUNGS; i++)
		if (p->rungs[i].ordinal != 0 && p->rungs[i].mark == mark)
			return true;
	return false;
}

/* Its attempt may have died while it wrote this, and the file's format does not tell a whole one from a torn one. */
static bool maybe_torn(const struct policy *p, const struct record_kept *kept)
{
	return RULE(RULE_TORN) && (kept->flags & KEPT_UNCHECKED) != 0 &&
	    (kept->attempt != p->attempt || p->dead_count != p->finished_count);
}

/* One that says nothing about the run's own state, or about which step it is of, is no rung. */
static bool of_use(const struct policy *p, const struct record_kept *kept)
{
	return kept->error == 0 && kept->ordinal != 0 && kept->step != STEP_NONE &&
	    (kept->flags & KEPT_FOREIGN) == 0 &&
	    ((kept->flags & KEPT_ORDINAL) == 0 || p->last_step == STEP_NONE) &&
	    !maybe_torn(p, kept) && !distrusted(p, kept->step, kept->attempt);
}

static void remove_kept(struct moment *m, uint64_t ordinal)
{
	struct rung *rung = find_kept(m->p, ordinal);

	if (ordinal == 0 || rung == NULL)
		return;
	decide_standing(m, rung, STANDING_NONE);
	*rung = (struct rung){0};
}

bool ladder_on_kept(struct moment *m, const struct record_kept *kept)
{
	struct policy *p = m->p;
	bool another = !mark_known(p, mark_of(kept));
	struct rung *rung;

	if ((kept->flags & KEPT_GONE) != 0) {
		remove_kept(m, kept->ordinal);
		return false;
	}
	if (!of_use(p, kept) || find_kept(p, kept->ordinal) != NULL || !decide_has_room(m))
		return false;
	rung = ladder_find(p, kept->step);
	/* What is whole is not given up for what is known to be bad. */
	if (rung != NULL && kept->finite == 0 && rung->standing != STANDING_BAD)
		return false;
	if (rung != NULL)
		decide_standing(m, rung, STANDING_NONE);
	else
		rung = free_place(p);
	*rung = (struct rung){.step = kept->step,
	    .ordinal = kept->ordinal,
	    .mark = mark_of(kept),
	    .first_seq = kept->head.seq,
	    .last_seq = kept->head.seq,
	    .clean_step = kept->step,
	    .attempt = kept->attempt,
	    .shard_count = 1,
	    .shards = 1,
	    .spoilt = kept->finite == 0};
	decide_standing(m, rung, rung->spoilt != 0 ? STANDING_BAD : STANDING_CANDIDATE);
	return another && rung->spoilt == 0;
}

void ladder_on_later_kept(struct moment *m, uint64_t step)
{
	struct policy *p = m->p;

	for (uint32_t i = 0; i < POLICY_RUNGS; i++) {
		struct rung *rung = &p->rungs[i];

		if (rung_used(rung) && rung->step < step &&
		    (rung->standing == STANDING_CANDIDATE || rung->standing == STANDING_SUSPECT))
			decide_standing(m, rung, STANDING_GOOD);
	}
}

void ladder_protected(
    const struct policy *p, uint64_t verified_step, uint64_t ordinals[POLICY_PROTECTED])
{
	const struct rung *good = NULL, *next = NULL;

	for (uint32_t i = 0; i < POLICY_RUNGS; i++) {
		const struct rung *rung = &p->rungs[i];

		if (rung->ordinal != 0 && rung->standing == STANDING_GOOD &&
		    (good == NULL || rung->step > good->step))
			good = rung;
	}
	for (uint32_t i = 0; i < POLICY_RUNGS; i++) {
		const struct rung *rung = &p->rungs[i];

		if (rung->ordinal == 0)
			continue;
		if ((rung->standing == STANDING_CANDIDATE || rung->standing == STANDING_SUSPECT) &&
		    (good == NULL || rung->step > good->step) &&
		    (next == NULL || rung->step < next->step))
			next = rung;
	}
	for (uint32_t i = 0; i < POLICY_RUNGS && verified_step != STEP_NONE; i++) {
		const struct rung *rung = &p->rungs[i];

		if (rung->ordinal != 0 && rung->step == verified_step &&
		    (good == NULL || rung->step < good->step))
			good = rung;
	}
	ordinals[0] = good != NULL ? good->ordinal : 0;
	ordinals[1] = next != NULL ? next->ordinal : 0;
}

/* --- trust -------------------------------------------------------------------------------------------- */

void ladder_on_clean_row(struct moment *m, uint64_t step)
{
	struct policy *p = m->p;

	for (uint32_t i = 0; i < POLICY_RUNGS; i++) {
		struct rung *rung = &p->rungs[i];

		if (!rung_used(rung) || step <= rung->clean_step ||
		    (rung->standing != STANDING_CANDIDATE && rung->standing != STANDING_SUSPECT))
			continue;
		rung->clean_step = step;
		if (++rung->clean >= p->config.clean_steps)
			decide_standing(m, rung, STANDING_GOOD);
	}
}

void ladder_distrust(struct moment *m, uint64_t onset_step)
{
	struct policy *p = m->p;

	for (uint32_t i = 0; i < POLICY_PENDING; i++)
		if (p->pending[i].saved_seq != 0 && p->pending[i].step >= onset_step)
			p->pending[i] = (struct pending){0};
	for (uint32_t i = 0; i < POLICY_RUNGS; i++) {
		struct rung *rung = &p->rungs[i];

		if (!rung_used(rung))
			continue;
		rung->clean = 0;
		rung->clean_step = rung->step;
		if (rung->step >= onset_step && RULE(RULE_ONSET))
			decide_standing(m, rung, STANDING_BAD);
	}
}

void ladder_suspect_loaded(struct moment *m)
{
	struct policy *p = m->p;
	struct rung *rung;

	if (p->start.source != START_FILE || p->clean >= p->config.clean_steps)
		return;
	rung = ladder_find(p, p->start.step);
	if (rung == NULL || rung->standing == STANDING_BAD || rung->standing == STANDING_NONE)
		return;
	rung->clean = 0;
	rung->clean_step = rung->step;
	decide_standing(m, rung, STANDING_SUSPECT);
}

struct rung *ladder_pick(struct policy *p, const struct ladder_range *range)
{
	struct rung *best = NULL;

	for (uint32_t i = 0; i < POLICY_RUNGS; i++) {
		struct rung *rung = &p->rungs[i];

		if (!rung_used(rung) || rung->standing == STANDING_NONE ||
		    rung->standing == STANDING_BAD ||
		    rung->step >= (rung->ordinal != 0 ? range->kept_before : range->before_step) ||
		    !step_later(rung->step, range->above_step))
			continue;
		if (best == NULL || rung->step > best->step)
			best = rung;
	}
	return best;
}
