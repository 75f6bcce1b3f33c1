/* The turn: see turn.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "journal/store.h"
#include "supervisor/failpoint.h"
#include "supervisor/turn.h"

/* Records of turns that were decided but not committed, one behind the other. */
struct pending {
	uint8_t *bytes;
	size_t size_bytes, capacity_bytes;
	uint64_t since_ns;
	uint32_t late_count;
};

struct turn {
	struct policy *policy;
	struct store *store; /* NULL while in trouble */
	char *dir;
	struct turn_callbacks callbacks;
	struct record **inputs;
	size_t count, capacity;
	uint64_t last_seq, last_turn, last_time_ns;
	struct cause trouble_cause;
	bool in_trouble;
	struct pending pending;
	uint64_t pending_turn;   /* number of the first that waits */
	struct record *held_end; /* a DECISION_END that waits for the journal */
	struct record_run *run;
	struct decisions decisions;
};

bool turn_in_trouble(const struct turn *t)
{
	return t->in_trouble;
}

const struct policy *turn_policy(const struct turn *t)
{
	return t->policy;
}

uint64_t turn_number(const struct turn *t)
{
	return t->last_turn + 1;
}

/* --- fold --------------------------------------------------------------------------------------------- */

struct fold {
	const struct record **inputs;
	size_t input_count, capacity;
	const struct record **decisions;
	size_t decision_count, decision_capacity;
};

static bool push(const struct record ***list, size_t *count, size_t *capacity, const struct record *r)
{
	if (*count == *capacity) {
		size_t wanted = *capacity == 0 ? 256 : *capacity * 2;
		const struct record **grown = realloc(*list, wanted * sizeof(*grown));

		if (grown == NULL)
			return false;
		*list = grown;
		*capacity = wanted;
	}
	(*list)[(*count)++] = r;
	return true;
}

/* Whether the policy decided again what stands in the journal; numbering aside. */
static bool decisions_agree(const struct fold *f, const struct decisions *made)
{
	const uint8_t *at = made->bytes;

	if (made->count != f->decision_count)
		return false;
	for (uint32_t i = 0; i < made->count; i++) {
		const struct record *mine = (const struct record *)at;
		const struct record *theirs = f->decisions[i];

		if (mine->kind != theirs->kind || mine->size_bytes != theirs->size_bytes ||
		    memcmp(mine + 1, theirs + 1, mine->size_bytes - sizeof(*mine)) != 0)
			return false;
		at += mine->size_bytes;
	}
	return true;
}

static void fold_turn(
    struct turn *t, struct fold *f, const struct record_turn *end, struct turn_history *history)
{
	policy_turn(t->policy, f->inputs, f->input_count, end->head.time_ns, &t->decisions);
	if (policy_digest(t->policy) != end->state_digest || !decisions_agree(f, &t->decisions))
		if (history->turns_differing++ == 0)
			history->first_differing = end->head.turn;
	f->input_count = 0;
	f->decision_count = 0;
	history->last_turn = end->head.turn;
	history->last_time_ns = end->head.time_ns;
}

static MUST_CHECK enum status fold_record(struct turn *t, struct fold *f, const struct record *r,
    struct turn_history *history, struct cause *why)
{
	if (r->kind == RECORD_TURN) {
		fold_turn(t, f, (const struct record_turn *)r, history);
		return STATUS_OK;
	}
	if (r->kind == RECORD_RUN && t->run == NULL) {
		t->run = malloc(r->size_bytes);
		if (t->run != NULL)
			memcpy(t->run, r, r->size_bytes);
	} else if (r->kind == RECORD_SESSION) {
		history->last_session = *(const struct record_session *)r;
		history->session = history->last_session.session;
	}
	bool pushed = record_is_decision(r)
	    ? push(&f->decisions, &f->decision_count, &f->decision_capacity, r)
	    : push(&f->inputs, &f->input_count, &f->capacity, r);

	if (!pushed) {
		cause_set(why, CAUSE_ERRNO, ENOMEM, "fold", t->dir);
		return STATUS_SYS;
	}
	if (!record_is_decision(r))
		t->callbacks.seen(t->callbacks.context, r);
	return STATUS_OK;
}

static MUST_CHECK enum status fold_journal(
    struct turn *t, struct store_reader *reader, struct turn_history *history, struct cause *why)
{
	struct fold f = {0};
	enum status status = STATUS_OK;
	uint64_t last = store_reader_last_seq(reader);

