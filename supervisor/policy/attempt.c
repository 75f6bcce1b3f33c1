/* See attempt.h. */
#include "supervisor/policy/attempt.h"
#include "supervisor/policy/advance.h"
#include "supervisor/policy/budget.h"
#include "supervisor/policy/choose.h"
#include "supervisor/policy/decide.h"
#include "supervisor/policy/greet.h"
#include "supervisor/policy/incident.h"
#include "supervisor/policy/ladder.h"
#include "supervisor/policy/ranks.h"
#include "supervisor/policy/stall.h"

#define CODE_STUCK 75
#define CODE_STOPPED 143
#define CODE_NOT_EXECUTABLE 126
#define CODE_NOT_FOUND 127
#define ERROR_NOT_FOUND 2  /* ENOENT */
#define ERROR_TIME 110     /* ETIMEDOUT */
#define STOPPED_A_TURN 16u /* stopped ranks that one turn looks after */
#define KILLS_A_TURN 64u
#define USER_SIGNALS_A_TURN 16u /* a turn's decisions have their limit */

void attempt_enter(struct policy *p, enum run_state state, uint64_t wait_ns)
{
	p->state = state;
	p->wait_ns = wait_ns;
}

void attempt_start(struct moment *m, enum start_source source, uint64_t step, const struct rung *rung)
{
	struct policy *p = m->p;

	p->attempt++;
	ranks_reset(p);
	stall_begin(m);
	p->start = (struct start){.step = step,
	    .rung_first_seq = rung != NULL ? rung->first_seq : 0,
	    .rung_last_seq = rung != NULL ? rung->last_seq : 0,
	    .time_ns = m->now_ns,
	    .source = source,
	    .incident = p->cause};
	decide_start(m);
	attempt_enter(p, RUN_STARTING, after_ns(m->now_ns, p->config.stall_first_ns));
}

void attempt_clear(struct moment *m)
{
	struct policy *p = m->p;

	decide_clear(m);
	attempt_enter(p, RUN_CLEARING,
	    after_ns(after_ns(m->now_ns, p->config.clear_max_ns), ANSWER_MARGIN_NS));
	if (!RULE(RULE_CLEAR) && p->ending == 0 && p->attempt > 0)
		choose_begin(m);
}

static void end(struct moment *m, uint32_t reason, int32_t code)
{
	m->p->end_reason = reason;
	m->p->end_code = code;
	m->p->ending = 0;
	decide_end(m);
	attempt_enter(m->p, RUN_ENDED, NEVER);
}

void attempt_wait_for_files(struct moment *m)
{
	struct policy *p = m->p;
	uint64_t wait_ns;
	uint32_t reason;

	p->charged = 1;
	reason = budget_charge(p, &wait_ns);
	if (reason != 0)
		end(m, reason, CODE_STUCK);
	else
		attempt_enter(p, RUN_BACKOFF,
		    after_ns(m->now_ns, greater(wait_ns, p->config.backoff_first_ns)));
}

/* Nothing of the attempt is left: end, wait, or choose where to go on. */
static void after_clear(struct moment *m)
{
	struct policy *p = m->p;
	uint64_t wait_ns;
	uint32_t reason;

	if (p->ending == END_DONE) {
		incident_close_all(m);
		end(m, END_DONE, 0);
		return;
	}
	if (p->ending == END_STOPPED) {
		end(m, END_STOPPED, CODE_STOPPED);
		return;
	}
	reason = budget_charge(p, &wait_ns);
	if (reason != 0)
		end(m, reason, p->fault_code != 0 ? p->fault_code : 1);
	else if (wait_ns > 0)
		attempt_enter(p, RUN_BACKOFF, after_ns(m->now_ns, wait_ns));
	else
		choose_begin(m);
}

/* --- a fault ------------------------------------------------------------------------------------------ */

static void capture(struct moment *m, uint32_t rank)
{
	struct policy *p = m->p;

	if (!ranks_alive(p, rank) || (p->ranks[rank].flags & RANK_FLAG_CAPTURE) != 0 ||
	    p->capture_count == POLICY_CAPTURES)
		return;
	p->ranks[rank].flags |= RANK_FLAG_CAPTURE;
	p->capture_count++;
	decide_capture(m, rank, EVIDENCE_STACKS);
}

/* Of a living suspect the stacks are taken before it is ended (H9), in a stall also those of some others. */
static void take_stacks(struct moment *m, const struct suspicion *s)
{
	bool stall = s->fault == FAULT_STALL_IDLE || s->fault == FAULT_STALL_SPINNING;

	if (s->fault != FAULT_SIGNAL && s->fault != FAULT_STOPPED && !stall)
		return;
	if (s->rank != RANK_NONE)
		capture(m, s->rank);
	for (uint32_t i = 0; stall && i < m->p->rank_count && i < 2 * POLICY_CAPTURES; i++)
		capture(m, i);
}

