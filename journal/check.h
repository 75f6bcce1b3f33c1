/*
 * Whether bytes from outside are a record, and the words for what records hold.  No I/O.  H10.
 */
#ifndef JOURNAL_CHECK_H
#define JOURNAL_CHECK_H

#include <stddef.h>

#include "journal/record.h"
#include "journal/status.h"

/*
 * Check a record's head, its size against its kind's fixed part and its variable part's own counts, so that
 * the struct and what follows it may be used without a further look.
 * Returns	STATUS_OK, STATUS_REFUSED (unknown kind or version), STATUS_BAD (cause.number: offset).
 */
MUST_CHECK enum status check_record(const void *bytes, size_t size_bytes, struct cause *why);

/* Size of a kind's fixed part, 0 when the kind is unknown. */
size_t check_fixed_size(uint32_t kind);

/* "step", "death", "fault"…: the word for a number; "?" when unknown.  Static storage. */
const char *check_kind_name(uint32_t kind);
const char *check_fault_name(uint32_t fault);
const char *check_phase_name(uint32_t phase);
const char *check_standing_name(uint32_t standing);
const char *check_end_name(uint32_t end_reason);

#endif
