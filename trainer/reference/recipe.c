#include "trainer/reference/recipe.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/reference/group.h"

#define RATE_LAST 0.05 /* of the learning rate is left at the end */
#define STEPS_MAX 1000000000ull
#define BATCH_MAX 65536u

void recipe_default(struct recipe *recipe, enum arithmetic_mixture mixture)
{
	*recipe = (struct recipe){
	    .mixture = mixture,
	    .shape = {.width = 128,
		.layers = 3,
		.heads = 4,
		.context = ARITHMETIC_CONTEXT,
		.vocabulary = ARITHMETIC_VOCABULARY},
	    .seed = 1,
	    .steps = mixture == ARITHMETIC_PRETRAIN ? 200 : 1500,
	    .batch = 128,
	    .warmup = 50,
	    .learning_rate = 1e-3,
	    .adamw = {.beta_first = 0.9,
		.beta_second = 0.99,
		.epsilon = 1e-8,
		.weight_decay = 0.01,
		.clip = 1.0},
	    .world = 1,
	    .checkpoint_every = 100,
	    .evaluate_every = mixture == ARITHMETIC_PRETRAIN ? 0 : 500,
	    .log_every = 10,
	    .peer_timeout_ms = 60000,
	};
}

static const char pretrain_usage
    [] = "usage: holdfast-trainer pretrain --output FILE [OPTIONS]\n"
	 "Make a base model: trained on lines of digits, among them little arithmetic.\n";
static const char post_train_usage[] = "usage: holdfast-trainer post-train --base FILE [OPTIONS]\n"
				       "Train a base model to answer arithmetic problems.\n";
const char recipe_options[] =
    "  --base FILE             start from the parameters in FILE (post-train)\n"
    "  --resume FILE           continue exactly from the checkpoint FILE\n"
    "  --output FILE           write the final state to FILE\n"
    "  --checkpoints DIR       write DIR/step-NNNNNN.safetensors now and then, and at the end\n"
    "  --checkpoint-every N    how often, in iterations (100; 0: only at the end)\n"
    "  --evaluate-every N      how often rank 0 measures held-out accuracy (500; pretrain 0: "
    "never)\n"
    "  --log-every N           how often to print a line (10; 0: never)\n"
    "  --steps N               iterations in all (1500; pretrain 200)\n"
    "  --batch N               lines in an iteration, of all ranks together (128)\n"
    "  --learning-rate X       highest learning rate (0.001)\n"
    "  --warmup N              iterations up to it (50)\n"
    "  --seed N                of the data and of the first parameters (1)\n"
    "  --width N               numbers that stand for a token (128)\n"
    "  --layers N              layers of the model (3)\n"
    "  --heads N               attention heads of a layer (4)\n"
    "  --group FILE            shared memory file of the ranks\n"
    "  --peer-timeout SECONDS  give up a rank that does not come (60)\n"
    "  --help                  print this and end\n";

static const char *usage_of(enum arithmetic_mixture mixture)
{
	return mixture == ARITHMETIC_PRETRAIN ? pretrain_usage : post_train_usage;
}

enum option_key {
	KEY_BASE = 256,
	KEY_RESUME,
	KEY_OUTPUT,
	KEY_CHECKPOINTS,
	KEY_CHECKPOINT_EVERY,
	KEY_EVALUATE_EVERY,
	KEY_LOG_EVERY,
	KEY_STEPS,
	KEY_BATCH,
	KEY_LEARNING_RATE,
	KEY_WARMUP,
	KEY_SEED,
	KEY_WIDTH,
	KEY_LAYERS,
	KEY_HEADS,
	KEY_GROUP,
	KEY_PEER_TIMEOUT,
	KEY_HELP
};

