/*
 * holdfast stop: ask a live run, over its control socket, to have its trainers save and end.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "supervisor/cli/cli.h"
#include "supervisor/cli/source.h"

#define ANSWER_S 5
#define WAIT_POLL_MS 50

enum stop_option { OPT_DIR, OPT_WAIT, OPT_COUNT };

static const struct option_spec specs[OPT_COUNT] = {
    [OPT_DIR] = {"dir", 'd', "DIR", "the run's directory (default ./holdfast-run)"},
    [OPT_WAIT] = {"wait", 'w', NULL, "return when the run has ended"},
};

static int connect_control(const char *dir)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct timeval timeout = {.tv_sec = ANSWER_S};
	int dir_fd = open(dir, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
	int fd;

	if (dir_fd < 0)
		return -1;
	snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/control.sock", dir_fd);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0) {
		(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
		(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
		if (connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
			close(fd);
			fd = -1;
		}
	}
	close(dir_fd);
	return fd;
}

/* One line there, one line back.  False: no whole line within the time. */
static bool ask(int fd, const char *wish, char *answer, size_t size)
{
	size_t length = 0;

	if (write(fd, wish, strlen(wish)) != (ssize_t)strlen(wish))
		return false;
	while (length + 1 < size) {
		ssize_t got = read(fd, answer + length, size - 1 - length);

		if (got <= 0)
			return false;
		length += (size_t)got;
		answer[length] = '\0';
		char *end = strchr(answer, '\n');

		if (end != NULL) {
			*end = '\0';
			return true;
		}
	}
	return false;
}

static void wait_for_end(const char *dir)
{
	const struct timespec pause = {.tv_nsec = WAIT_POLL_MS * 1000000};

	while (rundir_holder(dir) > 0)
		nanosleep(&pause, NULL);
}

static int stop(const char *dir, bool wait)
{
	char answer[256];
	int holder = rundir_holder(dir);
	int fd;

	if (holder <= 0) {
		fprintf(stderr, "holdfast: %s: %s\n", dir,
		    holder < 0 ? "there is no run here; name its directory with --dir"
			       : "no live run holds it; nothing to stop");
		return CLI_EXIT_AGAIN;
	}
	fd = connect_control(dir);
	if (fd < 0 || !ask(fd, "stop\n", answer, sizeof(answer))) {
		fprintf(stderr,
		    "holdfast: %s: its supervisor does not answer; try again, or send SIGTERM to "
		    "pid %d\n",
		    dir, holder);
		if (fd >= 0)
			close(fd);
		return CLI_EXIT_AGAIN;
	}
	close(fd);
	if (strcmp(answer, "ok") != 0) {
		fprintf(stderr, "holdfast: %s: %s\n", dir, answer);
		return CLI_EXIT_AGAIN;
	}
	if (wait)
		wait_for_end(dir);
	return 0;
}

int cli_stop(int argc, char **argv)
{
	struct options o = {.command = "stop",
	    .synopsis = "[OPTIONS] [DIR]",
	    .specs = specs,
	    .spec_count = OPT_COUNT,
	    .argc = argc,
	    .argv = argv,
	    .at = 1};
	const char *dir = RUNDIR_DEFAULT, *value;
	bool wait = false;
	int option;

	while ((option = source_next_option(&o, &value, &dir)) >= 0) {
		if (option == OPT_DIR)
			dir = value;
		else
			wait = true;
	}
	if (option == OPTIONS_HELP)
		return 0;
	if (option == OPTIONS_BAD)
		return CLI_EXIT_USAGE;
	return stop(dir, wait);
}
