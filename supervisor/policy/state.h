/*
 * The whole state of the policy, in one block, and what one turn carries through it.
 *
 * policy_digest() is the hash of this block, so that it holds no pointer, no padding and nothing that is not
 * a function of the inputs (H4, H5): the compiler is told to refuse padding here.  Only the files of this
 * folder include it.  Times are run time, in ns; UINT64_MAX is "never".
 */
#ifndef POLICY_STATE_H
#define POLICY_STATE_H

#include "supervisor/policy/policy.h"

#define NEVER UINT64_MAX
#define SECOND_NS 1000000000ull
/* What is granted beyond a deadline that the agent was told, for its answer to arrive. */
#define ANSWER_MARGIN_NS (2 * SECOND_NS)
/* A program that reports no step and ends within this time failed to load what it was given. */
#define LOAD_FAILS_NS (120 * SECOND_NS)

#define POLICY_PENDING 64u   /* announced checkpoint files that wait for their digest */
#define POLICY_UNDER_WAY 16u /* of them at the agent at a time */
#define POLICY_OPEN 64u /* incidents that are not recovered yet; more are declared, not followed */
#define POLICY_CAPTURES 4u /* ranks of a stall whose stacks are taken */

/* Linux' numbers on every machine that Holdfast runs on; the policy includes no system header. */
#define SIGNAL_ILL 4
#define SIGNAL_ABRT 6
#define SIGNAL_BUS 7
#define SIGNAL_FPE 8
#define SIGNAL_KILL 9
#define SIGNAL_USR1 10
#define SIGNAL_SEGV 11
#define SIGNAL_USR2 12
#define SIGNAL_TERM 15
#define SIGNAL_CONT 18

/* Rules that the simulator's controls take away, one at a time, in a library of their own. */
enum policy_rule {
	RULE_NONE = 0,
	RULE_ONSET,      /* no state from the onset of a fault on is loaded */
	RULE_CLEAR,      /* a start waits for the proof that the attempt before is gone (H6) */
	RULE_ATTEMPT,    /* inputs of another attempt are dropped (H7) */
	RULE_VERIFY,     /* a rung is loaded only after it was verified in this restart (H8) */
	RULE_EVERYWHERE, /* memory is loaded only at a step that every rank holds */
	RULE_DUPLICATE,  /* a message that was seen is dropped */
	RULE_BUDGET,     /* restarts without progress are counted */
	RULE_REISSUE,    /* a new supervisor says again what its agent may not have heard */
	RULE_FLOOR,      /* the same fault again steps down to an older state */
	RULE_CAPTURE,    /* evidence of a stall comes before its end (H9) */
	RULE_STALL,      /* a stall is noticed */
	RULE_AGENT,      /* an attempt dies with its agent */
	RULE_TORN,       /* what an attempt may have torn as it died is no rung */
	RULE_SILENCE,    /* how long nothing may happen is learned */
	RULE_COUNT
};
#ifdef POLICY_RULES_REMOVABLE
extern enum policy_rule policy_rule_removed;
#define RULE(rule) (policy_rule_removed != (rule))
#else
#define RULE(rule) true
#endif

#pragma GCC diagnostic push
#pragma GCC diagnostic error "-Wpadded"

enum rank_flag {
	RANK_FLAG_CONNECTED = 1, /* it opened its channel in this attempt */
	RANK_FLAG_DAMAGED = 2,   /* what its channel says means nothing any more */
	RANK_FLAG_STATUS = 4,    /* wait_status is known */
	RANK_FLAG_OOM = 8,
	RANK_FLAG_SENT = 16,       /* SIGCONT was decided since it was stopped */
	RANK_FLAG_CONTINUED = 32,  /* it was continued by us less than clean_steps rows ago */
	RANK_FLAG_ANSWERED = 64,   /* the survey */
	RANK_FLAG_CAPTURE = 128,   /* its stacks are being taken */
	RANK_FLAG_WAITING = 256,   /* by its last sample, it waits for its peers */
	RANK_FLAG_CRASHING = 1024, /* it waits in its crash handler; wait_status holds the signal */
	RANK_FLAG_HALTED = 512,    /* by its last sample, the kernel holds it: D, T, t */
	RANK_FLAG_SAMPLED = 2048,  /* since samples were asked for last, its own came */
};

/* CPU time of a rank's processes, and their output so far, at a time; time_ns 0: not measured. */
struct reading {
	uint64_t time_ns, cpu_ns, output_bytes;
};

