/*
 * Every record of the journal, byte for byte.
 *
 * A record is one of these structs, little-endian, laid out without holes, followed by the variable
 * part its comment names.  The same bytes travel from where they arise (a trainer's ring, the agent)
 * through the wire and the turn into LMDB and to every reader: there is no second representation.
 *
 * Records are of three families:
 *	inputs     what happened: RECORD_RUN … RECORD_EVIDENCE.  The policy reads exactly these.
 *	decisions  what the policy answered: DECISION_*.
 *	turns      RECORD_TURN closes each turn: its time, its counts, the digest of the policy's state.
 * Folding inputs turn by turn through the policy gives the state and the decisions again (H4, H5).
 *
 * Times are run time: nanoseconds on a clock that starts at 0 with the run, never goes back, and goes
 * on across supervisors and reboots.  RECORD_SESSION maps it to wall time; wall time is only printed.
 *
 * Records that are not of the kinds below, or of a later version, are refused by readers by number,
 * never guessed at.  A record is at most RECORD_SIZE_MAX bytes.  Invariants: H3, H4, H5, H7, H10.
 */
#ifndef JOURNAL_RECORD_H
#define JOURNAL_RECORD_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the journal's records are little-endian in memory and on disk"
#endif

#define RECORD_SCHEMA 1u            /* of the journal as a whole; stored beside it */
#define RECORD_SIZE_MAX (16u << 20) /* bytes, header included */
#define RECORD_TEXT_MAX 4096u       /* bytes of a path or message, with its NUL */
#define RANK_NONE UINT32_MAX        /* "the group", "no rank in particular" */
#define STEP_NONE UINT64_MAX        /* "no step" */
#define RANKS_MAX 16384u

enum record_kind {
	/* inputs */
	RECORD_RUN = 1,       /* struct record_run: the first record of a journal, once */
	RECORD_SESSION = 2,   /* struct record_session: a supervisor took over */
	RECORD_AGENT = 3,     /* struct record_agent: an agent said hello */
	RECORD_STARTED = 4,   /* struct record_started: a rank's process exists */
	RECORD_SPAWN = 5,     /* struct record_spawn: a rank's process could not be made */
	RECORD_CONNECTED = 6, /* struct record_connected: a trainer opened its channel */
	RECORD_PHASE = 7,     /* struct record_phase: a rank went from one phase to another */
	RECORD_STEP = 8,      /* struct record_step: one iteration of the group */
	RECORD_GAP = 9,       /* struct record_gap: ring records that were lost */
	RECORD_CRASHING = 10, /* struct record_crashing: a rank waits in its crash handler */
	RECORD_STOPPED = 11, /* struct record_stopped: a rank was stopped or continued by a signal */
	RECORD_DEATH = 12,   /* struct record_death: a rank is dying; first notice */
	RECORD_EXIT = 13,    /* struct record_exit: a rank's process was reaped */
	RECORD_CLEAR = 14,  /* struct record_clear: an attempt is proven gone on a node, or stuck */
	RECORD_SAMPLE = 15, /* struct record_sample: answer to DECISION_SAMPLE */
	RECORD_MEMORY = 16, /* struct record_memory: answer to DECISION_SURVEY, one a rank */
	RECORD_RUNG = 17,   /* struct record_rung: answer to DECISION_DIGEST */
	RECORD_VERIFIED = 18, /* struct record_verified: answer to DECISION_VERIFY */
	RECORD_DAMAGE = 19,   /* struct record_damage: a trainer's channel holds nonsense */
	RECORD_CONTROL = 20,  /* struct record_control: a person asked for something */
	RECORD_TROUBLE = 21,  /* struct record_trouble: the journal itself was in trouble */
	RECORD_EVIDENCE = 22, /* struct record_evidence: answer to DECISION_CAPTURE */
	RECORD_SAVED = 23,    /* struct record_saved: a rank announced a checkpoint file */
	RECORD_WRITING = 24,  /* struct record_writing: files of --checkpoint are being written */
	RECORD_KEPT = 25, /* struct record_kept: a checkpoint was kept aside, or could not be, or is gone */
	RECORD_PROGRESS = 26, /* struct record_progress: iterations are read from a rank's output */
	RECORD_NO_ROOM = 27, /* struct record_no_room: no memory for a rank's snapshots can be had */
	RECORD_INPUT_LAST = RECORD_NO_ROOM,
	/* decisions */
	DECISION_START = 64,     /* struct decision_start: start an attempt */
	DECISION_KILL = 65,      /* struct decision_kill: signal ranks of an attempt */
	DECISION_CLEAR = 66,     /* struct decision_clear: make an attempt gone and prove it */
	DECISION_SAMPLE = 67,    /* struct decision_sample: measure a rank's processes */
	DECISION_CAPTURE = 68,   /* struct decision_capture: take evidence of a rank */
	DECISION_SURVEY = 69,    /* struct decision_survey: verify the snapshots in memory */
	DECISION_VERIFY = 70,    /* struct decision_verify: verify one rung on disk */
	DECISION_FAULT = 71,     /* struct decision_fault: an incident is declared */
	DECISION_RECOVERED = 72, /* struct decision_recovered: an incident is over */
	DECISION_STANDING = 73,  /* struct decision_standing: a rung changed its standing */
	DECISION_ASK = 74,       /* struct decision_ask: ask the trainers to stop or checkpoint */
	DECISION_END = 75,       /* struct decision_end: the run is over */
	DECISION_DIGEST = 76,    /* struct decision_digest: digest an announced checkpoint file */
	/* turns */
	RECORD_TURN = 128, /* struct record_turn */
};

