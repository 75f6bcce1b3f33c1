/* See greet.h. */
#include <string.h>

#include "supervisor/policy/attempt.h"
#include "supervisor/policy/budget.h"
#include "supervisor/policy/choose.h"
#include "supervisor/policy/decide.h"
#include "supervisor/policy/greet.h"
#include "supervisor/policy/incident.h"
#include "supervisor/policy/ranks.h"
#include "supervisor/policy/stall.h"

#define KILLS_A_TURN 64u

void greet_on_run(struct moment *m, const struct record *r)
{
	if (m->p->known != 0)
		return;
	m->p->known = 1;
	m->p->config = ((const struct record_run *)r)->config;
}

void greet_on_session(struct moment *m, const struct record *r)
{
	m->p->config = ((const struct record_session *)r)->config;
	m->p->present = 0;
	m->p->asked = 0;
}

static bool attempt_may_live(const struct policy *p)
{
	return p->state == RUN_STARTING || p->state == RUN_RUNNING || p->state == RUN_STOPPING ||
	    p->state == RUN_CAPTURING;
}

/* Whether what the agent of before holds is what it was told to hold.  A START may not have reached it. */
static bool as_expected(const struct policy *p, uint32_t held)
{
	return attempt_may_live(p) && p->state != RUN_STARTING ? held == p->attempt
							       : held <= p->attempt;
}

/* The attempt died with its agent, or nobody can say what became of it. */
static void declare_lost(struct moment *m)
{
	struct suspicion s = {.time_ns = m->now_ns,
	    .onset_step = STEP_NONE,
	    .fault = FAULT_AGENT_LOST,
	    .rank = RANK_NONE,
	    .code = 1};

	m->p->cause = incident_declare(m, &s, INCIDENT_ASIDE);
	m->p->fault_code = s.code;
}

static void begin_anew(struct moment *m, const struct record_agent *hello, bool same)
{
	struct policy *p = m->p;
	bool lost = attempt_may_live(p) && p->state != RUN_CAPTURING;

	if (!same) {
		/* The command was run again: what was asked of the one before, and what it had spent, is past. */
		if (p->ending == END_STOPPED && p->asked == 0)
			p->ending = 0;
		budget_reset(p);
		p->floor_step = STEP_NONE;
	}
	if (p->state == RUN_ENDED)
		p->end_reason = 0;
	p->charged = 0;
	p->tail_rank = RANK_NONE;
	if (hello->attempt > p->attempt) {
		/* It was started by a decision that never became durable. */
		p->attempt = hello->attempt;
		ranks_reset(p);
		lost = true;
	}
	if (lost)
		declare_lost(m);
	attempt_clear(m);
}

void greet_on_agent(struct moment *m, const struct record *r)
{
	const struct record_agent *hello = (const struct record_agent *)r;
	struct policy *p = m->p;
	bool same = p->greeted != 0 && memcmp(p->agent_id, hello->agent_id, sizeof(p->agent_id)) == 0;

	memcpy(p->agent_id, hello->agent_id, sizeof(p->agent_id));
	if (!same)
		p->source_seq = 0;
	p->greeted = 1;
	p->present = 1;
	p->present_ns = m->now_ns;
	stall_on_progress(m);
	if ((p->state == RUN_ENDED && p->end_reason == END_DONE) ||
	    (same && as_expected(p, hello->attempt)) || (!RULE(RULE_AGENT) && attempt_may_live(p)))
		m->reissue = true;
	else
		begin_anew(m, hello, same);
}

static void reissue_continues(struct moment *m)
{
	uint32_t kills = 0;

	for (uint32_t i = 0; i < m->p->rank_count && kills < KILLS_A_TURN; i++) {
		const struct rank *rank = &m->p->ranks[i];

		if (rank->state != RANK_STOPPED || (rank->flags & RANK_FLAG_SENT) == 0)
			continue;
		decide_kill(m, i, SIGNAL_CONT);
		kills++;
	}
}

static void reissue_captures(struct moment *m)
{
	struct policy *p = m->p;

	for (uint32_t i = 0; i < p->rank_count; i++)
		if ((p->ranks[i].flags & RANK_FLAG_CAPTURE) != 0)
			decide_capture(m, i, EVIDENCE_STACKS);
	attempt_enter(p, RUN_CAPTURING,
	    after_ns(after_ns(m->now_ns, p->config.capture_max_ns), ANSWER_MARGIN_NS));
}

void greet_reissue(struct moment *m)
{
	struct policy *p = m->p;

	if (!RULE(RULE_REISSUE))
		return;
	switch (p->state) {
	case RUN_CHOOSING:
		choose_reissue(m);
		break;
	case RUN_STARTING:
		decide_start(m);
		attempt_enter(p, RUN_STARTING, after_ns(m->now_ns, p->config.stall_first_ns));
		reissue_continues(m);
		break;
	case RUN_RUNNING:
		reissue_continues(m);
		break;
	case RUN_STOPPING:
		attempt_ask_stop(m);
		break;
	case RUN_CAPTURING:
		reissue_captures(m);
		break;
	case RUN_CLEARING:
		if (p->tail_rank != RANK_NONE)
			decide_capture(m, p->tail_rank, EVIDENCE_TAIL);
		attempt_clear(m);
		break;
	case RUN_ENDED:
		decide_end(m);
		break;
	default:
		break;
	}
}
