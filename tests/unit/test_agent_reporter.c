/*
 * What a rank prints becomes reports in its channel: by one rank, by nobody where a trainer reports itself, on from
 * where a reporter that was killed had come, in a bounded time whatever the pattern is; and what files that grow and
 * datagrams bring to it.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "supervisor/agent/follow.h"
#include "supervisor/agent/notify.h"
#include "supervisor/agent/reporter.h"
#include "supervisor/agent/ring.h"
#include "tests/unit/samples.h"

#define RANKS_HERE 3u
#define MS 1000000ull
#define RUN "0123456789abcdef0123456789abcdef"

struct bench {
	char *dir;
	struct ring rings[RANKS_HERE];
	struct logger_words *words;
	struct reporter_setup setup;
	struct reporter *reporter;
	struct iteration got[CHANNEL_RING];
	uint32_t count;
};

static struct bench b;

static void bench_open(struct regex *pattern, uint32_t ranks)
{
	char path[SHM_PATH_MAX];

	memset(&b, 0, sizeof(b));
	b.dir = sample_directory();
	b.words = calloc(1, sizeof(*b.words) + RANKS_HERE * sizeof(b.words->ranks[0]));
	b.setup = (struct reporter_setup){.shm = {.dir = b.dir, .run_hex = RUN},
	    .words = b.words,
	    .pattern = pattern,
	    .ranks = ranks,
	    .attempt = 4,
	    .after_step = STEP_NONE};
	for (uint32_t rank = 0; rank < RANKS_HERE; rank++) {
		struct channel_head head = {.rank = rank, .rank_count = RANKS_HERE, .attempt = 4};

		shm_channel_path(&b.setup.shm, 4, rank, path);
		assert_int_equal(ring_create(&b.rings[rank], path, &head, NULL), STATUS_OK);
	}
	b.reporter = reporter_new(&b.setup);
	assert_non_null(b.reporter);
}

static void bench_close(void)
{
	reporter_free(b.reporter);
	for (uint32_t rank = 0; rank < RANKS_HERE; rank++)
		ring_fini(&b.rings[rank], true);
	free(b.words);
	sample_remove(b.dir);
}

static void say(uint32_t rank, enum reporter_stream stream, const char *text, uint64_t now_ms)
{
	reporter_bytes(b.reporter, rank, stream, text, strlen(text), now_ms * MS);
}

/* What lies in the rank's ring, from the beginning. */
static void look(uint32_t rank)
{
	char path[RECORD_TEXT_MAX];

	ring_rewind(&b.rings[rank]);
	b.count = ring_read(&b.rings[rank], b.got, CHANNEL_RING, path);
	assert_false(b.rings[rank].damaged);
}

static void expect(uint32_t index, uint32_t kind, uint64_t step_or_phase, uint64_t duration_ms)
{
	const struct iteration *it = &b.got[index];

	assert_true(index < b.count);
	assert_int_equal(it->kind, kind);
	assert_int_equal(kind == ITERATION_STEP ? it->step : it->phase, step_or_phase);
	assert_int_equal(it->duration_ns, duration_ms * MS);
	assert_int_equal(it->ring_seq, index + 1);
}

static void steps_and_phases(void **unused)
{
	(void)unused;
	bench_open(NULL, RANKS_HERE);
	b.words->phase_ns = 0;
	say(1, REPORTER_OUT, "iter 0: loss 4.0, time 9000.00ms\n", 1000);
	look(1);
	assert_int_equal(b.count, 0); /* one line settles nothing */
	say(1, REPORTER_OUT, "iter 10: loss 3.9, time 5.00ms\niter 20: loss 3.8, ", 2000);
	say(1, REPORTER_OUT, "time 5.00ms\n", 2100);
	/* A burst: each of its steps has what lay before it. */
	say(1, REPORTER_OUT, "iter 30: loss 3.7, time 5.00ms\niter 40: loss inf, time 5.00ms\n", 2500);
	say(1, REPORTER_OUT, "step 250: train loss 3.5, val loss 3.6\n", 9500);
	say(1, REPORTER_OUT, "iter 250: loss 3.5, time 5.00ms\n", 9600);
	reporter_end(b.reporter, 1, REPORTER_OUT, 9700 * MS);
	look(1);
	assert_int_equal(b.count, 9);
	assert_int_equal(b.got[0].kind, ITERATION_PHASE);
	expect(1, ITERATION_STEP, 0, 9000); /* printed: nothing is known of before */
	expect(2, ITERATION_STEP, 10, 5);
	expect(3, ITERATION_STEP, 20, 100);
	expect(4, ITERATION_STEP, 30, 400);
	expect(5, ITERATION_STEP, 40, 400);
	/* The evaluation has lasted since the last step, and lasts until the next. */
	expect(6, ITERATION_PHASE, PHASE_EVALUATION, 500);
	expect(7, ITERATION_PHASE, PHASE_STEP, 7100);
	expect(8, ITERATION_STEP, 250, 7100);
	assert_int_equal(b.got[5].fields, FIELD_LOSS);
	assert_int_equal(atomic_load(&b.rings[1].map->control.last_step), 250);
	assert_int_equal(atomic_load(&b.rings[1].map->control.phase), PHASE_STEP);
	assert_int_equal(atomic_load(&b.words->reporter), 2);
	assert_int_equal(atomic_load(&b.words->format), PROGRESS_NANOGPT);
	bench_close();
}

