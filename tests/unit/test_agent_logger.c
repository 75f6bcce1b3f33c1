/*
 * The ranks' output: every byte in the right file; first and last part beyond the cap; and a disk that takes
 * nothing never holds a writer up, and is said in the file once it takes something again.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "supervisor/agent/helper.h"
#include "tests/unit/samples.h"

#define RANKS_HERE 3u
#define PIPES (RANKS_HERE * 2)
#define DEADLINE_S 30
#define MIB (1u << 20)

struct bench {
	char *dir, *logs;
	int writers[PIPES];
	int words_fd, pid;
	struct logger_words *words;
};

#define WORDS_BYTES (sizeof(struct logger_words) + RANKS_HERE * sizeof(struct logger_rank))

/* In the child: descriptors from 3 as the agent gives them; file_limit 0: none. */
static void run_logger(struct bench *b, const int readers[], const char *cap, rlim_t file_limit)
{
	char ranks[16];
	const char *command[] = {
	    "helper-logger", "--dir", b->logs, "--ranks", ranks, "--cap-bytes", cap, NULL};
	int high[PIPES + 1];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	snprintf(ranks, sizeof(ranks), "%u", RANKS_HERE);
	for (unsigned i = 0; i < PIPES; i++) {
		high[i] = fcntl(readers[i], F_DUPFD, 100);
		close(b->writers[i]);
	}
	high[PIPES] = fcntl(b->words_fd, F_DUPFD, 100);
	for (unsigned i = 0; i <= PIPES; i++)
		dup2(high[i], 3 + (int)i);
	for (int fd = 4 + (int)PIPES; fd < 200; fd++)
		close(fd);
	if (file_limit > 0) {
		struct rlimit limit = {file_limit, RLIM_INFINITY};

		setrlimit(RLIMIT_FSIZE, &limit);
	}
	_exit(helper_logger_main(7, (char **)command));
}

static void bench_open(struct bench *b, const char *cap, rlim_t file_limit)
{
	int readers[PIPES];

	b->dir = sample_directory();
	assert_true(asprintf(&b->logs, "%s/attempt-001", b->dir) > 0);
	b->words_fd = memfd_create("words", MFD_CLOEXEC);
	assert_int_equal(ftruncate(b->words_fd, WORDS_BYTES), 0);
	b->words = mmap(NULL, WORDS_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, b->words_fd, 0);
	assert_true(b->words != MAP_FAILED);
	for (unsigned i = 0; i < PIPES; i++) {
		int ends[2];

		assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
		readers[i] = ends[0];
		b->writers[i] = ends[1];
	}
	fflush(NULL);
	b->pid = fork();
	assert_true(b->pid >= 0);
	if (b->pid == 0)
		run_logger(b, readers, cap, file_limit);
	for (unsigned i = 0; i < PIPES; i++)
		close(readers[i]);
	alarm(DEADLINE_S); /* a writer that is held up for ever ends the test */
}

/* The ranks end; the logger then ends by itself. */
static void bench_end(struct bench *b)
{
	int status;

	for (unsigned i = 0; i < PIPES; i++)
		close(b->writers[i]);
	assert_int_equal(waitpid(b->pid, &status, 0), b->pid);
	assert_int_equal(status, 0);
	alarm(0);
}

static void bench_close(struct bench *b)
{
	munmap(b->words, WORDS_BYTES);
	close(b->words_fd);
	free(b->logs);
	sample_remove(b->dir);
}

static void put(const struct bench *b, unsigned pipe, const void *bytes, size_t size)
{
	for (size_t done = 0; done < size;) {
		ssize_t length = write(b->writers[pipe], (const char *)bytes + done, size - done);

		assert_true(length > 0);
		done += (size_t)length;
	}
}

static char *file_of(const struct bench *b, unsigned pipe, size_t *size)
{
	char name[64];

	snprintf(name, sizeof(name), "rank-%04u.%s", pipe / 2, pipe % 2 ? "err" : "out");
	return sample_read(b->logs, name, size);
}

static void wait_counted(const struct bench *b, unsigned rank, uint64_t bytes)
{
	struct timespec pause_ns = {.tv_nsec = 1000000};

	while (b->words->ranks[rank].bytes < bytes)
		nanosleep(&pause_ns, NULL);
}

static void every_byte_in_its_file(void **state)
{
	uint64_t seed = sample_seed(5), lengths[PIPES] = {0};
	struct bench b;
	char *expected[PIPES];

	(void)state;
	bench_open(&b, "1000000000", 0);
	for (unsigned i = 0; i < PIPES; i++)
		expected[i] = malloc(2 * MIB);
	for (unsigned turn = 0; turn < 600; turn++) {
		unsigned pipe = (unsigned)(sample_random(&seed) % PIPES);
		size_t size = sample_random(&seed) % 8000;

		if (pipe == 5 || lengths[pipe] + size > 2 * MIB)
			continue;                 /* one says nothing */
		for (size_t i = 0; i < size; i++) /* any bytes, NUL and 0xff among them */
			expected[pipe][lengths[pipe] + i] = (char)(sample_random(&seed) >> 13);
		put(&b, pipe, expected[pipe] + lengths[pipe], size);
		lengths[pipe] += size;
	}
	bench_end(&b);
	for (unsigned i = 0; i < PIPES; i++) {
		size_t size;
		char *found = file_of(&b, i, &size);

		assert_int_equal(size, lengths[i]);
		assert_memory_equal(found, expected[i], size);
		free(found);
		free(expected[i]);
	}
	for (unsigned rank = 0; rank < RANKS_HERE; rank++)
		assert_int_equal(
		    b.words->ranks[rank].bytes, lengths[rank * 2] + lengths[rank * 2 + 1]);
	bench_close(&b);
}

