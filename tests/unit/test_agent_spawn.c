/*
 * What a spawned process finds: its descriptors, signals, limits, environment and group are those that the
 * user's shell would have given it (H12); what went wrong before exec is said; nothing is left in the parent.
 *
 * The process spawned is this program again, called with "probe": it prints what it finds.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "supervisor/agent/spawn.h"
#include "tests/unit/samples.h"

#define SELF "/proc/self/exe"

/* --- the probe ------------------------------------------------------------------------------------------ */

static unsigned count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned count = 0;

	for (struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;)
		count += e->d_name[0] != '.' && (int)strtol(e->d_name, NULL, 10) != dirfd(dir);
	if (dir != NULL)
		closedir(dir);
	return count;
}

static int probe(void)
{
	extern char **environ;
	sigset_t mask;

	printf("fds");
	for (int fd = 0; fd < 1024; fd++)
		if (fcntl(fd, F_GETFD) >= 0)
			printf(" %d", fd);
	printf("\nignored");
	for (int number = 1; number < NSIG; number++) {
		struct sigaction action;

		if (sigaction(number, NULL, &action) != 0)
			continue;
		if (action.sa_handler == SIG_IGN)
			printf(" %d", number);
		else if (action.sa_handler != SIG_DFL)
			printf(" handled:%d", number);
	}
	printf("\nblocked");
	sigprocmask(SIG_SETMASK, NULL, &mask);
	for (int number = 1; number < NSIG; number++)
		if (sigismember(&mask, number) == 1)
			printf(" %d", number);
	printf("\nlimits");
	for (int what = 0; what < RLIM_NLIMITS; what++) {
		struct rlimit limit;

		getrlimit(what, &limit);
		printf(" %llu/%llu", (unsigned long long)limit.rlim_cur,
		    (unsigned long long)limit.rlim_max);
	}
	printf("\ngroup %s\n", getpgrp() == getpid() ? "own" : "other");
	char *dir = getcwd(NULL, 0);
	mode_t mask_of_files = umask(0);

	printf("dir %s\numask %o\nenvironment", dir, (unsigned)mask_of_files);
	for (char **at = environ; *at != NULL; at++)
		printf(" %s", *at);
	printf("\n");
	free(dir);
	return 0;
}

/* --- what the tests have in common ------------------------------------------------------------------------ */

static struct spawn_signals at_start;

/* Run `command` to its end and give its output; the caller frees it. */
static char *output_of(struct spawn_request *request)
{
	struct spawn_result result;
	char *text = calloc(1, 65536);
	size_t length = 0;
	int ends[2], status;

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	request->out_fd = ends[1];
	if (spawn_process(request, &result) != STATUS_OK)
		fail_msg("spawn: stage %d, error %d", result.stage, result.error);
	close(ends[1]);
	assert_true(result.pid > 0 && result.pidfd >= 0);
	assert_true(result.process_start > 0);
	close(result.pidfd);
	for (ssize_t got; (got = read(ends[0], text + length, 65535 - length)) > 0;)
		length += (size_t)got;
	close(ends[0]);
	assert_int_equal(waitpid(result.pid, &status, 0), result.pid);
	assert_int_equal(status, 0);
	return text;
}

/* The rest of the line that begins with `name`; the caller frees it. */
static char *line_of(const char *text, const char *name)
{
	size_t length = strlen(name);

	for (const char *at = text; at != NULL && *at != '\0'; at = strchr(at, '\n') + 1)
		if (strncmp(at, name, length) == 0)
			return strndup(at + length, strcspn(at + length, "\n"));
	fail_msg("no %s in: %s", name, text);
	return NULL;
}

static void expect_line(const char *text, const char *name, const char *expected)
{
	char *line = line_of(text, name);

	if (strcmp(line, expected) != 0)
		fail_msg("%s: '%s', not '%s'", name, line, expected);
	free(line);
}

static char path_entry[] = "PATH=/usr/bin:/bin", one_entry[] = "A=1", empty_entry[] = "EMPTY=";
static char *const plain_environment[] = {path_entry, one_entry, empty_entry, NULL};
static const char *const probe_command[] = {SELF, "probe", NULL};

static struct spawn_request probe_request(void)
{
	return (struct spawn_request){.command = probe_command,
	    .environment = plain_environment,
	    .in_fd = -1,
	    .out_fd = -1,
	    .err_fd = -1,
	    .signals = &at_start};
}