/* The head of every record. */
struct record {
	uint16_t kind;       /* enum record_kind */
	uint16_t version;    /* of this kind; 1 */
	uint32_t size_bytes; /* of the whole record, a multiple of 8 */
	uint64_t seq;        /* position in the journal, from 1; 0 until committed */
	uint64_t turn;       /* from 1; 0 until committed */
	uint64_t time_ns;    /* run time at which it arose */
	uint64_t source_seq; /* position among its agent's messages, from 1; 0 for the supervisor's own */
	uint64_t checksum; /* XXH3-64 of the record with this field 0; 0 until committed */
};

/* Where the variable part of a record begins. */
#define RECORD_TEXT(r, type) ((const char *)(r) + sizeof(type))
#define RECORD_ROUND(size) (((size) + 7u) & ~(size_t)7u)

/* Thresholds and budgets, all of them in the journal so that a replay has them. 0 is never "default":
 * the command line fills every field before the record is made. */
struct policy_config {
	uint64_t stall_min_ns; /* no stall is declared earlier than this after the last progress */
	uint64_t stall_max_ns; /* … nor later */
	uint64_t stall_first_ns;   /* limit from start to the first step until one was ever seen */
	uint64_t stall_silent_ns;  /* least limit of a trainer that does not speak to us */
	uint64_t stall_stopped_ns; /* grace for a rank stopped by a signal */
	uint64_t capture_max_ns;   /* deadline for evidence */
	uint64_t clear_max_ns; /* deadline for proving an attempt gone; then it is declared stuck */
	uint64_t verify_max_ns;    /* deadline for verifying a rung */
	uint64_t stop_grace_ns;    /* from asking the trainers to stop to SIGKILL */
	uint64_t backoff_first_ns; /* second restart without progress waits this long, then doubled */
	uint64_t backoff_max_ns;
	uint32_t stall_factor; /* times the longest recent step */
	uint32_t clean_steps; /* K: clean steps after which a rung is good and a suspicion cleared */
	uint32_t tries_max;   /* restarts without progress before the run is given up */
	uint32_t tries_first_max; /* attempts before a first step was ever seen */
};

/* text: the command's arguments, each NUL-terminated; then the working directory, NUL-terminated. */
struct record_run {
	struct record head;
	uint8_t run_id[16]; /* random; printed as 32 hexadecimal digits */
	int64_t wall_ns;    /* wall time at run time 0, since 1970 */
	uint32_t rank_count;
	uint32_t node_count;
	uint32_t argument_count;
	uint32_t text_bytes;
	struct policy_config config;
};

