/*
 * holdfast status: where a run stands, on one screen, from the journal alone.
 */
#include <string.h>

#include "journal/check.h"
#include "journal/print.h"
#include "journal/schema.h"
#include "journal/sentence.h"
#include "supervisor/cli/cli.h"
#include "supervisor/cli/duration.h"
#include "supervisor/cli/memstep.h"
#include "supervisor/cli/notice.h"
#include "supervisor/clock.h"

enum status_option { OPT_DIR, OPT_JSON, OPT_TOTAL, OPT_SHM_DIR, OPT_COUNT };

static const struct option_spec specs[OPT_COUNT] = {
    [OPT_DIR] = {"dir", 'd', "DIR", "the run's directory (default ./holdfast-run)"},
    [OPT_JSON] = {"json", 0, NULL, "print one JSON object"},
    [OPT_TOTAL] = {"total-steps", 0, "N", "iterations of the whole run: shows the time that is left"},
    [OPT_SHM_DIR] = {"shm-dir", 0, "DIR", "where the run's snapshots are (default /dev/shm)"},
};

/* Everything the two renderings have in common, looked up once. */
struct standing_now {
	struct source source;
	const struct query_summary *sum;
	int holder; /* pid of the agent, or 0 */
	enum source_state state;
	uint64_t memory_step;
	uint64_t total;
	uint64_t up_ns;  /* from run time 0 until now, or until it ended or was last heard of */
	int64_t last_ns; /* wall time of the last turn */
};

static void look(struct standing_now *now, const char *shm_dir)
{
	const struct query_summary *sum = query_summary(now->source.query);
	int64_t wall_ns = clock_wall_ns();

	now->sum = sum;
	now->holder = source_holder(&now->source);
	now->state = source_state(&now->source, now->holder);
	now->memory_step = memstep_newest(shm_dir, sum->run_id, sum->has_run ? sum->rank_count : 0);
	now->up_ns = sum->time_ns;
	now->last_ns = query_wall_ns(sum, sum->time_ns);
	if (now->holder != 0 && now->state != SOURCE_ENDED && wall_ns > now->last_ns)
		now->up_ns += (uint64_t)(wall_ns - now->last_ns);
}

/* What became of an incident, in one line; NULL when there is none. */
static bool incident_text(
    struct source *s, const struct query_incident *incident, char *out, size_t size)
{
	size_t used;

	sentence_fault(&incident->fault, out, size);
	used = strlen(out);
	if (used + 3 < size && (incident->recovered || incident->start_seq != 0)) {
		snprintf(out + used, size - used, "; ");
		used += 2;
		if (incident->recovered)
			sentence_recovered(&incident->recovery, out + used, size - used);
		else
			query_start_sentence(s->query, incident->start_seq, out + used, size - used);
	}
	source_plain(out);
	return out[0] != '\0';
}

/* --- for people ------------------------------------------------------------------------------------------- */

static void row(const char *name, const char *text)
{
	printf("%-11s %s\n", name, text);
}

static void print_run(const struct standing_now *now)
{
	const struct query_summary *sum = now->sum;
	char text[RUNDIR_PATH + 128], started[64], up[48];

	for (int i = 0; i < 16; i++)
		snprintf(text + 2 * i, 3, "%02x", sum->run_id[i]);
	row("run", text);
	snprintf(text, sizeof(text), "%s", now->source.dir);
	source_plain(text);
	row("directory", text);
	snprintf(text, sizeof(text), "%s", sum->command);
	source_plain(text);
	row("command", text);
	snprintf(text, sizeof(text), "%s", sum->directory);
	source_plain(text);
	row("started in", text);
	snprintf(text, sizeof(text), "%u", sum->rank_count);
	row("ranks", text);
	source_wall_text(sum->wall_start_ns, started, sizeof(started));
	sentence_duration(now->up_ns, up, sizeof(up));
	snprintf(text, sizeof(text), "%s, %s ago", started, up);
	if (now->state == SOURCE_ENDED || now->state == SOURCE_DEAD)
		snprintf(text, sizeof(text), "%s, lasted %s", started, up);
	row("started", text);
}

