/*
 * holdfast run: what was asked for is checked before anything is changed; then this process is the agent.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "journal/check.h"
#include "journal/store.h"
#include "supervisor/agent/agent.h"
#include "supervisor/agent/warm.h"
#include "supervisor/cli/checkpoints.h"
#include "supervisor/cli/cli.h"
#include "supervisor/cli/detach.h"
#include "supervisor/cli/duration.h"
#include "supervisor/cli/options.h"
#include "supervisor/cli/run.h"
#include "supervisor/cli/rundir.h"
#include "supervisor/policy/policy.h"
#include "supervisor/progress/progress.h"
#include "supervisor/progress/regex.h"
#include "trainer/channel.h"

#define SHM_DIR_MAX 120u /* bytes; names of snapshots must fit behind it */

enum run_option {
	OPT_RANKS,
	OPT_DIR,
	OPT_SHM_DIR,
	OPT_PROGRESS,
	OPT_QUIET,
	OPT_DETACH,
	OPT_TOTAL,
	OPT_JSON,
	OPT_CHECKPOINT,
	OPT_CHECKPOINT_KEEP,
	OPT_CHECKPOINT_MODE,
	OPT_CHECKPOINT_BUDGET,
	OPT_RESUME_ARGS,
	OPT_WARM,
	OPT_STALL_MIN,
	OPT_STALL_MAX,
	OPT_STALL_FIRST,
	OPT_STALL_SILENT,
	OPT_STALL_FACTOR,
	OPT_STOPPED_GRACE,
	OPT_CAPTURE_TIMEOUT,
	OPT_CLEAR_TIMEOUT,
	OPT_VERIFY_TIMEOUT,
	OPT_STOP_TIMEOUT,
	OPT_BACKOFF_FIRST,
	OPT_BACKOFF_MAX,
	OPT_CLEAN_STEPS,
	OPT_TRIES,
	OPT_FIRST_TRIES,
	OPT_COUNT
};

static const struct option_spec specs[OPT_COUNT] = {
    [OPT_RANKS] = {"ranks", 'n', "N", "trainer processes to start (default 1)"},
    [OPT_DIR] = {"dir", 'd', "DIR", "the run's directory (default ./holdfast-run)"},
    [OPT_SHM_DIR] = {"shm-dir", 0, "DIR", "for shared memory (default /dev/shm)"},
    [OPT_PROGRESS] = {"progress", 0, "WHERE",
	"where iterations are read: auto, none, file:PATH, or a pattern (default auto)"},
    [OPT_QUIET] = {"quiet", 'q', NULL, "print nothing but errors"},
    [OPT_DETACH] = {"detach", 0, NULL, "leave the terminal once the trainers run"},
    [OPT_TOTAL] = {"total-steps", 0, "N", "iterations of the whole run: shows the time that is left"},
    [OPT_JSON] = {"json", 0, NULL, "print JSON lines"},
    [OPT_CHECKPOINT] = {"checkpoint", 0, "PATTERN",
	"where the script saves; {step} stands for a number in the name"},
    [OPT_CHECKPOINT_KEEP] = {"checkpoint-keep", 0, "N", "copies of checkpoints to keep (default 3)"},
    [OPT_CHECKPOINT_MODE] = {"checkpoint-mode", 0, "MODE",
	"auto, link, copy or inplace: how they are kept (default auto)"},
    [OPT_CHECKPOINT_BUDGET] = {"checkpoint-budget", 0, "SIZE",
	"for all copies together, as 20G (default no limit)"},
    [OPT_RESUME_ARGS] = {"resume-args", 0, "ARGS",
	"added to the command when it goes on from a checkpoint"},
    [OPT_WARM] = {"warm", 0, "MODULES", "keep Python modules imported, and fork the ranks from there"},
    [OPT_STALL_MIN] = {"stall-min", 0, "TIME", "no stall is declared earlier (default 2s)"},
    [OPT_STALL_MAX] = {"stall-max", 0, "TIME", "a stall is declared at the latest (default 1h)"},
    [OPT_STALL_FIRST] = {"stall-first", 0, "TIME",
	"limit for what was never seen yet, as the first step (default 30m)"},
    [OPT_STALL_SILENT] = {"stall-silent", 0, "TIME",
	"limit for a trainer that only prints, doing nothing at all (default 10m)"},
    [OPT_STALL_FACTOR] = {"stall-factor", 0, "N", "limit in longest recent steps (default 10)"},
    [OPT_STOPPED_GRACE] = {"stopped-grace", 0, "TIME",
	"a rank stopped by a signal is continued after (default 500ms)"},
    [OPT_CAPTURE_TIMEOUT] = {"capture-timeout", 0, "TIME", "for taking evidence (default 10s)"},
    [OPT_CLEAR_TIMEOUT] = {"clear-timeout", 0, "TIME", "for proving an attempt gone (default 60s)"},
    [OPT_VERIFY_TIMEOUT] = {"verify-timeout", 0, "TIME", "for verifying a checkpoint (default 10m)"},
    [OPT_STOP_TIMEOUT] = {"stop-timeout", 0, "TIME", "for trainers to end when asked to (default 2m)"},
    [OPT_BACKOFF_FIRST] = {"backoff-first", 0, "TIME",
	"wait before the second restart without progress (default 1s)"},
    [OPT_BACKOFF_MAX] = {"backoff-max", 0, "TIME", "the wait doubles up to this (default 1m)"},
    [OPT_CLEAN_STEPS] = {"clean-steps", 0, "N", "steps after which a checkpoint is good (default 5)"},
    [OPT_TRIES] = {"tries", 0, "N", "restarts without a new step, then give up (default 3)"},
    [OPT_FIRST_TRIES] = {"first-tries", 0, "N",
	"attempts without a first step, then give up (default 2)"},
};

