/* Row assembly: see rows.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "supervisor/rows.h"

#define WAIT_UNCONNECTED_NS 2000000000ull

struct report {
	struct iteration it;
	uint64_t time_ns;
	uint64_t lost_count; /* reports that were lost right before this one */
	char *path;          /* owned; ITERATION_CHECKPOINT only */
};

/* A rank's reports, oldest first, in a ring that grows up to CHANNEL_RING. */
struct queue {
	struct report *reports;
	uint32_t capacity, first, count;
	uint64_t ring_seq; /* last one taken in */
	bool expected;
	bool waived; /* it had its time to connect and did not */
	bool closed;
};

struct rows {
	rows_emit *emit;
	void *context;
	uint64_t high_step;
	uint32_t rank_count;
	uint32_t attempt;
	struct queue queues[];
};

struct rows *rows_new(uint32_t rank_count, rows_emit *emit, void *context)
{
	struct rows *rows = calloc(1, sizeof(*rows) + rank_count * sizeof(rows->queues[0]));

	if (rows == NULL)
		return NULL;
	rows->rank_count = rank_count;
	rows->emit = emit;
	rows->context = context;
	rows->high_step = STEP_NONE;
	return rows;
}

static struct report *queue_at(struct queue *q, uint32_t index)
{
	return &q->reports[(q->first + index) & (q->capacity - 1)];
}

static void queue_pop(struct queue *q)
{
	free(queue_at(q, 0)->path);
	q->first = (q->first + 1) & (q->capacity - 1);
	q->count--;
}

static void queue_clear(struct queue *q)
{
	while (q->count > 0)
		queue_pop(q);
	free(q->reports);
	memset(q, 0, sizeof(*q));
}

void rows_free(struct rows *rows)
{
	if (rows == NULL)
		return;
	for (uint32_t rank = 0; rank < rows->rank_count; rank++)
		queue_clear(&rows->queues[rank]);
	free(rows);
}

void rows_start(struct rows *rows, uint32_t attempt, const uint64_t ring_seq[], uint64_t high_step)
{
	for (uint32_t rank = 0; rank < rows->rank_count; rank++) {
		queue_clear(&rows->queues[rank]);
		rows->queues[rank].ring_seq = ring_seq[rank];
	}
	rows->attempt = attempt;
	rows->high_step = high_step;
}

static struct queue *queue_of(struct rows *rows, uint32_t attempt, uint32_t rank)
{
	return attempt == rows->attempt && rank < rows->rank_count ? &rows->queues[rank] : NULL;
}

static MUST_CHECK enum status queue_grow(struct queue *q)
{
	uint32_t capacity = q->capacity == 0 ? 16 : q->capacity * 2;
	struct report *reports = calloc(capacity, sizeof(*reports));

	if (reports == NULL)
		return STATUS_SYS;
	for (uint32_t i = 0; i < q->count; i++)
		reports[i] = *queue_at(q, i);
	free(q->reports);
	q->reports = reports;
	q->capacity = capacity;
	q->first = 0;
	return STATUS_OK;
}

/* Make a record and give it away.  Memory for a record is the one allocation whose failure ends us: the
 * reports it is made of are still in the rings, and the next supervisor makes it again. */
static void *record_make(uint16_t kind, size_t size, uint64_t time_ns)
{
	size_t rounded = RECORD_ROUND(size);
	struct record *r = calloc(1, rounded);

	if (r == NULL)
		abort();
	r->kind = kind;
	r->version = 1;
	r->size_bytes = (uint32_t)rounded;
	r->time_ns = time_ns;
	return r;
}

static void emit_gap(struct rows *rows, uint32_t rank, struct report *report)
{
	struct record_gap *gap = record_make(RECORD_GAP, sizeof(*gap), report->time_ns);

	gap->rank = rank;
	gap->attempt = rows->attempt;
	gap->first_ring_seq = report->it.ring_seq - report->lost_count +
	    (report->it.kind == ITERATION_LOST);
	gap->count = report->lost_count;
	report->lost_count = 0;
	rows->emit(rows->context, &gap->head);
}

static void emit_phase(struct rows *rows, uint32_t rank, const struct report *report)
{
	struct record_phase *phase = record_make(RECORD_PHASE, sizeof(*phase), report->time_ns);

	phase->rank = rank;
	phase->attempt = rows->attempt;
	phase->ring_seq = report->it.ring_seq;
	phase->phase = report->it.phase;
	phase->previous = report->it.previous;
	phase->duration_ns = report->it.duration_ns;
	rows->emit(rows->context, &phase->head);
}

