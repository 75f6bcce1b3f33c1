/*
 * Offsets and sizes come from the compiler, names and types from journal/record.h; tests/unit/test_print.c
 * holds that no byte of a struct is left out.
 */
#include "journal/schema.h"

#define COUNT(words) (sizeof(words) / sizeof((words)[0]))
#define ENTRY(s, f, t, m, n, w)                                                                     \
	{                                                                                           \
#f, offsetof(struct s, f), sizeof(((struct s *)0)->f), SCHEMA_##t, SCHEMA_##m, n, w \
	}
#define FIELD(s, f, t, m) ENTRY(s, f, t, m, 0, NULL)
#define WORD(s, f, t, words) ENTRY(s, f, t, WORD, COUNT(words), words)
#define FLAGS(s, f, t, words) ENTRY(s, f, t, FLAGS, COUNT(words), words)
#define END                                                                                        \
	{                                                                                          \
		.type = SCHEMA_END                                                                 \
	}

static const char *const SPAWN_STAGES[] = {
    [SPAWN_PREPARE] = "prepare",
    [SPAWN_FORK] = "fork",
    [SPAWN_CHDIR] = "chdir",
    [SPAWN_SETUP] = "setup",
    [SPAWN_EXEC] = "exec",
};
const char *const schema_phase_words[PHASE_COUNT] = {
    [PHASE_INIT] = "init",
    [PHASE_STEP] = "step",
    [PHASE_EVALUATION] = "evaluation",
    [PHASE_CHECKPOINT] = "checkpoint",
    [PHASE_RESTORE] = "restore",
    [PHASE_OTHER] = "other",
};
static const char *const DEATH_SOURCES[] = {
    [DEATH_FUTEX] = "futex",
    [DEATH_PIDFD] = "pidfd",
    [DEATH_PROC] = "proc",
};
static const char *const OOM_KILLS[] = {
    [OOM_NONE] = "no",
    [OOM_LIKELY] = "likely",
    [OOM_CERTAIN] = "certain",
};
static const char *const VERIFY_RESULTS[] = {
    [VERIFY_OK] = "ok",
    [VERIFY_MISSING] = "missing",
    [VERIFY_SIZE] = "size",
    [VERIFY_DIGEST] = "digest",
    [VERIFY_UNREADABLE] = "unreadable",
    [VERIFY_LATE] = "late",
};
static const char *const CONTROL_VERBS[] = {
    [CONTROL_STOP] = "stop",
    [CONTROL_KICK] = "kick",
    [CONTROL_CHECKPOINT] = "checkpoint",
    [CONTROL_USR1] = "usr1",
    [CONTROL_USR2] = "usr2",
};
static const char *const EVIDENCE_KINDS[] = {
    [EVIDENCE_STACKS] = "stacks",
    [EVIDENCE_TAIL] = "tail",
};
const char *const schema_fault_words[FAULT_COUNT] = {
    [FAULT_NONE] = "none",
    [FAULT_EXIT] = "exit",
    [FAULT_SIGNAL] = "signal",
    [FAULT_STOPPED] = "stopped",
    [FAULT_STALL_IDLE] = "stall-idle",
    [FAULT_STALL_SPINNING] = "stall-spinning",
    [FAULT_NOT_FINITE] = "not-finite",
    [FAULT_BAD_SNAPSHOT] = "bad-snapshot",
    [FAULT_BAD_CHECKPOINT] = "bad-checkpoint",
    [FAULT_SPAWN] = "spawn",
    [FAULT_AGENT_LOST] = "agent-lost",
    [FAULT_OUT_OF_MEMORY] = "out-of-memory",
    [FAULT_KICK] = "kick",
};
static const char *const START_SOURCES[] = {
    [START_SCRATCH] = "scratch",
    [START_MEMORY] = "memory",
    [START_FILE] = "file",
};
const char *const schema_standing_words[STANDING_BAD + 1] = {
    [STANDING_NONE] = "none",
    [STANDING_CANDIDATE] = "candidate",
    [STANDING_GOOD] = "good",
    [STANDING_SUSPECT] = "suspect",
    [STANDING_BAD] = "bad",
};
static const char *const ASKS[] = {
    [ASK_STOP] = "stop",
    [ASK_CHECKPOINT] = "checkpoint",
};
const char *const schema_progress_words[PROGRESS_COUNT] = {
    [PROGRESS_NANOGPT] = "nanogpt",
    [PROGRESS_TRAINER] = "trainer",
    [PROGRESS_MEGATRON] = "megatron",
    [PROGRESS_BAR] = "bar",
    [PROGRESS_KEYS] = "keys",
    [PROGRESS_WORDS] = "words",
    [PROGRESS_JSON] = "json",
    [PROGRESS_PATTERN] = "pattern",
};
const char *const schema_end_words[END_STUCK + 1] = {
    [END_DONE] = "done",
    [END_STOPPED] = "stopped",
    [END_NO_PROGRESS] = "no-progress",
    [END_NEVER_STEPPED] = "never-stepped",
    [END_STUCK] = "stuck",
};
/* Of flags, by bit. */
static const char *const AGENT_RANK_FLAGS[] = {"alive", "connected"};
static const char *const ITERATION_FIELDS[] = {"loss", "grad_norm", "learning_rate", "tokens",
    "data_cursor", "digest", "compute", "not_finite"};