struct request {
	const char *dir;
	bool detach;
	struct run_options options;
};

/* Where an option's duration goes; NULL when it is none. */
static uint64_t *duration_of(struct policy_config *config, int option)
{
	switch (option) {
	case OPT_STALL_MIN:
		return &config->stall_min_ns;
	case OPT_STALL_MAX:
		return &config->stall_max_ns;
	case OPT_STALL_FIRST:
		return &config->stall_first_ns;
	case OPT_STALL_SILENT:
		return &config->stall_silent_ns;
	case OPT_STOPPED_GRACE:
		return &config->stall_stopped_ns;
	case OPT_CAPTURE_TIMEOUT:
		return &config->capture_max_ns;
	case OPT_CLEAR_TIMEOUT:
		return &config->clear_max_ns;
	case OPT_VERIFY_TIMEOUT:
		return &config->verify_max_ns;
	case OPT_STOP_TIMEOUT:
		return &config->stop_grace_ns;
	case OPT_BACKOFF_FIRST:
		return &config->backoff_first_ns;
	case OPT_BACKOFF_MAX:
		return &config->backoff_max_ns;
	default:
		return NULL;
	}
}

static uint32_t *count_of(struct request *q, int option, uint64_t *minimum, uint64_t *maximum)
{
	*minimum = option == OPT_TRIES ? 0 : 1;
	*maximum = 1000000;
	switch (option) {
	case OPT_RANKS:
		*maximum = RANKS_MAX;
		return &q->options.rank_count;
	case OPT_STALL_FACTOR:
		return &q->options.config.stall_factor;
	case OPT_CLEAN_STEPS:
		return &q->options.config.clean_steps;
	case OPT_TRIES:
		return &q->options.config.tries_max;
	case OPT_FIRST_TRIES:
		return &q->options.config.tries_first_max;
	default:
		return NULL;
	}
}

