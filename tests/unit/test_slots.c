/*
 * Which slot a snapshot may cost, what is believed of a file, and the digest in all the ways it is computed (H8, H10).
 * The rest of the snapshots is tested in test_snapshot.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <cmocka.h>

#include "trainer/slots.h"

#define STATE_BYTES 5000u

static char directory[64], path[96];

/* The state after a step: every byte follows from it. */
static void make_state(unsigned char *state, size_t bytes, uint64_t step)
{
	for (size_t i = 0; i < bytes; i++)
		state[i] = (unsigned char)(i * 31 + (i >> 8) + step * 7);
}

static int save(struct slots *s, uint64_t step)
{
	unsigned char state[STATE_BYTES];
	int error = slots_begin(s, step, sizeof(state));

	make_state(state, sizeof(state), step);
	if (error == 0)
		error = slots_write(s, state, sizeof(state));
	return error == 0 ? slots_commit(s) : error;
}

/* Restore a step and compare all of it; the error when it is refused. */
static int restore(uint64_t step)
{
	unsigned char wanted[STATE_BYTES], got[STATE_BYTES];
	uint64_t size_bytes = 0;
	struct slots s;
	int error;

	slots_init(&s, path);
	error = slots_restore_begin(&s, step, &size_bytes);
	if (error == 0) {
		make_state(wanted, sizeof(wanted), step);
		assert_int_equal(size_bytes, sizeof(got));
		assert_int_equal(slots_restore_read(&s, got, sizeof(got)), 0);
		assert_memory_equal(got, wanted, sizeof(got));
	}
	slots_fini(&s);
	return error;
}

static void save_steps(uint64_t first, uint64_t last)
{
	struct slots s;

	slots_init(&s, path);
	for (uint64_t step = first; step <= last; step++)
		assert_int_equal(save(&s, step), 0);
	slots_fini(&s);
}

static int setup(void **unused)
{
	(void)unused;
	snprintf(directory, sizeof(directory), "/dev/shm/holdfast-unit-slots-XXXXXX");
	if (mkdtemp(directory) == NULL)
		return -1;
	snprintf(path, sizeof(path), "%s/s", directory);
	return 0;
}

static int teardown(void **unused)
{
	(void)unused;
	(void)unlink(path);
	return rmdir(directory);
}

/* Mutation: a byte less in either way of computing it. */
static void digests_are_xxh3(void **unused)
{
	static unsigned char bytes[100000];
	struct bodyhash hash;
	uint8_t digest[16];
	XXH128_canonical_t wanted;

	(void)unused;
	make_state(bytes, sizeof(bytes), 3);
	for (size_t size = 1; size <= sizeof(bytes); size = size * 3 + 1) {
		XXH128_canonicalFromHash(&wanted, XXH3_128bits(bytes, size));
		bodyhash_init(&hash);
		for (size_t at = 0; at < size; at += 777)
			bodyhash_update(&hash, bytes + at, size - at < 777 ? size - at : 777);
		bodyhash_final(&hash, digest);
		assert_memory_equal(digest, wanted.digest, sizeof(digest));
#if defined(__x86_64__)
		if (!__builtin_cpu_supports("avx2"))
			continue;
#endif
		bodyhash_init(&hash);
		bodyhash_update_wide(&hash, bytes, size);
		bodyhash_final(&hash, digest);
		assert_memory_equal(digest, wanted.digest, sizeof(digest));
	}
	assert_int_equal(bodyhash_short(bytes, 40), XXH3_64bits(bytes, 40));
}

/* After a step back far enough, what was ahead goes first, and never what the new attempt has just made.
 * Mutation: choosing the oldest step overwrites 51 with 52. */
static void a_step_back_overwrites_what_was_ahead(void **unused)
{
	struct slots s;

	(void)unused;
	save_steps(99, 101);
	slots_init(&s, path);
	for (uint64_t step = 51; step <= 53; step++) {
		assert_int_equal(save(&s, step), 0);
		for (uint64_t made = 51; made <= step; made++)
			assert_int_equal(restore(made), 0);
	}
	slots_fini(&s);
	for (uint64_t step = 99; step <= 101; step++)
		assert_int_equal(restore(step), -ENOENT);
}

/* Who removes the file, a fault or a person, does not get snapshots into nowhere.
 * Mutation: without the look at the file's name, what follows is not found. */
static void a_removed_file_is_made_again(void **unused)
{
	struct slots s;

	(void)unused;
	slots_init(&s, path);
	assert_int_equal(save(&s, 1), 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(save(&s, 2), 0);
	assert_int_equal(restore(2), 0);
	/* Cut short: writing on would be a SIGBUS. */
	assert_int_equal(truncate(path, 100), 0);
	assert_int_equal(save(&s, 3), 0);
	assert_int_equal(restore(3), 0);
	slots_fini(&s);
}

/* Headers whose checksums hold and whose numbers don't. */
static void sound_checksums_are_not_believed(void **unused)
{
	const uint64_t slot_bytes[] = {0, 1, 4095, UINT64_MAX, UINT64_MAX - 4095, 1ull << 62};
	struct snapshot_finding found[MEMORY_SLOTS];
	struct snapshot_file file, wrong;
	struct snapshot_slot slot;
	int fd;

	(void)unused;
	save_steps(1, 3);
	fd = snapshot_open(path, O_RDWR, &file);
	assert_true(fd >= 0);
	for (size_t i = 0; i < sizeof(slot_bytes) / sizeof(slot_bytes[0]); i++) {
		wrong = file;
		wrong.slot_bytes = slot_bytes[i];
		wrong.checksum = snapshot_file_checksum(&wrong);
		assert_int_equal(pwrite(fd, &wrong, sizeof(wrong), 0), sizeof(wrong));
		assert_int_equal(restore(1), -EBADMSG);
		assert_int_equal(snapshot_survey(path, found), -EBADMSG);
	}
	/* The control: the right one. */
	assert_int_equal(pwrite(fd, &file, sizeof(file), 0), sizeof(file));
	assert_int_equal(restore(1), 0);
	assert_int_equal(snapshot_read_slot(fd, &file, 0, &slot), 0);
	slot.size_bytes = file.slot_bytes + 1;
	slot.checksum = snapshot_slot_checksum(&slot);
	assert_int_equal(
	    pwrite(fd, &slot, sizeof(slot), (off_t)snapshot_slot_offset(0)), sizeof(slot));
	assert_int_equal(restore(1), -ENOENT);
	assert_int_equal(restore(2), 0);
	close(fd);
	/* Nor is anything waited for that is no file. */
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(snapshot_survey(path, found), -EBADMSG);
	assert_int_equal(restore(1), -EBADMSG);
}

#define SLOTS_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    SLOTS_TEST(digests_are_xxh3),
	    SLOTS_TEST(a_step_back_overwrites_what_was_ahead),
	    SLOTS_TEST(a_removed_file_is_made_again),
	    SLOTS_TEST(sound_checksums_are_not_believed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
