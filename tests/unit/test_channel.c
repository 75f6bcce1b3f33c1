/*
 * The ring between a trainer's producer and the agent's reader: racing, overflowing, scribbled over (H3, H10,
 * H11); and how a channel is made.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "supervisor/agent/ring.h"
#include "tests/unit/trainee.h"
#include "trainer/producer.h"

#define RACED_REPORTS 200000u
#define BATCH_MAX 512u

static struct cause why;

static void make_ring(struct ring *ring, char path[64])
{
	struct channel_head head = {.rank = 1, .rank_count = 2, .attempt = 3};

	snprintf(path, 64, "/dev/shm/holdfast-unit-ring-XXXXXX");
	assert_non_null(mkdtemp(path));
	snprintf(path + strlen(path), 64 - strlen(path), "/ring");
	assert_int_equal(ring_create(ring, path, &head, &why), STATUS_OK);
}

static void end_ring(struct ring *ring, char path[64])
{
	ring_fini(ring, true);
	*strrchr(path, '/') = '\0';
	assert_int_equal(rmdir(path), 0);
}

/* Every field follows from the number, so that a torn or stale slot shows. */
static bool put_report(struct producer *p, uint64_t number)
{
	struct iteration *slot = producer_claim(p);

	if (slot == NULL)
		return false;
	*slot = (struct iteration){.kind = ITERATION_STEP,
	    .fields = FIELD_LOSS,
	    .step = number,
	    .monotonic_ns = number * 3,
	    .duration_ns = number * 5,
	    .loss = (double)number,
	    .tokens = number * 7,
	    .digest = ~number};
	producer_publish(p, slot);
	return true;
}

static void check_report(const struct iteration *it)
{
	assert_int_equal(it->ring_seq, it->step);
	assert_int_equal(it->monotonic_ns, it->step * 3);
	assert_int_equal(it->duration_ns, it->step * 5);
	assert_true(it->loss == (double)it->step);
	assert_int_equal(it->tokens, it->step * 7);
	assert_int_equal(it->digest, ~it->step);
}