static const char *const STEP_FLAGS[] = {"partial", "not-finite", "again"};
static const char *const CELL_FLAGS[] = {"present", "not-finite"};
static const char *const SAMPLE_FLAGS[] = {"channel"};
static const char *const KEPT_FLAGS[] = {
    "again", "gone", "ordinal", "foreign", "directory", "in-place", "unchecked"};

const struct schema_field schema_head[] = {
    FIELD(record, kind, U16, PLAIN),
    FIELD(record, version, U16, PLAIN),
    FIELD(record, size_bytes, U32, PLAIN),
    FIELD(record, seq, U64, PLAIN),
    FIELD(record, turn, U64, PLAIN),
    FIELD(record, time_ns, U64, PLAIN),
    FIELD(record, source_seq, U64, PLAIN),
    FIELD(record, checksum, U64, HEX),
    END,
};

const struct schema_field schema_config[] = {
    FIELD(policy_config, stall_min_ns, U64, PLAIN),
    FIELD(policy_config, stall_max_ns, U64, PLAIN),
    FIELD(policy_config, stall_first_ns, U64, PLAIN),
    FIELD(policy_config, stall_silent_ns, U64, PLAIN),
    FIELD(policy_config, stall_stopped_ns, U64, PLAIN),
    FIELD(policy_config, capture_max_ns, U64, PLAIN),
    FIELD(policy_config, clear_max_ns, U64, PLAIN),
    FIELD(policy_config, verify_max_ns, U64, PLAIN),
    FIELD(policy_config, stop_grace_ns, U64, PLAIN),
    FIELD(policy_config, backoff_first_ns, U64, PLAIN),
    FIELD(policy_config, backoff_max_ns, U64, PLAIN),
    FIELD(policy_config, stall_factor, U32, PLAIN),
    FIELD(policy_config, clean_steps, U32, PLAIN),
    FIELD(policy_config, tries_max, U32, PLAIN),
    FIELD(policy_config, tries_first_max, U32, PLAIN),
    END,
};

const struct schema_field schema_agent_rank[] = {
    FIELD(agent_rank, rank, U32, RANK),
    FLAGS(agent_rank, flags, U32, AGENT_RANK_FLAGS),
    FIELD(agent_rank, pid, U32, PLAIN),
    FIELD(agent_rank, reserved, U32, RESERVED),
    END,
};

const struct schema_field schema_rank_cell[] = {
    FIELD(rank_cell, ring_seq, U64, PLAIN),
    FIELD(rank_cell, digest, U64, HEX),
    FIELD(rank_cell, duration_us, U32, PLAIN),
    FIELD(rank_cell, compute_us, U32, PLAIN),
    FIELD(rank_cell, loss, F32, PLAIN),
    FLAGS(rank_cell, flags, U32, CELL_FLAGS),
    END,
};