static void the_first_rank_is_the_one(void **unused)
{
	(void)unused;
	bench_open(NULL, RANKS_HERE);
	say(0, REPORTER_OUT, "step=1 loss=1\n", 1);
	say(2, REPORTER_ERR, "step=1 loss=1\nstep=2 loss=1\n", 2);
	say(0, REPORTER_OUT, "step=2 loss=1\nstep=3 loss=1\n", 3);
	look(0);
	assert_int_equal(b.count, 0);
	look(2);
	assert_int_equal(b.count, 3);
	assert_int_equal(atomic_load(&b.rings[0].map->control.producer), CHANNEL_NOBODY);
	bench_close();
}

static void a_trainer_reports_by_itself(void **unused)
{
	(void)unused;
	bench_open(NULL, RANKS_HERE);
	assert_true(channel_claim(b.rings[0].map, CHANNEL_TRAINER));
	say(0, REPORTER_OUT, "step=1 loss=1\nstep=2 loss=1\n", 1);
	say(1, REPORTER_OUT, "step=1 loss=1\nstep=2 loss=1\n", 2); /* nor is another rank of the same run */
	for (uint32_t rank = 0; rank < RANKS_HERE; rank++) {
		look(rank);
		assert_int_equal(b.count, 0);
	}
	assert_int_equal(atomic_load(&b.words->reporter), 0);
	bench_close();
}

static void channels_that_cannot_be_had(void **unused)
{
	char path[SHM_PATH_MAX];

	(void)unused;
	bench_open(NULL, RANKS_HERE);
	shm_channel_path(&b.setup.shm, 4, 0, path);
	assert_int_equal(unlink(path), 0);
	say(0, REPORTER_OUT, "step=1 loss=1\nstep=2 loss=1\nstep=3 loss=1\n", 1);
	reporter_alive(b.reporter, 0, 1);
	/* One that is cut off under us. */
	reporter_free(b.reporter);
	b.reporter = reporter_new(&b.setup);
	say(1, REPORTER_OUT, "step=1 loss=1\nstep=2 loss=1\n", 2);
	look(1);
	assert_int_equal(b.count, 3);
	shm_channel_path(&b.setup.shm, 4, 1, path);
	assert_int_equal(truncate(path, 4096), 0);
	say(1, REPORTER_OUT, "step=3 loss=1\nstep=4 loss=1\n", 3);
	reporter_alive(b.reporter, 1, 4);
	bench_close();
}

/* Killed and followed by another at any place: no step twice, and none missing that came in whole lines. */
static void another_goes_on(void **unused)
{
	uint64_t seed = sample_seed(21);
	char text[64];

	(void)unused;
	bench_open(NULL, RANKS_HERE);
	for (unsigned step = 1; step <= 2000; step++) {
		if (step > 2 && sample_random(&seed) % 8 == 0) {
			reporter_free(b.reporter);
			b.reporter = reporter_new(&b.setup);
		}
		/* It begins again with each epoch: what is added lies in the words. */
		snprintf(text, sizeof(text), "epoch=%u step=%u loss=0.5\n", (step - 1) / 100,
		    (step - 1) % 100 + 1);
		say(0, REPORTER_OUT, text, step);
		say(1, REPORTER_OUT, text, step);
	}
	look(0);
	assert_int_equal(b.count, 2001);
	for (uint32_t i = 1; i < b.count; i++)
		assert_int_equal(b.got[i].step, i);
	look(1);
	assert_int_equal(b.count, 0);
	/* A ring that was scribbled over is left alone. */
	reporter_free(b.reporter);
	b.reporter = reporter_new(&b.setup);
	atomic_store(&b.rings[0].map->control.head, 1u << 20);
	say(0, REPORTER_OUT, "epoch=20 step=1 loss=0.5\nepoch=20 step=2 loss=0.5\n", 3000);
	assert_int_equal(atomic_load(&b.rings[0].map->control.head), 1u << 20);
	bench_close();
}