struct record_session {
	struct record head;
	uint8_t boot_id[16]; /* of the kernel: monotonic time is comparable within one boot only */
	int64_t wall_ns;     /* wall time at head.time_ns */
	uint64_t monotonic_ns; /* CLOCK_MONOTONIC at head.time_ns */
	uint32_t supervisor_pid;
	uint32_t session; /* from 1 */
	struct policy_config config;
};

enum agent_rank_flag { AGENT_RANK_ALIVE = 1, AGENT_RANK_CONNECTED = 2 };

/* ranks: rank_count × struct agent_rank. */
struct agent_rank {
	uint32_t rank;
	uint32_t flags; /* enum agent_rank_flag */
	uint32_t pid;
	uint32_t reserved;
};
struct record_agent {
	struct record head;
	uint8_t agent_id[16]; /* random: one agent process */
	uint32_t node;
	uint32_t agent_pid;
	uint32_t attempt;    /* the attempt it holds, 0 for none */
	uint32_t rank_count; /* of that attempt, on this node */
	uint32_t gone;       /* 1 when nothing of any earlier attempt is alive on this node */
	uint32_t reserved;
};

struct record_started {
	struct record head;
	uint32_t rank, attempt;
	uint32_t pid;
	uint32_t warm;          /* 1: a fork of the warm interpreter; 0: a process of its own */
	uint64_t process_start; /* field 22 of /proc/PID/stat: with pid, the process's identity */
};

enum spawn_stage {
	SPAWN_PREPARE = 1, /* channel, pipes, directories */
	SPAWN_FORK,
	SPAWN_CHDIR,
	SPAWN_SETUP, /* signals, descriptors, death signal */
	SPAWN_EXEC,
};
struct record_spawn {
	struct record head;
	uint32_t rank, attempt;
	uint32_t stage; /* enum spawn_stage */
	int32_t error;  /* errno */
};

struct record_connected {
	struct record head;
	uint32_t rank, attempt;
	uint32_t pid;     /* as the trainer says; not trusted for anything */
	uint32_t version; /* of its channel */
};

enum phase {
	PHASE_INIT = 0, /* from exec to the first step or phase call */
	PHASE_STEP = 1,
	PHASE_EVALUATION = 2,
	PHASE_CHECKPOINT = 3,
	PHASE_RESTORE = 4,
	PHASE_OTHER = 5,
	PHASE_COUNT
};
struct record_phase {
	struct record head;
	uint32_t rank, attempt;
	uint64_t ring_seq;
	uint32_t phase;       /* entered: enum phase */
	uint32_t previous;    /* left */
	uint64_t duration_ns; /* spent in previous */
};

enum iteration_field { /* which values of a step were reported */
	FIELD_LOSS = 1,
	FIELD_GRAD_NORM = 2,
	FIELD_LEARNING_RATE = 4,
	FIELD_TOKENS = 8,
	FIELD_DATA_CURSOR = 16,
	FIELD_DIGEST = 32,
	FIELD_COMPUTE = 64,
	FIELD_NOT_FINITE = 128, /* no value: something else that the trainer measured is a NaN or an infinity */
};
enum step_flag {
	STEP_PARTIAL = 1,    /* flushed by an incident: some ranks are missing */
	STEP_NOT_FINITE = 2, /* some rank reported a NaN or an infinity */
	STEP_AGAIN = 4,      /* this step was committed before, by an earlier attempt */
};
enum cell_flag { CELL_PRESENT = 1, CELL_NOT_FINITE = 2 };

