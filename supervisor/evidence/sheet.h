/*
 * A bounded page of text that is only ever appended to.
 *
 * Everything on it is valid UTF-8 without control characters other than newline and tab, whatever was put
 * in: what comes from a trainer's output or memory goes through sheet_safe().  When the page is full it says
 * so once, at its end, and takes nothing more (H10).  data[0..used) is consistent at every instruction, so
 * that a signal handler may write it out.
 */
#ifndef EVIDENCE_SHEET_H
#define EVIDENCE_SHEET_H

#include <stdbool.h>
#include <stddef.h>

struct sheet {
	char *data; /* owned */
	volatile size_t used;
	size_t size;  /* never more than this many bytes */
	size_t limit; /* of the section being written, <= size; reset it to size after a section */
	bool cut;     /* something did not fit before limit */
};

/* Returns 0 or -ENOMEM. */
int sheet_init(struct sheet *s, size_t size);
void sheet_fini(struct sheet *s);

/* The caller's own words: format and arguments must be clean UTF-8. A line that does not fit is left out
 * whole; lines are at most 1,023 bytes. */
__attribute__((format(printf, 2, 3))) void sheet_line(struct sheet *s, const char *format, ...);

/* Foreign bytes, made safe: controls, malformed UTF-8 and direction overrides become \xNN. */
void sheet_safe(struct sheet *s, const char *bytes, size_t size);

/* The same into out, NUL-terminated; size >= 1. For short foreign strings that go into a sheet_line(). */
void sheet_escape(char *out, size_t out_size, const char *bytes, size_t size);

/* Begin and end a section of at most section_size bytes; the end notes what was cut. */
void sheet_section(struct sheet *s, size_t section_size);
void sheet_section_end(struct sheet *s);

#endif
