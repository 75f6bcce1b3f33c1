/*
 * What `holdfast run` shows: a helper process that follows the journal and nothing else.
 *
 * On a terminal one line that is drawn again and again, and permanent lines above it for what happened; elsewhere
 * plain lines, or JSON lines.  It ends when the run's end was shown, when the agent is gone, or when nobody reads
 * it.  It must not hold up anything: the agent does not wait for it but at the very end, for a bounded time.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "journal/print.h"
#include "supervisor/cli/cli.h"
#include "supervisor/cli/duration.h"
#include "supervisor/cli/memstep.h"
#include "supervisor/cli/notice.h"
#include "supervisor/cli/printout.h"
#include "supervisor/clock.h"

#define POLL_MS 100
#define PLAIN_EVERY_NS 30000000000ull
#define MEMORY_EVERY_NS 250000000ull
#define MEMORY_RANKS_MAX 64u /* more files than this are not opened so often */
#define START_SLACK_NS 20000000ull
#define WIDTH_DEFAULT 80u
#define WIDTH_MAX 400u
#define WIDTH_WIDE 100u
#define WIDTH_WRAP 24u /* narrower ones are left to the terminal */
#define INDENT 10      /* columns of "holdfast: " */

enum display_option { OPT_DIR, OPT_SHM_DIR, OPT_JSON, OPT_TOTAL, OPT_COUNT };

static const struct option_spec specs[OPT_COUNT] = {
    [OPT_DIR] = {"dir", 'd', "DIR", "the run's directory"},
    [OPT_SHM_DIR] = {"shm-dir", 0, "DIR", "where its snapshots are"},
    [OPT_JSON] = {"json", 0, NULL, "print JSON lines"},
    [OPT_TOTAL] = {"total-steps", 0, "N", "iterations of the whole run, for the time it will take"},
};

struct display {
	struct source source;
	const char *dir, *shm_dir;
	bool json, terminal;
	uint64_t total;           /* iterations of the whole run; 0: not known */
	int parent;               /* the agent */
	uint64_t parent_since_ns; /* monotonic: no session of this run is older */
	uint64_t shown_seq;       /* every record up to here was looked at */
	bool started;             /* this run's own session was seen */
	bool ended;
	bool line_open;               /* the terminal's line is drawn and not ended */
	uint64_t plain_ns, memory_ns; /* monotonic: of the last progress line, of memory_step */
	uint64_t memory_step;
	char last[NOTICE_MAX + 8];     /* incident */
	struct record_session session; /* the last one seen */
};

static volatile sig_atomic_t asked_to_end;

static void on_term(int number)
{
	(void)number;
	asked_to_end = 1;
}

static void pause_poll(void)
{
	const struct timespec pause = {.tv_nsec = POLL_MS * 1000000};

	nanosleep(&pause, NULL);
}

static bool goes_on(const struct display *d)
{
	return !asked_to_end && getppid() == d->parent;
}

/* When a process was started, on the monotonic clock, or a little earlier; 0 when that cannot be known. */
static uint64_t started_ns(int pid)
{
	char path[64], text[1024];
	struct timespec boot;
	unsigned long long ticks = 0;
	uint64_t age_ns, now_ns = clock_monotonic_ns();
	long hertz = sysconf(_SC_CLK_TCK);
	size_t size;
	char *at;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	file = fopen(path, "re");
	if (file == NULL)
		return 0;
	size = fread(text, 1, sizeof(text) - 1, file);
	(void)fclose(file);
	text[size] = '\0';
	/* Behind the name, which may hold anything, the start is the twentieth field. */
	at = strrchr(text, ')');
	for (int field = 0; at != NULL && field < 20; field++)
		at = strchr(at + 1, ' ');
	if (at != NULL)
		ticks = strtoull(at + 1, NULL, 10);
	if (ticks == 0 || hertz <= 0 || clock_gettime(CLOCK_BOOTTIME, &boot) != 0)
		return 0;
	age_ns = (uint64_t)boot.tv_sec * 1000000000u + (uint64_t)boot.tv_nsec -
	    ticks * (1000000000u / (unsigned long)hertz);
	return age_ns + START_SLACK_NS < now_ns ? now_ns - age_ns - START_SLACK_NS : 0;
}

