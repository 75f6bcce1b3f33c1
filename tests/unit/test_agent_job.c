/*
 * Helpers with deadlines: however one ends, or does not, its question is answered once, in time.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <event2/event.h>

#include <cmocka.h>

#include "supervisor/agent/job.h"
#include "supervisor/clock.h"

#define MS 1000000ull
#define LONG_NS (20000 * MS)

struct desk {
	struct event_base *base;
	struct event *on_child;
	struct job *jobs;
	unsigned wanted;
};

struct answer {
	struct desk *desk;
	unsigned count;
	struct job_end end;
	char output[128];
};

static struct spawn_signals at_start;

static void on_child(evutil_socket_t number, short what, void *argument)
{
	struct desk *desk = argument;
	int pid, status;

	(void)number;
	(void)what;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		(void)job_reaped(desk->jobs, pid, status);
}

static void on_done(void *context, const struct job_end *end)
{
	struct answer *answer = context;

	answer->count++;
	answer->end = *end;
	assert_int_equal(end->output[end->output_bytes], '\0');
	strncpy(answer->output, end->output, sizeof(answer->output) - 1);
	if (--answer->desk->wanted == 0)
		event_base_loopbreak(answer->desk->base);
}

static void desk_open(struct desk *desk)
{
	memset(desk, 0, sizeof(*desk));
	desk->base = event_base_new();
	desk->on_child = evsignal_new(desk->base, SIGCHLD, on_child, desk);
	event_add(desk->on_child, NULL);
}

static void desk_close(struct desk *desk)
{
	job_cancel_all(&desk->jobs);
	assert_null(desk->jobs);
	event_free(desk->on_child);
	event_base_free(desk->base);
	while (waitpid(-1, NULL, 0) > 0) /* whom the deadline or the cancelling killed */
		;
}

static void ask(struct desk *desk, struct answer *answer, const char *const command[],
    uint64_t deadline_ns, size_t output_max_bytes)
{
	struct job_request request = {.command = command,
	    .signals = &at_start,
	    .deadline_ns = deadline_ns,
	    .output_max_bytes = output_max_bytes,
	    .done = on_done,
	    .context = answer};

	memset(answer, 0, sizeof(*answer));
	answer->desk = desk;
	desk->wanted++;
	assert_true(job_start(desk->base, &request, &desk->jobs));
	assert_int_equal(answer->count, 0); /* never from job_start() itself */
}

static void work(struct desk *desk)
{
	struct timeval limit = {.tv_sec = 30};

	event_base_loopexit(desk->base, &limit);
	event_base_dispatch(desk->base);
	assert_int_equal(desk->wanted, 0);
}

#define SHELL(text) ((const char *const[]){"sh", "-c", text, NULL})

static void answers(void **state)
{
	struct desk desk;
	struct answer good, bad, killed, silent;

	(void)state;
	desk_open(&desk);
	ask(&desk, &good, SHELL("echo one; echo two"), LONG_NS, 64);
	ask(&desk, &bad, SHELL("echo x; exit 3"), LONG_NS, 64);
	ask(&desk, &killed, SHELL("kill -9 $$"), LONG_NS, 64);
	ask(&desk, &silent, SHELL("exec >&-; exit 0"), LONG_NS, 0);
	work(&desk);
	assert_string_equal(good.output, "one\ntwo\n");
	assert_int_equal(good.end.wait_status, 0);
	assert_int_equal(WEXITSTATUS(bad.end.wait_status), 3);
	assert_string_equal(bad.output, "x\n");
	assert_int_equal(WTERMSIG(killed.end.wait_status), SIGKILL);
	assert_int_equal(silent.end.output_bytes, 0);
	assert_false(good.end.late || bad.end.late || killed.end.late || silent.end.late);
	assert_null(desk.jobs);
	assert_int_equal(good.count + bad.count + killed.count + silent.count, 4);
	desk_close(&desk);
}

