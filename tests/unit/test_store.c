/*
 * The store: what was committed is read back, by this process and by others, whatever happened to the writer;
 * and what it refuses it leaves as it was (H2).
 */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "journal/check.h"
#include "journal/store.h"
#include "tests/unit/samples.h"

#define DEADLINE_MS 20000

static uint64_t seed;
static struct cause why;

/* In a child, where cmocka's asserts cannot report. */
#define CHILD_CHECK(condition)                                                                      \
	do {                                                                                        \
		if (!(condition)) {                                                                 \
			fprintf(stderr, "%s:%d: %s (%s %lld %s)\n", __FILE__, __LINE__, #condition, \
			    why.step != NULL ? why.step : "", (long long)why.number, why.subject);  \
			_exit(1);                                                                   \
		}                                                                                   \
	} while (0)

static void expect(enum status status, enum status expected, const char *what)
{
	if (status != expected)
		fail_msg("%s: status %d, not %d (%s %lld %s)", what, status, expected,
		    why.step != NULL ? why.step : "", (long long)why.number, why.subject);
}

static char *journal_in(const char *dir)
{
	char *path;

	assert_true(asprintf(&path, "%s/journal", dir) > 0);
	return path;
}

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void append(struct store *st, struct record *r)
{
	expect(store_append(st, r, &why), STATUS_OK, "append");
}

/* Commit one turn of `rows` step rows from `step` on, and a RECORD_TURN; the first failure's status. */
static enum status commit_rows(struct store *st, uint32_t attempt, uint64_t step, uint32_t rows)
{
	struct record_turn turn = {
	    .head = {.kind = RECORD_TURN, .version = 1, .size_bytes = sizeof(turn)},
	    .input_count = rows};
	enum status status = store_begin(st, &why);

	for (uint32_t i = 0; status == STATUS_OK && i < rows; i++) {
		struct record_step *row = sample_step(2, attempt, step + i);
		status = store_append(st, &row->head, &why);
		free(row);
	}
	if (status == STATUS_OK)
		status = store_append(st, &turn.head, &why);
	if (status == STATUS_OK)
		return store_commit(st, &why);
	store_abort(st);
	return status;
}

/* Every record of the journal is whole, and the turns are complete; returns the last turn. */
static uint64_t check_journal(const char *dir)
{
	struct store_reader *rd;
	const struct record *r;
	uint64_t turn = 0, in_turn = 0;

	expect(store_reader_open(dir, &rd, &why), STATUS_OK, "open to read");
	for (uint64_t seq = 1; seq <= store_reader_last_seq(rd); seq++) {
		expect(store_reader_get(rd, seq, &r, &why), STATUS_OK, "read");
		expect(check_record(r, r->size_bytes, &why), STATUS_OK, "check");
		assert_int_equal(r->turn, turn + 1);
		in_turn++;
		if (r->kind == RECORD_TURN) {
			assert_int_equal(((const struct record_turn *)r)->input_count, in_turn - 1);
			turn++;
			in_turn = 0;
		}
	}
	assert_int_equal(in_turn, 0);
	assert_int_equal(store_reader_get(rd, store_reader_last_seq(rd) + 1, &r, &why), STATUS_NONE);
	assert_int_equal(store_reader_get(rd, 0, &r, &why), STATUS_NONE);
	store_reader_close(rd);
	return turn;
}