static void fail(struct moment *m)
{
	struct policy *p = m->p;
	const struct suspicion *s = &m->suspicion;
	bool asked = s->fault == FAULT_KICK;

	p->cause = incident_declare(m, s, asked ? INCIDENT_ASIDE : INCIDENT_RESTART);
	p->evidence = p->cause;
	p->fault_code = s->code;
	p->charged = !asked;
	p->tail_rank = RANK_NONE;
	if (!asked && s->fault != FAULT_SPAWN)
		ladder_suspect_loaded(m);
	if (RULE(RULE_CAPTURE))
		take_stacks(m, s);
	if (p->capture_count > 0) {
		attempt_enter(p, RUN_CAPTURING,
		    after_ns(after_ns(m->now_ns, p->config.capture_max_ns), ANSWER_MARGIN_NS));
		return;
	}
	/* First the end of the others, for the restart waits for it; the tail lies in files and does not. */
	if (s->rank != RANK_NONE && s->fault != FAULT_SPAWN)
		p->tail_rank = s->rank;
	attempt_clear(m);
	if (p->tail_rank != RANK_NONE)
		decide_capture(m, s->rank, EVIDENCE_TAIL);
}

/* --- inputs that are the attempt's own ---------------------------------------------------------------- */

static void on_started(struct moment *m, const struct record *r)
{
	ranks_on_started(m, r);
	if (m->p->state == RUN_STARTING && m->p->started_count == m->p->rank_count)
		attempt_enter(m->p, RUN_RUNNING, NEVER);
}

static void on_spawn(struct moment *m, const struct record *r)
{
	const struct record_spawn *spawn = (const struct record_spawn *)r;
	struct suspicion s = {.time_ns = r->time_ns,
	    .onset_step = STEP_NONE,
	    .fault = FAULT_SPAWN,
	    .rank = spawn->rank,
	    .detail = spawn->error,
	    .stage = spawn->stage,
	    .code = CODE_STUCK};

	if (spawn->stage == SPAWN_EXEC)
		s.code = spawn->error == ERROR_NOT_FOUND ? CODE_NOT_FOUND : CODE_NOT_EXECUTABLE;
	if (m->p->ranks[spawn->rank].state == RANK_IDLE)
		m->p->ranks[spawn->rank].state = RANK_FAILED;
	incident_suspect(m, &s);
}

static void on_sample(struct moment *m, const struct record *r)
{
	stall_on_sample(m, (const struct record_sample *)r);
}

static void on_rung(struct moment *m, const struct record *r)
{
	ladder_on_rung(m, (const struct record_rung *)r);
}

static void on_evidence(struct moment *m, const struct record *r)
{
	const struct record_evidence *evidence = (const struct record_evidence *)r;

	if (evidence->incident == m->p->evidence && evidence->evidence_kind == EVIDENCE_STACKS)
		ranks_captured(m->p, evidence->rank);
}

static void on_clear(struct moment *m, const struct record *r)
{
	if (((const struct record_clear *)r)->stuck > 0)
		end(m, END_STUCK, CODE_STUCK);
	else
		after_clear(m);
}

/* --- a person's wishes -------------------------------------------------------------------------------- */

void attempt_ask_stop(struct moment *m)
{
	const struct policy *p = m->p;
	uint32_t deaf = 0;

	decide_ask(m, ASK_STOP);
	for (uint32_t pass = 0; pass < 2; pass++) {
		if (pass == 1 && deaf > KILLS_A_TURN) {
			decide_kill(m, RANK_NONE, SIGNAL_TERM);
			return;
		}
		for (uint32_t i = 0; i < p->rank_count; i++) {
			const struct rank *rank = &p->ranks[i];

			if (!ranks_alive(p, i) ||
			    ((rank->flags & RANK_FLAG_CONNECTED) != 0 &&
				(rank->flags & RANK_FLAG_DAMAGED) == 0))
				continue;
			if (pass == 0)
				deaf++;
			else
				decide_kill(m, i, SIGNAL_TERM);
		}
	}
}

static void on_stop(struct moment *m)
{
	struct policy *p = m->p;

	p->asked = 1;
	/* A run that is done stays so; one that had ended is open again only for a new agent. */
	if (p->ending == END_DONE || (p->state == RUN_ENDED && p->present != 0))
		return;
	p->ending = END_STOPPED;
	switch (p->state) {
	case RUN_CHOOSING:
	case RUN_BACKOFF:
	case RUN_STARTING:
	case RUN_STOPPING:
		p->tail_rank = RANK_NONE;
		attempt_clear(m);
		break;
	case RUN_RUNNING:
		attempt_ask_stop(m);
		attempt_enter(p, RUN_STOPPING, after_ns(m->now_ns, p->config.stop_grace_ns));
		break;
	default:
		break; /* the clearing that comes, or is under way, leads to the end */
	}
}

