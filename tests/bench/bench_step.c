/*
 * What holdfast_step() costs its caller, beside reading the clock and beside writing a log line to a file.
 *
 * One call is shorter than the clock can tell, so that a sample is a batch of calls and its figure the mean of
 * the batch; the three are measured in turn, batch by batch, so that whatever else the machine does meets all alike.
 * The ring is emptied between the batches by moving the agent's cursor, as an agent that keeps up does.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "tests/bench/bench.h"
#include "trainer/channel.h"
#include "trainer/holdfast.h"

#define BATCHES 2000u
#define BATCH 100u

static void report_steps(struct holdfast *hf, uint64_t first)
{
	struct holdfast_step step = {.fields = HOLDFAST_LOSS | HOLDFAST_GRAD_NORM |
		HOLDFAST_LEARNING_RATE | HOLDFAST_TOKENS | HOLDFAST_DATA_CURSOR | HOLDFAST_DIGEST |
		HOLDFAST_COMPUTE,
	    .loss = 2.5,
	    .grad_norm = 1.0,
	    .learning_rate = 1e-4,
	    .tokens = 4096,
	    .compute_ns = 1000};

	for (unsigned i = 0; i < BATCH; i++) {
		step.step = first + i;
		step.data_cursor = step.step * 4096;
		step.digest = step.step;
		holdfast_step(hf, &step);
	}
}

static void read_clock(void)
{
	struct timespec ts;

	for (unsigned i = 0; i < BATCH; i++)
		clock_gettime(CLOCK_MONOTONIC, &ts);
}

static void write_lines(int fd, uint64_t first)
{
	char line[128];
	ssize_t written = 0;

	for (unsigned i = 0; i < BATCH; i++) {
		int length = snprintf(
		    line, sizeof(line), "iter %" PRIu64 ": loss 2.5000, time 27.11ms\n", first + i);

		written += write(fd, line, (size_t)length);
	}
	if (written <= 0)
		perror("bench_step: write");
}

static void print_row(const char *name, double *values, double against)
{
	bench_sort(values, BATCHES);
	double p50 = bench_percentile(values, BATCHES, 0.5);

	printf("  %-28s p50 %8.1f ns   p99 %8.1f ns   %6.2f x clock_gettime\n", name, p50,
	    bench_percentile(values, BATCHES, 0.99), p50 / against);
}

static void measure(struct holdfast *hf, struct channel *map, int log)
{
	static double step[BATCHES], clock[BATCHES], line[BATCHES];
	double median;

	for (unsigned i = 0; i < BATCHES; i++) {
		uint64_t t0 = bench_now_ns();

		report_steps(hf, (uint64_t)i * BATCH);
		uint64_t t1 = bench_now_ns();

		read_clock();
		uint64_t t2 = bench_now_ns();

		write_lines(log, (uint64_t)i * BATCH);
		uint64_t t3 = bench_now_ns();

		step[i] = (double)(t1 - t0) / BATCH;
		clock[i] = (double)(t2 - t1) / BATCH;
		line[i] = (double)(t3 - t2) / BATCH;
		atomic_store(&map->control.tail, atomic_load(&map->control.head));
	}
	bench_sort(clock, BATCHES);
	median = bench_percentile(clock, BATCHES, 0.5);
	print_row("clock_gettime (baseline)", clock, median);
	print_row("holdfast_step", step, median);
	print_row("snprintf + write(2) to a file", line, median);
	printf("  target: holdfast_step at most 50 ns p50, no system call: %s\n",
	    bench_percentile(step, BATCHES, 0.5) <= 50 ? "reached" : "not reached");
}

int main(void)
{
	struct channel_head head = {.rank_count = 1, .attempt = 1};
	char path[64], log_path[] = "/tmp/bench-step-XXXXXX";
	struct channel *map = MAP_FAILED;
	struct holdfast *hf;
	int log = mkstemp(log_path);
	int error, fd;

	snprintf(path, sizeof(path), "/dev/shm/bench-step-%d", (int)getpid());
	error = channel_create(path, &head);
	fd = error == 0 ? open(path, O_RDWR | O_CLOEXEC) : -1;
	if (fd >= 0)
		map = mmap(NULL, CHANNEL_SIZE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	setenv(CHANNEL_ENV, path, 1);
	hf = map != MAP_FAILED ? holdfast_open() : NULL;
	if (hf != NULL && log >= 0) {
		bench_print_head("cost of one report of an iteration, seen by the trainer",
		    "2,000 batches of 100 calls of each kind in turn; a batch's mean is a sample");
		measure(hf, map, log);
	} else {
		fprintf(stderr, "bench_step: %s: cannot be set up: %s\n", path, strerror(-error));
	}
	holdfast_close(hf);
	unlink(path);
	unlink(log_path);
	return hf != NULL && log >= 0 ? 0 : 1;
}
