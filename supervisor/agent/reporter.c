/*
 * See reporter.h.
 *
 * What is seen of output is when it comes, and it may come in bursts.  A step's duration is what lay between its
 * burst and the one before, for every step of the burst: so what is learned from durations is how long nothing may
 * be heard, and not that most steps take no time.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "supervisor/agent/guard.h"
#include "supervisor/agent/reporter.h"
#include "supervisor/clock.h"
#include "supervisor/progress/lines.h"
#include "trainer/producer.h"

#define BUDGET_MAX_NS 50000000
#define BUDGET_SHARE 4 /* of the time that passes, one part is for matching */

/* A channel of ours, mapped. */
struct outlet {
	struct channel *map; /* NULL: not, or no longer */
	int guard;
	bool tried;
};

struct reporter {
	struct reporter_setup setup;
	struct lines *lines; /* two a rank; memory that is not used is not touched */
	struct recogniser **recognisers; /* a rank; made when it says something; NULL for the one that reports */
	struct outlet *outlets; /* a rank */
	struct producer producer;
	uint64_t start_ns, ready_ns; /* ready: of the rank that said so first, 0: none has */
	bool producing;
	bool off; /* nothing is to be recognised: a trainer reports, or the channel cannot be had */
	int64_t budget_ns;
	uint64_t budgeted_ns; /* when it was filled up last */
	bool too_slow;        /* lines were left out */
	/* the line that is being looked at */
	uint32_t rank;
	uint64_t now_ns;
};

struct reporter *reporter_new(const struct reporter_setup *setup)
{
	struct reporter *rp = calloc(1, sizeof(*rp));

	if (rp == NULL)
		return NULL;
	rp->setup = *setup;
	rp->start_ns = rp->budgeted_ns = clock_monotonic_ns();
	rp->budget_ns = BUDGET_MAX_NS;
	rp->lines = calloc(setup->ranks, 2 * sizeof(*rp->lines));
	rp->recognisers = calloc(setup->ranks, sizeof(struct recogniser *));
	rp->outlets = calloc(setup->ranks, sizeof(*rp->outlets));
	if (rp->lines == NULL || rp->recognisers == NULL || rp->outlets == NULL) {
		reporter_free(rp);
		return NULL;
	}
	return rp;
}

void reporter_free(struct reporter *rp)
{
	if (rp == NULL)
		return;
	for (uint32_t rank = 0; rank < rp->setup.ranks; rank++) {
		if (rp->recognisers != NULL)
			free(rp->recognisers[rank]);
		if (rp->outlets != NULL && rp->outlets[rank].map != NULL) {
			guard_remove(rp->outlets[rank].guard);
			munmap(rp->outlets[rank].map, CHANNEL_SIZE_BYTES);
		}
	}
	free(rp->recognisers);
	free(rp->outlets);
	free(rp->lines);
	free(rp);
}

/* --- channels --------------------------------------------------------------------------------------------- */

static bool is_channel(const struct channel *map, uint32_t rank, uint32_t attempt)
{
	return map->head.magic == CHANNEL_MAGIC && map->head.version == CHANNEL_VERSION &&
	    map->head.rank == rank && map->head.attempt == attempt;
}

static struct channel *map_channel(const struct reporter *rp, uint32_t rank)
{
	char path[SHM_PATH_MAX];
	struct stat st;
	void *map = MAP_FAILED;
	int fd;

	shm_channel_path(&rp->setup.shm, rp->setup.attempt, rank, path);
	fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return NULL;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size == (off_t)CHANNEL_SIZE_BYTES &&
	    st.st_uid == geteuid())
		map = mmap(NULL, CHANNEL_SIZE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	return map != MAP_FAILED ? map : NULL;
}

/* The channel of a rank, or NULL: it cannot be had, or its file has shrunk. */
static struct channel *channel_of(struct reporter *rp, uint32_t rank)
{
	struct outlet *outlet = &rp->outlets[rank];

	if (!outlet->tried) {
		outlet->tried = true;
		outlet->map = map_channel(rp, rank);
		if (outlet->map != NULL)
			outlet->guard = guard_add(outlet->map);
		if (outlet->map != NULL && !is_channel(outlet->map, rank, rp->setup.attempt)) {
			guard_remove(outlet->guard);
			munmap(outlet->map, CHANNEL_SIZE_BYTES);
			outlet->map = NULL;
		}
	}
	return outlet->map != NULL && !guard_tripped(outlet->guard) ? outlet->map : NULL;
}

