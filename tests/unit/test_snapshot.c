/*
 * Snapshots: what was committed is read back bit for bit or refused, whatever happened to the writer or to the
 * file (H8, H10).
 *
 * The writer is killed at random moments, every byte of the headers is flipped, the file is cut at every length,
 * filled with garbage, and shrinks while it is surveyed.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/trainee.h"
#include "trainer/slots.h"

#define STATE_BYTES 10000u
#define KILLS 100u
#define FLIPS 1000u
#define GARBAGE_FILES 1000u
#define SHRINKS 300u

struct workplace {
	char directory[64];
	char path[80];
};

static int set_up(void **state)
{
	struct workplace *w = calloc(1, sizeof(*w));

	if (w == NULL)
		return -1;
	snprintf(w->directory, sizeof(w->directory), "/dev/shm/holdfast-unit-snapshot-XXXXXX");
	if (mkdtemp(w->directory) == NULL)
		return -1;
	snprintf(w->path, sizeof(w->path), "%s/s", w->directory);
	*state = w;
	return 0;
}

static int tear_down(void **state)
{
	struct workplace *w = *state;
	int result;

	(void)unlink(w->path);
	/* Fails when a file was left beside it. */
	result = rmdir(w->directory);
	free(w);
	return result;
}

/* The state of a step: bytes that follow from it. */
static void fill_state(unsigned char *bytes, size_t size_bytes, uint64_t step)
{
	uint64_t state = step;

	for (size_t i = 0; i < size_bytes; i += 8) {
		uint64_t word = trainee_random(&state);

		memcpy(bytes + i, &word, size_bytes - i < 8 ? size_bytes - i : 8);
	}
}

static int save(struct slots *s, uint64_t step, size_t size_bytes)
{
	unsigned char *bytes = malloc(size_bytes);
	int error = slots_begin(s, step, size_bytes);

	fill_state(bytes, size_bytes, step);
	if (error == 0)
		error = slots_write(s, bytes, size_bytes);
	free(bytes);
	return error == 0 ? slots_commit(s) : error;
}

/* 0 when the snapshot of a step is restored as it was saved. */
static int restore(const char *path, uint64_t step)
{
	uint64_t size_bytes = 0;
	struct slots s;
	int error;

	slots_init(&s, path);
	error = slots_restore_begin(&s, step, &size_bytes);
	if (error == 0) {
		unsigned char *got = malloc(size_bytes), *wanted = malloc(size_bytes);

		fill_state(wanted, size_bytes, step);
		assert_int_equal(slots_restore_read(&s, got, size_bytes), 0);
		assert_memory_equal(got, wanted, size_bytes);
		assert_int_equal(slots_restore_end(&s), 0);
		free(got);
		free(wanted);
	}
	slots_fini(&s);
	return error;
}

/* Three snapshots, of the steps 1, 2 and 3, in this order in the file. */
static void save_three(const char *path)
{
	struct slots s;

	slots_init(&s, path);
	for (uint64_t step = 1; step <= 3; step++)
		assert_int_equal(save(&s, step, STATE_BYTES), 0);
	slots_fini(&s);
}

static unsigned count(const char *path, uint64_t *newest, unsigned *torn)
{
	struct snapshot_finding finding[MEMORY_SLOTS];
	unsigned good = 0;

	*newest = 0;
	*torn = 0;
	if (snapshot_survey(path, finding) != 0)
		return 0;
	for (unsigned i = 0; i < MEMORY_SLOTS; i++) {
		if (finding[i].state == SNAPSHOT_TORN)
			(*torn)++;
		if (finding[i].state != SNAPSHOT_GOOD)
			continue;
		good++;
		if (finding[i].step > *newest)
			*newest = finding[i].step;
	}
	return good;
}

static unsigned count_good(const char *path, uint64_t *newest)
{
	unsigned torn;

	return count(path, newest, &torn);
}

/* --- as it should be ------------------------------------------------------------------------------------- */