/* A pattern is compiled here once, so that a mistake in it is known before anything is started. */
static bool take_progress(struct request *q, const char *value)
{
	enum progress_source source = progress_source_of(value);
	struct regex *pattern = NULL;
	struct cause why = {0};
	enum status status;

	q->options.progress = value;
	if (source == PROGRESS_FROM_FILE) {
		if (progress_path(value)[0] != '\0')
			return true;
		fprintf(stderr, "holdfast: run: --progress file: names no file; write file:PATH\n");
		return false;
	}
	if (source != PROGRESS_FROM_PATTERN)
		return true;
	status = regex_new(value, &pattern, &why);
	regex_free(pattern);
	if (status == STATUS_REFUSED)
		fprintf(stderr, "holdfast: run: --progress: at byte %lld of the pattern: %s\n",
		    (long long)why.number, why.subject);
	else if (status != STATUS_OK)
		fprintf(stderr, "holdfast: run: --progress: %s\n", strerror((int)why.number));
	return status == STATUS_OK;
}

static bool refuse_value(int option, const char *value, const char *what)
{
	fprintf(stderr, "holdfast: run: --%s %s: %s\n", specs[option].name, value, what);
	return false;
}

/* The options of the ladder on files. */
static bool take_checkpoint(struct request *q, int option, const char *value)
{
	struct checkpoint_options *c = &q->options.checkpoint;
	const char *fault;
	uint64_t number;

	switch (option) {
	case OPT_CHECKPOINT:
		fault = checkpoints_pattern_fault(value);
		if (fault != NULL)
			return refuse_value(option, value, fault);
		c->pattern = value;
		return true;
	case OPT_CHECKPOINT_KEEP:
		if (!duration_count(value, CHECKPOINTS_KEEP_MIN, CHECKPOINTS_KEEP_MAX, &number))
			return refuse_value(option, value, "not a number from 2 to 32");
		c->keep = (uint32_t)number;
		return true;
	case OPT_CHECKPOINT_MODE:
		if (!checkpoints_is_mode(value))
			return refuse_value(option, value, "not one of auto, link, copy and inplace");
		c->mode = value;
		return true;
	case OPT_CHECKPOINT_BUDGET:
		if (!checkpoints_size(value, &c->budget_bytes))
			return refuse_value(option, value, "not a size; write it as 500M, 20G or 1T");
		return true;
	case OPT_RESUME_ARGS:
		free((void *)c->resume_args);
		c->resume_args = (const char *const *)checkpoints_words(value);
		if (c->resume_args == NULL)
			return refuse_value(option, value, "not words as a shell takes them");
		return true;
	default:
		return true;
	}
}

static bool take_option(struct request *q, int option, const char *value)
{
	uint64_t *duration = duration_of(&q->options.config, option);
	uint64_t minimum, maximum, number;
	uint32_t *count = count_of(q, option, &minimum, &maximum);

	if (duration != NULL && !duration_parse(value, duration)) {
		fprintf(stderr,
		    "holdfast: run: --%s %s: not a time; write it as 500ms, 2s, 5m or 1h\n",
		    specs[option].name, value);
		return false;
	}
	if (count != NULL) {
		if (!duration_count(value, minimum, maximum, &number)) {
			fprintf(stderr, "holdfast: run: --%s %s: not a number from %llu to %llu\n",
			    specs[option].name, value, (unsigned long long)minimum,
			    (unsigned long long)maximum);
			return false;
		}
		*count = (uint32_t)number;
	}
	if (option == OPT_TOTAL && !duration_count(value, 1, INT64_MAX, &q->options.total_steps)) {
		fprintf(stderr, "holdfast: run: --total-steps %s: not a number from 1 on\n", value);
		return false;
	}
	if (option == OPT_WARM && !warm_modules_ok(value)) {
		fprintf(stderr,
		    "holdfast: run: --warm %s: not names of modules with commas between them, as "
		    "torch,torch.distributed\n",
		    value);
		return false;
	}
	if (option == OPT_PROGRESS)
		return take_progress(q, value);
	if (!take_checkpoint(q, option, value))
		return false;
	if (option == OPT_DIR)
		q->dir = value;
	else if (option == OPT_SHM_DIR)
		q->options.shm_dir = value;
	else if (option == OPT_QUIET)
		q->options.display = false;
	else if (option == OPT_DETACH)
		q->detach = true;
	else if (option == OPT_JSON)
		q->options.json = true;
	else if (option == OPT_WARM)
		q->options.warm = value;
	return true;
}

