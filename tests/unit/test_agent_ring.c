/*
 * The agent's end of a channel: each report once, in order, however it is acknowledged and rewound (H2, H3); and
 * whatever a trainer writes over the whole mapping, at any moment, it ends in one notice of damage (H10).
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
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "supervisor/agent/ring.h"
#include "tests/unit/samples.h"

#define ROUNDS 2000u
#define BATCH 256u

static struct cause why;

/* A ring of a fresh file; remove with ring_close(). */
static char *ring_open(struct ring *ring)
{
	struct channel_head head = {.rank = 3, .rank_count = 4, .attempt = 9};
	char *dir = sample_directory(), path[512];

	snprintf(path, sizeof(path), "%s/channel", dir);
	assert_int_equal(ring_create(ring, path, &head, &why), STATUS_OK);
	assert_int_equal(ring->rank, 3);
	assert_int_equal(ring->attempt, 9);
	return dir;
}

static void ring_close(struct ring *ring, char *dir)
{
	ring_fini(ring, true);
	sample_remove(dir); /* fails when more than the empty directory is left */
}

/* What a trainer does; false when the ring is full: then the report takes its number all the same. */
static bool produce(struct channel *map, uint64_t *ring_seq, struct iteration it)
{
	uint64_t head = atomic_load(&map->control.head);

	it.ring_seq = ++*ring_seq;
	it.check = CHANNEL_MAGIC ^ it.ring_seq;
	if (head - atomic_load(&map->control.tail) == CHANNEL_RING) {
		atomic_store(&map->control.lost_seq, it.ring_seq);
		return false;
	}
	map->ring[head % CHANNEL_RING] = it;
	atomic_store_explicit(&map->control.head, head + 1, memory_order_release);
	return true;
}

static const struct iteration step = {.kind = ITERATION_STEP, .step = 1};

static void mail(struct channel *map, uint64_t mail_seq, const char *path)
{
	struct channel_mail *slot = &map->mail[mail_seq % CHANNEL_MAIL];

	slot->mail_seq = mail_seq;
	snprintf(slot->path, sizeof(slot->path), "%s", path);
}

static struct iteration announcement(uint64_t mail_seq)
{
	return (struct iteration){.kind = ITERATION_CHECKPOINT,
	    .step = 5,
	    .fields = 1,
	    .previous = (uint32_t)(mail_seq % CHANNEL_MAIL),
	    .mail_seq = mail_seq};
}

static void in_order_and_once(void **state)
{
	struct ring ring;
	char *dir = ring_open(&ring), path[RECORD_TEXT_MAX];
	struct iteration out[BATCH];
	uint64_t made = 0, seen = 0;

	(void)state;
	assert_false(ring_has_more(&ring));
	for (unsigned round = 0; round < 500; round++) {
		for (unsigned i = 0; i < round % 300; i++)
			assert_true(produce(ring.map, &made, step));
		assert_int_equal(ring_has_more(&ring), round % 300 != 0);
		for (uint32_t count; (count = ring_read(&ring, out, BATCH, path)) > 0;)
			for (uint32_t i = 0; i < count; i++)
				assert_int_equal(out[i].ring_seq, ++seen);
		assert_int_equal(seen, made);
		ring_ack(&ring, seen);
		assert_int_equal(atomic_load(&ring.map->control.tail), made);
	}
	assert_false(ring.damaged);
	ring_close(&ring, dir);
}

