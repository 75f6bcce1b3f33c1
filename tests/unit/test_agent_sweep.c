/*
 * The sweep: whoever descends from the agent ends, however it hid; who is spared lives; what an earlier agent
 * left behind is found by its environment (H6).
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "supervisor/agent/sweep.h"
#include "supervisor/clock.h"
#include "trainer/channel.h"

#define DEADLINE_NS 20000000000ull

/* A process says its pid into the pipe and waits to be killed. */
static void wait_for_the_end(int fd)
{
	int pid = getpid();

	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	if (write(fd, &pid, sizeof(pid)) != sizeof(pid))
		_exit(1);
	for (;;)
		pause();
}

/* Children of a child, one of them a daemon as daemons are made; their pids come through the pipe. */
static void make_family(int fd)
{
	if (fork() != 0)
		return;
	if (fork() == 0)
		wait_for_the_end(fd); /* a grandchild */
	if (fork() == 0) {
		setsid();
		if (fork() == 0)
			wait_for_the_end(fd); /* nobody's child soon, in a session of its own */
		_exit(0);
	}
	wait_for_the_end(fd);
}

static void expect_gone(const int pids[], size_t count)
{
	for (size_t i = 0; i < count; i++) {
		int status;

		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	}
}

static void reap_all(void)
{
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

static void every_descendant(void **state)
{
	int ends[2], pids[3];

	(void)state;
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	make_family(ends[1]);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(read(ends[0], &pids[i], sizeof(pids[i])), sizeof(pids[i]));
	struct sweep_result result = {0};
	uint64_t limit = clock_monotonic_ns() + DEADLINE_NS;
	unsigned killed = 0;

	do { /* as the agent does: again until nothing is found */
		result = sweep_descendants(NULL, 0, NULL);
		killed += result.found;
		reap_all();
		assert_true(clock_monotonic_ns() < limit);
	} while (result.found + result.ended > 0);
	assert_true(killed >= 3);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(kill(pids[i], 0), -1);
	assert_int_equal(result.stuck_pid, 0);
	close(ends[0]);
	close(ends[1]);
}

static void spared(void **state)
{
	int ends[2], pids[2];

	(void)state;
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	for (unsigned i = 0; i < 2; i++) {
		pids[i] = fork();
		if (pids[i] == 0)
			wait_for_the_end(ends[1]);
		int said;

		assert_int_equal(read(ends[0], &said, sizeof(said)), sizeof(said));
	}
	struct sweep_result result = sweep_descendants(&pids[0], 1, NULL);

	assert_int_equal(result.found, 1);
	assert_int_equal(result.stuck_pid, pids[1]);
	expect_gone(&pids[1], 1);
	assert_int_equal(waitpid(pids[0], NULL, WNOHANG), 0); /* alive */
	assert_int_equal(sweep_descendants(&pids[0], 1, NULL).found, 0);
	assert_int_equal(sweep_descendants(NULL, 0, NULL).found, 1); /* control */
	expect_gone(&pids[0], 1);
	close(ends[0]);
	close(ends[1]);
}

/* What was there before us, and what it starts, is not ours. */
static void others_are_left_alone(void **state)
{
	struct sweep_others others;
	int ends[2], pid;

	(void)state;
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	int other = fork();

	if (other == 0) {
		if (fork() == 0)
			wait_for_the_end(ends[1]);
		wait_for_the_end(ends[1]);
	}
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(read(ends[0], &pid, sizeof(pid)), sizeof(pid));
	sweep_remember(&others);
	assert_int_equal(others.count, 2);
	int ours = fork();

	if (ours == 0)
		wait_for_the_end(ends[1]);
	assert_int_equal(read(ends[0], &pid, sizeof(pid)), sizeof(pid));
	assert_int_equal(sweep_descendants(NULL, 0, &others).found, 1);
	expect_gone(&ours, 1);
	assert_int_equal(sweep_descendants(NULL, 0, &others).found, 0);
	assert_int_equal(waitpid(other, NULL, WNOHANG), 0); /* alive */
	others.list[0].start++; /* control: another process of that number */
	assert_true(sweep_descendants(NULL, 0, &others).found > 0);
	free(others.list);
	while (sweep_descendants(NULL, 0, NULL).found > 0)
		reap_all();
	reap_all();
	close(ends[0]);
	close(ends[1]);
}

/* Zombies are gone: they are not found, whoever has to reap them. */
static void zombies_do_not_count(void **state)
{
	int pid = fork();
	siginfo_t info;

	(void)state;
	if (pid == 0)
		_exit(0);
	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	assert_int_equal(sweep_descendants(NULL, 0, NULL).found, 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* More children than one read of the kernel's list gives. */
static void a_thousand_children(void **state)
{
	enum { CHILDREN = 1000 };
	int count = 0;
	unsigned found = 0;

	(void)state;
	for (; count < CHILDREN; count++) {
		int pid = fork();

		if (pid < 0)
			break; /* a limit on processes: as many as there may be */
		if (pid == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			for (;;)
				pause();
		}
	}
	assert_true(count > 100);
	found = sweep_descendants(NULL, 0, NULL).found;
	assert_int_equal(found, count);
	while (waitpid(-1, NULL, 0) > 0)
		;
}

/*
 * Who forks and ends at once, again and again, is never there any more when it is looked at twice.  After some
 * looks it is met all the same, and no look before that says that nobody is there.
 */
static void hopper(bool new_sessions)
{
	int ends[2], pid;
	uint64_t limit = clock_monotonic_ns() + DEADLINE_NS;
	unsigned rounds = 0;
	char byte;

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		setpgid(0, 0);
		while (write(ends[1], "", 1) == 1) {
			if (fork() != 0)
				_exit(0);
			if (new_sessions)
				setsid();
		}
		_exit(1);
	}
	close(ends[1]);
	for (unsigned i = 0; i < 50; i++)
		assert_int_equal(read(ends[0], &byte, 1), 1);
	fcntl(ends[0], F_SETFL, O_NONBLOCK);
	/* At its end nobody holds the pipe; until then it is emptied, so that nobody waits in it to be met. */
	for (bool over = false; !over; rounds++) {
		char bytes[4096];
		ssize_t got;

		struct sweep_result result = sweep_descendants(NULL, 0, NULL);
		reap_all();
		while ((got = read(ends[0], bytes, sizeof(bytes))) > 0)
			;
		over = got == 0;
		/* Not gone, and nothing was met: somebody would start the next attempt beside it. */
		if (!over && result.found + result.ended == 0)
			fail_msg("missed in round %u", rounds);
		assert_true(clock_monotonic_ns() < limit);
	}
	reap_all();
	assert_int_equal(sweep_descendants(NULL, 0, NULL).found, 0);
	close(ends[0]);
}

static void who_forks_quickly(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 10; i++)
		hopper(false);
}

static void who_forks_quickly_into_sessions(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 3; i++)
		hopper(true);
}