static void what_is_saved_is_read_back_in_any_pieces(void **state)
{
	struct workplace *w = *state;
	static unsigned char bytes[STATE_BYTES], got[STATE_BYTES];
	uint64_t seed = trainee_seed(3), size_bytes;
	struct slots s;

	slots_init(&s, w->path);
	assert_int_equal(slots_restore_begin(&s, 1, &size_bytes), -ENOENT);
	for (uint64_t step = 1; step <= 20; step++) {
		size_t done = 0;

		fill_state(bytes, sizeof(bytes), step);
		assert_int_equal(slots_begin(&s, step, sizeof(bytes)), 0);
		while (done < sizeof(bytes)) {
			size_t n = trainee_random(&seed) % 4000;

			n = n < sizeof(bytes) - done ? n : sizeof(bytes) - done;
			assert_int_equal(slots_write(&s, bytes + done, n), 0);
			done += n;
		}
		assert_int_equal(slots_commit(&s), 0);
		assert_int_equal(slots_restore_begin(&s, step, &size_bytes), 0);
		assert_int_equal(size_bytes, sizeof(bytes));
		for (done = 0; done < sizeof(bytes);) {
			size_t n = trainee_random(&seed) % 4000;

			n = n < sizeof(bytes) - done ? n : sizeof(bytes) - done;
			assert_int_equal(slots_restore_read(&s, got + done, n), 0);
			done += n;
		}
		assert_memory_equal(got, bytes, sizeof(bytes));
		assert_int_equal(slots_restore_read(&s, got, 1), -EINVAL);
		assert_int_equal(slots_restore_end(&s), 0);
		assert_int_equal(slots_restore_end(&s), -EINVAL);
		assert_int_equal(slots_restore_read(&s, got, 1), -EINVAL);
	}
	assert_int_equal(slots_restore_begin(&s, 17, &size_bytes), -ENOENT);
	slots_fini(&s);
	for (uint64_t step = 18; step <= 20; step++)
		assert_int_equal(restore(w->path, step), 0);
}

static void wrong_calls_are_refused_and_harm_nothing(void **state)
{
	struct workplace *w = *state;
	struct slots s;
	uint64_t newest;

	save_three(w->path);
	slots_init(&s, w->path);
	assert_int_equal(slots_commit(&s), -EINVAL);
	assert_int_equal(slots_write(&s, "a", 1), -EINVAL);
	assert_int_equal(slots_begin(&s, 4, 0), -EINVAL);
	assert_int_equal(slots_begin(&s, STEP_NONE, 4), -EINVAL);
	assert_int_equal(slots_begin(&s, 4, UINT64_MAX), -ENOSPC);
	assert_int_equal(slots_begin(&s, 4, (uint64_t)1 << 59), -ENOSPC);
	assert_int_equal(count_good(w->path, &newest), 3);
	/* Too few bytes, and too many. */
	assert_int_equal(slots_begin(&s, 4, 4), 0);
	assert_int_equal(slots_write(&s, "abc", 3), 0);
	assert_int_equal(slots_commit(&s), -EINVAL);
	assert_int_equal(slots_commit(&s), -EINVAL);
	assert_int_equal(slots_begin(&s, 4, 4), 0);
	assert_int_equal(slots_write(&s, "abcde", 5), -EINVAL);
	assert_int_equal(slots_write(&s, "abcd", 4), -EINVAL);
	assert_int_equal(slots_commit(&s), -EINVAL);
	/* Begun again, and never committed. */
	assert_int_equal(slots_begin(&s, 4, 4), 0);
	assert_int_equal(slots_begin(&s, 5, 4), 0);
	slots_fini(&s);
	assert_int_equal(count_good(w->path, &newest), 2);
	assert_int_equal(newest, 3);
	slots_init(&s, "");
	assert_int_equal(slots_begin(&s, 4, 4), -ENOTCONN);
	slots_fini(&s);
}

/* A restart that went back leaves snapshots of later steps: they go first, and the newer of two wins. */
static void steps_that_are_made_again_replace_themselves(void **state)
{
	struct workplace *w = *state;
	struct slots s;
	uint64_t newest;

	slots_init(&s, w->path);
	for (uint64_t step = 98; step <= 100; step++)
		assert_int_equal(save(&s, step, STATE_BYTES), 0);
	slots_fini(&s);
	slots_init(&s, w->path);
	assert_int_equal(save(&s, 100, STATE_BYTES / 2), 0);
	for (uint64_t step = 98; step <= 100; step++)
		assert_int_equal(restore(w->path, step), 0);
	assert_int_equal(save(&s, 97, STATE_BYTES), 0);
	assert_int_equal(count_good(w->path, &newest), 3);
	assert_int_equal(restore(w->path, 97), 0);
	assert_int_equal(restore(w->path, 98), -ENOENT);
	slots_fini(&s);
}