/* --- lines ------------------------------------------------------------------------------------------------ */

static void clear_line(struct display *d)
{
	if (d->line_open)
		printf("\r\033[K");
	d->line_open = false;
}

static unsigned terminal_width(void)
{
	struct winsize size;

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0)
		return WIDTH_DEFAULT;
	return size.ws_col < WIDTH_MAX ? size.ws_col : WIDTH_MAX;
}

struct line {
	char text[WIDTH_MAX * 4];
	unsigned width, used; /* columns */
};

/* Columns of a text, or what of it fits into `columns`, in bytes. */
static size_t fit(const char *text, unsigned columns, unsigned *columns_out)
{
	size_t at = 0;
	unsigned taken = 0;

	while (text[at] != '\0') {
		size_t next = at + 1;

		while (((unsigned char)text[next] & 0xc0) == 0x80)
			next++;
		if (taken == columns)
			break;
		taken++;
		at = next;
	}
	*columns_out = taken;
	return at;
}

/* Bytes of text that go on one line of `columns`: up to the last space that fits, or cut when there is none. */
static size_t break_at(const char *text, unsigned columns)
{
	unsigned taken;
	size_t bytes = fit(text, columns, &taken), space = bytes;

	if (text[bytes] == '\0' || text[bytes] == ' ')
		return bytes;
	while (space > 0 && text[space] != ' ')
		space--;
	return space > 0 ? space : bytes;
}

/* A permanent line; on a terminal it is broken between words, and what follows is set in. */
static void say(struct display *d, const char *text)
{
	unsigned width = d->terminal ? terminal_width() : 0;

	clear_line(d);
	printf("holdfast: ");
	while (width > WIDTH_WRAP && text[0] != '\0') {
		size_t bytes = break_at(text, width - INDENT);

		printf("%.*s\n", (int)bytes, text);
		text += bytes;
		text += strspn(text, " ");
		if (text[0] == '\0')
			return;
		printf("%*s", INDENT, "");
	}
	printf("%s\n", text);
}

/* Add a part with two spaces before it.  One that does not fit is cut when `cut`, else left out: false. */
static bool add_part(struct line *line, const char *text, bool cut)
{
	unsigned gap = line->used == 0 ? 0 : 2, room, columns;
	size_t length = strlen(line->text), bytes;

	if (line->used + gap + (cut ? 8 : 1) > line->width)
		return false;
	room = line->width - line->used - gap;
	bytes = fit(text, room, &columns);
	if ((text[bytes] != '\0' && !cut) || length + gap + bytes + 1 > sizeof(line->text))
		return false;
	snprintf(line->text + length, sizeof(line->text) - length, "%*s%.*s", (int)gap, "",
	    (int)bytes, text);
	line->used += gap + columns;
	return true;
}

static void add_good(const struct display *d, const struct query_summary *sum, struct line *line)
{
	unsigned long long memory = d->memory_step, disk = sum->good_step;
	char wide[128], narrow[64];

	if (memory == STEP_NONE && disk == STEP_NONE)
		return;
	if (memory != STEP_NONE && disk != STEP_NONE) {
		snprintf(wide, sizeof(wide), "good %llu in memory, %llu on disk", memory, disk);
		snprintf(narrow, sizeof(narrow), "good %llu", memory > disk ? memory : disk);
	} else {
		unsigned long long step = memory != STEP_NONE ? memory : disk;

		snprintf(wide, sizeof(wide), "good %llu %s", step,
		    memory != STEP_NONE ? "in memory" : "on disk");
		snprintf(narrow, sizeof(narrow), "good %llu", step);
	}
	/* On a narrow line the last incident is worth more than where the step is kept. */
	if (line->width < WIDTH_WIDE || !add_part(line, wide, false))
		add_part(line, narrow, false);
}