static const struct option long_options[] = {
    {"base", required_argument, NULL, KEY_BASE},
    {"resume", required_argument, NULL, KEY_RESUME},
    {"output", required_argument, NULL, KEY_OUTPUT},
    {"checkpoints", required_argument, NULL, KEY_CHECKPOINTS},
    {"checkpoint-every", required_argument, NULL, KEY_CHECKPOINT_EVERY},
    {"evaluate-every", required_argument, NULL, KEY_EVALUATE_EVERY},
    {"log-every", required_argument, NULL, KEY_LOG_EVERY},
    {"steps", required_argument, NULL, KEY_STEPS},
    {"batch", required_argument, NULL, KEY_BATCH},
    {"learning-rate", required_argument, NULL, KEY_LEARNING_RATE},
    {"warmup", required_argument, NULL, KEY_WARMUP},
    {"seed", required_argument, NULL, KEY_SEED},
    {"width", required_argument, NULL, KEY_WIDTH},
    {"layers", required_argument, NULL, KEY_LAYERS},
    {"heads", required_argument, NULL, KEY_HEADS},
    {"group", required_argument, NULL, KEY_GROUP},
    {"peer-timeout", required_argument, NULL, KEY_PEER_TIMEOUT},
    {"help", no_argument, NULL, KEY_HELP},
    {NULL, 0, NULL, 0},
};

/* A whole number in [low, high]; false after one line on standard error. */
static bool parse_number(const char *name, const char *text, uint64_t low, uint64_t high, uint64_t *out)
{
	char *end;
	unsigned long long number;

	errno = 0;
	number = strtoull(text, &end, 10);
	/* strtoull takes signs and blanks in front, which no number here has. */
	if (*text < '0' || *text > '9' || *end != '\0' || errno != 0 || number < low || number > high) {
		fprintf(stderr,
		    "holdfast-trainer: %s: '%s' is not a whole number from %" PRIu64 " to %" PRIu64
		    "\n",
		    name, text, low, high);
		return false;
	}
	*out = number;
	return true;
}

static bool parse_small(const char *name, uint64_t low, uint64_t high, uint32_t *out)
{
	uint64_t number;

	if (!parse_number(name, optarg, low, high, &number))
		return false;
	*out = (uint32_t)number;
	return true;
}

static bool parse_rate(double *out)
{
	char *end;
	double rate = strtod(optarg, &end);

	if (end == optarg || *end != '\0' || !(rate > 0) || !(rate <= 100)) {
		fprintf(stderr, "holdfast-trainer: --learning-rate: '%s' is not a number above 0 and at most 100\n",
		    optarg);
		return false;
	}
	*out = rate;
	return true;
}

static bool parse_timeout(uint32_t *out_ms)
{
	uint32_t seconds;

	if (!parse_small("--peer-timeout", 1, 86400, &seconds))
		return false;
	*out_ms = seconds * 1000;
	return true;
}

/* Options whose value is a number. */
static bool take_number(struct recipe *r, int key)
{
	const uint32_t any = UINT32_MAX;

	switch (key) {
	case KEY_CHECKPOINT_EVERY:
		return parse_small("--checkpoint-every", 0, any, &r->checkpoint_every);
	case KEY_EVALUATE_EVERY:
		return parse_small("--evaluate-every", 0, any, &r->evaluate_every);
	case KEY_LOG_EVERY:
		return parse_small("--log-every", 0, any, &r->log_every);
	case KEY_STEPS:
		return parse_number("--steps", optarg, 1, STEPS_MAX, &r->steps);
	case KEY_BATCH:
		return parse_small("--batch", 1, BATCH_MAX, &r->batch);
	case KEY_LEARNING_RATE:
		return parse_rate(&r->learning_rate);
	case KEY_WARMUP:
		return parse_small("--warmup", 0, any, &r->warmup);
	case KEY_SEED:
		return parse_number("--seed", optarg, 0, INT64_MAX, &r->seed);
	case KEY_WIDTH:
		return parse_small("--width", 1, LAYOUT_WIDTH_MAX, &r->shape.width);
	case KEY_LAYERS:
		return parse_small("--layers", 1, LAYOUT_LAYERS_MAX, &r->shape.layers);
	case KEY_HEADS:
		return parse_small("--heads", 1, LAYOUT_WIDTH_MAX, &r->shape.heads);
	case KEY_PEER_TIMEOUT:
		return parse_timeout(&r->peer_timeout_ms);
	default: /* getopt_long() has said what it does not know, in one line */
		return false;
	}
}