static void on_kick(struct moment *m)
{
	struct suspicion s = {.time_ns = m->now_ns,
	    .onset_step = STEP_NONE,
	    .fault = FAULT_KICK,
	    .rank = RANK_NONE,
	    .code = 1};

	if (m->p->state == RUN_RUNNING || m->p->state == RUN_STARTING)
		incident_suspect(m, &s);
	else if (m->p->state == RUN_BACKOFF)
		choose_begin(m);
}

/* Only the ranks' own processes are meant, and whoever lives: what a signal means is theirs to say. */
static void on_user_signal(struct moment *m, int32_t signal)
{
	const struct policy *p = m->p;

	if (m->user_signals_passed < USER_SIGNALS_A_TURN &&
	    (p->state == RUN_STARTING || p->state == RUN_RUNNING || p->state == RUN_STOPPING)) {
		m->user_signals_passed++;
		decide_kill(m, RANK_NONE, signal);
	}
}

static void on_control(struct moment *m, const struct record *r)
{
	switch (((const struct record_control *)r)->verb) {
	case CONTROL_STOP:
		on_stop(m);
		break;
	case CONTROL_KICK:
		on_kick(m);
		break;
	case CONTROL_CHECKPOINT:
		if (m->p->state == RUN_RUNNING && !m->checkpoint_asked) {
			m->checkpoint_asked = true;
			decide_ask(m, ASK_CHECKPOINT);
		}
		break;
	case CONTROL_USR1:
		on_user_signal(m, SIGNAL_USR1);
		break;
	case CONTROL_USR2:
		on_user_signal(m, SIGNAL_USR2);
		break;
	default:
		break;
	}
}

/* --- what time does to each state --------------------------------------------------------------------- */

/* A rank stands stopped beyond its grace: continuing it costs nothing, unless it was tried just now. */
static void continue_stopped(struct moment *m)
{
	struct policy *p = m->p;
	uint32_t number = 0;

	for (uint32_t i = 0; i < STOPPED_A_TURN; i++) {
		if (ranks_stopped_deadline_ns(p, &number) > m->now_ns)
			return;
		const struct rank *rank = &p->ranks[number];
		struct suspicion s = {.time_ns = rank->stopped_ns,
		    .onset_step = STEP_NONE,
		    .limit_ns = p->config.stall_stopped_ns,
		    .value_ns = m->now_ns > rank->stopped_ns ? m->now_ns - rank->stopped_ns : 0,
		    .fault = FAULT_STOPPED,
		    .rank = number,
		    .detail = rank->stop_signal,
		    .code = 1};

		if ((rank->flags & RANK_FLAG_CONTINUED) != 0) {
			incident_suspect(m, &s);
			return;
		}
		(void)incident_declare(m, &s, INCIDENT_IN_PLACE);
		decide_kill(m, number, SIGNAL_CONT);
		ranks_mark_continued(p, number);
		stall_on_progress(m);
	}
}

static void time_starting(struct moment *m)
{
	struct policy *p = m->p;
	struct suspicion s = {.time_ns = p->start.time_ns,
	    .onset_step = STEP_NONE,
	    .limit_ns = p->config.stall_first_ns,
	    .value_ns = m->now_ns - p->start.time_ns,
	    .fault = FAULT_SPAWN,
	    .rank = RANK_NONE,
	    .detail = ERROR_TIME,
	    .code = CODE_STUCK};

	continue_stopped(m);
	if (m->now_ns >= p->wait_ns)
		incident_suspect(m, &s);
}

static void time_running(struct moment *m)
{
	continue_stopped(m);
	if (m->suspicion.time_ns == NEVER && m->now_ns >= stall_deadline_ns(m->p))
		stall_on_time(m);
}

static void time_stopping(struct moment *m)
{
	if (m->now_ns >= m->p->wait_ns || m->p->exited_count == m->p->rank_count)
		attempt_clear(m);
}

static void time_capturing(struct moment *m)
{
	if (m->now_ns >= m->p->wait_ns || m->p->capture_count == 0)
		attempt_clear(m);
}

/* Also an agent that does not answer can prove nothing gone. */
static void time_clearing(struct moment *m)
{
	if (m->now_ns >= m->p->wait_ns)
		end(m, END_STUCK, CODE_STUCK);
}

static void time_backoff(struct moment *m)
{
	if (m->now_ns >= m->p->wait_ns)
		choose_begin(m);
}