static void print_state(const struct standing_now *now)
{
	char text[NOTICE_MAX + 64], when[64];

	source_wall_text(now->last_ns, when, sizeof(when));
	switch (now->state) {
	case SOURCE_ENDED:
		sentence_end(&now->sum->end, text, sizeof(text));
		printf("%-11s ended at %s: %s\n", "state", when, text);
		break;
	case SOURCE_DEAD:
		printf("%-11s dead since %s: nothing supervises it; the same holdfast run command "
		       "continues "
		       "it\n",
		    "state", when);
		break;
	default:
		printf("%-11s %s, attempt %u, pid %d\n", "state", source_state_name(now->state),
		    now->sum->attempt, now->holder);
		break;
	}
}

/* What the iterations are read from, where the trainer does not report them itself. */
static void print_progress(const struct standing_now *now)
{
	const struct query_summary *sum = now->sum;
	char text[SENTENCE_MAX];
	const char *what;

	if (sum->progress_format == PROGRESS_NONE)
		return;
	sentence_progress(sum->progress_format, sum->progress_rank, text, sizeof(text));
	what = strchr(text, ' ');
	row("progress", what != NULL ? what + 1 : text);
}

static void print_step(const struct standing_now *now)
{
	const struct query_summary *sum = now->sum;
	const struct record_step *last = &sum->last_row;
	double eta_s = source_eta_s(sum, now->total);
	char text[256], when[64], left[48];

	if (!sum->has_row) {
		row("step", "none was committed yet");
		return;
	}
	source_wall_text(query_wall_ns(sum, last->head.time_ns), when, sizeof(when));
	printf("%-11s %llu, at %s\n", "step", (unsigned long long)last->step, when);
	if (sum->steps_per_s > 0) {
		snprintf(text, sizeof(text), "%.3g steps/s", sum->steps_per_s);
		if (eta_s >= 0 && now->holder != 0 && now->state != SOURCE_ENDED) {
			sentence_duration((uint64_t)(eta_s * 1e9), left, sizeof(left));
			snprintf(text, sizeof(text), "%.3g steps/s, %s left", sum->steps_per_s, left);
		}
		row("rate", text);
	}
	text[0] = '\0';
	if (last->fields & FIELD_LOSS)
		printf("%-11s %.6g\n", "loss", last->loss);
	if (last->fields & FIELD_GRAD_NORM)
		printf("%-11s %.6g\n", "grad norm", last->grad_norm);
}

static void print_good(const struct standing_now *now)
{
	uint64_t memory = now->memory_step, disk = now->sum->good_step;
	char text[160] = "none is known yet";

	if (memory != STEP_NONE && disk != STEP_NONE)
		snprintf(text, sizeof(text), "step %llu in memory, step %llu on disk",
		    (unsigned long long)memory, (unsigned long long)disk);
	else if (memory != STEP_NONE)
		snprintf(text, sizeof(text), "step %llu in memory, none on disk",
		    (unsigned long long)memory);
	else if (disk != STEP_NONE)
		snprintf(text, sizeof(text), "step %llu on disk, none in memory",
		    (unsigned long long)disk);
	row("last good", text);
}

/* Whether this attempt's snapshots find no memory. */
static bool lacks_memory(const struct query_summary *sum)
{
	return sum->no_room.head.kind != 0 && sum->no_room.attempt == sum->attempt;
}

static void print_memory(const struct standing_now *now)
{
	char text[SENTENCE_MAX];

	if (!lacks_memory(now->sum))
		return;
	sentence_no_room(&now->sum->no_room, text, sizeof(text));
	row("snapshots", text);
}

