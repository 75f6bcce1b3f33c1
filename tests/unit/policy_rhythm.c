/*
 * Never a kill of a healthy run: the rhythms of the trainers in tests/torch, as tests/sim/record_rhythm.py saw them
 * from outside, repeated for two virtual hours, slower and with jitter, evaluations, checkpoints and hiccups, bring
 * no fault.  The same rhythm with a hang at a random moment brings one, in time, and the right one.  Without what the
 * policy learns from the run, healthy ones are killed.
 *
 * Each rhythm is run twice: as if its steps were read out of its output, and as if nobody could read them.
 * HOLDFAST_SEED names the first of the seeds.
 */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "supervisor/policy/state.h"
#include "tests/unit/policy_bed.h"

#define MINUTE (60 * BED_S)
#define HOUR (60 * MINUTE)
#define RHYTHMS_MAX 16u
#define BEATS_MAX 4096u
#define SEEDS 2u

enum policy_rule policy_rule_removed;

/* What one rank did in one interval. */
struct beat {
	uint64_t end_ms;
	uint32_t rank;
	uint64_t output, cpu_ms, files, steps;
};

struct rhythm {
	char name[64];
	uint32_t ranks;
	size_t count, again; /* beats; the first one of the part that is repeated */
	bool steps;
	struct beat beats[BEATS_MAX];
};

static struct rhythm rhythms[RHYTHMS_MAX];
static size_t rhythm_count;

static void load(const char *name)
{
	struct rhythm *r = &rhythms[rhythm_count++];
	char path[4096], line[256];
	FILE *f;

	assert_true(rhythm_count <= RHYTHMS_MAX);
	snprintf(path, sizeof(path), "%s/%s", RHYTHMS, name);
	snprintf(r->name, sizeof(r->name), "%.60s", name);
	f = fopen(path, "r");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f) != NULL) {
		struct beat *b = &r->beats[r->count];
		unsigned long long v[6];

		if (line[0] == '#' || sscanf(line, "ranks %u", &r->ranks) == 1)
			continue;
		assert_int_equal(sscanf(line, "%llu %llu %llu %llu %llu %llu", &v[0], &v[1], &v[2],
				     &v[3], &v[4], &v[5]),
		    6);
		*b = (struct beat){v[0], (uint32_t)v[1], v[2], v[3], v[4], v[5]};
		assert_true(b->rank < r->ranks && r->count + 1 < BEATS_MAX);
		if (b->steps > 0 && !r->steps)
			r->again = r->count;
		r->steps = r->steps || b->steps > 0;
		r->count++;
	}
	fclose(f);
	assert_in_range(r->ranks, 1, BED_RANKS);
	assert_true(r->count > 20);
	if (!r->steps)
		r->again = r->count / 3;
}

/* --- a run ------------------------------------------------------------------------------------------------ */

struct player {
	struct bed b;
	const struct rhythm *r;
	uint64_t seed, stretch, step, row_ns;
	uint64_t pause_ns;      /* when the next one comes */
	uint64_t hiccup_max_ns; /* the longest idle pause that a healthy run makes next */
	size_t at;
	bool steps; /* its steps are read out of its output */
};

static uint64_t draw(struct player *p, uint64_t from, uint64_t to)
{
	uint64_t z = p->seed += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return from + (z ^ z >> 31) % (to - from + 1);
}

static void player_init(
    struct player *p, const struct rhythm *r, bool steps, uint64_t stretch, uint64_t seed)
{
	memset(p, 0, sizeof(*p));
	bed_init(&p->b, r->ranks);
	p->b.unaided = true;
	bed_up(&p->b);
	p->r = r;
	p->steps = steps;
	p->stretch = stretch;
	p->seed = seed;
	p->row_ns = p->b.now_ns;
	p->pause_ns = p->b.now_ns + draw(p, 4 * MINUTE, 12 * MINUTE);
	p->hiccup_max_ns = steps ? 30 * BED_S : 5 * MINUTE;
}