static const struct schema_field RECORD_RUN_FIELDS[] = {
    FIELD(record_run, head, HEAD, PLAIN),
    FIELD(record_run, run_id, BYTES, HEX),
    FIELD(record_run, wall_ns, I64, PLAIN),
    FIELD(record_run, rank_count, U32, PLAIN),
    FIELD(record_run, node_count, U32, PLAIN),
    FIELD(record_run, argument_count, U32, PLAIN),
    FIELD(record_run, text_bytes, U32, PLAIN),
    FIELD(record_run, config, CONFIG, PLAIN),
    END,
};

static const struct schema_field RECORD_SESSION_FIELDS[] = {
    FIELD(record_session, head, HEAD, PLAIN),
    FIELD(record_session, boot_id, BYTES, HEX),
    FIELD(record_session, wall_ns, I64, PLAIN),
    FIELD(record_session, monotonic_ns, U64, PLAIN),
    FIELD(record_session, supervisor_pid, U32, PLAIN),
    FIELD(record_session, session, U32, PLAIN),
    FIELD(record_session, config, CONFIG, PLAIN),
    END,
};

static const struct schema_field RECORD_AGENT_FIELDS[] = {
    FIELD(record_agent, head, HEAD, PLAIN),
    FIELD(record_agent, agent_id, BYTES, HEX),
    FIELD(record_agent, node, U32, PLAIN),
    FIELD(record_agent, agent_pid, U32, PLAIN),
    FIELD(record_agent, attempt, U32, PLAIN),
    FIELD(record_agent, rank_count, U32, PLAIN),
    FIELD(record_agent, gone, U32, PLAIN),
    FIELD(record_agent, reserved, U32, RESERVED),
    END,
};

static const struct schema_field RECORD_STARTED_FIELDS[] = {
    FIELD(record_started, head, HEAD, PLAIN),
    FIELD(record_started, rank, U32, RANK),
    FIELD(record_started, attempt, U32, PLAIN),
    FIELD(record_started, pid, U32, PLAIN),
    FIELD(record_started, warm, U32, PLAIN),
    FIELD(record_started, process_start, U64, PLAIN),
    END,
};

static const struct schema_field RECORD_SPAWN_FIELDS[] = {
    FIELD(record_spawn, head, HEAD, PLAIN),
    FIELD(record_spawn, rank, U32, RANK),
    FIELD(record_spawn, attempt, U32, PLAIN),
    WORD(record_spawn, stage, U32, SPAWN_STAGES),
    FIELD(record_spawn, error, I32, PLAIN),
    END,
};

static const struct schema_field RECORD_CONNECTED_FIELDS[] = {
    FIELD(record_connected, head, HEAD, PLAIN),
    FIELD(record_connected, rank, U32, RANK),
    FIELD(record_connected, attempt, U32, PLAIN),
    FIELD(record_connected, pid, U32, PLAIN),
    FIELD(record_connected, version, U32, PLAIN),
    END,
};

static const struct schema_field RECORD_PHASE_FIELDS[] = {
    FIELD(record_phase, head, HEAD, PLAIN),
    FIELD(record_phase, rank, U32, RANK),
    FIELD(record_phase, attempt, U32, PLAIN),
    FIELD(record_phase, ring_seq, U64, PLAIN),
    WORD(record_phase, phase, U32, schema_phase_words),
    WORD(record_phase, previous, U32, schema_phase_words),
    FIELD(record_phase, duration_ns, U64, PLAIN),
    END,
};

static const struct schema_field RECORD_STEP_FIELDS[] = {
    FIELD(record_step, head, HEAD, PLAIN),
    FIELD(record_step, role, U32, PLAIN),
    FIELD(record_step, attempt, U32, PLAIN),
    FIELD(record_step, step, U64, STEP),
    FIELD(record_step, loss, F64, PLAIN),
    FIELD(record_step, grad_norm, F64, PLAIN),
    FIELD(record_step, learning_rate, F64, PLAIN),
    FIELD(record_step, tokens, U64, PLAIN),
    FIELD(record_step, data_cursor, U64, PLAIN),
    FIELD(record_step, digest, U64, HEX),
    FIELD(record_step, duration_ns, U64, PLAIN),
    FIELD(record_step, slowest_rank, U32, RANK),
    FLAGS(record_step, fields, U32, ITERATION_FIELDS),
    FLAGS(record_step, flags, U32, STEP_FLAGS),
    FIELD(record_step, rank_count, U32, PLAIN),
    FIELD(record_step, present_count, U32, PLAIN),
    FIELD(record_step, reserved, U32, RESERVED),
    END,
};

