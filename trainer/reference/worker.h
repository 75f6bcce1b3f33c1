/*
 * One rank at work: its part of the batch forward and backward, the average with its peers, the update.
 *
 * A worker makes iterations and nothing else: it prints nothing, saves nothing and knows no supervisor.  The
 * state after an iteration is a function of the state before it, the recipe and the world size, bit for bit.
 */
#ifndef TRAINER_REFERENCE_WORKER_H
#define TRAINER_REFERENCE_WORKER_H

#include "trainer/reference/group.h"
#include "trainer/reference/model.h"
#include "trainer/reference/recipe.h"
#include "trainer/reference/training.h"

struct worker {
	const struct recipe *recipe; /* borrowed */
	struct training training;
	struct group group; /* joined by the owner before the first step */
	struct model *model;
	uint8_t *tokens, *targets;  /* [lines, context], one allocation */
	uint32_t first_line, lines; /* of the batch: this rank's part */
};

/* What an iteration did. */
struct worker_report {
	uint64_t step;
	double loss, grad_norm, learning_rate;
	uint64_t target_count;
	uint64_t compute_ns; /* without waiting for other ranks */
	bool stop;           /* some rank was asked to stop */
	bool finite;         /* loss and gradient norm are */
};

/* Make one BLAS thread do the work of a process, however the library was built. */
void worker_single_thread(void);

/*
 * Prepare to work on a recipe: allocates all, joins nothing; the state is all zeros, to be started or loaded.
 * Returns STATUS_FULL when there is no memory; worker_fini() is right then too.
 */
MUST_CHECK enum status worker_init(struct worker *worker, const struct recipe *recipe);
/* Give the parameters their start.  Not a part of worker_init(), for it takes longer than loading a state. */
void worker_start(struct worker *worker);

void worker_fini(struct worker *worker); /* leaves worker->group alone */

/*
 * One iteration.
 * stop		whether this rank was asked to stop: tells the others, changes nothing here.
 * Returns	as group_average(); the state is then that of before, and out is not filled.
 */
MUST_CHECK enum status worker_step(
    struct worker *worker, bool stop, struct worker_report *out, struct cause *why);

#endif
