/* See shelf.h. */
#include <stdlib.h>
#include <string.h>

#include "tests/sim/ledger.h"
#include "tests/sim/node.h"
#include "tests/sim/overseer.h"
#include "tests/sim/shelf.h"

#define COPIES_MAX 512u
#define KEPT_AT_LEAST 3u

struct shelf {
	struct shelf_copy copies[COPIES_MAX]; /* by ordinal - 1 */
	uint64_t count;
};

struct shelf *shelf_new(void)
{
	return world_sure(calloc(1, sizeof(struct shelf)));
}

void shelf_free(struct shelf *s)
{
	free(s);
}

static void fill_digest(const struct shelf_copy *copy, bool rotten, uint8_t digest[16])
{
	uint64_t parts[2] = {copy->state, copy->ordinal ^ (rotten ? UINT64_MAX : 0)};

	memcpy(digest, parts, sizeof(parts));
}

static void say(struct world *w, const struct shelf_copy *copy, uint32_t flags)
{
	struct record_kept *r = world_record(w, RECORD_KEPT, sizeof(*r) + 8);

	r->attempt = copy->attempt;
	r->flags = flags | (copy->torn ? KEPT_UNCHECKED : 0);
	r->step = copy->step;
	r->ordinal = copy->ordinal;
	fill_digest(copy, false, r->digest);
	r->finite = copy->nan ? 0 : 2;
	r->text_bytes = 4;
	memcpy(r + 1, "k\0o", 4);
	node_post(w, r);
}

/* Nothing is given up while nobody can say what is needed. */
static void prune(struct world *w)
{
	struct shelf *s = w->shelf;
	const struct policy *p = overseer_policy(w);
	uint64_t living = 0, needed[POLICY_PROTECTED];

	if (p == NULL)
		return;
	policy_protected(p, needed);
	for (uint64_t i = s->count; i > 0; i--) {
		struct shelf_copy *copy = &s->copies[i - 1];

		if (copy->gone || ++living <= KEPT_AT_LEAST || copy->ordinal == needed[0] ||
		    copy->ordinal == needed[1])
			continue;
		copy->gone = true;
		say(w, copy, KEPT_GONE);
	}
}

static void on_keep(struct world *w, uint64_t a, uint64_t b, void *data)
{
	struct shelf_copy *copy = data;
	struct shelf *s = w->shelf;

	(void)a;
	(void)b;
	/* Without an agent there is no keeper; what was saved then is found by nobody here. */
	if (node_alive(w) && s->count < COPIES_MAX) {
		s->copies[s->count] = *copy;
		s->copies[s->count].ordinal = s->count + 1;
		say(w, &s->copies[s->count], 0);
		s->count++;
		prune(w);
	}
	free(data);
}

static void on_writing(struct world *w, uint64_t attempt, uint64_t step, void *data)
{
	struct record_writing *r;

	(void)data;
	if (!node_alive(w))
		return;
	r = world_record(w, RECORD_WRITING, sizeof(*r));
	r->attempt = (uint32_t)attempt;
	r->step = step;
	node_post(w, r);
}

void shelf_saved(struct world *w, const struct shelf_copy *copy)
{
	world_after(w, MS, on_writing, copy->attempt, copy->step, NULL);
	/* A file is quiet for a while before it is looked at; digests take time. */
	world_after(w, world_between(w, 20 * MS, copy->torn ? 500 * MS : 5 * S), on_keep, 0, 0,
	    world_copy(copy, sizeof(*copy)));
}

void shelf_begin(struct world *w)
{
	for (uint64_t i = 0; i < w->shelf->count; i++)
		if (!w->shelf->copies[i].gone)
			say(w, &w->shelf->copies[i], KEPT_AGAIN);
}

void shelf_rot(struct world *w)
{
	for (uint64_t i = w->shelf->count; i > 0; i--)
		if (!w->shelf->copies[i - 1].gone) {
			w->shelf->copies[i - 1].rotten = true;
			return;
		}
}

const struct shelf_copy *shelf_find(const struct world *w, uint64_t seq)
{
	const struct record_kept *kept = (const struct record_kept *)ledger_get(w->ledger, seq);

	if (kept == NULL || kept->head.kind != RECORD_KEPT || kept->ordinal == 0 ||
	    kept->ordinal > w->shelf->count)
		return NULL;
	return &w->shelf->copies[kept->ordinal - 1];
}

uint32_t shelf_verify(const struct world *w, uint64_t seq)
{
	const struct record_kept *kept = (const struct record_kept *)ledger_get(w->ledger, seq);
	const struct shelf_copy *copy = shelf_find(w, seq);
	uint8_t digest[16];

	if (copy == NULL || copy->gone)
		return VERIFY_MISSING;
	fill_digest(copy, copy->rotten, digest);
	return memcmp(digest, kept->digest, sizeof(digest)) == 0 ? VERIFY_OK : VERIFY_DIGEST;
}