/* A reader that follows the supervisor's rule: what it has is not taken twice, what it acknowledged is there. */
static void acknowledged_and_rewound(void **state)
{
	uint64_t seed = sample_seed(99);

	(void)state;
	for (unsigned round = 0; round < 100; round++) {
		struct ring ring;
		char *dir = ring_open(&ring), path[RECORD_TEXT_MAX];
		struct iteration out[64];
		uint64_t made = 0, taken = 0, holes = 0, lost = 0;

		for (unsigned turn = 0; turn < 400; turn++) {
			uint64_t dice = sample_random(&seed) % 10;

			if (dice < 5) {
				for (uint64_t n = sample_random(&seed) % 100; n > 0; n--)
					if (!produce(ring.map, &made, step))
						lost++;
			} else if (dice < 7) {
				uint32_t count = ring_read(&ring, out, 64, path);

				for (uint32_t i = 0; i < count; i++) {
					if (out[i].ring_seq <= taken)
						continue; /* rewound */
					holes += out[i].ring_seq - taken - 1;
					taken = out[i].ring_seq;
				}
			} else if (dice < 9) {
				ring_ack(&ring, taken - sample_random(&seed) % (taken + 1));
			} else {
				ring_rewind(&ring);
			}
			if (ring.damaged)
				fail_msg("round %u, turn %u: damage at %llu", round, turn,
				    (unsigned long long)ring.damage_offset);
			assert_true(ring.tail <= ring.sent);
		}
		ring_ack(&ring, taken);
		ring_end(&ring);
		for (uint32_t count; (count = ring_read(&ring, out, 64, path)) > 0;)
			for (uint32_t i = 0; i < count; i++)
				if (out[i].ring_seq > taken) {
					holes += out[i].ring_seq - taken -
					    (out[i].kind != ITERATION_LOST);
					taken = out[i].ring_seq;
				}
		assert_int_equal(taken, made);
		assert_int_equal(holes, lost);
		ring_close(&ring, dir);
	}
}

/* An acknowledgement that was on its way when the reports were asked for again. */
static void acknowledged_after_a_rewind(void **state)
{
	struct ring ring;
	char *dir = ring_open(&ring), path[RECORD_TEXT_MAX];
	struct iteration out[BATCH];
	uint64_t made = 0;

	(void)state;
	for (unsigned i = 0; i < 100; i++)
		assert_true(produce(ring.map, &made, step));
	assert_int_equal(ring_read(&ring, out, BATCH, path), 100);
	ring_rewind(&ring);
	ring_ack(&ring, 60);
	assert_int_equal(ring.tail, 60);
	ring_rewind(&ring);
	assert_int_equal(ring_read(&ring, out, BATCH, path), 40);
	assert_int_equal(out[0].ring_seq, 61);
	assert_false(ring.damaged);
	ring_close(&ring, dir);
}

static void a_full_ring_leaves_a_hole(void **state)
{
	struct ring ring;
	char *dir = ring_open(&ring), path[RECORD_TEXT_MAX];
	struct iteration out[BATCH];
	uint64_t made = 0, seen = 0;

	(void)state;
	for (unsigned i = 0; i < CHANNEL_RING; i++)
		assert_true(produce(ring.map, &made, step));
	for (unsigned i = 0; i < 10; i++)
		assert_false(produce(ring.map, &made, step));
	for (uint32_t count; (count = ring_read(&ring, out, BATCH, path)) > 0;)
		seen = out[count - 1].ring_seq;
	assert_int_equal(seen, CHANNEL_RING);
	ring_ack(&ring, seen);
	assert_true(produce(ring.map, &made, step));
	assert_int_equal(ring_read(&ring, out, BATCH, path), 1);
	assert_int_equal(out[0].ring_seq, CHANNEL_RING + 11);
	ring_close(&ring, dir);
}