/* A pipe that a descendant holds on is not at its end: what it says belongs to the same file. */
static void appended(void **state)
{
	struct bench b;
	size_t size;

	(void)state;
	bench_open(&b, "1000000", 0);
	put(&b, 0, "one\n", 4);
	wait_counted(&b, 0, 4);
	int earlier = dup(b.writers[0]);

	close(b.writers[0]);
	b.writers[0] = earlier; /* a descendant holds the pipe on: it is not at its end */
	put(&b, 0, "two\n", 4);
	bench_end(&b);
	char *found = file_of(&b, 0, &size);

	assert_string_equal(found, "one\ntwo\n");
	free(found);
	bench_close(&b);
}

static void the_cap_keeps_both_ends(void **state)
{
	enum { LINE = 16, LINES = 6 * (int)MIB / LINE };
	struct bench b;
	struct stat st;
	char path[512];
	size_t size;

	(void)state;
	bench_open(&b, "1048576", 0);
	for (unsigned i = 0; i < LINES; i++) {
		char line[32];

		snprintf(line, sizeof(line), "line %010u\n", i);
		put(&b, 0, line, LINE);
	}
	put(&b, 1, "short\n", 6); /* control: below the cap nothing is taken away */
	bench_end(&b);
	char *found = file_of(&b, 0, &size);

	assert_int_equal(size, LINES * LINE);
	assert_memory_equal(found, "line 0000000000\nline 0000000001\n", 32);
	for (unsigned i = 0; i < MIB / 2 / LINE; i++) {
		char line[32];

		snprintf(line, sizeof(line), "line %010u\n", i);
		assert_memory_equal(found + (size_t)i * LINE, line, LINE); /* the first half of the cap */
		snprintf(line, sizeof(line), "line %010u\n", LINES - 1 - i);
		assert_memory_equal(found + size - (size_t)(i + 1) * LINE, line, LINE);
	}
	snprintf(path, sizeof(path), "%s/rank-0000.out", b.logs);
	assert_int_equal(stat(path, &st), 0);
	free(found);
	if ((uint64_t)st.st_blocks * 512 > 3 * MIB) /* the cap, and a mebibyte until the next hole */
		fail_msg("%llu bytes are used", (unsigned long long)st.st_blocks * 512);
	found = file_of(&b, 1, &size);
	assert_string_equal(found, "short\n");
	free(found);
	bench_close(&b);
}

/* A limit on the file's size stands for a full disk: raised again, the file says what is missing. */
static void a_full_disk(void **state)
{
	static char block[4096];
	struct bench b;
	size_t size;
	struct rlimit none = {RLIM_INFINITY, RLIM_INFINITY};

	(void)state;
	memset(block, 'x', sizeof(block));
	bench_open(&b, "1000000000", 16384);
	for (unsigned i = 0; i < 200; i++) /* far more than file and pipe hold: nobody waits */
		put(&b, 2, block, sizeof(block));
	put(&b, 0, "others go on\n", 13);
	wait_counted(&b, 1, 200 * sizeof(block));
	wait_counted(&b, 0, 13);
	assert_int_equal(prlimit(b.pid, RLIMIT_FSIZE, &none, NULL), 0);
	put(&b, 2, "room again\n", 11);
	bench_end(&b);
	char *found = file_of(&b, 2, &size);
	char note[128];

	snprintf(note, sizeof(note), "\n[holdfast: %zu bytes could not be written here]\nroom again\n",
	    200 * sizeof(block) - 16384);
	if (size != 16384 + strlen(note) || strcmp(found + 16384, note) != 0)
		fail_msg("%zu bytes, at the end: %s", size, size > 16384 ? found + 16384 : "");
	free(found);
	found = file_of(&b, 0, &size);
	assert_string_equal(found, "others go on\n");
	free(found);
	bench_close(&b);
}

/* Where the directory cannot be made, output is read away all the same. */
static void no_directory(void **state)
{
	static char block[4096];
	struct bench b;

	(void)state;
	bench_open(&b, "1000000", 0);
	bench_end(&b);
	char *logs = b.logs;

	assert_true(asprintf(&b.logs, "%s/rank-0000.out/none", logs) > 0);
	free(logs);
	int readers[PIPES];

	for (unsigned i = 0; i < PIPES; i++) {
		int ends[2];

		assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
		readers[i] = ends[0];
		b.writers[i] = ends[1];
	}
	b.pid = fork();
	if (b.pid == 0)
		run_logger(&b, readers, "1000000", 0);
	for (unsigned i = 0; i < PIPES; i++)
		close(readers[i]);
	alarm(DEADLINE_S);
	for (unsigned i = 0; i < 100; i++)
		put(&b, 4, block, sizeof(block));
	bench_end(&b);
	assert_int_equal(b.words->ranks[2].bytes, 100 * sizeof(block));
	bench_close(&b);
}

static void wrong_arguments(void **state)
{
	const char *none[] = {"helper-logger", NULL};
	const char *half[] = {"helper-logger", "--dir", "/nonexistent", NULL};
	const char *zero[] = {"helper-logger", "--dir", "/nonexistent", "--ranks", "0", NULL};

	(void)state;
	assert_int_equal(helper_logger_main(1, (char **)none), 64);
	assert_int_equal(helper_logger_main(3, (char **)half), 64);
	assert_int_equal(helper_logger_main(5, (char **)zero), 64);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(every_byte_in_its_file),
	    cmocka_unit_test(appended),
	    cmocka_unit_test(the_cap_keeps_both_ends),
	    cmocka_unit_test(a_full_disk),
	    cmocka_unit_test(no_directory),
	    cmocka_unit_test(wrong_arguments),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
