#include "trainer/reference/arithmetic.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/reference/kernels.h"
#include "trainer/reference/random.h"

/* Token i stands for character i; 0 is the padding. */
static const char alphabet[ARITHMETIC_VOCABULARY + 1] = "_\n0123456789+-*=,<>?";

#define NUMBER_LIMIT 100u
#define SPLIT_KEY 0x686f6c646f7574ull
#define EXAM_KEY 0x6578616d696e65ull
#define TRIES_MAX 256         /* for one problem; the chance to need them all is 10^-256 */
#define PRETRAIN_TASK_SHARE 4 /* one line in so many is a problem */

uint8_t arithmetic_token(char character)
{
	const char *at = character != '\0' ? strchr(alphabet, character) : NULL;

	assert(at != NULL);
	return (uint8_t)(at - alphabet);
}

char arithmetic_character(uint8_t token)
{
	return token < ARITHMETIC_VOCABULARY ? alphabet[token] : '?';
}

bool arithmetic_held_out(const struct problem *problem)
{
	uint64_t packed = (uint64_t)(unsigned char)problem->operation << 48 |
	    (uint64_t)problem->left << 24 | problem->right;

	return random_at(SPLIT_KEY, packed) % ARITHMETIC_HELD_OUT == 0;
}

static uint32_t draw_number(uint64_t random)
{
	return random_below(random, NUMBER_LIMIT);
}

static void draw_problem(uint64_t key, uint64_t counter, struct problem *out)
{
	static const char operations[8] = {'+', '+', '+', '-', '-', '-', '*', '*'};
	uint64_t random = random_at(key, 3 * counter);

	out->operation = operations[random & 7];
	out->left = draw_number(random_at(key, 3 * counter + 1));
	out->right = draw_number(random_at(key, 3 * counter + 2));
	if (out->operation == '*')
		out->right %= 10;
}

void arithmetic_problem(uint64_t seed, uint64_t position, struct problem *out)
{
	for (uint64_t try = 0; try < TRIES_MAX; try++) {
		draw_problem(seed, position * TRIES_MAX + try, out);
		if (!arithmetic_held_out(out))
			return;
	}
	abort(); /* unreachable: see TRIES_MAX */
}

static bool problem_same(const struct problem *a, const struct problem *b)
{
	return a->operation == b->operation && a->left == b->left && a->right == b->right;
}

size_t arithmetic_exam(struct problem *list, size_t count)
{
	size_t found = 0;

	for (uint64_t counter = 0; found < count && counter < 100 * (uint64_t)count; counter++) {
		struct problem problem;
		bool fresh = true;

		draw_problem(EXAM_KEY, counter, &problem);
		if (!arithmetic_held_out(&problem))
			continue;
		for (size_t i = 0; i < found && fresh; i++)
			fresh = !problem_same(&list[i], &problem);
		if (fresh)
			list[found++] = problem;
	}
	return found;
}

size_t arithmetic_text(const struct problem *problem, char text[ARITHMETIC_LINE_MAX])
{
	int32_t left = (int32_t)problem->left, right = (int32_t)problem->right;
	int32_t answer = problem->operation == '+' ? left + right
	    : problem->operation == '-'            ? left - right
						   : left * right;
	uint32_t digits = (uint32_t)abs(answer);
	int before = snprintf(text, ARITHMETIC_LINE_MAX, "%u%c%u=", problem->left,
	    problem->operation, problem->right);
	size_t length = (size_t)before;

	assert(before > 0 && length + 6 < ARITHMETIC_LINE_MAX);
	do {
		text[length++] = (char)('0' + digits % 10);
		digits /= 10;
	} while (digits > 0);
	if (answer < 0)
		text[length++] = '-';
	text[length++] = '\n';
	text[length] = '\0';
	return (size_t)before;
}

/* A line that is no problem: counting on, comparing, saying again.  None of them tells how to add. */
static void other_text(uint64_t seed, uint64_t position, char text[ARITHMETIC_LINE_MAX])
{
	uint64_t random = random_at(~seed, position);
	/* The remainder says to the compiler what draw_number() promises: two digits. */
	uint32_t a = draw_number(random_at(~seed ^ 1, position)) % NUMBER_LIMIT;
	uint32_t b = draw_number(random_at(~seed ^ 2, position)) % NUMBER_LIMIT;

	switch (random % 3) {
	case 0:
		a = a > NUMBER_LIMIT - 3 ? NUMBER_LIMIT - 3 : a;
		snprintf(text, ARITHMETIC_LINE_MAX, "%u,%u,%u\n", a, a + 1, a + 2);
		break;
	case 1:
		snprintf(text, ARITHMETIC_LINE_MAX, "%u%c%u\n", a, a < b ? '<' : '>', b);
		break;
	default:
		snprintf(text, ARITHMETIC_LINE_MAX, "%u,%u,%u\n", a, b, a);
		break;
	}
}

uint32_t arithmetic_batch(const struct arithmetic_range *range, uint8_t *tokens, uint8_t *targets)
{
	/* Each mixture has lines of its own: what pretraining saw does not come again in the same order. */
	uint64_t seed = random_at(range->seed, range->mixture);
	uint32_t target_count = 0;

	for (uint32_t i = 0; i < range->lines; i++) {
		uint64_t position = range->position + i;
		char text[ARITHMETIC_LINE_MAX];
		uint8_t *row = tokens + (size_t)i * ARITHMETIC_CONTEXT;
		uint8_t *next = targets + (size_t)i * ARITHMETIC_CONTEXT;
		size_t first = 1, length; /* characters from first on are in the loss */

		if (range->mixture == ARITHMETIC_PRETRAIN &&
		    random_at(seed ^ SPLIT_KEY, position) % PRETRAIN_TASK_SHARE != 0) {
			other_text(seed, position, text);
		} else {
			struct problem problem;
			size_t before;

			arithmetic_problem(seed, position, &problem);
			before = arithmetic_text(&problem, text);
			if (range->mixture == ARITHMETIC_TASK)
				first = before;
		}
		length = strlen(text);
		assert(length <= ARITHMETIC_CONTEXT + 1);
		for (size_t j = 0; j < ARITHMETIC_CONTEXT; j++) {
			bool counted = j + 1 >= first && j + 1 < length;

			row[j] = j < length ? arithmetic_token(text[j]) : ARITHMETIC_PAD;
			next[j] = counted ? arithmetic_token(text[j + 1]) : KERNELS_NO_TARGET;
			target_count += counted;
		}
	}
	return target_count;
}
