/*
 * The ladder of checkpoint files: which exist, what was found out about them, how far each is trusted.
 *
 * A rung is one step's checkpoint, complete when all its shards have a digest.  Digests are asked for a few
 * at a time, so that a trainer that announces without end costs the agent a bounded number of helpers (H10).
 * A checkpoint of which a copy was kept aside comes complete and with its digest (RECORD_KEPT).
 * Nothing here says that a rung may be loaded: that takes a verification in the restart itself (H8).
 */
#ifndef POLICY_LADDER_H
#define POLICY_LADDER_H

#include "supervisor/policy/state.h"

/* RECORD_SAVED: the file of that step was written anew; what was known of it is void. */
void ladder_on_saved(struct moment *m, const struct record_saved *saved);
void ladder_on_rung(struct moment *m, const struct record_rung *answer);

/*
 * RECORD_KEPT: a rung, or the end of one.
 * Returns	whether it is another checkpoint than those known, that can be trusted so far.
 */
bool ladder_on_kept(struct moment *m, const struct record_kept *kept);

/* A checkpoint of that step was kept, where nothing reports steps: the run went on well from the ones before it. */
void ladder_on_later_kept(struct moment *m, uint64_t step);

/* See policy_protected(). */
void ladder_protected(
    const struct policy *p, uint64_t verified_step, uint64_t ordinals[POLICY_PROTECTED]);

/* Ask for digests that wait, as many as may be under way.  again: also those asked for before. */
void ladder_issue(struct moment *m, bool again);

/* A clean row: rungs below it come nearer to being good. */
void ladder_on_clean_row(struct moment *m, uint64_t step);

/* Steps from onset_step on are not to be trusted: rungs of such states are bad, the others start anew. */
void ladder_distrust(struct moment *m, uint64_t onset_step);

/* A fault soon after the current attempt loaded a rung: the rung is suspect. */
void ladder_suspect_loaded(struct moment *m);

/* Between which steps a rung is looked for. */
struct ladder_range {
	uint64_t before_step; /* only steps < this, of announced checkpoints */
	uint64_t kept_before; /* the same of kept ones */
	uint64_t above_step;  /* only steps > this; STEP_NONE: any */
};

/* The newest complete rung in the range that is not bad; NULL when there is none. */
struct rung *ladder_pick(struct policy *p, const struct ladder_range *range);

/* The rung of that step, complete or not; NULL when there is none. */
struct rung *ladder_find(struct policy *p, uint64_t step);

#endif
