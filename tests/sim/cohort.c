/* See cohort.h. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "supervisor/policy/ladder.h"
#include "tests/sim/cohort.h"
#include "tests/sim/node.h"
#include "tests/sim/overseer.h"
#include "tests/sim/shelf.h"

#define STEPS_MAX 256u
#define RING_MAX 1024u
#define SIGNAL_SEGV 11

struct proc {
	bool exists, alive, connected, stopped, hung, spinning, crashing, waiting;
	bool death_told, exit_told, oom, dropping;
	int32_t wait_status;
	uint64_t death_ns;
	uint64_t step; /* being done */
	uint64_t done; /* last one reported */
	uint64_t state;
	bool nan;
	uint32_t phase;
	uint64_t phase_since_ns, cpu_ns, spin_since_ns;
	world_event *parked; /* what it would do if it were not stopped */
};
struct ring {
	uint64_t ring_seq;                  /* last one given */
	struct iteration reports[RING_MAX]; /* not acknowledged, oldest first */
	size_t count, sent;
};
struct slot {
	bool used, torn, nan;
	uint64_t step, state;
};
struct file {
	bool exists, nan, rotten, digested;
	uint64_t state, version;
};

struct cohort {
	struct proc procs[SIM_RANKS];
	struct ring rings[SIM_RANKS];
	struct slot slots[SIM_RANKS][MEMORY_SLOTS];
	struct file files[STEPS_MAX][SIM_RANKS];
	uint64_t final_state[SIM_RANKS];
	bool final[SIM_RANKS];
	uint64_t versions;
	uint32_t attempt;
	uint32_t arrived;
	uint64_t step_ns;
	uint32_t checkpoint_every, snapshot_every, evaluation_every;
	bool keeps; /* rank 0 saves as scripts do, and a keeper finds it */
	bool sharded, stop_asked, checkpoint_asked;
	uint64_t checkpoint_step; /* the group agreed to save after it */
	uint64_t nan_step;
	uint32_t nan_rank;
	int32_t spawn_error;
	bool spawn_always;
	uint64_t doom_step;
	uint32_t doom_rank;
	int32_t doom_code; /* 0: none */
	bool poison_next;  /* the state that the next attempt loads is one that no rank survives */
	uint64_t poison_step; /* that state's step, or STEP_NONE */
	uint32_t poison_source;
};