static void print_counts(struct standing_now *now)
{
	const struct query_summary *sum = now->sum;
	char text[NOTICE_MAX];

	/* What a program does not print is not missing. */
	if (sum->progress_format != PROGRESS_NONE)
		printf("%-11s %llu iterations that were printed, %llu made again\n", "committed",
		    (unsigned long long)source_committed(sum), (unsigned long long)sum->again_count);
	else
		printf("%-11s %llu iterations, %llu missing, %llu made again\n", "committed",
		    (unsigned long long)source_committed(sum),
		    (unsigned long long)sum->missing_count, (unsigned long long)sum->again_count);
	printf("%-11s %llu\n", "attempts", (unsigned long long)sum->attempt_count);
	printf("%-11s %zu\n", "incidents", sum->incident_count);
	if (sum->incident_count > 0) {
		const struct query_incident *last = &sum->incidents[sum->incident_count - 1];

		if (incident_text(&now->source, last, text, sizeof(text)))
			printf("%-11s %u: %s\n", "the last", last->fault.incident, text);
	}
	if (sum->gap_reports != 0)
		printf("%-11s %llu reports of ranks, in %llu gaps\n", "lost",
		    (unsigned long long)sum->gap_reports, (unsigned long long)sum->gap_count);
	if (sum->trouble_count != 0 || sum->late_turns != 0)
		printf("%-11s could not be written %llu times, %llu turns are late\n", "journal",
		    (unsigned long long)sum->trouble_count, (unsigned long long)sum->late_turns);
}

/* --- for programs ----------------------------------------------------------------------------------------- */

static void add_count(json_t *object, const char *name, uint64_t value)
{
	json_object_set_new(
	    object, name, json_integer(value <= INT64_MAX ? (json_int_t)value : INT64_MAX));
}

static void add_text(json_t *object, const char *name, const char *text)
{
	json_object_set_new(object, name, print_text(text, strlen(text)));
}

static void add_value(json_t *object, const char *name, bool known, double value)
{
	json_object_set_new(object, name, known ? print_double(value) : json_null());
}

static void add_last_row(json_t *object, const struct standing_now *now)
{
	const struct query_summary *sum = now->sum;
	const struct record_step *last = &sum->last_row;
	double eta_s = source_eta_s(sum, now->total);

	source_json_step(object, "step", sum->has_row ? last->step : STEP_NONE);
	add_value(object, "loss", sum->has_row && (last->fields & FIELD_LOSS), last->loss);
	add_value(
	    object, "grad_norm", sum->has_row && (last->fields & FIELD_GRAD_NORM), last->grad_norm);
	add_value(object, "learning_rate", sum->has_row && (last->fields & FIELD_LEARNING_RATE),
	    last->learning_rate);
	json_object_set_new(object, "step_wall_ns",
	    sum->has_row ? json_integer(query_wall_ns(sum, last->head.time_ns)) : json_null());
	add_value(object, "steps_per_s", sum->steps_per_s > 0, sum->steps_per_s);
	add_value(object, "left_s", eta_s >= 0, eta_s);
	source_json_step(object, "memory_step", now->memory_step);
	source_json_step(object, "disk_step", sum->good_step);
	source_json_step(object, "first_step", sum->first_step);
	source_json_step(object, "high_step", sum->high_step);
}