/* A process of a run, whose parent is not ours: the middle one gives it to process 1 or another reaper. */
static int stranger(const char *run_id_hex, int fd)
{
	char entry[128];
	char *environment[] = {entry, NULL};
	int pid, ends[2];

	snprintf(entry, sizeof(entry), "%s=%s", CHANNEL_ENV_RUN, run_id_hex);
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	int middle = fork();

	if (middle == 0) {
		pid = fork();
		if (pid == 0) {
			dup2(fd, 1);
			execle("/bin/sh", "sh", "-c", "echo; exec sleep 60", (char *)NULL, environment);
			_exit(1);
		}
		_exit(write(ends[1], &pid, sizeof(pid)) != sizeof(pid));
	}
	assert_int_equal(read(ends[0], &pid, sizeof(pid)), sizeof(pid));
	assert_int_equal(waitpid(middle, NULL, 0), middle);
	close(ends[0]);
	close(ends[1]);
	return pid;
}

static void found_by_its_environment(void **state)
{
	char run[64], other_run[64], byte;
	int ends[2];

	(void)state;
	snprintf(run, sizeof(run), "00112233445566778899aa01%08x", (unsigned)getpid());
	snprintf(other_run, sizeof(other_run), "00112233445566778899aa02%08x", (unsigned)getpid());
	/* Orphans are not to come back to us here. */
	prctl(PR_SET_CHILD_SUBREAPER, 0);
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	int ours = stranger(run, ends[1]), others = stranger(other_run, ends[1]);

	for (unsigned i = 0; i < 2; i++) /* both became the shell, with its environment */
		assert_int_equal(read(ends[0], &byte, 1), 1);
	/* A descendant of ours with that environment is the other sweep's business. */
	int child = fork();

	if (child == 0) {
		char entry[128];
		char *environment[] = {entry, NULL};

		snprintf(entry, sizeof(entry), "%s=%s", CHANNEL_ENV_RUN, run);
		dup2(ends[1], 1);
		execle("/bin/sh", "sh", "-c", "echo; exec sleep 60", (char *)NULL, environment);
		_exit(1);
	}
	assert_int_equal(read(ends[0], &byte, 1), 1);
	close(ends[1]);
	assert_int_equal(
	    sweep_descendants(&child, 1, NULL).found, 0); /* control: they are not descendants */
	struct sweep_result result = sweep_environment(run);

	assert_int_equal(result.found, 1);
	assert_int_equal(result.stuck_pid, ours);
	assert_int_equal(waitpid(child, NULL, WNOHANG), 0);
	assert_int_equal(kill(others, 0), 0);
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, NULL, 0), child);
	kill(others, SIGKILL);
	assert_int_equal(read(ends[0], &byte, 1), 0); /* the end of all that held the pipe */
	close(ends[0]);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
}