	for (uint64_t seq = 1; seq <= last && status == STATUS_OK; seq++) {
		const struct record *r;

		status = store_reader_get(reader, seq, &r, why);
		if (status == STATUS_OK)
			status = fold_record(t, &f, r, history, why);
	}
	free(f.inputs);
	free(f.decisions);
	return status;
}

/* The run's own record is the first one: it says for how many ranks the policy is to be made. */
static MUST_CHECK enum status fold_open(
    struct turn *t, uint32_t rank_count, struct turn_history *history, struct cause *why)
{
	struct store_reader *reader = NULL;
	enum status status = store_reader_open(t->dir, &reader, why);
	const struct record *first = NULL;

	history->fresh = true;
	history->rank_count = rank_count;
	if (status == STATUS_OK && store_reader_last_seq(reader) > 0) {
		status = store_reader_get(reader, 1, &first, why);
		if (status == STATUS_OK && first->kind != RECORD_RUN) {
			cause_set(why, CAUSE_DATA, 1, "first record", t->dir);
			status = STATUS_BAD;
		}
		if (status == STATUS_OK) {
			history->fresh = false;
			history->rank_count = ((const struct record_run *)first)->rank_count;
		}
	} else if (status == STATUS_NONE) {
		status = STATUS_OK;
	}
	if (status == STATUS_OK && history->rank_count != rank_count) {
		cause_set(why, CAUSE_DATA, history->rank_count, "rank count", t->dir);
		status = STATUS_REFUSED;
	}
	if (status == STATUS_OK && (t->policy = policy_new(rank_count)) == NULL) {
		cause_set(why, CAUSE_ERRNO, ENOMEM, "policy", t->dir);
		status = STATUS_SYS;
	}
	if (status == STATUS_OK && !history->fresh)
		status = fold_journal(t, reader, history, why);
	store_reader_close(reader);
	return status;
}

enum status turn_open(const char *dir, uint32_t rank_count, const struct turn_callbacks *callbacks,
    struct turn **out, struct turn_history *history, struct cause *why)
{
	struct turn *t = calloc(1, sizeof(*t));
	enum status status;

	if (t == NULL || (t->dir = strdup(dir)) == NULL) {
		free(t);
		cause_set(why, CAUSE_ERRNO, ENOMEM, "open", dir);
		return STATUS_SYS;
	}
	memset(history, 0, sizeof(*history));
	t->callbacks = *callbacks;
	/* First the writer's lock: what is folded then is all there is. */
	status = store_open(dir, &t->store, why);
	if (status == STATUS_OK)
		status = fold_open(t, rank_count, history, why);
	if (status != STATUS_OK) {
		turn_close(t);
		return status;
	}
	t->last_seq = store_last_seq(t->store);
	t->last_turn = store_last_turn(t->store);
	assert(t->last_turn == history->last_turn);
	t->last_time_ns = history->last_time_ns;
	history->run = t->run;
	*out = t;
	return STATUS_OK;
}

void turn_close(struct turn *t)
{
	if (t == NULL)
		return;
	for (size_t i = 0; i < t->count; i++)
		free(t->inputs[i]);
	free(t->inputs);
	store_close(t->store);
	policy_free(t->policy);
	free(t->pending.bytes);
	free(t->held_end);
	free(t->run);
	free(t->dir);
	free(t);
}

/* --- the turn ----------------------------------------------------------------------------------------- */

bool turn_post(struct turn *t, struct record *r)
{
	if (t->count == t->capacity) {
		size_t wanted = t->capacity == 0 ? 64 : t->capacity * 2;
		struct record **grown = realloc(t->inputs, wanted * sizeof(*grown));

		if (grown == NULL) {
			free(r);
			return false;
		}
		t->inputs = grown;
		t->capacity = wanted;
	}
	t->inputs[t->count++] = r;
	return true;
}

bool turn_has_room(const struct turn *t)
{
	return !t->in_trouble || t->pending.size_bytes < TURN_PENDING_BYTES;
}

bool turn_due(const struct turn *t, uint64_t now_ns)
{
	return t->count > 0 || policy_deadline_ns(t->policy) <= now_ns;
}

static MUST_CHECK enum status append_all(
    struct turn *t, size_t count, struct record_turn *end, struct cause *why)
{
	enum status status = store_begin(t->store, why);
	uint8_t *at = t->decisions.bytes;

