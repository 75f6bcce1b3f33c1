/*
 * holdfast-sim: the policy against seeded worlds on virtual time.
 *
 *	holdfast-sim --seed N [--verbose]     one world
 *	holdfast-sim --seeds FROM..TO         many; the first broken promise ends it
 *	holdfast-sim --controls               each guard taken away in turn must be missed (controls' build)
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/sim/world.h"

#ifdef POLICY_RULES_REMOVABLE
#include "supervisor/policy/state.h"

enum policy_rule policy_rule_removed;
#endif

static double seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

struct totals {
	double virtual_s;
	uint64_t turns, incidents, attempts, worlds;
	uint64_t ends[8];
};

static bool run_seed(uint64_t seed, bool verbose, struct totals *totals)
{
	struct world_result result = world_run(seed, BREAK_NONE, verbose);

	totals->worlds++;
	totals->virtual_s += (double)result.virtual_ns / 1e9;
	totals->turns += result.turns;
	totals->incidents += result.incidents;
	totals->attempts += result.attempts;
	totals->ends[result.end_reason % 8]++;
	if (!result.failed)
		return true;
	printf("seed %llu, turn %llu: %s\nagain: holdfast-sim --seed %llu --verbose\n",
	    (unsigned long long)seed, (unsigned long long)result.turns, result.why,
	    (unsigned long long)seed);
	return false;
}

static int run_seeds(uint64_t from, uint64_t to, bool verbose)
{
	struct totals totals = {0};
	double begin = seconds_now(), took;
	bool good = true;

	printf("seeds %llu..%llu\n", (unsigned long long)from, (unsigned long long)to);
	for (uint64_t seed = from; seed <= to && good; seed++)
		good = run_seed(seed, verbose, &totals);
	took = seconds_now() - begin;
	printf("%llu worlds, %llu turns, %llu attempts, %llu incidents; ends: %llu done, %llu "
	       "stopped, "
	       "%llu no progress, %llu never stepped, %llu stuck\n",
	    (unsigned long long)totals.worlds, (unsigned long long)totals.turns,
	    (unsigned long long)totals.attempts, (unsigned long long)totals.incidents,
	    (unsigned long long)totals.ends[END_DONE], (unsigned long long)totals.ends[END_STOPPED],
	    (unsigned long long)totals.ends[END_NO_PROGRESS],
	    (unsigned long long)totals.ends[END_NEVER_STEPPED],
	    (unsigned long long)totals.ends[END_STUCK]);
	printf("%.0f virtual s in %.2f s: %.0f virtual s per s\n", totals.virtual_s, took,
	    totals.virtual_s / took);
	return good ? 0 : 1;
}

#ifdef POLICY_RULES_REMOVABLE
#define CONTROL_SEEDS 600u

/* The number of the first seed that notices; 0 when none does. */
static uint64_t noticed(enum sim_break broken, char why[256])
{
	for (uint64_t seed = 1; seed <= CONTROL_SEEDS; seed++) {
		struct world_result result = world_run(seed, broken, false);

		if (result.failed) {
			memcpy(why, result.why, 256);
			return seed;
		}
	}
	return 0;
}

static bool control(const char *name, enum sim_break broken, bool expected)
{
	char why[256] = "";
	uint64_t seed = noticed(broken, why);

	printf("%-16s %s (seed %llu) %s\n", name, seed != 0 ? "noticed" : "not noticed",
	    (unsigned long long)seed, why);
	return (seed != 0) == expected;
}

static int run_controls(void)
{
	static const char *const rules[RULE_COUNT] = {[RULE_ONSET] = "onset",
	    [RULE_CLEAR] = "clear",
	    [RULE_ATTEMPT] = "attempt",
	    [RULE_VERIFY] = "verify",
	    [RULE_EVERYWHERE] = "everywhere",
	    [RULE_DUPLICATE] = "duplicate",
	    [RULE_BUDGET] = "budget",
	    [RULE_REISSUE] = "reissue",
	    [RULE_FLOOR] = "floor",
	    [RULE_CAPTURE] = "capture",
	    [RULE_STALL] = "stall",
	    [RULE_AGENT] = "agent",
	    [RULE_TORN] = "torn"};
	static const char *const breaks[BREAK_COUNT] = {[BREAK_EARLY_PERFORM] = "early perform",
	    [BREAK_EARLY_ACK] = "early ack",
	    [BREAK_LOST_REPORT] = "lost report",
	    [BREAK_UNJOURNALED] = "unjournaled",
	    [BREAK_ALTERED] = "altered",
	    [BREAK_LOST_MESSAGE] = "lost message",
	    [BREAK_STALE_SLOTS] = "stale slots"};
	uint32_t blind = 0;

	blind += !control("nothing", BREAK_NONE, false);
	for (uint32_t rule = 1; rule < RULE_COUNT; rule++) {
		if (rules[rule] == NULL)
			continue; /* of silence: the rhythms' controls take it away */
		policy_rule_removed = (enum policy_rule)rule;
		blind += !control(rules[rule], BREAK_NONE, true);
	}
	policy_rule_removed = RULE_NONE;
	for (uint32_t i = 1; i < BREAK_COUNT; i++)
		blind += !control(breaks[i], (enum sim_break)i, true);
	printf("%u controls failed\n", blind);
	return blind == 0 ? 0 : 1;
}
#endif

static int usage(void)
{
	fprintf(stderr, "usage: holdfast-sim --seed N [--verbose] | --seeds FROM..TO | --controls\n");
	return 64;
}

static bool parse(const char *text, uint64_t *value, const char **rest)
{
	char *end;

	errno = 0;
	*value = strtoull(text, &end, 10);
	*rest = end;
	return end != text && errno == 0;
}

int main(int argc, char **argv)
{
	uint64_t from, to;
	const char *rest;

	setvbuf(stdout, NULL, _IOLBF, 0);
#ifdef POLICY_RULES_REMOVABLE
	if (argc == 2 && strcmp(argv[1], "--controls") == 0)
		return run_controls();
#endif
	if (argc < 3 || !parse(argv[2], &from, &rest))
		return usage();
	if (strcmp(argv[1], "--seed") == 0 && *rest == '\0')
		return run_seeds(from, from, argc == 4 && strcmp(argv[3], "--verbose") == 0);
	if (strcmp(argv[1], "--seeds") == 0 && strncmp(rest, "..", 2) == 0 &&
	    parse(rest + 2, &to, &rest) && *rest == '\0' && argc == 3)
		return run_seeds(from, to, false);
	return usage();
}