/* The probe started by fork and exec alone, as a shell would: what it prints is the standard. */
static char *standard(void)
{
	char *text = calloc(1, 65536);
	size_t length = 0;
	int ends[2];

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	int pid = fork();

	if (pid == 0) {
		sigprocmask(SIG_SETMASK, &at_start.mask, NULL);
		dup2(ends[1], 1);
		execve(SELF, (char **)probe_command, plain_environment);
		_exit(127);
	}
	close(ends[1]);
	for (ssize_t got; (got = read(ends[0], text + length, 65535 - length)) > 0;)
		length += (size_t)got;
	close(ends[0]);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	return text;
}

static void on_signal(int number)
{
	(void)number;
}

/* --- tests ---------------------------------------------------------------------------------------------- */

/* As an agent is: everything handled or ignored or blocked, descriptors open; the child sees none of it. */
static void what_a_child_finds(void **state)
{
	static const char *const same[] = {
	    "fds", "ignored", "blocked", "limits", "dir", "umask", "environment"};
	char *expected = standard();
	struct spawn_request request = probe_request();
	struct sigaction before[NSIG], handled = {.sa_handler = on_signal};
	sigset_t all, mask_before;
	int private_fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	(void)state;
	for (int number = 1; number < NSIG; number++) {
		struct sigaction ours = handled;

		if (number % 3 == 0)
			ours.sa_handler = SIG_IGN;
		if (number != SIGCHLD)
			(void)sigaction(number, &ours, &before[number]);
	}
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &mask_before);
	char *found = output_of(&request);

	sigprocmask(SIG_SETMASK, &mask_before, NULL);
	for (int number = 1; number < NSIG; number++)
		if (number != SIGCHLD)
			(void)sigaction(number, &before[number], NULL);
	close(private_fd);
	for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
		char *line = line_of(expected, same[i]);

		expect_line(found, same[i], line);
		free(line);
	}
	expect_line(found, "environment", " PATH=/usr/bin:/bin A=1 EMPTY=");
	expect_line(found, "group", " own");
	/* Control: what was ignored and blocked at the start is given on. */
	char *ignored = line_of(expected, "ignored"), *blocked = line_of(expected, "blocked");

	if (strstr(ignored, " 10") == NULL || strcmp(blocked, " 12") != 0)
		fail_msg("the standard: %s", expected);
	free(ignored);
	free(blocked);
	free(found);
	free(expected);
}

/* What somebody opened without close-on-exec before is given on, except where a descriptor is wanted. */
static void open_descriptors_go_on(void **state)
{
	struct spawn_request request = probe_request();
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), kept = fcntl(null, F_DUPFD, 50);
	char expected[64], number[16], *found = output_of(&request), *line = line_of(found, "fds");

	(void)state;
	assert_true(kept >= 50);
	snprintf(expected, sizeof(expected), " %d", kept);
	snprintf(number, sizeof(number), " %d ", null);
	assert_non_null(strstr(line, expected));
	assert_null(strstr(line, number));
	free(found);
	free(line);
	close(kept);
	close(null);
}

/* Sources and targets may overlap in any way: each descriptor arrives at its place. */
static void given_descriptors(void **state)
{
	static const char *const command[] = {
	    "sh", "-c", "read a; read b <&3; read c <&4; echo $a $b $c", NULL};
	static const char *const words[] = {"in\n", "three\n", "four\n"};
	int pipes[3][2];

	(void)state;
	for (unsigned round = 0; round < 2; round++) {
		struct spawn_request request = probe_request();

		for (unsigned i = 0; i < 3; i++) {
			assert_int_equal(pipe2(pipes[i], O_CLOEXEC), 0);
			assert_int_equal(
			    write(pipes[i][1], words[i], strlen(words[i])), strlen(words[i]));
		}
		int keep[2] = {pipes[1][0], pipes[2][0]};

		/* The low numbers that they have here are the very targets, crosswise. */
		request.command = command;
		request.in_fd = pipes[0][0];
		request.keep_fds = keep;
		request.keep_count = 2;
		char *found = output_of(&request);

		assert_string_equal(found, "in three four\n");
		free(found);
		for (unsigned i = 0; i < 3; i++) {
			close(pipes[i][0]);
			close(pipes[i][1]);
		}
	}
}

