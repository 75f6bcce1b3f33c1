/* See policy.h.  This file takes inputs in and gives the state out; the walk is attempt.c's. */
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "supervisor/policy/attempt.h"
#include "supervisor/policy/ladder.h"

void policy_config_default(struct policy_config *config)
{
	*config = (struct policy_config){
	    .stall_min_ns = 2 * SECOND_NS,
	    .stall_max_ns = 3600 * SECOND_NS,
	    .stall_first_ns = 1800 * SECOND_NS,
	    .stall_silent_ns = 600 * SECOND_NS,
	    .stall_stopped_ns = SECOND_NS / 2,
	    .capture_max_ns = 10 * SECOND_NS,
	    .clear_max_ns = 60 * SECOND_NS,
	    .verify_max_ns = 600 * SECOND_NS,
	    .stop_grace_ns = 120 * SECOND_NS,
	    .backoff_first_ns = SECOND_NS,
	    .backoff_max_ns = 60 * SECOND_NS,
	    .stall_factor = 10,
	    .clean_steps = 5,
	    .tries_max = 3,
	    .tries_first_max = 2,
	};
}

struct policy *policy_new(uint32_t rank_count)
{
	size_t size = sizeof(struct policy) + rank_count * sizeof(struct rank);
	struct policy *p;

	if (rank_count == 0 || rank_count > RANKS_MAX || (p = calloc(1, size)) == NULL)
		return NULL;
	policy_config_default(&p->config);
	p->size_bytes = size;
	p->rank_count = rank_count;
	p->wait_ns = NEVER;
	p->last_step = STEP_NONE;
	p->kept_step = STEP_NONE;
	p->good_step = STEP_NONE;
	p->attempt_step = STEP_NONE;
	p->onset_step = STEP_NONE;
	p->floor_step = STEP_NONE;
	p->start.step = STEP_NONE;
	p->tail_rank = RANK_NONE;
	return p;
}

void policy_free(struct policy *p)
{
	free(p);
}

/* Of which rank and attempt an input speaks.  Offset 0: of none. */
static const struct subject {
	uint16_t rank_at, attempt_at;
	uint32_t ahead; /* 1: it speaks of the attempt that is about to be started */
} SUBJECTS[RECORD_INPUT_LAST + 1] = {
#define RANK_AND_ATTEMPT(type)                                                                     \
	{                                                                                          \
		offsetof(struct type, rank), offsetof(struct type, attempt), 0                     \
	}
    [RECORD_STARTED] = RANK_AND_ATTEMPT(record_started),
    [RECORD_SPAWN] = RANK_AND_ATTEMPT(record_spawn),
    [RECORD_CONNECTED] = RANK_AND_ATTEMPT(record_connected),
    [RECORD_PHASE] = RANK_AND_ATTEMPT(record_phase),
    [RECORD_STEP] = {0, offsetof(struct record_step, attempt), 0},
    [RECORD_GAP] = RANK_AND_ATTEMPT(record_gap),
    [RECORD_CRASHING] = RANK_AND_ATTEMPT(record_crashing),
    [RECORD_STOPPED] = RANK_AND_ATTEMPT(record_stopped),
    [RECORD_DEATH] = RANK_AND_ATTEMPT(record_death),
    [RECORD_EXIT] = RANK_AND_ATTEMPT(record_exit),
    [RECORD_CLEAR] = {0, offsetof(struct record_clear, attempt), 0},
    [RECORD_SAMPLE] = RANK_AND_ATTEMPT(record_sample),
    [RECORD_MEMORY] = {offsetof(struct record_memory, rank),
	offsetof(struct record_memory, attempt), 1},
    [RECORD_VERIFIED] = {0, offsetof(struct record_verified, attempt), 1},
    [RECORD_DAMAGE] = RANK_AND_ATTEMPT(record_damage),
    [RECORD_EVIDENCE] = RANK_AND_ATTEMPT(record_evidence),
    [RECORD_SAVED] = RANK_AND_ATTEMPT(record_saved),
    [RECORD_WRITING] = {0, offsetof(struct record_writing, attempt), 0},
    [RECORD_NO_ROOM] = RANK_AND_ATTEMPT(record_no_room),
    [RECORD_PROGRESS] = RANK_AND_ATTEMPT(record_progress),
#undef RANK_AND_ATTEMPT
};