static void emit_saved(struct rows *rows, uint32_t rank, const struct report *report)
{
	const char *path = report->path != NULL ? report->path : "";
	size_t text = strlen(path) + 1;
	struct record_saved *saved = record_make(RECORD_SAVED, sizeof(*saved) + text, report->time_ns);

	saved->rank = rank;
	saved->attempt = rows->attempt;
	saved->ring_seq = report->it.ring_seq;
	saved->step = report->it.step;
	saved->shard_count = report->it.fields;
	saved->text_bytes = (uint32_t)text;
	memcpy(saved + 1, path, text);
	rows->emit(rows->context, &saved->head);
}

static void emit_no_room(struct rows *rows, uint32_t rank, const struct report *report)
{
	struct record_no_room *r = record_make(RECORD_NO_ROOM, sizeof(*r), report->time_ns);

	r->rank = rank;
	r->attempt = rows->attempt;
	r->ring_seq = report->it.ring_seq;
	r->step = report->it.step;
	r->need_bytes = report->it.tokens;
	r->room_bytes = report->it.data_cursor;
	r->rank_count = rows->rank_count;
	rows->emit(rows->context, &r->head);
}

static uint32_t saturate_us(uint64_t ns)
{
	uint64_t us = ns / 1000 + (ns % 1000 >= 500);

	return us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
}

static bool report_finite(const struct iteration *it)
{
	return !(it->fields & FIELD_NOT_FINITE) &&
	    !((it->fields & FIELD_LOSS) && !isfinite(it->loss)) &&
	    !((it->fields & FIELD_GRAD_NORM) && !isfinite(it->grad_norm)) &&
	    !((it->fields & FIELD_LEARNING_RATE) && !isfinite(it->learning_rate));
}

/* The group's values are those of its lowest present rank, as that rank reported them. */
static void row_take_values(struct record_step *row, const struct iteration *it)
{
	row->loss = it->loss;
	row->grad_norm = it->grad_norm;
	row->learning_rate = it->learning_rate;
	row->tokens = it->tokens;
	row->data_cursor = it->data_cursor;
	row->digest = it->digest;
	row->fields = it->fields;
}

static void row_add_cell(struct record_step *row, uint32_t rank, const struct report *report)
{
	struct rank_cell *cell = (struct rank_cell *)(row + 1) + rank;
	const struct iteration *it = &report->it;

	if (row->present_count++ == 0)
		row_take_values(row, it);
	cell->ring_seq = it->ring_seq;
	cell->digest = it->fields & FIELD_DIGEST ? it->digest : 0;
	cell->duration_us = saturate_us(it->duration_ns);
	cell->compute_us = it->fields & FIELD_COMPUTE ? saturate_us(it->compute_ns) : 0;
	cell->loss = (float)it->loss;
	cell->flags = CELL_PRESENT;
	if (!report_finite(it)) {
		cell->flags |= CELL_NOT_FINITE;
		row->flags |= STEP_NOT_FINITE;
	}
	/* Who waits for its peers takes as long as they do: the own work tells who is slow. */
	uint64_t work = it->fields & FIELD_COMPUTE ? it->compute_ns : it->duration_ns;
	const struct rank_cell *slowest = (struct rank_cell *)(row + 1) + row->slowest_rank;

	if (row->slowest_rank == RANK_NONE ||
	    saturate_us(work) > (slowest->compute_us != 0 ? slowest->compute_us : slowest->duration_us))
		row->slowest_rank = rank;
	if (it->duration_ns > row->duration_ns)
		row->duration_ns = it->duration_ns;
	if (report->time_ns > row->head.time_ns)
		row->head.time_ns = report->time_ns;
}

/* Make the row of `step` from every queue that has it at its head. */
static void emit_row(struct rows *rows, uint64_t step, bool partial)
{
	struct record_step *row = record_make(
	    RECORD_STEP, sizeof(*row) + rows->rank_count * sizeof(struct rank_cell), 0);

	row->attempt = rows->attempt;
	row->step = step;
	row->slowest_rank = RANK_NONE;
	row->rank_count = rows->rank_count;
	for (uint32_t rank = 0; rank < rows->rank_count; rank++) {
		struct queue *q = &rows->queues[rank];

		if (q->count == 0 || queue_at(q, 0)->it.kind != ITERATION_STEP ||
		    queue_at(q, 0)->it.step != step)
			continue;
		row_add_cell(row, rank, queue_at(q, 0));
		queue_pop(q);
	}
	if (partial)
		row->flags |= STEP_PARTIAL;
	if (rows->high_step != STEP_NONE && step <= rows->high_step)
		row->flags |= STEP_AGAIN;
	else if (!partial)
		rows->high_step = step;
	rows->emit(rows->context, &row->head);
}