static void standard_input_is_empty(void **state)
{
	static const char *const command[] = {"sh", "-c", "read a || readlink /proc/self/fd/0", NULL};
	struct spawn_request request = probe_request();

	(void)state;
	request.command = command;
	char *found = output_of(&request);

	assert_string_equal(found, "/dev/null\n");
	free(found);
}

static void looked_up_in_the_childs_path(void **state)
{
	static const char *const command[] = {"holdfast-test-command", NULL};
	struct spawn_request request = probe_request();
	struct spawn_result result;
	char *dir = sample_directory(), *path, file[512];

	(void)state;
	sample_write(dir, "holdfast-test-command", "#!/bin/sh\necho found\n", 21);
	snprintf(file, sizeof(file), "%s/holdfast-test-command", dir);
	assert_int_equal(chmod(file, 0700), 0);
	assert_true(asprintf(&path, "PATH=%s", dir) > 0);
	char *environment[] = {path, NULL};

	request.command = command;
	request.environment = environment;
	char *found = output_of(&request);

	assert_string_equal(found, "found\n");
	free(found);
	request.environment = plain_environment; /* control */
	request.out_fd = -1;
	assert_int_equal(spawn_process(&request, &result), STATUS_SYS);
	assert_int_equal(result.error, ENOENT);
	free(path);
	sample_remove(dir);
}

static void expect_failure(struct spawn_request *request, enum spawn_stage stage, int error)
{
	struct spawn_result result;

	assert_int_equal(spawn_process(request, &result), STATUS_SYS);
	if (result.stage != stage || result.error != error)
		fail_msg("stage %d, error %d, not %d, %d", result.stage, result.error, stage, error);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* nobody is left */
	assert_int_equal(errno, ECHILD);
}

static void failures_are_told(void **state)
{
	const char *command[] = {"/nonexistent/command", NULL};
	char *dir = sample_directory(), file[512], missing[512];
	struct spawn_request request = probe_request();

	(void)state;
	snprintf(file, sizeof(file), "%s/file", dir);
	snprintf(missing, sizeof(missing), "%s/missing", dir);
	sample_write(dir, "file", "#!/bin/sh\n", 10);
	request.command = command;
	expect_failure(&request, SPAWN_EXEC, ENOENT);
	command[0] = "no-such-command-anywhere";
	expect_failure(&request, SPAWN_EXEC, ENOENT);
	command[0] = file; /* not executable */
	expect_failure(&request, SPAWN_EXEC, EACCES);
	command[0] = dir;
	expect_failure(&request, SPAWN_EXEC, EACCES);
	request.command = probe_command;
	request.work_dir = missing;
	expect_failure(&request, SPAWN_CHDIR, ENOENT);
	request.work_dir = file;
	expect_failure(&request, SPAWN_CHDIR, ENOTDIR);
	request.work_dir = dir; /* control */
	char *found = output_of(&request), *line = line_of(found, "dir ");
	char *real = realpath(dir, NULL);

	assert_string_equal(line, real);
	free(real);
	free(line);
	free(found);
	sample_remove(dir);
}

/* A middle process spawns and dies; the pipe that the grandchild holds tells that it died too. */
static bool outlives_its_parent(bool die_with_parent)
{
	static const char *const command[] = {"sleep", "1000", NULL};
	struct spawn_request request = probe_request();
	struct spawn_result result = {0};
	int ends[2], told[2], grandchild = 0;

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	assert_int_equal(pipe2(told, O_CLOEXEC), 0);
	request.command = command;
	request.out_fd = ends[1];
	request.die_with_parent = die_with_parent;
	int middle = fork();

	if (middle == 0) {
		if (spawn_process(&request, &result) != STATUS_OK ||
		    write(told[1], &result.pid, sizeof(result.pid)) != sizeof(result.pid))
			_exit(1);
		pause();
	}
	close(ends[1]);
	assert_int_equal(read(told[0], &grandchild, sizeof(grandchild)), sizeof(grandchild));
	kill(middle, SIGKILL);
	assert_int_equal(waitpid(middle, NULL, 0), middle);
	if (!die_with_parent) {
		bool alive = kill(grandchild, 0) == 0;

		kill(grandchild, SIGKILL);
		(void)waitpid(grandchild, NULL, 0);
		close(ends[0]);
		close(told[0]);
		close(told[1]);
		return alive;
	}
	char byte;

	assert_int_equal(read(ends[0], &byte, 1), 0); /* blocks for as long as it lives */
	close(ends[0]);
	close(told[0]);
	close(told[1]);
	(void)waitpid(grandchild, NULL, 0);
	return false;
}

