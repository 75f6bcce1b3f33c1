/*
 * What is worth a line of its own while a run goes on: incidents, what was decided on them, the end.
 * Shared by the display, by `log --incidents` and by `why`.
 */
#ifndef CLI_NOTICE_H
#define CLI_NOTICE_H

#include "journal/sentence.h"
#include "supervisor/cli/source.h"

#define NOTICE_MAX (SENTENCE_MAX + 64u)

/*
 * The line for one record, fit for a terminal.
 *
 * r		borrowed, from source_record().
 * out		size bytes, at least 1; "" when the record is worth no line.
 * Returns	true when there is a line.
 */
bool notice_text(struct source *s, const struct record *r, char *out, size_t size);

/* The record as JSON with its line as "sentence"; NULL: worth no line, or memory. */
json_t *notice_json(struct source *s, const struct record *r);

#endif
