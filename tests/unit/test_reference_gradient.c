/*
 * The gradient of every tensor is the derivative of the loss.
 *
 * The model is compiled in double precision here, where central differences are good to about ten digits, and
 * the backward pass is compared with them number by number.  The float gradients, those of the trainer, are
 * then compared with the double ones.  As a control, a gradient that is wrong by a tenth of a percent in one
 * tensor must be found in every tensor.
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

#include "tests/unit/reference_float.h"
#include "trainer/reference/model.h"
#include "trainer/reference/random.h"

#define SEED 20250101u
#define LINES 3u
#define STEP 1e-5

static const struct layout shape = {
    .width = 12, .layers = 2, .heads = 3, .context = 5, .vocabulary = 7};

struct setting {
	size_t count;
	double *parameters, *gradients, *numeric, *single;
	struct model *model;
	uint8_t tokens[LINES * 5], targets[LINES * 5];
};

static double loss_of(struct setting *s)
{
	return model_forward(s->model, s->parameters, s->tokens, s->targets, LINES);
}

static int set_up(void **state)
{
	struct setting *s = calloc(1, sizeof(*s));

	assert_non_null(s);
	printf("seed %u\n", SEED);
	openblas_set_num_threads(1);
	s->count = layout_parameter_count(&shape);
	s->parameters = calloc(s->count, sizeof(double));
	s->gradients = calloc(s->count, sizeof(double));
	s->numeric = calloc(s->count, sizeof(double));
	s->single = calloc(s->count, sizeof(double));
	s->model = model_new(&shape, LINES);
	assert_non_null(s->parameters);
	assert_non_null(s->gradients);
	assert_non_null(s->numeric);
	assert_non_null(s->single);
	assert_non_null(s->model);
	model_start(&shape, SEED, s->parameters);
	/* Away from the start, where gains are all one and some gradients all but vanish. */
	for (size_t i = 0; i < s->count; i++)
		s->parameters[i] += 0.3 * (random_unit(random_at(SEED, i)) - 0.5);
	for (uint32_t i = 0; i < LINES * shape.context; i++) {
		s->tokens[i] = (uint8_t)random_below(random_at(SEED + 1, i), shape.vocabulary);
		s->targets[i] = (uint8_t)random_below(random_at(SEED + 2, i), shape.vocabulary);
	}
	s->targets[2] = KERNELS_NO_TARGET;
	s->targets[11] = KERNELS_NO_TARGET;
	(void)loss_of(s);
	model_backward(s->model, s->parameters, s->gradients);
	for (size_t i = 0; i < s->count; i++) {
		double kept = s->parameters[i], above, below;

		s->parameters[i] = kept + STEP;
		above = loss_of(s);
		s->parameters[i] = kept - STEP;
		below = loss_of(s);
		s->parameters[i] = kept;
		s->numeric[i] = (above - below) / (2 * STEP);
	}
	*state = s;
	return 0;
}

static int tear_down(void **state)
{
	struct setting *s = *state;

	model_free(s->model);
	free(s->parameters);
	free(s->gradients);
	free(s->numeric);
	free(s->single);
	free(s);
	return 0;
}

/* The largest difference within a tensor, as a share of the largest number in it. */
static double difference(const double *a, const double *b, const struct tensor *tensor)
{
	double largest = 0, wrong = 0;

	for (size_t i = tensor->offset; i < tensor->offset + tensor->count; i++) {
		largest = fmax(largest, fabs(b[i]));
		wrong = fmax(wrong, fabs(a[i] - b[i]));
		if (!isfinite(a[i]) || !isfinite(b[i]))
			return INFINITY;
	}
	/* A tensor whose gradient is zero throughout would agree with anything that is zero, too. */
	return largest > 1e-6 ? wrong / largest : INFINITY;
}

static void test_every_tensor(void **state)
{
	struct setting *s = *state;
	size_t covered = 0;

	for (uint32_t i = 0; i < layout_tensor_count(&shape); i++) {
		struct tensor tensor;
		double wrong;

		layout_tensor(&shape, i, &tensor);
		wrong = difference(s->gradients, s->numeric, &tensor);
		if (!(wrong < 1e-7))
			fail_msg("%s: the gradient differs from the differences by %g of its size",
			    tensor.name, wrong);
		covered += tensor.count;
	}
	/* No number is left out: the tensors fill the flat array. */
	assert_int_equal(covered, s->count);
}

static void test_control(void **state)
{
	struct setting *s = *state;

	for (uint32_t i = 0; i < layout_tensor_count(&shape); i++) {
		struct tensor tensor;
		double wrong;

		layout_tensor(&shape, i, &tensor);
		memcpy(s->single, s->gradients, s->count * sizeof(double));
		for (size_t j = tensor.offset; j < tensor.offset + tensor.count; j++)
			s->single[j] *= 1.001;
		wrong = difference(s->single, s->numeric, &tensor);
		if (wrong < 1e-4)
			fail_msg("%s: a wrong gradient passes: %g", tensor.name, wrong);
	}
}

static void test_float(void **state)
{
	struct setting *s = *state;
	double exact = loss_of(s);
	double loss = reference_float_gradient(
	    &shape, s->parameters, s->tokens, s->targets, LINES, s->single);

	if (!(fabs(loss - exact) < 1e-5 * fabs(exact)))
		fail_msg("loss %.9g in float, %.9g in double", loss, exact);
	for (uint32_t i = 0; i < layout_tensor_count(&shape); i++) {
		struct tensor tensor;
		double wrong;

		layout_tensor(&shape, i, &tensor);
		wrong = difference(s->single, s->gradients, &tensor);
		if (!(wrong < 1e-4))
			fail_msg("%s: float differs from double by %g", tensor.name, wrong);
	}
}

/* Tokens without a target do not count, and tokens behind one do not reach it. */
static void test_causal(void **state)
{
	struct setting *s = *state;
	double before, after;
	uint8_t targets[LINES * 5];

	memset(targets, KERNELS_NO_TARGET, sizeof(targets));
	assert_true(model_forward(s->model, s->parameters, s->tokens, targets, LINES) == 0);
	targets[1] = 3;
	before = model_forward(s->model, s->parameters, s->tokens, targets, LINES);
	s->tokens[2] = (uint8_t)((s->tokens[2] + 1) % shape.vocabulary);
	after = model_forward(s->model, s->parameters, s->tokens, targets, LINES);
	assert_true(before == after);
	s->tokens[1] = (uint8_t)((s->tokens[1] + 1) % shape.vocabulary);
	after = model_forward(s->model, s->parameters, s->tokens, targets, LINES);
	assert_true(before != after);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_every_tensor),
	    cmocka_unit_test(test_control),
	    cmocka_unit_test(test_float),
	    cmocka_unit_test(test_causal),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