static void round_trip(void **state)
{
	char *dir = sample_directory(), *path = journal_in(dir);
	struct record *sent[64];
	struct store *st;
	struct store_reader *rd, *shared;
	size_t count = 0;
	struct stat file;

	(void)state;
	expect(store_reader_open(path, &rd, &why), STATUS_NONE, "open nothing to read");
	expect(store_open(path, &st, &why), STATUS_OK, "create");
	assert_int_equal(store_last_seq(st), 0);
	assert_int_equal(store_last_turn(st), 0);
	assert_int_equal(stat(path, &file), 0);
	assert_int_equal(file.st_mode & 07777, 0700);
	expect(store_reader_open(path, &shared, &why), STATUS_OK, "read what this process writes");
	assert_int_equal(store_reader_last_seq(shared), 0);
	for (size_t turn = 0; sample_kinds[count] != 0; turn++) {
		expect(store_begin(st, &why), STATUS_OK, "begin");
		for (int i = 0; i < 5 && sample_kinds[count] != 0; i++) {
			sent[count] = sample_record(sample_kinds[count], &seed);
			append(st, sent[count]);
			assert_int_equal(sent[count]->seq, count + 1);
			assert_int_equal(sent[count]->turn, turn + 1);
			count++;
		}
		assert_int_equal(store_last_turn(st), turn);
		expect(store_commit(st, &why), STATUS_OK, "commit");
		assert_int_equal(store_last_seq(st), count);
	}
	assert_int_equal(store_reader_last_seq(shared), 0);
	expect(store_reader_refresh(shared, &why), STATUS_OK, "refresh");
	store_close(st);
	expect(store_open(path, &st, &why), STATUS_BUG, "open again below a reader of this process");
	for (int again = 0; again < 2; again++) {
		rd = shared;
		if (again)
			expect(store_reader_open(path, &rd, &why), STATUS_OK, "open to read");
		assert_int_equal(store_reader_last_seq(rd), count);
		for (uint64_t seq = 1; seq <= count; seq++) {
			const struct record *r;
			expect(store_reader_get(rd, seq, &r, &why), STATUS_OK, "read");
			assert_int_equal(r->size_bytes, sent[seq - 1]->size_bytes);
			assert_memory_equal(r, sent[seq - 1], r->size_bytes);
			expect(check_record(r, r->size_bytes, &why), STATUS_OK, "check");
		}
		store_reader_close(rd);
	}
	for (size_t i = 0; i < count; i++)
		free(sent[i]);
	expect(store_open(path, &st, &why), STATUS_OK, "open again");
	assert_int_equal(store_last_seq(st), count);
	assert_int_equal(store_last_turn(st), (count + 4) / 5);
	store_close(st);
	free(path);
	sample_remove(dir);
}

static void turns(void **state)
{
	char *dir = sample_directory(), *path = journal_in(dir);
	struct record_gap gap = {
	    .head = {.kind = RECORD_GAP, .version = 1, .size_bytes = sizeof(gap)}};
	struct store *st;

	(void)state;
	expect(store_open(path, &st, &why), STATUS_OK, "create");
	expect(store_append(st, &gap.head, &why), STATUS_BUG, "append without a turn");
	expect(store_commit(st, &why), STATUS_BUG, "commit without a turn");
	store_abort(st);
	expect(store_begin(st, &why), STATUS_OK, "begin");
	expect(store_begin(st, &why), STATUS_BUG, "begin twice");
	expect(store_commit(st, &why), STATUS_OK, "commit of an empty turn");
	assert_int_equal(store_last_turn(st), 0);
	expect(commit_rows(st, 1, 0, 3), STATUS_OK, "turn");
	expect(store_begin(st, &why), STATUS_OK, "begin");
	for (uint64_t step = 3; step < 200; step++) {
		struct record_step *row = sample_step(2, 9, step);
		append(st, &row->head);
		free(row);
	}
	store_abort(st);
	assert_int_equal(store_last_seq(st), 4);
	gap.head.size_bytes = 47;
	expect(store_begin(st, &why), STATUS_OK, "begin");
	expect(store_append(st, &gap.head, &why), STATUS_BUG, "append of a wrong size");
	gap.head.size_bytes = RECORD_SIZE_MAX + 8;
	expect(store_append(st, &gap.head, &why), STATUS_BUG, "append of a huge size");
	store_abort(st);
	expect(commit_rows(st, 1, 3, 2), STATUS_OK, "turn after an aborted one");
	assert_int_equal(store_last_seq(st), 7);
	assert_int_equal(store_last_turn(st), 2);
	expect(store_begin(st, &why), STATUS_OK, "begin");
	gap.head.size_bytes = sizeof(gap);
	append(st, &gap.head);
	store_close(st);
	assert_int_equal(check_journal(path), 2);
	free(path);
	sample_remove(dir);
}