static void output_limit(void **state)
{
	static const char *const ten[] = {"printf", "0123456789", NULL};
	struct desk desk;
	struct answer whole, cut, none, much;

	(void)state;
	desk_open(&desk);
	ask(&desk, &whole, ten, LONG_NS, 10);
	ask(&desk, &cut, ten, LONG_NS, 9);
	ask(&desk, &none, ten, LONG_NS, 0);
	/* More than a pipe holds: it must be read away, or the helper would never end. */
	ask(&desk, &much, SHELL("head -c 1000000 /dev/zero | tr '\\0' x"), LONG_NS, 100);
	work(&desk);
	assert_string_equal(whole.output, "0123456789");
	assert_string_equal(cut.output, "012345678");
	assert_int_equal(none.end.output_bytes, 0);
	assert_int_equal(much.end.output_bytes, 100);
	assert_int_equal(much.end.wait_status, 0);
	desk_close(&desk);
}

static void deadlines(void **state)
{
	struct desk desk;
	struct answer asleep, holder;
	uint64_t before = clock_monotonic_ns();

	(void)state;
	desk_open(&desk);
	ask(&desk, &asleep, SHELL("echo half; exec sleep 1000"), 200 * MS, 64);
	/* It ends, but somebody it left behind holds its output open. */
	ask(&desk, &holder, SHELL("sleep 2 & exit 0"), 200 * MS, 64);
	work(&desk);
	/* libevent counts from the time at which its loop last looked at the clock, a little before. */
	assert_true(clock_monotonic_ns() - before >= 150 * MS);
	assert_true(asleep.end.late && holder.end.late);
	assert_string_equal(asleep.output, "half\n");
	assert_int_equal(asleep.count, 1);
	assert_int_equal(holder.count, 1);
	desk_close(&desk); /* waits for the killed one: it was killed, or this never ends */
}

static void cannot_be_started(void **state)
{
	static const char *const command[] = {"/nonexistent/helper", NULL};
	struct desk desk;
	struct answer answer;

	(void)state;
	desk_open(&desk);
	ask(&desk, &answer, command, LONG_NS, 64);
	work(&desk);
	assert_int_equal(answer.count, 1);
	assert_int_equal(answer.end.wait_status, -1);
	assert_int_equal(answer.end.output_bytes, 0);
	assert_false(answer.end.late); /* it is no matter of time */
	desk_close(&desk);
}

static void cancelled(void **state)
{
	struct desk desk;
	struct answer answers[5];
	int pids[8];

	(void)state;
	desk_open(&desk);
	for (unsigned i = 0; i < 5; i++)
		ask(&desk, &answers[i], SHELL("exec sleep 1000"), LONG_NS, 64);
	assert_int_equal(job_pids(desk.jobs, pids, 3), 3);
	assert_int_equal(job_pids(desk.jobs, pids, 8), 5);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(kill(pids[i], 0), 0);
	assert_false(job_reaped(desk.jobs, getpid(), 0)); /* a stranger */
	job_cancel_all(&desk.jobs);
	for (unsigned i = 0; i < 5; i++) {
		int status;

		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_int_equal(WTERMSIG(status), SIGKILL);
		assert_int_equal(answers[i].count, 0);
	}
	desk_close(&desk);
}

/* Many at once, ending in every way: one answer each. */
static void many(void **state)
{
	enum { JOBS = 40 };
	static struct answer all[JOBS];
	struct desk desk;

	(void)state;
	desk_open(&desk);
	for (unsigned i = 0; i < JOBS; i++)
		ask(&desk, &all[i],
		    i % 4 == 0       ? SHELL("echo a")
			: i % 4 == 1 ? SHELL("exec sleep 1000")
			: i % 4 == 2 ? SHELL("exit 9")
				     : (const char *const[]){"/nonexistent", NULL},
		    i % 4 == 1 ? (50 + i) * MS : LONG_NS, 16);
	work(&desk);
	for (unsigned i = 0; i < JOBS; i++) {
		assert_int_equal(all[i].count, 1);
		assert_int_equal(all[i].end.late, i % 4 == 1);
	}
	assert_null(desk.jobs);
	desk_close(&desk);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(answers),
	    cmocka_unit_test(output_limit),
	    cmocka_unit_test(deadlines),
	    cmocka_unit_test(cannot_be_started),
	    cmocka_unit_test(cancelled),
	    cmocka_unit_test(many),
	};

	spawn_signals_save(&at_start);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
