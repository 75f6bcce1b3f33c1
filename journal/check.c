/*
 * One table says how large each kind's fixed part is and what follows it; the checks walk that table.
 *
 * Heads and counts are read with memcpy, so that bytes of any alignment can be looked at.
 */
#include "journal/check.h"

#include "journal/schema.h"

#define CHECK_KIND_MAX 129u

enum tail { /* what follows the fixed part */
	TAIL_NONE = 0,
	TAIL_RUN,      /* arguments and a directory, each NUL-terminated */
	TAIL_AGENT,    /* struct agent_rank, rank_count times */
	TAIL_STEP,     /* struct rank_cell, rank_count times */
	TAIL_PATH,     /* one NUL-terminated path */
	TAIL_PATHS,    /* two of them, either may be empty */
	TAIL_EVIDENCE, /* text_bytes of anything */
};

#define NO_RANK UINT16_MAX

static const struct check_kind {
	const char *name;
	uint16_t fixed_bytes;
	uint16_t rank_offset; /* of a field that holds a rank or RANK_NONE; NO_RANK: the kind has none */
	enum tail tail;
} KINDS[CHECK_KIND_MAX] = {
#define KIND(number, type, word, rank_at, tail_kind)                                               \
	[number] = {                                                                               \
	    .name = word, .fixed_bytes = sizeof(struct type), .rank_offset = rank_at, .tail = tail_kind}
#define RANK_OF(type) offsetof(struct type, rank)
    KIND(RECORD_RUN, record_run, "run", NO_RANK, TAIL_RUN),
    KIND(RECORD_SESSION, record_session, "session", NO_RANK, TAIL_NONE),
    KIND(RECORD_AGENT, record_agent, "agent", NO_RANK, TAIL_AGENT),
    KIND(RECORD_STARTED, record_started, "started", RANK_OF(record_started), TAIL_NONE),
    KIND(RECORD_SPAWN, record_spawn, "spawn", RANK_OF(record_spawn), TAIL_NONE),
    KIND(RECORD_CONNECTED, record_connected, "connected", RANK_OF(record_connected), TAIL_NONE),
    KIND(RECORD_PHASE, record_phase, "phase", RANK_OF(record_phase), TAIL_NONE),
    KIND(RECORD_STEP, record_step, "step", offsetof(struct record_step, slowest_rank), TAIL_STEP),
    KIND(RECORD_GAP, record_gap, "gap", RANK_OF(record_gap), TAIL_NONE),
    KIND(RECORD_CRASHING, record_crashing, "crashing", RANK_OF(record_crashing), TAIL_NONE),
    KIND(RECORD_STOPPED, record_stopped, "stopped", RANK_OF(record_stopped), TAIL_NONE),
    KIND(RECORD_DEATH, record_death, "death", RANK_OF(record_death), TAIL_NONE),
    KIND(RECORD_EXIT, record_exit, "exit", RANK_OF(record_exit), TAIL_NONE),
    KIND(RECORD_CLEAR, record_clear, "clear", NO_RANK, TAIL_NONE),
    KIND(RECORD_SAMPLE, record_sample, "sample", RANK_OF(record_sample), TAIL_NONE),
    KIND(RECORD_MEMORY, record_memory, "memory", RANK_OF(record_memory), TAIL_NONE),
    KIND(RECORD_RUNG, record_rung, "rung", RANK_OF(record_rung), TAIL_PATH),
    KIND(RECORD_VERIFIED, record_verified, "verified", NO_RANK, TAIL_NONE),
    KIND(RECORD_DAMAGE, record_damage, "damage", RANK_OF(record_damage), TAIL_NONE),
    KIND(RECORD_CONTROL, record_control, "control", RANK_OF(record_control), TAIL_NONE),
    KIND(RECORD_TROUBLE, record_trouble, "trouble", NO_RANK, TAIL_NONE),
    KIND(RECORD_EVIDENCE, record_evidence, "evidence", RANK_OF(record_evidence), TAIL_EVIDENCE),
    KIND(RECORD_SAVED, record_saved, "saved", RANK_OF(record_saved), TAIL_PATH),
    KIND(RECORD_WRITING, record_writing, "writing", NO_RANK, TAIL_NONE),
    KIND(RECORD_KEPT, record_kept, "kept", NO_RANK, TAIL_PATHS),
    KIND(RECORD_NO_ROOM, record_no_room, "no-room", RANK_OF(record_no_room), TAIL_NONE),
    KIND(RECORD_PROGRESS, record_progress, "progress", RANK_OF(record_progress), TAIL_NONE),
    KIND(DECISION_START, decision_start, "start", NO_RANK, TAIL_NONE),
    KIND(DECISION_KILL, decision_kill, "kill", RANK_OF(decision_kill), TAIL_NONE),
    KIND(DECISION_CLEAR, decision_clear, "clear-attempt", NO_RANK, TAIL_NONE),
    KIND(DECISION_SAMPLE, decision_sample, "sample-rank", RANK_OF(decision_sample), TAIL_NONE),
    KIND(DECISION_CAPTURE, decision_capture, "capture", RANK_OF(decision_capture), TAIL_NONE),
    KIND(DECISION_SURVEY, decision_survey, "survey", NO_RANK, TAIL_NONE),
    KIND(DECISION_VERIFY, decision_verify, "verify", NO_RANK, TAIL_NONE),
    KIND(DECISION_FAULT, decision_fault, "fault", RANK_OF(decision_fault), TAIL_NONE),
    KIND(DECISION_RECOVERED, decision_recovered, "recovered", NO_RANK, TAIL_NONE),
    KIND(DECISION_STANDING, decision_standing, "standing", NO_RANK, TAIL_NONE),
    KIND(DECISION_ASK, decision_ask, "ask", NO_RANK, TAIL_NONE),
    KIND(DECISION_END, decision_end, "end", NO_RANK, TAIL_NONE),
    KIND(DECISION_DIGEST, decision_digest, "digest", NO_RANK, TAIL_NONE),
    KIND(RECORD_TURN, record_turn, "turn", NO_RANK, TAIL_NONE),
#undef RANK_OF
#undef KIND
};

