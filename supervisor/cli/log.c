/*
 * holdfast log: the iterations, one line each, in the order of their steps; with --follow, what comes later in the
 * order in which it is committed.  Memory does not grow with the number of iterations.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "journal/check.h"
#include "journal/print.h"
#include "supervisor/cli/cli.h"
#include "supervisor/cli/duration.h"
#include "supervisor/cli/notice.h"

#define FOLLOW_POLL_MS 100

enum log_option {
	OPT_DIR,
	OPT_STEPS,
	OPT_LAST,
	OPT_INCIDENTS,
	OPT_ALL,
	OPT_CELLS,
	OPT_FOLLOW,
	OPT_JSON,
	OPT_COUNT
};

static const struct option_spec specs[OPT_COUNT] = {
    [OPT_DIR] = {"dir", 'd', "DIR", "the run's directory (default ./holdfast-run)"},
    [OPT_STEPS] = {"steps", 's', "A..B", "these steps only; A.. and ..B and A are understood"},
    [OPT_LAST] = {"last", 'n', "N", "the last N steps only"},
    [OPT_INCIDENTS] = {"incidents", 'i', NULL, "incidents and what was decided on them, in between"},
    [OPT_ALL] = {"all-attempts", 'a', NULL, "every row of a step, not only the newest"},
    [OPT_CELLS] = {"cells", 0, NULL, "with --json: what each rank reported"},
    [OPT_FOLLOW] = {"follow", 'f', NULL, "go on with what comes, until the run ends"},
    [OPT_JSON] = {"json", 0, NULL, "print JSON lines"},
};

struct log {
	struct source source;
	uint64_t first, last; /* steps, both included */
	uint64_t count;       /* of the last steps; 0: all */
	bool incidents, all, cells, follow, json;
	bool stop;          /* nobody reads, or the journal is damaged */
	uint64_t shown_seq; /* what was committed behind this record is not shown yet */
	/* what was declared, by the step behind which it is printed */
	const struct query_incident **by_step;
	size_t incident_count, incident_at;
	/* the best row of the step that is being walked over */
	struct record_step held;
	uint64_t held_seq; /* 0: none */
};

/* --- lines ------------------------------------------------------------------------------------------------ */

static void print_header(const struct log *l)
{
	if (!l->json)
		printf("%8s %4s %12s %11s %11s %9s %10s %7s  %s\n", "step", "att", "loss",
		    "grad norm", "lr", "tokens", "ms", "slowest", "flags");
}

static void number(char out[24], bool known, const char *format, double value)
{
	if (known)
		snprintf(out, 24, format, value);
	else
		snprintf(out, 24, "-");
}

static void print_row_text(const struct record_step *row)
{
	char loss[24], norm[24], rate[24], tokens[24], flags[64] = "";

	number(loss, row->fields & FIELD_LOSS, "%.7g", row->loss);
	number(norm, row->fields & FIELD_GRAD_NORM, "%.5g", row->grad_norm);
	number(rate, row->fields & FIELD_LEARNING_RATE, "%.5g", row->learning_rate);
	snprintf(tokens, sizeof(tokens), "-");
	if (row->fields & FIELD_TOKENS)
		snprintf(tokens, sizeof(tokens), "%llu", (unsigned long long)row->tokens);
	snprintf(flags, sizeof(flags), "%s%s%s", row->flags & STEP_AGAIN ? " again" : "",
	    row->flags & STEP_NOT_FINITE ? " not-finite" : "",
	    row->flags & STEP_PARTIAL ? " partial" : "");
	printf("%8llu %4u %12s %11s %11s %9s %10.3f %7u %s\n", (unsigned long long)row->step,
	    row->attempt, loss, norm, rate, tokens, (double)row->duration_ns / 1e6,
	    row->slowest_rank, flags);
}

static void print_row(struct log *l, const struct record_step *row)
{
	json_t *object = NULL;

	if (!l->json)
		print_row_text(row);
	else if (print_record_json(&row->head, l->cells ? PRINT_CELLS : 0, &object, NULL) != STATUS_OK ||
	    !source_print_json(object))
		l->stop = true;
	l->stop = l->stop || ferror(stdout);
}

/* A decision or what led to it, by seq; nothing for the rest. */
static void print_notice(struct log *l, uint64_t seq)
{
	const struct record *r = source_record(&l->source, seq);
	char text[NOTICE_MAX];

	if (r == NULL)
		return;
	if (l->json) {
		json_t *object = notice_json(&l->source, r);

		if (object != NULL)
			(void)source_print_json(object);
	} else if (notice_text(&l->source, r, text, sizeof(text))) {
		printf("       * %s\n", text);
	}
}

/* --- incidents between the rows --------------------------------------------------------------------------- */