/* cells: rank_count × struct rank_cell, in rank order. */
struct rank_cell {
	uint64_t ring_seq;    /* of the rank's own report */
	uint64_t digest;      /* as reported, or 0 */
	uint32_t duration_us; /* since the rank's previous step, saturating */
	uint32_t compute_us;  /* the rank's own work, saturating; 0 unknown */
	float loss;           /* as reported, rounded to nearest */
	uint32_t flags;       /* enum cell_flag */
};
/* One iteration of the group: the values of its lowest present rank, and a cell a rank. */
struct record_step {
	struct record head;
	uint32_t role; /* 0 */
	uint32_t attempt;
	uint64_t step;
	double loss; /* the bits that the lowest present rank reported */
	double grad_norm;
	double learning_rate;
	uint64_t tokens;
	uint64_t data_cursor;
	uint64_t digest;
	uint64_t duration_ns; /* the slowest present rank's */
	uint32_t slowest_rank;
	uint32_t fields; /* enum iteration_field */
	uint32_t flags;  /* enum step_flag */
	uint32_t rank_count;
	uint32_t present_count;
	uint32_t reserved;
};

struct record_gap {
	struct record head;
	uint32_t rank, attempt;
	uint64_t first_ring_seq; /* the first one lost */
	uint64_t count;
};

struct record_crashing {
	struct record head;
	uint32_t rank, attempt;
	uint32_t tid;
	int32_t signal;
	uint64_t address; /* si_addr */
};

struct record_stopped {
	struct record head;
	uint32_t rank, attempt;
	int32_t signal; /* that stopped it; 0: it goes on */
	uint32_t reserved;
};

enum death_source {
	DEATH_FUTEX = 1,
	DEATH_PIDFD = 2,
	DEATH_PROC = 3, /* found dying in /proc when the end of another rank was noticed */
};
/* Whether the kernel's out-of-memory killer sent a SIGKILL. */
enum oom_kill {
	OOM_NONE = 0,
	OOM_LIKELY = 1,  /* the machine's count of its victims rose */
	OOM_CERTAIN = 2, /* the count of the ranks' control group did */
};
struct record_death {
	struct record head; /* head.time_ns: when it was first noticed, by the agent's clock */
	uint32_t rank, attempt;
	int32_t wait_status;   /* as waitpid gives it */
	uint32_t status_known; /* 0: wait for RECORD_EXIT */
	uint32_t source;
	uint32_t oom_killed; /* enum oom_kill */
};

struct record_exit {
	struct record head;
	uint32_t rank, attempt;
	int32_t wait_status;
	uint32_t oom_killed; /* enum oom_kill */
	uint64_t cpu_ns;     /* user and system time of the process and its waited-for children */
	uint64_t resident_max_bytes;
};

struct record_clear {
	struct record head;
	uint32_t node, attempt;
	uint32_t swept;     /* processes beyond the ranks that had to be killed */
	uint32_t stuck;     /* processes that could not be ended in time; 0: proven gone */
	uint32_t stuck_pid; /* one of them */
	char stuck_state;   /* of its thread that the kernel holds: a letter of proc_pid_stat(5) */
	uint8_t reserved[3];
	char stuck_name[16];  /* of the program, padded with NULs, as all text of a fixed length */
	char stuck_where[40]; /* the kernel's function that it waits in */
};

enum sample_flag { SAMPLE_CHANNEL = 1 /* phase… waiting are from the channel */ };
struct record_sample {
	struct record head;
	uint32_t rank, attempt;
	uint64_t cpu_ns;       /* of the rank's whole process tree, so far */
	uint64_t output_bytes; /* of its standard output and error, so far */
	uint64_t phase_ns;     /* how long it has been in its phase */
	uint64_t last_step;    /* last step it reported, or STEP_NONE */
	uint32_t phase;
	uint32_t waiting; /* 1: it says that it waits for its peers */
	uint32_t flags;
	char state; /* field 3 of /proc/PID/stat; '?' when it could not be read */
	uint8_t reserved[3];
};

#define MEMORY_SLOTS 3u
struct record_memory {
	struct record head;
	uint32_t rank, attempt;      /* attempt: the one about to be started */
	uint64_t step[MEMORY_SLOTS]; /* verified steps, newest first; STEP_NONE where there is none */
	uint64_t bad_step; /* newest slot that is complete and fails its digest, or STEP_NONE */
	uint64_t size_bytes;
};

/* text: the path, made absolute by the agent; NUL-terminated. */
struct record_saved {
	struct record head;
	uint32_t rank, attempt;
	uint64_t ring_seq;
	uint64_t step;
	uint32_t shard_count; /* files that make the checkpoint */
	uint32_t text_bytes;
};

