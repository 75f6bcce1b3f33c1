/*
 * Ranks that share their gradients: the same bits whatever the timing, and never a wait without an end.
 *
 * Each rank is a process of its own, as in a training.  It writes what it found into a pipe.  The files lie in a
 * directory made for the test; an alarm ends a rank that would hang.
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "trainer/reference/random.h"
#include "trainer/reference/worker.h"

#define SEED 5u
#define STEPS 15u
#define RANKS_MAX_HERE 3u
#define HANG_S 20u

static char directory[] = "/tmp/holdfast-group-XXXXXX";
static char path[64];

/* What a rank says at its end. */
struct outcome {
	uint32_t status; /* enum status of what ended it */
	uint32_t lost;   /* cause.number */
	uint64_t step, digest;
	double losses[STEPS];
	uint64_t waited_ms; /* in the call that failed */
};

/* What a rank is to do. */
struct order {
	uint32_t rank, world;
	uint32_t timeout_ms;
	uint32_t leave_at; /* iterations after which it ends without a word; 0: never */
	uint32_t stop_at;  /* iterations after which it stops itself (SIGSTOP); 0: never */
	uint32_t jitter;   /* key of random delays between iterations; 0: none */
	bool poisoned;     /* writes a NaN into the other's gradient, through the file */
};

static int set_up(void **state)
{
	(void)state;
	printf("seed %u\n", SEED);
	worker_single_thread();
	if (mkdtemp(directory) == NULL)
		return -1;
	snprintf(path, sizeof(path), "%s/group", directory);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	/* Fails when a group's file was left behind. */
	return rmdir(directory);
}

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void rest(uint32_t key, uint64_t step)
{
	struct timespec delay = {.tv_nsec = random_below(random_at(key, step), 3000000)};

	nanosleep(&delay, NULL);
}

static struct recipe small_recipe(const struct order *order)
{
	struct recipe recipe;

	recipe_default(&recipe, ARITHMETIC_TASK);
	recipe.shape.width = 16;
	recipe.shape.layers = 1;
	recipe.shape.heads = 2;
	recipe.batch = 7; /* not a multiple of the ranks */
	recipe.steps = STEPS;
	recipe.seed = SEED;
	recipe.rank = order->rank;
	recipe.world = order->world;
	return recipe;
}

/*
 * Another program's NaN, written as group.h describes it, with nothing but the file: into the last rank's
 * area, once that rank has come to the barrier and its gradient is whole.  This rank is not there yet.
 */
static void poison(const char *file, uint32_t barrier)
{
	const struct timespec pause = {.tv_nsec = 200000};
	struct group_head head;
	float nan = NAN;
	off_t at;
	int fd = open(file, O_RDWR | O_CLOEXEC);

	do {
		nanosleep(&pause, NULL); /* the alarm ends this if it must */
		if (fd < 0 || pread(fd, &head, sizeof(head), 0) != (ssize_t)sizeof(head))
			_exit(3);
	} while (atomic_load(&head.member[head.world - 1].arrived) != barrier);
	at = (off_t)(head.gradient_offset + (head.world - 1) * head.stride_bytes +
	    head.count / 2 * sizeof(float));
	if (pwrite(fd, &nan, sizeof(nan), at) != (ssize_t)sizeof(nan))
		_exit(3);
	close(fd);
}

static enum status iterate(
    struct worker *worker, const struct order *order, struct outcome *out, struct cause *why)
{
	while (worker->training.step < STEPS) {
		struct worker_report report;
		uint64_t begin = now_ms();
		enum status status = worker_step(worker, false, &report, why);

		out->waited_ms = now_ms() - begin;
		if (status != STATUS_OK)
			return status;
		out->losses[report.step - 1] = report.loss;
		if (order->leave_at == report.step)
			_exit(0);
		if (order->stop_at == report.step)
			raise(SIGSTOP);
		if (order->jitter != 0)
			rest(order->jitter, report.step);
		if (order->poisoned && report.step == 3)
			poison(path, worker->group.barriers + 1);
	}
	return group_meet(&worker->group, why);
}

