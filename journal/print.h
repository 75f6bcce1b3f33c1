/*
 * One JSON object a record, for status, log and why alike.
 *
 * The object has every field of the record's struct but "reserved", under the struct's own names, head first;
 * "kind" and the other enumerations are words (numbers when unknown), and:
 *	times      integers, nanoseconds of run time (wall_ns: since 1970)
 *	counts     integers; a string of decimal digits beyond 2^63 - 1, which no healthy trainer reaches
 *	step, rank null for STEP_NONE and RANK_NONE
 *	doubles    17 significant digits, so that they read back to the same bits; "nan", "inf", "-inf" as strings
 *	bits       digests, checksums, fingerprints, ids and addresses: strings of hexadecimal digits
 *	flags      arrays of words, then a number for bits that have none
 * What follows the struct: "arguments" and "directory" (run), "ranks" (agent), "cells" (step), "path" (saved,
 * rung), "text" (evidence).  Step rows have "loss_bits", "grad_norm_bits" and "learning_rate_bits" beside the doubles.
 * Names and meanings do not change within a schema; new members may appear.
 *
 * No I/O.  The record was checked by check_record().  H10: what a trainer reported is rendered, never believed.
 */
#ifndef JOURNAL_PRINT_H
#define JOURNAL_PRINT_H

#include <jansson.h>

#include "journal/record.h"
#include "journal/status.h"

enum print_flag {
	PRINT_CELLS = 1,    /* RECORD_STEP: the cells too */
	PRINT_EVIDENCE = 2, /* RECORD_EVIDENCE: the unpacked text too */
};

/*
 * r		borrowed; a record that check_record() accepted.
 * flags	enum print_flag.
 * out		filled on STATUS_OK; the caller's, json_decref() it.
 * Returns	STATUS_SYS (memory), STATUS_BAD (evidence that does not unpack; print it without PRINT_EVIDENCE),
 *		STATUS_REFUSED (a kind that is not known).
 */
MUST_CHECK enum status print_record_json(
    const struct record *r, unsigned flags, json_t **out, struct cause *why);

/* A double as above: a JSON real, or a string when it is not finite.  NULL: memory. */
json_t *print_double(double value);

/* `size_bytes` of text, of which not all need be UTF-8, as a JSON string; what is not UTF-8 or is NUL becomes U+FFFD. */
json_t *print_text(const char *text, size_t size_bytes);

/*
 * The text of a piece of evidence, unpacked.
 *
 * out		filled on STATUS_OK: size_out bytes and a NUL behind them; the caller's, free() it.
 * Returns	STATUS_NONE (nothing could be taken: the record's error says why), STATUS_BAD, STATUS_SYS.
 */
MUST_CHECK enum status print_evidence_text(
    const struct record_evidence *evidence, char **out, size_t *size_out, struct cause *why);

#endif