/* attempts 1: steps 0..9, 2: 5..14, 3: 3..4, in the index and out of its order. */
static void step_index(void **state)
{
	static const uint64_t newest[15] = {1, 1, 1, 3, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2};
	char *dir = sample_directory(), *path = journal_in(dir);
	struct step_position up = {.step = STEP_NONE}, down = {.step = STEP_NONE};
	struct step_position seen[32];
	const struct record_step *row;
	struct store_reader *rd;
	struct store *st;
	size_t count = 0;

	(void)state;
	expect(store_open(path, &st, &why), STATUS_OK, "create");
	expect(store_reader_open(path, &rd, &why), STATUS_OK, "open to read");
	expect(store_reader_next_step(rd, &up, &row, &why), STATUS_NONE, "walk an empty index");
	expect(store_reader_previous_step(rd, &down, &row, &why), STATUS_NONE, "walk an empty index");
	expect(store_reader_step(rd, 0, 0, 0, &row, &why), STATUS_NONE, "step of an empty index");
	expect(commit_rows(st, 1, 0, 10), STATUS_OK, "turn");
	expect(commit_rows(st, 2, 5, 10), STATUS_OK, "turn");
	expect(commit_rows(st, 3, 3, 2), STATUS_OK, "turn");
	expect(store_reader_refresh(rd, &why), STATUS_OK, "refresh");
	for (uint64_t step = 0; step < 15; step++) {
		expect(store_reader_step(rd, 0, step, 0, &row, &why), STATUS_OK, "newest row");
		assert_int_equal(row->step, step);
		assert_int_equal(row->attempt, newest[step]);
		expect(store_reader_step(rd, 0, step, 1, &row, &why),
		    step < 10 ? STATUS_OK : STATUS_NONE, "row of an attempt");
	}
	expect(store_reader_step(rd, 0, 15, 0, &row, &why), STATUS_NONE, "step that was not made");
	expect(store_reader_step(rd, 1, 3, 0, &row, &why), STATUS_NONE, "role that is not there");
	while (store_reader_next_step(rd, &up, &row, &why) == STATUS_OK) {
		assert_true(count < 32);
		if (count > 0 &&
		    (row->step < seen[count - 1].step ||
			(row->step == seen[count - 1].step && row->attempt <= seen[count - 1].attempt)))
			fail_msg("step %llu attempt %u out of order", (unsigned long long)row->step,
			    row->attempt);
		seen[count++] = up;
	}
	assert_int_equal(count, 22);
	while (store_reader_previous_step(rd, &down, &row, &why) == STATUS_OK) {
		assert_true(count > 0);
		count--;
		assert_int_equal(down.step, seen[count].step);
		assert_int_equal(down.attempt, seen[count].attempt);
	}
	assert_int_equal(count, 0);
	store_reader_close(rd);
	store_close(st);
	free(path);
	sample_remove(dir);
}

static int wait_for(pid_t pid)
{
	uint64_t end_ms = now_ms() + DEADLINE_MS;
	int status;

	while (waitpid(pid, &status, WNOHANG) == 0) {
		if (now_ms() > end_ms) {
			kill(pid, SIGKILL);
			waitpid(pid, &status, 0);
			fail_msg("child %d did not end in time", (int)pid);
		}
		poll(NULL, 0, 2);
	}
	return status;
}

/* A child that commits `turn_count` turns (0: for ever) and writes each turn's number behind its commit. */
static pid_t start_writer(const char *path, uint64_t turn_count, int *acknowledged)
{
	pid_t parent = getpid(), pid;
	int ends[2];

	assert_int_equal(pipe(ends), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct store *st;
		close(ends[0]);
		/* Not to outlive a test that failed. */
		CHILD_CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == parent);
		CHILD_CHECK(store_open(path, &st, &why) == STATUS_OK);
		for (uint64_t i = 1; turn_count == 0 || i <= turn_count; i++) {
			uint64_t turn = store_last_turn(st) + 1;
			CHILD_CHECK(commit_rows(st, 1, turn * 10, 1 + turn % 10) == STATUS_OK);
			CHILD_CHECK(write(ends[1], &turn, sizeof(turn)) == sizeof(turn));
		}
		store_close(st);
		_exit(0);
	}
	close(ends[1]);
	*acknowledged = ends[0];
	return pid;
}

