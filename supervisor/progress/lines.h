/*
 * From bytes, as they come, to lines: what stands between line feeds and carriage returns.
 *
 * Progress bars are redrawn behind a carriage return, so that each redrawing is a line of its own.  Empty lines are
 * not given out.  A line longer than LINES_MAX is cut there: its beginning is given out, the rest is dropped, and
 * it is counted.  Bytes are never looked at for anything else: binary ones pass.  The same bytes give the same
 * lines however they are torn into pieces.  Fixed memory (H10).
 */
#ifndef PROGRESS_LINES_H
#define PROGRESS_LINES_H

#include <stddef.h>
#include <stdint.h>

#define LINES_MAX 16384u /* bytes of a line that are kept */

struct lines {
	uint64_t cut_count; /* lines that were longer than LINES_MAX */
	size_t length;      /* of the line that has begun; beyond LINES_MAX while it is cut */
	char begun[LINES_MAX];
};

/* One line, without its end; borrowed for the call, 1 to LINES_MAX bytes, not NUL-terminated. */
typedef void lines_take(void *context, const char *line, size_t length);

/* l is the caller's memory; nothing of it need be released. */
void lines_init(struct lines *l);

/* More bytes: take is called for each line that ends in them. */
void lines_feed(struct lines *l, const char *bytes, size_t length, lines_take *take, void *context);

/* There will be no more bytes: what has begun is a line, too. */
void lines_end(struct lines *l, lines_take *take, void *context);

#endif
