/* See world.h. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/cohort.h"
#include "tests/sim/ledger.h"
#include "tests/sim/mishap.h"
#include "tests/sim/node.h"
#include "tests/sim/overseer.h"
#include "tests/sim/shelf.h"
#include "tests/sim/world.h"

struct event {
	uint64_t time_ns, order;
	world_event *run;
	uint64_t a, b;
	void *data;
};

uint64_t world_random(struct world *w)
{
	uint64_t z = w->random += 0x9e3779b97f4a7c15ull;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

uint64_t world_between(struct world *w, uint64_t low, uint64_t high)
{
	return low + world_random(w) % (high - low + 1);
}

bool world_chance(struct world *w, uint32_t percent)
{
	return world_random(w) % 100 < percent;
}

void world_fail(struct world *w, const char *format, ...)
{
	va_list list;

	if (w->failed)
		return;
	w->failed = true;
	va_start(list, format);
	/* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): va_start is in the line above */
	vsnprintf(w->why, sizeof(w->why), format, list);
	va_end(list);
	world_say(w, "FAILED: %s", w->why);
}

void world_say(struct world *w, const char *format, ...)
{
	va_list list;

	if (!w->verbose)
		return;
	printf("%14.6f ", (double)w->now_ns / 1e9);
	va_start(list, format);
	/* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): va_start is in the line above */
	vprintf(format, list);
	va_end(list);
	putchar('\n');
}

/* Memory is the one thing a simulation cannot go on without. */
void *world_sure(void *memory)
{
	if (memory == NULL)
		abort();
	return memory;
}

void *world_record(const struct world *w, uint16_t kind, size_t size_bytes)
{
	size_t rounded = RECORD_ROUND(size_bytes);
	struct record *r = world_sure(calloc(1, rounded));

	r->kind = kind;
	r->version = 1;
	r->size_bytes = (uint32_t)rounded;
	r->time_ns = w->now_ns;
	return r;
}

void *world_copy(const void *bytes, size_t size)
{
	return memcpy(world_sure(malloc(size)), bytes, size);
}

static bool earlier(const struct event *a, const struct event *b)
{
	return a->time_ns != b->time_ns ? a->time_ns < b->time_ns : a->order < b->order;
}

void world_after(
    struct world *w, uint64_t delay_ns, world_event *run, uint64_t a, uint64_t b, void *data)
{
	struct event event = {w->now_ns + delay_ns, w->order++, run, a, b, data};
	size_t i = w->heap_count++;

	if (w->heap_count > w->heap_capacity) {
		w->heap_capacity = w->heap_capacity == 0 ? 256 : w->heap_capacity * 2;
		w->heap = world_sure(realloc(w->heap, w->heap_capacity * sizeof(*w->heap)));
	}
	while (i > 0 && earlier(&event, &w->heap[(i - 1) / 2])) {
		w->heap[i] = w->heap[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	w->heap[i] = event;
}

static struct event heap_pop(struct world *w)
{
	struct event first = w->heap[0], last = w->heap[--w->heap_count];
	size_t i = 0;

	for (;;) {
		size_t child = 2 * i + 1;

		if (child >= w->heap_count)
			break;
		if (child + 1 < w->heap_count && earlier(&w->heap[child + 1], &w->heap[child]))
			child++;
		if (!earlier(&w->heap[child], &last))
			break;
		w->heap[i] = w->heap[child];
		i = child;
	}
	w->heap[i] = last;
	return first;
}

static void world_init(struct world *w)
{
	w->rank_count = (uint32_t)world_between(w, 1, world_chance(w, 20) ? SIM_RANKS : 3);
	w->step_count = world_between(w, 5, 60);
	policy_config_default(&w->config);
	w->config.tries_first_max = 3;
	w->config.clean_steps = (uint32_t)world_between(w, 1, 5);
	w->ledger = ledger_new(w);
	w->cohort = cohort_new(w);
	w->node = node_new(w);
	w->overseer = overseer_new(w);
	w->shelf = shelf_new();
	w->mishap = mishap_new(w);
	node_begin(w);
}

static void world_fini(struct world *w)
{
	for (size_t i = 0; i < w->heap_count; i++)
		free(w->heap[i].data);
	free(w->heap);
	mishap_free(w->mishap);
	shelf_free(w->shelf);
	overseer_free(w->overseer);
	node_free(w->node);
	cohort_free(w->cohort);
	ledger_free(w->ledger);
}

struct world_result world_run(uint64_t seed, enum sim_break broken, bool verbose)
{
	struct world w = {.seed = seed, .random = seed, .broken = broken, .verbose = verbose};
	struct world_result result;

	world_init(&w);
	while (!w.failed && !w.over) {
		struct event event;

		if (w.heap_count == 0) {
			world_fail(&w, "liveness: nothing is left to happen and the run has not ended");
			break;
		}
		event = heap_pop(&w);
		w.now_ns = event.time_ns;
		if (w.now_ns > WORLD_TIME_MAX) {
			free(event.data);
			world_fail(&w, "liveness: two days have passed and the run has not ended");
			break;
		}
		event.run(&w, event.a, event.b, event.data);
	}
	if (!w.failed)
		mishap_judge(&w);
	result = (struct world_result){.failed = w.failed,
	    .virtual_ns = w.now_ns,
	    .turns = w.turns,
	    .incidents = ledger_incidents(w.ledger),
	    .attempts = ledger_attempts(w.ledger),
	    .end_reason = ledger_end_reason(w.ledger)};
	memcpy(result.why, w.why, sizeof(result.why));
	world_fini(&w);
	return result;
}