static void post_row(struct player *p)
{
	bed_row(&p->b, ++p->step, p->b.now_ns - p->row_ns);
	p->row_ns = p->b.now_ns;
	bed_turn(&p->b, 0);
}

/* The next interval of the rhythm, all its ranks. */
static const struct decision_fault *play(struct player *p)
{
	const struct beat *beats = p->r->beats;
	struct bed_pace paces[BED_RANKS] = {0};
	const struct decision_fault *fault;
	uint64_t begin_ms, end_ms = beats[p->at].end_ms, steps = 0, took_ms;
	uint64_t output[BED_RANKS] = {0};

	begin_ms = p->at > 0 ? beats[p->at - 1].end_ms : 0;
	took_ms = end_ms > begin_ms ? end_ms - begin_ms : 200;
	for (; p->at < p->r->count && beats[p->at].end_ms == end_ms; p->at++) {
		const struct beat *b = &beats[p->at];

		paces[b->rank].cpu_share = b->cpu_ms * 1000 / took_ms;
		output[b->rank] += b->output;
		steps += b->steps;
	}
	if (p->at >= p->r->count)
		p->at = p->r->again;
	fault = bed_live(&p->b, took_ms * p->stretch * draw(p, 70, 150) / 100 * BED_MS, paces);
	for (uint32_t rank = 0; rank < p->r->ranks; rank++)
		p->b.output_bytes[rank] += output[rank];
	if (fault == NULL && p->steps && steps > 0)
		post_row(p);
	return fault;
}

static const struct decision_fault *all_do(struct player *p, uint64_t cpu_share, uint64_t duration_ns)
{
	struct bed_pace paces[BED_RANKS];

	for (uint32_t rank = 0; rank < BED_RANKS; rank++)
		paces[rank] = (struct bed_pace){.cpu_share = cpu_share};
	return bed_live(&p->b, duration_ns, paces);
}

/* An evaluation that prints nothing, a checkpoint, or data that do not come: five times as long as any before. */
static const struct decision_fault *pause_now(struct player *p)
{
	uint64_t hiccup_ns;

	switch (draw(p, 0, 3)) {
	case 0:
		return all_do(p, 950, draw(p, MINUTE, 25 * MINUTE));
	case 1:
		return all_do(p, 150, draw(p, 10 * BED_S, 3 * MINUTE));
	default:
		hiccup_ns = draw(p, p->hiccup_max_ns / 3, p->hiccup_max_ns);
		if (p->hiccup_max_ns < 5 * hiccup_ns)
			p->hiccup_max_ns = 5 * hiccup_ns;
		if (p->hiccup_max_ns > 40 * MINUTE)
			p->hiccup_max_ns = 40 * MINUTE;
		return all_do(p, 1, hiccup_ns);
	}
}

static const struct decision_fault *healthy(struct player *p, uint64_t duration_ns)
{
	uint64_t end_ns = p->b.now_ns + duration_ns;
	const struct decision_fault *fault = NULL;

	while (fault == NULL && p->b.now_ns < end_ns) {
		if (p->b.now_ns >= p->pause_ns && p->at >= p->r->again) {
			fault = pause_now(p);
			p->pause_ns = p->b.now_ns + draw(p, 4 * MINUTE, 12 * MINUTE);
		} else {
			fault = play(p);
		}
	}
	return fault;
}

/* --- the tests -------------------------------------------------------------------------------------------- */

typedef uint32_t each(struct player *p);

/* Every rhythm, read and unread, at several speeds and seeds; the sum of what is returned. */
static uint32_t for_each(each *visit)
{
	static const uint64_t stretches[] = {4, 15, 60};
	static struct player p;
	const char *text = getenv("HOLDFAST_SEED");
	uint64_t first = text != NULL ? strtoull(text, NULL, 0) : 1;
	uint32_t sum = 0;

	for (size_t i = 0; i < rhythm_count; i++)
		for (uint32_t kind = 0; kind < (rhythms[i].steps ? 2 : 1); kind++)
			for (size_t s = 0; s < 3; s++)
				for (uint64_t seed = first; seed < first + SEEDS; seed++) {
					player_init(&p, &rhythms[i], kind == 1, stretches[s], seed);
					sum += visit(&p);
					bed_fini(&p.b);
				}
	return sum;
}