struct rank {
	uint64_t ring_seq;
	uint64_t death_ns;   /* when its death was first noticed */
	uint64_t stopped_ns; /* when it was stopped */
	uint64_t memory[MEMORY_SLOTS];
	struct reading first, second;
	uint64_t sampled_step;
	uint32_t state; /* enum rank_state */
	uint32_t flags; /* enum rank_flag */
	uint32_t phase;
	int32_t wait_status;
	uint32_t clean; /* complete rows since it was continued */
	int32_t stop_signal;
};

struct rung {
	uint64_t step;
	uint64_t ordinal;             /* of its RECORD_KEPT; 0: the trainer announced it */
	uint64_t mark;                /* of a kept one: the first bytes of its digest */
	uint64_t first_seq, last_seq; /* its RECORD_RUNGs, or its RECORD_KEPT, lie in between */
	uint64_t clean_step;          /* newest clean row that counted for it */
	uint32_t attempt;             /* that wrote it */
	uint32_t shard_count, shards; /* wanted, digested */
	uint32_t standing;            /* STANDING_NONE: incomplete */
	uint32_t clean;               /* clean rows after it */
	uint32_t spoilt;              /* 1: a shard is unreadable or holds a NaN */
};

struct pending {
	uint64_t saved_seq; /* 0: free */
	uint64_t step;
	uint32_t attempt, rank;
	uint32_t shard_count;
	uint32_t issued;
};

struct fingerprint {
	uint64_t value;    /* 0: free */
	uint64_t progress; /* of the run, when it was seen last */
	uint32_t count;
	uint32_t age; /* number of the incident that bore it last */
};

struct open_incident {
	uint64_t onset_ns;
	uint64_t redone; /* the run's count of rows made again, when it was declared */
	uint32_t number; /* 0: free */
	uint32_t attempt;
	uint32_t rank;
	uint32_t in_place; /* 1: the attempt goes on; recovered by its own next row */
};

/* The start of the current attempt, as it was decided: said again to an agent that may not have heard it. */
struct start {
	uint64_t step;
	uint64_t rung_first_seq, rung_last_seq;
	uint64_t time_ns;
	uint32_t source, incident;
};

enum stall_stage { STALL_QUIET = 0, STALL_FIRST, STALL_SECOND };
struct stall {
	uint64_t progress_ns;      /* last sign of life */
	uint64_t postponed_ns;     /* a sample showed a phase that may last until then */
	uint64_t sampled_ns;       /* when the samples that are waited for were asked for */
	uint64_t start_longest_ns; /* from a start to its first row */
	uint64_t step_longest_ns;  /* of durations_ns */
	uint64_t phase_longest_ns[PHASE_COUNT];
	uint64_t durations_ns[POLICY_DURATIONS];
	uint64_t duration_count;           /* ever; the window holds the last ones */
	uint32_t phase_ranks[PHASE_COUNT]; /* how many ranks are in it */
	uint32_t stage;                    /* enum stall_stage */
	uint32_t round;   /* 1: a rank was found spinning, twice the limit counts */
	uint32_t tainted; /* 1: a rank was stopped: the next row's duration teaches nothing */
	uint32_t reserved;
};

/* Of trainers that do not speak to us; see silence.h. */
struct silence {
	uint64_t sampled_ns;      /* when samples were asked for last */
	uint64_t idle_ns;         /* the last sign of life */
	uint64_t quiet_ns;        /* the last one that was more than CPU time */
	uint64_t idle_longest_ns; /* longest time without any that came to an end by itself */
	uint64_t signs;           /* samples that showed output, in this run */
	uint32_t aided; /* 1: a rank opened its channel in this run: these rules are not for it */
	uint32_t asked; /* 1: samples are waited for */
	uint32_t idled; /* 1: nothing happened between the last two samples */
	uint32_t confirming; /* 1: a limit was passed, the next samples decide */
	uint32_t hinted;     /* 1: the output of this attempt told of a phase */
	uint32_t reserved;
};

enum choosing { CHOOSING_SURVEY = 1, CHOOSING_VERIFY };
struct choice {
	uint64_t before_step; /* only states of steps < this */
	uint64_t kept_before; /* of checkpoints that were kept aside: only steps < this */
	uint64_t below_step;  /* rungs from here on were tried */
	uint64_t memory_step; /* newest one that every rank holds, or STEP_NONE */
	uint64_t rung_step;   /* being verified */
	uint32_t stage;       /* enum choosing */
	uint32_t answered;    /* ranks that answered the survey */
	uint32_t reported;    /* snapshots reported as bad in this survey */
	uint32_t unread; /* rungs that could not be looked at: whole, perhaps, not to be written over */
};

