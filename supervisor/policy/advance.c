/* See advance.h. */
#include "supervisor/policy/advance.h"
#include "supervisor/policy/budget.h"
#include "supervisor/policy/incident.h"
#include "supervisor/policy/ladder.h"
#include "supervisor/policy/ranks.h"
#include "supervisor/policy/stall.h"

/* What the cells of a row say together. */
struct reading_of_row {
	bool fresh;          /* it holds a report that was not seen before */
	bool complete;       /* every rank that reports at all is in it */
	uint32_t not_finite; /* the lowest rank that reported a NaN or an infinity, or RANK_NONE */
};

/* A rank that runs without our library, or is done, is not missed. */
static bool missed(const struct policy *p, uint32_t rank)
{
	const struct rank *at = &p->ranks[rank];

	if (ranks_alive(p, rank))
		return (at->flags & RANK_FLAG_CONNECTED) != 0;
	return (at->flags & RANK_FLAG_STATUS) == 0 || at->wait_status != 0;
}

static struct reading_of_row read_row(struct policy *p, const struct record_step *row)
{
	const struct rank_cell *cells = (const struct rank_cell *)(row + 1);
	struct reading_of_row reading = {
	    .complete = (row->flags & STEP_PARTIAL) == 0, .not_finite = RANK_NONE};

	for (uint32_t rank = 0; rank < p->rank_count; rank++) {
		if ((cells[rank].flags & CELL_PRESENT) == 0) {
			if (missed(p, rank))
				reading.complete = false;
			continue;
		}
		if (ranks_take(p, rank, cells[rank].ring_seq))
			reading.fresh = true;
		if ((cells[rank].flags & CELL_NOT_FINITE) != 0 && reading.not_finite == RANK_NONE)
			reading.not_finite = rank;
	}
	if ((row->flags & STEP_NOT_FINITE) != 0 && reading.not_finite == RANK_NONE)
		reading.not_finite = 0;
	return reading;
}

/* From this step on, nothing that this attempt made is to be trusted. */
static void on_not_finite(struct moment *m, const struct record_step *row, uint32_t rank)
{
	struct policy *p = m->p;
	struct suspicion s = {.time_ns = row->head.time_ns,
	    .onset_step = row->step,
	    .fault = FAULT_NOT_FINITE,
	    .rank = rank,
	    .code = 1};

	if (p->onset_step == STEP_NONE || row->step < p->onset_step || p->onset_attempt != p->attempt) {
		p->onset_step = lesser(p->onset_step, row->step);
		p->onset_attempt = p->attempt;
		ladder_distrust(m, p->onset_step);
	}
	if (p->state == RUN_STARTING || p->state == RUN_RUNNING)
		incident_suspect(m, &s);
}

/* A complete row that is finite and whose attempt was sound up to it; previous: the attempt's row before, or none. */
static void on_clean(struct moment *m, const struct record_step *row, uint64_t previous)
{
	struct policy *p = m->p;
	bool fresh = step_later(row->step, p->good_step);

	if (p->onset_step != STEP_NONE && row->step >= p->onset_step) {
		if (p->attempt <= p->onset_attempt)
			return;
		/* The step that had gone wrong was done again, well. */
		p->onset_step = STEP_NONE;
	}
	if (fresh) {
		p->good_step = row->step;
		p->floor_step = STEP_NONE;
		p->cause = 0; /* what this attempt answers is over: a later start is not for its sake */
		budget_reset(p);
	}
	if (previous != STEP_NONE && row->step > previous)
		p->stride = row->step - previous;
	p->clean++;
	ranks_on_row(p);
	stall_learn_row(p, row, previous == STEP_NONE);
	ladder_on_clean_row(m, row->step);
	incident_on_row(m, row->step, fresh);
}

void advance_on_row(struct moment *m, const struct record *r)
{
	const struct record_step *row = (const struct record_step *)r;
	struct policy *p = m->p;
	uint64_t previous = p->attempt_step;
	struct reading_of_row reading;

	if (row->role != 0 || row->rank_count != p->rank_count || row->step == STEP_NONE)
		return;
	reading = read_row(p, row);
	if (!reading.fresh)
		return;
	stall_on_progress(m);
	p->attempt_step = row->step;
	if (reading.complete) {
		if (step_later(row->step, p->last_step))
			p->last_step = row->step;
		else
			p->redone++;
	}
	if (reading.not_finite != RANK_NONE)
		on_not_finite(m, row, reading.not_finite);
	else if (reading.complete)
		on_clean(m, row, previous);
}

void advance_on_saved(struct moment *m, const struct record *r)
{
	const struct record_saved *saved = (const struct record_saved *)r;

	if (!ranks_take(m->p, saved->rank, saved->ring_seq))
		return;
	stall_on_progress(m);
	ladder_on_saved(m, saved);
}

void advance_on_writing(struct moment *m, const struct record *r)
{
	(void)r;
	stall_on_writing(m);
}

/* Where nothing ever reported a step, a checkpoint that is another one than before is what progress is. */
static void on_kept_progress(struct moment *m, const struct record_kept *kept)
{
	struct policy *p = m->p;

	if (p->last_step != STEP_NONE || !step_later(kept->step, p->kept_step))
		return;
	p->kept_step = kept->step;
	p->floor_step = STEP_NONE;
	budget_reset(p);
	ladder_on_later_kept(m, kept->step);
	incident_on_row(m, kept->step, true);
	if (kept->attempt == p->attempt)
		p->clean = p->config.clean_steps;
}

void advance_on_kept(struct moment *m, const struct record *r)
{
	const struct record_kept *kept = (const struct record_kept *)r;

	/* What the keeper could not do, or did to make room, is no sign of life of the trainers. */
	if (kept->error == 0 && (kept->flags & (KEPT_GONE | KEPT_AGAIN)) == 0)
		stall_on_progress(m);
	if (ladder_on_kept(m, kept))
		on_kept_progress(m, kept);
}
