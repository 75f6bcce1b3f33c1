/*
 * What a rank's own program said of its failure: looked for in the evidence of an incident, and in the logs of ranks
 * of which there is none.
 */
#ifndef CLI_FAILURE_H
#define CLI_FAILURE_H

#include <stdint.h>

#include <jansson.h>

#include "supervisor/cli/traceback.h"

#define FAILURE_SENTENCE_MAX 1024u

/*
 * The failure in the text of a piece of evidence, whose form is that of supervisor/evidence/report.h: what @record
 * wrote first, then standard error, then standard output.
 * text		borrowed; NUL-terminated.
 */
bool failure_of_evidence(const char *text, struct traceback *out);

/* The failure at the end of a rank's standard error in a run's directory; false also when the file is gone. */
bool failure_of_log(const char *dir, uint32_t attempt, uint32_t rank, struct traceback *out);

/* "ValueError: bad sample 7", fit for a terminal. */
void failure_sentence(const struct traceback *failure, char out[FAILURE_SENTENCE_MAX]);

/* "at train.py:12 in main", with the caller in the program where it was raised in a library; "" when not known. */
void failure_place(const struct traceback *failure, char out[FAILURE_SENTENCE_MAX]);

/* An object: type, message, file, line and function, own_file, own_line and own_function; null where not known. */
json_t *failure_json(const struct traceback *failure);

#endif