/* What was lost behind the last slot is told of when nothing more can come, until it is durable. */
static void the_end_shows_what_was_lost(void **state)
{
	struct ring ring;
	char *dir = ring_open(&ring), path[RECORD_TEXT_MAX];
	struct iteration out[BATCH];
	uint64_t made = 0;

	(void)state;
	for (unsigned i = 0; i < CHANNEL_RING + 7; i++)
		(void)produce(ring.map, &made, step);
	while (ring_read(&ring, out, BATCH, path) > 0) {
	}
	assert_false(ring_has_more(&ring)); /* a slot may still follow */
	ring_end(&ring);
	for (unsigned again = 0; again < 2; again++) {
		assert_true(ring_has_more(&ring));
		assert_int_equal(ring_read(&ring, out, BATCH, path), 1);
		assert_int_equal(out[0].kind, ITERATION_LOST);
		assert_int_equal(out[0].ring_seq, CHANNEL_RING + 7);
		assert_false(ring_has_more(&ring));
		ring_ack(&ring, CHANNEL_RING);
		ring_rewind(&ring);
	}
	ring_ack(&ring, CHANNEL_RING + 7);
	ring_rewind(&ring);
	assert_false(ring_has_more(&ring));
	assert_int_equal(ring_read(&ring, out, BATCH, path), 0);
	assert_false(ring.damaged);
	ring_close(&ring, dir);
}

static void checkpoints_come_alone(void **state)
{
	struct ring ring;
	char *dir = ring_open(&ring), path[RECORD_TEXT_MAX];
	struct iteration out[BATCH];
	uint64_t made = 0;

	(void)state;
	mail(ring.map, 1, "/a/one");
	assert_true(produce(ring.map, &made, step));
	assert_true(produce(ring.map, &made, announcement(1)));
	assert_true(produce(ring.map, &made, step));
	assert_int_equal(ring_read(&ring, out, BATCH, path), 1);
	assert_int_equal(out[0].kind, ITERATION_STEP);
	assert_int_equal(ring_read(&ring, out, BATCH, path), 1);
	assert_int_equal(out[0].kind, ITERATION_CHECKPOINT);
	assert_string_equal(path, "/a/one");
	assert_int_equal(ring_read(&ring, out, BATCH, path), 1);
	assert_int_equal(out[0].ring_seq, 3);
	ring_close(&ring, dir);
}

static void an_overwritten_mail_slot(void **state)
{
	struct ring ring;
	char *dir = ring_open(&ring), path[RECORD_TEXT_MAX];
	struct iteration out[BATCH];
	uint64_t made = 0;

	(void)state;
	mail(ring.map, 1, "/a/one");
	assert_true(produce(ring.map, &made, announcement(1)));
	mail(ring.map, 1 + CHANNEL_MAIL, "/a/seventeen");
	assert_true(produce(ring.map, &made, announcement(1 + CHANNEL_MAIL)));
	assert_int_equal(ring_read(&ring, out, BATCH, path), 1);
	assert_string_equal(path, "(path overwritten)");
	assert_int_equal(ring_read(&ring, out, BATCH, path), 1);
	assert_string_equal(path, "/a/seventeen");
	/* A slot without an end, and one without a path. */
	mail(ring.map, 18, "x");
	memset(ring.map->mail[2].path, 'x', sizeof(ring.map->mail[2].path));
	assert_true(produce(ring.map, &made, announcement(18)));
	assert_int_equal(ring_read(&ring, out, BATCH, path), 1);
	assert_true(strlen(path) < RECORD_TEXT_MAX);
	mail(ring.map, 19, "");
	assert_true(produce(ring.map, &made, announcement(19)));
	assert_int_equal(ring_read(&ring, out, BATCH, path), 1);
	assert_string_equal(path, "(path overwritten)");
	assert_false(ring.damaged);
	ring_close(&ring, dir);
}

/* --- damage --------------------------------------------------------------------------------------------- */

