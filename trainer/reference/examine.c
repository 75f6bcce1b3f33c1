#include "trainer/reference/examine.h"

#include <stdlib.h>
#include <string.h>

#include "trainer/reference/arithmetic.h"

#define LINES 128u /* decoded side by side */

/* One line that is being written. */
struct line {
	size_t written;                  /* characters so far */
	char right[ARITHMETIC_LINE_MAX]; /* what it should become */
	bool wrong;
};

static uint8_t likeliest(const float *row, uint32_t v)
{
	uint32_t best = 0;

	for (uint32_t j = 1; j < v; j++)
		if (row[j] > row[best])
			best = j;
	return (uint8_t)best;
}

/*
 * Continue every line by one character.  Returns how many are still unfinished: neither wrong nor whole.  A
 * line that went wrong is not continued, for it cannot become right.
 */
static uint32_t continue_lines(const struct layout *shape, const float *logits, struct line *lines,
    uint32_t count, uint8_t *tokens)
{
	uint32_t open = 0;

	for (uint32_t i = 0; i < count; i++) {
		struct line *line = &lines[i];
		size_t row = (size_t)i * ARITHMETIC_CONTEXT + line->written - 1;
		uint8_t token;

		if (line->wrong || line->right[line->written] == '\0')
			continue;
		token = likeliest(logits + row * shape->vocabulary, shape->vocabulary);
		if (arithmetic_character(token) != line->right[line->written]) {
			line->wrong = true;
			continue;
		}
		if (line->written < ARITHMETIC_CONTEXT)
			tokens[(size_t)i * ARITHMETIC_CONTEXT + line->written] = token;
		line->written++;
		open += line->right[line->written] != '\0';
	}
	return open;
}

/* Let the model answer up to LINES problems; wrong says which it got wrong. */
static void answer(struct model *model, const struct layout *shape, const float *parameters,
    const struct problem *problems, uint32_t count, bool *wrong)
{
	struct line lines[LINES] = {0};
	uint8_t tokens[LINES * ARITHMETIC_CONTEXT];

	memset(tokens, ARITHMETIC_PAD, sizeof(tokens));
	for (uint32_t i = 0; i < count; i++) {
		lines[i].written = arithmetic_text(&problems[i], lines[i].right);
		for (size_t j = 0; j < lines[i].written; j++)
			tokens[(size_t)i * ARITHMETIC_CONTEXT + j] = arithmetic_token(
			    lines[i].right[j]);
	}
	do
		(void)model_forward(model, parameters, tokens, NULL, count);
	while (continue_lines(shape, model_logits(model), lines, count, tokens) > 0);
	for (uint32_t i = 0; i < count; i++)
		wrong[i] = lines[i].wrong;
}

static void count_result(const struct problem *problem, bool wrong, struct examine_result *out)
{
	out->problems++;
	out->correct += !wrong;
	for (uint32_t k = 0; k < EXAMINE_OPERATIONS; k++)
		if (out->by_operation[k].operation == problem->operation) {
			out->by_operation[k].problems++;
			out->by_operation[k].correct += !wrong;
		}
}

int examine(const struct layout *shape, const float *parameters, uint32_t problems,
    struct examine_result *out)
{
	struct examine_result result = {.by_operation = {{'+', 0, 0}, {'-', 0, 0}, {'*', 0, 0}}};
	struct problem *list = calloc(problems, sizeof(*list));
	struct model *model = model_new(shape, LINES);
	size_t count = list != NULL ? arithmetic_exam(list, problems) : 0;

	if (list == NULL || model == NULL) {
		free(list);
		model_free(model);
		return -1;
	}
	for (size_t i = 0; i < count; i += LINES) {
		uint32_t some = (uint32_t)(count - i < LINES ? count - i : LINES);
		bool wrong[LINES];

		answer(model, shape, parameters, list + i, some, wrong);
		for (uint32_t j = 0; j < some; j++)
			count_result(&list[i + j], wrong[j], &result);
	}
	free(list);
	model_free(model);
	*out = result;
	return 0;
}