static const struct schema_field RECORD_GAP_FIELDS[] = {
    FIELD(record_gap, head, HEAD, PLAIN),
    FIELD(record_gap, rank, U32, RANK),
    FIELD(record_gap, attempt, U32, PLAIN),
    FIELD(record_gap, first_ring_seq, U64, PLAIN),
    FIELD(record_gap, count, U64, PLAIN),
    END,
};

static const struct schema_field RECORD_CRASHING_FIELDS[] = {
    FIELD(record_crashing, head, HEAD, PLAIN),
    FIELD(record_crashing, rank, U32, RANK),
    FIELD(record_crashing, attempt, U32, PLAIN),
    FIELD(record_crashing, tid, U32, PLAIN),
    FIELD(record_crashing, signal, I32, PLAIN),
    FIELD(record_crashing, address, U64, HEX),
    END,
};

static const struct schema_field RECORD_STOPPED_FIELDS[] = {
    FIELD(record_stopped, head, HEAD, PLAIN),
    FIELD(record_stopped, rank, U32, RANK),
    FIELD(record_stopped, attempt, U32, PLAIN),
    FIELD(record_stopped, signal, I32, PLAIN),
    FIELD(record_stopped, reserved, U32, RESERVED),
    END,
};

static const struct schema_field RECORD_DEATH_FIELDS[] = {
    FIELD(record_death, head, HEAD, PLAIN),
    FIELD(record_death, rank, U32, RANK),
    FIELD(record_death, attempt, U32, PLAIN),
    FIELD(record_death, wait_status, I32, PLAIN),
    FIELD(record_death, status_known, U32, PLAIN),
    WORD(record_death, source, U32, DEATH_SOURCES),
    WORD(record_death, oom_killed, U32, OOM_KILLS),
    END,
};

static const struct schema_field RECORD_EXIT_FIELDS[] = {
    FIELD(record_exit, head, HEAD, PLAIN),
    FIELD(record_exit, rank, U32, RANK),
    FIELD(record_exit, attempt, U32, PLAIN),
    FIELD(record_exit, wait_status, I32, PLAIN),
    WORD(record_exit, oom_killed, U32, OOM_KILLS),
    FIELD(record_exit, cpu_ns, U64, PLAIN),
    FIELD(record_exit, resident_max_bytes, U64, PLAIN),
    END,
};

static const struct schema_field RECORD_CLEAR_FIELDS[] = {
    FIELD(record_clear, head, HEAD, PLAIN),
    FIELD(record_clear, node, U32, PLAIN),
    FIELD(record_clear, attempt, U32, PLAIN),
    FIELD(record_clear, swept, U32, PLAIN),
    FIELD(record_clear, stuck, U32, PLAIN),
    FIELD(record_clear, stuck_pid, U32, PLAIN),
    FIELD(record_clear, stuck_state, CHAR, PLAIN),
    FIELD(record_clear, reserved, BYTES, RESERVED),
    FIELD(record_clear, stuck_name, CHAR, PLAIN),
    FIELD(record_clear, stuck_where, CHAR, PLAIN),
    END,
};

static const struct schema_field RECORD_SAMPLE_FIELDS[] = {
    FIELD(record_sample, head, HEAD, PLAIN),
    FIELD(record_sample, rank, U32, RANK),
    FIELD(record_sample, attempt, U32, PLAIN),
    FIELD(record_sample, cpu_ns, U64, PLAIN),
    FIELD(record_sample, output_bytes, U64, PLAIN),
    FIELD(record_sample, phase_ns, U64, PLAIN),
    FIELD(record_sample, last_step, U64, STEP),
    WORD(record_sample, phase, U32, schema_phase_words),
    FIELD(record_sample, waiting, U32, PLAIN),
    FLAGS(record_sample, flags, U32, SAMPLE_FLAGS),
    FIELD(record_sample, state, CHAR, PLAIN),
    FIELD(record_sample, reserved, BYTES, RESERVED),
    END,
};