/* --- the table ---------------------------------------------------------------------------------------- */

#define INPUT_COUNT (RECORD_INPUT_LAST + 1)

typedef void input_handler(struct moment *m, const struct record *r);
typedef void time_handler(struct moment *m);

#define ANY_STATE                                                                                  \
	[RECORD_SESSION] = greet_on_session, [RECORD_AGENT] = greet_on_agent,                      \
	[RECORD_CONTROL] = on_control, [RECORD_RUNG] = on_rung, [RECORD_KEPT] = advance_on_kept
/* The ranks of an attempt that is alive, or is being ended. */
#define ANY_LIVE                                                                                                  \
	[RECORD_CONNECTED] = ranks_on_connected, [RECORD_PHASE] = ranks_on_phase, [RECORD_STEP] = advance_on_row, \
	[RECORD_GAP] = ranks_on_gap, [RECORD_STOPPED] = ranks_on_stopped, [RECORD_DEATH] = ranks_on_death,        \
	[RECORD_EXIT] = ranks_on_exit, [RECORD_DAMAGE] = ranks_on_damage, [RECORD_SAVED] = advance_on_saved,      \
	[RECORD_STARTED] = on_started, [RECORD_WRITING] = advance_on_writing, [RECORD_NO_ROOM] = ranks_on_no_room

static const struct row_of_table {
	time_handler *on_time;
	input_handler *on_input[INPUT_COUNT];
} TABLE[RUN_STATE_COUNT] = {
    [RUN_WAITING] = {.on_input = {ANY_STATE, [RECORD_RUN] = greet_on_run}},
    [RUN_CHOOSING] = {.on_time = choose_on_time,
	.on_input = {ANY_STATE, [RECORD_MEMORY] = choose_on_memory, [RECORD_VERIFIED] = choose_on_verified}},
    [RUN_BACKOFF] = {.on_time = time_backoff, .on_input = {ANY_STATE}},
    [RUN_STARTING] = {.on_time = time_starting,
	.on_input = {ANY_STATE,
	    ANY_LIVE, [RECORD_SPAWN] = on_spawn, [RECORD_CRASHING] = ranks_on_crashing}},
    [RUN_RUNNING] = {.on_time = time_running,
	.on_input = {ANY_STATE,
	    ANY_LIVE, [RECORD_CRASHING] = ranks_on_crashing, [RECORD_SAMPLE] = on_sample}},
    [RUN_STOPPING] = {.on_time = time_stopping, .on_input = {ANY_STATE, ANY_LIVE}},
    [RUN_CAPTURING] = {.on_time = time_capturing,
	.on_input = {ANY_STATE, ANY_LIVE, [RECORD_EVIDENCE] = on_evidence}},
    [RUN_CLEARING] = {.on_time = time_clearing,
	.on_input = {ANY_STATE, ANY_LIVE, [RECORD_CLEAR] = on_clear}},
    [RUN_ENDED] = {.on_input = {ANY_STATE}},
};

void attempt_on_input(struct moment *m, const struct record *r)
{
	input_handler *handler = r->kind < INPUT_COUNT ? TABLE[m->p->state].on_input[r->kind] : NULL;

	if (handler != NULL)
		handler(m, r);
}

void attempt_finish_turn(struct moment *m)
{
	struct policy *p = m->p;

	/* Without an agent there is nobody to ask and nobody's silence means anything. */
	if (p->present == 0)
		return;
	if (m->reissue)
		greet_reissue(m);
	if (p->state == RUN_STARTING || p->state == RUN_RUNNING)
		ranks_judge(m);
	if (m->suspicion.time_ns == NEVER && TABLE[p->state].on_time != NULL)
		TABLE[p->state].on_time(m);
	if (p->state == RUN_STARTING || p->state == RUN_RUNNING) {
		if (m->suspicion.time_ns != NEVER) {
			fail(m);
		} else if (p->exited_count == p->rank_count && p->finished_count == p->rank_count) {
			p->ending = END_DONE;
			p->tail_rank = RANK_NONE;
			attempt_clear(m);
		}
	}
	ladder_issue(m, m->reissue);
}

uint64_t attempt_deadline_ns(const struct policy *p)
{
	uint64_t deadline_ns = p->wait_ns;
	uint32_t rank;

	if (p->present == 0)
		return NEVER;
	if (p->state == RUN_STARTING || p->state == RUN_RUNNING) {
		deadline_ns = lesser(deadline_ns, ranks_stopped_deadline_ns(p, &rank));
		deadline_ns = lesser(deadline_ns, ranks_judge_deadline_ns(p));
	}
	if (p->state == RUN_RUNNING)
		deadline_ns = lesser(deadline_ns, stall_deadline_ns(p));
	return deadline_ns;
}