static void a_channel_is_made_whole_or_not_at_all(void **unused)
{
	struct channel_head head = {.magic = 1, .version = 99, .rank = 7};
	struct rlimit before, low;
	char path[] = "/dev/shm/holdfast-unit-channel-XXXXXX";
	char file[64];
	struct stat st;
	mode_t mask;

	(void)unused;
	assert_non_null(mkdtemp(path));
	snprintf(file, sizeof(file), "%s/c", path);
	mask = umask(0777);
	assert_int_equal(channel_create(file, &head), 0);
	umask(mask);
	assert_int_equal(stat(file, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(st.st_size, CHANNEL_SIZE_BYTES);
	/* All of its memory is there: nobody meets a full file system later. */
	assert_true((uint64_t)st.st_blocks * 512u >= CHANNEL_SIZE_BYTES);
	assert_int_equal(channel_create(file, &head), -EEXIST);
	struct ring ring;

	assert_int_equal(ring_adopt(&ring, file, &why), STATUS_OK);
	assert_int_equal(ring.map->head.magic, CHANNEL_MAGIC);
	assert_int_equal(ring.map->head.version, CHANNEL_VERSION);
	assert_int_equal(ring.map->head.rank, 7);
	assert_int_equal(atomic_load(&ring.map->control.last_step), STEP_NONE);
	ring_fini(&ring, true);

	/* No room: no file. */
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	low = before;
	low.rlim_cur = CHANNEL_SIZE_BYTES / 2;
	(void)signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
	assert_int_equal(channel_create(file, &head), -EFBIG);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	(void)signal(SIGXFSZ, SIG_DFL);
	assert_int_equal(access(file, F_OK), -1);
	assert_int_equal(rmdir(path), 0);
}

static void a_full_ring_drops_and_the_hole_shows(void **unused)
{
	static struct iteration got[CHANNEL_RING];
	struct producer p;
	struct ring ring;
	char path[64], text[RECORD_TEXT_MAX];
	uint32_t count;

	(void)unused;
	make_ring(&ring, path);
	producer_init(&p, ring.map);
	for (uint64_t i = 1; i <= CHANNEL_RING; i++)
		assert_true(put_report(&p, i));
	for (uint64_t i = 1; i <= 100; i++)
		assert_false(put_report(&p, CHANNEL_RING + i));
	count = ring_read(&ring, got, CHANNEL_RING, text);
	assert_int_equal(count, CHANNEL_RING);
	for (uint32_t i = 0; i < count; i++)
		check_report(&got[i]);
	/* Given out is not durable: there is no room yet. */
	assert_false(put_report(&p, CHANNEL_RING + 101));
	ring_ack(&ring, 1);
	assert_true(put_report(&p, CHANNEL_RING + 102));
	assert_false(put_report(&p, CHANNEL_RING + 103));
	ring_ack(&ring, CHANNEL_RING);
	assert_true(put_report(&p, CHANNEL_RING + 104));
	count = ring_read(&ring, got, CHANNEL_RING, text);
	assert_int_equal(count, 2);
	assert_int_equal(got[0].ring_seq, CHANNEL_RING + 102);
	assert_int_equal(got[1].ring_seq, CHANNEL_RING + 104);
	assert_false(ring.damaged);
	end_ring(&ring, path);
}

struct race {
	struct producer producer;
	_Atomic uint32_t overflown, done;
	uint64_t dropped;
};

static void *produce(void *context)
{
	struct race *race = context;

	for (uint64_t i = 1; i <= RACED_REPORTS; i++) {
		if (put_report(&race->producer, i))
			continue;
		race->dropped++;
		atomic_store(&race->overflown, 1);
		/* Else the reader would see but a few reports of the many. */
		sched_yield();
	}
	atomic_store(&race->done, 1);
	return NULL;
}

/* A slow reader beside a fast writer: what arrives is whole and in order, and what does not is counted. */
static void a_racing_producer_loses_nothing_unseen(void **unused)
{
	static struct iteration got[BATCH_MAX];
	uint64_t seed = trainee_seed(1), seen = 0, holes = 0, last = 0;
	struct race race = {0};
	struct ring ring;
	char path[64], text[RECORD_TEXT_MAX];
	pthread_t thread;
	bool done;

	(void)unused;
	make_ring(&ring, path);
	producer_init(&race.producer, ring.map);
	assert_int_equal(pthread_create(&thread, NULL, produce, &race), 0);
	trainee_await_word(&race.overflown, 0);
	do {
		uint32_t count;

		done = atomic_load(&race.done) != 0;
		count = ring_read(&ring, got, (uint32_t)(1 + trainee_random(&seed) % BATCH_MAX), text);
		for (uint32_t i = 0; i < count; i++) {
			check_report(&got[i]);
			assert_true(got[i].ring_seq > last);
			holes += got[i].ring_seq - last - 1;
			last = got[i].ring_seq;
		}
		seen += count;
		if (trainee_random(&seed) % 4 == 0)
			ring_ack(&ring, last);
		/* A supervisor that died: what was not durable is given out again. */
		if (trainee_random(&seed) % 64 == 0) {
			uint64_t before = ring.sent;

			ring_rewind(&ring);
			seen -= before - ring.sent;
			last = ring.last_seq;
			holes = last - seen;
		}
		done = done && !ring_has_more(&ring);
	} while (!done);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_false(ring.damaged);
	printf("%llu reports seen, %llu dropped\n", (unsigned long long)seen,
	    (unsigned long long)race.dropped);
	assert_true(race.dropped > 0 && seen > CHANNEL_RING);
	assert_int_equal(seen + race.dropped, RACED_REPORTS);
	/* The holes that the reader saw, and those after the last report it saw. */
	assert_int_equal(holes + (RACED_REPORTS - last), race.dropped);
	end_ring(&ring, path);
}

/* Whatever is written over the words in the mapping, the producer stays within its ring and never waits. */
static void a_scribbled_mapping_leads_nobody_astray(void **unused)
{
	uint64_t seed = trainee_seed(2), published = 0;
	struct producer p;
	struct ring ring;
	char path[64];

	(void)unused;
	make_ring(&ring, path);
	producer_init(&p, ring.map);
	for (unsigned i = 0; i < 100000; i++) {
		struct iteration *slot;

		atomic_store(&ring.map->control.head, trainee_random(&seed));
		atomic_store(&ring.map->control.tail, i % 16 == 0 ? published : trainee_random(&seed));
		slot = producer_claim(&p);
		if (slot == NULL)
			continue;
		/* One after the other, whatever the words said. */
		assert_ptr_equal(slot, &ring.map->ring[published % CHANNEL_RING]);
		producer_publish(&p, slot);
		assert_int_equal(atomic_load(&ring.map->control.head), ++published);
	}
	assert_true(published > CHANNEL_RING);
	assert_int_equal(p.ring_seq, 100000);
	end_ring(&ring, path);
}

/* A producer that is killed anywhere is followed by one that goes on: nothing twice, and every hole shows. */
static void a_producer_goes_on_for_another(void **unused)
{
	static struct iteration got[CHANNEL_RING];
	uint64_t seed = trainee_seed(3), last = 0, seen = 0, holes = 0, made = 0;
	struct producer p;
	struct ring ring;
	char path[64], text[RECORD_TEXT_MAX];

	(void)unused;
	make_ring(&ring, path);
	for (unsigned life = 0; life < 300; life++) {
		assert_true(producer_resume(&p, ring.map));
		for (uint64_t reports = trainee_random(&seed) % 200; reports > 0; reports--, made++)
			(void)put_report(&p, p.ring_seq + 1);
		/* Killed between the claim and the publication: the number is taken again, the slot is nobody's. */
		if (life % 3 == 0 && p.head - atomic_load(&ring.map->control.tail) < CHANNEL_RING)
			memset(producer_claim(&p), 0xee, sizeof(struct iteration));
		if (life % 7 != 0 || life < 100)
			continue;
		uint32_t count = ring_read(&ring, got, CHANNEL_RING, text);

		for (uint32_t i = 0; i < count; i++, seen++) {
			check_report(&got[i]);
			assert_true(got[i].ring_seq > last);
			holes += got[i].ring_seq - last - 1;
			last = got[i].ring_seq;
		}
		ring_ack(&ring, last);
	}
	assert_false(ring.damaged);
	assert_true(producer_resume(&p, ring.map));
	printf("%llu made, %llu seen\n", (unsigned long long)made, (unsigned long long)seen);
	assert_int_equal(p.ring_seq, made);
	assert_true(holes > 0 && seen > CHANNEL_RING);
	assert_int_equal(last, seen + holes);
	/* Words that make no sense are not gone by. */
	uint64_t head = atomic_load(&ring.map->control.head);

	ring.map->ring[(head - 1) % CHANNEL_RING].check ^= 1;
	assert_false(producer_resume(&p, ring.map));
	ring.map->ring[(head - 1) % CHANNEL_RING].check ^= 1;
	assert_true(producer_resume(&p, ring.map));
	atomic_store(&ring.map->control.head, atomic_load(&ring.map->control.tail) + CHANNEL_RING + 1);
	assert_false(producer_resume(&p, ring.map));
	atomic_store(&ring.map->control.head, head);
	end_ring(&ring, path);
}

static void announced_paths_arrive_or_are_known_lost(void **unused)
{
	struct iteration it = {.kind = ITERATION_CHECKPOINT, .fields = 1};
	struct iteration got[4];
	struct producer p;
	struct ring ring;
	char path[64], text[RECORD_TEXT_MAX], wanted[32];

	(void)unused;
	make_ring(&ring, path);
	producer_init(&p, ring.map);
	for (unsigned i = 0; i < CHANNEL_MAIL + 3; i++) {
		int length = snprintf(wanted, sizeof(wanted), "/checkpoint-%u", i);

		it.step = i;
		assert_true(put_report(&p, p.ring_seq + 1));
		assert_true(producer_mail(&p, &it, wanted, (size_t)length));
	}
	for (unsigned i = 0; i < CHANNEL_MAIL + 3; i++) {
		snprintf(wanted, sizeof(wanted), "/checkpoint-%u", i);
		assert_int_equal(ring_read(&ring, got, 4, text), 1);
		assert_int_equal(got[0].kind, ITERATION_STEP);
		assert_int_equal(ring_read(&ring, got, 4, text), 1);
		assert_int_equal(got[0].kind, ITERATION_CHECKPOINT);
		assert_int_equal(got[0].step, i);
		/* The first three were overwritten by the last three. */
		assert_string_equal(text, i < 3 ? "(path overwritten)" : wanted);
	}
	ring_ack(&ring, p.ring_seq);
	while (put_report(&p, p.ring_seq + 1))
		continue;
	assert_false(producer_mail(&p, &it, "/lost", 5));
	/* Its place was not taken either: the path before it still stands. */
	assert_int_equal(p.mail_seq, CHANNEL_MAIL + 3);
	end_ring(&ring, path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_channel_is_made_whole_or_not_at_all),
	    cmocka_unit_test(a_full_ring_drops_and_the_hole_shows),
	    cmocka_unit_test(a_racing_producer_loses_nothing_unseen),
	    cmocka_unit_test(a_scribbled_mapping_leads_nobody_astray),
	    cmocka_unit_test(a_producer_goes_on_for_another),
	    cmocka_unit_test(announced_paths_arrive_or_are_known_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