static const struct schema_field RECORD_MEMORY_FIELDS[] = {
    FIELD(record_memory, head, HEAD, PLAIN),
    FIELD(record_memory, rank, U32, RANK),
    FIELD(record_memory, attempt, U32, PLAIN),
    FIELD(record_memory, step, U64, STEP),
    FIELD(record_memory, bad_step, U64, STEP),
    FIELD(record_memory, size_bytes, U64, PLAIN),
    END,
};

static const struct schema_field RECORD_RUNG_FIELDS[] = {
    FIELD(record_rung, head, HEAD, PLAIN),
    FIELD(record_rung, rank, U32, RANK),
    FIELD(record_rung, attempt, U32, PLAIN),
    FIELD(record_rung, saved_seq, U64, PLAIN),
    FIELD(record_rung, step, U64, STEP),
    FIELD(record_rung, size_bytes, U64, PLAIN),
    FIELD(record_rung, digest, BYTES, HEX),
    FIELD(record_rung, shard_count, U32, PLAIN),
    FIELD(record_rung, error, I32, PLAIN),
    FIELD(record_rung, finite, U32, PLAIN),
    FIELD(record_rung, text_bytes, U32, PLAIN),
    END,
};

static const struct schema_field RECORD_VERIFIED_FIELDS[] = {
    FIELD(record_verified, head, HEAD, PLAIN),
    FIELD(record_verified, attempt, U32, PLAIN),
    WORD(record_verified, result, U32, VERIFY_RESULTS),
    FIELD(record_verified, step, U64, STEP),
    FIELD(record_verified, error, I32, PLAIN),
    FIELD(record_verified, reserved, U32, RESERVED),
    END,
};

static const struct schema_field RECORD_PROGRESS_FIELDS[] = {
    FIELD(record_progress, head, HEAD, PLAIN),
    FIELD(record_progress, rank, U32, RANK),
    FIELD(record_progress, attempt, U32, PLAIN),
    WORD(record_progress, format, U32, schema_progress_words),
    FIELD(record_progress, reserved, U32, RESERVED),
    END,
};
static const struct schema_field RECORD_NO_ROOM_FIELDS[] = {
    FIELD(record_no_room, head, HEAD, PLAIN),
    FIELD(record_no_room, rank, U32, RANK),
    FIELD(record_no_room, attempt, U32, PLAIN),
    FIELD(record_no_room, ring_seq, U64, PLAIN),
    FIELD(record_no_room, step, U64, STEP),
    FIELD(record_no_room, need_bytes, U64, PLAIN),
    FIELD(record_no_room, room_bytes, U64, PLAIN),
    FIELD(record_no_room, rank_count, U32, PLAIN),
    FIELD(record_no_room, reserved, U32, RESERVED),
    END,
};
static const struct schema_field RECORD_DAMAGE_FIELDS[] = {
    FIELD(record_damage, head, HEAD, PLAIN),
    FIELD(record_damage, rank, U32, RANK),
    FIELD(record_damage, attempt, U32, PLAIN),
    FIELD(record_damage, offset, U64, PLAIN),
    FIELD(record_damage, value, U64, HEX),
    END,
};

static const struct schema_field RECORD_CONTROL_FIELDS[] = {
    FIELD(record_control, head, HEAD, PLAIN),
    WORD(record_control, verb, U32, CONTROL_VERBS),
    FIELD(record_control, uid, U32, PLAIN),
    FIELD(record_control, pid, U32, PLAIN),
    FIELD(record_control, rank, U32, RANK),
    END,
};

static const struct schema_field RECORD_TROUBLE_FIELDS[] = {
    FIELD(record_trouble, head, HEAD, PLAIN),
    FIELD(record_trouble, number, I64, PLAIN),
    FIELD(record_trouble, since_ns, U64, PLAIN),
    FIELD(record_trouble, late_count, U32, PLAIN),
    FIELD(record_trouble, reserved, U32, RESERVED),
    END,
};

