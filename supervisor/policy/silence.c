/* See silence.h. */
#include "supervisor/policy/silence.h"
#include "supervisor/policy/decide.h"
#include "supervisor/policy/incident.h"
#include "supervisor/policy/stall.h"

#define SAMPLE_WAIT_NS (2 * SECOND_NS) /* for samples to come */
#define PACE_MIN_NS (SECOND_NS / 10)
#define LIMIT_SHARE 10u /* a limit is looked at in that many parts */
#define CONFIRM_MAX_NS (5 * SECOND_NS)
#define IDLE_SHARE 100u /* a rank that used less than a hundredth of a core is idle */
#define STEPS_SHARE 10u /* where steps are known, silence is rarer: the least limit is that part */
#define SIGNS_TO_LEARN 3u /* samples with output; fewer teach nothing */

static bool lives(const struct rank *rank)
{
	return rank->state == RANK_STARTED || rank->state == RANK_CONNECTED ||
	    rank->state == RANK_STOPPED;
}

bool silence_applies(const struct policy *p)
{
	return p->silence.aided == 0;
}

void silence_begin(struct moment *m)
{
	struct silence *s = &m->p->silence;

	s->asked = 0;
	s->hinted = 0;
	s->sampled_ns = m->now_ns;
	s->idle_ns = m->now_ns;
	s->quiet_ns = m->now_ns;
}

void silence_on_phase(struct policy *p)
{
	p->silence.hinted = 1;
}

void silence_taint(struct policy *p)
{
	p->silence.idled = 0;
	p->silence.asked = 0;
	p->silence.confirming = 0;
}

/* Somebody computes, or more is to be seen: the idle time before is over, and came to an end by itself. */
static void wake(struct moment *m)
{
	struct silence *s = &m->p->silence;

	if (s->idled != 0 && RULE(RULE_SILENCE))
		s->idle_longest_ns = greater(s->idle_longest_ns, m->now_ns - s->idle_ns);
	s->idled = 0;
	s->confirming = 0;
	s->idle_ns = m->now_ns;
}

void silence_broken(struct moment *m)
{
	wake(m);
	m->p->silence.quiet_ns = m->now_ns;
}

static bool stepped(const struct policy *p)
{
	return p->attempt_step != STEP_NONE || p->last_step != STEP_NONE;
}

/* The longest limit of the phases that ranks are in, as far as their output tells; 0: of none. */
static uint64_t phases_limit_ns(const struct policy *p)
{
	uint64_t limit_ns = 0;

	for (uint32_t i = 0; p->silence.hinted != 0 && i < p->rank_count; i++) {
		uint32_t phase = p->ranks[i].phase;

		if (lives(&p->ranks[i]) && phase != PHASE_STEP && phase != PHASE_INIT)
			limit_ns = greater(limit_ns, stall_phase_limit_ns(p, phase));
	}
	return limit_ns;
}

uint64_t silence_idle_limit_ns(const struct policy *p)
{
	const struct policy_config *c = &p->config;
	uint64_t learned_ns = times(p->silence.idle_longest_ns, c->stall_factor);
	uint64_t least_ns = c->stall_silent_ns;

	if (p->attempt_step != STEP_NONE)
		least_ns = greater(least_ns / STEPS_SHARE, stall_limit_ns(p));
	else if (stepped(p))
		least_ns = greater(least_ns, stall_limit_ns(p));
	else if (p->silence.signs < SIGNS_TO_LEARN)
		least_ns = c->stall_first_ns;
	least_ns = greater(least_ns, phases_limit_ns(p));
	return clamp(learned_ns, least_ns, greater(c->stall_max_ns, least_ns));
}

uint64_t silence_quiet_limit_ns(const struct policy *p)
{
	if (!stepped(p))
		return NEVER;
	return times(greater(silence_idle_limit_ns(p), p->config.stall_first_ns), 2);
}

/* Idle times of less than twice this are not seen and not learned: even ten times that is within the least limit. */
static uint64_t pace_ns(const struct policy *p)
{
	return greater(
	    lesser(silence_idle_limit_ns(p), p->config.stall_silent_ns) / LIMIT_SHARE, PACE_MIN_NS);
}

uint64_t silence_deadline_ns(const struct policy *p)
{
	const struct silence *s = &p->silence;

	if (s->asked != 0)
		return after_ns(s->sampled_ns, SAMPLE_WAIT_NS);
	if (s->confirming != 0)
		return after_ns(s->sampled_ns, lesser(pace_ns(p), CONFIRM_MAX_NS));
	return after_ns(greater(s->sampled_ns, s->quiet_ns), pace_ns(p));
}

