/*
 * holdfast torchrun: torchrun's words become those of holdfast run, and the run is begun by that.
 *
 * The table is the whole of torchrun's command line as of PyTorch 2.13; 1.13's is a part of it.
 */
#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "journal/record.h"
#include "supervisor/cli/cli.h"
#include "supervisor/cli/devices.h"
#include "supervisor/cli/duration.h"
#include "supervisor/cli/options.h"
#include "supervisor/cli/run.h"

#define RESTARTS_MAX 999999u
#define NUMBER_MAX 24u
#define OWN_WORDS 16u /* that are put before and behind the user's */
#define NO_EFFECT "accepted, without an effect"

enum torchrun_option {
	OPT_NNODES,
	OPT_NPROC,
	OPT_MODULE,
	OPT_NO_PYTHON,
	OPT_RUN_PATH,
	OPT_STANDALONE,
	OPT_MASTER_ADDR,
	OPT_MASTER_PORT,
	OPT_RDZV_BACKEND,
	OPT_RDZV_ENDPOINT,
	OPT_RDZV_ID,
	OPT_ROLE,
	OPT_NODE_RANK,
	OPT_MAX_RESTARTS,
	OPT_SHUTDOWN_TIMEOUT,
	OPT_LOG_DIR,
	OPT_REDIRECTS,
	OPT_TEE,
	OPT_LOCAL_RANKS_FILTER,
	OPT_STDOUT_FILTERS,
	OPT_STDERR_FILTERS,
	OPT_MONITOR_INTERVAL,
	OPT_START_METHOD,
	OPT_RDZV_CONF,
	OPT_LOCAL_ADDR,
	OPT_EVENT_LOG,
	OPT_SIGNALS,
	OPT_LOGS_SPECS, /* from here on: refused */
	OPT_NUMA,
	OPT_VIRTUAL_RANK,
	OPT_COUNT
};

static const struct option_spec specs[OPT_COUNT] = {
    [OPT_NNODES] = {"nnodes", 0, "N", "1 or 1:1 (default 1)"},
    [OPT_NPROC] = {"nproc-per-node", 0, "N", "ranks: a number, auto, cpu or gpu (default 1)"},
    [OPT_MODULE] = {"module", 'm', NULL, "SCRIPT is the name of a Python module"},
    [OPT_NO_PYTHON] = {"no-python", 0, NULL, "SCRIPT is a program"},
    [OPT_RUN_PATH] = {"run-path", 0, NULL, NO_EFFECT},
    [OPT_STANDALONE] = {"standalone", 0, NULL, "any port, whatever --master-port says"},
    [OPT_MASTER_ADDR] = {"master-addr", 0, "ADDR", "MASTER_ADDR of the ranks (default 127.0.0.1)"},
    [OPT_MASTER_PORT] = {"master-port", 0, "PORT",
	"MASTER_PORT of the ranks (default one that is free)"},
    [OPT_RDZV_BACKEND] = {"rdzv-backend", 0, "NAME", "c10d or static (default static)"},
    [OPT_RDZV_ENDPOINT] = {"rdzv-endpoint", 0, "HOST:PORT",
	"with static: as --master-addr, --master-port"},
    [OPT_RDZV_ID] = {"rdzv-id", 0, "ID", "TORCHELASTIC_RUN_ID of the ranks (default the run's id)"},
    [OPT_ROLE] = {"role", 0, "NAME", "ROLE_NAME of the ranks (default default)"},
    [OPT_NODE_RANK] = {"node-rank", 0, "0", "0"},
    [OPT_MAX_RESTARTS] = {"max-restarts", 0, "N",
	"restarts without a new step, then give up (default 3)"},
    [OPT_SHUTDOWN_TIMEOUT] = {"shutdown-timeout", 0, "SECONDS",
	"for ranks to end when asked to (default 120)"},
    [OPT_LOG_DIR] = {"log-dir", 0, "DIR", NO_EFFECT},
    [OPT_REDIRECTS] = {"redirects", 'r', "WHICH", NO_EFFECT},
    [OPT_TEE] = {"tee", 't', "WHICH", NO_EFFECT},
    [OPT_LOCAL_RANKS_FILTER] = {"local-ranks-filter", 0, "RANKS", NO_EFFECT},
    [OPT_STDOUT_FILTERS] = {"duplicate-stdout-filters", 0, "FILTERS", NO_EFFECT},
    [OPT_STDERR_FILTERS] = {"duplicate-stderr-filters", 0, "FILTERS", NO_EFFECT},
    [OPT_MONITOR_INTERVAL] = {"monitor-interval", 0, "SECONDS", NO_EFFECT},
    [OPT_START_METHOD] = {"start-method", 0, "METHOD", NO_EFFECT},
    [OPT_RDZV_CONF] = {"rdzv-conf", 0, "CONF", NO_EFFECT},
    [OPT_LOCAL_ADDR] = {"local-addr", 0, "ADDR", NO_EFFECT},
    [OPT_EVENT_LOG] = {"event-log-handler", 0, "NAME", NO_EFFECT},
    [OPT_SIGNALS] = {"signals-to-handle", 0, "SIGNALS", NO_EFFECT},
    [OPT_LOGS_SPECS] = {"logs-specs", 0, "NAME", "not supported"},
    [OPT_NUMA] = {"numa-binding", 0, "MODE", "not supported"},
    [OPT_VIRTUAL_RANK] = {"virtual-local-rank", 0, NULL, "not supported"},
};