/* 0, or an exit code; -1: --help was printed. */
static int parse(struct request *q, int argc, char **argv)
{
	struct options o = {.command = "run",
	    .synopsis = "[OPTIONS] [--] COMMAND [ARG...]",
	    .specs = specs,
	    .spec_count = OPT_COUNT,
	    .argc = argc,
	    .argv = argv,
	    .at = 1};
	const char *value;
	int option;

	while ((option = options_next(&o, &value)) >= 0)
		if (!take_option(q, option, value))
			return CLI_EXIT_USAGE;
	if (option == OPTIONS_HELP)
		return -1;
	if (option == OPTIONS_BAD)
		return CLI_EXIT_USAGE;
	if (o.at >= argc) {
		fprintf(stderr,
		    "holdfast: run: a command is missing; "
		    "try holdfast run -n 2 -- ./train\n");
		return CLI_EXIT_USAGE;
	}
	if (q->options.config.stall_max_ns < q->options.config.stall_min_ns) {
		fprintf(stderr, "holdfast: run: --stall-max is less than --stall-min\n");
		return CLI_EXIT_USAGE;
	}
	if (q->options.checkpoint.pattern == NULL && q->options.checkpoint.resume_args != NULL) {
		fprintf(stderr,
		    "holdfast: run: --resume-args: nothing says where the checkpoints are; "
		    "name them with --checkpoint\n");
		return CLI_EXIT_USAGE;
	}
	q->options.command = argv + o.at;
	return 0;
}

static int reserve_port(struct run_options *o)
{
	uint16_t wanted = o->names.master_port;

	o->port_fd = rankenv_reserve_port(&o->names.master_port);
	if (o->port_fd >= 0)
		return 0;
	bool again = errno == EADDRINUSE || errno == EMFILE || errno == ENFILE;
	const char *error = strerror(errno);

	if (wanted != 0)
		fprintf(stderr,
		    "holdfast: port %u: cannot be reserved for the ranks: %s; name another, or "
		    "none\n",
		    wanted, error);
	else
		fprintf(stderr, "holdfast: no port can be reserved for the ranks: %s; try again\n",
		    error);
	return again ? CLI_EXIT_AGAIN : CLI_EXIT_CONFIG;
}

/* Whether shared memory can be had there, found out by having some; and enough for the ranks' channels. */
static int check_shm(const char *dir, uint32_t rank_count)
{
	const uint64_t need = (uint64_t)rank_count * CHANNEL_SIZE_BYTES;
	char path[SHM_DIR_MAX + 64];
	struct statvfs room;
	int fd, error;

	if (dir[0] != '/' || strlen(dir) > SHM_DIR_MAX) {
		fprintf(stderr,
		    "holdfast: %s: a directory for shared memory is an absolute path of at most "
		    "%u bytes\n",
		    dir, SHM_DIR_MAX);
		return CLI_EXIT_USAGE;
	}
	snprintf(path, sizeof(path), "%s/holdfast-probe-%d", dir, (int)getpid());
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	error = fd < 0 ? errno : posix_fallocate(fd, 0, 65536);
	if (fd >= 0) {
		close(fd);
		unlink(path);
	}
	if (error == 0 && statvfs(dir, &room) == 0 && room.f_blocks > 0 &&
	    (uint64_t)room.f_bavail * room.f_frsize < need) {
		fprintf(stderr,
		    "holdfast: %s: no room for shared memory: %u ranks need %llu KiB beside their "
		    "snapshots; free some, or name another directory in memory with --shm-dir\n",
		    dir, rank_count, (unsigned long long)(need + 1023) / 1024);
		return CLI_EXIT_AGAIN;
	}
	if (error == 0)
		return 0;
	fprintf(stderr,
	    "holdfast: %s: no shared memory: %s; name another directory in memory with --shm-dir\n",
	    dir, strerror(error));
	return error == ENOSPC ? CLI_EXIT_AGAIN : CLI_EXIT_CONFIG;
}

