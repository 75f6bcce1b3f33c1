/*
 * The data: integer arithmetic written as text, and simpler lines of digits beside it.
 *
 *	37+85=221\n	sums and differences of numbers below 100, products with one digit;
 *	12-99=78-\n	the answer's digits stand in reverse, its sign last: the digit that is known first is
 *			written first.
 *
 * Every line is a function of (seed, position): the position is the whole state of the data.  Problems are
 * split by a hash of the problem itself, not by position: one in ARITHMETIC_HELD_OUT is held out and never
 * comes up in a batch, whatever the seed.
 *
 * A batch is a matrix of token numbers below ARITHMETIC_VOCABULARY, one line a row, padded with
 * ARITHMETIC_PAD.  targets hold for each token the one that follows, or KERNELS_NO_TARGET.
 */
#ifndef TRAINER_REFERENCE_ARITHMETIC_H
#define TRAINER_REFERENCE_ARITHMETIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARITHMETIC_VOCABULARY 20u
#define ARITHMETIC_PAD 0
#define ARITHMETIC_LINE_MAX 16u /* characters of a line, its newline and a NUL included */
#define ARITHMETIC_CONTEXT 9u   /* tokens that are looked at: the longest line less its newline */
#define ARITHMETIC_HELD_OUT 10u

struct problem {
	char operation; /* '+', '-' or '*' */
	uint32_t left, right;
};

enum arithmetic_mixture {
	ARITHMETIC_PRETRAIN, /* mostly other lines, every token in the loss */
	ARITHMETIC_TASK      /* problems only, only the answer in the loss */
};

/* Whether the problem is kept out of all training data. */
bool arithmetic_held_out(const struct problem *problem);

/* The problem at a position of the training data, never one that is held out. */
void arithmetic_problem(uint64_t seed, uint64_t position, struct problem *out);

/*
 * Fill list with `count` different held-out problems, the same ones always.
 * Returns how many there are, less than count only when no more exist.
 */
size_t arithmetic_exam(struct problem *list, size_t count);

/* Write the problem's line; returns how many characters of it come before the answer ("37+85="). */
size_t arithmetic_text(const struct problem *problem, char text[ARITHMETIC_LINE_MAX]);

/* The token of a character, and back ('?' for none). */
uint8_t arithmetic_token(char character);
char arithmetic_character(uint8_t token);

/* Rows [position, position + lines) of the training data. */
struct arithmetic_range {
	uint64_t seed;
	uint64_t position;
	uint32_t lines;
	enum arithmetic_mixture mixture;
};

/* tokens, targets [lines, ARITHMETIC_CONTEXT] out; returns how many tokens have a target. */
uint32_t arithmetic_batch(const struct arithmetic_range *range, uint8_t *tokens, uint8_t *targets);

#endif
