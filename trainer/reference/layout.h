/*
 * The shape of the model and where each of its tensors lies in the flat array of parameters.
 *
 * Gradients and both AdamW moments have the same layout.  The order of the tensors is part of the
 * checkpoint's bytes: it changes only with the format.
 */
#ifndef TRAINER_REFERENCE_LAYOUT_H
#define TRAINER_REFERENCE_LAYOUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LAYOUT_NAME_MAX 40
#define LAYOUT_WIDTH_MAX 1024u
#define LAYOUT_LAYERS_MAX 64u
#define LAYOUT_CONTEXT_MAX 256u

struct layout {
	uint32_t width;      /* d: numbers that stand for one token */
	uint32_t layers;     /* n */
	uint32_t heads;      /* h, divides d */
	uint32_t context;    /* t: tokens of one line at most */
	uint32_t vocabulary; /* v */
};

/* Indices of the tensors of layer l are LAYOUT_FIRST_LAYER + l * LAYOUT_PER_LAYER + enum layout_tensor. */
enum layout_outer { LAYOUT_TOKEN = 0, LAYOUT_POSITION = 1, LAYOUT_FIRST_LAYER = 2 };
enum layout_inner {
	LAYOUT_NORM_ATTENTION = 0, /* [d] */
	LAYOUT_QKV,       /* [d, 3d]: queries, keys, values side by side, heads within each */
	LAYOUT_OUT,       /* [d, d] */
	LAYOUT_NORM_FEED, /* [d] */
	LAYOUT_UP,        /* [d, 4d] */
	LAYOUT_DOWN,      /* [4d, d] */
	LAYOUT_PER_LAYER
};

struct tensor {
	char name[LAYOUT_NAME_MAX];
	uint32_t rows; /* 0: a vector of columns numbers */
	uint32_t columns;
	size_t offset; /* of the first number in the flat array */
	size_t count;
};

/* Whether the shape is one that the model can have; bounds every size computed from it. */
bool layout_valid(const struct layout *shape);

/* How many tensors there are, and how many numbers they hold together. */
uint32_t layout_tensor_count(const struct layout *shape);
size_t layout_parameter_count(const struct layout *shape);

/* Fills *out with tensor `index`, below layout_tensor_count(). */
void layout_tensor(const struct layout *shape, uint32_t index, struct tensor *out);

/* Where a tensor of a layer begins in the flat array. */
size_t layout_inner_offset(const struct layout *shape, uint32_t layer, enum layout_inner which);

/* Where the tensors after the layers begin: the last norm's gain [d] and the head [d, v]. */
size_t layout_final_offset(const struct layout *shape);
size_t layout_head_offset(const struct layout *shape);

#endif
