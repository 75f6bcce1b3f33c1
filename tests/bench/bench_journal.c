/*
 * What a turn of step rows costs the supervisor through journal/store.h, durable when the turn is over, beside raw
 * LMDB with the same bytes under the same keys and one synchronous transaction a turn.
 *
 * The store does more than the baseline: it checks each record, adds its checksum, and keeps the index by step.  The
 * two are measured in turn, turn by turn, on the same file system, so that whatever else the disk does meets both.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <lmdb.h>

#include "journal/store.h"
#include "tests/bench/bench.h"

#define TURNS_MAX 300u
#define ROWS_MAX 1000u
#define MAP_BYTES ((size_t)2 << 30)
#define RECORDS_TARGET 0.6e6 /* per-rank records a second */

struct batch {
	uint32_t rows, ranks, turns;
};

static const struct batch batches[] = {
    {1, 2, 300},
    {10, 2, 300},
    {100, 2, 200},
    {1000, 2, 60},
    {1, 8, 300},
    {10, 8, 300},
    {100, 8, 200},
    {1000, 8, 60},
};

struct bench {
	struct store *store;
	MDB_env *raw;
	MDB_dbi table;
	uint64_t raw_seq, step;
	unsigned char *rows; /* ROWS_MAX of them */
	double store_ms[TURNS_MAX], raw_ms[TURNS_MAX];
};

static size_t row_bytes(uint32_t ranks)
{
	return sizeof(struct record_step) + ranks * sizeof(struct rank_cell);
}

static void fill_rows(struct bench *b, const struct batch *batch)
{
	size_t size = row_bytes(batch->ranks);

	memset(b->rows, 0, size * batch->rows);
	for (uint32_t i = 0; i < batch->rows; i++) {
		struct record_step *row = (struct record_step *)(void *)(b->rows + size * i);
		struct rank_cell *cells = (struct rank_cell *)(row + 1);

		row->head = (struct record){.kind = RECORD_STEP,
		    .version = 1,
		    .size_bytes = (uint32_t)size,
		    .time_ns = b->step * 1000000};
		row->attempt = 1;
		row->step = b->step++;
		row->loss = 1.0 / (double)(row->step + 1);
		row->fields = FIELD_LOSS | FIELD_DIGEST;
		row->digest = row->step * 0x9e3779b97f4a7c15u;
		row->rank_count = row->present_count = batch->ranks;
		for (uint32_t k = 0; k < batch->ranks; k++)
			cells[k] = (struct rank_cell){.ring_seq = row->step,
			    .digest = row->digest,
			    .duration_us = 27000 + k,
			    .flags = CELL_PRESENT};
	}
}

static enum status store_turn(struct bench *b, const struct batch *batch, struct cause *why)
{
	size_t size = row_bytes(batch->ranks);
	enum status status = store_begin(b->store, why);

	for (uint32_t i = 0; i < batch->rows && status == STATUS_OK; i++)
		status = store_append(b->store, (struct record *)(void *)(b->rows + size * i), why);
	return status == STATUS_OK ? store_commit(b->store, why) : status;
}

static int raw_turn(struct bench *b, const struct batch *batch)
{
	size_t size = row_bytes(batch->ranks);
	MDB_txn *txn;
	int code = mdb_txn_begin(b->raw, NULL, 0, &txn);

	if (code != 0)
		return code;
	for (uint32_t i = 0; i < batch->rows && code == 0; i++) {
		uint64_t seq = ++b->raw_seq;
		MDB_val key = {sizeof(seq), &seq};
		MDB_val value = {size, b->rows + size * i};

		code = mdb_put(txn, b->table, &key, &value, MDB_APPEND);
	}
	if (code == 0)
		return mdb_txn_commit(txn);
	mdb_txn_abort(txn);
	return code;
}

/* Rates are those of the median turn: a disk that stalls once in a while meets both sides, but not alike. */
static double print_side(const char *name, const struct batch *batch, double *ms)
{
	bench_sort(ms, batch->turns);
	double p50 = bench_percentile(ms, batch->turns, 0.5);
	double rows_a_second = 1e3 * batch->rows / p50;

	printf(
	    "    %-14s turn p50 %7.3f ms  p99 %7.3f ms   %9.0f rows/s  %9.0f per-rank records/s\n",
	    name, p50, bench_percentile(ms, batch->turns, 0.99), rows_a_second,
	    rows_a_second * batch->ranks);
	return p50;
}