static void a_pattern_has_its_share_of_the_time(void **unused)
{
	enum { LINES = 20000 };
	static char line[3002];
	struct regex *pattern = NULL;

	(void)unused;
	assert_int_equal(
	    regex_new("^(a+)+$|^step (?<step>\\d+) loss (?<loss>\\S+)", &pattern, NULL), STATUS_OK);
	bench_open(pattern, RANKS_HERE);
	say(0, REPORTER_OUT, "step 1 loss 0.5\n", 1);
	assert_false(reporter_too_slow(b.reporter));
	memset(line, 'a', sizeof(line));
	line[sizeof(line) - 3] = '!';
	line[sizeof(line) - 2] = '\n';
	line[sizeof(line) - 1] = '\0';
	for (unsigned i = 0; i < LINES; i++)
		say(0, REPORTER_OUT, line, 2);
	printf("%llu of %u lines were tried\n", (unsigned long long)b.words->recogniser.limit_count,
	    LINES);
	assert_true(b.words->recogniser.limit_count > 0);
	assert_true(b.words->recogniser.limit_count < LINES / 2);
	assert_true(reporter_too_slow(b.reporter));
	assert_false(reporter_too_slow(b.reporter)); /* said once */
	bench_close();
	regex_free(pattern);
}

static void readiness_and_life(void **unused)
{
	(void)unused;
	bench_open(NULL, RANKS_HERE);
	reporter_ready(b.reporter, 1, 50 * MS); /* of several ranks, one that may never print a step */
	look(1);
	assert_int_equal(b.count, 0);
	reporter_alive(b.reporter, 2, 60 * MS);
	assert_int_equal(atomic_load(&b.rings[2].map->control.heartbeat_ns), 60 * MS);
	bench_close();
	bench_open(NULL, 1);
	reporter_ready(b.reporter, 0, UINT64_MAX / 2);
	reporter_ready(b.reporter, 0, UINT64_MAX / 2 + 1);
	look(0);
	assert_int_equal(b.count, 1);
	assert_int_equal(b.got[0].phase, PHASE_STEP);
	assert_int_equal(atomic_load(&b.words->format), PROGRESS_NONE);
	reporter_text(b.reporter, 0, "step 1 loss 2", 13, UINT64_MAX / 2 + 2);
	reporter_text(b.reporter, 0, "step 2 loss 2", 13, UINT64_MAX / 2 + 3);
	look(0);
	assert_int_equal(b.count, 3);
	assert_int_equal(atomic_load(&b.words->format), PROGRESS_WORDS);
	bench_close();
}

/* --- files that grow -------------------------------------------------------------------------------------- */

static char taken[1u << 17];
static size_t taken_bytes;

static void take(void *context, const char *bytes, size_t length)
{
	(void)context;
	assert_true(taken_bytes + length < sizeof(taken));
	memcpy(taken + taken_bytes, bytes, length);
	taken_bytes += length;
	taken[taken_bytes] = '\0';
}

