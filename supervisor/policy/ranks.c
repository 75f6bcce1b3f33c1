/* See ranks.h. */
#include <string.h>

#include "supervisor/policy/incident.h"
#include "supervisor/policy/ranks.h"
#include "supervisor/policy/silence.h"
#include "supervisor/policy/stall.h"

/* How long a death may stay unexplained before it is blamed without its status. */
#define DEATH_WAIT_NS (10 * SECOND_NS)

void ranks_reset(struct policy *p)
{
	memset(p->ranks, 0, p->rank_count * sizeof(p->ranks[0]));
	memset(p->stall.phase_ranks, 0, sizeof(p->stall.phase_ranks));
	p->started_count = 0;
	p->dead_count = 0;
	p->finished_count = 0;
	p->exited_count = 0;
	p->stopped_count = 0;
	p->continued_count = 0;
	p->unknown_count = 0;
	p->capture_count = 0;
	p->crashing_count = 0;
	p->attempt_step = STEP_NONE;
	p->clean = 0;
}

bool ranks_alive(const struct policy *p, uint32_t rank)
{
	uint32_t state = p->ranks[rank].state;

	return state == RANK_STARTED || state == RANK_CONNECTED || state == RANK_STOPPED;
}

void ranks_on_started(struct moment *m, const struct record *r)
{
	const struct record_started *started = (const struct record_started *)r;
	struct policy *p = m->p;
	struct rank *rank = &p->ranks[started->rank];

	if (rank->state != RANK_IDLE)
		return;
	rank->state = RANK_STARTED;
	p->started_count++;
	stall_on_progress(m);
}

void ranks_on_connected(struct moment *m, const struct record *r)
{
	const struct record_connected *connected = (const struct record_connected *)r;
	struct policy *p = m->p;
	struct rank *rank = &p->ranks[connected->rank];

	if (!ranks_alive(p, connected->rank) || (rank->flags & RANK_FLAG_CONNECTED) != 0)
		return;
	rank->flags |= RANK_FLAG_CONNECTED;
	p->silence.aided = 1;
	if (rank->state == RANK_STARTED)
		rank->state = RANK_CONNECTED;
	p->stall.phase_ranks[rank->phase]++;
	stall_on_progress(m);
}

/* No longer stopped: it goes on, is dead, or was continued by us. */
static void unstop(struct policy *p, struct rank *rank)
{
	if (rank->state != RANK_STOPPED)
		return;
	if ((rank->flags & RANK_FLAG_SENT) == 0)
		p->stopped_count--;
	rank->flags &= ~(uint32_t)RANK_FLAG_SENT;
	rank->state = rank->flags & RANK_FLAG_CONNECTED ? RANK_CONNECTED : RANK_STARTED;
}

void ranks_on_stopped(struct moment *m, const struct record *r)
{
	const struct record_stopped *stopped = (const struct record_stopped *)r;
	struct policy *p = m->p;
	struct rank *rank = &p->ranks[stopped->rank];

	if (!ranks_alive(p, stopped->rank))
		return;
	if (stopped->signal == 0) {
		if (rank->state == RANK_STOPPED)
			stall_on_progress(m);
		unstop(p, rank);
		return;
	}
	/* Stopped again before it was seen to go on: the stop is a new one all the same. */
	unstop(p, rank);
	rank->state = RANK_STOPPED;
	rank->stopped_ns = r->time_ns;
	rank->stop_signal = stopped->signal;
	p->stopped_count++;
	p->stall.tainted = 1;
	p->stall.stage = STALL_QUIET;
	silence_taint(p);
}

void ranks_mark_continued(struct policy *p, uint32_t number)
{
	struct rank *rank = &p->ranks[number];

	p->stopped_count--;
	rank->flags |= RANK_FLAG_SENT;
	rank->clean = 0;
	if ((rank->flags & RANK_FLAG_CONTINUED) == 0) {
		rank->flags |= RANK_FLAG_CONTINUED;
		p->continued_count++;
	}
}