static bool measure(struct bench *b, const struct batch *batch)
{
	struct cause why;
	double store_ms, raw_ms;

	for (uint32_t turn = 0; turn < batch->turns; turn++) {
		enum status status;
		uint64_t t0, t1, t2;
		int code;

		fill_rows(b, batch);
		t0 = bench_now_ns();
		code = raw_turn(b, batch);
		t1 = bench_now_ns();
		status = store_turn(b, batch, &why);
		t2 = bench_now_ns();
		if (code != 0 || status != STATUS_OK) {
			fprintf(stderr, "bench_journal: %s\n",
			    code != 0 ? mdb_strerror(code) : why.step);
			return false;
		}
		b->raw_ms[turn] = (double)(t1 - t0) / 1e6;
		b->store_ms[turn] = (double)(t2 - t1) / 1e6;
	}
	printf("  %u row%s of %u ranks a turn (%zu bytes a row), %u turns\n", batch->rows,
	    batch->rows == 1 ? "" : "s", batch->ranks, row_bytes(batch->ranks), batch->turns);
	raw_ms = print_side("raw LMDB", batch, b->raw_ms);
	store_ms = print_side("journal", batch, b->store_ms);
	printf("    journal at %.1f %% of raw LMDB (target 50 %%: %s)", 100 * raw_ms / store_ms,
	    raw_ms / store_ms >= 0.5 ? "reached" : "not reached");
	if (batch->rows == ROWS_MAX)
		printf("; target 0.6 M per-rank records/s: %s",
		    1e3 * batch->rows * batch->ranks / store_ms >= RECORDS_TARGET ? "reached"
										  : "not reached");
	printf("\n");
	return true;
}

static bool open_raw(struct bench *b, const char *path)
{
	MDB_txn *txn;

	if (mdb_env_create(&b->raw) != 0 || mdb_env_set_mapsize(b->raw, MAP_BYTES) != 0 ||
	    mdb_env_open(b->raw, path, MDB_NOSUBDIR, 0600) != 0 ||
	    mdb_txn_begin(b->raw, NULL, 0, &txn) != 0)
		return false;
	if (mdb_dbi_open(txn, NULL, MDB_INTEGERKEY, &b->table) == 0)
		return mdb_txn_commit(txn) == 0;
	mdb_txn_abort(txn);
	return false;
}

static void remove_all(const char *directory)
{
	static const char *const names[] = {
	    "raw", "raw-lock", "journal/data.mdb", "journal/lock.mdb", "journal/writer"};
	char path[512];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", directory, names[i]);
		(void)unlink(path);
	}
	snprintf(path, sizeof(path), "%s/journal", directory);
	(void)rmdir(path);
	if (rmdir(directory) != 0)
		fprintf(stderr, "bench_journal: %s: %s\n", directory, strerror(errno));
}

int main(int argc, char **argv)
{
	char directory[256], path[512];
	struct bench b = {.rows = malloc(ROWS_MAX * row_bytes(8))};
	struct cause why = {0};
	bool fine;

	/* A durable file system is meant: not every /tmp is one. */
	snprintf(directory, sizeof(directory), "%s/bench-journal-XXXXXX",
	    argc > 1 ? argv[1] : "/var/tmp");
	if (b.rows == NULL || mkdtemp(directory) == NULL) {
		fprintf(stderr, "bench_journal: %s: %s\n", directory, strerror(errno));
		free(b.rows);
		return 1;
	}
	snprintf(path, sizeof(path), "%s/raw", directory);
	fine = open_raw(&b, path);
	snprintf(path, sizeof(path), "%s/journal", directory);
	fine = fine && store_open(path, &b.store, &why) == STATUS_OK;
	if (fine) {
		bench_print_head("appending step rows to the journal, durable turn by turn",
		    "raw LMDB and the journal in turn, one transaction a turn, same bytes, same "
		    "disk");
		printf("disk: %s\n", directory);
	} else {
		fprintf(stderr, "bench_journal: %s cannot be made: %s\n", path, why.subject);
	}
	for (size_t i = 0; i < sizeof(batches) / sizeof(batches[0]) && fine; i++)
		fine = measure(&b, &batches[i]);
	store_close(b.store);
	if (b.raw != NULL)
		mdb_env_close(b.raw);
	free(b.rows);
	remove_all(directory);
	return fine ? 0 : 1;
}
