/*
 * The failure that a Python program explained before it ended, found in what it printed.
 *
 * What was printed may hold anything: other processes' tracebacks in between, ones that were caught and logged, ones
 * of a shutdown that followed, garbage.  Wanted is the first cause of the program's last failure: of a chain the
 * first exception, of an error that a worker process handed on the worker's own.  Pure functions over bounded text;
 * what they find is a reader's help, and nothing is decided on it.
 */
#ifndef CLI_TRACEBACK_H
#define CLI_TRACEBACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TRACEBACK_NAME_MAX 128u /* bytes, with the NUL; longer ones are cut */
#define TRACEBACK_TEXT_MAX 512u

struct traceback_place {
	char file[TRACEBACK_TEXT_MAX]; /* "" when there is none */
	char function[TRACEBACK_NAME_MAX];
	uint32_t line;
};

struct traceback {
	char type[TRACEBACK_NAME_MAX];
	char message[TRACEBACK_TEXT_MAX]; /* its first line; "" when there is none */
	struct traceback_place raised;    /* the innermost frame */
	struct traceback_place own; /* the innermost frame outside of libraries, when that is another; else file "" */
	bool follows; /* an error as that of a lost peer: some other rank's failure may be the cause */
};

/*
 * Find the failure in what a program printed.
 * text		borrowed; size bytes of any kind.
 * out		filled when there is one.  Its texts may hold control characters.
 */
bool traceback_find(const char *text, size_t size, struct traceback *out);

/*
 * The same in the error file that PyTorch's @record writes, whose main program failed for certain.
 * Returns false for anything that is not such a file.
 */
bool traceback_find_recorded(const char *text, size_t size, struct traceback *out);

#endif