static uint64_t read_turn(int fd)
{
	struct pollfd wait = {.fd = fd, .events = POLLIN};
	uint64_t turn = 0;

	assert_true(poll(&wait, 1, DEADLINE_MS) == 1);
	if (read(fd, &turn, sizeof(turn)) != (ssize_t)sizeof(turn))
		return 0;
	return turn;
}

static void follows_a_live_writer(void **state)
{
	char *dir = sample_directory(), *path = journal_in(dir);
	struct store_reader *rd;
	const struct record *r;
	uint64_t turn = 0, seen = 0, refreshes = 0;
	int fd;
	pid_t pid = start_writer(path, 300, &fd);

	(void)state;
	assert_int_equal(read_turn(fd), 1);
	expect(store_reader_open(path, &rd, &why), STATUS_OK, "open to read");
	while (turn < 300) {
		uint64_t acknowledged = read_turn(fd);
		expect(store_reader_refresh(rd, &why), STATUS_OK, "refresh");
		refreshes++;
		while (seen < store_reader_last_seq(rd)) {
			expect(store_reader_get(rd, ++seen, &r, &why), STATUS_OK, "read");
			turn = r->turn;
		}
		expect(store_reader_get(rd, seen, &r, &why), STATUS_OK, "read the last");
		/* A snapshot ends with a turn, and holds all that was acknowledged before it was taken. */
		assert_int_equal(r->kind, RECORD_TURN);
		if (turn < acknowledged)
			fail_msg("turn %llu was acknowledged, %llu is read",
			    (unsigned long long)acknowledged, (unsigned long long)turn);
	}
	assert_true(refreshes > 1);
	store_reader_close(rd);
	assert_int_equal(wait_for(pid), 0);
	close(fd);
	assert_int_equal(check_journal(path), 300);
	free(path);
	sample_remove(dir);
}

/* Killed again and again at random moments; each successor goes on behind what was committed. */
static void survives_kills(void **state)
{
	char *dir = sample_directory(), *path = journal_in(dir);
	uint64_t last = 0;

	(void)state;
	for (int round = 0; round < 15; round++) {
		int fd;
		pid_t pid = start_writer(path, 0, &fd);
		uint64_t acknowledged = last, turns_wanted = 1 + sample_random(&seed) % 20, turn;

		for (uint64_t i = 0; i < turns_wanted; i++)
			acknowledged = read_turn(fd);
		usleep((useconds_t)(sample_random(&seed) % 1500));
		kill(pid, SIGKILL);
		assert_true(WIFSIGNALED(wait_for(pid)));
		while ((turn = read_turn(fd)) != 0)
			acknowledged = turn;
		close(fd);
		last = check_journal(path);
		/* The kill may fall between the commit and its acknowledgement. */
		if (last != acknowledged && last != acknowledged + 1)
			fail_msg("acknowledged %llu, found %llu", (unsigned long long)acknowledged,
			    (unsigned long long)last);
	}
	free(path);
	sample_remove(dir);
}

