/* See decide.h. */
#include <string.h>

#include "supervisor/policy/decide.h"

static void *append(struct moment *m, uint16_t kind, uint32_t size_bytes)
{
	struct decisions *out = m->out;
	struct record *r = (struct record *)(void *)(out->bytes + out->size_bytes);

	assert(size_bytes % 8 == 0 && out->size_bytes + size_bytes <= POLICY_DECISIONS_BYTES);
	memset(r, 0, size_bytes);
	r->kind = kind;
	r->version = 1;
	r->size_bytes = size_bytes;
	r->time_ns = m->now_ns;
	out->size_bytes += size_bytes;
	out->count++;
	return r;
}

bool decide_has_room(const struct moment *m)
{
	return m->out->size_bytes < POLICY_DECISIONS_BYTES / 2;
}

void decide_start(struct moment *m)
{
	const struct policy *p = m->p;
	struct decision_start *d = append(m, DECISION_START, sizeof(*d));

	d->attempt = p->attempt;
	d->source = p->start.source;
	d->step = p->start.step;
	d->rank_count = p->rank_count;
	d->incident = p->start.incident;
	d->rung_first_seq = p->start.rung_first_seq;
	d->rung_last_seq = p->start.rung_last_seq;
}

void decide_kill(struct moment *m, uint32_t rank, int32_t signal)
{
	struct decision_kill *d = append(m, DECISION_KILL, sizeof(*d));

	d->attempt = m->p->attempt;
	d->rank = rank;
	d->signal = signal;
}

void decide_clear(struct moment *m)
{
	struct decision_clear *d = append(m, DECISION_CLEAR, sizeof(*d));

	d->attempt = m->p->attempt;
	d->deadline_ns = m->p->config.clear_max_ns;
}

void decide_sample(struct moment *m)
{
	struct decision_sample *d = append(m, DECISION_SAMPLE, sizeof(*d));

	d->attempt = m->p->attempt;
	d->rank = RANK_NONE;
}

void decide_capture(struct moment *m, uint32_t rank, enum evidence_kind kind)
{
	struct decision_capture *d = append(m, DECISION_CAPTURE, sizeof(*d));

	d->attempt = m->p->attempt;
	d->rank = rank;
	d->incident = m->p->evidence;
	d->evidence_kind = kind;
	d->deadline_ns = m->p->config.capture_max_ns;
}

void decide_survey(struct moment *m)
{
	struct decision_survey *d = append(m, DECISION_SURVEY, sizeof(*d));

	d->attempt = m->p->attempt + 1;
	d->before_step = m->p->choice.before_step;
	d->deadline_ns = m->p->config.verify_max_ns;
}

void decide_verify(struct moment *m, const struct rung *rung)
{
	struct decision_verify *d = append(m, DECISION_VERIFY, sizeof(*d));

	d->attempt = m->p->attempt + 1;
	d->shard_count = rung->shard_count;
	d->step = rung->step;
	d->deadline_ns = m->p->config.verify_max_ns;
	d->rung_first_seq = rung->first_seq;
	d->rung_last_seq = rung->last_seq;
}

void decide_standing(struct moment *m, struct rung *rung, enum standing standing)
{
	struct decision_standing *d;

	if (rung->standing == standing)
		return;
	d = append(m, DECISION_STANDING, sizeof(*d));
	d->step = rung->step;
	d->standing = standing;
	d->previous = rung->standing;
	rung->standing = standing;
}

void decide_ask(struct moment *m, enum ask what)
{
	struct decision_ask *d = append(m, DECISION_ASK, sizeof(*d));

	d->attempt = m->p->attempt;
	d->what = what;
}

void decide_end(struct moment *m)
{
	struct decision_end *d = append(m, DECISION_END, sizeof(*d));

	d->reason = m->p->end_reason;
	d->exit_code = m->p->end_code;
	d->incident = m->p->incident_count;
}

void decide_digest(struct moment *m, const struct pending *pending)
{
	struct decision_digest *d = append(m, DECISION_DIGEST, sizeof(*d));

	d->saved_seq = pending->saved_seq;
	d->step = pending->step;
	d->deadline_ns = m->p->config.verify_max_ns;
}

struct decision_fault *decide_fault(struct moment *m)
{
	return append(m, DECISION_FAULT, sizeof(struct decision_fault));
}

struct decision_recovered *decide_recovered(struct moment *m)
{
	return append(m, DECISION_RECOVERED, sizeof(struct decision_recovered));
}