/* Also when samples did not come: who does not answer says nothing, and is asked again. */
void silence_on_time(struct moment *m)
{
	struct policy *p = m->p;

	for (uint32_t i = 0; i < p->rank_count; i++)
		p->ranks[i].flags &= ~(uint32_t)RANK_FLAG_SAMPLED;
	p->silence.asked = 1;
	p->silence.sampled_ns = m->now_ns;
	decide_sample(m);
}

/* What the newest samples say of the time since those before. */
struct signs {
	bool output, cpu, unknown;
};

static struct signs read_signs(const struct policy *p)
{
	struct signs signs = {0};

	for (uint32_t i = 0; i < p->rank_count; i++) {
		const struct rank *rank = &p->ranks[i];
		const struct reading *a = &rank->first, *b = &rank->second;

		if (!lives(rank))
			continue;
		if (a->time_ns == 0) {
			signs.unknown = true;
			continue;
		}
		signs.output = signs.output || a->output_bytes != b->output_bytes;
		/* Less than before: a process ended whose parent did not wait for it yet. */
		signs.cpu = signs.cpu || b->cpu_ns < a->cpu_ns ||
		    times(b->cpu_ns - a->cpu_ns, IDLE_SHARE) >= b->time_ns - a->time_ns;
	}
	return signs;
}

/* The one who did least, when the others computed; nobody in particular when all did alike. */
static uint32_t blamed(const struct policy *p, bool *idle_out)
{
	uint32_t living = 0, idle = 0, idle_rank = RANK_NONE, last = RANK_NONE;

	for (uint32_t i = 0; i < p->rank_count; i++) {
		const struct rank *rank = &p->ranks[i];

		if (!lives(rank))
			continue;
		living++;
		last = i;
		if (times(rank->second.cpu_ns - rank->first.cpu_ns, IDLE_SHARE) <
		    rank->second.time_ns - rank->first.time_ns) {
			idle++;
			idle_rank = i;
		}
	}
	*idle_out = idle > 0;
	if (living == 1)
		return last;
	return idle == 1 ? idle_rank : RANK_NONE;
}

static void suspect(struct moment *m, uint64_t since_ns, uint64_t limit_ns)
{
	bool idle;
	uint32_t rank = blamed(m->p, &idle);
	struct suspicion s = {.time_ns = since_ns,
	    .onset_step = STEP_NONE,
	    .limit_ns = limit_ns,
	    .value_ns = m->now_ns - since_ns,
	    .fault = idle ? FAULT_STALL_IDLE : FAULT_STALL_SPINNING,
	    .rank = rank,
	    .code = 1};

	incident_suspect(m, &s);
}

/* Passed the limit: once more after a moment, for a sign that came just now. */
static void doubt(struct moment *m, uint64_t since_ns, uint64_t limit_ns)
{
	if (m->now_ns < after_ns(since_ns, limit_ns)) {
		m->p->silence.confirming = 0;
		return;
	}
	if (m->p->silence.confirming != 0)
		suspect(m, since_ns, limit_ns);
	m->p->silence.confirming = 1;
}

static void judge(struct moment *m)
{
	struct silence *s = &m->p->silence;
	struct signs signs = read_signs(m->p);

	s->asked = 0;
	if (signs.output) {
		s->signs++;
		stall_on_progress(m);
	} else if (signs.unknown) {
		s->idle_ns = m->now_ns;
	} else if (signs.cpu) {
		uint32_t confirming = s->confirming;

		wake(m);
		s->confirming = confirming;
		doubt(m, s->quiet_ns, silence_quiet_limit_ns(m->p));
	} else {
		s->idled = 1;
		doubt(m, s->idle_ns, silence_idle_limit_ns(m->p));
	}
}

void silence_on_sample(struct moment *m, const struct record_sample *sample)
{
	struct policy *p = m->p;
	struct rank *rank = &p->ranks[sample->rank];

	/* '?': it could not be measured, being dead by now. */
	if (p->silence.asked == 0 || !lives(rank) || sample->state == '?')
		return;
	rank->first = rank->second;
	rank->second = (struct reading){.time_ns = greater(sample->head.time_ns, 1),
	    .cpu_ns = sample->cpu_ns,
	    .output_bytes = sample->output_bytes};
	rank->flags |= RANK_FLAG_SAMPLED;
	for (uint32_t i = 0; i < p->rank_count; i++)
		if (lives(&p->ranks[i]) && (p->ranks[i].flags & RANK_FLAG_SAMPLED) == 0)
			return;
	judge(m);
}