	for (size_t i = 0; i < count && status == STATUS_OK; i++)
		status = store_append(t->store, t->inputs[i], why);
	failpoint_pass(FAILPOINT_AFTER_INPUTS, turn_number(t));
	for (uint32_t i = 0; i < t->decisions.count && status == STATUS_OK; i++) {
		struct record *r = (struct record *)at;

		status = store_append(t->store, r, why);
		at += r->size_bytes;
	}
	if (status == STATUS_OK)
		status = store_append(t->store, &end->head, why);
	failpoint_pass(FAILPOINT_BEFORE_COMMIT, turn_number(t));
	if (status == STATUS_OK)
		return store_commit(t->store, why);
	store_abort(t->store);
	return status;
}

static bool pending_add(struct pending *p, const struct record *r)
{
	if (p->size_bytes + r->size_bytes > p->capacity_bytes) {
		size_t wanted = (p->capacity_bytes + r->size_bytes) * 2;
		uint8_t *grown = realloc(p->bytes, wanted);

		if (grown == NULL)
			return false;
		p->bytes = grown;
		p->capacity_bytes = wanted;
	}
	memcpy(p->bytes + p->size_bytes, r, r->size_bytes);
	p->size_bytes += r->size_bytes;
	return true;
}

/* Keep a turn that could not be committed.  Without the memory for it the order of the journal could not be
 * kept: then this supervisor ends, and its successor starts from what is committed. */
static void pending_keep(struct turn *t, size_t count, struct record_turn *end)
{
	const uint8_t *at = t->decisions.bytes;
	bool kept = true;

	end->late = 1;
	for (size_t i = 0; i < count; i++)
		kept = kept && pending_add(&t->pending, t->inputs[i]);
	for (uint32_t i = 0; i < t->decisions.count; i++) {
		kept = kept && pending_add(&t->pending, (const struct record *)at);
		at += ((const struct record *)at)->size_bytes;
	}
	kept = kept && pending_add(&t->pending, &end->head);
	if (!kept)
		abort();
	t->pending.late_count += t->decisions.count;
}

static void hold_end(struct turn *t, const struct record *r)
{
	free(t->held_end);
	t->held_end = malloc(r->size_bytes);
	if (t->held_end == NULL)
		abort(); /* the successor decides it again */
	memcpy(t->held_end, r, r->size_bytes);
}

static void perform_all(struct turn *t)
{
	const uint8_t *at = t->decisions.bytes;

	for (uint32_t i = 0; i < t->decisions.count; i++) {
		const struct record *r = (const struct record *)at;

		/* The end is not needed to keep the run alive: it waits for the journal (DESIGN section 4). */
		if (t->in_trouble && r->kind == DECISION_END)
			hold_end(t, r);
		else
			t->callbacks.perform(t->callbacks.context, r);
		at += r->size_bytes;
		if (i == 0)
			failpoint_pass(FAILPOINT_WHILE_PERFORMING, t->last_turn);
	}
}

static void retire(struct turn *t, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(t->inputs[i]);
	memmove(t->inputs, t->inputs + count, (t->count - count) * sizeof(t->inputs[0]));
	t->count -= count;
}

static void enter_trouble(struct turn *t, uint64_t now_ns, const struct cause *why)
{
	store_close(t->store);
	t->store = NULL;
	t->in_trouble = true;
	t->pending.since_ns = now_ns;
	t->pending_turn = turn_number(t);
	t->trouble_cause = *why;
}

enum status turn_run(struct turn *t, uint64_t now_ns, struct cause *why)
{
	size_t count = t->count < TURN_INPUTS_MAX ? t->count : TURN_INPUTS_MAX;
	uint64_t number = turn_number(t);
	struct cause cause = {0};
	enum status status = STATUS_OK;

	if (now_ns < t->last_time_ns)
		now_ns = t->last_time_ns;
	for (size_t i = 0; i < count; i++) {
		t->inputs[i]->seq = t->last_seq + 1 + i;
		t->inputs[i]->turn = number;
	}
	failpoint_pass(FAILPOINT_BEFORE_DECIDE, number);
	policy_turn(t->policy, (const struct record *const *)t->inputs, count, now_ns, &t->decisions);
	failpoint_pass(FAILPOINT_AFTER_DECIDE, number);
	if (count == 0 && t->decisions.count == 0)
		return STATUS_NONE;

	struct record_turn end = {
	    .head = {.kind = RECORD_TURN, .version = 1, .size_bytes = sizeof(end), .time_ns = now_ns},
	    .input_count = (uint32_t)count,
	    .decision_count = t->decisions.count,
	    .state_digest = policy_digest(t->policy),
	};