struct torchrun {
	const char *values[OPT_COUNT]; /* a flag that is set has one, too */
	char **words;                  /* of holdfast run */
	int word_count;
	char ranks[NUMBER_MAX], tries[NUMBER_MAX], first_tries[NUMBER_MAX], timeout[NUMBER_MAX];
	char host[256];
	struct rankenv_names names;
};

static const char flag_set[] = "1";

/* --- its words ------------------------------------------------------------------------------------------- */

static void add_word(struct torchrun *t, const char *word)
{
	t->words[t->word_count++] = (char *)word;
}

/* torchrun takes PET_NNODES and the like, which cluster managers set, for what is not on the command line. */
static void take_environment(struct torchrun *t)
{
	for (int i = 0; i < OPT_COUNT; i++) {
		char name[64];
		int length = snprintf(name, sizeof(name), "PET_%s", specs[i].name);

		for (int at = 0; at < length; at++)
			name[at] = name[at] == '-' ? '_' : (char)toupper((unsigned char)name[at]);
		const char *value = getenv(name);

		if (value == NULL || value[0] == '\0')
			continue;
		if (specs[i].argument != NULL)
			t->values[i] = value;
		else if (strtol(value, NULL, 10) != 0)
			t->values[i] = flag_set;
	}
}

/* 0, or an exit code; -1: --help was printed.  *script_at: the first word behind the options. */
static int parse(struct torchrun *t, int argc, char **argv, int *script_at)
{
	struct options o = {.command = "torchrun",
	    .synopsis = "[OPTIONS] [OPTIONS OF holdfast run] SCRIPT [ARG...]",
	    .specs = specs,
	    .spec_count = OPT_COUNT,
	    .argc = argc,
	    .argv = argv,
	    .at = 1};
	const char *value;
	int option, before = 1;

	o.more = run_specs(&o.more_count);
	for (; (option = options_next(&o, &value)) >= 0; before = o.at) {
		if (option < OPT_COUNT)
			t->values[option] = value != NULL ? value : flag_set;
		for (int at = before; option >= OPT_COUNT && at < o.at; at++)
			add_word(t, argv[at]);
	}
	if (option == OPTIONS_HELP)
		return -1;
	if (option == OPTIONS_BAD)
		return CLI_EXIT_USAGE;
	if (o.at >= argc) {
		fprintf(stderr,
		    "holdfast: torchrun: a script is missing; "
		    "try holdfast torchrun --nproc-per-node 2 train.py\n");
		return CLI_EXIT_USAGE;
	}
	*script_at = o.at;
	return 0;
}

/* --- what they mean -------------------------------------------------------------------------------------- */