static uint32_t u32_at(const uint8_t *bytes, size_t offset)
{
	uint32_t value;

	memcpy(&value, bytes + offset, sizeof(value));
	return value;
}

static enum status bad(struct cause *why, size_t offset, const char *subject)
{
	cause_set(why, CAUSE_DATA, (int64_t)offset, "check", subject);
	return STATUS_BAD;
}

/* Does `size` bytes hold the fixed part, count items of item_bytes, the padding to 8, and no more? */
static bool fits(size_t size, size_t fixed, uint64_t count, size_t item_bytes)
{
	return count <= RECORD_SIZE_MAX && RECORD_ROUND(fixed + count * item_bytes) == size;
}

static enum status check_run(const uint8_t *b, size_t size, struct cause *why)
{
	uint32_t ranks = u32_at(b, offsetof(struct record_run, rank_count));
	uint32_t nodes = u32_at(b, offsetof(struct record_run, node_count));
	uint32_t arguments = u32_at(b, offsetof(struct record_run, argument_count));
	uint32_t text_bytes = u32_at(b, offsetof(struct record_run, text_bytes));
	const uint8_t *text = b + sizeof(struct record_run);
	uint64_t strings = 0;

	if (ranks == 0 || ranks > RANKS_MAX)
		return bad(why, offsetof(struct record_run, rank_count), "number of ranks");
	if (nodes == 0 || nodes > ranks)
		return bad(why, offsetof(struct record_run, node_count), "number of nodes");
	if (!fits(size, sizeof(struct record_run), text_bytes, 1))
		return bad(why, offsetof(struct record_run, text_bytes), "length of the text");
	if (text_bytes == 0 || text[text_bytes - 1] != '\0')
		return bad(why, sizeof(struct record_run), "text without an end");
	for (uint32_t i = 0; i < text_bytes; i++)
		strings += text[i] == '\0';
	if (arguments == 0 || strings != (uint64_t)arguments + 1)
		return bad(why, offsetof(struct record_run, argument_count), "number of arguments");
	return STATUS_OK;
}