static void be_rank(const struct order *order, int fd)
{
	struct recipe recipe = small_recipe(order);
	struct group_request request = {
	    .path = path, .rank = order->rank, .world = order->world, .timeout_ms = order->timeout_ms};
	struct outcome out = {0};
	struct worker worker;
	struct cause why = {0};
	enum status status;

	alarm(HANG_S);
	if (worker_init(&worker, &recipe) != STATUS_OK)
		_exit(2);
	worker_start(&worker);
	request.count = worker.training.count;
	status = group_join(&worker.group, &request, &why);
	if (status == STATUS_OK) {
		status = iterate(&worker, order, &out, &why);
		group_leave(&worker.group, status == STATUS_OK);
	}
	out.status = status;
	out.lost = (uint32_t)why.number;
	out.step = worker.training.step;
	out.digest = training_digest(&worker.training);
	worker_fini(&worker);
	_exit(write(fd, &out, sizeof(out)) == (ssize_t)sizeof(out) ? 0 : 2);
}

static pid_t start_rank(const struct order *order, int *fd_out)
{
	int ends[2];
	pid_t pid;

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	fflush(stdout);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		close(ends[0]);
		be_rank(order, ends[1]);
	}
	close(ends[1]);
	*fd_out = ends[0];
	return pid;
}

/* Read a rank's outcome and reap it; false when it ended without one. */
static bool end_rank(pid_t pid, int fd, struct outcome *out)
{
	ssize_t size = read(fd, out, sizeof(*out));
	int wait_status;

	close(fd);
	assert_int_equal(waitpid(pid, &wait_status, 0), pid);
	if (WIFSIGNALED(wait_status) && WTERMSIG(wait_status) == SIGALRM)
		fail_msg("a rank hung");
	return size == (ssize_t)sizeof(*out);
}

static void run(const struct order *orders, uint32_t world, struct outcome *outcomes)
{
	pid_t pids[RANKS_MAX_HERE];
	int fds[RANKS_MAX_HERE];

	for (uint32_t rank = 0; rank < world; rank++)
		pids[rank] = start_rank(&orders[rank], &fds[rank]);
	for (uint32_t rank = 0; rank < world; rank++)
		assert_true(end_rank(pids[rank], fds[rank], &outcomes[rank]));
}

static bool file_exists(void)
{
	return access(path, F_OK) == 0;
}

static void test_same_bits(void **state)
{
	(void)state;
	for (uint32_t world = 1; world <= RANKS_MAX_HERE; world++) {
		struct outcome first[RANKS_MAX_HERE], again[RANKS_MAX_HERE];
		struct order orders[RANKS_MAX_HERE] = {0};

		for (uint32_t rank = 0; rank < world; rank++)
			orders[rank] = (struct order){rank, world, 10000, .jitter = 0};
		run(orders, world, first);
		/* Other moments: each rank dawdles at random between its iterations. */
		for (uint32_t rank = 0; rank < world; rank++)
			orders[rank].jitter = SEED + 100 + rank;
		run(orders, world, again);
		for (uint32_t rank = 0; rank < world; rank++) {
			assert_int_equal(first[rank].status, STATUS_OK);
			assert_int_equal(first[rank].step, STEPS);
			assert_memory_equal(
			    first[rank].losses, first[0].losses, sizeof(first[0].losses));
			assert_memory_equal(
			    first[rank].losses, again[rank].losses, sizeof(first[0].losses));
			assert_int_equal(first[rank].digest, first[0].digest);
			assert_int_equal(first[rank].digest, again[rank].digest);
		}
		assert_false(file_exists());
	}
}

/* A rank that ends is noticed at once, long before the timeout. */
static void test_lost(void **state)
{
	struct order orders[2] = {{0, 2, 15000, .leave_at = 0}, {1, 2, 15000, .leave_at = 4}};
	struct outcome outcome;
	int fds[2];
	pid_t pids[2];

	(void)state;
	for (int i = 0; i < 2; i++)
		pids[i] = start_rank(&orders[i], &fds[i]);
	assert_false(end_rank(pids[1], fds[1], &outcome));
	assert_true(end_rank(pids[0], fds[0], &outcome));
	assert_int_equal(outcome.status, STATUS_AGAIN);
	assert_int_equal(outcome.lost, 1);
	assert_int_equal(outcome.step, 4);
	assert_in_range(outcome.waited_ms, 0, 3000);
	assert_false(file_exists());
}

