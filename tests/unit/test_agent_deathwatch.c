/*
 * The death watch: who dies is told with the status that waitpid gives, and before waitpid gives it; who leaves
 * in good order is not told; and no word that a trainer writes keeps the threads busy or blinds them (H10).
 */
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "supervisor/agent/deathwatch.h"
#include "supervisor/clock.h"
#include "tests/unit/samples.h"

#define DEADLINE_MS 20000
#define QUIET_MS 150
#define ENDS 12000u

static struct cause why;

/* --- trainers ------------------------------------------------------------------------------------------- */

enum ending {
	STAY,
	END_EXIT_3,
	END_EXIT_0,
	END_LEAVE,
	END_SEGV,
	END_ABORT,
	END_ALARM,
	END_MAIN_THREAD
};

/* The channel of one child, shared with it; pages that nobody touches take no memory. */
static struct channel *map_new(void)
{
	struct channel *map = mmap(NULL, sizeof(*map), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	pthread_mutexattr_t attributes;

	assert_true(map != MAP_FAILED);
	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(&map->control.lock, &attributes);
	return map;
}

static void *idle(void *argument)
{
	for (;;)
		pause();
	return argument;
}

static void end_as(struct channel *map, enum ending ending)
{
	static const struct rlimit no_core = {0, 0};
	pthread_t thread;

	setrlimit(RLIMIT_CORE, &no_core);
	switch (ending) {
	case STAY:
		break;
	case END_EXIT_3:
		_exit(3);
	case END_EXIT_0:
		_exit(0);
	case END_LEAVE:
		atomic_store(&map->control.leaving, 1);
		_exit(0);
	case END_SEGV:
		signal(SIGSEGV, SIG_DFL);
		raise(SIGSEGV);
		break;
	case END_ABORT:
		signal(SIGABRT, SIG_DFL);
		raise(SIGABRT);
		break;
	case END_ALARM:
		atomic_store(&map->control.alarm, CHANNEL_ALARM_CRASH);
		syscall(SYS_futex, &map->control.alarm, FUTEX_WAKE, 1, NULL, NULL, 0);
		break;
	case END_MAIN_THREAD:
		pthread_create(&thread, NULL, idle, NULL);
		pthread_exit(NULL);
	}
	for (;;)
		pause();
}

/* A child that holds its lock, has resident_bytes of memory, and ends as told once *go is 1. */
static int child_new(struct channel *map, enum ending ending, size_t resident_bytes)
{
	int parent = getpid(), pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		if (resident_bytes > 0) {
			char *memory = mmap(NULL, resident_bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

			if (memory == MAP_FAILED)
				_exit(1);
		}
		pthread_mutex_lock(&map->control.lock);
		atomic_store(&map->control.connected, (uint32_t)getpid());
		while (ending != STAY && atomic_load(&map->control.stop_asked) == 0)
			syscall(SYS_futex, &map->control.stop_asked, FUTEX_WAIT, 0, NULL, NULL, 0);
		end_as(map, ending);
	}
	for (unsigned i = 0; atomic_load(&map->control.connected) == 0; i++) {
		struct timespec pause_ns = {.tv_nsec = 200000};

		assert_true(i < DEADLINE_MS * 5);
		nanosleep(&pause_ns, NULL);
	}
	return pid;
}

static void go(struct channel *map)
{
	atomic_store(&map->control.stop_asked, 1);
	syscall(SYS_futex, &map->control.stop_asked, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static int reap(int pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void map_free(struct channel *map)
{
	munmap(map, sizeof(*map));
}

/* --- news ----------------------------------------------------------------------------------------------- */

static bool next_news(int fd, struct death_news *news, int timeout_ms)
{
	struct pollfd one = {.fd = fd, .events = POLLIN};

	if (poll(&one, 1, timeout_ms) != 1)
		return false;
	assert_int_equal(read(fd, news, sizeof(*news)), sizeof(*news));
	return true;
}

static void expect_quiet(int fd)
{
	struct death_news news;

	if (next_news(fd, &news, QUIET_MS))
		fail_msg("news of kind %u of rank %u", news.kind, news.rank);
}

static void each_ending(void **state)
{
	static const struct {
		enum ending ending;
		uint32_t kind; /* 0: no news */
		bool known;
	} cases[] = {{END_EXIT_3, NEWS_DEATH, true}, {END_SEGV, NEWS_DEATH, true},
	    {END_ABORT, NEWS_DEATH, true}, {END_EXIT_0, NEWS_DEATH, false}, {END_LEAVE, 0, false},
	    {END_ALARM, NEWS_CRASHING, false}, {END_MAIN_THREAD, NEWS_DEATH, false}};
	struct deathwatch *w;
	int fd;

	(void)state;
	assert_int_equal(deathwatch_new(4, &w, &fd, &why), STATUS_OK);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct channel *map = map_new();
		int pid = child_new(map, cases[i].ending, 0);
		struct death_news news = {0};

		deathwatch_add(w, map, 2, 7, pid);
		expect_quiet(fd);
		uint64_t before = clock_monotonic_ns();

		go(map);
		if (cases[i].kind == 0) {
			int status = reap(pid);

			assert_int_equal(status, 0);
			expect_quiet(fd);
		} else {
			assert_true(next_news(fd, &news, DEADLINE_MS));
			assert_int_equal(news.kind, cases[i].kind);
			assert_int_equal(news.rank, 2);
			assert_int_equal(news.attempt, 7);
			assert_int_equal(news.status_known, cases[i].known);
			assert_true(news.monotonic_ns >= before &&
			    news.monotonic_ns <= clock_monotonic_ns());
			if (cases[i].ending == END_ALARM || cases[i].ending == END_MAIN_THREAD) {
				assert_int_equal(kill(pid, SIGKILL), 0); /* it is alive */
				int status = reap(pid);

				assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
				if (cases[i].ending == END_ALARM)
					assert_true(next_news(fd, &news, DEADLINE_MS));
			} else {
				int status = reap(pid);

				if (cases[i].known)
					assert_int_equal(news.wait_status, status);
			}
		}
		expect_quiet(fd); /* once */
		deathwatch_forget(w, 2);
		map_free(map);
	}
	deathwatch_free(w);
}

struct waiter {
	int pid;
	uint64_t reaped_ns;
};

/* What waitpid alone would have given. */
static void *wait_beside(void *argument)
{
	struct waiter *waiter = argument;
	siginfo_t info;

	waitid(P_PID, (id_t)waiter->pid, &info, WEXITED | WNOWAIT);
	waiter->reaped_ns = clock_monotonic_ns();
	return NULL;
}

static void sooner_than_waitpid(void **state)
{
	struct deathwatch *w;
	unsigned sooner = 0, tries = 5;
	int fd;

	(void)state;
	assert_int_equal(deathwatch_new(1, &w, &fd, &why), STATUS_OK);
	for (unsigned i = 0; i < tries; i++) {
		struct channel *map = map_new();
		struct waiter waiter = {.pid = child_new(map, STAY, 200u << 20)};
		struct death_news news;
		pthread_t thread;

		deathwatch_add(w, map, 0, 1, waiter.pid);
		assert_int_equal(pthread_create(&thread, NULL, wait_beside, &waiter), 0);
		uint64_t before = clock_monotonic_ns();

		assert_int_equal(kill(waiter.pid, SIGKILL), 0);
		assert_true(next_news(fd, &news, DEADLINE_MS));
		pthread_join(thread, NULL);
		assert_int_equal(news.wait_status, SIGKILL);
		assert_int_equal(news.status_known, 1);
		assert_int_equal(reap(waiter.pid), SIGKILL);
		print_message("kill to news %llu us, to waitpid %llu us\n",
		    (unsigned long long)(news.monotonic_ns - before) / 1000,
		    (unsigned long long)(waiter.reaped_ns - before) / 1000);
		sooner += news.monotonic_ns < waiter.reaped_ns;
		deathwatch_forget(w, 0);
		map_free(map);
	}
	assert_true(sooner + 1 >= tries);
	deathwatch_free(w);
}

static void dead_before_it_is_watched(void **state)
{
	struct deathwatch *w;
	struct channel *map = map_new();
	struct death_news news;
	int fd, pid = child_new(map, STAY, 0);

	(void)state;
	assert_int_equal(deathwatch_new(1, &w, &fd, &why), STATUS_OK);
	kill(pid, SIGKILL);
	siginfo_t info;

	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	deathwatch_add(w, map, 0, 1, pid);
	assert_true(next_news(fd, &news, DEADLINE_MS));
	assert_int_equal(news.wait_status, SIGKILL);
	assert_int_equal(reap(pid), SIGKILL);
	deathwatch_forget(w, 0);
	deathwatch_free(w);
	map_free(map);
}

/* --- scribblers ------------------------------------------------------------------------------------------ */

static uint64_t cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static _Atomic uint32_t *lock_word(struct channel *map)
{
	return (_Atomic uint32_t *)(void *)&map->control.lock;
}

static void garbage_words(void **state)
{
	static const uint32_t locks[] = {
	    0, 1, 0xffffffffu, 0x3fffffffu, 0x80000000u, 0x80000001u, 4711};
	static const uint32_t alarms[] = {0, 2, 0xffffffffu};
	struct deathwatch *w;
	int fd;

	(void)state;
	for (size_t i = 0; i < sizeof(locks) / sizeof(locks[0]); i++)
		for (size_t j = 0; j < sizeof(alarms) / sizeof(alarms[0]); j++) {
			struct channel *map = map_new();
			struct death_news news;

			assert_int_equal(deathwatch_new(2, &w, &fd, &why), STATUS_OK);
			atomic_store(lock_word(map), locks[i]);
			atomic_store(&map->control.alarm, alarms[j]);
			uint64_t before = cpu_ns();

			deathwatch_add(w, map, 1, 1, getpid());
			if (next_news(fd, &news, 30)) { /* its word says that its owner died */
				assert_true((locks[i] & FUTEX_OWNER_DIED) != 0);
				assert_int_equal(news.status_known, 0); /* it did not */
			}
			if (cpu_ns() - before > 10000000)
				fail_msg("lock %x, alarm %x: %llu us of CPU time", locks[i],
				    alarms[j], (unsigned long long)(cpu_ns() - before) / 1000);
			deathwatch_forget(w, 1);
			deathwatch_free(w);
			map_free(map);
		}
}

/* A child that changes and wakes its words without end; it counts its rounds in control.head. */
static int scribbler_new(struct channel *map)
{
	int parent = getpid(), pid = fork();

	assert_true(pid >= 0);
	if (pid != 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	pthread_mutex_lock(&map->control.lock);
	for (;;) {
		uint64_t round = atomic_fetch_add(&map->control.head, 1);

		if (round % 2 == 0)
			atomic_fetch_and(lock_word(map), FUTEX_TID_MASK);
		else
			atomic_fetch_or(lock_word(map), FUTEX_WAITERS);
		syscall(SYS_futex, lock_word(map), FUTEX_WAKE, 1, NULL, NULL, 0);
		syscall(SYS_futex, &map->control.alarm, FUTEX_WAKE, 1, NULL, NULL, 0);
	}
}

static void wait_rounds(struct channel *map, uint64_t rounds)
{
	uint64_t end = atomic_load(&map->control.head) + rounds;

	for (unsigned i = 0; atomic_load(&map->control.head) < end; i++) {
		struct timespec pause_ns = {.tv_nsec = 1000000};

		assert_true(i < DEADLINE_MS);
		nanosleep(&pause_ns, NULL);
	}
}

/* It costs the watch next to nothing, and its neighbour is watched as before. */
static void a_scribbling_neighbour(void **state)
{
	struct deathwatch *w;
	struct channel *bad = map_new(), *good = map_new();
	struct death_news news;
	int fd, innocent = child_new(good, STAY, 0), guilty = scribbler_new(bad);

	(void)state;
	assert_int_equal(deathwatch_new(2, &w, &fd, &why), STATUS_OK);
	wait_rounds(bad, 10);
	deathwatch_add(w, good, 0, 1, innocent);
	deathwatch_add(w, bad, 1, 1, guilty);
	wait_rounds(bad, 400000);
	uint64_t before = cpu_ns();

	wait_rounds(bad, 100000);
	assert_true(cpu_ns() - before < 50000000);
	assert_int_equal(kill(innocent, SIGKILL), 0);
	assert_true(next_news(fd, &news, DEADLINE_MS));
	assert_int_equal(news.rank, 0);
	assert_int_equal(news.wait_status, SIGKILL);
	kill(guilty, SIGKILL);
	reap(innocent);
	reap(guilty);
	deathwatch_forget(w, 0);
	deathwatch_forget(w, 1);
	deathwatch_free(w);
	map_free(good);
	map_free(bad);
}

/* Once forgotten, a channel may be unmapped at once, however busy the thread is. */
static void forgotten_is_untouched(void **state)
{
	struct deathwatch *w;
	struct channel *busy = map_new(), *live = map_new();
	int fd, guilty = scribbler_new(busy), innocent = child_new(live, STAY, 0);

	(void)state;
	assert_int_equal(deathwatch_new(3, &w, &fd, &why), STATUS_OK);
	wait_rounds(busy, 10);
	uint32_t tid = atomic_load(lock_word(live)) & FUTEX_TID_MASK;

	for (unsigned i = 0; i < 3000; i++) {
		struct channel *map = map_new();

		if (i % 100 == 0)
			deathwatch_add(w, busy, 0, 1, guilty);
		atomic_store(lock_word(map), tid);
		deathwatch_add(w, map, 1, 1, innocent);
		if (i % 3 == 0)
			sched_yield();
		deathwatch_forget(w, 1);
		map_free(map);
		if (i % 100 == 99)
			deathwatch_forget(w, 0);
	}
	struct death_news news;

	assert_false(next_news(fd, &news, 0));
	kill(guilty, SIGKILL);
	kill(innocent, SIGKILL);
	reap(guilty);
	reap(innocent);
	deathwatch_free(w);
	map_free(busy);
	map_free(live);
}

/* More ranks than one call can wait for: two threads. */
static void a_hundred_ranks(void **state)
{
	enum { RANKS = 100 };
	struct deathwatch *w;
	struct channel *maps[RANKS];
	int pids[RANKS], fd;
	bool told[RANKS] = {false};
	uint64_t seed = sample_seed(100);

	(void)state;
	assert_int_equal(deathwatch_new(RANKS, &w, &fd, &why), STATUS_OK);
	for (uint32_t i = 0; i < RANKS; i++) {
		maps[i] = map_new();
		pids[i] = child_new(maps[i], STAY, 0);
		deathwatch_add(w, maps[i], i, 1, pids[i]);
	}
	for (uint32_t i = 0; i < RANKS; i++) {
		uint32_t at = (uint32_t)(sample_random(&seed) % RANKS);

		while (pids[at] == 0)
			at = (at + 1) % RANKS;
		kill(pids[at], at % 2 == 0 ? SIGKILL : SIGTERM);
		if (i % 5 == 0) { /* the others all at once */
			struct death_news news;

			for (uint32_t j = 0; j < i + 1; j++)
				if (next_news(fd, &news, 0))
					told[news.rank] = true;
		}
		reap(pids[at]);
		pids[at] = 0;
	}
	for (struct death_news news; next_news(fd, &news, QUIET_MS);) {
		assert_false(told[news.rank]);
		told[news.rank] = true;
		if (news.status_known)
			assert_int_equal(news.wait_status, news.rank % 2 == 0 ? SIGKILL : SIGTERM);
	}
	for (uint32_t i = 0; i < RANKS; i++) {
		if (!told[i])
			fail_msg("rank %u died untold", i);
		deathwatch_forget(w, i);
		map_free(maps[i]);
	}
	deathwatch_free(w);
}

/* A watch that ends in the very moment in which its thread begins to wait ends all the same. */
static void ends_at_any_moment(void **state)
{
	(void)state;
	alarm(DEADLINE_MS / 1000);
	for (unsigned i = 0; i < ENDS; i++) {
		struct deathwatch *w;
		int fd;

		assert_int_equal(deathwatch_new(1, &w, &fd, &why), STATUS_OK);
		for (unsigned delay = 0; delay < i % 64; delay++)
			(void)clock_monotonic_ns();
		deathwatch_forget(w, 0);
		deathwatch_free(w);
	}
	alarm(0);
}

/* A child that was neither reaped nor ever watched: what can be seen of its end. */
static void a_look_at_a_child(void **state)
{
	int status = -1, ends[2];
	siginfo_t seen;

	(void)state;
	assert_int_equal(pipe(ends), 0);
	int pid = fork();

	if (pid == 0) {
		char byte;

		close(ends[1]);
		_exit(read(ends[0], &byte, 1) == 1 ? byte : 0);
	}
	assert_false(deathwatch_status(pid, &status));
	/* The field has a value while it is stopped, and that is no end. */
	kill(pid, SIGSTOP);
	assert_int_equal(waitid(P_PID, (id_t)pid, &seen, WSTOPPED | WNOWAIT), 0);
	assert_false(deathwatch_status(pid, &status));
	kill(pid, SIGCONT);
	assert_int_equal(write(ends[1], "\3", 1), 1);
	assert_int_equal(waitid(P_PID, (id_t)pid, &seen, WEXITED | WNOWAIT), 0);
	assert_true(deathwatch_status(pid, &status));
	assert_int_equal(status, 3 << 8);
	assert_int_equal(reap(pid), 3 << 8);
	assert_false(deathwatch_status(pid, &status));
	close(ends[0]);
	close(ends[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(each_ending),
	    cmocka_unit_test(sooner_than_waitpid),
	    cmocka_unit_test(dead_before_it_is_watched),
	    cmocka_unit_test(garbage_words),
	    cmocka_unit_test(a_scribbling_neighbour),
	    cmocka_unit_test(forgotten_is_untouched),
	    cmocka_unit_test(a_hundred_ranks),
	    cmocka_unit_test(ends_at_any_moment),
	    cmocka_unit_test(a_look_at_a_child),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
