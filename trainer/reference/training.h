/*
 * Everything that is needed to continue a training exactly: parameters, both moments, step, data position.
 *
 * The data's random numbers are a function of the seed and the position, so these two are the generator's
 * whole state; the schedule is a function of the step and of the recipe.  The recipe is kept as one line of
 * text, and a state made by another recipe, seed or world size is refused: it would not continue *exactly*.
 *
 * Two representations, both checked before they are believed:
 *	bytes	for snapshots in memory: struct training_head, then the three arrays
 *	file	safetensors: "model.NAME", "exp_avg.NAME", "exp_avg_sq.NAME", and the rest in its metadata
 * The same state gives the same bytes in both, always: no time, no path, no padding that was not set.
 */
#ifndef TRAINER_REFERENCE_TRAINING_H
#define TRAINER_REFERENCE_TRAINING_H

#include "journal/status.h"
#include "trainer/reference/layout.h"

#define TRAINING_MAGIC 0x31304e5254524648ull /* "HFRTRN01" */
#define TRAINING_RECIPE_MAX 400u

struct training {
	struct layout shape;
	char recipe[TRAINING_RECIPE_MAX]; /* every number that the course of training depends on */
	uint64_t seed;
	uint64_t step;                      /* iterations done */
	uint64_t position;                  /* lines of data used */
	size_t count;                       /* numbers in each array */
	float *parameters, *first, *second; /* one allocation, owned */
};

/* In front of the arrays of a snapshot. */
struct training_head {
	uint64_t magic;
	uint64_t step, position, seed, count;
	uint64_t recipe_digest; /* XXH3-64 of the recipe's text */
};

/*
 * Allocate the arrays, all zero.  recipe is copied.
 * Returns STATUS_FULL when there is no memory; training_fini() is allowed then too.
 */
MUST_CHECK enum status training_init(
    struct training *training, const struct layout *shape, const char *recipe, uint64_t seed);
void training_fini(struct training *training);

/* XXH3-64 of the parameters' bytes: equal on all ranks, and in every run that took the same course. */
uint64_t training_digest(const struct training *training);

/* Size of the state as bytes; and these bytes handed out or taken in, in order, by pieces. */
uint64_t training_size_bytes(const struct training *training);
typedef int training_put(void *context, const void *data, size_t size_bytes); /* 0, or negative: stop */
typedef int training_get(void *context, void *data, size_t size_bytes);

/* Returns 0 or what put returned. */
int training_store(const struct training *training, training_put *put, void *context);

/*
 * Take the state in.  On failure the training must not be continued (its arrays may be half filled).
 * Returns	STATUS_BAD (not this training's state), STATUS_SYS (get failed: cause.number).
 */
MUST_CHECK enum status training_load(struct training *training, training_get *get, void *context,
    uint64_t size_bytes, struct cause *why);

/* Write the file: to a temporary name beside it, synced, renamed, its directory synced. */
MUST_CHECK enum status training_save_file(
    const struct training *training, const char *path, struct cause *why);

/*
 * Read a file.
 * training_load_file		the whole state; the recipe and the seed must be this training's
 * training_load_parameters	only the parameters, for a training that starts from them: step 0, moments 0
 * Returns	STATUS_BAD (not such a file, damaged, another shape), STATUS_REFUSED (another recipe),
 *		STATUS_SYS, STATUS_FULL.
 */
MUST_CHECK enum status training_load_file(
    struct training *training, const char *path, struct cause *why);
MUST_CHECK enum status training_load_parameters(
    struct training *training, const char *path, struct cause *why);

/* Shape and step of the model in a file, for a program that does not know them.  As above. */
MUST_CHECK enum status training_peek(
    const char *path, struct layout *shape_out, uint64_t *step_out, struct cause *why);

#endif
