/*
 * What a training is to do, as the command line and the environment say it.
 *
 * The numbers that decide its course are told apart from the rest (paths, how often to print): they make
 * the recipe's text, which is part of every saved state.
 */
#ifndef TRAINER_REFERENCE_RECIPE_H
#define TRAINER_REFERENCE_RECIPE_H

#include <stdbool.h>

#include "trainer/reference/adamw.h"
#include "trainer/reference/arithmetic.h"
#include "trainer/reference/layout.h"

#define RECIPE_EXIT_USAGE 64 /* EX_USAGE */
#define RECIPE_EXIT_DATA 65  /* EX_DATAERR */
#define RECIPE_EXIT_BUG 70   /* EX_SOFTWARE */
#define RECIPE_EXIT_OS 71    /* EX_OSERR */
#define RECIPE_EXIT_IO 74    /* EX_IOERR */
#define RECIPE_EXIT_AGAIN 75 /* EX_TEMPFAIL */

struct recipe {
	/* the course */
	enum arithmetic_mixture mixture;
	struct layout shape;
	uint64_t seed;
	uint64_t steps;
	uint32_t batch;  /* lines of one iteration, of all ranks together */
	uint32_t warmup; /* iterations until the full learning rate */
	double learning_rate;
	struct adamw adamw;
	uint32_t rank, world;
	/* the rest; paths are borrowed from argv, NULL when not given */
	const char *base, *resume, *output, *checkpoints, *group;
	uint32_t checkpoint_every, evaluate_every, log_every; /* iterations; 0: never */
	uint32_t peer_timeout_ms;
};

/* The recipe of a mixture with everything that has a default. */
void recipe_default(struct recipe *recipe, enum arithmetic_mixture mixture);

/*
 * Read the options behind a subcommand; argv[0] is the subcommand's name.
 * Returns 0, or RECIPE_EXIT_USAGE after one line on standard error, or -1 after --help was printed.
 */
int recipe_parse(struct recipe *recipe, int argc, char **argv);

/* RANK and WORLD_SIZE of the environment, 0 of 1 without.  Returns 0 or RECIPE_EXIT_USAGE, as above. */
int recipe_ranks(struct recipe *recipe);

/* One line with every number of the course; out holds size bytes. */
void recipe_text(const struct recipe *recipe, char *out, size_t size);

/* The learning rate of iteration `step`, from 1: up in a line, then down along a cosine. */
double recipe_learning_rate(const struct recipe *recipe, uint64_t step);

/* One line for each option, for --help. */
extern const char recipe_options[];

#endif