/* Options whose value is a path; false when key is none of them. */
static bool take_path(struct recipe *r, int key)
{
	const char **place = key == KEY_BASE ? &r->base
	    : key == KEY_RESUME              ? &r->resume
	    : key == KEY_OUTPUT              ? &r->output
	    : key == KEY_CHECKPOINTS         ? &r->checkpoints
	    : key == KEY_GROUP               ? &r->group
					     : NULL;

	if (place == NULL)
		return false;
	*place = optarg;
	return true;
}

static int complain(const char *what)
{
	fprintf(stderr, "holdfast-trainer: %s\n", what);
	return RECIPE_EXIT_USAGE;
}

/* What no single option can see. */
static int check(const struct recipe *r, int argc)
{
	if (optind < argc)
		return complain("an argument too many; see --help");
	if (r->shape.width % r->shape.heads != 0)
		return complain("--width must be a multiple of --heads");
	if (r->mixture == ARITHMETIC_PRETRAIN && r->base != NULL)
		return complain("pretrain starts from nothing: --base is for post-train");
	if (r->mixture == ARITHMETIC_PRETRAIN && r->output == NULL && r->checkpoints == NULL)
		return complain("pretrain needs --output FILE for what it makes");
	if (r->mixture == ARITHMETIC_TASK && r->base == NULL && r->resume == NULL)
		return complain("post-train needs --base FILE, made by pretrain");
	return 0;
}

int recipe_parse(struct recipe *recipe, int argc, char **argv)
{
	int key;
	static char name[] = "holdfast-trainer";

	argv[0] = name; /* getopt_long() begins its messages with it */
	optind = 1;
	while ((key = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		if (key == KEY_HELP) {
			printf("%s%s", usage_of(recipe->mixture), recipe_options);
			return -1;
		}
		if (!take_path(recipe, key) && !take_number(recipe, key))
			return RECIPE_EXIT_USAGE;
	}
	return check(recipe, argc);
}

int recipe_ranks(struct recipe *recipe)
{
	const char *rank = getenv("RANK"), *world = getenv("WORLD_SIZE");
	uint64_t number;

	recipe->world = 1;
	recipe->rank = 0;
	if (world != NULL) {
		if (!parse_number("WORLD_SIZE", world, 1, GROUP_RANKS_MAX, &number))
			return RECIPE_EXIT_USAGE;
		recipe->world = (uint32_t)number;
	}
	if (rank != NULL) {
		if (!parse_number("RANK", rank, 0, recipe->world - 1, &number))
			return RECIPE_EXIT_USAGE;
		recipe->rank = (uint32_t)number;
	}
	if (recipe->batch < recipe->world)
		return complain("--batch must be at least the number of ranks");
	return 0;
}

void recipe_text(const struct recipe *r, char *out, size_t size)
{
	int length = snprintf(out, size,
	    "course=%s steps=%" PRIu64 " batch=%u warmup=%u learning_rate=%.17g beta1=%.17g "
	    "beta2=%.17g epsilon=%.17g weight_decay=%.17g clip=%.17g width=%u layers=%u heads=%u "
	    "ranks=%u",
	    r->mixture == ARITHMETIC_PRETRAIN ? "pretrain" : "post-train", r->steps, r->batch,
	    r->warmup, r->learning_rate, r->adamw.beta_first, r->adamw.beta_second,
	    r->adamw.epsilon, r->adamw.weight_decay, r->adamw.clip, r->shape.width, r->shape.layers,
	    r->shape.heads, r->world);

	assert(length > 0 && (size_t)length < size);
}

double recipe_learning_rate(const struct recipe *recipe, uint64_t step)
{
	double at, span;

	if (step < recipe->warmup)
		return recipe->learning_rate * (double)step / recipe->warmup;
	span = recipe->steps > recipe->warmup ? (double)(recipe->steps - recipe->warmup) : 1;
	at = (double)(step - recipe->warmup) / span;
	if (at > 1)
		at = 1;
	return recipe->learning_rate *
	    (RATE_LAST + (1 - RATE_LAST) * 0.5 * (1 + cos(3.14159265358979323846 * at)));
}
