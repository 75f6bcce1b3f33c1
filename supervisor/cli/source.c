/* See source.h. */
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "journal/check.h"
#include "supervisor/cli/cli.h"
#include "supervisor/cli/printout.h"
#include "supervisor/cli/source.h"

#define SECOND_NS 1000000000ll
/* So much is kept in memory before the journal is let go of for it. */
#define LET_GO_BYTES (128u << 10)

/* DIR/journal, or DIR itself when that is where the data lies. */
static bool find_journal(const char *dir, char journal[RUNDIR_PATH])
{
	char data[RUNDIR_PATH + 16];

	if (!rundir_journal(dir, journal))
		return false;
	snprintf(data, sizeof(data), "%s/data.mdb", journal);
	if (access(data, F_OK) == 0)
		return true;
	snprintf(data, sizeof(data), "%s/data.mdb", dir);
	if (access(data, F_OK) == 0)
		snprintf(journal, RUNDIR_PATH, "%s", dir);
	return true;
}

enum status source_open(struct source *s, const char *dir)
{
	char journal[RUNDIR_PATH];
	char *absolute = realpath(dir, NULL);
	enum status status;

	*s = (struct source){.reader = NULL};
	snprintf(s->dir, sizeof(s->dir), "%s",
	    absolute != NULL && strlen(absolute) < RUNDIR_PATH ? absolute : dir);
	free(absolute);
	if (!find_journal(s->dir, journal)) {
		cause_set(&s->why, CAUSE_ERRNO, ENAMETOOLONG, "open", dir);
		return STATUS_SYS;
	}
	status = store_reader_open(journal, &s->reader, &s->why);
	if (status != STATUS_OK)
		return status;
	s->query = query_new(s->reader);
	if (s->query == NULL) {
		cause_set(&s->why, CAUSE_ERRNO, ENOMEM, "open", dir);
		return STATUS_SYS;
	}
	return query_update(s->query, &s->why);
}

void source_close(struct source *s)
{
	query_free(s->query);
	if (s->reader != NULL)
		store_reader_close(s->reader);
	s->query = NULL;
	s->reader = NULL;
}

enum status source_refresh(struct source *s)
{
	enum status status = store_reader_refresh(s->reader, &s->why);

	return status == STATUS_OK ? query_update(s->query, &s->why) : status;
}

enum status source_let_go(struct source *s, bool *stop)
{
	if (printout_size() < LET_GO_BYTES)
		return STATUS_OK;
	store_reader_park(s->reader);
	*stop = !printout_write() || *stop;
	return store_reader_refresh(s->reader, &s->why);
}

bool source_park(struct source *s)
{
	store_reader_park(s->reader);
	return printout_write();
}

int source_complain(const struct source *s, enum status status)
{
	const struct cause *why = &s->why;

	switch (status) {
	case STATUS_NONE:
		fprintf(stderr,
		    "holdfast: %s: there is no run here; name its directory with --dir\n", s->dir);
		return CLI_EXIT_CONFIG;
	case STATUS_REFUSED:
		fprintf(stderr, "holdfast: %s: its journal was written by a newer holdfast (%s %lld); use that one\n",
		    s->dir, why->step != NULL ? why->step : "record", (long long)why->number);
		return CLI_EXIT_CONFIG;
	case STATUS_AGAIN:
		fprintf(stderr, "holdfast: %s: its journal is busy; try again\n", s->dir);
		return CLI_EXIT_AGAIN;
	case STATUS_BAD:
		fprintf(stderr,
		    "holdfast: %s: its journal is damaged (%s %s %lld); what stands before that is "
		    "shown\n",
		    s->dir, why->step != NULL ? why->step : "", why->subject, (long long)why->number);
		return CLI_EXIT_CONFIG;
	default:
		fprintf(stderr, "holdfast: %s: its journal cannot be read: %s: %s\n", s->dir,
		    why->step != NULL ? why->step : "open",
		    why->domain == CAUSE_ERRNO ? strerror((int)why->number) : why->subject);
		return why->domain == CAUSE_ERRNO && why->number == ENOMEM ? CLI_EXIT_AGAIN
									   : CLI_EXIT_CONFIG;
	}
}

int source_begin(struct source *s, const char *dir, bool *damaged)
{
	enum status status = source_open(s, dir);

	*damaged = false;
	if (status == STATUS_OK)
		return 0;
	if (status == STATUS_BAD && s->query == NULL) {
		fprintf(stderr, "holdfast: %s: its journal is damaged: %s %s\n", s->dir,
		    s->why.step != NULL ? s->why.step : "", s->why.subject);
		return CLI_EXIT_CONFIG;
	}
	*damaged = status == STATUS_BAD;
	return *damaged ? (source_complain(s, status), 0) : source_complain(s, status);
}

