/*
 * AdamW over every parameter, with the gradient clipped by its norm over all parameters.
 *
 * A norm that is not finite makes every parameter not finite: trouble shows, it is never clipped away.
 * Weight decay applies to matrices; gains of norms are only moved by their gradient.
 */
#ifndef TRAINER_REFERENCE_ADAMW_H
#define TRAINER_REFERENCE_ADAMW_H

#include "trainer/reference/layout.h"

struct adamw {
	double beta_first, beta_second, epsilon;
	double weight_decay;
	double clip; /* largest gradient norm that is used as it is */
};

/* The arrays of one update, each of layout_parameter_count() numbers; all but gradient are changed. */
struct adamw_arrays {
	const float *gradient;
	float *parameters, *first, *second;
};

/* Euclidean norm of n numbers, summed in double precision in a fixed order. */
double adamw_norm(const float *gradient, size_t n);

/*
 * One update.
 * step		counts updates, from 1: for the correction of the moments' start at zero.
 * norm		adamw_norm() of the gradient.
 */
void adamw_update(const struct adamw *adamw, const struct layout *shape,
    const struct adamw_arrays *arrays, uint64_t step, double learning_rate, double norm);

#endif