static void restoring_ends_when_its_slot_is_written_again(void **state)
{
	struct workplace *w = *state;
	struct slots s;
	uint64_t size_bytes;
	char byte;

	save_three(w->path);
	slots_init(&s, w->path);
	assert_int_equal(slots_restore_begin(&s, 1, &size_bytes), 0);
	assert_int_equal(slots_restore_read(&s, &byte, 1), 0);
	assert_int_equal(save(&s, 4, STATE_BYTES), 0);
	/* Its bytes are those of step 4 by now. */
	assert_int_equal(slots_restore_read(&s, &byte, 1), -EINVAL);
	slots_fini(&s);
}

static ino_t inode_of(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return st.st_ino;
}

static void a_larger_state_gets_a_new_file_with_its_first_commit(void **state)
{
	struct workplace *w = *state;
	static unsigned char bytes[STATE_BYTES * 3];
	struct slots s;
	ino_t before;
	uint64_t newest;

	save_three(w->path);
	before = inode_of(w->path);
	slots_init(&s, w->path);
	/* A smaller one reuses the file that is there. */
	assert_int_equal(save(&s, 4, 100), 0);
	assert_int_equal(inode_of(w->path), before);
	assert_int_equal(count_good(w->path, &newest), 3);
	assert_int_equal(slots_begin(&s, 5, sizeof(bytes)), 0);
	fill_state(bytes, sizeof(bytes), 5);
	assert_int_equal(slots_write(&s, bytes, sizeof(bytes)), 0);
	/* Until the commit all the older ones stand. */
	assert_int_equal(count_good(w->path, &newest), 3);
	assert_int_equal(inode_of(w->path), before);
	slots_fini(&s);
	assert_int_equal(count_good(w->path, &newest), 3);
	slots_init(&s, w->path);
	assert_int_equal(save(&s, 5, sizeof(bytes)), 0);
	assert_int_not_equal(inode_of(w->path), before);
	assert_int_equal(restore(w->path, 5), 0);
	assert_int_equal(save(&s, 6, sizeof(bytes)), 0);
	assert_int_equal(save(&s, 7, STATE_BYTES), 0);
	assert_int_equal(count_good(w->path, &newest), 3);
	slots_fini(&s);
}

/* --- damage ---------------------------------------------------------------------------------------------- */

/* Change one byte of the file, and change it back. */
static void flip(int fd, uint64_t offset, uint8_t by)
{
	uint8_t byte;

	assert_int_equal(pread(fd, &byte, 1, (off_t)offset), 1);
	byte ^= by;
	assert_int_equal(pwrite(fd, &byte, 1, (off_t)offset), 1);
}

