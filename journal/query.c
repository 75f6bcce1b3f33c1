/*
 * Steps that are missing are kept as holes: ranges between the first and the highest step without a row.
 * A healthy run has none.
 */
#include "journal/query.h"

#include <errno.h>
#include <stdlib.h>

#include "journal/check.h"
#include "journal/sentence.h"

#define QUERY_TEXT_MAX 16384u /* of the command as one line; longer ones are cut */

struct hole { /* steps first … last */
	uint64_t first, last;
};
struct rung {
	uint64_t step;
	uint64_t seq; /* of its newest RECORD_RUNG, or 0 */
	uint32_t standing;
};

struct query {
	struct store_reader *rd;
	struct query_summary sum;
	size_t incident_capacity;
	struct hole *holes; /* ascending */
	size_t hole_count, hole_capacity;
	struct rung *rungs; /* ascending by step */
	size_t rung_count, rung_capacity;
	uint64_t times_ns[QUERY_RATE_ROWS]; /* of this attempt's last rows, round robin */
	uint64_t steps[QUERY_RATE_ROWS];    /* likewise */
	size_t time_count;
	struct decision_recovered interruption; /* the last; down_ns and redone_steps: the largest of it */
};

struct query *query_new(struct store_reader *rd)
{
	struct query *q = calloc(1, sizeof(*q));

	if (q == NULL)
		return NULL;
	q->rd = rd;
	q->sum.first_step = q->sum.high_step = q->sum.good_step = STEP_NONE;
	q->sum.complete_step = q->interruption.step = STEP_NONE;
	return q;
}

void query_free(struct query *q)
{
	if (q == NULL)
		return;
	for (size_t i = 0; i < q->sum.incident_count; i++)
		free(q->sum.incidents[i].evidence_seqs);
	free(q->sum.incidents);
	free(q->sum.command);
	free(q->sum.directory);
	free(q->holes);
	free(q->rungs);
	free(q);
}

/* Make room for one more item behind `count`; NULL leaves the old block as it is. */
static void *room(void *items, size_t count, size_t *capacity, size_t item_bytes)
{
	size_t wanted = *capacity == 0 ? 8 : *capacity * 2;
	void *larger;

	if (count < *capacity)
		return items;
	larger = reallocarray(items, wanted, item_bytes);
	if (larger != NULL)
		*capacity = wanted;
	return larger;
}

static enum status no_memory(struct cause *why)
{
	cause_set(why, CAUSE_ERRNO, ENOMEM, "query", "");
	return STATUS_SYS;
}

static bool plain_word(const char *text)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
				    "_-+=./,:@%^";

	return text[0] != '\0' && text[strspn(text, plain)] == '\0';
}

static void put(char *line, size_t *used, char c)
{
	if (*used + 1 < QUERY_TEXT_MAX)
		line[(*used)++] = c;
}

static void put_argument(char *line, size_t *used, const char *text)
{
	bool plain = plain_word(text);

	if (*used != 0)
		put(line, used, ' ');
	if (!plain)
		put(line, used, '\'');
	for (; *text != '\0'; text++) {
		if (*text == '\'') {
			put(line, used, '\'');
			put(line, used, '\\');
			put(line, used, '\'');
		}
		put(line, used, *text);
	}
	if (!plain)
		put(line, used, '\'');
}

static enum status on_run(struct query *q, const struct record_run *run, struct cause *why)
{
	const char *text = RECORD_TEXT(run, struct record_run);
	char *line = malloc(QUERY_TEXT_MAX), *directory;
	size_t used = 0;

	if (line == NULL)
		return no_memory(why);
	for (uint32_t i = 0; i < run->argument_count; i++) {
		put_argument(line, &used, text);
		text += strlen(text) + 1;
	}
	line[used] = '\0';
	directory = strdup(text);
	if (directory == NULL) {
		free(line);
		return no_memory(why);
	}
	free(q->sum.command);
	free(q->sum.directory);
	q->sum.command = line;
	q->sum.directory = directory;
	q->sum.has_run = true;
	q->sum.run_seq = run->head.seq;
	memcpy(q->sum.run_id, run->run_id, sizeof(q->sum.run_id));
	q->sum.rank_count = run->rank_count;
	q->sum.wall_start_ns = run->wall_ns;
	return STATUS_OK;
}

static enum status add_hole(
    struct query *q, size_t at, uint64_t first, uint64_t last, struct cause *why)
{
	struct hole *holes = room(q->holes, q->hole_count, &q->hole_capacity, sizeof(*holes));

	if (holes == NULL)
		return no_memory(why);
	q->holes = holes;
	memmove(&holes[at + 1], &holes[at], (q->hole_count - at) * sizeof(*holes));
	holes[at] = (struct hole){first, last};
	q->hole_count++;
	return STATUS_OK;
}

