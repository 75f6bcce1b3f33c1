/*
 * The data: held-out problems never come up in training, lines are right, and a position is all there is to know.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "trainer/reference/arithmetic.h"
#include "trainer/reference/kernels.h"

#define SEED 7u
#define DRAWS 100000u
#define EXAM 500u

/* A number for a problem, for tables of what was seen. */
static size_t place(const struct problem *problem)
{
	size_t operation = problem->operation == '+' ? 0 : problem->operation == '-' ? 1 : 2;

	assert_true(problem->left < 100 && problem->right < 100);
	return (operation * 100 + problem->left) * 100 + problem->right;
}

static void test_disjoint(void **state)
{
	static bool trained[30000];
	struct problem exam[EXAM];
	size_t others = 0;

	(void)state;
	printf("seed %u\n", SEED);
	for (uint64_t seed = SEED; seed < SEED + 3; seed++)
		for (uint64_t i = 0; i < DRAWS; i++) {
			struct problem problem;

			arithmetic_problem(seed, i, &problem);
			assert_false(arithmetic_held_out(&problem));
			trained[place(&problem)] = true;
		}
	assert_int_equal(arithmetic_exam(exam, EXAM), EXAM);
	for (size_t i = 0; i < EXAM; i++) {
		assert_true(arithmetic_held_out(&exam[i]));
		assert_false(trained[place(&exam[i])]);
		for (size_t j = 0; j < i; j++)
			assert_true(place(&exam[i]) != place(&exam[j]));
	}
	/* The control: problems that are not held out were all but all drawn, so an overlap would show. */
	for (uint32_t left = 0; left < 100; left++)
		for (uint32_t right = 0; right < 100; right++) {
			struct problem problem = {'+', left, right};

			others += !arithmetic_held_out(&problem) && !trained[place(&problem)];
		}
	assert_in_range(others, 0, 20);
}

/* The text that the tokens of a row stand for; its newline ends it. */
static void row_text(const uint8_t *tokens, const uint8_t *targets, char text[32])
{
	size_t length = 0;

	for (size_t j = 0; j < ARITHMETIC_CONTEXT && tokens[j] != ARITHMETIC_PAD; j++)
		text[length++] = arithmetic_character(tokens[j]);
	/* The last token of the longest line is a target only. */
	if (text[length - 1] != '\n')
		text[length++] = arithmetic_character(targets[ARITHMETIC_CONTEXT - 1]);
	text[length] = '\0';
}

/* The batches' own text, read back: no row of either mixture holds a held-out problem. */
static void test_batches(void **state)
{
	enum { ROWS = 20000 };
	size_t size = (size_t)ROWS * ARITHMETIC_CONTEXT, problems[2] = {0, 0};
	uint8_t *tokens = malloc(size), *targets = malloc(size);

	(void)state;
	assert_non_null(tokens);
	assert_non_null(targets);
	for (int mixture = ARITHMETIC_PRETRAIN; mixture <= ARITHMETIC_TASK; mixture++) {
		struct arithmetic_range range = {SEED, 1000, ROWS, (enum arithmetic_mixture)mixture};
		uint32_t counted = arithmetic_batch(&range, tokens, targets), found = 0;

		for (size_t i = 0; i < size; i++)
			found += targets[i] != KERNELS_NO_TARGET;
		assert_int_equal(counted, found);
		for (size_t i = 0; i < ROWS; i++) {
			char text[32], line[ARITHMETIC_LINE_MAX];
			struct problem problem;

			row_text(tokens + i * ARITHMETIC_CONTEXT, targets + i * ARITHMETIC_CONTEXT,
			    text);
			if (sscanf(text, "%u%c%u=", &problem.left, &problem.operation,
				&problem.right) != 3 ||
			    strchr("+-*", problem.operation) == NULL)
				continue;
			problems[mixture]++;
			assert_false(arithmetic_held_out(&problem));
			(void)arithmetic_text(&problem, line);
			assert_string_equal(text, line);
		}
	}
	assert_int_equal(problems[ARITHMETIC_TASK], ROWS);
	assert_in_range(problems[ARITHMETIC_PRETRAIN], ROWS / 8, ROWS / 2);
	free(tokens);
	free(targets);
}

static void check_text(char operation, uint32_t left, uint32_t right, const char *line)
{
	struct problem problem = {operation, left, right};
	char text[ARITHMETIC_LINE_MAX];
	size_t before = arithmetic_text(&problem, text);

	assert_string_equal(text, line);
	assert_int_equal(text[before - 1], '=');
}

static void test_text(void **state)
{
	(void)state;
	check_text('+', 37, 85, "37+85=221\n");
	check_text('-', 12, 99, "12-99=78-\n");
	check_text('-', 50, 50, "50-50=0\n");
	check_text('*', 99, 9, "99*9=198\n");
	check_text('+', 0, 0, "0+0=0\n");
}

/* Rows are the same however the batch is cut, which is what lets ranks share it and a restart go on. */
static void test_position(void **state)
{
	enum { ROWS = 64 };
	uint8_t whole[2][ROWS * ARITHMETIC_CONTEXT], parts[2][ROWS * ARITHMETIC_CONTEXT];
	struct arithmetic_range range = {SEED, 12345, ROWS, ARITHMETIC_TASK};
	uint32_t count = arithmetic_batch(&range, whole[0], whole[1]), sum = 0;

	(void)state;
	for (uint32_t row = 0; row < ROWS;) {
		size_t at = (size_t)row * ARITHMETIC_CONTEXT;

		range.position = 12345 + row;
		range.lines = row % 3 + 1 < ROWS - row ? row % 3 + 1 : ROWS - row;
		sum += arithmetic_batch(&range, parts[0] + at, parts[1] + at);
		row += range.lines;
	}
	assert_int_equal(sum, count);
	assert_memory_equal(whole[0], parts[0], sizeof(parts[0]));
	assert_memory_equal(whole[1], parts[1], sizeof(parts[1]));
	range = (struct arithmetic_range){SEED + 1, 12345, ROWS, ARITHMETIC_TASK};
	(void)arithmetic_batch(&range, parts[0], parts[1]);
	assert_memory_not_equal(whole[0], parts[0], sizeof(parts[0]));
}

/* Only the answer is in the loss of the task: as many tokens as it has characters, its newline included. */
static void test_answer_only(void **state)
{
	uint8_t tokens[ARITHMETIC_CONTEXT], targets[ARITHMETIC_CONTEXT];

	(void)state;
	for (uint64_t position = 0; position < 1000; position++) {
		struct arithmetic_range range = {SEED, position, 1, ARITHMETIC_TASK};
		uint32_t count = arithmetic_batch(&range, tokens, targets), after = 0;
		bool answer = false;

		for (size_t j = 0; j < ARITHMETIC_CONTEXT; j++) {
			answer = answer || arithmetic_character(tokens[j]) == '=';
			if (targets[j] == KERNELS_NO_TARGET)
				continue;
			assert_true(answer);
			after++;
		}
		assert_int_equal(after, count);
		assert_in_range(count, 2, 5);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_disjoint),
	    cmocka_unit_test(test_batches),
	    cmocka_unit_test(test_text),
	    cmocka_unit_test(test_position),
	    cmocka_unit_test(test_answer_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