/* --- reporting -------------------------------------------------------------------------------------------- */

static void enter_phase(struct reporter *rp, struct channel *map, uint32_t phase, uint64_t since_ns)
{
	struct logger_words *w = rp->setup.words;
	struct iteration *slot;
	uint64_t last = atomic_load(&map->control.last_step);

	if (w->phase == phase)
		return;
	slot = producer_claim(&rp->producer);
	if (slot != NULL) {
		*slot = (struct iteration){.kind = ITERATION_PHASE,
		    .step = last == STEP_NONE ? 0 : last,
		    .monotonic_ns = rp->now_ns,
		    .duration_ns = since_ns > w->phase_ns ? since_ns - w->phase_ns : 0,
		    .phase = phase,
		    .previous = w->phase % PHASE_COUNT,
		    .printed = 1};
		producer_publish(&rp->producer, slot);
	}
	w->phase = phase;
	w->phase_ns = since_ns;
	atomic_store(&map->control.phase_since_ns, since_ns);
	atomic_store(&map->control.phase, phase);
}

/*
 * Become the producer of the rank's channel, or go on as it.  Its state moves to where the next logger finds it.
 * What cannot be done is not tried again in this attempt.
 */
static bool produce(struct reporter *rp, uint32_t rank)
{
	struct logger_words *w = rp->setup.words;
	struct channel *map = channel_of(rp, rank);
	uint32_t reporter = atomic_load(&w->reporter);

	if (rp->producing)
		return map != NULL;
	if (map == NULL || (reporter != 0 && reporter != rank + 1) ||
	    !channel_claim(map, CHANNEL_OUTPUT) || !producer_resume(&rp->producer, map)) {
		rp->off = true;
		return false;
	}
	rp->producing = true;
	if (reporter == 0) {
		w->phase = PHASE_INIT;
		w->phase_ns = rp->start_ns;
		w->recogniser = *rp->recognisers[rank];
		atomic_store(&w->reporter, rank + 1);
	}
	free(rp->recognisers[rank]);
	rp->recognisers[rank] = NULL;
	return true;
}

static void report_step(struct reporter *rp, struct channel *map, const struct sighting *s)
{
	struct logger_words *w = rp->setup.words;
	struct iteration *slot;

	if (w->step_ns != rp->now_ns) {
		w->gap_ns = w->step_ns != 0 ? rp->now_ns - w->step_ns : 0;
		w->step_ns = rp->now_ns;
	}
	enter_phase(rp, map, PHASE_STEP,
	    w->phase == PHASE_INIT && rp->ready_ns != 0 ? rp->ready_ns : rp->now_ns);
	slot = producer_claim(&rp->producer);
	if (slot != NULL) {
		*slot = (struct iteration){.kind = ITERATION_STEP,
		    .fields = s->fields,
		    .step = s->step,
		    .monotonic_ns = rp->now_ns,
		    .duration_ns = s->duration_ns > w->gap_ns ? s->duration_ns : w->gap_ns,
		    .loss = s->loss,
		    .grad_norm = s->grad_norm,
		    .learning_rate = s->learning_rate,
		    .tokens = s->tokens,
		    .phase = PHASE_STEP,
		    .printed = 1};
		producer_publish(&rp->producer, slot);
	}
	atomic_store(&map->control.last_step, s->step);
	atomic_store(&map->control.heartbeat_ns, rp->now_ns);
}

static void report(struct reporter *rp, const struct sighting sightings[], size_t count)
{
	struct logger_words *w = rp->setup.words;

	for (size_t i = 0; i < count && !rp->off; i++) {
		const struct sighting *s = &sightings[i];

		if (!produce(rp, rp->rank))
			return;
		struct channel *map = channel_of(rp, rp->rank);

		/* It may have been the producer before it had settled on a format. */
		atomic_store(&w->format, (uint32_t)recogniser_format(&w->recogniser));
		if (s->kind == SIGHTING_STEP)
			report_step(rp, map, s);
		else
			enter_phase(rp, map, PHASE_EVALUATION,
			    s->kind == SIGHTING_EVALUATED && w->step_ns != 0 ? w->step_ns : rp->now_ns);
	}
}

/* --- lines ------------------------------------------------------------------------------------------------ */

/* The recogniser of a rank, or NULL: what the rank prints does not matter. */
static struct recogniser *recogniser_of(struct reporter *rp, uint32_t rank)
{
	struct logger_words *w = rp->setup.words;
	uint32_t reporter = atomic_load(&w->reporter);