static void dies_with_its_parent(void **state)
{
	(void)state;
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	alarm(30);
	assert_true(outlives_its_parent(false)); /* control */
	assert_false(outlives_its_parent(true));
	alarm(0);
	prctl(PR_SET_CHILD_SUBREAPER, 0);
}

static void nothing_is_left_open(void **state)
{
	static const char *const command[] = {"true", NULL};
	static const char *const wrong[] = {"/nonexistent", NULL};
	struct spawn_request request = probe_request();
	struct spawn_result result;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), keep[3] = {null, null, null};
	unsigned before = count_fds();
	sigset_t mask_before, mask_after;

	(void)state;
	sigprocmask(SIG_SETMASK, NULL, &mask_before);
	request.keep_fds = keep;
	request.keep_count = 3;
	request.in_fd = request.out_fd = request.err_fd = null;
	for (unsigned i = 0; i < 200; i++) {
		request.command = i % 2 == 0 ? command : wrong;
		if (spawn_process(&request, &result) == STATUS_OK) {
			assert_int_equal(i % 2, 0);
			close(result.pidfd);
			assert_int_equal(waitpid(result.pid, NULL, 0), result.pid);
		}
	}
	assert_int_equal(count_fds(), before);
	sigprocmask(SIG_SETMASK, NULL, &mask_after);
	for (int number = 1; number < NSIG; number++)
		assert_int_equal(sigismember(&mask_before, number), sigismember(&mask_after, number));
	close(null);
}

/* No descriptor is left: said as such, and nothing is lost. */
static void without_descriptors(void **state)
{
	struct spawn_request request = probe_request();
	struct spawn_result result;
	struct rlimit before, few;
	unsigned fds = count_fds();
	static const char *const command[] = {"true", NULL};

	(void)state;
	request.command = command;
	getrlimit(RLIMIT_NOFILE, &before);
	for (unsigned room = 0; room < 6; room++) {
		few = before;
		few.rlim_cur = 3 + room;
		setrlimit(RLIMIT_NOFILE, &few);
		enum status status = spawn_process(&request, &result);

		setrlimit(RLIMIT_NOFILE, &before);
		if (status == STATUS_OK) {
			if (result.pidfd >= 0)
				close(result.pidfd);
			waitpid(result.pid, NULL, 0);
			continue;
		}
		assert_int_equal(result.stage, SPAWN_PREPARE);
		assert_true(result.error == EMFILE || result.error == EINVAL);
		assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	}
	assert_int_equal(count_fds(), fds);
}

static void the_start_time_is_an_identity(void **state)
{
	(void)state;
	assert_true(spawn_process_start(getpid()) > 0);
	assert_int_equal(spawn_process_start(getpid()), spawn_process_start(getpid()));
	assert_int_equal(spawn_process_start(0x7ffffff0), 0);
	prctl(PR_SET_NAME, ") 1 (x) y"); /* a name may hold anything */
	assert_true(spawn_process_start(getpid()) > 0);
	assert_true(spawn_process_start(getpid()) >= spawn_process_start(1));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(what_a_child_finds),
	    cmocka_unit_test(open_descriptors_go_on),
	    cmocka_unit_test(given_descriptors),
	    cmocka_unit_test(standard_input_is_empty),
	    cmocka_unit_test(looked_up_in_the_childs_path),
	    cmocka_unit_test(failures_are_told),
	    cmocka_unit_test(dies_with_its_parent),
	    cmocka_unit_test(nothing_is_left_open),
	    cmocka_unit_test(without_descriptors),
	    cmocka_unit_test(the_start_time_is_an_identity),
	};
	sigset_t mask;

	if (argc == 2 && strcmp(argv[1], "probe") == 0)
		return probe();
	/* As from a shell that ignores one signal and blocks another. */
	signal(SIGUSR1, SIG_IGN);
	sigemptyset(&mask);
	sigaddset(&mask, SIGUSR2);
	sigprocmask(SIG_SETMASK, &mask, NULL);
	spawn_signals_save(&at_start);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