/* STEP_NONE, before the first step, wraps to the smallest. */
static int compare_steps(const void *a, const void *b)
{
	const struct decision_fault *x = &(*(const struct query_incident *const *)a)->fault;
	const struct decision_fault *y = &(*(const struct query_incident *const *)b)->fault;
	uint64_t left = x->step + 1, right = y->step + 1;

	if (left != right)
		return left < right ? -1 : 1;
	return x->incident < y->incident ? -1 : x->incident > y->incident;
}

static bool sort_incidents(struct log *l)
{
	const struct query_summary *sum = query_summary(l->source.query);

	if (!l->incidents || sum->incident_count == 0)
		return true;
	l->by_step = calloc(sum->incident_count, sizeof(const struct query_incident *));
	if (l->by_step == NULL)
		return false;
	l->incident_count = sum->incident_count;
	for (size_t i = 0; i < sum->incident_count; i++)
		l->by_step[i] = &sum->incidents[i];
	qsort((void *)l->by_step, l->incident_count, sizeof(const struct query_incident *),
	    compare_steps);
	return true;
}

/* Everything that was declared when `step` was not made yet. */
static void print_incidents_before(struct log *l, uint64_t step)
{
	for (; l->incident_at < l->incident_count; l->incident_at++) {
		const struct query_incident *incident = l->by_step[l->incident_at];
		uint64_t behind = incident->fault.step;

		if (behind + 1 > step)
			return;
		if (behind + 1 < l->first)
			continue;
		print_notice(l, incident->fault.head.seq);
		print_notice(l, incident->start_seq);
		if (incident->recovered)
			print_notice(l, incident->recovery.head.seq);
	}
}

/* --- the walk --------------------------------------------------------------------------------------------- */

static void flush_held(struct log *l)
{
	const struct record *r;

	if (l->held_seq == 0)
		return;
	print_incidents_before(l, l->held.step);
	/* Its cells follow the row in the journal only. */
	r = source_record(&l->source, l->held_seq);
	if (r != NULL)
		print_row(l, (const struct record_step *)r);
	l->held_seq = 0;
}

/* Of the rows of one step, which come in the order of their attempts, the newest complete one is kept. */
static void take_row(struct log *l, const struct record_step *row)
{
	bool worse;

	if (l->held_seq != 0 && (l->held.step != row->step || l->all))
		flush_held(l);
	worse = l->held_seq != 0 && (row->flags & STEP_PARTIAL) && !(l->held.flags & STEP_PARTIAL);
	if (worse)
		return;
	l->held = *row;
	l->held_seq = row->head.seq;
}

/* The step from which on there are l->count steps. */
static enum status find_first(struct log *l)
{
	struct step_position at = {.step = STEP_NONE};
	const struct record_step *row;
	uint64_t seen = 0, step = STEP_NONE;
	enum status status;

	while ((status = store_reader_previous_step(l->source.reader, &at, &row, &l->source.why)) ==
	    STATUS_OK) {
		if (row->role != 0 || row->step > l->last || row->head.seq > l->shown_seq)
			continue;
		if (row->step < l->first || (row->step != step && seen == l->count))
			break;
		seen += row->step != step;
		step = row->step;
	}
	if (step != STEP_NONE)
		l->first = step;
	return status == STATUS_NONE ? STATUS_OK : status;
}

static enum status walk(struct log *l)
{
	struct step_position at = {.step = STEP_NONE};
	const struct record_step *row;
	enum status status = STATUS_OK;

	/* What is committed while we print is not part of it. */
	l->shown_seq = query_summary(l->source.query)->last_seq;
	if (l->count != 0)
		status = find_first(l);
	if (l->first > 0)
		at = (struct step_position){.step = l->first};
	while (status == STATUS_OK && !l->stop) {
		status = store_reader_next_step(l->source.reader, &at, &row, &l->source.why);
		if (status == STATUS_OK && (row->role != 0 || row->step > l->last))
			break;
		if (status == STATUS_OK)
			status = check_record(row, row->head.size_bytes, &l->source.why);
		if (status == STATUS_OK && row->head.seq <= l->shown_seq)
			take_row(l, row);
		if (status == STATUS_OK)
			status = source_let_go(&l->source, &l->stop);
	}
	if (!l->stop)
		flush_held(l);
	return status == STATUS_NONE ? STATUS_OK : status;
}

/* What was declared behind the last row, and the end. */
static void print_last_notices(struct log *l)
{
	const struct query_summary *sum = query_summary(l->source.query);

	if (l->last != STEP_NONE)
		return;
	print_incidents_before(l, STEP_NONE);
	if (l->incidents && source_state(&l->source, source_holder(&l->source)) == SOURCE_ENDED)
		print_notice(l, sum->end.head.seq);
}

/* --- what comes later ------------------------------------------------------------------------------------- */

static bool is_over(struct log *l)
{
	enum source_state state = source_state(&l->source, source_holder(&l->source));

	return state == SOURCE_ENDED || state == SOURCE_DEAD;
}

