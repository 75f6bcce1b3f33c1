/*
 * A decoder-only transformer: forward and backward over a batch of short lines.
 *
 *	x = token[tokens] + position
 *	each layer:	x += attention(norm(x) · qkv) · out
 *			x += bend(norm(x) · up) · down
 *	logits = norm(x) · head
 *
 * struct model owns the activations of one batch and nothing else: parameters and gradients are the caller's
 * (flat arrays as layout.h says), so that gradients can lie in memory shared with other ranks.  It does no
 * I/O and knows nothing of training.  One thread; the same inputs give the same bits.
 */
#ifndef TRAINER_REFERENCE_MODEL_H
#define TRAINER_REFERENCE_MODEL_H

#include "trainer/reference/kernels.h"
#include "trainer/reference/layout.h"

struct model;

/* For batches of at most lines_max lines.  NULL when there is no memory; shape must be valid. */
struct model *model_new(const struct layout *shape, uint32_t lines_max);
void model_free(struct model *model); /* NULL is allowed */

/* Fill parameters with their start: a function of seed alone. */
void model_start(const struct layout *shape, uint64_t seed, real *parameters);

/*
 * Logits of `lines` lines of shape->context tokens each; kept for model_backward() and model_logits().
 *
 * tokens	[lines, t], each below the vocabulary; kept by reference until model_backward().
 * targets	[lines, t], KERNELS_NO_TARGET where a token is not in the loss; NULL for logits only.
 * Returns	the sum of the losses (not their mean).
 */
double model_forward(struct model *model, const real *parameters, const uint8_t *tokens,
    const uint8_t *targets, uint32_t lines);

/* Add the gradient of the sum of losses of the last model_forward() to gradients. */
void model_backward(struct model *model, const real *parameters, real *gradients);

/* Logits [lines · t, v] of the last model_forward(). */
const real *model_logits(const struct model *model);

#endif