/* text: the path, as in the RECORD_SAVED it answers for. */
struct record_rung {
	struct record head;
	uint32_t rank, attempt; /* who announced it */
	uint64_t saved_seq;     /* of the RECORD_SAVED */
	uint64_t step;
	uint64_t size_bytes;
	uint8_t digest[16];   /* XXH3-128 of the file, canonical (big-endian) */
	uint32_t shard_count; /* the rung is complete when that many shards have a digest */
	int32_t error;        /* errno when it could not be read; then size and digest are 0 */
	uint32_t finite; /* 1: its floating-point tensors hold no NaN or Inf; 0: some do; 2: unknown */
	uint32_t text_bytes;
};

/* At most once a second while it lasts, and once when it begins. */
struct record_writing {
	struct record head;
	uint32_t attempt;
	uint32_t reserved;
	uint64_t step;       /* of the checkpoint, as in record_kept; STEP_NONE: not known */
	uint64_t size_bytes; /* how large the files are by now */
};

enum kept_flag {
	KEPT_AGAIN = 1,   /* said before: a keeper that was started anew says what it found */
	KEPT_GONE = 2,    /* the copy of this ordinal is no more; error says why, 0: to make room */
	KEPT_ORDINAL = 4, /* nothing said which step it is: step is the ordinal */
	KEPT_FOREIGN = 8, /* it lay there before anything of this run was started */
	KEPT_DIRECTORY = 16,
	KEPT_INPLACE = 32, /* nothing was copied: both paths are the same */
	KEPT_UNCHECKED = 64, /* its format has no check: one that was written as its attempt died may be torn */
};
/*
 * A checkpoint of --checkpoint is complete, and a copy of it was put aside.  With ordinal 0 it could not be:
 * error says why, and sizes and digest are 0.
 *
 * text: the path of the copy, then that of the original, both absolute and NUL-terminated; "" where there is none.
 */
struct record_kept {
	struct record head;
	uint32_t attempt; /* that wrote it; 0: none of this run, or not known */
	uint32_t flags;   /* enum kept_flag */
	uint64_t step;    /* from its name, else the last step reported when its writing began */
	uint64_t ordinal; /* counts the checkpoints that were kept in this run, from 1 */
	uint64_t size_bytes;
	uint8_t digest[16]; /* XXH3-128, canonical (big-endian); of a directory over all its files */
	uint32_t finite;    /* as in record_rung */
	int32_t error;      /* errno */
	uint32_t reserved;
	uint32_t text_bytes;
};

enum verify_result {
	VERIFY_OK = 0,
	VERIFY_MISSING,
	VERIFY_SIZE,
	VERIFY_DIGEST,
	VERIFY_UNREADABLE,
	VERIFY_LATE
};
struct record_verified {
	struct record head;
	uint32_t attempt, result; /* enum verify_result */
	uint64_t step;
	int32_t error;
	uint32_t reserved;
};

enum progress_format { /* whose lines they are */
	PROGRESS_NONE = 0,
	PROGRESS_NANOGPT,
	PROGRESS_TRAINER, /* Hugging Face Trainer: values, and a bar beside them or epochs */
	PROGRESS_MEGATRON,
	PROGRESS_BAR,     /* tqdm, Lightning */
	PROGRESS_KEYS,    /* step=60 loss=1.25 */
	PROGRESS_WORDS,   /* step 60 loss 1.25 */
	PROGRESS_JSON,    /* {"step": 60, "loss": 1.25} */
	PROGRESS_PATTERN, /* a regular expression of the user's */
	PROGRESS_COUNT
};
struct record_progress {
	struct record head;
	uint32_t rank, attempt;
	uint32_t format; /* enum progress_format */
	uint32_t reserved;
};

struct record_no_room {
	struct record head;
	uint32_t rank, attempt;
	uint64_t ring_seq;
	uint64_t step;       /* the first that is in no snapshot */
	uint64_t need_bytes; /* of the rank's three snapshots together */
	uint64_t room_bytes; /* free in the file system then, or the limit on a file's size where that is less */
	uint32_t rank_count; /* how many ranks need that */
	uint32_t reserved;
};