	if (rp->off || (reporter != 0 && reporter != rank + 1))
		return NULL;
	if (reporter != 0) {
		if (!rp->producing)
			recogniser_resume(&w->recogniser, rp->setup.pattern);
		return produce(rp, rank) ? &w->recogniser : NULL;
	}
	if (rp->recognisers[rank] == NULL) {
		rp->recognisers[rank] = malloc(sizeof(struct recogniser));
		if (rp->recognisers[rank] != NULL)
			recogniser_init(rp->recognisers[rank], rp->setup.pattern, rp->setup.after_step);
	}
	return rp->recognisers[rank];
}

/* Whether there is time left for matching; it grows again as time passes. */
static bool has_budget(struct reporter *rp, uint64_t now_ns)
{
	if (now_ns > rp->budgeted_ns) {
		rp->budget_ns += (int64_t)((now_ns - rp->budgeted_ns) / BUDGET_SHARE);
		rp->budgeted_ns = now_ns;
	}
	if (rp->budget_ns > BUDGET_MAX_NS)
		rp->budget_ns = BUDGET_MAX_NS;
	return rp->budget_ns > 0;
}

static void on_line(void *context, const char *line, size_t length)
{
	struct reporter *rp = context;
	struct recogniser *r = recogniser_of(rp, rp->rank);
	struct sighting sightings[RECOGNISER_OUT];
	uint64_t before_ns;

	if (r == NULL)
		return;
	if (rp->setup.pattern == NULL) {
		report(rp, sightings, recogniser_line(r, line, length, sightings));
		return;
	}
	before_ns = clock_monotonic_ns();
	if (!has_budget(rp, before_ns)) {
		rp->too_slow = true;
		return;
	}
	uint64_t given_up = r->limit_count;
	size_t count = recogniser_line(r, line, length, sightings);

	rp->too_slow = rp->too_slow || r->limit_count != given_up;
	report(rp, sightings, count);
	rp->budget_ns -= (int64_t)(clock_monotonic_ns() - before_ns);
}

static bool begin(struct reporter *rp, uint32_t rank, uint64_t now_ns)
{
	rp->rank = rank;
	rp->now_ns = now_ns;
	return recogniser_of(rp, rank) != NULL;
}

void reporter_bytes(struct reporter *rp, uint32_t rank, enum reporter_stream stream,
    const char *bytes, size_t length, uint64_t now_ns)
{
	if (begin(rp, rank, now_ns))
		lines_feed(&rp->lines[2 * rank + stream], bytes, length, on_line, rp);
}

void reporter_end(struct reporter *rp, uint32_t rank, enum reporter_stream stream, uint64_t now_ns)
{
	struct sighting sightings[RECOGNISER_OUT];
	struct recogniser *r;

	if (!begin(rp, rank, now_ns))
		return;
	lines_end(&rp->lines[2 * rank + stream], on_line, rp);
	r = recogniser_of(rp, rank);
	if (r != NULL)
		report(rp, sightings, recogniser_end(r, sightings));
}

void reporter_text(struct reporter *rp, uint32_t rank, const char *text, size_t length, uint64_t now_ns)
{
	if (length > 0 && begin(rp, rank, now_ns))
		on_line(rp, text, length);
}

void reporter_ready(struct reporter *rp, uint32_t rank, uint64_t now_ns)
{
	struct channel *map;

	if (!begin(rp, rank, now_ns) || rp->ready_ns != 0)
		return;
	rp->ready_ns = now_ns;
	/* With several ranks, the first that says it is ready need not be the one that will print steps. */
	if (rp->setup.ranks != 1 || !produce(rp, rank))
		return;
	map = channel_of(rp, rank);
	if (map != NULL && rp->setup.words->phase == PHASE_INIT)
		enter_phase(rp, map, PHASE_STEP, now_ns);
}

void reporter_alive(struct reporter *rp, uint32_t rank, uint64_t now_ns)
{
	struct channel *map = channel_of(rp, rank);

	/* A word of its own: it is no progress, for it may come from a thread that does nothing else. */
	if (map != NULL)
		atomic_store(&map->control.heartbeat_ns, now_ns);
}

bool reporter_too_slow(struct reporter *rp)
{
	struct logger_words *w = rp->setup.words;

	if (!rp->too_slow || w->noted != 0)
		return false;
	w->noted = 1;
	return true;
}
