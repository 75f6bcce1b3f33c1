/* See trainee.h. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/trainee.h"

#define DEADLINE_MS 20000u

uint64_t trainee_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000u + (uint64_t)ts.tv_nsec / 1000000u;
}

uint64_t trainee_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

uint64_t trainee_seed(uint64_t otherwise)
{
	const char *given = getenv("HOLDFAST_TEST_SEED");
	uint64_t seed = given != NULL ? strtoull(given, NULL, 0) : otherwise;

	printf("seed %llu\n", (unsigned long long)seed);
	return seed;
}

static void map_channel(struct trainee *t)
{
	int fd = open(t->channel_path, O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	t->map = mmap(NULL, CHANNEL_SIZE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(t->map != MAP_FAILED);
	close(fd);
}

void trainee_init(struct trainee *t, uint32_t source, uint64_t step, const char *resume_path)
{
	struct channel_head head = {
	    .rank = 1, .rank_count = 2, .attempt = 3, .resume_source = source, .resume_step = step};

	memset(t, 0, sizeof(*t));
	snprintf(t->directory, sizeof(t->directory), "/dev/shm/holdfast-unit-trainer-XXXXXX");
	assert_non_null(mkdtemp(t->directory));
	snprintf(t->channel_path, sizeof(t->channel_path), "%s/channel", t->directory);
	snprintf(t->snapshot_path, sizeof(t->snapshot_path), "%s/snapshots", t->directory);
	snprintf(t->said_path, sizeof(t->said_path), "%s/said", t->directory);
	snprintf(head.snapshot_path, sizeof(head.snapshot_path), "%s", t->snapshot_path);
	if (resume_path != NULL)
		snprintf(head.resume_path, sizeof(head.resume_path), "%s", resume_path);
	assert_int_equal(channel_create(t->channel_path, &head), 0);
	map_channel(t);
}

void trainee_renew(struct trainee *t)
{
	struct channel_head head = t->map->head;

	munmap(t->map, CHANNEL_SIZE_BYTES);
	assert_int_equal(unlink(t->channel_path), 0);
	(void)unlink(t->said_path);
	assert_int_equal(channel_create(t->channel_path, &head), 0);
	map_channel(t);
}

void trainee_fini(struct trainee *t)
{
	munmap(t->map, CHANNEL_SIZE_BYTES);
	(void)unlink(t->channel_path);
	(void)unlink(t->snapshot_path);
	(void)unlink(t->said_path);
	/* Fails when the library left a file of its own behind. */
	assert_int_equal(rmdir(t->directory), 0);
}

static void become_trainee(const struct trainee *t, pid_t parent)
{
	int fd = open(t->said_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent || fd < 0 || dup2(fd, STDERR_FILENO) < 0)
		_exit(99);
	close(fd);
	/* cmocka's own, which would take a crash for a failed test of the parent's. */
	for (int number = 1; number < 32; number++)
		(void)signal(number, SIG_DFL);
	setenv(CHANNEL_ENV, t->channel_path, 1);
}

pid_t trainee_start(struct trainee *t, int (*program)(struct trainee *t))
{
	pid_t parent = getpid();
	pid_t pid;

	/* What is still to be printed is the parent's to print. */
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid != 0)
		return pid;
	become_trainee(t, parent);
	_exit(program(t));
}

int trainee_wait(pid_t pid)
{
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct pollfd ready = {.fd = pidfd, .events = POLLIN};
	int status = -1;

	assert_true(pidfd >= 0);
	if (poll(&ready, 1, DEADLINE_MS) != 1) {
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
		fail_msg("process %d did not end", (int)pid);
	}
	close(pidfd);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

int trainee_run(struct trainee *t, int (*program)(struct trainee *t))
{
	return trainee_wait(trainee_start(t, program));
}

void trainee_await_word(const _Atomic uint32_t *word, uint32_t not_this)
{
	const struct timespec pause = {.tv_nsec = 200000};
	uint64_t end = trainee_now_ms() + DEADLINE_MS;

	while (atomic_load(word) == not_this) {
		if (trainee_now_ms() > end)
			fail_msg("a word stayed %u", not_this);
		nanosleep(&pause, NULL);
	}
}

size_t trainee_said(const struct trainee *t, char *out, size_t out_bytes)
{
	int fd = open(t->said_path, O_RDONLY | O_CLOEXEC);
	ssize_t length;

	assert_true(fd >= 0);
	length = read(fd, out, out_bytes - 1);
	assert_true(length >= 0);
	close(fd);
	out[length] = '\0';
	return (size_t)length;
}

uint32_t trainee_lock_word(const struct trainee *t)
{
	uint32_t word;

	memcpy(&word, &t->map->control.lock, sizeof(word));
	return word;
}
