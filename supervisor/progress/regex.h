/*
 * A regular expression of the user's (PCRE2), with named groups that say what its parts are:
 *
 *	step (there must be one) · epoch · loss · grad_norm · lr or learning_rate · tokens · time (seconds)
 *
 * No pattern and no line can hold its caller up: what one match may do is bounded in steps, depth and memory, and
 * a line is looked at no further than REGEX_LINE_MAX.  Bytes are matched, not characters, unless the
 * pattern begins with (*UTF).
 */
#ifndef PROGRESS_REGEX_H
#define PROGRESS_REGEX_H

#include <stddef.h>

#include "journal/status.h"
#include "supervisor/progress/scan.h"

#define REGEX_LINE_MAX 4096u /* bytes of a line that are looked at */

struct regex;

/*
 * text		borrowed, NUL-terminated.
 * Returns	STATUS_OK and *out, for regex_free(); STATUS_REFUSED: why->number is the offset in text that is
 *		wrong, why->subject what is wrong with it; STATUS_SYS: memory is short.
 */
MUST_CHECK enum status regex_new(const char *text, struct regex **out, struct cause *why);
void regex_free(struct regex *p); /* NULL is allowed */

enum regex_result {
	REGEX_NO = 0,
	REGEX_YES,
	REGEX_LIMIT, /* given up: the line would have taken too long to look at */
};

/* line is borrowed, any bytes.  *out is filled on REGEX_YES only. */
enum regex_result regex_match(struct regex *p, const char *line, size_t length, struct scan *out);

#endif
