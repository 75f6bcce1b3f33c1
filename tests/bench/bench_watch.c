/*
 * bench_watch: says when each record of a live journal was first seen by another process, for recovery.py.
 *
 *	bench_watch JOURNAL
 *
 * Looks every 50 microseconds or so, for the journal's own times say when something was decided and not when it was
 * durable.  A line a record: seq, kind, attempt, step and the moment on CLOCK_MONOTONIC in ns; attempt and step are 0
 * where the kind has none.  Ends when its standard input does.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "journal/store.h"
#include "tests/bench/bench.h"

#define PAUSE_NS 50000

/* Pause; false when nobody reads us any longer. */
static bool pause_watch(void)
{
	const struct timespec pause = {.tv_nsec = PAUSE_NS};
	struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};

	return ppoll(&input, 1, &pause, NULL) == 0;
}

static void print_seen(const struct record *r, uint64_t seen_ns)
{
	uint64_t step = 0;
	uint32_t attempt = 0;

	if (r->kind == RECORD_STEP) {
		const struct record_step *row = (const void *)r;

		attempt = row->attempt;
		step = row->step;
	} else if (r->kind == DECISION_START) {
		attempt = ((const struct decision_start *)(const void *)r)->attempt;
	}
	printf("%" PRIu64 " %u %" PRIu32 " %" PRIu64 " %" PRIu64 "\n", r->seq, r->kind, attempt,
	    step, seen_ns);
}

int main(int argc, char **argv)
{
	struct store_reader *reader = NULL;
	struct cause why = {0};
	enum status status;

	if (argc != 2) {
		fprintf(stderr, "usage: bench_watch JOURNAL\n");
		return 64;
	}
	/* The default of 50 µs more than asked for would be half of what is measured. */
	prctl(PR_SET_TIMERSLACK, 1000);
	while ((status = store_reader_open(argv[1], &reader, &why)) == STATUS_NONE ||
	    status == STATUS_AGAIN)
		if (!pause_watch())
			return 0;
	for (uint64_t seq = 1; status == STATUS_OK;) {
		uint64_t seen_ns = bench_now_ns(), last = store_reader_last_seq(reader);
		const struct record *r;

		for (; seq <= last && status == STATUS_OK; seq++) {
			status = store_reader_get(reader, seq, &r, &why);
			if (status == STATUS_OK)
				print_seen(r, seen_ns);
		}
		fflush(stdout);
		if (status == STATUS_OK && !pause_watch())
			break;
		if (status == STATUS_OK)
			status = store_reader_refresh(reader, &why);
	}
	store_reader_close(reader);
	if (status != STATUS_OK)
		fprintf(stderr, "bench_watch: %s: %s\n", argv[1],
		    why.step != NULL ? why.step : "failed");
	return status != STATUS_OK;
}