static json_t *make_json(struct standing_now *now)
{
	const struct query_summary *sum = now->sum;
	json_t *object = json_object();
	char text[NOTICE_MAX];

	if (sum->has_run) {
		source_json_id(object, sum->run_id);
		add_text(object, "command", sum->command);
		add_text(object, "work_directory", sum->directory);
	}
	add_text(object, "directory", now->source.dir);
	add_text(object, "state", source_state_name(now->state));
	if (now->state == SOURCE_ENDED) {
		add_text(object, "end_reason", check_end_name(sum->end.reason));
		json_object_set_new(object, "exit_code", json_integer(sum->end.exit_code));
	}
	json_object_set_new(object, "pid", now->holder != 0 ? json_integer(now->holder) : json_null());
	add_count(object, "ranks", sum->rank_count);
	json_object_set_new(object, "started_wall_ns", json_integer(sum->wall_start_ns));
	json_object_set_new(object, "last_wall_ns", json_integer(now->last_ns));
	add_count(object, "up_ns", now->up_ns);
	add_count(object, "attempt", sum->attempt);
	add_count(object, "attempts", sum->attempt_count);
	if (sum->progress_format != PROGRESS_NONE && sum->progress_format < PROGRESS_COUNT) {
		add_text(object, "progress", schema_progress_words[sum->progress_format]);
		add_count(object, "progress_rank", sum->progress_rank);
	} else {
		json_object_set_new(object, "progress", json_null());
	}
	if (lacks_memory(sum))
		add_count(object, "snapshots_need_bytes",
		    sum->no_room.need_bytes * sum->no_room.rank_count);
	else
		json_object_set_new(object, "snapshots_need_bytes", json_null());
	add_last_row(object, now);
	add_count(object, "committed", source_committed(sum));
	add_count(object, "missing", sum->missing_count);
	add_count(object, "rows", sum->row_count);
	add_count(object, "again", sum->again_count);
	add_count(object, "partial", sum->partial_count);
	add_count(object, "gaps", sum->gap_count);
	add_count(object, "lost_reports", sum->gap_reports);
	add_count(object, "late_turns", sum->late_turns);
	add_count(object, "troubles", sum->trouble_count);
	add_count(object, "last_seq", sum->last_seq);
	add_count(object, "incidents", sum->incident_count);
	if (sum->incident_count > 0) {
		const struct query_incident *last = &sum->incidents[sum->incident_count - 1];
		json_t *incident = json_object();

		add_count(incident, "incident", last->fault.incident);
		add_text(incident, "fault", check_fault_name(last->fault.fault));
		json_object_set_new(incident, "recovered", json_boolean(last->recovered));
		if (incident_text(&now->source, last, text, sizeof(text)))
			add_text(incident, "sentence", text);
		json_object_set_new(object, "last_incident", incident);
	}
	return object;
}

/* --- the command ------------------------------------------------------------------------------------------ */

static int show(const char *dir, const char *shm_dir, uint64_t total, bool json)
{
	static struct standing_now now;
	bool damaged;
	int code = source_begin(&now.source, dir, &damaged);

	if (code == 0) {
		now.total = total;
		look(&now, shm_dir);
		if (json) {
			(void)source_print_json(make_json(&now));
		} else if (now.state == SOURCE_EMPTY) {
			printf("no run was recorded in %s yet\n", now.source.dir);
		} else {
			print_run(&now);
			print_state(&now);
			print_progress(&now);
			print_step(&now);
			print_good(&now);
			print_memory(&now);
			print_counts(&now);
		}
	}
	source_close(&now.source);
	return source_flush(code == 0 && damaged ? CLI_EXIT_CONFIG : code);
}

int cli_status(int argc, char **argv)
{
	struct options o = {.command = "status",
	    .synopsis = "[OPTIONS] [DIR]",
	    .specs = specs,
	    .spec_count = OPT_COUNT,
	    .argc = argc,
	    .argv = argv,
	    .at = 1};
	const char *dir = RUNDIR_DEFAULT, *shm_dir = "/dev/shm", *value;
	uint64_t total = 0;
	bool json = false;
	int option;

	while ((option = source_next_option(&o, &value, &dir)) >= 0) {
		if (option == OPT_DIR)
			dir = value;
		else if (option == OPT_SHM_DIR)
			shm_dir = value;
		else if (option == OPT_JSON)
			json = true;
		else if (!duration_count(value, 1, INT64_MAX, &total)) {
			fprintf(stderr,
			    "holdfast: status: --total-steps %s: not a number from 1 on\n", value);
			return CLI_EXIT_USAGE;
		}
	}
	if (option == OPTIONS_HELP)
		return 0;
	if (option == OPTIONS_BAD)
		return CLI_EXIT_USAGE;
	source_begin_output();
	return show(dir, shm_dir, total, json);
}