struct record_damage {
	struct record head;
	uint32_t rank, attempt;
	uint64_t offset; /* in the channel */
	uint64_t value;  /* found there */
};

enum control_verb {
	CONTROL_STOP = 1,
	CONTROL_KICK = 2,
	CONTROL_CHECKPOINT = 3,
	CONTROL_USR1 = 4, /* pass the signal on to every rank */
	CONTROL_USR2 = 5,
};
struct record_control {
	struct record head;
	uint32_t verb;
	uint32_t uid, pid; /* of the asker, from the socket or the signal; 0 when from a signal */
	uint32_t rank;     /* or RANK_NONE */
};

struct record_trouble {
	struct record head;
	int64_t number;      /* errno or MDB_* code */
	uint64_t since_ns;   /* run time at which the first commit failed */
	uint32_t late_count; /* decisions performed before they were committed */
	uint32_t reserved;
};

enum evidence_kind {
	EVIDENCE_STACKS = 1, /* text: all threads, symbolised; status; wchan; tail of the output */
	EVIDENCE_TAIL = 2,   /* text: the tail of the output of a rank that died */
};
/* text: zstd frame of raw_bytes bytes of UTF-8 text. */
struct record_evidence {
	struct record head;
	uint32_t rank, attempt;
	uint32_t incident;
	uint32_t evidence_kind;
	uint32_t raw_bytes;
	uint32_t text_bytes; /* of the frame; 0: nothing could be taken, error says why */
	int32_t error;       /* errno; ETIME: deadline */
	uint32_t reserved;
};

/* Decisions. */

enum fault {
	FAULT_NONE = 0,
	FAULT_EXIT,           /* a rank ended with a status other than 0 */
	FAULT_SIGNAL,         /* a rank was ended by a signal */
	FAULT_STOPPED,        /* a rank was stopped by a signal and not continued */
	FAULT_STALL_IDLE,     /* no progress, no CPU used */
	FAULT_STALL_SPINNING, /* no progress, CPU used */
	FAULT_NOT_FINITE,     /* NaN or Inf reported */
	FAULT_BAD_SNAPSHOT,   /* a snapshot in memory failed its digest */
	FAULT_BAD_CHECKPOINT, /* a rung on disk failed verification */
	FAULT_SPAWN,          /* a rank could not be started */
	FAULT_AGENT_LOST,     /* the agent died, and the attempt with it */
	FAULT_OUT_OF_MEMORY,
	FAULT_KICK, /* a person asked for a restart */
	FAULT_COUNT
};

enum start_source { START_SCRATCH = 0, START_MEMORY = 1, START_FILE = 2 };
/* For START_FILE the agent is sent the rung's RECORD_RUNGs, or its RECORD_KEPT, right behind the decision. */
struct decision_start {
	struct record head;
	uint32_t attempt;
	uint32_t source; /* enum start_source */
	uint64_t step;   /* the state to load is the one after this step; STEP_NONE from scratch */
	uint32_t rank_count;
	uint32_t incident;                      /* that this attempt answers; 0 for the first */
	uint64_t rung_first_seq, rung_last_seq; /* for START_FILE: its records lie in between */
};

struct decision_kill {
	struct record head;
	uint32_t attempt;
	uint32_t rank; /* or RANK_NONE: every rank that is alive */
	int32_t signal;
	uint32_t reserved;
};

struct decision_clear {
	struct record head;
	uint32_t attempt; /* everything of this attempt and of earlier ones */
	uint32_t reserved;
	uint64_t deadline_ns; /* how long the agent may take before it reports it stuck */
};

struct decision_sample {
	struct record head;
	uint32_t attempt, rank; /* or RANK_NONE: every rank */
};

struct decision_capture {
	struct record head;
	uint32_t attempt, rank;
	uint32_t incident;
	uint32_t evidence_kind;
	uint64_t deadline_ns; /* how long the agent may take */
};

