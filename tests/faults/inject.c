/*
 * holdfast-inject: one fault, from outside, now.
 *
 * Prints one JSON line: the fault, what it was done to, and at_ns, CLOCK_MONOTONIC when it took effect.
 * Exit status: 0 done; 64 the words are off; 77 not possible here, with one line that says why.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/faults/damage.h"
#include "tests/faults/poison.h"
#include "tests/faults/tracee.h"

#define EXIT_USAGE 64
#define EXIT_IMPOSSIBLE 77
#define FLIP_COUNT_DEFAULT 16u
#define NUMBER_NONE INT64_MIN

struct request {
	const char *words[3]; /* the fault's name and what follows it */
	int word_count;
	int64_t offset, count, seed, rank, for_ms, pid; /* options; NUMBER_NONE where not given */
};

struct fault {
	const char *name;
	int word_count; /* behind the name */
	int (*run)(const struct request *, const char **why_out);
	const char *usage;
};

/* A whole decimal number, or NUMBER_NONE. */
static int64_t number(const char *word)
{
	char *end;
	long long value;

	errno = 0;
	value = strtoll(word, &end, 10);
	return errno == 0 && end != word && *end == '\0' ? value : NUMBER_NONE;
}

static pid_t process(const char *word)
{
	int64_t value = number(word);

	return value > 0 && value <= INT_MAX ? (pid_t)value : 0;
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* A name inside quotation marks. */
static void print_quoted(const char *text)
{
	putchar('"');
	for (; *text != '\0'; text++) {
		if (*text == '"' || *text == '\\')
			printf("\\%c", *text);
		else if ((unsigned char)*text < 0x20)
			printf("\\u%04x", (unsigned)*text);
		else
			putchar(*text);
	}
	putchar('"');
}

static int print_process(const struct request *r, pid_t pid, uint64_t at_ns)
{
	printf("{\"fault\":\"%s\",\"pid\":%d,\"at_ns\":%" PRIu64 "}\n", r->words[0], (int)pid, at_ns);
	return 0;
}

static int print_file(const struct request *r, const struct damage *d)
{
	printf("{\"fault\":\"%s\",\"path\":", r->words[0]);
	print_quoted(r->words[1]);
	printf(",\"offset\":%" PRIu64 ",\"count\":%" PRIu64 ",\"step\":%" PRIu64
	       ",\"at_ns\":%" PRIu64 "}\n",
	    d->offset, d->count, d->step, d->at_ns);
	return 0;
}

static int run_segv(const struct request *r, const char **why_out)
{
	pid_t pid = process(r->words[1]);
	uint64_t at_ns = 0;
	int error = pid > 0 ? tracee_segv(pid, &at_ns, why_out) : -EINVAL;

	return error != 0 ? error : print_process(r, pid, at_ns);
}

static int run_spin(const struct request *r, const char **why_out)
{
	pid_t pid = process(r->words[1]);
	uint64_t at_ns = 0;
	int error = pid > 0 ? tracee_spin(pid, &at_ns, why_out) : -EINVAL;

	return error != 0 ? error : print_process(r, pid, at_ns);
}

static int run_exit(const struct request *r, const char **why_out)
{
	pid_t pid = process(r->words[1]);
	int64_t code = number(r->words[2]);
	uint64_t at_ns = 0;
	int error;

	if (pid == 0 || code < 0 || code > 255)
		return -EINVAL;
	error = tracee_exit(pid, (int)code, &at_ns, why_out);
	return error != 0 ? error : print_process(r, pid, at_ns);
}

/* By number, or as STOP and SIGSTOP. */
static int signal_number(const char *word)
{
	int64_t value = number(word);

	if (value >= 1 && value < NSIG)
		return (int)value;
	if (strncmp(word, "SIG", 3) == 0)
		word += 3;
	for (int i = 1; i < NSIG; i++)
		if (sigabbrev_np(i) != NULL && strcmp(sigabbrev_np(i), word) == 0)
			return i;
	return 0;
}

static int run_signal(const struct request *r, const char **why_out)
{
	pid_t pid = process(r->words[1]);
	int sent = signal_number(r->words[2]);

	if (pid == 0 || sent == 0)
		return -EINVAL;
	*why_out = "send the signal";
	if (kill(pid, sent) != 0)
		return -errno;
	return print_process(r, pid, now_ns());
}

static int run_flip(const struct request *r, const char **why_out)
{
	int64_t offset = r->offset == NUMBER_NONE ? DAMAGE_OFFSET_ANY : r->offset;
	int64_t count = r->count == NUMBER_NONE ? FLIP_COUNT_DEFAULT : r->count;
	struct damage d;
	int error;

	if (r->seed == NUMBER_NONE || count <= 0 || (r->offset != NUMBER_NONE && r->offset < 0))
		return -EINVAL;
	error = damage_flip(r->words[1], offset, (uint64_t)count, (uint64_t)r->seed, &d, why_out);
	return error != 0 ? error : print_file(r, &d);
}

static int run_truncate(const struct request *r, const char **why_out)
{
	struct damage d;
	int error;

	if (r->seed == NUMBER_NONE)
		return -EINVAL;
	error = damage_truncate(r->words[1], (uint64_t)r->seed, &d, why_out);
	return error != 0 ? error : print_file(r, &d);
}

static int run_flip_snapshot(const struct request *r, const char **why_out)
{
	uint64_t seed = r->seed == NUMBER_NONE ? 1 : (uint64_t)r->seed;
	pid_t pid = r->pid == NUMBER_NONE ? 0 : (pid_t)r->pid;
	struct damage d;
	int error;

	if (r->pid != NUMBER_NONE && (r->pid <= 0 || r->pid > INT_MAX))
		return -EINVAL;
	error = damage_snapshot(r->words[1], seed, pid, &d, why_out);
	return error != 0 ? error : print_file(r, &d);
}

static int run_wipe(const struct request *r, const char **why_out)
{
	struct damage d;
	int error = damage_wipe(r->words[1], &d, why_out);

	return error != 0 ? error : print_file(r, &d);
}

static int run_nan(const struct request *r, const char **why_out)
{
	uint64_t at_ns = 0;
	int error;

	if (r->rank == NUMBER_NONE || r->rank < 0 || r->rank > UINT32_MAX || r->for_ms < 0 ||
	    r->for_ms > 60000)
		return -EINVAL;
	error = poison_group(r->words[1], (uint32_t)r->rank, (uint32_t)r->for_ms, &at_ns, why_out);
	if (error != 0)
		return error;
	printf("{\"fault\":\"%s\",\"path\":", r->words[0]);
	print_quoted(r->words[1]);
	printf(",\"rank\":%" PRId64 ",\"at_ns\":%" PRIu64 "}\n", r->rank, at_ns);
	return 0;
}

static const struct fault faults[] = {
    {"segv", 1, run_segv, "PID"},
    {"exit", 2, run_exit, "PID CODE"},
    {"spin", 1, run_spin, "PID"},
    {"signal", 2, run_signal, "PID SIGNAL"},
    {"nan-group", 1, run_nan, "FILE --rank R [--for-ms N]"},
    {"flip", 1, run_flip, "FILE [--offset N] [--count N] --seed S"},
    {"truncate", 1, run_truncate, "FILE --seed S"},
    {"flip-snapshot", 1, run_flip_snapshot, "FILE [--seed S] [--pid PID: stopped before, killed after]"},
    {"wipe-snapshots", 1, run_wipe, "GLOB"},
};

static int usage(void)
{
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
		fprintf(stderr, "%s holdfast-inject %s %s\n", i == 0 ? "usage:" : "      ",
		    faults[i].name, faults[i].usage);
	return EXIT_USAGE;
}

static bool parse(int argc, char **argv, struct request *r)
{
	static const struct option options[] = {
	    {"offset", required_argument, NULL, 'o'},
	    {"count", required_argument, NULL, 'c'},
	    {"seed", required_argument, NULL, 's'},
	    {"rank", required_argument, NULL, 'r'},
	    {"for-ms", required_argument, NULL, 'f'},
	    {"pid", required_argument, NULL, 'p'},
	    {NULL, 0, NULL, 0},
	};
	int option;

	*r = (struct request){.offset = NUMBER_NONE,
	    .count = NUMBER_NONE,
	    .seed = NUMBER_NONE,
	    .rank = NUMBER_NONE,
	    .for_ms = 200,
	    .pid = NUMBER_NONE};
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		int64_t value = optarg != NULL ? number(optarg) : NUMBER_NONE;
		int64_t *field = option == 'o' ? &r->offset
		    : option == 'c'            ? &r->count
		    : option == 's'            ? &r->seed
		    : option == 'r'            ? &r->rank
		    : option == 'f'            ? &r->for_ms
		    : option == 'p'            ? &r->pid
					       : NULL;

		if (field == NULL || value == NUMBER_NONE)
			return false;
		*field = value;
	}
	while (optind < argc && r->word_count < 3)
		r->words[r->word_count++] = argv[optind++];
	return optind == argc && r->word_count > 0;
}

int main(int argc, char **argv)
{
	const char *why = "";
	struct request r;

	if (!parse(argc, argv, &r))
		return usage();
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		int error;

		if (strcmp(faults[i].name, r.words[0]) != 0)
			continue;
		error = r.word_count == faults[i].word_count + 1 ? faults[i].run(&r, &why) : -EINVAL;
		if (error == -EINVAL && why[0] == '\0')
			return usage();
		if (error != 0) {
			fprintf(stderr, "holdfast-inject: %s %s: %s: %s\n", r.words[0], r.words[1],
			    why, strerror(-error));
			return EXIT_IMPOSSIBLE;
		}
		return fflush(stdout) == 0 ? 0 : EXIT_IMPOSSIBLE;
	}
	return usage();
}