/* What matters most comes first: what does not fit is left out from the end. */
static void compose(const struct display *d, struct line *line)
{
	const struct query_summary *sum = query_summary(d->source.query);
	enum source_state state = source_state(&d->source, d->parent);
	double eta_s = source_eta_s(sum, d->total);
	char text[128], took[48];

	line->text[0] = '\0';
	line->used = 0;
	/* A restart makes steps again that are committed: what was reached does not go back. */
	if (sum->has_row && d->total != 0)
		snprintf(text, sizeof(text), "step %llu of %llu",
		    (unsigned long long)sum->complete_step, (unsigned long long)d->total);
	else if (sum->has_row)
		snprintf(text, sizeof(text), "step %llu", (unsigned long long)sum->complete_step);
	else
		snprintf(text, sizeof(text), "no step yet");
	add_part(line, text, true);
	if (state != SOURCE_RUNNING)
		add_part(line, source_state_name(state), false);
	if (sum->steps_per_s > 0) {
		snprintf(text, sizeof(text), "%.3g/s", sum->steps_per_s);
		add_part(line, text, false);
	}
	if (eta_s >= 0) {
		sentence_duration((uint64_t)(eta_s * 1e9), took, sizeof(took));
		snprintf(text, sizeof(text), "%s left", took);
		add_part(line, text, false);
	}
	if (sum->has_row && (sum->last_row.fields & FIELD_LOSS)) {
		snprintf(text, sizeof(text), "loss %.4g", sum->last_row.loss);
		add_part(line, text, false);
	}
	add_good(d, sum, line);
	if (sum->incident_count > 0) {
		snprintf(text, sizeof(text), "%zu incident%s", sum->incident_count,
		    sum->incident_count == 1 ? "" : "s");
		add_part(line, text, false);
		if (d->terminal && d->last[0] != '\0')
			add_part(line, d->last, true);
	}
}

static void print_progress_json(const struct display *d)
{
	const struct query_summary *sum = query_summary(d->source.query);
	double eta_s = source_eta_s(sum, d->total);
	json_t *object = json_object();

	json_object_set_new(object, "kind", json_string("progress"));
	json_object_set_new(
	    object, "state", json_string(source_state_name(source_state(&d->source, d->parent))));
	json_object_set_new(object, "time_ns", json_integer((json_int_t)sum->time_ns));
	json_object_set_new(object, "attempt", json_integer(sum->attempt));
	source_json_step(object, "step", sum->complete_step);
	json_object_set_new(object, "loss",
	    sum->has_row && (sum->last_row.fields & FIELD_LOSS) ? print_double(sum->last_row.loss)
								: json_null());
	json_object_set_new(object, "steps_per_s", print_double(sum->steps_per_s));
	json_object_set_new(object, "left_s", eta_s >= 0 ? json_real(eta_s) : json_null());
	source_json_step(object, "memory_step", d->memory_step);
	source_json_step(object, "disk_step", sum->good_step);
	json_object_set_new(object, "incidents", json_integer((json_int_t)sum->incident_count));
	(void)source_print_json(object);
}

static void show_progress(struct display *d)
{
	struct line line = {.width = WIDTH_MAX};
	uint64_t now_ns = clock_monotonic_ns();

	if (!d->started || d->ended)
		return;
	if (!d->terminal && now_ns - d->plain_ns < PLAIN_EVERY_NS)
		return;
	d->plain_ns = now_ns;
	if (d->json) {
		print_progress_json(d);
		return;
	}
	if (d->terminal)
		line.width = terminal_width() - 1; /* the last column would break the line */
	compose(d, &line);
	if (d->terminal) {
		printf("\r%s\033[K", line.text);
		d->line_open = true;
	} else {
		printf("holdfast: %s\n", line.text);
	}
}