static void killed_in_a_turn(void **state)
{
	char *dir = sample_directory(), *path = journal_in(dir);
	struct store *st;
	int ends[2];
	pid_t pid;
	char c;

	(void)state;
	assert_int_equal(pipe(ends), 0);
	pid = fork();
	if (pid == 0) {
		CHILD_CHECK(store_open(path, &st, &why) == STATUS_OK);
		for (uint64_t i = 0; i < 7; i++)
			CHILD_CHECK(commit_rows(st, 1, i, 1) == STATUS_OK);
		CHILD_CHECK(store_begin(st, &why) == STATUS_OK);
		for (uint64_t i = 7; i < 5000; i++) {
			struct record_step *row = sample_step(2, 1, i);
			CHILD_CHECK(store_append(st, &row->head, &why) == STATUS_OK);
		}
		CHILD_CHECK(write(ends[1], "x", 1) == 1);
		pause();
		_exit(1);
	}
	close(ends[1]);
	assert_int_equal(read(ends[0], &c, 1), 1);
	close(ends[0]);
	kill(pid, SIGKILL);
	wait_for(pid);
	assert_int_equal(check_journal(path), 7);
	expect(store_open(path, &st, &why), STATUS_OK, "open after the kill");
	assert_int_equal(store_last_turn(st), 7);
	assert_int_equal(store_last_seq(st), 14);
	expect(commit_rows(st, 1, 7, 1), STATUS_OK, "turn after the kill");
	store_close(st);
	assert_int_equal(check_journal(path), 8);
	free(path);
	sample_remove(dir);
}

static void refuses_a_second_writer(void **state)
{
	char *dir = sample_directory(), *path = journal_in(dir);
	struct store *st, *other = NULL;
	int fd;
	pid_t pid = start_writer(path, 0, &fd);

	(void)state;
	read_turn(fd);
	expect(store_open(path, &st, &why), STATUS_AGAIN, "open what another writes");
	assert_int_equal(why.number, pid);
	kill(pid, SIGKILL);
	wait_for(pid);
	close(fd);
	expect(store_open(path, &st, &why), STATUS_OK, "open when the other is dead");
	expect(store_open(path, &other, &why), STATUS_AGAIN, "open twice");
	assert_null(other);
	expect(commit_rows(st, 2, 0, 1), STATUS_OK, "turn after a refused second open");
	store_close(st);
	free(path);
	sample_remove(dir);
}

/* Make every stored schema number 2. */
static void make_newer(const char *path)
{
	size_t size, found = 0;
	char *bytes = sample_read(path, "data.mdb", &size);

	for (size_t i = 0; i + 10 <= size; i++) {
		if (memcmp(bytes + i, "schema\1\0\0\0", 10) == 0) {
			bytes[i + 6] = 2;
			found++;
		}
	}
	assert_true(found > 0);
	sample_write(path, "data.mdb", bytes, size);
	free(bytes);
}

static void refuses_a_newer_schema(void **state)
{
	static const char *const removed[] = {"", "/writer", "/lock.mdb"};
	char *dir = sample_directory(), *path = journal_in(dir), name[4096], *before, *after;
	struct store *st;
	struct store_reader *rd;
	size_t before_size, after_size;

	(void)state;
	expect(store_open(path, &st, &why), STATUS_OK, "create");
	expect(commit_rows(st, 1, 0, 3), STATUS_OK, "turn");
	store_close(st);
	make_newer(path);
	before = sample_read(path, "data.mdb", &before_size);
	for (size_t i = 0; i < 3; i++) {
		if (i > 0) {
			snprintf(name, sizeof(name), "%s%s", path, removed[i]);
			assert_int_equal(unlink(name), 0);
		}
		expect(store_open(path, &st, &why), STATUS_REFUSED, "open a newer schema");
		assert_int_equal(why.number, 2);
		expect(store_reader_open(path, &rd, &why), STATUS_REFUSED, "read a newer schema");
		assert_int_equal(why.number, 2);
		for (size_t k = 1; k <= i; k++) {
			snprintf(name, sizeof(name), "%s%s", path, removed[k]);
			assert_int_equal(access(name, F_OK), -1);
		}
	}
	after = sample_read(path, "data.mdb", &after_size);
	assert_int_equal(before_size, after_size);
	assert_memory_equal(before, after, before_size);
	free(before);
	free(after);
	free(path);
	sample_remove(dir);
}