static void every_flipped_byte_of_a_header_is_refused(void **state)
{
	struct workplace *w = *state;
	uint64_t seed = trainee_seed(4), newest;
	int fd;

	save_three(w->path);
	fd = open(w->path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	for (uint64_t at = 0; at < sizeof(struct snapshot_file); at++) {
		uint8_t by = (uint8_t)(1 + trainee_random(&seed) % 255);

		flip(fd, at, by);
		for (uint64_t step = 1; step <= 3; step++)
			assert_int_equal(restore(w->path, step), -EBADMSG);
		assert_int_equal(count_good(w->path, &newest), 0);
		flip(fd, at, by);
	}
	for (unsigned slot = 0; slot < MEMORY_SLOTS; slot++) {
		for (uint64_t at = 0; at < sizeof(struct snapshot_slot); at++) {
			uint8_t by = (uint8_t)(1 + trainee_random(&seed) % 255);

			flip(fd, snapshot_slot_offset(slot) + at, by);
			for (uint64_t step = 1; step <= 3; step++)
				assert_int_equal(
				    restore(w->path, step), step == slot + 1 ? -ENOENT : 0);
			assert_int_equal(count_good(w->path, &newest), 2);
			flip(fd, snapshot_slot_offset(slot) + at, by);
		}
	}
	/* Control: changed back, all is well. */
	assert_int_equal(count_good(w->path, &newest), 3);
	close(fd);
}

static void sampled_flipped_bytes_of_a_body_are_refused(void **state)
{
	struct workplace *w = *state;
	struct snapshot_finding finding[MEMORY_SLOTS];
	struct snapshot_file file;
	uint64_t seed = trainee_seed(5);
	int fd;

	save_three(w->path);
	fd = snapshot_open(w->path, O_RDWR, &file);
	assert_true(fd >= 0);
	for (unsigned i = 0; i < FLIPS; i++) {
		unsigned slot = (unsigned)(trainee_random(&seed) % MEMORY_SLOTS);
		uint64_t at = snapshot_body_offset(&file, slot) + trainee_random(&seed) % STATE_BYTES;
		uint8_t by = (uint8_t)(1u << (trainee_random(&seed) % 8));

		flip(fd, at, by);
		assert_int_equal(restore(w->path, slot + 1), -EBADMSG);
		assert_int_equal(restore(w->path, (slot + 1) % 3 + 1), 0);
		assert_int_equal(snapshot_survey(w->path, finding), 0);
		for (unsigned k = 0; k < MEMORY_SLOTS; k++) {
			assert_int_equal(finding[k].state, k == slot ? SNAPSHOT_TORN : SNAPSHOT_GOOD);
			assert_int_equal(finding[k].step, k + 1);
		}
		flip(fd, at, by);
	}
	close(fd);
}

static void a_file_cut_anywhere_is_never_taken_for_whole(void **state)
{
	struct workplace *w = *state;
	struct snapshot_finding finding[MEMORY_SLOTS];
	struct snapshot_file file;
	unsigned char *bytes;
	struct stat st;
	int fd;

	save_three(w->path);
	fd = snapshot_open(w->path, O_RDWR, &file);
	assert_true(fd >= 0 && fstat(fd, &st) == 0);
	bytes = malloc((size_t)st.st_size);
	assert_int_equal(pread(fd, bytes, (size_t)st.st_size, 0), st.st_size);
	/* Downwards, each length in the headers, and each seventh in the long bodies. */
	for (off_t length = st.st_size; length >= 0; length -= length > SNAPSHOT_BODY_OFFSET ? 7 : 1) {
		int error;

		assert_int_equal(ftruncate(fd, length), 0);
		error = snapshot_survey(w->path, finding);
		assert_int_equal(error, length < (off_t)sizeof(file) ? -EBADMSG : 0);
		for (unsigned i = 0; i < MEMORY_SLOTS && error == 0; i++) {
			bool whole = snapshot_body_offset(&file, i) + STATE_BYTES <= (uint64_t)length;

			assert_int_equal(finding[i].state == SNAPSHOT_GOOD, whole);
		}
	}
	free(bytes);
	close(fd);
}

/* Headers that are whole and say nonsense, and files of noise. */
static void write_garbage(int fd, uint64_t *seed)
{
	static unsigned char noise[40000];
	struct snapshot_file file = {.magic = SNAPSHOT_MAGIC,
	    .version = SNAPSHOT_VERSION,
	    .slot_count = MEMORY_SLOTS,
	    .slot_bytes = 4096};
	uint64_t kind = trainee_random(seed);

	fill_state(noise, sizeof(noise), kind);
	if (kind & 1) {
		if (kind & 2)
			file.slot_bytes = trainee_random(seed) >> (trainee_random(seed) % 64) &
			    ~UINT64_C(4095);
		if (kind & 4)
			file.slot_count = (uint32_t)trainee_random(seed);
		file.checksum = snapshot_file_checksum(&file);
		memcpy(noise, &file, sizeof(file));
	}
	for (unsigned i = 0; i < MEMORY_SLOTS && (kind & 8); i++) {
		struct snapshot_slot slot = {.step = trainee_random(seed),
		    .size_bytes = trainee_random(seed) >> (trainee_random(seed) % 64),
		    .sequence = trainee_random(seed)};

		slot.checksum = snapshot_slot_checksum(&slot);
		memcpy(noise + snapshot_slot_offset(i), &slot, sizeof(slot));
	}
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(pwrite(fd, noise, sizeof(noise) - kind % 512, 0), sizeof(noise) - kind % 512);
}

static void garbage_is_nobodys_snapshot(void **state)
{
	struct workplace *w = *state;
	uint64_t seed = trainee_seed(6), newest;
	unsigned surveyed = 0;
	int fd = open(w->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	for (unsigned i = 0; i < GARBAGE_FILES; i++) {
		struct snapshot_finding finding[MEMORY_SLOTS];
		uint64_t size_bytes;
		struct slots s;

		write_garbage(fd, &seed);
		surveyed += snapshot_survey(w->path, finding) == 0;
		assert_int_equal(count_good(w->path, &newest), 0);
		slots_init(&s, w->path);
		assert_int_not_equal(slots_restore_begin(&s, trainee_random(&seed), &size_bytes), 0);
		/* And it is no obstacle to a trainer that wants to save. */
		if (i % 50 == 0) {
			assert_int_equal(save(&s, 7, STATE_BYTES), 0);
			assert_int_equal(restore(w->path, 7), 0);
			close(fd);
			fd = open(w->path, O_RDWR | O_CLOEXEC);
		}
		slots_fini(&s);
	}
	/* Some got past the first check. */
	assert_in_range(surveyed, GARBAGE_FILES / 10, GARBAGE_FILES / 2);
	close(fd);
	/* Nothing but a file of one's own is opened, and a pipe is not waited for. */
	unlink(w->path);
	assert_int_equal(mkfifo(w->path, 0600), 0);
	assert_int_equal(
	    snapshot_survey(w->path, (struct snapshot_finding[MEMORY_SLOTS]){{0}}), -EBADMSG);
	unlink(w->path);
	assert_int_equal(symlink("/dev/zero", w->path), 0);
	assert_int_equal(
	    snapshot_survey(w->path, (struct snapshot_finding[MEMORY_SLOTS]){{0}}), -ELOOP);
	unlink(w->path);
	assert_int_equal(
	    snapshot_survey(w->path, (struct snapshot_finding[MEMORY_SLOTS]){{0}}), -ENOENT);
}

/* Headers whose checksums hold, and whose numbers lead out of the file. */
static void sizes_are_believed_within_bounds_only(void **state)
{
	struct workplace *w = *state;
	struct snapshot_finding finding[MEMORY_SLOTS];
	struct snapshot_file file, wrong;
	struct snapshot_slot slot;
	unsigned char *bytes;
	struct bodyhash hash;
	int fd;

	save_three(w->path);
	fd = snapshot_open(w->path, O_RDWR, &file);
	assert_true(fd >= 0);
	/* One byte more than a slot has, and the digest of these bytes. */
	assert_int_equal(snapshot_read_slot(fd, &file, 0, &slot), 0);
	slot.size_bytes = file.slot_bytes + 1;
	bytes = malloc(slot.size_bytes);
	assert_int_equal(pread(fd, bytes, slot.size_bytes, (off_t)snapshot_body_offset(&file, 0)),
	    slot.size_bytes);
	bodyhash_init(&hash);
	bodyhash_update(&hash, bytes, slot.size_bytes);
	bodyhash_final(&hash, slot.digest);
	free(bytes);
	slot.checksum = snapshot_slot_checksum(&slot);
	assert_int_equal(
	    pwrite(fd, &slot, sizeof(slot), (off_t)snapshot_slot_offset(0)), sizeof(slot));
	assert_int_equal(snapshot_survey(w->path, finding), 0);
	assert_int_equal(finding[0].state, SNAPSHOT_EMPTY);
	assert_int_equal(finding[1].state, SNAPSHOT_GOOD);
	for (unsigned bit = 12; bit < 64; bit++) {
		bool possible = bit <= 61; /* three times that is a file offset */

		wrong = file;
		wrong.slot_bytes = UINT64_C(1) << bit;
		wrong.checksum = snapshot_file_checksum(&wrong);
		assert_int_equal(pwrite(fd, &wrong, sizeof(wrong), 0), sizeof(wrong));
		assert_int_equal(snapshot_survey(w->path, finding), possible ? 0 : -EBADMSG);
	}
	close(fd);
}

struct shrinker {
	int fd;
	off_t length;
	_Atomic uint32_t done;
};

static void *shrink_and_grow(void *context)
{
	struct shrinker *sh = context;
	uint64_t seed = 7;

	while (atomic_load(&sh->done) == 0) {
		(void)!ftruncate(sh->fd, (off_t)(trainee_random(&seed) % (uint64_t)sh->length));
		(void)!ftruncate(sh->fd, sh->length);
		sched_yield();
	}
	return NULL;
}

static void a_file_that_shrinks_meanwhile_ends_nobody(void **state)
{
	struct workplace *w = *state;
	static unsigned char bytes[1u << 16];
	struct shrinker sh = {0};
	uint64_t size_bytes;
	struct stat st;
	struct slots s;
	pthread_t thread;

	slots_init(&s, w->path);
	for (uint64_t step = 1; step <= 3; step++)
		assert_int_equal(save(&s, step, 1u << 20), 0);
	slots_fini(&s);
	sh.fd = open(w->path, O_RDWR | O_CLOEXEC);
	assert_true(sh.fd >= 0 && fstat(sh.fd, &st) == 0);
	sh.length = st.st_size;
	assert_int_equal(pthread_create(&thread, NULL, shrink_and_grow, &sh), 0);
	for (unsigned i = 0; i < SHRINKS; i++) {
		struct snapshot_finding finding[MEMORY_SLOTS];
		int error = snapshot_survey(w->path, finding);

		assert_true(error == 0 || error == -EBADMSG);
		/* What was verified may be gone when it is read: that is an error, too. */
		slots_init(&s, w->path);
		error = slots_restore_begin(&s, 2, &size_bytes);
		while (error == 0 && size_bytes > 0) {
			error = slots_restore_read(&s, bytes, sizeof(bytes));
			size_bytes -= sizeof(bytes);
		}
		assert_true(error == 0 || error == -EBADMSG || error == -ENOENT);
		slots_fini(&s);
	}
	atomic_store(&sh.done, 1);
	assert_int_equal(pthread_join(thread, NULL), 0);
	close(sh.fd);
}

/* --- a writer that dies ---------------------------------------------------------------------------------- */

struct progress {
	_Atomic uint64_t step;    /* newest committed */
	_Atomic uint32_t commits; /* in this file */
	size_t size_bytes;
};

static void write_for_ever(const char *path, struct progress *progress)
{
	struct slots s;

	slots_init(&s, path);
	for (uint64_t step = atomic_load(&progress->step) + 1;; step++) {
		if (save(&s, step, progress->size_bytes) != 0)
			_exit(1);
		atomic_store(&progress->step, step);
		atomic_fetch_add(&progress->commits, 1);
	}
}

static void kill_at_random(const char *path, struct progress *progress, uint64_t *seed)
{
	uint64_t before = atomic_load(&progress->step);
	struct timespec pause = {.tv_nsec = (long)(trainee_random(seed) % 3000000)};
	uint32_t had = atomic_load(&progress->commits);
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		write_for_ever(path, progress);
	}
	/* Sometimes it does not get as far as its first commit. */
	if (trainee_random(seed) % 4 != 0)
		trainee_await_word(&progress->commits, had);
	nanosleep(&pause, NULL);
	assert_int_equal(kill(pid, SIGKILL), 0);
	status = trainee_wait(pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	assert_true(atomic_load(&progress->step) >= before);
}

static void a_writer_killed_anywhere_costs_one_slot_at_most(void **state)
{
	struct workplace *w = *state;
	uint64_t seed = trainee_seed(8);
	unsigned met_slots = 0;
	struct progress *progress = mmap(
	    NULL, sizeof(*progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_true(progress != MAP_FAILED);
	progress->size_bytes = 200000;
	for (unsigned i = 0; i < KILLS; i++) {
		uint64_t newest, step;
		unsigned good, torn;

		if (i % 25 == 24) {
			/* A larger state: another file from its first commit on. */
			progress->size_bytes += 300000;
			atomic_store(&progress->commits, 0);
		}
		kill_at_random(w->path, progress, &seed);
		step = atomic_load(&progress->step);
		good = count(w->path, &newest, &torn);
		met_slots += good == 2;
		/* A slot that was being written is none, and not a bad one. */
		assert_int_equal(torn, 0);
		if (step == 0)
			continue;
		/* It may have died between its commit and saying so here. */
		if (newest != step && newest != step + 1)
			fail_msg("kill %u: newest %llu, committed %llu", i,
			    (unsigned long long)newest, (unsigned long long)step);
		assert_int_equal(restore(w->path, newest), 0);
		if (atomic_load(&progress->commits) >= 3 && good < 2)
			fail_msg("kill %u: %u good slots", i, good);
		atomic_store(&progress->step, newest);
	}
	printf("%u of %u kills met a slot that was being written\n", met_slots, KILLS);
	assert_true(met_slots > KILLS / 10);
	munmap(progress, sizeof(*progress));
}

/* --- no room --------------------------------------------------------------------------------------------- */

/* In a child: a file system of one megabyte that nobody else sees. */
static int fill_small_file_system(struct trainee *t)
{
	char path[128];
	struct slots s;
	uint64_t newest;
	int fd;

	if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
	    mount("none", t->directory, "tmpfs", 0, "size=1m,mode=0700") != 0)
		return 77;
	snprintf(path, sizeof(path), "%s/s", t->directory);
	save_three(path);
	slots_init(&s, path);
	if (slots_begin(&s, 4, 1u << 20) != -ENOSPC || slots_begin(&s, 4, 400000) != -ENOSPC)
		return 1;
	if (count_good(path, &newest) != 3)
		return 2;
	/* What fits still works, with nothing left over from what did not. */
	if (save(&s, 4, 300000) != 0 || save(&s, 5, 300000) != 0 || restore(path, 5) != 0)
		return 3;
	slots_fini(&s);
	/* Full to the last page: what is there already goes on being used. */
	snprintf(path, sizeof(path), "%s/rest", t->directory);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	for (off_t at = 0; posix_fallocate(fd, at, 4096) == 0; at += 4096)
		continue;
	close(fd);
	snprintf(path, sizeof(path), "%s/s", t->directory);
	slots_init(&s, path);
	if (save(&s, 6, 300000) != 0 || restore(path, 6) != 0)
		return 4;
	slots_fini(&s);
	return 0;
}

/* In a child: files of more than a megabyte are not allowed, by a limit whose overstepping is a signal, too. */
static int hit_size_limit(struct trainee *t)
{
	struct rlimit limit = {.rlim_cur = 1u << 20, .rlim_max = 1u << 20};
	struct slots s;
	uint64_t newest;

	save_three(t->snapshot_path);
	if (setrlimit(RLIMIT_FSIZE, &limit) != 0)
		return 1;
	slots_init(&s, t->snapshot_path);
	if (slots_begin(&s, 4, 1u << 20) != -ENOSPC)
		return 2;
	if (count_good(t->snapshot_path, &newest) != 3 || newest != 3)
		return 3;
	if (save(&s, 4, STATE_BYTES) != 0)
		return 4;
	slots_fini(&s);
	return 0;
}

static void no_room_is_an_error_and_the_old_ones_stand(void **state)
{
	struct trainee t;
	int status;

	(void)state;
	trainee_init(&t, START_SCRATCH, 0, NULL);
	status = trainee_run(&t, hit_size_limit);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		fail_msg("with a limit: wait status %d", status);
	status = trainee_run(&t, fill_small_file_system);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		printf("skipped, needs root: a small file system\n");
	else if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		fail_msg("on a small file system: wait status %d", status);
	trainee_fini(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(what_is_saved_is_read_back_in_any_pieces, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(wrong_calls_are_refused_and_harm_nothing, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(
		steps_that_are_made_again_replace_themselves, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(
		restoring_ends_when_its_slot_is_written_again, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(
		a_larger_state_gets_a_new_file_with_its_first_commit, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(
		every_flipped_byte_of_a_header_is_refused, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(
		sampled_flipped_bytes_of_a_body_are_refused, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(
		a_file_cut_anywhere_is_never_taken_for_whole, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(garbage_is_nobodys_snapshot, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(sizes_are_believed_within_bounds_only, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(
		a_file_that_shrinks_meanwhile_ends_nobody, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(
		a_writer_killed_anywhere_costs_one_slot_at_most, set_up, tear_down),
	    cmocka_unit_test(no_room_is_an_error_and_the_old_ones_stand),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