static void complain(const struct player *p, const struct decision_fault *fault, const char *what)
{
	fail_msg(
	    "%s, %s, %llu times slower: %s: fault %u after %llu s, %llu s of a limit of %llu s",
	    p->r->name, p->steps ? "read" : "unread", (unsigned long long)p->stretch, what,
	    fault != NULL ? fault->fault : 0, (unsigned long long)(p->b.now_ns / BED_S),
	    (unsigned long long)(fault != NULL ? fault->value_ns / BED_S : 0),
	    (unsigned long long)(fault != NULL ? fault->limit_ns / BED_S : 0));
}

static uint32_t is_killed(struct player *p)
{
	return healthy(p, 2 * HOUR) != NULL;
}

static uint32_t survives(struct player *p)
{
	const struct decision_fault *fault = healthy(p, 2 * HOUR);

	if (fault != NULL)
		complain(p, fault, "a healthy run");
	/* The control of the test itself: time passed, and it was looked at. */
	assert_true(p->b.now_ns >= 2 * HOUR && (p->steps ? p->step > 20 : p->b.seq > 50));
	return 0;
}

static uint32_t idle_is_found(struct player *p)
{
	assert_null(healthy(p, draw(p, 20 * MINUTE, 2 * HOUR)));
	uint64_t since_ns = p->b.now_ns;
	const struct decision_fault *fault = all_do(p, 2, 10 * HOUR);

	if (fault == NULL || fault->fault != FAULT_STALL_IDLE || fault->limit_ns > HOUR)
		complain(p, fault, "an idle hang");
	uint64_t late_ns = p->b.now_ns - since_ns;

	if (late_ns > fault->limit_ns / 5 * 6 + 10 * BED_S)
		complain(p, fault, "an idle hang, late");
	return (uint32_t)(late_ns / BED_S);
}

/* Where steps are known; where they are not, nobody can tell. */
static uint32_t spinning_is_found(struct player *p)
{
	assert_null(healthy(p, draw(p, 20 * MINUTE, 2 * HOUR)));
	uint64_t since_ns = p->b.now_ns;
	const struct decision_fault *fault = all_do(p, 990, 10 * HOUR);

	if (!p->steps) {
		if (fault != NULL)
			complain(p, fault, "no step was ever seen");
		return 0;
	}
	if (fault == NULL || fault->fault != FAULT_STALL_SPINNING || fault->limit_ns > 2 * HOUR)
		complain(p, fault, "a spinning hang");
	uint64_t late_ns = p->b.now_ns - since_ns;

	if (late_ns > fault->limit_ns + 10 * MINUTE + 10 * BED_S)
		complain(p, fault, "a spinning hang, late");
	return 0;
}

static void test_healthy(void **unused)
{
	(void)unused;
	assert_int_equal(for_each(survives), 0);
}

static void test_idle(void **unused)
{
	(void)unused;
	assert_true(for_each(idle_is_found) > 0);
}

static void test_spinning(void **unused)
{
	(void)unused;
	(void)for_each(spinning_is_found);
}

static void test_without_learning(void **unused)
{
	(void)unused;
	policy_rule_removed = RULE_SILENCE;
	uint32_t killed = for_each(is_killed);

	policy_rule_removed = RULE_NONE;
	print_message("without what is learned %u healthy runs are killed\n", killed);
	assert_true(killed > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_healthy),
	    cmocka_unit_test(test_idle),
	    cmocka_unit_test(test_spinning),
	    cmocka_unit_test(test_without_learning),
	};
	DIR *dir = opendir(RHYTHMS);

	for (struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;)
		if (strstr(e->d_name, ".txt") != NULL)
			load(e->d_name);
	if (dir != NULL)
		closedir(dir);
	if (rhythm_count < 5) {
		fprintf(stderr, "%zu rhythms in %s\n", rhythm_count, RHYTHMS);
		return 1;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
