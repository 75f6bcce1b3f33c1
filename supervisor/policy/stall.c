/* See stall.h. */
#include "supervisor/policy/stall.h"
#include "supervisor/policy/decide.h"
#include "supervisor/policy/incident.h"
#include "supervisor/policy/silence.h"

#define ROWS_TO_LEARN 3u                   /* fewer teach nothing about steps */
#define SAMPLE_WAIT_NS (2 * SECOND_NS)     /* for samples to come */
#define WRITING_SILENCE_NS (3 * SECOND_NS) /* it is said once a second, at most */
#define CONFIRM_MIN_NS (SECOND_NS / 10)
#define CONFIRM_MAX_NS (5 * SECOND_NS)
#define IDLE_PART 5u /* a rank that used less than a fifth of the time is idle */

void stall_on_progress(struct moment *m)
{
	struct stall *s = &m->p->stall;

	s->progress_ns = m->now_ns;
	s->postponed_ns = 0;
	s->stage = STALL_QUIET;
	s->round = 0;
	silence_broken(m);
}

void stall_begin(struct moment *m)
{
	m->p->stall.tainted = 0;
	silence_begin(m);
	stall_on_progress(m);
}

void stall_on_writing(struct moment *m)
{
	stall_on_progress(m);
	m->p->stall.postponed_ns = after_ns(m->now_ns, WRITING_SILENCE_NS);
}

void stall_learn_row(struct policy *p, const struct record_step *row, bool first)
{
	struct stall *s = &p->stall;

	if (s->tainted != 0) {
		/* It includes the time in which a rank stood stopped. */
		s->tainted = 0;
		return;
	}
	if (first) {
		if (row->head.time_ns > p->start.time_ns)
			s->start_longest_ns = greater(
			    s->start_longest_ns, row->head.time_ns - p->start.time_ns);
		return;
	}
	s->durations_ns[s->duration_count++ % POLICY_DURATIONS] = row->duration_ns;
	s->step_longest_ns = 0;
	for (uint32_t i = 0; i < POLICY_DURATIONS; i++)
		s->step_longest_ns = greater(s->step_longest_ns, s->durations_ns[i]);
}

void stall_learn_phase(struct policy *p, const struct record_phase *phase)
{
	if (phase->previous < PHASE_COUNT && p->stall.tainted == 0)
		p->stall.phase_longest_ns[phase->previous] = greater(
		    p->stall.phase_longest_ns[phase->previous], phase->duration_ns);
}

/* From the longest time seen; 0: none was. */
static uint64_t learned_ns(const struct policy *p, uint64_t longest_ns)
{
	if (longest_ns == 0)
		return p->config.stall_first_ns;
	return clamp(times(longest_ns, p->config.stall_factor), p->config.stall_min_ns,
	    p->config.stall_max_ns);
}

uint64_t stall_phase_limit_ns(const struct policy *p, uint32_t phase)
{
	const struct stall *s = &p->stall;

	if (phase == PHASE_STEP || phase == PHASE_INIT) {
		if (p->attempt_step == STEP_NONE)
			return learned_ns(p, s->start_longest_ns);
		return s->duration_count < ROWS_TO_LEARN
		    ? p->config.stall_first_ns
		    : learned_ns(p, greater(s->step_longest_ns, 1));
	}
	return learned_ns(p, s->phase_longest_ns[phase]);
}

uint64_t stall_limit_ns(const struct policy *p)
{
	uint64_t limit_ns = stall_phase_limit_ns(p, PHASE_STEP);

	for (uint32_t phase = 0; phase < PHASE_COUNT; phase++)
		if (p->stall.phase_ranks[phase] > 0)
			limit_ns = greater(limit_ns, stall_phase_limit_ns(p, phase));
	return limit_ns;
}

static uint64_t confirm_ns(uint64_t limit_ns)
{
	return clamp(limit_ns / 8, CONFIRM_MIN_NS, CONFIRM_MAX_NS);
}

uint64_t stall_deadline_ns(const struct policy *p)
{
	const struct stall *s = &p->stall;
	uint64_t limit_ns = stall_limit_ns(p);

	if (p->stopped_count > 0 || !RULE(RULE_STALL))
		return NEVER;
	if (silence_applies(p))
		return silence_deadline_ns(p);
	switch (s->stage) {
	case STALL_FIRST:
		return after_ns(s->sampled_ns, confirm_ns(limit_ns));
	case STALL_SECOND:
		return after_ns(s->sampled_ns, SAMPLE_WAIT_NS);
	default:
		return greater(
		    after_ns(s->progress_ns, times(limit_ns, s->round + 1)), s->postponed_ns);
	}
}

/* Whether the rank has a process that ought to make progress. */
static bool lives(const struct rank *rank)
{
	return rank->state == RANK_STARTED || rank->state == RANK_CONNECTED ||
	    rank->state == RANK_STOPPED;
}

static void ask(struct moment *m, enum stall_stage stage)
{
	struct policy *p = m->p;

	if (stage == STALL_FIRST) {
		for (uint32_t i = 0; i < p->rank_count; i++) {
			p->ranks[i].first = (struct reading){0};
			p->ranks[i].second = (struct reading){0};
			p->ranks[i].flags &= ~(uint32_t)(RANK_FLAG_WAITING | RANK_FLAG_HALTED);
			p->ranks[i].sampled_step = STEP_NONE;
		}
	}
	p->stall.stage = stage;
	p->stall.sampled_ns = m->now_ns;
	decide_sample(m);
}