static uint32_t u32_at(const struct record *r, uint32_t offset)
{
	uint32_t value;

	memcpy(&value, (const uint8_t *)r + offset, sizeof(value));
	return value;
}

/* Whether the input speaks of the attempt, and of a rank, that the policy is about (H7). */
static bool concerns(const struct policy *p, const struct record *r)
{
	const struct subject *subject = &SUBJECTS[r->kind];

	if (subject->rank_at != 0 && u32_at(r, subject->rank_at) >= p->rank_count)
		return false;
	return subject->attempt_at == 0 || !RULE(RULE_ATTEMPT) ||
	    u32_at(r, subject->attempt_at) == p->attempt + subject->ahead;
}

static void take(struct moment *m, const struct record *r)
{
	struct policy *p = m->p;

	if (r->kind == 0 || r->kind > RECORD_INPUT_LAST)
		return;
	/* Agents number what they say, and say it again until it is durable. */
	if (r->source_seq != 0 && r->kind != RECORD_AGENT) {
		if (r->source_seq <= p->source_seq && RULE(RULE_DUPLICATE))
			return;
		p->source_seq = greater(p->source_seq, r->source_seq);
	}
	if (concerns(p, r))
		attempt_on_input(m, r);
}

void policy_turn(struct policy *p, const struct record *const inputs[], size_t count,
    uint64_t now_ns, struct decisions *out)
{
	struct moment m = {.p = p, .now_ns = now_ns, .out = out, .suspicion = {.time_ns = NEVER}};

	out->count = 0;
	out->size_bytes = 0;
	for (size_t i = 0; i < count; i++)
		take(&m, inputs[i]);
	attempt_finish_turn(&m);
}

uint64_t policy_deadline_ns(const struct policy *p)
{
	return attempt_deadline_ns(p);
}

uint64_t policy_digest(const struct policy *p)
{
	return XXH3_64bits(p, p->size_bytes);
}

enum run_state policy_run_state(const struct policy *p)
{
	return (enum run_state)p->state;
}

enum rank_state policy_rank_state(const struct policy *p, uint32_t rank)
{
	return rank < p->rank_count ? (enum rank_state)p->ranks[rank].state : RANK_IDLE;
}

uint32_t policy_attempt(const struct policy *p)
{
	return p->attempt;
}

uint32_t policy_rank_count(const struct policy *p)
{
	return p->rank_count;
}

uint64_t policy_last_step(const struct policy *p)
{
	return p->last_step;
}

uint64_t policy_ring_seq(const struct policy *p, uint32_t attempt, uint32_t rank)
{
	return attempt == p->attempt && rank < p->rank_count ? p->ranks[rank].ring_seq : 0;
}

uint64_t policy_source_seq(const struct policy *p, const uint8_t agent_id[16])
{
	return p->greeted != 0 && memcmp(p->agent_id, agent_id, sizeof(p->agent_id)) == 0
	    ? p->source_seq
	    : 0;
}

void policy_protected(const struct policy *p, uint64_t ordinals[POLICY_PROTECTED])
{
	ladder_protected(p, p->state == RUN_CHOOSING ? p->choice.rung_step : STEP_NONE, ordinals);
}

int policy_exit_code(const struct policy *p)
{
	return p->state == RUN_ENDED ? p->end_code : -1;
}

const char *policy_run_state_name(enum run_state state)
{
	static const char *const names[RUN_STATE_COUNT] = {
	    [RUN_WAITING] = "waiting",
	    [RUN_CHOOSING] = "choosing",
	    [RUN_BACKOFF] = "backoff",
	    [RUN_STARTING] = "starting",
	    [RUN_RUNNING] = "running",
	    [RUN_STOPPING] = "stopping",
	    [RUN_CAPTURING] = "capturing",
	    [RUN_CLEARING] = "clearing",
	    [RUN_ENDED] = "ended",
	};

	return (uint32_t)state < RUN_STATE_COUNT ? names[state] : "?";
}

const char *policy_rank_state_name(enum rank_state state)
{
	static const char *const names[RANK_STATE_COUNT] = {
	    [RANK_IDLE] = "idle",
	    [RANK_STARTED] = "started",
	    [RANK_CONNECTED] = "connected",
	    [RANK_STOPPED] = "stopped",
	    [RANK_DYING] = "dying",
	    [RANK_EXITED] = "exited",
	    [RANK_FAILED] = "failed",
	};

	return (uint32_t)state < RANK_STATE_COUNT ? names[state] : "?";
}