struct decision_survey {
	struct record head;
	uint32_t attempt; /* the one about to be started */
	uint32_t reserved;
	uint64_t before_step; /* only slots of steps < this count */
	uint64_t deadline_ns;
};

/* The agent is sent the rung's RECORD_RUNGs, or its RECORD_KEPT, right behind the decision. */
struct decision_verify {
	struct record head;
	uint32_t attempt; /* the one about to be started */
	uint32_t shard_count;
	uint64_t step;
	uint64_t deadline_ns;
	uint64_t rung_first_seq, rung_last_seq;
};

/* The agent is sent the RECORD_SAVED right behind the decision. */
struct decision_digest {
	struct record head;
	uint64_t saved_seq;
	uint64_t step;
	uint64_t deadline_ns;
};

struct decision_fault {
	struct record head;
	uint32_t incident; /* from 1 */
	uint32_t fault;    /* enum fault */
	uint32_t attempt;
	uint32_t rank;        /* the one blamed, or RANK_NONE */
	uint64_t onset_ns;    /* when it began, as far as is known */
	uint64_t step;        /* last committed step when it was declared, or STEP_NONE */
	uint64_t onset_step;  /* first step that is not to be trusted */
	int32_t detail;       /* exit code, signal, errno, by fault */
	uint32_t repeat;      /* how often this fingerprint was seen before: the loop detector */
	uint64_t fingerprint; /* of (fault, rank, detail, step) */
	uint64_t limit_ns;    /* the threshold that was passed, 0 where there is none */
	uint64_t value_ns;    /* what was measured against it */
	uint32_t stage;       /* FAULT_SPAWN: enum spawn_stage, 0 when it was not told; else 0 */
	uint32_t reserved;
};

struct decision_recovered {
	struct record head;
	uint32_t incident;
	uint32_t attempt;      /* the one that made the first new step */
	uint64_t step;         /* that step */
	uint64_t redone_steps; /* committed steps that had to be made again */
	uint64_t down_ns;      /* from onset to that step */
};

enum standing {
	STANDING_NONE = 0,
	STANDING_CANDIDATE,
	STANDING_GOOD,
	STANDING_SUSPECT,
	STANDING_BAD
};
struct decision_standing {
	struct record head;
	uint64_t step; /* of the rung */
	uint32_t standing, previous;
};

enum ask { ASK_STOP = 1, ASK_CHECKPOINT = 2 };
struct decision_ask {
	struct record head;
	uint32_t attempt, what; /* enum ask */
};

enum end_reason {
	END_DONE = 1,      /* every rank ended with status 0 */
	END_STOPPED,       /* a person asked */
	END_NO_PROGRESS,   /* tries_max restarts without a new step */
	END_NEVER_STEPPED, /* tries_first_max attempts without a first step: a mistake, not a fault */
	END_STUCK,         /* a process could not be ended: its device cannot be used again */
};
struct decision_end {
	struct record head;
	uint32_t reason;   /* enum end_reason */
	int32_t exit_code; /* for `holdfast run` */
	uint32_t incident; /* the last one, or 0 */
	uint32_t reserved;
};

struct record_turn {
	struct record head; /* head.time_ns: the policy's now */
	uint32_t input_count;
	uint32_t decision_count;
	uint32_t late; /* 1: performed before it was committed (journal in trouble) */
	uint32_t reserved;
	uint64_t state_digest; /* policy_digest() after the turn */
};

static_assert(sizeof(struct record) == 48, "record head");
static_assert(sizeof(struct policy_config) == 104, "policy config");
static_assert(sizeof(struct rank_cell) == 32, "rank cell");
static_assert(sizeof(struct record_step) == 48 + 96, "step row");
static_assert(sizeof(struct record_turn) == 48 + 24, "turn");
static_assert(sizeof(struct decision_fault) == 48 + 80, "fault");
static_assert(sizeof(struct record_sample) == 48 + 56, "sample");

static inline bool record_is_decision(const struct record *r)
{
	return r->kind >= DECISION_START && r->kind <= DECISION_DIGEST;
}

#endif