/* Let everything but steps pass from the heads of the queues: a hole stands right before what followed it. */
static void pass_others(struct rows *rows)
{
	for (uint32_t rank = 0; rank < rows->rank_count; rank++) {
		struct queue *q = &rows->queues[rank];

		while (q->count > 0) {
			struct report *report = queue_at(q, 0);

			if (report->lost_count > 0)
				emit_gap(rows, rank, report);
			if (report->it.kind == ITERATION_STEP)
				break;
			if (report->it.kind == ITERATION_PHASE)
				emit_phase(rows, rank, report);
			else if (report->it.kind == ITERATION_CHECKPOINT)
				emit_saved(rows, rank, report);
			else if (report->it.kind == ITERATION_NO_ROOM)
				emit_no_room(rows, rank, report);
			queue_pop(q);
		}
	}
}

/* The lowest step at the heads; STEP_NONE when there is none, or one is still waited for. */
static uint64_t next_step(const struct rows *rows, bool wait, bool *partial)
{
	uint64_t step = STEP_NONE;

	*partial = false;
	for (uint32_t rank = 0; rank < rows->rank_count; rank++) {
		struct queue *q = (struct queue *)&rows->queues[rank];

		if (q->count > 0) {
			uint64_t head = queue_at(q, 0)->it.step;

			if (step != STEP_NONE && head != step)
				*partial = true;
			if (head < step)
				step = head;
		} else if (wait && q->expected && !q->closed) {
			return STEP_NONE;
		}
	}
	return step;
}

static void pump(struct rows *rows, bool wait)
{
	for (;;) {
		bool partial;

		pass_others(rows);
		uint64_t step = next_step(rows, wait, &partial);

		if (step == STEP_NONE)
			return;
		if (!wait) /* flushing: a rank that is missing here will not come */
			for (uint32_t rank = 0; rank < rows->rank_count; rank++)
				partial = partial || rows->queues[rank].count == 0;
		emit_row(rows, step, partial);
	}
}

void rows_expect(struct rows *rows, uint32_t attempt, uint32_t rank)
{
	struct queue *q = queue_of(rows, attempt, rank);

	if (q != NULL)
		q->expected = true;
}

static bool may_connect(const struct queue *q)
{
	return q->count == 0 && !q->expected && !q->waived && !q->closed;
}

enum status rows_add(struct rows *rows, uint32_t attempt, uint32_t rank, const struct iteration *it,
    uint64_t time_ns, const char *path)
{
	struct queue *q = queue_of(rows, attempt, rank);
	char *copy = NULL;

	if (q == NULL || it->ring_seq <= q->ring_seq)
		return STATUS_OK;
	if (q->count == CHANNEL_RING)
		return STATUS_FULL;
	if (q->count == q->capacity && queue_grow(q) != STATUS_OK)
		return STATUS_SYS;
	if (path != NULL && (copy = strdup(path)) == NULL)
		return STATUS_SYS;
	*queue_at(q, q->count) = (struct report){.it = *it,
	    .time_ns = time_ns,
	    .lost_count = it->ring_seq - q->ring_seq - (it->kind != ITERATION_LOST),
	    .path = copy};
	q->ring_seq = it->ring_seq;
	q->expected = true;
	q->count++;
	/* Where output is read it is one rank's: the others have nothing to say unless they did already. */
	for (uint32_t other = 0; other < rows->rank_count && it->printed != 0; other++)
		rows->queues[other].waived |= may_connect(&rows->queues[other]);
	/* Every rank of the attempt is waited for until it has had its time to connect. */
	for (uint32_t other = 0; other < rows->rank_count; other++)
		if (may_connect(&rows->queues[other]))
			return STATUS_OK;
	pump(rows, true);
	return STATUS_OK;
}

void rows_exit(struct rows *rows, uint32_t attempt, uint32_t rank)
{
	struct queue *q = queue_of(rows, attempt, rank);

	if (q == NULL)
		return;
	q->closed = true;
	pump(rows, true);
}

void rows_age(struct rows *rows, uint64_t now_ns)
{
	for (uint32_t rank = 0; rank < rows->rank_count; rank++) {
		struct queue *q = &rows->queues[rank];

		if (q->count == 0 || queue_at(q, 0)->time_ns + WAIT_UNCONNECTED_NS >= now_ns)
			continue;
		/* Once is enough: later rows do not wait for such a rank again. */
		for (uint32_t other = 0; other < rows->rank_count; other++)
			rows->queues[other].waived |= may_connect(&rows->queues[other]);
		pump(rows, true);
		return;
	}
}

void rows_flush(struct rows *rows, uint32_t attempt)
{
	if (attempt == rows->attempt)
		pump(rows, false);
}