static void refuses_what_is_no_journal(void **state)
{
	static char garbage[65536];
	char *dir = sample_directory(), *path = journal_in(dir), *bytes;
	struct store *st;
	struct store_reader *rd;
	const struct record *r;
	size_t size;
	static const size_t sizes[] = {0, 1, 100, 4096, 65536};

	(void)state;
	sample_write(dir, "file", "x", 1);
	expect(store_open("/nonexistent/parent/journal", &st, &why), STATUS_SYS,
	    "open without a parent");
	assert_int_equal(why.number, ENOENT);
	for (size_t i = 0; i < sizeof(garbage); i++)
		garbage[i] = (char)sample_random(&seed);
	assert_int_equal(mkdir(path, 0700), 0);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		sample_write(path, "data.mdb", garbage, sizes[i]);
		expect(store_open(path, &st, &why), STATUS_BAD, "open garbage");
		expect(store_reader_open(path, &rd, &why), STATUS_BAD, "read garbage");
		bytes = sample_read(path, "data.mdb", &size);
		assert_int_equal(size, sizes[i]);
		assert_memory_equal(bytes, garbage, size);
		free(bytes);
	}
	sample_remove(strdup(path));
	expect(store_open(path, &st, &why), STATUS_OK, "create");
	expect(commit_rows(st, 1, 0, 100), STATUS_OK, "turn");
	store_close(st);
	bytes = sample_read(path, "data.mdb", &size);
	/* Cut off: reading the pages that are gone would be a SIGBUS. */
	sample_write(path, "data.mdb", bytes, size - 4096);
	expect(store_reader_open(path, &rd, &why), STATUS_BAD, "read a file cut off");
	expect(store_open(path, &st, &why), STATUS_BAD, "open a file cut off");
	/* One bit of a row: its record alone is damaged. */
	for (size_t i = 0; i + sizeof(struct record_step) <= size; i += 8) {
		struct record_step row;
		memcpy(&row, bytes + i, sizeof(row));
		if (row.head.kind == RECORD_STEP && row.head.size_bytes == sizeof(row) + 64 &&
		    row.head.seq == 50)
			bytes[i + offsetof(struct record_step, loss)] ^= 1;
	}
	sample_write(path, "data.mdb", bytes, size);
	expect(store_reader_open(path, &rd, &why), STATUS_OK, "read a damaged file");
	expect(store_reader_get(rd, 49, &r, &why), STATUS_OK, "read beside the damage");
	expect(store_reader_get(rd, 50, &r, &why), STATUS_BAD, "read the damage");
	expect(store_reader_get(rd, 51, &r, &why), STATUS_OK, "read beside the damage");
	store_reader_close(rd);
	free(bytes);
	free(path);
	sample_remove(dir);
}

/* A copy that belongs to another and may only be read, with and without its lock file. */
static void reads_a_read_only_copy(void **state)
{
	char *dir = sample_directory(), *path = journal_in(dir), copy[4096], name[4200];
	struct store *st;

	(void)state;
	expect(store_open(path, &st, &why), STATUS_OK, "create");
	expect(commit_rows(st, 1, 0, 10), STATUS_OK, "turn");
	store_close(st);
	assert_int_equal(chmod(dir, 0755), 0);
	for (int locked = 0; locked < 2; locked++) {
		pid_t pid;
		snprintf(copy, sizeof(copy), "%s/copy%d", dir, locked);
		sample_copy(path, copy);
		snprintf(name, sizeof(name), "%s/lock.mdb", copy);
		if (!locked)
			assert_int_equal(unlink(name), 0);
		else
			assert_int_equal(chmod(name, 0444), 0);
		snprintf(name, sizeof(name), "%s/data.mdb", copy);
		assert_int_equal(chmod(name, 0444), 0);
		assert_int_equal(chmod(copy, 0555), 0);
		pid = fork();
		if (pid == 0) {
			struct store_reader *rd;
			const struct record *r;
			if (geteuid() == 0)
				CHILD_CHECK(setresuid(65534, 65534, 65534) == 0);
			CHILD_CHECK(store_reader_open(copy, &rd, &why) == STATUS_OK);
			CHILD_CHECK(store_reader_last_seq(rd) == 11);
			CHILD_CHECK(store_reader_get(rd, 5, &r, &why) == STATUS_OK);
			store_reader_close(rd);
			CHILD_CHECK(store_open(copy, &st, &why) == STATUS_SYS);
			_exit(0);
		}
		assert_int_equal(wait_for(pid), 0);
		assert_int_equal(chmod(copy, 0755), 0);
	}
	free(path);
	sample_remove(dir);
}