/* A rank that is there but does not come is given up after the timeout, not before. */
static void test_late(void **state)
{
	struct order orders[2] = {{0, 2, 400, .stop_at = 0}, {1, 2, 400, .stop_at = 4}};
	struct outcome outcome;
	int fds[2];
	pid_t pids[2];
	int wait_status;

	(void)state;
	for (int i = 0; i < 2; i++)
		pids[i] = start_rank(&orders[i], &fds[i]);
	assert_true(end_rank(pids[0], fds[0], &outcome));
	assert_int_equal(outcome.status, STATUS_AGAIN);
	assert_int_equal(outcome.lost, 1);
	assert_in_range(outcome.waited_ms, 390, 4000);
	assert_int_equal(waitpid(pids[1], &wait_status, WUNTRACED), pids[1]);
	assert_true(WIFSTOPPED(wait_status));
	/* The other one finds itself alone, and says so too; it is the last, and takes the file away. */
	assert_int_equal(kill(pids[1], SIGCONT), 0);
	assert_true(end_rank(pids[1], fds[1], &outcome));
	assert_int_equal(outcome.status, STATUS_AGAIN);
	assert_int_equal(outcome.lost, 0);
	assert_false(file_exists());
}

/* A rank whose peer never starts does not wait for ever. */
static void test_never_came(void **state)
{
	struct order order = {0, 2, 300, .stop_at = 0};
	struct outcome outcome;
	int fd;
	pid_t pid = start_rank(&order, &fd);

	(void)state;
	assert_true(end_rank(pid, fd, &outcome));
	assert_int_equal(outcome.status, STATUS_AGAIN);
	assert_in_range(outcome.waited_ms, 290, 4000);
	assert_false(file_exists());
}

/* What killed ranks left behind is not joined, and the next run is none the worse for it. */
static void test_stale(void **state)
{
	struct order orders[2] = {{0, 2, 10000, .jitter = 0}, {1, 2, 10000, .jitter = 0}};
	struct order victim = {0, 2, 10000, .leave_at = 0};
	struct outcome clean[2], after[2];
	struct stat before, now;
	int fd;
	pid_t pid;

	(void)state;
	run(orders, 2, clean);
	pid = start_rank(&victim, &fd);
	/* Its file has its full size as soon as it has joined, and it then waits for its peer. */
	for (uint64_t until = now_ms() + 5000; stat(path, &before) != 0 || before.st_size < 8193;)
		if (now_ms() > until)
			fail_msg("no file of the group");
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_false(end_rank(pid, fd, &after[0]));
	assert_int_equal(stat(path, &now), 0);
	run(orders, 2, after);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(after[i].status, STATUS_OK);
		assert_int_equal(after[i].digest, clean[i].digest);
	}
	assert_false(file_exists());
}

/* A file that is no group's is refused, not taken away: the name may be a person's mistake. */
static void test_foreign(void **state)
{
	struct order order = {0, 2, 300, .stop_at = 0};
	struct outcome outcome;
	FILE *file = fopen(path, "w");
	pid_t pid;
	int fd;

	(void)state;
	assert_non_null(file);
	fputs("something of value, and of the length that a head would need", file);
	fclose(file);
	pid = start_rank(&order, &fd);
	assert_true(end_rank(pid, fd, &outcome));
	assert_int_equal(outcome.status, STATUS_BAD);
	assert_true(file_exists());
	assert_int_equal(unlink(path), 0);
}

/* The drill of group.h: a NaN written through the file makes loss or norm not finite on every rank. */
static void test_poison(void **state)
{
	struct order orders[2] = {{0, 2, 15000, .poisoned = true}, {1, 2, 15000, .poisoned = false}};
	struct outcome outcomes[2];

	(void)state;
	run(orders, 2, outcomes);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(outcomes[i].status, STATUS_OK);
		assert_true(isfinite(outcomes[i].losses[3]));
		/* The fourth update was made with it, so the fifth loss is the first that shows it. */
		assert_true(isnan(outcomes[i].losses[4]));
		assert_true(isnan(outcomes[i].losses[STEPS - 1]));
	}
	assert_int_equal(group_layout.gradient_offset, GROUP_GRADIENT_OFFSET);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_same_bits),
	    cmocka_unit_test(test_lost),
	    cmocka_unit_test(test_late),
	    cmocka_unit_test(test_never_came),
	    cmocka_unit_test(test_stale),
	    cmocka_unit_test(test_foreign),
	    cmocka_unit_test(test_poison),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