static void look_into_memory(struct display *d)
{
	const struct query_summary *sum = query_summary(d->source.query);
	uint64_t now_ns = clock_monotonic_ns();

	if (!sum->has_run || sum->rank_count > MEMORY_RANKS_MAX ||
	    now_ns - d->memory_ns < MEMORY_EVERY_NS)
		return;
	d->memory_ns = now_ns;
	d->memory_step = memstep_newest(d->shm_dir, sum->run_id, sum->rank_count);
}

/* --- what happened ---------------------------------------------------------------------------------------- */

/* The newest step that was complete before the session: what it continues from was committed by then. */
static uint64_t step_before(struct display *d, const struct record *session)
{
	uint64_t newest = STEP_NONE;

	for (uint64_t seq = session->seq; seq > 1 && newest == STEP_NONE; seq--) {
		const struct record *r = source_record(&d->source, seq - 1);
		const struct record_step *row = (const struct record_step *)r;

		if (r == NULL)
			break;
		if (r->kind == RECORD_STEP && (row->flags & STEP_PARTIAL) == 0)
			newest = row->step;
	}
	return newest;
}

static void show_start(struct display *d, const struct record_session *session)
{
	const struct query_summary *sum = query_summary(d->source.query);
	const struct record *run = source_record(&d->source, sum->run_seq);
	char text[RUNDIR_PATH + 256];
	uint64_t step = step_before(d, &session->head);

	d->plain_ns = clock_monotonic_ns();
	if (d->json) {
		json_t *object = NULL;

		if (run == NULL || print_record_json(run, 0, &object, NULL) != STATUS_OK)
			return;
		json_object_set_new(
		    object, "run_directory", print_text(d->source.dir, strlen(d->source.dir)));
		(void)source_print_json(object);
		return;
	}
	if (session->session > 1 && step != STEP_NONE)
		snprintf(text, sizeof(text),
		    "run continues in %s: %u rank%s, last committed step %llu", d->source.dir,
		    sum->rank_count, sum->rank_count == 1 ? "" : "s", (unsigned long long)step);
	else
		snprintf(text, sizeof(text), "run in %s: %u rank%s", d->source.dir, sum->rank_count,
		    sum->rank_count == 1 ? "" : "s");
	source_plain(text);
	say(d, text);
}

/* Whether a session is of the `holdfast run` that started us, and not of one before it. */
static bool is_ours(const struct display *d, const struct record_session *session)
{
	uint8_t boot_id[16];

	clock_boot_id(boot_id);
	return memcmp(boot_id, session->boot_id, sizeof(boot_id)) == 0 &&
	    session->monotonic_ns >= d->parent_since_ns;
}

/* Where the incidents are explained; the end itself is the last word. */
static void show_end(struct display *d, const char *end)
{
	char text[RUNDIR_PATH + 64];
	size_t incidents = query_summary(d->source.query)->incident_count;

	if (incidents != 0) {
		snprintf(text, sizeof(text), "holdfast why %s explains the %s", d->source.dir,
		    incidents == 1 ? "incident" : "incidents");
		source_plain(text);
		say(d, text);
	}
	say(d, end);
}

static void show_record(struct display *d, const struct record *r)
{
	char text[NOTICE_MAX];

	if (r->kind == RECORD_SESSION)
		d->session = *(const struct record_session *)r;
	/* The clock's ticks cannot tell a run that was killed from one that followed within milliseconds; the
	 * agent's pid can. */
	if (r->kind == RECORD_AGENT && !d->started && is_ours(d, &d->session) &&
	    ((const struct record_agent *)r)->agent_pid == (uint32_t)d->parent) {
		d->started = true;
		show_start(d, &d->session);
		return;
	}
	if (!d->started || !notice_text(&d->source, r, text, sizeof(text)))
		return;
	if (d->json) {
		json_t *object = notice_json(&d->source, r);

		if (object != NULL)
			(void)source_print_json(object);
	} else if (r->kind == DECISION_END) {
		show_end(d, text);
	} else {
		say(d, text);
	}
	if (r->kind == DECISION_FAULT) {
		const char *words = strstr(text, ": ");

		snprintf(d->last, sizeof(d->last), "last: %s", words != NULL ? words + 2 : text);
	}
	d->ended = d->ended || r->kind == DECISION_END;
}

