/*
 * Every field of every record kind: its name, its offset, its type.  The one description that the JSON
 * rendering is driven by and that the tests hold against the structs and against holdfast-journal(5).
 */
#ifndef JOURNAL_SCHEMA_H
#define JOURNAL_SCHEMA_H

#include <stddef.h>
#include <stdint.h>

#include "journal/record.h"

enum schema_type {
	SCHEMA_END = 0, /* closes a list of fields */
	SCHEMA_U16,
	SCHEMA_U32,
	SCHEMA_I32,
	SCHEMA_U64,
	SCHEMA_I64,
	SCHEMA_F32,
	SCHEMA_F64,
	SCHEMA_CHAR,
	SCHEMA_BYTES,  /* size_bytes of them */
	SCHEMA_CONFIG, /* struct policy_config, nested */
	SCHEMA_HEAD,   /* struct record, nested */
};

enum schema_meaning { /* how a value is to be shown */
	SCHEMA_PLAIN = 0,
	SCHEMA_RESERVED, /* written as 0, not shown */
	SCHEMA_STEP,     /* STEP_NONE is "none" */
	SCHEMA_RANK,     /* RANK_NONE is "none" */
	SCHEMA_HEX,
	SCHEMA_WORD,  /* words[value] */
	SCHEMA_FLAGS, /* words[bit] */
};

struct schema_field {
	const char *name;
	uint16_t offset;     /* in its struct */
	uint16_t size_bytes; /* of the whole field; an array's count follows from its type */
	uint8_t type;        /* enum schema_type */
	uint8_t meaning;     /* enum schema_meaning */
	uint8_t word_count;
	const char *const *words; /* borrowed, static; entries may be NULL */
};

/* Each list ends with SCHEMA_END.  NULL for an unknown kind. */
const struct schema_field *schema_of(uint32_t kind); /* the fixed part, the head as one SCHEMA_HEAD */
extern const struct schema_field schema_head[];
extern const struct schema_field schema_config[];
extern const struct schema_field schema_agent_rank[];
extern const struct schema_field schema_rank_cell[];

/* The words of the enumerations that check_*_name() and the fields share. */
extern const char *const schema_phase_words[PHASE_COUNT];
extern const char *const schema_fault_words[FAULT_COUNT];
extern const char *const schema_standing_words[STANDING_BAD + 1];
extern const char *const schema_progress_words[PROGRESS_COUNT];
extern const char *const schema_end_words[END_STUCK + 1];

/* Bytes of one element: 4 of SCHEMA_U32; 1 of SCHEMA_BYTES; the struct's of a nested one. */
size_t schema_element_size(uint8_t type);

#endif