static const struct schema_field RECORD_EVIDENCE_FIELDS[] = {
    FIELD(record_evidence, head, HEAD, PLAIN),
    FIELD(record_evidence, rank, U32, RANK),
    FIELD(record_evidence, attempt, U32, PLAIN),
    FIELD(record_evidence, incident, U32, PLAIN),
    WORD(record_evidence, evidence_kind, U32, EVIDENCE_KINDS),
    FIELD(record_evidence, raw_bytes, U32, PLAIN),
    FIELD(record_evidence, text_bytes, U32, PLAIN),
    FIELD(record_evidence, error, I32, PLAIN),
    FIELD(record_evidence, reserved, U32, RESERVED),
    END,
};

static const struct schema_field RECORD_SAVED_FIELDS[] = {
    FIELD(record_saved, head, HEAD, PLAIN),
    FIELD(record_saved, rank, U32, RANK),
    FIELD(record_saved, attempt, U32, PLAIN),
    FIELD(record_saved, ring_seq, U64, PLAIN),
    FIELD(record_saved, step, U64, STEP),
    FIELD(record_saved, shard_count, U32, PLAIN),
    FIELD(record_saved, text_bytes, U32, PLAIN),
    END,
};

static const struct schema_field RECORD_WRITING_FIELDS[] = {
    FIELD(record_writing, head, HEAD, PLAIN),
    FIELD(record_writing, attempt, U32, PLAIN),
    FIELD(record_writing, reserved, U32, RESERVED),
    FIELD(record_writing, step, U64, STEP),
    FIELD(record_writing, size_bytes, U64, PLAIN),
    END,
};

static const struct schema_field RECORD_KEPT_FIELDS[] = {
    FIELD(record_kept, head, HEAD, PLAIN),
    FIELD(record_kept, attempt, U32, PLAIN),
    FLAGS(record_kept, flags, U32, KEPT_FLAGS),
    FIELD(record_kept, step, U64, STEP),
    FIELD(record_kept, ordinal, U64, PLAIN),
    FIELD(record_kept, size_bytes, U64, PLAIN),
    FIELD(record_kept, digest, BYTES, HEX),
    FIELD(record_kept, finite, U32, PLAIN),
    FIELD(record_kept, error, I32, PLAIN),
    FIELD(record_kept, reserved, U32, RESERVED),
    FIELD(record_kept, text_bytes, U32, PLAIN),
    END,
};

static const struct schema_field DECISION_START_FIELDS[] = {
    FIELD(decision_start, head, HEAD, PLAIN),
    FIELD(decision_start, attempt, U32, PLAIN),
    WORD(decision_start, source, U32, START_SOURCES),
    FIELD(decision_start, step, U64, STEP),
    FIELD(decision_start, rank_count, U32, PLAIN),
    FIELD(decision_start, incident, U32, PLAIN),
    FIELD(decision_start, rung_first_seq, U64, PLAIN),
    FIELD(decision_start, rung_last_seq, U64, PLAIN),
    END,
};

static const struct schema_field DECISION_KILL_FIELDS[] = {
    FIELD(decision_kill, head, HEAD, PLAIN),
    FIELD(decision_kill, attempt, U32, PLAIN),
    FIELD(decision_kill, rank, U32, RANK),
    FIELD(decision_kill, signal, I32, PLAIN),
    FIELD(decision_kill, reserved, U32, RESERVED),
    END,
};

static const struct schema_field DECISION_CLEAR_FIELDS[] = {
    FIELD(decision_clear, head, HEAD, PLAIN),
    FIELD(decision_clear, attempt, U32, PLAIN),
    FIELD(decision_clear, reserved, U32, RESERVED),
    FIELD(decision_clear, deadline_ns, U64, PLAIN),
    END,
};

static const struct schema_field DECISION_SAMPLE_FIELDS[] = {
    FIELD(decision_sample, head, HEAD, PLAIN),
    FIELD(decision_sample, attempt, U32, PLAIN),
    FIELD(decision_sample, rank, U32, RANK),
    END,
};

static const struct schema_field DECISION_CAPTURE_FIELDS[] = {
    FIELD(decision_capture, head, HEAD, PLAIN),
    FIELD(decision_capture, attempt, U32, PLAIN),
    FIELD(decision_capture, rank, U32, RANK),
    FIELD(decision_capture, incident, U32, PLAIN),
    WORD(decision_capture, evidence_kind, U32, EVIDENCE_KINDS),
    FIELD(decision_capture, deadline_ns, U64, PLAIN),
    END,
};