/* Everything that was committed since the last look. */
static void show_news(struct display *d)
{
	uint64_t last = query_summary(d->source.query)->last_seq;

	while (d->shown_seq < last && !asked_to_end) {
		const struct record *r = source_record(&d->source, ++d->shown_seq);

		if (r != NULL)
			show_record(d, r);
	}
}

/* --- the process ------------------------------------------------------------------------------------------ */

/* The supervisor makes the journal: it may not be there yet. */
static bool open_journal(struct display *d)
{
	while (goes_on(d)) {
		enum status status = source_open(&d->source, d->dir);

		if (status == STATUS_OK)
			return true;
		source_close(&d->source);
		/* Whatever is wrong with a journal, it is the supervisor's to say. */
		if (status == STATUS_REFUSED || status == STATUS_BAD)
			return false;
		pause_poll();
	}
	return false;
}

static void follow(struct display *d)
{
	enum status status = STATUS_OK;

	while (status == STATUS_OK || status == STATUS_AGAIN) {
		show_news(d);
		look_into_memory(d);
		show_progress(d);
		/* A terminal that is held up does not hold the journal up. */
		if (!source_park(&d->source) || d->ended || !goes_on(d))
			break;
		pause_poll();
		status = source_refresh(&d->source);
	}
	clear_line(d);
	/* The signal comes when the agent's first thread ends, a moment before the process is gone. */
	if (asked_to_end && !d->ended && getppid() == d->parent)
		pause_poll();
	if (!d->ended && !d->json && getppid() != d->parent)
		say(d,
		    "the process that ran this is gone, and the trainers with it; the same command "
		    "continues the run");
}

static void prepare(void)
{
	struct sigaction term = {.sa_handler = on_term};

	/* Ctrl-C is the agent's to answer; it goes to the whole terminal's group. */
	signal(SIGINT, SIG_IGN);
	signal(SIGQUIT, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	/* It is in a group of its own, and a terminal set to `tostop` would stop it. */
	signal(SIGTTOU, SIG_IGN);
	sigaction(SIGTERM, &term, NULL);
	source_begin_output();
	prctl(PR_SET_PDEATHSIG, SIGTERM);
}

int cli_display(int argc, char **argv)
{
	static struct display d = {.shm_dir = "/dev/shm", .memory_step = STEP_NONE};
	struct options o = {.command = "helper-display",
	    .synopsis = "--dir DIR",
	    .specs = specs,
	    .spec_count = OPT_COUNT,
	    .argc = argc,
	    .argv = argv,
	    .at = 1};
	const char *value, *term = getenv("TERM");
	int option;

	d.parent = getppid();
	while ((option = options_next(&o, &value)) >= 0) {
		if (option == OPT_DIR)
			d.dir = value;
		else if (option == OPT_SHM_DIR)
			d.shm_dir = value;
		else if (option == OPT_JSON)
			d.json = true;
		else if (!duration_count(value, 1, INT64_MAX, &d.total))
			return CLI_EXIT_USAGE;
	}
	if (option != OPTIONS_END || d.dir == NULL)
		return CLI_EXIT_USAGE;
	prepare();
	d.parent_since_ns = started_ns(d.parent);
	d.terminal = !d.json && isatty(STDOUT_FILENO) && term != NULL && strcmp(term, "dumb") != 0;
	if (open_journal(&d))
		follow(&d);
	source_close(&d.source);
	/* Nobody is told when nobody reads: it is our reader that went. */
	(void)printout_end();
	return 0;
}
