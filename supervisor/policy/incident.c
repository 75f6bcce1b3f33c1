/* See incident.h. */
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "supervisor/policy/decide.h"
#include "supervisor/policy/incident.h"

void incident_suspect(struct moment *m, const struct suspicion *s)
{
	if (s->time_ns < m->suspicion.time_ns)
		m->suspicion = *s;
}

int32_t incident_status_code(int32_t wait_status)
{
	int32_t signal = wait_status & 0x7f;

	return signal != 0 ? 128 + signal : (wait_status >> 8) & 0xff;
}

/* Of where it happened: a fault known by its first bad step, any other by how far the attempt had come. */
static uint64_t fingerprint_of(const struct policy *p, const struct suspicion *s)
{
	uint64_t reached = p->last_step != STEP_NONE ? p->attempt_step : p->kept_step;
	const uint64_t parts[4] = {s->fault, s->rank, (uint64_t)(int64_t)s->detail,
	    s->onset_step != STEP_NONE ? s->onset_step : reached};
	uint64_t value = XXH3_64bits(parts, sizeof(parts));

	return value != 0 ? value : 1;
}

static struct fingerprint *fingerprint_find(const struct policy *p, uint64_t value)
{
	for (uint32_t i = 0; i < POLICY_INCIDENTS; i++)
		if (p->fingerprints[i].value == value)
			return (struct fingerprint *)&p->fingerprints[i];
	return NULL;
}

/* The fingerprint's place: its own, or that of the one that was not seen for the longest time. */
static struct fingerprint *fingerprint_place(struct policy *p, uint64_t value)
{
	struct fingerprint *f = fingerprint_find(p, value);

	if (f != NULL)
		return f;
	f = &p->fingerprints[0];
	for (uint32_t i = 1; i < POLICY_INCIDENTS; i++)
		if (p->fingerprints[i].age < f->age)
			f = &p->fingerprints[i];
	*f = (struct fingerprint){.value = value};
	return f;
}

bool incident_known(const struct policy *p, const struct suspicion *s)
{
	const struct fingerprint *f = fingerprint_find(p, fingerprint_of(p, s));

	return f != NULL && f->progress == progress_of(p);
}

/* When all places are taken the incident is declared all the same, its recovery is not followed. */
static void open_incident(struct policy *p, const struct suspicion *s, enum incident_way way)
{
	for (uint32_t i = 0; i < POLICY_OPEN; i++) {
		if (p->open[i].number != 0)
			continue;
		p->open[i] = (struct open_incident){.onset_ns = s->time_ns,
		    .redone = p->redone,
		    .number = p->incident_count,
		    .attempt = p->attempt,
		    .rank = s->rank,
		    .in_place = way == INCIDENT_IN_PLACE};
		return;
	}
}

static bool signal_is_crash(int32_t number)
{
	return number == SIGNAL_ILL || number == SIGNAL_ABRT || number == SIGNAL_BUS ||
	    number == SIGNAL_FPE || number == SIGNAL_SEGV;
}

/* The program ended by itself before it had made one step of the state that it loaded from a file. */
static bool state_failed(const struct policy *p, const struct suspicion *s)
{
	if (p->start.source != START_FILE || p->attempt_step != STEP_NONE || p->clean > 0)
		return false;
	if (p->last_step == STEP_NONE && s->time_ns > after_ns(p->start.time_ns, LOAD_FAILS_NS))
		return false;
	return s->fault == FAULT_EXIT || (s->fault == FAULT_SIGNAL && signal_is_crash(s->detail));
}

uint32_t incident_declare(struct moment *m, const struct suspicion *s, enum incident_way way)
{
	struct policy *p = m->p;
	uint64_t value = fingerprint_of(p, s);
	struct fingerprint *f = fingerprint_place(p, value);
	struct decision_fault *d = decide_fault(m);
	bool again = f->count > 0 && f->progress == progress_of(p);

	p->incident_count++;
	d->incident = p->incident_count;
	d->fault = s->fault;
	d->attempt = p->attempt;
	d->rank = s->rank;
	d->onset_ns = s->time_ns;
	d->step = p->last_step;
	d->onset_step = s->onset_step;
	d->detail = s->detail;
	d->repeat = f->count;
	d->fingerprint = value;
	d->limit_ns = s->limit_ns;
	d->value_ns = s->value_ns;
	d->stage = s->stage;
	f->count++;
	f->age = p->incident_count;
	f->progress = progress_of(p);
	open_incident(p, s, way);
	if (way == INCIDENT_RESTART && (again || state_failed(p, s)) && RULE(RULE_FLOOR))
		p->floor_step = lesser(
		    p->floor_step, p->start.source == START_SCRATCH ? 0 : p->start.step);
	return p->incident_count;
}

static void close_incident(struct moment *m, struct open_incident *o, uint64_t step)
{
	struct decision_recovered *d = decide_recovered(m);

	d->incident = o->number;
	d->attempt = m->p->attempt;
	d->step = step;
	d->redone_steps = m->p->redone - o->redone;
	d->down_ns = m->now_ns > o->onset_ns ? m->now_ns - o->onset_ns : 0;
	*o = (struct open_incident){0};
}

void incident_on_row(struct moment *m, uint64_t step, bool fresh)
{
	const struct policy *p = m->p;

	for (uint32_t i = 0; i < POLICY_OPEN; i++) {
		struct open_incident *o = &m->p->open[i];

		if (o->number == 0)
			continue;
		if (o->attempt < p->attempt
			? fresh
			: o->in_place != 0 && p->ranks[o->rank].state != RANK_STOPPED)
			close_incident(m, o, step);
	}
}

void incident_close_all(struct moment *m)
{
	for (uint32_t i = 0; i < POLICY_OPEN; i++)
		if (m->p->open[i].number != 0)
			close_incident(m, &m->p->open[i], m->p->good_step);
}
