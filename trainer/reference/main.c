/* holdfast-trainer: the reference training program.  Options in, one of three subcommands run. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/holdfast.h"
#include "trainer/reference/examine.h"
#include "trainer/reference/trainloop.h"
#include "trainer/reference/worker.h"

#define EXAM_PROBLEMS 500u

static const char usage[] = "usage: holdfast-trainer pretrain --output FILE [OPTIONS]\n"
			    "       holdfast-trainer post-train --base FILE [OPTIONS]\n"
			    "       holdfast-trainer evaluate FILE [--json]\n"
			    "A small transformer that learns integer arithmetic.\n"
			    "  --json                  evaluate: print one JSON object\n"
			    "  --version               print the version and end\n";

static const char evaluate_usage
    [] = "usage: holdfast-trainer evaluate FILE [--json]\n"
	 "Print the share of held-out problems that the model in FILE answers exactly.\n"
	 "  --json                  print one JSON object\n";

static int complain(const char *what, const char *subject)
{
	fprintf(stderr, "holdfast-trainer: %s: %s; see --help\n", subject, what);
	return RECIPE_EXIT_USAGE;
}

static int train(enum arithmetic_mixture mixture, int argc, char **argv)
{
	struct recipe recipe;
	struct holdfast *hf;
	int result;

	recipe_default(&recipe, mixture);
	result = recipe_parse(&recipe, argc, argv);
	if (result < 0)
		return 0;
	if (result == 0)
		result = recipe_ranks(&recipe);
	if (result != 0)
		return result;
	hf = holdfast_open();
	result = trainloop_run(&recipe, hf);
	holdfast_close(hf);
	return result;
}

static void print_result(const char *path, uint64_t step, const struct examine_result *result, bool json)
{
	double exact = result->problems > 0 ? (double)result->correct / result->problems : 0;

	if (!json) {
		printf("step %" PRIu64 " exact %.4f (%u of %u)\n", step, exact, result->correct,
		    result->problems);
		for (uint32_t i = 0; i < EXAMINE_OPERATIONS; i++)
			printf("  %c %u of %u\n", result->by_operation[i].operation,
			    result->by_operation[i].correct, result->by_operation[i].problems);
		return;
	}
	printf("{\"file\":\"");
	for (const char *c = path; *c != '\0'; c++)
		if ((unsigned char)*c < 0x20 || *c == '"' || *c == '\\')
			printf("\\u%04x", (unsigned char)*c);
		else
			putchar(*c);
	printf("\",\"step\":%" PRIu64 ",\"problems\":%u,\"correct\":%u,\"exact\":%.6f,"
	       "\"by_operation\":{",
	    step, result->problems, result->correct, exact);
	for (uint32_t i = 0; i < EXAMINE_OPERATIONS; i++)
		printf("%s\"%c\":{\"problems\":%u,\"correct\":%u}", i > 0 ? "," : "",
		    result->by_operation[i].operation, result->by_operation[i].problems,
		    result->by_operation[i].correct);
	printf("}}\n");
}

static int examine_file(const char *path, bool json)
{
	struct training training = {0};
	struct examine_result result;
	struct cause why = {0};
	struct layout shape;
	uint64_t step;
	enum status status = training_peek(path, &shape, &step, &why);

	if (status == STATUS_OK &&
	    (shape.context != ARITHMETIC_CONTEXT || shape.vocabulary != ARITHMETIC_VOCABULARY)) {
		cause_set(&why, CAUSE_DATA, shape.context, "a model for other lines", path);
		status = STATUS_BAD;
	}
	if (status == STATUS_OK)
		status = training_init(&training, &shape, "evaluate", 0);
	if (status == STATUS_OK)
		status = training_load_parameters(&training, path, &why);
	if (status == STATUS_OK && examine(&shape, training.parameters, EXAM_PROBLEMS, &result) != 0)
		status = STATUS_FULL;
	training_fini(&training);
	if (status == STATUS_OK) {
		print_result(path, step, &result, json);
		return 0;
	}
	fprintf(stderr, "holdfast-trainer: %s: %s%s%s\n", path,
	    why.step != NULL ? why.step : "no memory", why.domain == CAUSE_ERRNO ? ": " : "",
	    why.domain == CAUSE_ERRNO ? strerror((int)why.number) : "");
	return RECIPE_EXIT_DATA;
}

static int evaluate(int argc, char **argv)
{
	const char *path = NULL;
	bool json = false, only_paths = false;

	for (int i = 1; i < argc; i++) {
		if (!only_paths && strcmp(argv[i], "--") == 0)
			only_paths = true;
		else if (!only_paths && strcmp(argv[i], "--json") == 0)
			json = true;
		else if (!only_paths && strcmp(argv[i], "--help") == 0)
			return fputs(evaluate_usage, stdout) < 0;
		else if (!only_paths && argv[i][0] == '-')
			return complain("unknown option", argv[i]);
		else if (path != NULL)
			return complain("one file only", argv[i]);
		else
			path = argv[i];
	}
	if (path == NULL)
		return complain("needs a FILE", "evaluate");
	worker_single_thread();
	return examine_file(path, json);
}

int main(int argc, char **argv)
{
	/* Whole lines, so that those of several ranks mix well and none is lost with the process. */
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc < 2)
		return complain("needs a subcommand", "command");
	if (strcmp(argv[1], "--help") == 0)
		return printf("%s%s", usage, recipe_options) < 0;
	if (strcmp(argv[1], "--version") == 0)
		return printf("holdfast-trainer %s\n", HOLDFAST_VERSION) < 0;
	if (strcmp(argv[1], "pretrain") == 0)
		return train(ARITHMETIC_PRETRAIN, argc - 1, argv + 1);
	if (strcmp(argv[1], "post-train") == 0)
		return train(ARITHMETIC_TASK, argc - 1, argv + 1);
	if (strcmp(argv[1], "evaluate") == 0)
		return evaluate(argc - 1, argv + 1);
	return complain("unknown subcommand", argv[1]);
}
