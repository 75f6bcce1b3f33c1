/*
 * What a snapshot costs, digest included, beside memcpy() of the same bytes into shared memory that is mapped
 * and filled already; and what restoring it costs, verification included.
 *
 * The kinds are measured in turn, so that whatever else the machine does meets them alike.  Each snapshot goes into
 * another slot, as in a run; the baseline goes round three targets in the same way.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/bench/bench.h"
#include "trainer/slots.h"

#define MIB (1024.0 * 1024.0)
#define ROUNDS_MAX 60u
#define TARGETS 3u

struct samples {
	double copy[ROUNDS_MAX], snapshot[ROUNDS_MAX], restore[ROUNDS_MAX], copy_back[ROUNDS_MAX];
	double survey[ROUNDS_MAX];
};

/* Bytes a second, in GB. */
static double rate(size_t bytes, uint64_t ns)
{
	return (double)bytes / (double)ns;
}

static int save(struct slots *slots, uint64_t step, const unsigned char *state, size_t bytes)
{
	int error = slots_begin(slots, step, bytes);

	if (error == 0)
		error = slots_write(slots, state, bytes);
	return error == 0 ? slots_commit(slots) : error;
}

static int load(struct slots *slots, uint64_t step, unsigned char *state)
{
	uint64_t bytes = 0;
	int error = slots_restore_begin(slots, step, &bytes);

	if (error == 0)
		error = slots_restore_read(slots, state, bytes);
	(void)slots_restore_end(slots);
	return error;
}

static unsigned char *map_shared(size_t bytes)
{
	void *map = mmap(
	    NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	return map != MAP_FAILED ? map : NULL;
}

/* What the agent's helper does before a restart. */
static int survey(const char *path)
{
	struct snapshot_finding finding[MEMORY_SLOTS];
	int error = snapshot_survey(path, finding);

	for (unsigned i = 0; i < MEMORY_SLOTS && error == 0; i++)
		if (finding[i].state == SNAPSHOT_TORN)
			error = -EBADMSG;
	return error;
}

static void print_row(const char *name, double *values, unsigned rounds, double against)
{
	bench_sort(values, rounds);
	double median = bench_percentile(values, rounds, 0.5);

	printf("  %-26s median %6.2f GB/s   slowest %6.2f GB/s   %5.1f %% of memcpy\n", name,
	    median, values[0], 100.0 * median / against);
}

static int measure(const char *path, size_t bytes, unsigned rounds)
{
	static struct samples s;
	unsigned char *state = map_shared(bytes), *target = map_shared(bytes * TARGETS);
	struct slots slots;
	int error = state == NULL || target == NULL ? -ENOMEM : 0;

	slots_init(&slots, path);
	for (size_t i = 0; error == 0 && i < bytes; i += 8)
		memcpy(state + i, &(uint64_t){i * 0x9e3779b97f4a7c15u}, 8);
	/* The first one has to get the memory: it is not like the others. */
	uint64_t t_first = bench_now_ns();

	if (error == 0)
		error = save(&slots, 1, state, bytes);
	t_first = bench_now_ns() - t_first;
	for (unsigned i = 0; error == 0 && i < rounds; i++) {
		uint64_t t0 = bench_now_ns();

		memcpy(target + bytes * (i % TARGETS), state, bytes);
		uint64_t t1 = bench_now_ns();

		error = save(&slots, i + 2, state, bytes);
		uint64_t t2 = bench_now_ns();

		memcpy(state, target + bytes * (i % TARGETS), bytes);
		uint64_t t3 = bench_now_ns();

		if (error == 0)
			error = load(&slots, i + 2, state);
		uint64_t t4 = bench_now_ns();

		if (error == 0)
			error = survey(path);
		uint64_t t5 = bench_now_ns();

		s.copy[i] = rate(bytes, t1 - t0);
		s.snapshot[i] = rate(bytes, t2 - t1);
		s.copy_back[i] = rate(bytes, t3 - t2);
		s.restore[i] = rate(bytes, t4 - t3);
		s.survey[i] = rate(bytes * MEMORY_SLOTS, t5 - t4);
	}
	slots_fini(&slots);
	unlink(path);
	if (error == 0) {
		printf("%.0f MiB, %u rounds; the first snapshot, which gets the memory: %.1f ms\n",
		    (double)bytes / MIB, rounds, (double)t_first / 1e6);
		bench_sort(s.copy, rounds);
		double against = bench_percentile(s.copy, rounds, 0.5);

		print_row("memcpy (baseline)", s.copy, rounds, against);
		print_row("snapshot", s.snapshot, rounds, against);
		print_row("memcpy back", s.copy_back, rounds, against);
		print_row("restore, verified", s.restore, rounds, against);
		print_row("survey of three", s.survey, rounds, against);
		printf("  target: snapshot at least 70 %% of memcpy: %s\n",
		    bench_percentile(s.snapshot, rounds, 0.5) >= 0.7 * against ? "reached"
									       : "not reached");
	}
	if (state != NULL)
		munmap(state, bytes);
	if (target != NULL)
		munmap(target, bytes * TARGETS);
	return error;
}

int main(void)
{
	char path[64];
	int error;

	snprintf(path, sizeof(path), "/dev/shm/bench-snapshot-%d", (int)getpid());
	bench_print_head("saving a state into memory that outlives the process, digest included",
	    "memcpy, snapshot, memcpy back and restore in turn, one thread");
	error = measure(path, (size_t)24 << 20, ROUNDS_MAX);
	if (error == 0)
		error = measure(path, (size_t)256 << 20, 15);
	if (error != 0)
		fprintf(stderr, "bench_snapshot: %s: %s\n", path, strerror(-error));
	return error != 0;
}