static enum status check_agent(const uint8_t *b, size_t size, struct cause *why)
{
	uint32_t ranks = u32_at(b, offsetof(struct record_agent, rank_count));

	if (ranks > RANKS_MAX ||
	    !fits(size, sizeof(struct record_agent), ranks, sizeof(struct agent_rank)))
		return bad(why, offsetof(struct record_agent, rank_count), "number of ranks");
	for (uint32_t i = 0; i < ranks; i++) {
		size_t at = sizeof(struct record_agent) + i * sizeof(struct agent_rank);
		if (u32_at(b, at + offsetof(struct agent_rank, rank)) >= RANKS_MAX)
			return bad(why, at, "rank");
	}
	return STATUS_OK;
}

static enum status check_step(const uint8_t *b, size_t size, struct cause *why)
{
	uint32_t ranks = u32_at(b, offsetof(struct record_step, rank_count));
	uint32_t present = 0;

	if (ranks == 0 || ranks > RANKS_MAX ||
	    !fits(size, sizeof(struct record_step), ranks, sizeof(struct rank_cell)))
		return bad(why, offsetof(struct record_step, rank_count), "number of ranks");
	for (uint32_t i = 0; i < ranks; i++) {
		size_t at = sizeof(struct record_step) + i * sizeof(struct rank_cell);
		if (u32_at(b, at + offsetof(struct rank_cell, flags)) & CELL_PRESENT)
			present++;
	}
	if (present != u32_at(b, offsetof(struct record_step, present_count)))
		return bad(why, offsetof(struct record_step, present_count), "number of ranks present");
	return STATUS_OK;
}

/* The path behind a record_saved or record_rung: text_bytes lies last in both. */
static enum status check_path(const uint8_t *b, size_t size, size_t fixed, struct cause *why)
{
	size_t text_at = fixed - sizeof(uint32_t);
	uint32_t text_bytes = u32_at(b, text_at);
	const uint8_t *text = b + fixed;

	static_assert(
	    offsetof(struct record_saved, text_bytes) + 4 == sizeof(struct record_saved), "saved");
	static_assert(
	    offsetof(struct record_rung, text_bytes) + 4 == sizeof(struct record_rung), "rung");
	if (text_bytes < 2 || text_bytes > RECORD_TEXT_MAX || !fits(size, fixed, text_bytes, 1))
		return bad(why, text_at, "length of the path");
	if (memchr(text, '\0', text_bytes) != text + text_bytes - 1)
		return bad(why, fixed, "path without an end");
	return STATUS_OK;
}

/* The two paths behind a record_kept. */
static enum status check_paths(const uint8_t *b, size_t size, struct cause *why)
{
	size_t fixed = sizeof(struct record_kept);
	uint32_t text_bytes = u32_at(b, offsetof(struct record_kept, text_bytes));
	const uint8_t *text = b + fixed, *end;

	if (text_bytes < 2 || text_bytes > 2 * RECORD_TEXT_MAX || !fits(size, fixed, text_bytes, 1))
		return bad(why, offsetof(struct record_kept, text_bytes), "length of the paths");
	end = memchr(text, '\0', text_bytes - 1);
	if (end == NULL || end - text >= (ptrdiff_t)RECORD_TEXT_MAX ||
	    memchr(end + 1, '\0', (size_t)(text + text_bytes - (end + 1))) != text + text_bytes - 1 ||
	    text + text_bytes - (end + 1) > (ptrdiff_t)RECORD_TEXT_MAX)
		return bad(why, fixed, "paths without an end");
	return STATUS_OK;
}

