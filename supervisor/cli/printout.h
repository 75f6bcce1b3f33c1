/*
 * Standard output that nobody can hold us up with while we hold the journal.
 *
 * A reader of ours takes its time: a pager waits for a key, a terminal is stopped with Ctrl-S.  Were it met in the
 * middle of a look at the journal, the writer could not use a page again until it goes on.  So all that is printed,
 * however much it is, is kept in memory, and written by printout_write(), which is called with the journal let go of.
 */
#ifndef CLI_PRINTOUT_H
#define CLI_PRINTOUT_H

#include <stdbool.h>
#include <stddef.h>

/*
 * From here on what is printed to stdout is kept.  Call once, when the words of the command were understood.
 * When memory is too short for it, stdout stays as it is.
 */
void printout_begin(void);

/* Bytes that are kept. */
size_t printout_size(void);

/*
 * Write what is kept; may block for as long as our reader likes.
 * Returns false when it cannot be taken, now or once before, or when memory was short; errno says why.
 */
bool printout_write(void);

/* Write what is kept and give stdout back.  Returns as printout_write(). */
bool printout_end(void);

#endif