	if (!t->in_trouble) {
		status = append_all(t, count, &end, &cause);
		if (status != STATUS_OK)
			enter_trouble(t, now_ns, &cause);
	} else {
		cause = t->trouble_cause;
		status = STATUS_AGAIN;
	}
	if (status != STATUS_OK)
		pending_keep(t, count, &end);
	t->last_seq += count + t->decisions.count + 1;
	t->last_turn = number;
	t->last_time_ns = now_ns;
	failpoint_pass(FAILPOINT_AFTER_COMMIT, number);
	for (size_t i = 0; i < count; i++)
		t->callbacks.seen(t->callbacks.context, t->inputs[i]);
	perform_all(t);
	retire(t, count);
	if (status != STATUS_OK && why != NULL)
		*why = cause;
	return status;
}

/* --- out of trouble ----------------------------------------------------------------------------------- */

/* Commit every pending turn in one transaction each, as they would have been. */
static MUST_CHECK enum status commit_pending(struct turn *t, struct cause *why)
{
	enum status status = STATUS_OK;
	size_t at = 0;

	while (at < t->pending.size_bytes && status == STATUS_OK) {
		bool ended = false;

		status = store_begin(t->store, why);
		while (!ended && status == STATUS_OK) {
			struct record *r = (struct record *)(t->pending.bytes + at);

			status = store_append(t->store, r, why);
			at += r->size_bytes;
			ended = r->kind == RECORD_TURN;
		}
		if (status == STATUS_OK)
			status = store_commit(t->store, why);
		else
			store_abort(t->store);
		if (status == STATUS_OK) {
			memmove(t->pending.bytes, t->pending.bytes + at, t->pending.size_bytes - at);
			t->pending.size_bytes -= at;
			t->pending_turn++;
			at = 0;
		}
	}
	return status;
}

/* Whether the journal's last record closes the turn that `end` closes. */
static bool last_is(struct turn *t, const struct record_turn *end)
{
	struct store_reader *reader = NULL;
	const struct record *last;
	bool same = false;

	if (store_reader_open(t->dir, &reader, NULL) == STATUS_OK &&
	    store_reader_get(reader, store_reader_last_seq(reader), &last, NULL) == STATUS_OK)
		same = last->kind == RECORD_TURN && last->turn == t->pending_turn &&
		    ((const struct record_turn *)last)->state_digest == end->state_digest;
	store_reader_close(reader);
	return same;
}

/*
 * The last commit may have reached the disk although it was reported as failed: then its turn, the first that
 * waits, is not committed again.  Any other record there would be another writer's: what waits does not follow
 * it, and the successor starts from what is committed.
 */
static void drop_committed(struct turn *t)
{
	size_t at = 0;

	if (t->pending.size_bytes == 0 || store_last_turn(t->store) < t->pending_turn)
		return;
	while (((struct record *)(t->pending.bytes + at))->kind != RECORD_TURN)
		at += ((struct record *)(t->pending.bytes + at))->size_bytes;
	if (!last_is(t, (struct record_turn *)(t->pending.bytes + at)))
		abort();
	at += sizeof(struct record_turn);
	memmove(t->pending.bytes, t->pending.bytes + at, t->pending.size_bytes - at);
	t->pending.size_bytes -= at;
	t->pending_turn++;
}

enum status turn_retry(struct turn *t, uint64_t now_ns, struct cause *why)
{
	struct store *store = NULL;
	enum status status = store_open(t->dir, &store, why);

	if (status != STATUS_OK)
		return status;
	t->store = store;
	drop_committed(t);
	status = commit_pending(t, why);
	if (status != STATUS_OK) {
		store_close(t->store);
		t->store = NULL;
		return status;
	}
	struct record_trouble *trouble = calloc(1, sizeof(*trouble));

	if (trouble != NULL) {
		trouble->head = (struct record){.kind = RECORD_TROUBLE,
		    .version = 1,
		    .size_bytes = sizeof(*trouble),
		    .time_ns = now_ns};
		trouble->number = t->trouble_cause.number;
		trouble->since_ns = t->pending.since_ns;
		trouble->late_count = t->pending.late_count;
		(void)turn_post(t, &trouble->head);
	}
	t->in_trouble = false;
	t->pending.late_count = 0;
	if (t->held_end != NULL)
		t->callbacks.perform(t->callbacks.context, t->held_end);
	free(t->held_end);
	t->held_end = NULL;
	return STATUS_OK;
}