/* What was folded in and not shown yet, behind *seq. */
static enum status print_news(struct log *l, uint64_t *seq)
{
	uint64_t last = query_summary(l->source.query)->last_seq;
	enum status status = STATUS_OK;

	while (*seq < last && !l->stop && status == STATUS_OK) {
		const struct record *r = source_record(&l->source, ++*seq);
		const struct record_step *row = (const struct record_step *)r;

		if (r != NULL && r->kind != RECORD_STEP && l->incidents)
			print_notice(l, *seq);
		else if (r != NULL && r->kind == RECORD_STEP && row->role == 0 &&
		    row->step >= l->first && row->step <= l->last)
			print_row(l, row);
		status = source_let_go(&l->source, &l->stop);
	}
	return status;
}

static enum status follow(struct log *l)
{
	const struct timespec pause = {.tv_nsec = FOLLOW_POLL_MS * 1000000};
	uint64_t seq = l->shown_seq;

	for (;;) {
		/* Asked before the journal is looked at, so that the last words are not missed. */
		bool over = is_over(l);
		enum status status = source_refresh(&l->source);

		if (status != STATUS_OK && status != STATUS_AGAIN)
			return status;
		status = print_news(l, &seq);
		if (status != STATUS_OK)
			return status;
		if (!source_park(&l->source) || over || l->stop)
			return STATUS_OK;
		nanosleep(&pause, NULL);
	}
}

/* --- the command ------------------------------------------------------------------------------------------ */

/* "100..200", "100..", "..200", "100". */
static bool take_steps(struct log *l, const char *text)
{
	const char *dots = strstr(text, "..");
	char first[24] = "";
	bool good = true;

	if (dots == NULL) {
		good = duration_count(text, 0, INT64_MAX, &l->first);
		l->last = l->first;
		return good;
	}
	if ((size_t)(dots - text) >= sizeof(first) || (dots == text && dots[2] == '\0'))
		return false;
	memcpy(first, text, (size_t)(dots - text));
	if (first[0] != '\0')
		good = duration_count(first, 0, INT64_MAX, &l->first);
	if (dots[2] != '\0')
		good = good && duration_count(dots + 2, 0, INT64_MAX, &l->last) && l->last >= l->first;
	return good;
}

static int show(struct log *l, const char *dir)
{
	bool damaged;
	int code = source_begin(&l->source, dir, &damaged);
	enum status status = STATUS_OK;

	if (code != 0) {
		source_close(&l->source);
		return code;
	}
	if (!sort_incidents(l)) {
		fprintf(stderr, "holdfast: log: memory is short\n");
		code = CLI_EXIT_AGAIN;
	} else {
		print_header(l);
		status = walk(l);
		if (status == STATUS_OK && !l->stop)
			print_last_notices(l);
		/* The incidents move when more are folded in. */
		free((void *)l->by_step);
		l->by_step = NULL;
		if (status == STATUS_OK && l->follow && !damaged && !l->stop)
			status = follow(l);
	}
	source_close(&l->source);
	if (status != STATUS_OK)
		code = source_complain(&l->source, status);
	return source_flush(code == 0 && damaged ? CLI_EXIT_CONFIG : code);
}

static bool take_option(struct log *l, int option, const char *value, const char **dir)
{
	bool good = true;

	if (option == OPT_DIR)
		*dir = value;
	else if (option == OPT_STEPS)
		good = take_steps(l, value);
	else if (option == OPT_LAST)
		good = duration_count(value, 1, INT64_MAX, &l->count);
	else if (option == OPT_INCIDENTS)
		l->incidents = true;
	else if (option == OPT_ALL)
		l->all = true;
	else if (option == OPT_CELLS)
		l->cells = true;
	else if (option == OPT_FOLLOW)
		l->follow = true;
	else
		l->json = true;
	if (!good)
		fprintf(stderr, "holdfast: log: --%s %s: %s\n", specs[option].name, value,
		    option == OPT_STEPS ? "write it as 100..200, 100.., ..200 or 100"
					: "not a number from 1 on");
	return good;
}

int cli_log(int argc, char **argv)
{
	static struct log l = {.last = STEP_NONE};
	struct options o = {.command = "log",
	    .synopsis = "[OPTIONS] [DIR]",
	    .specs = specs,
	    .spec_count = OPT_COUNT,
	    .argc = argc,
	    .argv = argv,
	    .at = 1};
	const char *dir = RUNDIR_DEFAULT, *value;
	int option;

	while ((option = source_next_option(&o, &value, &dir)) >= 0)
		if (!take_option(&l, option, value, &dir))
			return CLI_EXIT_USAGE;
	if (option == OPTIONS_HELP)
		return 0;
	if (option == OPTIONS_BAD)
		return CLI_EXIT_USAGE;
	source_begin_output();
	return show(&l, dir);
}