/*
 * The part that both kinds of full disk share, in a child: turns until one fails, what is refused then, and that a
 * store opened again goes on.  more_room: makes room.
 */
static void fill_and_go_on(const char *path, void (*more_room)(const char *), const char *room)
{
	struct store *st;
	struct store_reader *rd;
	enum status status = STATUS_OK;
	uint64_t turn = 0;

	CHILD_CHECK(store_open(path, &st, &why) == STATUS_OK);
	while (status == STATUS_OK && turn < 100000) {
		status = commit_rows(st, 1, turn * 10, 10);
		turn += status == STATUS_OK;
	}
	CHILD_CHECK(status == STATUS_FULL);
	CHILD_CHECK(turn > 0 && store_last_turn(st) == turn);
	CHILD_CHECK(store_begin(st, &why) == STATUS_BUG);
	CHILD_CHECK(store_commit(st, &why) == STATUS_BUG);
	store_close(st);
	/* Still full: it opens, holds all that was committed, and says again that it is full. */
	CHILD_CHECK(store_open(path, &st, &why) == STATUS_OK);
	CHILD_CHECK(store_last_turn(st) == turn);
	for (int i = 0; i < 10 && status != STATUS_OK; i++)
		status = commit_rows(st, 1, turn * 10, 2000);
	CHILD_CHECK(status == STATUS_FULL || status == STATUS_BUG);
	store_close(st);
	more_room(room);
	CHILD_CHECK(store_open(path, &st, &why) == STATUS_OK);
	CHILD_CHECK(store_last_turn(st) == turn);
	CHILD_CHECK(commit_rows(st, 1, turn * 10, 2000) == STATUS_OK);
	store_close(st);
	CHILD_CHECK(store_reader_open(path, &rd, &why) == STATUS_OK);
	CHILD_CHECK(store_reader_last_seq(rd) == turn * 11 + 2001);
	for (uint64_t seq = 1; seq <= store_reader_last_seq(rd); seq++) {
		const struct record *r;
		CHILD_CHECK(store_reader_get(rd, seq, &r, &why) == STATUS_OK);
	}
	store_reader_close(rd);
}

static void raise_limit(const char *room)
{
	struct rlimit limit;

	(void)room;
	getrlimit(RLIMIT_FSIZE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_FSIZE, &limit);
}

static void survives_a_limit_on_file_size(void **state)
{
	char *dir = sample_directory(), *path = journal_in(dir);
	pid_t pid = fork();

	(void)state;
	if (pid == 0) {
		struct rlimit limit;
		signal(SIGXFSZ, SIG_IGN);
		getrlimit(RLIMIT_FSIZE, &limit);
		limit.rlim_cur = 512 * 1024 + 1000;
		CHILD_CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
		fill_and_go_on(path, raise_limit, NULL);
		_exit(0);
	}
	assert_int_equal(wait_for(pid), 0);
	free(path);
	sample_remove(dir);
}

static void remove_room(const char *room)
{
	CHILD_CHECK(unlink(room) == 0);
}

static bool mount_small(const char *dir)
{
	if (unshare(geteuid() == 0 ? CLONE_NEWNS : CLONE_NEWUSER | CLONE_NEWNS) != 0)
		return false;
	if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
		return false;
	return mount("holdfast-test", dir, "tmpfs", 0, "size=8m") == 0;
}