static const struct schema_field DECISION_SURVEY_FIELDS[] = {
    FIELD(decision_survey, head, HEAD, PLAIN),
    FIELD(decision_survey, attempt, U32, PLAIN),
    FIELD(decision_survey, reserved, U32, RESERVED),
    FIELD(decision_survey, before_step, U64, STEP),
    FIELD(decision_survey, deadline_ns, U64, PLAIN),
    END,
};

static const struct schema_field DECISION_VERIFY_FIELDS[] = {
    FIELD(decision_verify, head, HEAD, PLAIN),
    FIELD(decision_verify, attempt, U32, PLAIN),
    FIELD(decision_verify, shard_count, U32, PLAIN),
    FIELD(decision_verify, step, U64, STEP),
    FIELD(decision_verify, deadline_ns, U64, PLAIN),
    FIELD(decision_verify, rung_first_seq, U64, PLAIN),
    FIELD(decision_verify, rung_last_seq, U64, PLAIN),
    END,
};

static const struct schema_field DECISION_FAULT_FIELDS[] = {
    FIELD(decision_fault, head, HEAD, PLAIN),
    FIELD(decision_fault, incident, U32, PLAIN),
    WORD(decision_fault, fault, U32, schema_fault_words),
    FIELD(decision_fault, attempt, U32, PLAIN),
    FIELD(decision_fault, rank, U32, RANK),
    FIELD(decision_fault, onset_ns, U64, PLAIN),
    FIELD(decision_fault, step, U64, STEP),
    FIELD(decision_fault, onset_step, U64, STEP),
    FIELD(decision_fault, detail, I32, PLAIN),
    FIELD(decision_fault, repeat, U32, PLAIN),
    FIELD(decision_fault, fingerprint, U64, HEX),
    FIELD(decision_fault, limit_ns, U64, PLAIN),
    FIELD(decision_fault, value_ns, U64, PLAIN),
    WORD(decision_fault, stage, U32, SPAWN_STAGES),
    FIELD(decision_fault, reserved, U32, RESERVED),
    END,
};

static const struct schema_field DECISION_RECOVERED_FIELDS[] = {
    FIELD(decision_recovered, head, HEAD, PLAIN),
    FIELD(decision_recovered, incident, U32, PLAIN),
    FIELD(decision_recovered, attempt, U32, PLAIN),
    FIELD(decision_recovered, step, U64, STEP),
    FIELD(decision_recovered, redone_steps, U64, PLAIN),
    FIELD(decision_recovered, down_ns, U64, PLAIN),
    END,
};

static const struct schema_field DECISION_STANDING_FIELDS[] = {
    FIELD(decision_standing, head, HEAD, PLAIN),
    FIELD(decision_standing, step, U64, STEP),
    WORD(decision_standing, standing, U32, schema_standing_words),
    WORD(decision_standing, previous, U32, schema_standing_words),
    END,
};

static const struct schema_field DECISION_ASK_FIELDS[] = {
    FIELD(decision_ask, head, HEAD, PLAIN),
    FIELD(decision_ask, attempt, U32, PLAIN),
    WORD(decision_ask, what, U32, ASKS),
    END,
};

static const struct schema_field DECISION_END_FIELDS[] = {
    FIELD(decision_end, head, HEAD, PLAIN),
    WORD(decision_end, reason, U32, schema_end_words),
    FIELD(decision_end, exit_code, I32, PLAIN),
    FIELD(decision_end, incident, U32, PLAIN),
    FIELD(decision_end, reserved, U32, RESERVED),
    END,
};

static const struct schema_field DECISION_DIGEST_FIELDS[] = {
    FIELD(decision_digest, head, HEAD, PLAIN),
    FIELD(decision_digest, saved_seq, U64, PLAIN),
    FIELD(decision_digest, step, U64, STEP),
    FIELD(decision_digest, deadline_ns, U64, PLAIN),
    END,
};