static void cpu_of_a_tree(void **state)
{
	int ends[2], pid = 0;
	char letter;

	(void)state;
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	int top = fork();

	if (top == 0) {
		if (fork() == 0) {
			uint64_t end = 0;
			struct timespec t;

			do { /* 300 ms of its own */
				clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
				end = (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
			} while (end < 300000000ull);
			wait_for_the_end(ends[1]);
		}
		for (;;)
			pause();
	}
	assert_int_equal(read(ends[0], &pid, sizeof(pid)), sizeof(pid));
	uint64_t tree = sweep_cpu_ns(top, &letter);

	assert_int_equal(letter, 'S');
	if (tree < 250000000ull || tree > 2000000000ull)
		fail_msg("%llu ms of the tree", (unsigned long long)tree / 1000000);
	assert_true(sweep_cpu_ns(pid, &letter) >= 250000000ull);
	kill(top, SIGSTOP);
	assert_int_equal(waitpid(top, NULL, WUNTRACED), top);
	(void)sweep_cpu_ns(top, &letter);
	assert_int_equal(letter, 'T');
	kill(pid, SIGKILL);
	kill(top, SIGKILL);
	assert_int_equal(waitpid(top, NULL, 0), top);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(sweep_cpu_ns(top, &letter), 0);
	assert_int_equal(letter, '?');
	close(ends[0]);
	close(ends[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(every_descendant),
	    cmocka_unit_test(spared),
	    cmocka_unit_test(others_are_left_alone),
	    cmocka_unit_test(zombies_do_not_count),
	    cmocka_unit_test(a_thousand_children),
	    cmocka_unit_test(found_by_its_environment),
	    cmocka_unit_test(who_forks_quickly),
	    cmocka_unit_test(who_forks_quickly_into_sessions),
	    cmocka_unit_test(cpu_of_a_tree),
	};

	prctl(PR_SET_CHILD_SUBREAPER, 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