static void each_wrong_field(void **state)
{
	(void)state;
	for (unsigned what = 0; what < 10; what++) {
		struct ring ring;
		char *dir = ring_open(&ring), path[RECORD_TEXT_MAX];
		struct iteration out[BATCH];
		uint64_t made = 0;

		for (unsigned i = 0; i < 10; i++)
			assert_true(produce(ring.map, &made, step));
		struct iteration *slot = &ring.map->ring[5];

		switch (what) {
		case 0: /* control: nothing */
			break;
		case 1:
			slot->check ^= 1;
			break;
		case 2:
			slot->ring_seq = 5; /* as the one before */
			slot->check = CHANNEL_MAGIC ^ 5;
			break;
		case 3:
			slot->kind = 0;
			break;
		case 4:
			slot->kind = 4;
			break;
		case 5:
			slot->step = STEP_NONE;
			break;
		case 6:
			slot->phase = PHASE_COUNT;
			break;
		case 7:
			slot->previous = UINT32_MAX;
			break;
		case 8:
			atomic_store(&ring.map->control.head, CHANNEL_RING + 1);
			break;
		default:
			atomic_store(&ring.map->control.head, UINT64_MAX);
			break;
		}
		uint32_t count = ring_read(&ring, out, BATCH, path);

		assert_int_equal(count, what == 0 ? 10 : what < 8 ? 5 : 0);
		assert_int_equal(ring.damaged, what != 0);
		if (ring.damaged) {
			size_t slot_offset = CHANNEL_RING_OFFSET + 5 * sizeof(struct iteration);

			assert_int_equal(ring.damage_offset,
			    what < 8 ? slot_offset : offsetof(struct channel, control.head));
			assert_false(ring_has_more(&ring));
			assert_int_equal(ring_read(&ring, out, BATCH, path), 0);
			ring_rewind(&ring); /* closed for the rest of the attempt */
			assert_int_equal(ring_read(&ring, out, BATCH, path), 0);
		}
		ring_close(&ring, dir);
	}
}

static void scribble(struct channel *map, uint64_t *seed)
{
	uint8_t *bytes = (uint8_t *)map;
	size_t from = 0, size = sizeof(*map);

	switch (sample_random(seed) % 6) {
	case 0: /* everything */
		break;
	case 1: /* the control words only */
		from = offsetof(struct channel, control);
		size = sizeof(map->control);
		break;
	case 2:
		atomic_store(&map->control.head, sample_random(seed) >> sample_random(seed) % 64);
		return;
	case 3:
		atomic_store(&map->control.tail, sample_random(seed) >> sample_random(seed) % 64);
		return;
	case 4: /* a word somewhere near the start of the ring, where the reader is */
		from = CHANNEL_RING_OFFSET + sample_random(seed) % (64 * sizeof(struct iteration));
		size = 8;
		break;
	default:
		from = sample_random(seed) % sizeof(*map);
		size = sample_random(seed) % (sizeof(*map) - from);
		break;
	}
	uint64_t noise = sample_random(seed);
	unsigned style = (unsigned)(noise % 3);

	if (style < 2) {
		memset(bytes + from, style == 0 ? 0xff : (int)(noise >> 8 & 0xff), size);
		return;
	}
	for (size_t i = 0; i + 8 <= size; i += 8) {
		noise = noise * 6364136223846793005ull + 1442695040888963407ull;
		memcpy(bytes + from + i, &noise, 8);
	}
}

/* Read until nothing comes: bounded, and each answer sound. */
static void drain(struct ring *ring)
{
	struct iteration out[BATCH];
	char path[RECORD_TEXT_MAX];
	uint64_t total = 0, last = ring->last_seq;

	for (uint32_t count; (count = ring_read(ring, out, BATCH, path)) > 0; total += count) {
		assert_true(count <= BATCH);
		assert_true(total <= 2 * CHANNEL_RING);
		for (uint32_t i = 0; i < count; i++) {
			assert_true(out[i].ring_seq > last);
			assert_true(
			    out[i].kind >= ITERATION_STEP && out[i].kind <= ITERATION_CHECKPOINT);
			last = out[i].ring_seq;
		}
		if (out[0].kind == ITERATION_CHECKPOINT)
			assert_true(memchr(path, '\0', sizeof(path)) != NULL);
	}
}