void ranks_on_row(struct policy *p)
{
	if (p->continued_count == 0)
		return;
	for (uint32_t i = 0; i < p->rank_count; i++) {
		struct rank *rank = &p->ranks[i];

		if ((rank->flags & RANK_FLAG_CONTINUED) == 0 || rank->state == RANK_STOPPED ||
		    ++rank->clean < p->config.clean_steps)
			continue;
		rank->flags &= ~(uint32_t)RANK_FLAG_CONTINUED;
		p->continued_count--;
	}
}

uint64_t ranks_stopped_deadline_ns(const struct policy *p, uint32_t *rank_out)
{
	uint64_t first_ns = NEVER;

	if (p->stopped_count == 0)
		return NEVER;
	for (uint32_t i = 0; i < p->rank_count; i++) {
		const struct rank *rank = &p->ranks[i];
		uint64_t due_ns;

		if (rank->state != RANK_STOPPED || (rank->flags & RANK_FLAG_SENT) != 0)
			continue;
		due_ns = after_ns(greater(rank->stopped_ns, p->present_ns), p->config.stall_stopped_ns);
		if (due_ns < first_ns) {
			first_ns = due_ns;
			*rank_out = i;
		}
	}
	return first_ns;
}

void ranks_captured(struct policy *p, uint32_t rank)
{
	if ((p->ranks[rank].flags & RANK_FLAG_CAPTURE) == 0)
		return;
	p->ranks[rank].flags &= ~(uint32_t)RANK_FLAG_CAPTURE;
	p->capture_count--;
}

/* First notice of an end, whichever record brings it. */
static struct rank *notice(struct moment *m, uint32_t number, uint64_t time_ns)
{
	struct policy *p = m->p;
	struct rank *rank = &p->ranks[number];

	if (rank->state == RANK_DYING || rank->state == RANK_EXITED || rank->state == RANK_FAILED)
		return rank;
	/* Its RECORD_STARTED is on its way behind this: it had a process. */
	if (rank->state == RANK_IDLE)
		p->started_count++;
	unstop(p, rank);
	if (rank->flags & RANK_FLAG_CONNECTED)
		p->stall.phase_ranks[rank->phase]--;
	rank->state = RANK_DYING;
	if ((rank->flags & RANK_FLAG_CRASHING) == 0)
		rank->death_ns = time_ns;
	p->dead_count++;
	p->unknown_count++;
	ranks_captured(p, number);
	return rank;
}

static void know_status(struct policy *p, struct rank *rank, int32_t wait_status)
{
	if ((rank->flags & RANK_FLAG_STATUS) != 0)
		return;
	rank->flags |= RANK_FLAG_STATUS;
	rank->wait_status = wait_status;
	p->unknown_count--;
	if (wait_status == 0)
		p->finished_count++;
}

/* The crash handler waits: its stack can be read as long as it does. */
void ranks_on_crashing(struct moment *m, const struct record *r)
{
	const struct record_crashing *crash = (const struct record_crashing *)r;
	struct policy *p = m->p;
	struct rank *rank = &p->ranks[crash->rank];

	/* The number comes out of the trainer's memory: without a signal it is no crash. */
	if (!ranks_alive(p, crash->rank) || (rank->flags & RANK_FLAG_CRASHING) != 0 ||
	    (crash->signal & 0x7f) == 0)
		return;
	rank->flags |= RANK_FLAG_CRASHING;
	rank->death_ns = r->time_ns;
	rank->wait_status = crash->signal & 0x7f;
	p->crashing_count++;
}

void ranks_on_death(struct moment *m, const struct record *r)
{
	const struct record_death *death = (const struct record_death *)r;
	struct rank *rank = notice(m, death->rank, r->time_ns);

	if (rank->state == RANK_FAILED || death->status_known == 0)
		return;
	know_status(m->p, rank, death->wait_status);
	if (death->oom_killed != 0)
		rank->flags |= RANK_FLAG_OOM;
}

void ranks_on_exit(struct moment *m, const struct record *r)
{
	const struct record_exit *end = (const struct record_exit *)r;
	struct rank *rank = notice(m, end->rank, r->time_ns);

	if (rank->state != RANK_DYING)
		return;
	know_status(m->p, rank, end->wait_status);
	if (end->oom_killed != 0)
		rank->flags |= RANK_FLAG_OOM;
	rank->state = RANK_EXITED;
	m->p->exited_count++;
	if (rank->wait_status == 0)
		stall_on_progress(m);
}

