/*
 * A program to be hurt, for test_inject.py: victim (loop|read|sleep|threads).
 *
 * loop computes; read and sleep block in the kernel.  threads blocks in read(2) in the main thread while
 * another one copies standard input to standard output: it blocks in the same system call instruction, and
 * must go on when the main thread no longer does.  It prints "ready" when it is about to do so.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

static volatile unsigned long counter;

/* The stack pointer shows from outside that the program goes on. */
__attribute__((noinline)) static unsigned long descend(unsigned depth)
{
	unsigned long below = depth > 0 ? descend(depth - 1) : 0;

	counter = counter + 1;
	return below + counter;
}

__attribute__((noinline)) static int victim_loop(void)
{
	while (descend((unsigned)(counter % 61)) != 0)
		continue;
	return 5;
}

__attribute__((noinline)) static int victim_read(int fd)
{
	char byte;

	return read(fd, &byte, 1) < 0 ? 2 : 3;
}

__attribute__((noinline)) static int victim_sleep(void)
{
	struct timespec pause = {.tv_sec = 600};

	while (nanosleep(&pause, &pause) != 0 && errno == EINTR)
		continue;
	return 4;
}

static void *copy_input(void *unused)
{
	char byte;

	(void)unused;
	while (read(STDIN_FILENO, &byte, 1) > 0)
		if (write(STDOUT_FILENO, &byte, 1) != 1)
			break;
	return NULL;
}

int main(int argc, char **argv)
{
	int silent[2];
	pthread_t thread;

	/* Nothing is left behind when the test itself ends early. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* The injector is no ancestor of this process, which some kernels ask for (yama). */
	prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
	if (argc != 2 || pipe(silent) != 0)
		return 64;
	puts("ready");
	fflush(stdout);
	if (strcmp(argv[1], "loop") == 0)
		return victim_loop();
	if (strcmp(argv[1], "sleep") == 0)
		return victim_sleep();
	if (strcmp(argv[1], "read") == 0)
		return victim_read(silent[0]);
	if (strcmp(argv[1], "threads") == 0 && pthread_create(&thread, NULL, copy_input, NULL) == 0)
		return victim_read(silent[0]);
	return 64;
}