/* A row of a step within [first_step, high_step]: it may lie in a hole. */
static enum status fill_hole(struct query *q, uint64_t step, struct cause *why)
{
	size_t low = 0, high = q->hole_count;
	struct hole *hole;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (q->holes[middle].last < step)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == q->hole_count || q->holes[low].first > step)
		return STATUS_OK;
	hole = &q->holes[low];
	if (hole->first < step && step < hole->last) {
		enum status status = add_hole(q, low + 1, step + 1, hole->last, why);
		if (status != STATUS_OK)
			return status;
		q->holes[low].last = step - 1;
	} else if (hole->first == hole->last) {
		memmove(hole, hole + 1, (q->hole_count - low - 1) * sizeof(*hole));
		q->hole_count--;
	} else if (hole->first == step) {
		hole->first++;
	} else {
		hole->last--;
	}
	q->sum.missing_count--;
	return STATUS_OK;
}

static enum status count_step(struct query *q, uint64_t step, struct cause *why)
{
	struct query_summary *sum = &q->sum;
	enum status status = STATUS_OK;

	if (sum->first_step == STEP_NONE) {
		sum->first_step = sum->high_step = step;
	} else if (step > sum->high_step) {
		if (step - sum->high_step > 1)
			status = add_hole(q, q->hole_count, sum->high_step + 1, step - 1, why);
		if (status != STATUS_OK)
			return status;
		sum->missing_count += step - sum->high_step - 1;
		sum->high_step = step;
	} else if (step < sum->first_step) {
		if (sum->first_step - step > 1)
			status = add_hole(q, 0, step + 1, sum->first_step - 1, why);
		if (status != STATUS_OK)
			return status;
		sum->missing_count += sum->first_step - step - 1;
		sum->first_step = step;
	} else {
		status = fill_hole(q, step, why);
	}
	return status;
}

/* Where a program prints only every tenth step, ten were made from one row to the next. */
static void count_rate(struct query *q, const struct record_step *row)
{
	size_t oldest, newest = q->time_count % QUERY_RATE_ROWS;
	uint64_t time_ns = row->head.time_ns, made;

	q->times_ns[newest] = time_ns;
	q->steps[newest] = row->step;
	q->time_count++;
	oldest = q->time_count <= QUERY_RATE_ROWS ? 0 : q->time_count % QUERY_RATE_ROWS;
	made = q->time_count - 1 < QUERY_RATE_ROWS - 1 ? q->time_count - 1 : QUERY_RATE_ROWS - 1;
	if (q->sum.progress_format != PROGRESS_NONE && row->step > q->steps[oldest])
		made = row->step - q->steps[oldest];
	q->sum.steps_per_s = time_ns > q->times_ns[oldest]
	    ? (double)made * 1e9 / (double)(time_ns - q->times_ns[oldest])
	    : 0;
}

static enum status on_step(struct query *q, const struct record_step *row, struct cause *why)
{
	enum status status;

	if (row->role != 0 || row->step == STEP_NONE)
		return STATUS_OK;
	status = count_step(q, row->step, why);
	if (status != STATUS_OK)
		return status;
	q->sum.row_count++;
	if (row->flags & STEP_AGAIN)
		q->sum.again_count++;
	if (row->flags & STEP_PARTIAL) {
		q->sum.partial_count++;
		return STATUS_OK;
	}
	q->sum.has_row = true;
	if (q->sum.complete_step == STEP_NONE || row->step > q->sum.complete_step)
		q->sum.complete_step = row->step;
	q->sum.last_row = *row;
	q->sum.last_row_seq = row->head.seq;
	if (row->attempt == q->sum.attempt)
		count_rate(q, row);
	return STATUS_OK;
}

/* The rung of a step, entered when it is not known yet; NULL: memory. */
static struct rung *rung_of(struct query *q, uint64_t step)
{
	size_t at = q->rung_count;
	struct rung *rungs;

	/* Rungs come in the order of their steps but after a restart, so the end is the place to look from. */
	while (at > 0 && q->rungs[at - 1].step > step)
		at--;
	if (at > 0 && q->rungs[at - 1].step == step)
		return &q->rungs[at - 1];
	rungs = room(q->rungs, q->rung_count, &q->rung_capacity, sizeof(*rungs));
	if (rungs == NULL)
		return NULL;
	q->rungs = rungs;
	memmove(&rungs[at + 1], &rungs[at], (q->rung_count - at) * sizeof(*rungs));
	rungs[at] = (struct rung){.step = step};
	q->rung_count++;
	return &rungs[at];
}