static void put(const char *path, const char *text, int flags)
{
	int fd = open(path, O_WRONLY | O_CREAT | flags, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static void expect_look(struct follow *f, const char *wanted)
{
	taken_bytes = 0;
	taken[0] = '\0';
	assert_int_equal(follow_look(f, take, NULL), strlen(wanted));
	assert_string_equal(taken, wanted);
}

static void a_file_is_followed(void **unused)
{
	char *dir = sample_directory(), path[512], other[512];
	struct follow f, next;

	(void)unused;
	snprintf(path, sizeof(path), "%s/progress", dir);
	snprintf(other, sizeof(other), "%s/other", dir);
	put(path, "before\n", O_APPEND);
	follow_init(&f, path);
	expect_look(&f, "");
	put(path, "one\n", O_APPEND);
	expect_look(&f, "one\n");
	put(path, "two\nthr", O_APPEND);
	/* Another goes on with what this one had. */
	follow_init(&next, path);
	next.device = f.device;
	next.inode = f.inode;
	next.offset = f.offset;
	follow_fini(&f);
	f = next;
	expect_look(&f, "two\nthr");
	put(path, "cut\n", O_TRUNC);
	expect_look(&f, "cut\n");
	put(other, "replaced, and longer\n", 0);
	assert_int_equal(rename(other, path), 0);
	expect_look(&f, "replaced, and longer\n");
	assert_int_equal(unlink(path), 0);
	expect_look(&f, "");
	/* Neither a pipe, which would be waited for, nor a folder is one. */
	assert_int_equal(mkfifo(path, 0600), 0);
	expect_look(&f, "");
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkdir(path, 0700), 0);
	expect_look(&f, "");
	assert_int_equal(rmdir(path), 0);
	put(path, "back\n", 0);
	expect_look(&f, "back\n");
	follow_fini(&f);
	/* What is not there at first is new when it comes. */
	assert_int_equal(unlink(path), 0);
	follow_init(&f, path);
	expect_look(&f, "");
	put(path, "new\n", 0);
	expect_look(&f, "new\n");
	follow_fini(&f);
	sample_remove(dir);
}

/* --- datagrams -------------------------------------------------------------------------------------------- */

#define TEXT(text)                                                                                 \
	{                                                                                          \
		text, sizeof(text) - 1                                                             \
	}

static void datagrams(void **unused)
{
	static const struct {
		const char *text;
		size_t size;
	} sent[] = {TEXT("READY=1\nSTATUS=step 5 loss 1\nX=\n"), TEXT("WATCHDOG=1"), TEXT(""),
	    TEXT("WATCHDOG=10\nREADY=0\nREADY\n\xff\0\n\nSTATUS"),
	    TEXT("STATUS=0123456789012345678901234567890123456789012345678901234567890123456789")};
	static char text[64];
	char *dir = sample_directory(), path[512], longest[512];
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct notify_news news;
	struct stat st;
	int fd, line = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	(void)unused;
	snprintf(path, sizeof(path), "%s/notify", dir);
	fd = notify_open(path);
	assert_true(fd >= 0);
	close(fd);
	fd = notify_open(path); /* one that lies there is of nobody any more */
	assert_true(fd >= 0 && (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	snprintf(address.sun_path, sizeof(address.sun_path), "%.100s", path);
	assert_int_equal(connect(line, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_false(notify_read(fd, text, sizeof(text), &news));
	for (size_t i = 0; i < sizeof(sent) / sizeof(sent[0]); i++)
		assert_int_equal(send(line, sent[i].text, sent[i].size, 0), sent[i].size);
	assert_true(notify_read(fd, text, sizeof(text), &news));
	assert_true(news.ready && !news.alive && news.status_bytes == 13);
	assert_memory_equal(news.status, "step 5 loss 1", 13);
	assert_true(notify_read(fd, text, sizeof(text), &news));
	assert_true(!news.ready && news.alive && news.status == NULL);
	assert_true(notify_read(fd, text, sizeof(text), &news));
	assert_true(!news.ready && !news.alive && news.status == NULL);
	assert_true(notify_read(fd, text, sizeof(text), &news));
	assert_true(!news.ready && !news.alive && news.status == NULL);
	assert_true(notify_read(fd, text, sizeof(text), &news));
	assert_int_equal(news.status_bytes, sizeof(text) - 7); /* cut */
	assert_false(notify_read(fd, text, sizeof(text), &news));
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	assert_int_equal(notify_open(longest), -1);
	assert_int_equal(errno, ENAMETOOLONG);
	close(fd);
	close(line);
	sample_remove(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(steps_and_phases),
	    cmocka_unit_test(the_first_rank_is_the_one),
	    cmocka_unit_test(a_trainer_reports_by_itself),
	    cmocka_unit_test(channels_that_cannot_be_had),
	    cmocka_unit_test(another_goes_on),
	    cmocka_unit_test(a_pattern_has_its_share_of_the_time),
	    cmocka_unit_test(readiness_and_life),
	    cmocka_unit_test(a_file_is_followed),
	    cmocka_unit_test(datagrams),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