struct policy {
	struct policy_config config;
	uint8_t agent_id[16];
	uint64_t size_bytes; /* of the block */
	uint64_t source_seq;
	uint64_t wait_ns;      /* deadline of the state's wait, or NEVER */
	uint64_t present_ns;   /* when the agent said hello last */
	uint64_t last_step;    /* newest complete row */
	uint64_t good_step;    /* newest complete row that is to be trusted: what progress is */
	uint64_t attempt_step; /* newest row of the current attempt, partial ones too */
	uint64_t onset_step; /* first step that must not be loaded, until it was done again cleanly */
	uint64_t floor_step; /* a loop steps down: only states of steps < this; STEP_NONE: no floor */
	uint64_t stride;     /* between the last two clean rows of an attempt; 0: not known */
	uint64_t kept_step; /* newest checkpoint that was kept before there was any row: what progress is then */
	uint64_t redone; /* complete rows that had been committed before */
	uint32_t rank_count;
	uint32_t state;   /* enum run_state; written by attempt_enter() alone */
	uint32_t known;   /* 1: RECORD_RUN was seen */
	uint32_t present; /* 1: an agent said hello in this session */
	uint32_t greeted; /* 1: agent_id is of an agent */
	uint32_t attempt;
	uint32_t onset_attempt;
	uint32_t tries;   /* charged restarts since the last progress */
	uint32_t charged; /* 1: the restart to come is charged */
	uint32_t ending;  /* enum end_reason that follows the clearing, or 0 */
	uint32_t end_reason;
	int32_t end_code;
	int32_t fault_code;      /* exit code that the last fault stands for */
	uint32_t incident_count; /* number of the last one */
	uint32_t cause;          /* incident that the next attempt answers, or 0 */
	uint32_t evidence;       /* incident for which evidence is being taken */
	uint32_t tail_rank; /* whose output's tail was asked for with the clearing, or RANK_NONE */
	uint32_t started_count, dead_count, finished_count, exited_count, stopped_count;
	uint32_t continued_count, unknown_count, capture_count, crashing_count;
	uint32_t clean; /* clean rows of this attempt */
	uint32_t rung_next;
	uint32_t asked; /* 1: a person asked to stop in this session */
	uint32_t reserved;
	struct start start;
	struct stall stall;
	struct silence silence;
	struct choice choice;
	struct rung rungs[POLICY_RUNGS];
	struct pending pending[POLICY_PENDING];
	struct fingerprint fingerprints[POLICY_INCIDENTS];
	struct open_incident open[POLICY_OPEN];
	struct rank ranks[];
};

#pragma GCC diagnostic pop

/* A fault that an input of this turn, or the time, speaks for. */
struct suspicion {
	uint64_t time_ns; /* NEVER: none */
	uint64_t onset_step;
	uint64_t limit_ns, value_ns;
	enum fault fault;
	uint32_t rank;
	int32_t detail;
	int32_t code;   /* exit code of the run, should it be given up for this */
	uint32_t stage; /* FAULT_SPAWN: enum spawn_stage */
};

/* One turn on its way through the policy. */
struct moment {
	struct policy *p;
	uint64_t now_ns;
	struct decisions *out;
	struct suspicion suspicion; /* the earliest of this turn: who came first is the cause */
	bool reissue;               /* the agent of before said hello again */
	bool checkpoint_asked;
	uint32_t user_signals_passed;
};

static inline uint64_t after_ns(uint64_t time_ns, uint64_t delay_ns)
{
	return delay_ns > NEVER - time_ns ? NEVER : time_ns + delay_ns;
}

static inline uint64_t times(uint64_t value, uint64_t factor)
{
	return factor != 0 && value > NEVER / factor ? NEVER : value * factor;
}

static inline uint64_t lesser(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t greater(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static inline uint64_t clamp(uint64_t value, uint64_t low, uint64_t high)
{
	return lesser(greater(value, low), greater(low, high));
}

/* How far the run has come: its newest row that is to be trusted, or without any row its newest checkpoint. */
static inline uint64_t progress_of(const struct policy *p)
{
	return p->last_step != STEP_NONE ? p->good_step : p->kept_step;
}

/* Steps in their order, STEP_NONE ("none yet") before the first. */
static inline bool step_later(uint64_t a, uint64_t b)
{
	return a + 1 > b + 1;
}

#endif