/* On a small file system, in a mount namespace of the child's own: nothing is left behind. */
static void survives_a_full_disk(void **state)
{
	char *dir = sample_directory(), *path = journal_in(dir);
	int status;
	pid_t pid = fork();

	(void)state;
	if (pid == 0) {
		static char block[5 << 20];
		char room[4096], full[4096];
		struct store *st;
		if (!mount_small(dir))
			_exit(77);
		sample_write(dir, "room", block, sizeof(block));
		snprintf(room, sizeof(room), "%s/room", dir);
		fill_and_go_on(path, remove_room, room);
		/* At the very start: refused, and nothing of it is left. */
		snprintf(full, sizeof(full), "%s/full", dir);
		{
			char rest[4096];
			FILE *file;
			snprintf(rest, sizeof(rest), "%s/rest", dir);
			file = fopen(rest, "w");
			CHILD_CHECK(file != NULL);
			setvbuf(file, NULL, _IONBF, 0);
			while (fwrite(block, 1, 4096, file) == 4096)
				continue;
			fclose(file);
		}
		CHILD_CHECK(store_open(full, &st, &why) == STATUS_FULL);
		CHILD_CHECK(access(full, F_OK) == -1 && errno == ENOENT);
		_exit(0);
	}
	status = wait_for(pid);
	free(path);
	sample_remove(dir);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
		print_message("skipped: a small file system cannot be mounted here\n");
		skip();
	}
	assert_int_equal(status, 0);
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define ADDRESS_LIMITED 0 /* a sanitizer's shadow is larger than any such limit */
#else
#define ADDRESS_LIMITED 1
#endif

/* Under a limit on address space the map is small; it fills, and grows when it may. */
static void grows_its_map(void **state)
{
	char *dir, *path;
	pid_t pid;

	(void)state;
	if (!ADDRESS_LIMITED)
		skip();
	dir = sample_directory();
	path = journal_in(dir);
	pid = fork();
	if (pid == 0) {
		uint32_t size = 4 << 20;
		struct record *r = calloc(1, size);
		struct rlimit limit;
		struct store *st;
		enum status status = STATUS_OK;
		uint64_t turn = 0;

		CHILD_CHECK(r != NULL && getrlimit(RLIMIT_AS, &limit) == 0);
		*r = (struct record){.kind = RECORD_EVIDENCE, .version = 1, .size_bytes = size};
		limit.rlim_cur = 250u << 20;
		CHILD_CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
		CHILD_CHECK(store_open(path, &st, &why) == STATUS_OK);
		while (status == STATUS_OK && turn < 100) {
			status = store_begin(st, &why);
			if (status == STATUS_OK)
				status = store_append(st, r, &why);
			if (status == STATUS_OK)
				status = store_commit(st, &why);
			else
				store_abort(st);
			turn += status == STATUS_OK;
		}
		CHILD_CHECK(status == STATUS_FULL && turn >= 14 && turn < 60);
		CHILD_CHECK(store_begin(st, &why) != STATUS_OK);

		CHILD_CHECK(store_last_turn(st) == turn);
		limit.rlim_cur = limit.rlim_max;
		CHILD_CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
		CHILD_CHECK(store_begin(st, &why) == STATUS_OK);
		for (int i = 0; i < 4; i++)
			CHILD_CHECK(store_append(st, r, &why) == STATUS_OK);
		CHILD_CHECK(store_commit(st, &why) == STATUS_OK);
		CHILD_CHECK(store_last_seq(st) == turn + 4);
		store_close(st);
		_exit(0);
	}
	assert_int_equal(wait_for(pid), 0);
	free(path);
	sample_remove(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(round_trip),
	    cmocka_unit_test(turns),
	    cmocka_unit_test(step_index),
	    cmocka_unit_test(follows_a_live_writer),
	    cmocka_unit_test(survives_kills),
	    cmocka_unit_test(killed_in_a_turn),
	    cmocka_unit_test(refuses_a_second_writer),
	    cmocka_unit_test(refuses_a_newer_schema),
	    cmocka_unit_test(refuses_what_is_no_journal),
	    cmocka_unit_test(reads_a_read_only_copy),
	    cmocka_unit_test(survives_a_limit_on_file_size),
	    cmocka_unit_test(survives_a_full_disk),
	    cmocka_unit_test(grows_its_map),
	};

	seed = sample_seed(1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
