#include "trainer/reference/layout.h"

#include <assert.h>
#include <stdio.h>

bool layout_valid(const struct layout *shape)
{
	return shape->width >= 1 && shape->width <= LAYOUT_WIDTH_MAX && shape->layers >= 1 &&
	    shape->layers <= LAYOUT_LAYERS_MAX && shape->heads >= 1 &&
	    shape->width % shape->heads == 0 && shape->context >= 1 &&
	    shape->context <= LAYOUT_CONTEXT_MAX && shape->vocabulary >= 1 &&
	    shape->vocabulary <= 256;
}

uint32_t layout_tensor_count(const struct layout *shape)
{
	return LAYOUT_FIRST_LAYER + shape->layers * LAYOUT_PER_LAYER + 2;
}

static size_t embedding_count(const struct layout *shape)
{
	return (size_t)shape->width * (shape->vocabulary + shape->context);
}

static size_t layer_count(const struct layout *shape)
{
	return 12 * (size_t)shape->width * shape->width + 2 * (size_t)shape->width;
}

size_t layout_inner_offset(const struct layout *shape, uint32_t layer, enum layout_inner which)
{
	size_t d = shape->width;
	const size_t before[LAYOUT_PER_LAYER] = {
	    [LAYOUT_NORM_ATTENTION] = 0,
	    [LAYOUT_QKV] = d,
	    [LAYOUT_OUT] = d + 3 * d * d,
	    [LAYOUT_NORM_FEED] = d + 4 * d * d,
	    [LAYOUT_UP] = 2 * d + 4 * d * d,
	    [LAYOUT_DOWN] = 2 * d + 8 * d * d,
	};

	return embedding_count(shape) + layer * layer_count(shape) + before[which];
}

size_t layout_final_offset(const struct layout *shape)
{
	return embedding_count(shape) + shape->layers * layer_count(shape);
}

size_t layout_head_offset(const struct layout *shape)
{
	return layout_final_offset(shape) + shape->width;
}

size_t layout_parameter_count(const struct layout *shape)
{
	return layout_head_offset(shape) + (size_t)shape->width * shape->vocabulary;
}

static void tensor_fill(struct tensor *out, uint32_t rows, uint32_t columns, size_t offset)
{
	out->rows = rows;
	out->columns = columns;
	out->offset = offset;
	out->count = (size_t)(rows > 0 ? rows : 1) * columns;
}

void layout_tensor(const struct layout *shape, uint32_t index, struct tensor *out)
{
	uint32_t d = shape->width;
	uint32_t inner = (index - LAYOUT_FIRST_LAYER) % LAYOUT_PER_LAYER;
	uint32_t layer = (index - LAYOUT_FIRST_LAYER) / LAYOUT_PER_LAYER;
	static const struct {
		const char *name;
		uint32_t rows, columns; /* in units of d */
	} inners[LAYOUT_PER_LAYER] = {
	    [LAYOUT_NORM_ATTENTION] = {"norm_attention", 0, 1},
	    [LAYOUT_QKV] = {"qkv", 1, 3},
	    [LAYOUT_OUT] = {"out", 1, 1},
	    [LAYOUT_NORM_FEED] = {"norm_feed", 0, 1},
	    [LAYOUT_UP] = {"up", 1, 4},
	    [LAYOUT_DOWN] = {"down", 4, 1},
	};

	assert(index < layout_tensor_count(shape));
	if (index == LAYOUT_TOKEN) {
		snprintf(out->name, sizeof(out->name), "token");
		tensor_fill(out, shape->vocabulary, d, 0);
	} else if (index == LAYOUT_POSITION) {
		snprintf(out->name, sizeof(out->name), "position");
		tensor_fill(out, shape->context, d, (size_t)shape->vocabulary * d);
	} else if (layer < shape->layers) {
		snprintf(out->name, sizeof(out->name), "layer.%u.%s", layer, inners[inner].name);
		tensor_fill(out, inners[inner].rows * d, inners[inner].columns * d,
		    layout_inner_offset(shape, layer, (enum layout_inner)inner));
	} else if (index == layout_tensor_count(shape) - 2) {
		snprintf(out->name, sizeof(out->name), "norm_final");
		tensor_fill(out, 0, d, layout_final_offset(shape));
	} else {
		snprintf(out->name, sizeof(out->name), "head");
		tensor_fill(out, d, shape->vocabulary, layout_head_offset(shape));
	}
}