const struct record *source_record(struct source *s, uint64_t seq)
{
	const struct record *r;

	if (seq == 0 || store_reader_get(s->reader, seq, &r, NULL) != STATUS_OK ||
	    check_record(r, r->size_bytes, NULL) != STATUS_OK)
		return NULL;
	return r;
}

int source_holder(const struct source *s)
{
	int holder = rundir_holder(s->dir);

	return holder > 0 ? holder : 0;
}

/* The last incident stands open when no attempt that came after it has made a step. */
static bool incident_open(const struct query_summary *sum)
{
	const struct query_incident *last;

	if (sum->incident_count == 0)
		return false;
	last = &sum->incidents[sum->incident_count - 1];
	return !last->recovered && (!sum->has_row || sum->last_row.attempt <= last->fault.attempt);
}

enum source_state source_state(const struct source *s, int holder)
{
	const struct query_summary *sum = query_summary(s->query);

	if (!sum->has_run)
		return SOURCE_EMPTY;
	/* A run that was stopped and is carried on has an end before its last session. */
	if (sum->ended && (!sum->has_session || sum->end.head.seq > sum->session.head.seq))
		return SOURCE_ENDED;
	if (holder == 0)
		return SOURCE_DEAD;
	if (incident_open(sum))
		return SOURCE_RECOVERING;
	return sum->has_row && sum->last_row.attempt == sum->attempt ? SOURCE_RUNNING
								     : SOURCE_STARTING;
}

const char *source_state_name(enum source_state state)
{
	static const char *const names[] = {
	    [SOURCE_EMPTY] = "empty",
	    [SOURCE_STARTING] = "starting",
	    [SOURCE_RUNNING] = "running",
	    [SOURCE_RECOVERING] = "recovering",
	    [SOURCE_ENDED] = "ended",
	    [SOURCE_DEAD] = "dead",
	};

	return names[state];
}

uint64_t source_committed(const struct query_summary *sum)
{
	if (sum->first_step == STEP_NONE)
		return 0;
	return sum->high_step - sum->first_step + 1 - sum->missing_count;
}

double source_eta_s(const struct query_summary *sum, uint64_t total)
{
	uint64_t made;

	if (total == 0 || sum->first_step == STEP_NONE || sum->steps_per_s <= 0)
		return -1;
	made = sum->last_row.step - sum->first_step + 1;
	return made >= total ? 0 : (double)(total - made) / sum->steps_per_s;
}

void source_wall_text(int64_t wall_ns, char *out, size_t size)
{
	time_t seconds = (time_t)(wall_ns / SECOND_NS);
	struct tm local;

	if (localtime_r(&seconds, &local) == NULL ||
	    strftime(out, size, "%Y-%m-%d %H:%M:%S", &local) == 0)
		snprintf(out, size, "(no time)");
}

void source_plain(char *text)
{
	for (unsigned char *at = (unsigned char *)text; *at != '\0'; at++) {
		if (*at < 0x20 || *at == 0x7f)
			*at = '?';
		/* The terminal's second set of controls, as UTF-8 and as single bytes. */
		else if (at[0] == 0xc2 && at[1] >= 0x80 && at[1] < 0xa0)
			at[0] = at[1] = '?';
	}
}

void source_json_step(json_t *object, const char *name, uint64_t step)
{
	json_object_set_new(object, name,
	    step == STEP_NONE || step > INT64_MAX ? json_null() : json_integer((json_int_t)step));
}

void source_json_id(json_t *object, const uint8_t id[16])
{
	char hex[33];

	for (int i = 0; i < 16; i++)
		snprintf(hex + 2 * i, 3, "%02x", id[i]);
	json_object_set_new(object, "run_id", json_string(hex));
}

bool source_print_json(json_t *object)
{
	bool printed = object != NULL && json_dumpf(object, stdout, JSON_COMPACT) == 0;

	json_decref(object);
	return printed && putchar('\n') != EOF;
}

int source_next_option(struct options *o, const char **value_out, const char **dir)
{
	int option;

	while ((option = options_next(o, value_out)) == OPTIONS_END && o->at < o->argc) {
		if (o->words > 0) {
			fprintf(stderr,
			    "holdfast: %s: %s: one directory only; try holdfast %s --help\n",
			    o->command, o->argv[o->at], o->command);
			return OPTIONS_BAD;
		}
		*dir = o->argv[o->at++];
		o->words++;
	}
	return option;
}

int source_flush(int code)
{
	if (printout_end())
		return code;
	if (errno == EPIPE)
		return code;
	fprintf(stderr, "holdfast: standard output: %s\n", strerror(errno));
	return CLI_EXIT_AGAIN;
}

void source_begin_output(void)
{
	signal(SIGPIPE, SIG_DFL);
	printout_begin();
}