static enum status on_rung(
    struct query *q, uint64_t step, uint64_t seq, const uint32_t *standing, struct cause *why)
{
	struct rung *rung;

	if (step == STEP_NONE)
		return STATUS_OK;
	rung = rung_of(q, step);
	if (rung == NULL)
		return no_memory(why);
	if (seq != 0)
		rung->seq = seq;
	if (standing != NULL)
		rung->standing = *standing;
	q->sum.good_step = STEP_NONE;
	q->sum.good_rung_seq = 0;
	for (size_t i = q->rung_count; i > 0; i--) {
		if (q->rungs[i - 1].standing == STANDING_GOOD) {
			q->sum.good_step = q->rungs[i - 1].step;
			q->sum.good_rung_seq = q->rungs[i - 1].seq;
			break;
		}
	}
	return STATUS_OK;
}

/* A kept checkpoint's own record; one that could not be kept, or is no more, is none. */
static enum status on_kept(struct query *q, const struct record_kept *kept, struct cause *why)
{
	if (kept->ordinal == 0 || kept->error != 0 || (kept->flags & KEPT_GONE) != 0)
		return STATUS_OK;
	return on_rung(q, kept->step, kept->head.seq, NULL, why);
}

static struct query_incident *find_incident(const struct query *q, uint32_t incident)
{
	for (size_t i = q->sum.incident_count; i > 0; i--) {
		if (q->sum.incidents[i - 1].fault.incident == incident)
			return &q->sum.incidents[i - 1];
	}
	return NULL;
}

const struct query_incident *query_find_incident(const struct query *q, uint32_t incident)
{
	return find_incident(q, incident);
}

static enum status on_fault(struct query *q, const struct decision_fault *fault, struct cause *why)
{
	struct query_incident *incidents = room(
	    q->sum.incidents, q->sum.incident_count, &q->incident_capacity, sizeof(*incidents));

	if (incidents == NULL)
		return no_memory(why);
	q->sum.incidents = incidents;
	incidents[q->sum.incident_count++] = (struct query_incident){.fault = *fault};
	return STATUS_OK;
}

static enum status on_evidence(
    struct query *q, const struct record_evidence *evidence, struct cause *why)
{
	struct query_incident *incident = find_incident(q, evidence->incident);
	uint64_t *seqs;

	if (incident == NULL)
		return STATUS_OK;
	seqs = reallocarray(incident->evidence_seqs, incident->evidence_count + 1, sizeof(*seqs));
	if (seqs == NULL)
		return no_memory(why);
	seqs[incident->evidence_count++] = evidence->head.seq;
	incident->evidence_seqs = seqs;
	return STATUS_OK;
}

static void on_start(struct query *q, const struct decision_start *start)
{
	struct query_incident *incident = start->incident != 0 ? find_incident(q, start->incident)
							       : NULL;

	q->sum.attempt = start->attempt;
	q->sum.start_seq = start->head.seq;
	q->sum.attempt_count++;
	q->time_count = 0;
	q->sum.steps_per_s = 0;
	if (incident != NULL) {
		incident->start_seq = start->head.seq;
		incident->start_count++;
	}
}

/* Recoveries by the same step stand together in the journal, for they are decided in one turn. */
static void count_cost(struct query *q, const struct decision_recovered *recovered)
{
	struct decision_recovered *last = &q->interruption;

	if (last->attempt != recovered->attempt || last->step != recovered->step)
		*last = (struct decision_recovered){
		    .attempt = recovered->attempt, .step = recovered->step};
	if (recovered->down_ns > last->down_ns) {
		q->sum.down_ns += recovered->down_ns - last->down_ns;
		last->down_ns = recovered->down_ns;
	}
	if (recovered->redone_steps > last->redone_steps) {
		q->sum.redone_steps += recovered->redone_steps - last->redone_steps;
		last->redone_steps = recovered->redone_steps;
	}
}

static void on_recovered(struct query *q, const struct decision_recovered *recovered)
{
	struct query_incident *incident = find_incident(q, recovered->incident);

	if (incident != NULL) {
		count_cost(q, recovered);
		incident->recovered = true;
		incident->recovery = *recovered;
	}
}

static void on_turn(struct query *q, const struct record_turn *turn)
{
	q->sum.turn_count++;
	q->sum.late_turns += turn->late != 0;
	q->sum.time_ns = turn->head.time_ns;
}

static enum status fold(struct query *q, const struct record *r, struct cause *why)
{
	const struct decision_standing *standing;