static enum status check_evidence(const uint8_t *b, size_t size, struct cause *why)
{
	uint32_t text_bytes = u32_at(b, offsetof(struct record_evidence, text_bytes));
	uint32_t raw_bytes = u32_at(b, offsetof(struct record_evidence, raw_bytes));

	if (!fits(size, sizeof(struct record_evidence), text_bytes, 1))
		return bad(why, offsetof(struct record_evidence, text_bytes), "length of the frame");
	/* What a reader unpacks is bounded by the same limit as a record (H10). */
	if (raw_bytes > RECORD_SIZE_MAX || (text_bytes == 0 && raw_bytes != 0))
		return bad(why, offsetof(struct record_evidence, raw_bytes), "length of the evidence");
	return STATUS_OK;
}

enum status check_record(const void *bytes, size_t size_bytes, struct cause *why)
{
	const struct check_kind *kind;
	struct record head;

	if (size_bytes < sizeof(head))
		return bad(why, size_bytes, "record shorter than its head");
	memcpy(&head, bytes, sizeof(head));
	if (head.size_bytes != size_bytes || size_bytes > RECORD_SIZE_MAX || size_bytes % 8 != 0)
		return bad(why, offsetof(struct record, size_bytes), "size of the record");
	if (check_fixed_size(head.kind) == 0) {
		cause_set(why, CAUSE_DATA, head.kind, "check", "kind of record that is not known");
		return STATUS_REFUSED;
	}
	kind = &KINDS[head.kind];
	if (head.version != 1) {
		cause_set(
		    why, CAUSE_DATA, head.version, "check", "version of record that is not known");
		return STATUS_REFUSED;
	}
	if (size_bytes < kind->fixed_bytes)
		return bad(why, size_bytes, kind->name);
	if (kind->rank_offset != NO_RANK) {
		uint32_t rank = u32_at(bytes, kind->rank_offset);
		if (rank >= RANKS_MAX && rank != RANK_NONE)
			return bad(why, kind->rank_offset, "rank");
	}
	switch (kind->tail) {
	case TAIL_RUN:
		return check_run(bytes, size_bytes, why);
	case TAIL_AGENT:
		return check_agent(bytes, size_bytes, why);
	case TAIL_STEP:
		return check_step(bytes, size_bytes, why);
	case TAIL_PATH:
		return check_path(bytes, size_bytes, kind->fixed_bytes, why);
	case TAIL_PATHS:
		return check_paths(bytes, size_bytes, why);
	case TAIL_EVIDENCE:
		return check_evidence(bytes, size_bytes, why);
	case TAIL_NONE:
		break;
	}
	if (size_bytes != kind->fixed_bytes)
		return bad(why, kind->fixed_bytes, kind->name);
	return STATUS_OK;
}

size_t check_fixed_size(uint32_t kind)
{
	return kind < CHECK_KIND_MAX ? KINDS[kind].fixed_bytes : 0;
}

const char *check_kind_name(uint32_t kind)
{
	return check_fixed_size(kind) != 0 ? KINDS[kind].name : "?";
}

static const char *word(const char *const words[], size_t count, uint32_t number)
{
	return number < count && words[number] != NULL ? words[number] : "?";
}
#define WORD(words, number) word(words, sizeof(words) / sizeof((words)[0]), number)

const char *check_fault_name(uint32_t fault)
{
	return WORD(schema_fault_words, fault);
}

const char *check_phase_name(uint32_t phase)
{
	return WORD(schema_phase_words, phase);
}

const char *check_standing_name(uint32_t standing)
{
	return WORD(schema_standing_words, standing);
}

const char *check_end_name(uint32_t end_reason)
{
	return WORD(schema_end_words, end_reason);
}