/* The journal's run against what was asked for now: "" when it is the same, else what differs. */
static const char *difference(const struct record_run *run, const struct run_options *o)
{
	const char *text = (const char *)(run + 1);
	uint32_t i = 0;

	if (run->rank_count != o->rank_count)
		return "the number of ranks";
	for (; i < run->argument_count && o->command[i] != NULL; i++) {
		if (strcmp(text, o->command[i]) != 0)
			return "the command";
		text += strlen(text) + 1;
	}
	if (i < run->argument_count || o->command[i] != NULL)
		return "the command";
	return strcmp(text, o->work_dir) != 0 ? "the directory it was started from" : "";
}

static bool is_done(struct store_reader *reader)
{
	struct cause why;
	const struct record *r;

	/* The end is among the last turn's records. */
	for (uint64_t seq = store_reader_last_seq(reader), i = 0; seq > 0 && i < 16; seq--, i++) {
		if (store_reader_get(reader, seq, &r, &why) != STATUS_OK)
			return false;
		if (r->kind == DECISION_END)
			return ((const struct decision_end *)r)->reason == END_DONE;
	}
	return false;
}

static int compare(struct store_reader *reader, const char *path, struct run_options *o)
{
	const struct record *first;
	const char *what;
	struct cause why;

	if (store_reader_last_seq(reader) == 0)
		return 0;
	if (store_reader_get(reader, 1, &first, &why) != STATUS_OK || first->kind != RECORD_RUN ||
	    check_record(first, first->size_bytes, &why) != STATUS_OK) {
		fprintf(stderr, "holdfast: %s: its journal is damaged; name another with --dir\n",
		    path);
		return CLI_EXIT_CONFIG;
	}
	const struct record_run *run = (const struct record_run *)first;

	what = difference(run, o);
	if (what[0] != '\0') {
		fprintf(stderr,
		    "holdfast: %s: holds a different run: %s is not the same; name another with "
		    "--dir, or see holdfast status %s\n",
		    path, what, path);
		return CLI_EXIT_CONFIG;
	}
	memcpy(o->run_id, run->run_id, sizeof(o->run_id));
	o->resumed = true;
	return 0;
}

/* 0: go on.  -1: the run is done already.  Else an exit code. */
static int check_journal(const char *path, struct run_options *o)
{
	struct store_reader *reader = NULL;
	struct cause why = {0};
	char journal[RUNDIR_PATH];
	int code;

	if (!rundir_journal(path, journal))
		return CLI_EXIT_CONFIG;
	switch (store_reader_open(journal, &reader, &why)) {
	case STATUS_NONE:
		return 0;
	case STATUS_OK:
		code = compare(reader, path, o);
		if (code == 0 && o->resumed && is_done(reader))
			code = -1;
		store_reader_close(reader);
		return code;
	case STATUS_REFUSED:
		fprintf(stderr,
		    "holdfast: %s: its journal has schema %lld, this holdfast knows up to %u; use "
		    "a newer holdfast\n",
		    path, (long long)why.number, RECORD_SCHEMA);
		return CLI_EXIT_CONFIG;
	default:
		fprintf(stderr, "holdfast: %s: its journal cannot be read: %s %s\n", path,
		    why.step != NULL ? why.step : "",
		    why.domain == CAUSE_ERRNO ? strerror((int)why.number) : why.subject);
		return CLI_EXIT_CONFIG;
	}
}