	switch (r->kind) {
	case RECORD_RUN:
		return on_run(q, (const struct record_run *)r, why);
	case RECORD_SESSION:
		q->sum.session = *(const struct record_session *)r;
		q->sum.has_session = true;
		break;
	case RECORD_AGENT:
		q->sum.agent_pid = ((const struct record_agent *)r)->agent_pid;
		break;
	case RECORD_STEP:
		return on_step(q, (const struct record_step *)r, why);
	case RECORD_GAP:
		q->sum.gap_count++;
		q->sum.gap_reports += ((const struct record_gap *)r)->count;
		break;
	case RECORD_NO_ROOM:
		q->sum.no_room = *(const struct record_no_room *)r;
		break;
	case RECORD_PROGRESS:
		q->sum.progress_format = ((const struct record_progress *)r)->format;
		q->sum.progress_rank = ((const struct record_progress *)r)->rank;
		break;
	case RECORD_RUNG:
		return on_rung(q, ((const struct record_rung *)r)->step, r->seq, NULL, why);
	case RECORD_KEPT:
		return on_kept(q, (const struct record_kept *)r, why);
	case RECORD_TROUBLE:
		q->sum.trouble_count++;
		break;
	case RECORD_EVIDENCE:
		return on_evidence(q, (const struct record_evidence *)r, why);
	case DECISION_START:
		on_start(q, (const struct decision_start *)r);
		break;
	case DECISION_FAULT:
		return on_fault(q, (const struct decision_fault *)r, why);
	case DECISION_RECOVERED:
		on_recovered(q, (const struct decision_recovered *)r);
		break;
	case DECISION_STANDING:
		standing = (const struct decision_standing *)r;
		return on_rung(q, standing->step, 0, &standing->standing, why);
	case DECISION_END:
		q->sum.end = *(const struct decision_end *)r;
		q->sum.ended = true;
		break;
	case RECORD_TURN:
		on_turn(q, (const struct record_turn *)r);
		break;
	default:
		break;
	}
	return STATUS_OK;
}

enum status query_update(struct query *q, struct cause *why)
{
	while (q->sum.last_seq < store_reader_last_seq(q->rd)) {
		const struct record *r;
		enum status status = store_reader_get(q->rd, q->sum.last_seq + 1, &r, why);

		if (status == STATUS_OK)
			status = check_record(r, r->size_bytes, why);
		if (status == STATUS_OK)
			status = fold(q, r, why);
		if (status != STATUS_OK)
			return status;
		q->sum.last_seq++;
	}
	return STATUS_OK;
}

const struct query_summary *query_summary(const struct query *q)
{
	return &q->sum;
}

int64_t query_wall_ns(const struct query_summary *summary, uint64_t time_ns)
{
	int64_t wall_ns = summary->wall_start_ns;
	uint64_t origin_ns = 0;

	if (summary->has_session) {
		wall_ns = summary->session.wall_ns;
		origin_ns = summary->session.head.time_ns;
	}
	/* Unsigned, so that nonsense wraps and is not undefined. */
	return (int64_t)((uint64_t)wall_ns + (time_ns - origin_ns));
}

/* Where the script finds the checkpoint: that is the one a person knows. */
static const char *original_path(const struct record_kept *kept)
{
	const char *text = RECORD_TEXT(kept, struct record_kept);

	return text + strlen(text) + 1;
}

/* The path of the first rung in [first, last] that is of this step; NULL when there is none. */
static const char *rung_path(struct query *q, uint64_t first, uint64_t last, uint64_t step)
{
	for (uint64_t seq = first; seq != 0 && seq <= last && seq <= store_reader_last_seq(q->rd);
	     seq++) {
		const struct record *r;

		if (store_reader_get(q->rd, seq, &r, NULL) != STATUS_OK ||
		    check_record(r, r->size_bytes, NULL) != STATUS_OK)
			return NULL;
		if (r->kind == RECORD_RUNG && ((const struct record_rung *)r)->step == step)
			return RECORD_TEXT(r, struct record_rung);
		if (r->kind == RECORD_KEPT && ((const struct record_kept *)r)->step == step)
			return original_path((const struct record_kept *)r);
	}
	return NULL;
}

void query_start_sentence(struct query *q, uint64_t start_seq, char *out, size_t size)
{
	const struct record *r;
	struct decision_start start;
	const char *path = NULL;

	out[0] = '\0';
	if (start_seq == 0 || store_reader_get(q->rd, start_seq, &r, NULL) != STATUS_OK ||
	    r->kind != DECISION_START || check_record(r, r->size_bytes, NULL) != STATUS_OK)
		return;
	start = *(const struct decision_start *)r;
	if (start.source == START_FILE)
		path = rung_path(q, start.rung_first_seq, start.rung_last_seq, start.step);
	sentence_start(&start, path, out, size);
}
