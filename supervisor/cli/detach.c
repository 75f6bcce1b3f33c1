/* See detach.h. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "supervisor/cli/cli.h"
#include "supervisor/cli/detach.h"
#include "supervisor/cli/rundir.h"

/* What the new process says first, when its output leaves the terminal; the second word is one byte: it is up. */
struct word {
	uint64_t log_bytes; /* that were in the log before */
	char run_dir[RUNDIR_PATH];
};

static bool read_all(int fd, void *out, size_t size)
{
	char *at = out;

	while (size > 0) {
		ssize_t got = read(fd, at, size);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return false;
		at += got;
		size -= (size_t)got;
	}
	return true;
}

static void log_path(const char *run_dir, char out[RUNDIR_PATH + 32])
{
	snprintf(out, RUNDIR_PATH + 32, "%s/logs/holdfast.log", run_dir);
}

/* What the run said before it ended, where it would have said it with a terminal. */
static void show_log(const struct word *said)
{
	char path[RUNDIR_PATH + 32], bytes[4096];
	ssize_t got;

	log_path(said->run_dir, path);
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (lseek(fd, (off_t)said->log_bytes, SEEK_SET) >= 0)
		while ((got = read(fd, bytes, sizeof(bytes))) > 0)
			fwrite(bytes, 1, (size_t)got, stderr);
	close(fd);
}

static int exit_code_of(int pid)
{
	int wait_status;

	while (waitpid(pid, &wait_status, 0) < 0)
		if (errno != EINTR)
			return CLI_EXIT_BUG;
	return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);
}

static void say_up(const struct detach *d, int pid, const struct word *said)
{
	char path[RUNDIR_PATH + 32];
	json_t *object;

	if (d->quiet)
		return;
	log_path(said->run_dir, path);
	if (!d->json) {
		printf("holdfast: running as pid %d in %s; it says how it goes in %s\n", pid,
		    said->run_dir, path);
		return;
	}
	object = json_pack("{s:s, s:i, s:s, s:s}", "kind", "detached", "pid", pid, "run_directory",
	    said->run_dir, "log", path);
	if (object != NULL)
		json_dumpf(object, stdout, JSON_COMPACT);
	printf("\n");
	json_decref(object);
}

/* In the process that was typed. */
static int wait_until_up(const struct detach *d, int fd, int pid)
{
	struct word said;
	char up;
	int code;

	/* Refused: it has said why, here, and its status is ours. */
	if (!read_all(fd, &said, sizeof(said)))
		return exit_code_of(pid);
	said.run_dir[sizeof(said.run_dir) - 1] = '\0';
	if (read_all(fd, &up, 1)) {
		say_up(d, pid, &said);
		return fflush(stdout) == 0 ? 0 : CLI_EXIT_BUG;
	}
	code = exit_code_of(pid);
	show_log(&said);
	return code;
}

bool detach_fork(struct detach *d, int *exit_code_out)
{
	int ends[2] = {-1, -1}, pid = -1;

	fflush(NULL);
	if (pipe2(ends, O_CLOEXEC) == 0)
		pid = fork();
	if (pid < 0) {
		fprintf(stderr, "holdfast: run: cannot detach: %s\n", strerror(errno));
		*exit_code_out = CLI_EXIT_BUG;
		return false;
	}
	if (pid == 0) {
		close(ends[0]);
		d->fd = ends[1];
		(void)setsid();
		return true;
	}
	close(ends[1]);
	*exit_code_out = wait_until_up(d, ends[0], pid);
	close(ends[0]);
	return false;
}

int detach_leave(struct detach *d, const char *run_dir)
{
	struct word said = {0};
	char path[RUNDIR_PATH + 32];
	struct stat st;

	log_path(run_dir, path);
	int log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	if (log < 0 || null < 0 || fstat(log, &st) != 0) {
		fprintf(stderr, "holdfast: %s: cannot be written: %s\n", path, strerror(errno));
		return CLI_EXIT_CONFIG;
	}
	said.log_bytes = (uint64_t)st.st_size;
	snprintf(said.run_dir, sizeof(said.run_dir), "%s", run_dir);
	if (write(d->fd, &said, sizeof(said)) != (ssize_t)sizeof(said))
		return CLI_EXIT_BUG; /* who waited is gone: nobody would know of this run */
	dup2(null, STDIN_FILENO);
	dup2(log, STDOUT_FILENO);
	dup2(log, STDERR_FILENO);
	close(null);
	close(log);
	return 0;
}