static void garbage_at_any_moment(void **state)
{
	uint64_t seed = sample_seed(31337);
	unsigned damaged = 0;
	struct ring ring;
	char *dir = ring_open(&ring), file[512];

	(void)state;
	snprintf(file, sizeof(file), "%s", ring.path);
	for (unsigned round = 0; round < ROUNDS; round++) {
		struct channel_head head = {.rank = 3, .rank_count = 4, .attempt = 9};
		uint64_t made = 0, last_offset = 0;
		bool was_damaged = false;

		ring_fini(&ring, true);
		assert_int_equal(ring_create(&ring, file, &head, &why), STATUS_OK);
		for (unsigned act = 0; act < 12; act++) {
			uint64_t dice = sample_random(&seed) % 6;

			if (dice == 0 || act == 6)
				scribble(ring.map, &seed);
			else if (dice < 3 && !was_damaged)
				for (unsigned i = 0; i < 20; i++)
					(void)produce(
					    ring.map, &made, i % 7 == 0 ? announcement(i) : step);
			else if (dice < 4)
				ring_ack(&ring, sample_random(&seed) >> sample_random(&seed) % 64);
			else if (dice < 5)
				ring_rewind(&ring);
			else
				drain(&ring);
			/* Damage is said once, and stays what it was. */
			if (was_damaged)
				assert_true(ring.damaged && ring.damage_offset == last_offset);
			was_damaged = ring.damaged;
			last_offset = ring.damage_offset;
			assert_true(ring.damage_offset < sizeof(struct channel));
			assert_true(ring.sent - ring.tail <= CHANNEL_RING);
		}
		drain(&ring);
		damaged += ring.damaged;
	}
	assert_true(damaged > ROUNDS / 4); /* the garbage did reach the reader */
	assert_true(damaged < ROUNDS);
	ring_close(&ring, dir);
}

/* The same from another process, while the reader reads. */
static void garbage_meanwhile(void **state)
{
	uint64_t seed = sample_seed(271828);
	struct ring ring;
	char *dir = ring_open(&ring);
	int pid = fork();

	(void)state;
	assert_true(pid >= 0);
	if (pid == 0)
		for (uint64_t made = 0;;) {
			for (unsigned i = 0; i < 1000; i++)
				(void)produce(ring.map, &made, step);
			scribble(ring.map, &seed);
		}
	for (unsigned i = 0; i < ROUNDS; i++) {
		drain(&ring);
		ring_ack(&ring, ring.last_seq);
		if (i % 7 == 0)
			ring_rewind(&ring);
		if (ring.damaged) { /* a new attempt would begin with a new ring */
			ring.damaged = false;
			ring.tail = ring.sent = ring.given = atomic_load(&ring.map->control.head);
			ring.last_seq = ring.durable_seq = 0;
		}
	}
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	ring_close(&ring, dir);
}

/* --- what another agent left ---------------------------------------------------------------------------- */

static void adopted(void **state)
{
	struct ring ring, next;
	char *dir = ring_open(&ring), path[RECORD_TEXT_MAX];
	struct iteration out[BATCH];
	uint64_t made = 0;

	(void)state;
	for (unsigned i = 0; i < 30; i++)
		assert_true(produce(ring.map, &made, step));
	assert_int_equal(ring_read(&ring, out, 20, path), 20);
	ring_ack(&ring, 10);
	assert_int_equal(ring_adopt(&next, ring.path, &why), STATUS_OK);
	assert_int_equal(next.rank, 3);
	assert_int_equal(next.attempt, 9);
	/* What was not durable comes again. */
	assert_int_equal(ring_read(&next, out, BATCH, path), 20);
	assert_int_equal(out[0].ring_seq, 11);
	ring_fini(&next, false);
	ring_close(&ring, dir);
}

