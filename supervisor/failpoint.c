/* See failpoint.h. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "supervisor/failpoint.h"

/* The one process-wide variable of the supervisor: tests arm it from outside, before main. */
static struct {
	unsigned point; /* 0: not armed */
	unsigned long long turn;
	const char *file; /* in the environment */
} armed;

void failpoint_init(void)
{
	const char *text = getenv("HOLDFAST_FAILPOINT");
	int length = 0;

	armed.point = 0;
	if (text == NULL || sscanf(text, "%u:%llu:%n", &armed.point, &armed.turn, &length) != 2 ||
	    length == 0)
		armed.point = 0;
	else
		armed.file = text + length;
}

void failpoint_pass(enum failpoint point, uint64_t turn)
{
	if (armed.point != (unsigned)point || armed.turn != turn)
		return;
	int fd = open(armed.file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd >= 0)
		kill(getpid(), SIGKILL);
}
