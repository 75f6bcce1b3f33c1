/* See printout.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "supervisor/cli/printout.h"

/* There is one standard output.  In the C library's words stdout is a variable that may be set like any other. */
static struct {
	FILE *real; /* NULL: not begun */
	char *text; /* the stream's own, right after it was flushed */
	size_t size;
	int error; /* errno of the first failure */
} kept;

void printout_begin(void)
{
	FILE *memory = open_memstream(&kept.text, &kept.size);

	if (memory == NULL)
		return;
	kept.real = stdout;
	stdout = memory;
}

size_t printout_size(void)
{
	return kept.real != NULL && fflush(stdout) == 0 ? kept.size : 0;
}

bool printout_write(void)
{
	FILE *real = kept.real != NULL ? kept.real : stdout;

	errno = 0;
	if (fflush(stdout) != 0 || ferror(stdout))
		kept.error = kept.error != 0 ? kept.error : (errno != 0 ? errno : ENOMEM);
	if (kept.real != NULL && kept.error == 0 &&
	    (fwrite(kept.text, 1, kept.size, real) != kept.size || fflush(real) != 0))
		kept.error = errno;
	if (kept.real != NULL)
		rewind(stdout);
	errno = kept.error;
	return kept.error == 0;
}

bool printout_end(void)
{
	bool written = printout_write();

	if (kept.real != NULL) {
		(void)fclose(stdout);
		free(kept.text);
		stdout = kept.real;
		kept.real = NULL;
	}
	errno = kept.error;
	return written;
}