static void not_adopted(void **state)
{
	struct ring ring, next = {0};
	char *dir = ring_open(&ring), *file = strdup(ring.path), link[600];

	(void)state;
	assert_int_equal(truncate(file, CHANNEL_SIZE_BYTES - 1), 0);
	assert_int_equal(ring_adopt(&next, file, &why), STATUS_BAD);
	assert_int_equal(truncate(file, CHANNEL_SIZE_BYTES + 4096), 0);
	assert_int_equal(ring_adopt(&next, file, &why), STATUS_BAD);
	assert_int_equal(truncate(file, 0), 0);
	assert_int_equal(ring_adopt(&next, file, &why), STATUS_BAD);
	assert_int_equal(truncate(file, CHANNEL_SIZE_BYTES), 0);
	assert_int_equal(ring_adopt(&next, file, &why), STATUS_BAD); /* no magic: zeros */
	assert_null(next.map);
	ring.map->head.magic = CHANNEL_MAGIC;
	ring.map->head.version = CHANNEL_VERSION + 1;
	assert_int_equal(ring_adopt(&next, file, &why), STATUS_BAD);
	ring.map->head.version = CHANNEL_VERSION;
	assert_int_equal(ring_adopt(&next, file, &why), STATUS_OK); /* control */
	ring_fini(&next, false);
	if (geteuid() == 0) {
		assert_int_equal(chown(file, 12345, (gid_t)-1), 0);
		assert_int_equal(ring_adopt(&next, file, &why), STATUS_BAD);
		assert_int_equal(chown(file, 0, (gid_t)-1), 0);
	}
	snprintf(link, sizeof(link), "%s/link", dir);
	assert_int_equal(symlink(file, link), 0);
	assert_int_equal(ring_adopt(&next, link, &why), STATUS_SYS);
	assert_int_equal(unlink(link), 0);
	assert_int_equal(ring_adopt(&next, link, &why), STATUS_SYS);
	free(file);
	ring_close(&ring, dir);
}

static void not_created(void **state)
{
	struct channel_head head = {.rank = 0, .rank_count = 1, .attempt = 1};
	struct ring ring, other;
	char *dir = ring_open(&ring), path[600];
	struct stat st;

	(void)state;
	assert_int_equal(stat(ring.path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(ring_create(&other, ring.path, &head, &why), STATUS_SYS);
	assert_int_equal(why.number, EEXIST);
	snprintf(path, sizeof(path), "%s/none/channel", dir);
	assert_int_equal(ring_create(&other, path, &head, &why), STATUS_SYS);
	assert_int_equal(why.number, ENOENT);
	ring_close(&ring, dir);
}

/* Its file shrinks under us, to nothing or in the middle of what is read: the rest is damage, and nothing more. */
static void cut_off(void **state)
{
	const off_t sizes[] = {0, 4096, CHANNEL_RING_OFFSET, CHANNEL_RING_OFFSET + 4096};
	struct iteration out[BATCH];
	char path[RECORD_TEXT_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct ring ring;
		char *dir = ring_open(&ring);
		uint64_t ring_seq = 0;
		uint32_t count = 0, got;

		while (ring_seq < 64)
			assert_true(produce(ring.map, &ring_seq, step));
		assert_int_equal(truncate(ring.path, sizes[i]), 0);
		while ((got = ring_read(&ring, out, 8, path)) != 0)
			count += got;
		assert_int_equal(count, i == 3 ? 4096 / sizeof(out[0]) : 0);
		assert_true(ring.damaged);
		ring_ack(&ring, ring_seq);
		assert_false(ring_has_more(&ring));
		ring_close(&ring, dir);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(in_order_and_once),
	    cmocka_unit_test(acknowledged_and_rewound),
	    cmocka_unit_test(acknowledged_after_a_rewind),
	    cmocka_unit_test(a_full_ring_leaves_a_hole),
	    cmocka_unit_test(the_end_shows_what_was_lost),
	    cmocka_unit_test(checkpoints_come_alone),
	    cmocka_unit_test(an_overwritten_mail_slot),
	    cmocka_unit_test(each_wrong_field),
	    cmocka_unit_test(garbage_at_any_moment),
	    cmocka_unit_test(garbage_meanwhile),
	    cmocka_unit_test(adopted),
	    cmocka_unit_test(not_adopted),
	    cmocka_unit_test(not_created),
	    cmocka_unit_test(cut_off),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
