/*
 * The model in float, for a test that is compiled with the model in double.
 *
 * The two cannot include the same headers; these few plain functions are what the test needs of the other.
 */
#ifndef TESTS_UNIT_REFERENCE_FLOAT_H
#define TESTS_UNIT_REFERENCE_FLOAT_H

#include <stdint.h>

#include "trainer/reference/layout.h"

/*
 * Gradients of the sum of losses in float, from and to double.
 * parameters, gradients	layout_parameter_count() numbers.
 * Returns that sum, or a NaN when there is no memory.
 */
double reference_float_gradient(const struct layout *shape, const double *parameters,
    const uint8_t *tokens, const uint8_t *targets, uint32_t lines, double *gradients);

#endif