void ranks_on_damage(struct moment *m, const struct record *r)
{
	m->p->ranks[((const struct record_damage *)r)->rank].flags |= RANK_FLAG_DAMAGED;
}

bool ranks_take(struct policy *p, uint32_t rank, uint64_t ring_seq)
{
	if (ring_seq <= p->ranks[rank].ring_seq)
		return false;
	p->ranks[rank].ring_seq = ring_seq;
	return true;
}

void ranks_on_phase(struct moment *m, const struct record *r)
{
	const struct record_phase *phase = (const struct record_phase *)r;
	struct policy *p = m->p;
	struct rank *rank = &p->ranks[phase->rank];

	if (!ranks_take(p, phase->rank, phase->ring_seq) || phase->phase >= PHASE_COUNT)
		return;
	if ((rank->flags & RANK_FLAG_CONNECTED) != 0 && ranks_alive(p, phase->rank)) {
		p->stall.phase_ranks[rank->phase]--;
		p->stall.phase_ranks[phase->phase]++;
	}
	rank->phase = phase->phase;
	silence_on_phase(p);
	stall_learn_phase(p, phase);
	stall_on_progress(m);
}

void ranks_on_gap(struct moment *m, const struct record *r)
{
	const struct record_gap *gap = (const struct record_gap *)r;

	if (gap->count > 0)
		(void)ranks_take(m->p, gap->rank, gap->first_ring_seq + (gap->count - 1));
}

/* Nothing is decided: without snapshots, a restart continues from a rung on disk by itself. */
void ranks_on_no_room(struct moment *m, const struct record *r)
{
	const struct record_no_room *no_room = (const struct record_no_room *)r;

	(void)ranks_take(m->p, no_room->rank, no_room->ring_seq);
}

static bool done(const struct rank *rank)
{
	return (rank->flags & RANK_FLAG_STATUS) != 0 && rank->wait_status == 0;
}

/* How it ended, or is ending, is not known yet. */
static bool puzzling(const struct rank *rank)
{
	return (rank->flags & (RANK_FLAG_STATUS | RANK_FLAG_CRASHING)) == 0;
}

/* The rank that died first and is not known to be done; NULL when there is none. */
static const struct rank *first_dead(const struct policy *p)
{
	const struct rank *first = NULL;

	if (p->dead_count == p->finished_count && p->crashing_count == 0)
		return NULL;
	for (uint32_t i = 0; i < p->rank_count; i++) {
		const struct rank *rank = &p->ranks[i];

		if ((rank->flags & RANK_FLAG_CRASHING) == 0 &&
		    ((rank->state != RANK_DYING && rank->state != RANK_EXITED) || done(rank)))
			continue;
		if (first == NULL || rank->death_ns < first->death_ns)
			first = rank;
	}
	return first;
}

static uint64_t patience_ns(const struct policy *p, const struct rank *rank)
{
	return after_ns(greater(rank->death_ns, p->present_ns), DEATH_WAIT_NS);
}

uint64_t ranks_judge_deadline_ns(const struct policy *p)
{
	const struct rank *first = p->unknown_count > 0 ? first_dead(p) : NULL;

	return first != NULL && puzzling(first) ? patience_ns(p, first) : NEVER;
}

void ranks_judge(struct moment *m)
{
	const struct policy *p = m->p;
	const struct rank *first = first_dead(p);
	struct suspicion s = {.onset_step = STEP_NONE};

	if (first == NULL)
		return;
	s.rank = (uint32_t)(first - p->ranks);
	s.time_ns = first->death_ns;
	if (puzzling(first)) {
		if (m->now_ns < patience_ns(p, first))
			return;
		s.fault = FAULT_SIGNAL;
		s.code = 1;
	} else if ((first->wait_status & 0x7f) != 0) {
		s.fault = first->flags & RANK_FLAG_OOM ? FAULT_OUT_OF_MEMORY : FAULT_SIGNAL;
		s.detail = first->wait_status & 0x7f;
		s.code = incident_status_code(first->wait_status);
	} else {
		s.fault = FAULT_EXIT;
		s.detail = (first->wait_status >> 8) & 0xff;
		s.code = s.detail;
	}
	incident_suspect(m, &s);
}