/* The run directory is ours: what is asked for must fit what is in it. */
static int enter(struct request *q, struct rundir *rd)
{
	struct run_options *o = &q->options;
	int code;

	if (getrandom(o->run_id, sizeof(o->run_id), 0) != (ssize_t)sizeof(o->run_id)) {
		fprintf(stderr, "holdfast: no random bytes: %s\n", strerror(errno));
		return CLI_EXIT_BUG;
	}
	code = check_journal(rd->path, o);
	return code != 0 ? code : rundir_fill(rd);
}

/* A path that is not absolute is seen from where we were started. */
static bool locate_progress(struct run_options *o)
{
	static char text[2 * RUNDIR_PATH];
	const char *path = o->progress;
	int length;

	if (progress_source_of(path) != PROGRESS_FROM_FILE || progress_path(path)[0] == '/')
		return true;
	length = snprintf(
	    text, sizeof(text), "%s%s/%s", PROGRESS_FILE_PREFIX, o->work_dir, progress_path(path));
	if (length < 0 || (size_t)length >= sizeof(text)) {
		fprintf(stderr, "holdfast: run: --progress %s: the path is too long\n", path);
		return false;
	}
	o->progress = text;
	return true;
}

/* detach: NULL, or in the process that detach_fork() made. */
static int start(struct request *q, struct detach *detach)
{
	static char work_dir[RUNDIR_PATH];
	static struct rundir rd;
	struct run_options *o = &q->options;
	int code = check_shm(o->shm_dir, o->rank_count);

	if (code == 0)
		code = reserve_port(o);
	if (code != 0)
		return code;
	if (getcwd(work_dir, sizeof(work_dir)) == NULL) {
		fprintf(stderr, "holdfast: the current directory: %s\n", strerror(errno));
		return CLI_EXIT_CONFIG;
	}
	o->work_dir = work_dir;
	if (!locate_progress(o))
		return CLI_EXIT_USAGE;
	if (o->checkpoint.pattern != NULL) {
		const char *given = o->checkpoint.pattern;

		o->checkpoint.pattern = checkpoints_absolute(given, work_dir);
		if (o->checkpoint.pattern == NULL) {
			fprintf(stderr, "holdfast: run: --checkpoint %s: the path is too long\n",
			    given);
			return CLI_EXIT_USAGE;
		}
	}
	code = rundir_take(&rd, q->dir);
	if (code != 0)
		return code;
	code = enter(q, &rd);
	if (code < 0 && o->display)
		fprintf(o->json ? stderr : stdout,
		    "holdfast: %s: this run is done already; see holdfast status %s\n", rd.path,
		    rd.path);
	if (code != 0) {
		rundir_withdraw(&rd);
		return code < 0 ? 0 : code;
	}
	o->run_dir = rd.path;
	o->lock_fd = rd.lock_fd;
	if (detach != NULL) {
		code = detach_leave(detach, rd.path);
		if (code != 0)
			return code;
		o->up_fd = detach->fd;
	}
	return agent_run(o);
}

const struct option_spec *run_specs(size_t *count_out)
{
	*count_out = OPT_COUNT;
	return specs;
}

int run_begin(const struct rankenv_names *names, int argc, char **argv)
{
	struct request q = {.dir = RUNDIR_DEFAULT,
	    .options = {.shm_dir = "/dev/shm",
		.progress = "auto",
		.rank_count = 1,
		.display = true,
		.lock_fd = -1,
		.up_fd = -1,
		.names = *names,
		.checkpoint = {.mode = "auto", .keep = CHECKPOINTS_KEEP_DEFAULT}}};
	struct detach detach = {.fd = -1};
	int code;

	policy_config_default(&q.options.config);
	code = parse(&q, argc, argv);
	if (code != 0)
		return code < 0 ? 0 : code;
	if (!q.detach)
		return start(&q, NULL);
	detach.json = q.options.json;
	detach.quiet = !q.options.display;
	return detach_fork(&detach, &code) ? start(&q, &detach) : code;
}

int cli_run(int argc, char **argv)
{
	const struct rankenv_names names = {0};

	return run_begin(&names, argc, argv);
}
