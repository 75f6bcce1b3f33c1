/* See keep.h. */
#include <stdlib.h>
#include <string.h>

#include "supervisor/keep.h"

/* What may become a rung. */
static bool is_kept_copy(const struct record *r)
{
	const struct record_kept *kept = (const struct record_kept *)r;

	return r->kind == RECORD_KEPT && kept->ordinal != 0 && kept->error == 0 &&
	    (kept->flags & KEPT_GONE) == 0;
}

void keep_see(struct keep *k, const struct record *r)
{
	if (r->kind != RECORD_RUNG && r->kind != RECORD_SAVED && !is_kept_copy(r))
		return;
	struct record *copy = malloc(r->size_bytes);

	if (copy == NULL)
		return;
	memcpy(copy, r, r->size_bytes);
	if (k->count == KEEP_MAX) {
		free(k->records[k->first]);
		k->first = (k->first + 1) % KEEP_MAX;
		k->count--;
	}
	k->records[(k->first + k->count++) % KEEP_MAX] = copy;
}

void keep_fini(struct keep *k)
{
	for (size_t i = 0; i < k->count; i++)
		free(k->records[(k->first + i) % KEEP_MAX]);
	memset(k, 0, sizeof(*k));
}

static uint64_t step_of(const struct record *r)
{
	switch (r->kind) {
	case RECORD_RUNG:
		return ((const struct record_rung *)r)->step;
	case RECORD_KEPT:
		return ((const struct record_kept *)r)->step;
	default:
		return ((const struct record_saved *)r)->step;
	}
}

const struct record *keep_find(
    const struct keep *k, enum record_kind kind, uint64_t from_seq, uint64_t to_seq, uint64_t step)
{
	for (size_t i = 0; i < k->count; i++) {
		const struct record *r = k->records[(k->first + i) % KEEP_MAX];

		if (r->kind == kind && r->seq >= from_seq && r->seq <= to_seq &&
		    (step == STEP_NONE || step_of(r) == step))
			return r;
	}
	return NULL;
}
