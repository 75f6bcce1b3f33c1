/*
 * The part of a piece of evidence that a person wants first: the crashed or first thread's top frames and the last
 * lines of the output.  The text's form is that of supervisor/evidence/report.h; text of another form is shown from
 * its beginning, as far as the bound goes.
 */
#ifndef CLI_EXCERPT_H
#define CLI_EXCERPT_H

#include <stdio.h>

#define EXCERPT_FRAMES 12u
#define EXCERPT_OUTPUT_LINES 10u

/*
 * Print the excerpt, each line behind `indent`, fit for a terminal.
 * text		borrowed; NUL-terminated.
 */
void excerpt_print(FILE *out, const char *text, const char *indent);

/* The whole text likewise. */
void excerpt_print_all(FILE *out, const char *text, const char *indent);

#endif