static const struct schema_field RECORD_TURN_FIELDS[] = {
    FIELD(record_turn, head, HEAD, PLAIN),
    FIELD(record_turn, input_count, U32, PLAIN),
    FIELD(record_turn, decision_count, U32, PLAIN),
    FIELD(record_turn, late, U32, PLAIN),
    FIELD(record_turn, reserved, U32, RESERVED),
    FIELD(record_turn, state_digest, U64, HEX),
    END,
};

static const struct schema_field *const LISTS[] = {
    [RECORD_RUN] = RECORD_RUN_FIELDS,
    [RECORD_SESSION] = RECORD_SESSION_FIELDS,
    [RECORD_AGENT] = RECORD_AGENT_FIELDS,
    [RECORD_STARTED] = RECORD_STARTED_FIELDS,
    [RECORD_SPAWN] = RECORD_SPAWN_FIELDS,
    [RECORD_CONNECTED] = RECORD_CONNECTED_FIELDS,
    [RECORD_PHASE] = RECORD_PHASE_FIELDS,
    [RECORD_STEP] = RECORD_STEP_FIELDS,
    [RECORD_GAP] = RECORD_GAP_FIELDS,
    [RECORD_CRASHING] = RECORD_CRASHING_FIELDS,
    [RECORD_STOPPED] = RECORD_STOPPED_FIELDS,
    [RECORD_DEATH] = RECORD_DEATH_FIELDS,
    [RECORD_EXIT] = RECORD_EXIT_FIELDS,
    [RECORD_CLEAR] = RECORD_CLEAR_FIELDS,
    [RECORD_SAMPLE] = RECORD_SAMPLE_FIELDS,
    [RECORD_MEMORY] = RECORD_MEMORY_FIELDS,
    [RECORD_RUNG] = RECORD_RUNG_FIELDS,
    [RECORD_VERIFIED] = RECORD_VERIFIED_FIELDS,
    [RECORD_DAMAGE] = RECORD_DAMAGE_FIELDS,
    [RECORD_CONTROL] = RECORD_CONTROL_FIELDS,
    [RECORD_TROUBLE] = RECORD_TROUBLE_FIELDS,
    [RECORD_EVIDENCE] = RECORD_EVIDENCE_FIELDS,
    [RECORD_SAVED] = RECORD_SAVED_FIELDS,
    [RECORD_WRITING] = RECORD_WRITING_FIELDS,
    [RECORD_KEPT] = RECORD_KEPT_FIELDS,
    [RECORD_PROGRESS] = RECORD_PROGRESS_FIELDS,
    [RECORD_NO_ROOM] = RECORD_NO_ROOM_FIELDS,
    [DECISION_START] = DECISION_START_FIELDS,
    [DECISION_KILL] = DECISION_KILL_FIELDS,
    [DECISION_CLEAR] = DECISION_CLEAR_FIELDS,
    [DECISION_SAMPLE] = DECISION_SAMPLE_FIELDS,
    [DECISION_CAPTURE] = DECISION_CAPTURE_FIELDS,
    [DECISION_SURVEY] = DECISION_SURVEY_FIELDS,
    [DECISION_VERIFY] = DECISION_VERIFY_FIELDS,
    [DECISION_FAULT] = DECISION_FAULT_FIELDS,
    [DECISION_RECOVERED] = DECISION_RECOVERED_FIELDS,
    [DECISION_STANDING] = DECISION_STANDING_FIELDS,
    [DECISION_ASK] = DECISION_ASK_FIELDS,
    [DECISION_END] = DECISION_END_FIELDS,
    [DECISION_DIGEST] = DECISION_DIGEST_FIELDS,
    [RECORD_TURN] = RECORD_TURN_FIELDS,
};

const struct schema_field *schema_of(uint32_t kind)
{
	return kind < COUNT(LISTS) ? LISTS[kind] : NULL;
}

size_t schema_element_size(uint8_t type)
{
	switch (type) {
	case SCHEMA_U16:
		return 2;
	case SCHEMA_U32:
	case SCHEMA_I32:
	case SCHEMA_F32:
		return 4;
	case SCHEMA_U64:
	case SCHEMA_I64:
	case SCHEMA_F64:
		return 8;
	case SCHEMA_CONFIG:
		return sizeof(struct policy_config);
	case SCHEMA_HEAD:
		return sizeof(struct record);
	default:
		return 1;
	}
}