static int complain(const struct torchrun *t, enum torchrun_option option, const char *what)
{
	bool flag = specs[option].argument == NULL;

	fprintf(stderr, "holdfast: torchrun: --%s%s%s: %s; see holdfast-torchrun(1)\n",
	    specs[option].name, flag ? "" : " ", flag ? "" : t->values[option], what);
	return CLI_EXIT_USAGE;
}

static bool is(const struct torchrun *t, enum torchrun_option option, const char *value)
{
	return t->values[option] != NULL && strcmp(t->values[option], value) == 0;
}

static int check_support(const struct torchrun *t)
{
	for (int i = OPT_LOGS_SPECS; i < OPT_COUNT; i++)
		if (t->values[i] != NULL)
			return complain(t, (enum torchrun_option)i, "not supported");
	if (t->values[OPT_NNODES] != NULL && !is(t, OPT_NNODES, "1") && !is(t, OPT_NNODES, "1:1"))
		return complain(t, OPT_NNODES, "not supported: a run has one node");
	if (t->values[OPT_NODE_RANK] != NULL && !is(t, OPT_NODE_RANK, "0"))
		return complain(t, OPT_NODE_RANK, "not supported: a run has one node, 0");
	if (t->values[OPT_RDZV_BACKEND] != NULL && !is(t, OPT_RDZV_BACKEND, "static") &&
	    !is(t, OPT_RDZV_BACKEND, "c10d"))
		return complain(t, OPT_RDZV_BACKEND, "not supported; use c10d or static");
	if (t->values[OPT_NO_PYTHON] != NULL && t->values[OPT_MODULE] != NULL)
		return complain(t, OPT_MODULE, "a module is no program; leave out --no-python");
	return 0;
}

static const char *interpreter(void)
{
	const char *python = getenv("PYTHON_EXEC");

	return python != NULL && python[0] != '\0' ? python : "python3";
}

/* The number of ranks, as torchrun counts them. */
static int count_ranks(const struct torchrun *t, uint32_t *count)
{
	const char *value = t->values[OPT_NPROC];
	uint64_t number;

	if (value == NULL)
		return 0;
	if (duration_count(value, 1, RANKS_MAX, &number)) {
		*count = (uint32_t)number;
		return 0;
	}
	if (strcmp(value, "cpu") == 0) {
		*count = devices_cpu_count();
		return 0;
	}
	if (value[0] == '\0' || value[strspn(value, "abcdefghijklmnopqrstuvwxyz")] != '\0')
		return complain(t, OPT_NPROC, "neither a number from 1 on nor auto, cpu or gpu");
	if (!devices_count(interpreter(), value, count)) {
		fprintf(stderr,
		    "holdfast: torchrun: --nproc-per-node %s: %s cannot say how many there are, "
		    "for "
		    "want of torch; name the right one in PYTHON_EXEC, or give a number\n",
		    value, interpreter());
		return CLI_EXIT_CONFIG;
	}
	if (*count == 0 && strcmp(value, "auto") == 0)
		*count = devices_cpu_count();
	if (*count > 0)
		return 0;
	fprintf(stderr, "holdfast: torchrun: --nproc-per-node %s: there is none; give a number\n",
	    value);
	return CLI_EXIT_CONFIG;
}

/* HOST, HOST:PORT or [HOST]:PORT. */
static bool split_endpoint(struct torchrun *t, const char *endpoint, const char **port)
{
	const char *colon = strrchr(endpoint, ':');
	size_t length = colon != NULL ? (size_t)(colon - endpoint) : strlen(endpoint);

	*port = colon != NULL ? colon + 1 : NULL;
	if (length >= 2 && endpoint[0] == '[' && endpoint[length - 1] == ']') {
		endpoint++;
		length -= 2;
	}
	if (length == 0 || length >= sizeof(t->host))
		return false;
	memcpy(t->host, endpoint, length);
	t->host[length] = '\0';
	t->names.master_addr = t->host;
	return true;
}