static uint64_t mix(uint64_t state, uint64_t step)
{
	uint64_t z = (state ^ (step * 0x9e3779b97f4a7c15ull)) + 0x632be59bd9b4e019ull;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

static uint64_t first_state(uint32_t rank)
{
	return mix(77, rank);
}

struct cohort *cohort_new(struct world *w)
{
	struct cohort *c = world_sure(calloc(1, sizeof(*c)));

	c->step_ns = world_between(w, 5, 400) * MS;
	c->checkpoint_every = (uint32_t)world_between(w, 3, 20);
	c->snapshot_every = world_chance(w, 80) ? 1 : (uint32_t)world_between(w, 2, 5);
	c->evaluation_every = (uint32_t)world_between(w, 5, 30);
	c->sharded = world_chance(w, 30);
	c->keeps = !c->sharded && world_chance(w, 50);
	c->poison_step = STEP_NONE;
	return c;
}

void cohort_free(struct cohort *c)
{
	free(c);
}

uint32_t cohort_attempt(const struct world *w)
{
	return w->cohort->attempt;
}

bool cohort_is_right(const struct world *w)
{
	for (uint32_t rank = 0; rank < w->rank_count; rank++) {
		uint64_t state = first_state(rank);

		for (uint64_t step = 1; step <= w->step_count; step++)
			state = mix(state, step);
		if (!w->cohort->final[rank] || w->cohort->final_state[rank] != state)
			return false;
	}
	return true;
}

/* --- rings -------------------------------------------------------------------------------------------- */

static struct iteration *push(struct world *w, uint32_t rank, uint32_t kind)
{
	struct ring *ring = &w->cohort->rings[rank];
	struct iteration *it = &ring->reports[ring->count];

	if (ring->count == RING_MAX - 1) {
		world_fail(w, "rank %u: the ring overflows", rank);
		ring->count--;
	}
	*it = (struct iteration){.ring_seq = ++ring->ring_seq,
	    .kind = kind,
	    .monotonic_ns = w->now_ns,
	    .step = w->cohort->procs[rank].step};
	ring->count++;
	return it;
}

static void on_pump(struct world *w, uint64_t a, uint64_t b, void *data)
{
	(void)a;
	(void)b;
	(void)data;
	node_pump(w);
}

bool cohort_take_report(
    struct world *w, uint32_t rank, uint32_t *attempt, struct iteration *it, char path[32])
{
	struct ring *ring = &w->cohort->rings[rank];

	if (ring->sent == ring->count)
		return false;
	*attempt = w->cohort->attempt;
	*it = ring->reports[ring->sent++];
	snprintf(path, 32, "/checkpoint-%llu", (unsigned long long)it->step);
	return true;
}

void cohort_rewind(struct world *w)
{
	for (uint32_t rank = 0; rank < w->rank_count; rank++)
		w->cohort->rings[rank].sent = 0;
}

void cohort_ack(struct world *w, uint32_t attempt, uint32_t rank, uint64_t ring_seq)
{
	struct ring *ring = &w->cohort->rings[rank];
	size_t acked = 0;

	if (attempt != w->cohort->attempt)
		return;
	while (acked < ring->sent && ring->reports[acked].ring_seq <= ring_seq)
		acked++;
	ring->count -= acked;
	ring->sent -= acked;
	memmove(ring->reports, ring->reports + acked, ring->count * sizeof(ring->reports[0]));
}

static void report_phase(struct world *w, uint32_t rank, enum phase phase)
{
	struct proc *proc = &w->cohort->procs[rank];
	struct ring *ring = &w->cohort->rings[rank];

	if (proc->dropping) {
		/* No slot was free: the report takes its number all the same. */
		ring->ring_seq++;
		proc->dropping = false;
	} else {
		struct iteration *it = push(w, rank, ITERATION_PHASE);

		it->phase = phase;
		it->previous = proc->phase;
		it->duration_ns = w->now_ns - proc->phase_since_ns;
	}
	proc->phase = phase;
	proc->phase_since_ns = w->now_ns;
}

/* --- life and death ----------------------------------------------------------------------------------- */

static bool current(const struct world *w, uint64_t rank, uint64_t attempt)
{
	return attempt == w->cohort->attempt && w->cohort->procs[rank].alive;
}

static void act(struct world *w, uint32_t rank, uint64_t delay_ns, world_event *what)
{
	world_after(w, delay_ns, what, rank, w->cohort->attempt, NULL);
}

/* Whether the rank may do what it is about to do; a stopped one does it when it goes on. */
static bool may_act(struct world *w, uint64_t rank, uint64_t attempt, world_event *what)
{
	struct proc *proc;

	if (!current(w, rank, attempt))
		return false;
	proc = &w->cohort->procs[rank];
	if (proc->hung || proc->crashing)
		return false;
	if (proc->stopped) {
		proc->parked = what;
		return false;
	}
	return true;
}

static void tell_death(struct world *w, uint32_t rank, bool known)
{
	struct proc *proc = &w->cohort->procs[rank];
	struct record_death *death;

	if (proc->death_told)
		return;
	proc->death_told = true;
	death = world_record(w, RECORD_DEATH, sizeof(*death));
	death->head.time_ns = proc->death_ns;
	death->rank = rank;
	death->attempt = w->cohort->attempt;
	death->status_known = known;
	death->wait_status = known ? proc->wait_status : 0;
	death->source = known ? DEATH_PIDFD : DEATH_FUTEX;
	node_post(w, death);
}

static void tell_exit(struct world *w, uint32_t rank)
{
	struct proc *proc = &w->cohort->procs[rank];
	struct record_exit *end;

	if (proc->exit_told)
		return;
	proc->exit_told = true;
	end = world_record(w, RECORD_EXIT, sizeof(*end));
	end->rank = rank;
	end->attempt = w->cohort->attempt;
	end->wait_status = proc->wait_status;
	end->oom_killed = proc->oom;
	node_post(w, end);
}

static void on_tell_death(struct world *w, uint64_t rank, uint64_t attempt, void *data)
{
	(void)data;
	if (attempt == w->cohort->attempt && w->cohort->procs[rank].exists)
		tell_death(w, (uint32_t)rank, false);
}

static void on_tell_exit(struct world *w, uint64_t rank, uint64_t attempt, void *data)
{
	(void)data;
	if (attempt != w->cohort->attempt || !w->cohort->procs[rank].exists)
		return;
	tell_death(w, (uint32_t)rank, true);
	tell_exit(w, (uint32_t)rank);
}

static void die(struct world *w, uint32_t rank, int32_t wait_status);

/* What the rank has saved, or was saving when it died. */
static void keep(struct world *w, uint32_t rank, bool torn)
{
	struct cohort *c = w->cohort;
	const struct proc *proc = &c->procs[rank];
	struct shelf_copy copy = {.step = proc->done,
	    .state = torn ? 0xdead : proc->state,
	    .attempt = c->attempt,
	    .nan = proc->nan,
	    .torn = torn};

	shelf_saved(w, &copy);
}

static void tear_what_is_saved(struct world *w, uint32_t rank)
{
	if (w->cohort->keeps && rank == 0 && w->cohort->procs[rank].phase == PHASE_CHECKPOINT)
		keep(w, rank, true);
}

/* A survivor finds its peer gone. */
static void on_lost_peer(struct world *w, uint64_t rank, uint64_t attempt, void *data)
{
	(void)data;
	if (may_act(w, rank, attempt, on_lost_peer))
		die(w, (uint32_t)rank, 1 << 8);
}

static void die(struct world *w, uint32_t rank, int32_t wait_status)
{
	struct cohort *c = w->cohort;
	struct proc *proc = &c->procs[rank];

	if (!proc->alive)
		return;
	world_say(w, "rank %u ends with %#x at step %llu", rank, (unsigned)wait_status,
	    (unsigned long long)proc->step);
	proc->alive = false;
	proc->wait_status = wait_status;
	proc->death_ns = w->now_ns;
	/* The first notice comes by the futex, the status much later; or, now and then, both at once. */
	if (world_chance(w, 80)) {
		act(w, rank, world_between(w, MS / 10, MS), on_tell_death);
		act(w, rank, world_between(w, 2 * MS, 300 * MS), on_tell_exit);
	} else {
		act(w, rank, world_between(w, 2 * MS, 15 * MS), on_tell_exit);
	}
	if (wait_status == 0)
		return;
	tear_what_is_saved(w, rank);
	for (uint32_t other = 0; other < w->rank_count; other++)
		if (c->procs[other].alive && c->procs[other].connected && world_chance(w, 70))
			act(w, other, world_between(w, 20 * MS, 200 * MS), on_lost_peer);
}

void cohort_reap_all(struct world *w)
{
	for (uint32_t rank = 0; rank < w->rank_count; rank++) {
		struct proc *proc = &w->cohort->procs[rank];

		if (!proc->exists)
			continue;
		if (proc->alive) {
			proc->alive = false;
			proc->wait_status = 9;
			proc->death_ns = w->now_ns;
			tear_what_is_saved(w, rank);
		}
		tell_death(w, rank, true);
		tell_exit(w, rank);
		proc->exists = false;
	}
}

void cohort_vanish(struct world *w)
{
	memset(w->cohort->procs, 0, sizeof(w->cohort->procs));
}

uint32_t cohort_alive_count(const struct world *w)
{
	uint32_t count = 0;

	for (uint32_t rank = 0; rank < w->rank_count; rank++)
		count += w->cohort->procs[rank].alive;
	return count;
}

void cohort_describe(const struct world *w, uint32_t attempt, struct agent_rank *out)
{
	for (uint32_t rank = 0; rank < w->rank_count; rank++) {
		const struct proc *proc = &w->cohort->procs[rank];

		out[rank].rank = rank;
		if (attempt == w->cohort->attempt)
			out[rank].flags = (proc->alive ? AGENT_RANK_ALIVE : 0u) |
			    (proc->connected ? AGENT_RANK_CONNECTED : 0u);
	}
}

/* --- the walk of a rank ------------------------------------------------------------------------------- */

static void on_arrive(struct world *w, uint64_t rank, uint64_t attempt, void *data);

static void begin_step(struct world *w, uint32_t rank)
{
	struct cohort *c = w->cohort;
	struct proc *proc = &c->procs[rank];

	proc->step = proc->done + 1;
	if (c->poison_step != STEP_NONE && rank == 0 && proc->done == c->poison_step) {
		die(w, rank, 9 << 8);
		return;
	}
	if (c->doom_code != 0 && rank == c->doom_rank && proc->step >= c->doom_step) {
		die(w, rank, c->doom_code << 8);
		return;
	}
	act(w, rank, world_between(w, c->step_ns, 2 * c->step_ns), on_arrive);
}

static void on_evaluated(struct world *w, uint64_t rank, uint64_t attempt, void *data)
{
	(void)data;
	if (!may_act(w, rank, attempt, on_evaluated))
		return;
	report_phase(w, (uint32_t)rank, PHASE_STEP);
	act(w, (uint32_t)rank, MS, on_pump);
	begin_step(w, (uint32_t)rank);
}

static void go_on(struct world *w, uint32_t rank)
{
	struct cohort *c = w->cohort;
	struct proc *proc = &c->procs[rank];

	if (proc->done >= w->step_count || c->stop_asked) {
		if (proc->done >= w->step_count) {
			c->final[rank] = true;
			c->final_state[rank] = proc->state;
		}
		die(w, rank, 0);
		return;
	}
	if (proc->done % c->evaluation_every == 0) {
		report_phase(w, rank, PHASE_EVALUATION);
		act(w, rank, MS, on_pump);
		act(w, rank, world_between(w, 5 * c->step_ns, 15 * c->step_ns), on_evaluated);
		return;
	}
	begin_step(w, rank);
}

static void on_saved(struct world *w, uint64_t number, uint64_t attempt, void *data)
{
	struct cohort *c = w->cohort;
	uint32_t rank = (uint32_t)number;
	struct proc *proc = &c->procs[rank];

	(void)data;
	if (!may_act(w, rank, attempt, on_saved))
		return;
	if (c->keeps) {
		keep(w, rank, false);
		report_phase(w, rank, PHASE_STEP);
		act(w, rank, MS, on_pump);
		go_on(w, rank);
		return;
	}
	c->files[proc->done][rank] = (struct file){
	    .exists = true, .nan = proc->nan, .state = proc->state, .version = ++c->versions};
	struct iteration *it = push(w, rank, ITERATION_CHECKPOINT);

	it->step = proc->done;
	it->fields = c->sharded ? w->rank_count : 1;
	report_phase(w, rank, PHASE_STEP);
	act(w, rank, MS, on_pump);
	go_on(w, rank);
}

static void snapshot(struct world *w, uint32_t rank)
{
	struct cohort *c = w->cohort;
	struct proc *proc = &c->procs[rank];
	struct slot *oldest = &c->slots[rank][0];

	if (proc->done % c->snapshot_every != 0)
		return;
	for (uint32_t i = 0; i < MEMORY_SLOTS; i++) {
		struct slot *slot = &c->slots[rank][i];

		if (!slot->used || (oldest->used && slot->step < oldest->step))
			oldest = slot;
	}
	*oldest = (struct slot){
	    .used = true, .nan = proc->nan, .step = proc->done, .state = proc->state};
}

/* The barrier is passed: the step is done, reported, and kept. */
static void on_pass(struct world *w, uint64_t number, uint64_t attempt, void *data)
{
	struct cohort *c = w->cohort;
	uint32_t rank = (uint32_t)number;
	struct proc *proc = &c->procs[rank];
	struct iteration *it;

	(void)data;
	if (!may_act(w, rank, attempt, on_pass))
		return;
	proc->waiting = false;
	proc->state = mix(proc->state, proc->step);
	if (c->nan_step == proc->step) {
		proc->nan = true;
		proc->state ^= 0xbad;
	}
	proc->done = proc->step;
	proc->cpu_ns += c->step_ns;
	if (w->broken == BREAK_LOST_REPORT && proc->step % 16 == 3)
		w->cohort->rings[rank].ring_seq--; /* two reports take one number */
	it = push(w, rank, ITERATION_STEP);
	it->fields = FIELD_LOSS;
	it->duration_ns = 2 * c->step_ns;
	it->loss = proc->nan && rank == c->nan_rank ? NAN : (double)(proc->state >> 40);
	act(w, rank, MS / 2, on_pump);
	snapshot(w, rank);
	if ((proc->done % c->checkpoint_every == 0 || proc->done == c->checkpoint_step) &&
	    (c->sharded || rank == 0)) {
		report_phase(w, rank, PHASE_CHECKPOINT);
		act(w, rank, world_between(w, c->step_ns, 5 * c->step_ns), on_saved);
		return;
	}
	go_on(w, rank);
}

static void on_arrive(struct world *w, uint64_t number, uint64_t attempt, void *data)
{
	struct cohort *c = w->cohort;

	(void)data;
	if (!may_act(w, number, attempt, on_arrive))
		return;
	c->procs[number].waiting = true;
	if (++c->arrived < w->rank_count)
		return;
	c->arrived = 0;
	if (c->checkpoint_asked) {
		c->checkpoint_asked = false;
		c->checkpoint_step = c->procs[number].step;
	}
	for (uint32_t rank = 0; rank < w->rank_count; rank++)
		act(w, rank, world_between(w, 0, 2 * MS), on_pass);
}

static void on_first_step(struct world *w, uint64_t number, uint64_t attempt, void *data)
{
	uint32_t rank = (uint32_t)number;

	(void)data;
	if (!may_act(w, rank, attempt, on_first_step))
		return;
	report_phase(w, rank, PHASE_STEP);
	act(w, rank, MS, on_pump);
	if (w->cohort->procs[rank].done >= w->step_count)
		go_on(w, rank);
	else
		begin_step(w, rank);
}

static void on_connect(struct world *w, uint64_t number, uint64_t attempt, void *data)
{
	uint32_t rank = (uint32_t)number;
	struct record_connected *connected;

	(void)data;
	if (!may_act(w, rank, attempt, on_connect))
		return;
	w->cohort->procs[rank].connected = true;
	connected = world_record(w, RECORD_CONNECTED, sizeof(*connected));
	connected->rank = rank;
	connected->attempt = w->cohort->attempt;
	node_post(w, connected);
	act(w, rank, world_between(w, 20 * MS, 400 * MS), on_first_step);
}

static void on_spawned(struct world *w, uint64_t number, uint64_t attempt, void *data)
{
	struct cohort *c = w->cohort;
	uint32_t rank = (uint32_t)number;
	struct record_started *started;

	(void)data;
	if (attempt != c->attempt || !c->procs[rank].exists || c->procs[rank].alive)
		return;
	if (c->spawn_error != 0 && rank == w->rank_count - 1) {
		struct record_spawn *spawn = world_record(w, RECORD_SPAWN, sizeof(*spawn));

		spawn->rank = rank;
		spawn->attempt = c->attempt;
		spawn->stage = SPAWN_EXEC;
		spawn->error = c->spawn_error;
		if (!c->spawn_always)
			c->spawn_error = 0;
		c->procs[rank].exists = false;
		node_post(w, spawn);
		return;
	}
	c->procs[rank].alive = true;
	c->procs[rank].phase_since_ns = w->now_ns;
	started = world_record(w, RECORD_STARTED, sizeof(*started));
	started->rank = rank;
	started->attempt = c->attempt;
	node_post(w, started);
	act(w, rank, world_between(w, 10 * MS, 300 * MS), on_connect);
}

/* What the rank loads; false when it is not there, or is not what was saved. */
static bool load(struct world *w, uint32_t rank, const struct decision_start *start)
{
	struct cohort *c = w->cohort;
	struct proc *proc = &c->procs[rank];

	if (start->source == START_SCRATCH) {
		proc->state = first_state(rank);
		return true;
	}
	if (start->source == START_FILE && c->keeps) {
		const struct shelf_copy *copy = shelf_find(w, start->rung_first_seq);

		proc->state = first_state(rank);
		for (uint64_t step = 1; step <= start->step; step++)
			proc->state = mix(proc->state, step);
		return copy != NULL && !copy->gone && !copy->rotten && !copy->torn && !copy->nan &&
		    copy->step == start->step && (rank != 0 || copy->state == proc->state);
	}
	if (start->source == START_FILE) {
		/* One file holds the state of rank 0, from which the others' follows. */
		const struct file *file = &c->files[start->step % STEPS_MAX][c->sharded ? rank : 0];

		proc->state = first_state(rank);
		for (uint64_t step = 1; step <= start->step; step++)
			proc->state = mix(proc->state, step);
		if (file->nan || (rank == 0 && proc->state != file->state))
			proc->state = 0xbad;
		return file->exists && !file->rotten;
	}
	for (uint32_t i = 0; i < MEMORY_SLOTS; i++) {
		const struct slot *slot = &c->slots[rank][i];

		if (slot->used && slot->step == start->step) {
			proc->state = slot->state;
			return !slot->torn;
		}
	}
	return false;
}

/* A run whose only checkpoint cannot be loaded is given up, not begun anew: that is no state to poison. */
static bool leaves_a_way_down(const struct world *w, const struct decision_start *start)
{
	struct policy *p = (struct policy *)overseer_policy(w);
	struct ladder_range range = {
	    .before_step = start->step, .kept_before = start->step, .above_step = STEP_NONE};

	return start->source != START_FILE || (p != NULL && ladder_pick(p, &range) != NULL);
}

void cohort_start(struct world *w, const struct decision_start *start)
{
	struct cohort *c = w->cohort;

	world_say(w, "attempt %u starts from source %u step %lld", start->attempt, start->source,
	    (long long)start->step);
	if (c->poison_next && leaves_a_way_down(w, start)) {
		c->poison_step = start->step;
		c->poison_source = start->source;
	} else if (start->step != c->poison_step || start->source != c->poison_source) {
		c->poison_step = STEP_NONE;
	}
	c->poison_next = false;
	memset(c->procs, 0, sizeof(c->procs));
	c->attempt = start->attempt;
	c->arrived = 0;
	c->nan_step = STEP_NONE;
	c->stop_asked = false;
	c->checkpoint_asked = false;
	c->checkpoint_step = STEP_NONE;
	for (uint32_t rank = 0; rank < w->rank_count; rank++) {
		struct proc *proc = &c->procs[rank];
		struct ring *ring = &c->rings[rank];

		ring->ring_seq = 0;
		ring->count = 0;
		ring->sent = 0;
		proc->exists = true;
		proc->done = start->source == START_SCRATCH ? 0 : start->step;
		proc->step = proc->done;
		if (!load(w, rank, start))
			world_fail(w, "H8: rank %u loads step %llu, which is not whole", rank,
			    (unsigned long long)start->step);
		/* What is newer than the state that goes on belongs to a past that is not this one's. */
		for (uint32_t i = 0; i < MEMORY_SLOTS && w->broken != BREAK_STALE_SLOTS; i++)
			if (c->slots[rank][i].used && c->slots[rank][i].step > proc->done)
				c->slots[rank][i].used = false;
		act(w, rank, world_between(w, MS, 5 * MS), on_spawned);
	}
}

/* --- for the agent ------------------------------------------------------------------------------------ */

static void tell_stopped(struct world *w, uint32_t rank, int32_t signal)
{
	struct record_stopped *stopped = world_record(w, RECORD_STOPPED, sizeof(*stopped));

	stopped->rank = rank;
	stopped->attempt = w->cohort->attempt;
	stopped->signal = signal;
	node_post(w, stopped);
}

void cohort_signal(struct world *w, uint32_t attempt, uint32_t number, int32_t signal)
{
	for (uint32_t rank = 0; rank < w->rank_count; rank++) {
		struct proc *proc = &w->cohort->procs[rank];

		if ((number != RANK_NONE && number != rank) || !current(w, rank, attempt))
			continue;
		if (signal == 18 && proc->stopped) {
			world_event *parked = proc->parked;

			proc->stopped = false;
			proc->parked = NULL;
			tell_stopped(w, rank, 0);
			if (parked != NULL)
				act(w, rank, 0, parked);
		} else if (signal == 15 && !proc->stopped) {
			die(w, rank, 15);
		}
	}
}

void cohort_ask(struct world *w, uint32_t attempt, uint32_t what)
{
	if (attempt != w->cohort->attempt)
		return;
	if (what == ASK_STOP)
		w->cohort->stop_asked = true;
	else
		w->cohort->checkpoint_asked = true;
}

void cohort_sample(struct world *w, uint32_t attempt)
{
	for (uint32_t rank = 0; rank < w->rank_count; rank++) {
		struct proc *proc = &w->cohort->procs[rank];
		struct record_sample *sample;

		/* A helper now and then does not come back. */
		if (!current(w, rank, attempt) || world_chance(w, 3))
			continue;
		sample = world_record(w, RECORD_SAMPLE, sizeof(*sample));
		sample->rank = rank;
		sample->attempt = attempt;
		sample->cpu_ns = proc->cpu_ns + (proc->spinning ? w->now_ns - proc->spin_since_ns : 0);
		sample->phase = proc->phase;
		sample->phase_ns = w->now_ns - proc->phase_since_ns;
		sample->last_step = proc->done > 0 ? proc->done : STEP_NONE;
		sample->waiting = proc->waiting;
		sample->flags = proc->connected ? SAMPLE_CHANNEL : 0;
		sample->state = proc->stopped ? 'T' : proc->spinning ? 'R' : 'S';
		node_post(w, sample);
	}
}

void cohort_survey(struct world *w, uint32_t attempt, uint64_t before_step)
{
	for (uint32_t rank = 0; rank < w->rank_count; rank++) {
		struct record_memory *answer = world_record(w, RECORD_MEMORY, sizeof(*answer));
		uint32_t count = 0;

		answer->rank = rank;
		answer->attempt = attempt;
		answer->bad_step = STEP_NONE;
		for (uint32_t i = 0; i < MEMORY_SLOTS; i++)
			answer->step[i] = STEP_NONE;
		for (uint32_t i = 0; i < MEMORY_SLOTS; i++) {
			const struct slot *slot = &w->cohort->slots[rank][i];

			if (!slot->used || slot->step >= before_step)
				continue;
			if (slot->torn)
				answer->bad_step = slot->step;
			else
				answer->step[count++] = slot->step;
		}
		node_post(w, answer);
	}
}

static void on_crash_over(struct world *w, uint64_t rank, uint64_t attempt, void *data)
{
	(void)data;
	if (current(w, rank, attempt))
		die(w, (uint32_t)rank, SIGNAL_SEGV);
}

void cohort_on_captured(struct world *w, uint32_t attempt, uint32_t rank)
{
	if (current(w, rank, attempt) && w->cohort->procs[rank].crashing)
		act(w, rank, MS, on_crash_over);
}

bool cohort_file_digest(const struct world *w, uint64_t step, uint32_t rank, uint8_t digest[16])
{
	const struct file *file = &w->cohort->files[step % STEPS_MAX][rank];
	uint64_t parts[2] = {file->version, file->rotten};

	memcpy(digest, parts, sizeof(parts));
	return file->exists;
}

uint32_t cohort_file_finite(const struct world *w, uint64_t step, uint32_t rank)
{
	w->cohort->files[step % STEPS_MAX][rank].digested = true;
	return !w->cohort->files[step % STEPS_MAX][rank].nan;
}

/* --- harm --------------------------------------------------------------------------------------------- */

static void crash(struct world *w, uint32_t rank)
{
	struct record_crashing *crashing = world_record(w, RECORD_CRASHING, sizeof(*crashing));

	w->cohort->procs[rank].crashing = true;
	crashing->rank = rank;
	crashing->attempt = w->cohort->attempt;
	crashing->signal = SIGNAL_SEGV;
	node_post(w, crashing);
	act(w, rank, 3 * S, on_crash_over);
}

bool cohort_harm(struct world *w, uint32_t rank, enum harm harm)
{
	struct proc *proc = &w->cohort->procs[rank];

	if (!proc->alive || proc->hung || proc->crashing || proc->stopped)
		return false;
	switch (harm) {
	case HARM_KILL:
		die(w, rank, 9);
		break;
	case HARM_OOM:
		proc->oom = true;
		die(w, rank, 9);
		break;
	case HARM_EXIT:
		die(w, rank, 3 << 8);
		break;
	case HARM_CRASH:
		if (!proc->connected)
			return false;
		crash(w, rank);
		break;
	case HARM_STOP:
		proc->stopped = true;
		tell_stopped(w, rank, 19);
		break;
	case HARM_SPIN:
	case HARM_HANG:
		/* Who waits at the barrier hangs only after it. */
		if (!proc->connected || proc->waiting)
			return false;
		proc->hung = true;
		proc->spinning = harm == HARM_SPIN;
		proc->spin_since_ns = w->now_ns;
		break;
	case HARM_NAN:
		/* One at a time: a second one would take the first one's report away. */
		if (proc->done + 2 > w->step_count || !proc->connected ||
		    w->cohort->nan_step != STEP_NONE)
			return false;
		w->cohort->nan_step = proc->done + 2;
		w->cohort->nan_rank = rank;
		break;
	case HARM_DROP:
		proc->dropping = true;
		break;
	case HARM_DAMAGE: {
		struct record_damage *damage = world_record(w, RECORD_DAMAGE, sizeof(*damage));

		damage->rank = rank;
		damage->attempt = w->cohort->attempt;
		node_post(w, damage);
		break;
	}
	}
	return true;
}

bool cohort_tear(struct world *w, uint32_t rank)
{
	struct slot *newest = NULL;

	for (uint32_t i = 0; i < MEMORY_SLOTS; i++) {
		struct slot *slot = &w->cohort->slots[rank][i];

		if (slot->used && !slot->torn && (newest == NULL || slot->step > newest->step))
			newest = slot;
	}
	if (newest == NULL)
		return false;
	newest->torn = true;
	return true;
}

void cohort_rot(struct world *w)
{
	struct cohort *c = w->cohort;

	memset(c->slots, 0, sizeof(c->slots));
	shelf_rot(w);
	for (uint64_t step = STEPS_MAX - 1; step > 0; step--)
		if (c->files[step][0].exists && c->files[step][0].digested) {
			c->files[step][0].rotten = true;
			return;
		}
}

void cohort_fail_spawn(struct world *w, int32_t error, bool always)
{
	w->cohort->spawn_error = error;
	w->cohort->spawn_always = always;
}

void cohort_doom(struct world *w, uint64_t step, uint32_t rank, int32_t code)
{
	w->cohort->doom_step = step;
	w->cohort->doom_rank = rank;
	w->cohort->doom_code = code;
}

void cohort_poison(struct world *w)
{
	w->cohort->poison_next = true;
}