/* CPU time that a rank used between its samples; a rank that was not measured twice used none. */
static uint64_t used_ns(const struct rank *rank)
{
	return rank->first.time_ns != 0 && rank->second.cpu_ns > rank->first.cpu_ns
	    ? rank->second.cpu_ns - rank->first.cpu_ns
	    : 0;
}

static bool idle(const struct rank *rank)
{
	return rank->second.time_ns == 0 || (rank->flags & RANK_FLAG_HALTED) != 0 ||
	    used_ns(rank) * IDLE_PART < rank->second.time_ns - rank->first.time_ns;
}

/* Who does not wait comes before who waits, then who is behind, then who does least; of those who say that they
 * wait, who computes all the same. */
static bool worse(const struct rank *a, const struct rank *b)
{
	bool a_waits = (a->flags & RANK_FLAG_WAITING) != 0,
	     b_waits = (b->flags & RANK_FLAG_WAITING) != 0;

	if (a_waits != b_waits)
		return b_waits;
	if (a->sampled_step != b->sampled_step)
		return step_later(b->sampled_step, a->sampled_step);
	return a_waits ? used_ns(a) > used_ns(b) : used_ns(a) < used_ns(b);
}

/* A rank whose channel holds nonsense is blamed only when there is no other. */
static uint32_t blamed(const struct policy *p)
{
	uint32_t worst = RANK_NONE;

	for (uint32_t pass = 0; pass < 2 && worst == RANK_NONE; pass++)
		for (uint32_t i = 0; i < p->rank_count; i++) {
			const struct rank *rank = &p->ranks[i];

			if (!lives(rank) || (pass == 0 && (rank->flags & RANK_FLAG_DAMAGED) != 0))
				continue;
			if (worst == RANK_NONE || worse(rank, &p->ranks[worst]))
				worst = i;
		}
	return worst;
}

/*
 * Both samples are there, or will not come.  A spinning rank may be working on something long: it has twice
 * the limit.  When no input is at hand (late), something is decided in every case, because a turn that
 * decides nothing must not change the state.
 */
static void judge(struct moment *m, bool late)
{
	struct policy *p = m->p;
	uint32_t rank = blamed(p);
	uint64_t limit_ns = stall_limit_ns(p);
	bool is_idle = rank == RANK_NONE || idle(&p->ranks[rank]);
	struct suspicion s = {.time_ns = p->stall.progress_ns,
	    .onset_step = STEP_NONE,
	    .limit_ns = limit_ns,
	    .value_ns = m->now_ns - p->stall.progress_ns,
	    .fault = is_idle ? FAULT_STALL_IDLE : FAULT_STALL_SPINNING,
	    .rank = rank,
	    .code = 1};

	if (is_idle || s.value_ns >= times(limit_ns, 2)) {
		incident_suspect(m, &s);
		return;
	}
	p->stall.round = 1;
	if (late)
		ask(m, STALL_FIRST);
	else
		p->stall.stage = STALL_QUIET;
}

static bool all_sampled(const struct policy *p)
{
	for (uint32_t i = 0; i < p->rank_count; i++)
		if (lives(&p->ranks[i]) && p->ranks[i].second.time_ns == 0)
			return false;
	return true;
}

/* A rank that reports an evaluation, a checkpoint and the like has that phase's time. */
static bool postpones(struct moment *m, const struct record_sample *sample)
{
	uint64_t limit_ns;

	if ((sample->flags & SAMPLE_CHANNEL) == 0 || sample->phase >= PHASE_COUNT ||
	    sample->phase == PHASE_STEP || sample->phase == PHASE_INIT)
		return false;
	limit_ns = stall_phase_limit_ns(m->p, sample->phase);
	if (sample->phase_ns >= limit_ns)
		return false;
	m->p->stall.postponed_ns = after_ns(m->now_ns, limit_ns - sample->phase_ns);
	m->p->stall.stage = STALL_QUIET;
	m->p->stall.round = 0;
	return true;
}

void stall_on_sample(struct moment *m, const struct record_sample *sample)
{
	struct policy *p = m->p;
	struct rank *rank = &p->ranks[sample->rank];
	struct reading reading = {
	    .time_ns = greater(sample->head.time_ns, 1), .cpu_ns = sample->cpu_ns};

	if (silence_applies(p)) {
		silence_on_sample(m, sample);
		return;
	}
	if (p->stall.stage == STALL_QUIET || !lives(rank))
		return;
	if ((rank->flags & RANK_FLAG_DAMAGED) == 0 && postpones(m, sample))
		return;
	if (rank->first.time_ns == 0)
		rank->first = reading;
	else if (p->stall.stage == STALL_SECOND)
		rank->second = reading;
	rank->flags &= ~(uint32_t)(RANK_FLAG_WAITING | RANK_FLAG_HALTED);
	if (sample->flags & SAMPLE_CHANNEL) {
		rank->sampled_step = sample->last_step;
		if (sample->waiting != 0)
			rank->flags |= RANK_FLAG_WAITING;
	}
	if (sample->state == 'D' || sample->state == 'T' || sample->state == 't')
		rank->flags |= RANK_FLAG_HALTED;
	if (p->stall.stage == STALL_SECOND && all_sampled(p))
		judge(m, false);
}

void stall_on_time(struct moment *m)
{
	if (silence_applies(m->p)) {
		silence_on_time(m);
		return;
	}
	switch (m->p->stall.stage) {
	case STALL_QUIET:
		ask(m, STALL_FIRST);
		break;
	case STALL_FIRST:
		ask(m, STALL_SECOND);
		break;
	default:
		judge(m, true);
		break;
	}
}