/* As in torchrun, --standalone and c10d leave the port to the launcher; an endpoint is for static only. */
static int name_meeting(struct torchrun *t)
{
	enum torchrun_option from = OPT_MASTER_PORT;
	const char *port = t->values[OPT_MASTER_PORT];
	uint64_t number = 0;

	t->names.role = t->values[OPT_ROLE];
	if (t->values[OPT_STANDALONE] != NULL)
		return 0;
	t->names.run_name = t->values[OPT_RDZV_ID];
	if (is(t, OPT_RDZV_BACKEND, "c10d"))
		return 0;
	t->names.master_addr = t->values[OPT_MASTER_ADDR];
	if (t->values[OPT_RDZV_ENDPOINT] != NULL && t->values[OPT_RDZV_ENDPOINT][0] != '\0') {
		from = OPT_RDZV_ENDPOINT;
		if (!split_endpoint(t, t->values[from], &port))
			return complain(t, from, "not HOST:PORT");
	}
	if (port != NULL && !duration_count(port, 0, UINT16_MAX, &number))
		return complain(t, from, "not a port from 0 to 65535");
	t->names.master_port = (uint16_t)number;
	return 0;
}

/* Options of holdfast run that stand before the user's, so that the user's prevail. */
static int translate(struct torchrun *t)
{
	const char *restarts = t->values[OPT_MAX_RESTARTS], *timeout = t->values[OPT_SHUTDOWN_TIMEOUT];
	uint64_t number;
	uint32_t ranks = 1;
	int code = count_ranks(t, &ranks);

	if (code != 0)
		return code;
	snprintf(t->ranks, sizeof(t->ranks), "%u", ranks);
	add_word(t, "--ranks");
	add_word(t, t->ranks);
	if (restarts != NULL) {
		if (!duration_count(restarts, 0, RESTARTS_MAX, &number))
			return complain(t, OPT_MAX_RESTARTS, "not a number from 0 to 999999");
		snprintf(t->tries, sizeof(t->tries), "%llu", (unsigned long long)number);
		snprintf(
		    t->first_tries, sizeof(t->first_tries), "%llu", (unsigned long long)number + 1);
		add_word(t, "--tries");
		add_word(t, t->tries);
		add_word(t, "--first-tries");
		add_word(t, t->first_tries);
	}
	if (timeout != NULL) {
		if (!duration_count(timeout, 1, RESTARTS_MAX, &number))
			return complain(t, OPT_SHUTDOWN_TIMEOUT, "not a number of seconds from 1 on");
		snprintf(t->timeout, sizeof(t->timeout), "%llus", (unsigned long long)number);
		add_word(t, "--stop-timeout");
		add_word(t, t->timeout);
	}
	return 0;
}

static void add_command(struct torchrun *t, int argc, char **argv)
{
	add_word(t, "--");
	if (t->values[OPT_NO_PYTHON] == NULL) {
		add_word(t, interpreter());
		add_word(t, "-u");
		if (t->values[OPT_MODULE] != NULL)
			add_word(t, "-m");
	}
	for (int i = 0; i < argc; i++)
		add_word(t, argv[i]);
}

int cli_torchrun(int argc, char **argv)
{
	struct torchrun given = {0}, t = {0};
	size_t room = ((size_t)argc + OWN_WORDS + 1) * sizeof(char *);
	int script_at = 0, code = CLI_EXIT_BUG;

	given.words = malloc(room);
	t.words = malloc(room);
	if (given.words == NULL || t.words == NULL) {
		fprintf(stderr, "holdfast: memory is short\n");
		goto out;
	}
	take_environment(&given);
	code = parse(&given, argc, argv, &script_at);
	if (code == 0) {
		memcpy(t.values, given.values, sizeof(t.values));
		add_word(&t, "torchrun");
		code = check_support(&t);
	}
	if (code == 0)
		code = translate(&t);
	if (code == 0)
		code = name_meeting(&t);
	if (code == 0) {
		for (int i = 0; i < given.word_count; i++)
			add_word(&t, given.words[i]);
		add_command(&t, argc - script_at, argv + script_at);
		t.words[t.word_count] = NULL;
		code = run_begin(&t.names, t.word_count, t.words);
	}
out:
	free(given.words);
	free(t.words);
	return code < 0 ? 0 : code;
}
