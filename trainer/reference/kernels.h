/*
 * The parts of the model that are not matrix products over all rows: norm, attention, bend, loss.
 *
 * Each comes with its derivative.  A `_back` function is given the gradient of the loss by its output and
 * adds to, or writes, the gradient by its inputs, as said at each.  No function keeps anything between
 * calls, allocates, or depends on anything but its arguments: the same bits in give the same bits out.
 *
 * Letters in shapes: m rows (tokens of a batch), b lines of t tokens (m = b·t), d width, h heads of d/h,
 * v vocabulary.  Matrices are row-major.
 */
#ifndef TRAINER_REFERENCE_KERNELS_H
#define TRAINER_REFERENCE_KERNELS_H

#include <stdint.h>

#include "trainer/reference/real.h"

#define KERNELS_NO_TARGET 255 /* a token that is not in the loss */

struct attention_shape {
	uint32_t lines;   /* b */
	uint32_t context; /* t */
	uint32_t width;   /* d */
	uint32_t heads;   /* h */
};

/*
 * Root-mean-square norm: y = x / rms(x) · gain, row by row.
 * x [m, d], gain [d] in; y [m, d], inverse [m] (1 / rms, kept for the way back) out.
 */
void kernels_norm(const real *x, const real *gain, uint32_t m, uint32_t d, real *y, real *inverse);

/* dy [m, d] in; dx [m, d] and dgain [d] are added to. x, gain and inverse as on the way forward. */
struct norm_back {
	const real *x, *gain, *inverse, *dy;
	real *dx, *dgain;
};
void kernels_norm_back(const struct norm_back *norm, uint32_t m, uint32_t d);

/*
 * Causal attention, each line and head by itself.
 * qkv [m, 3d] in; weight [b, h, t, t] (after softmax, 0 above the diagonal) and y [m, d] out.
 */
void kernels_attention(const struct attention_shape *shape, const real *qkv, real *weight, real *y);

/* dy [m, d] in; dqkv [m, 3d] is written; scratch [t, t]. */
struct attention_back {
	const real *qkv, *weight, *dy;
	real *dqkv, *scratch;
};
void kernels_attention_back(const struct attention_shape *shape, const struct attention_back *back);

/* The bend between the two matrices of a layer's second half: y = max(x, 0)², n numbers. */
void kernels_bend(const real *x, size_t n, real *y);

/* dy in, overwritten with dx. */
void kernels_bend_back(const real *x, size_t n, real *dy);

/*
 * Cross entropy of the rows that have a target.
 * logits [m, v], targets [m] in; dlogits [m, v] (may be NULL) out: the gradient of the *sum* of losses.
 * Returns that sum.
 */
double kernels_loss(const real *logits, const uint8_t *targets, uint32_t m, uint32_t v, real *dlogits);

#endif
