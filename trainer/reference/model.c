#include "trainer/reference/model.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/reference/random.h"

#define START_SCALE 0.02

/* What the way back needs of one layer. */
struct layer {
	real *in;              /* [m, d] */
	real *inverse_in;      /* [m] */
	real *normed_in;       /* [m, d] */
	real *qkv;             /* [m, 3d] */
	real *weight;          /* [b, h, t, t] */
	real *attended;        /* [m, d] */
	real *between;         /* [m, d] */
	real *inverse_between; /* [m] */
	real *normed_between;  /* [m, d] */
	real *up;              /* [m, 4d] */
	real *bent;            /* [m, 4d] */
};

struct model {
	struct layout shape;
	uint32_t lines_max, lines;
	const uint8_t *tokens;
	struct layer *layers;
	real *out;          /* [m, d]: after the last layer */
	real *inverse_out;  /* [m] */
	real *normed_out;   /* [m, d] */
	real *logits;       /* [m, v] */
	real *dlogits;      /* [m, v] */
	real *dx, *dnormed; /* [m, d] */
	real *dwide;        /* [m, 4d] */
	real *scratch;      /* [t, t] */
	real *memory;       /* owns all of the above */
};

/* Hands out pieces of one allocation; first pass (memory NULL) counts. */
struct carve {
	real *memory;
	size_t used;
};

static void take(struct carve *carve, real **out, size_t count)
{
	if (carve->memory != NULL)
		*out = carve->memory + carve->used;
	carve->used += (count + 15) / 16 * 16; /* keeps every piece on a cache line of its own */
}

static void carve_all(struct model *model, struct carve *carve)
{
	const struct layout *s = &model->shape;
	size_t m = (size_t)model->lines_max * s->context, d = s->width;

	for (uint32_t l = 0; l < s->layers; l++) {
		struct layer *layer = &model->layers[l];

		take(carve, &layer->in, m * d);
		take(carve, &layer->inverse_in, m);
		take(carve, &layer->normed_in, m * d);
		take(carve, &layer->qkv, m * 3 * d);
		take(carve, &layer->weight, m * s->heads * s->context);
		take(carve, &layer->attended, m * d);
		take(carve, &layer->between, m * d);
		take(carve, &layer->inverse_between, m);
		take(carve, &layer->normed_between, m * d);
		take(carve, &layer->up, m * 4 * d);
		take(carve, &layer->bent, m * 4 * d);
	}
	take(carve, &model->out, m * d);
	take(carve, &model->inverse_out, m);
	take(carve, &model->normed_out, m * d);
	take(carve, &model->logits, m * s->vocabulary);
	take(carve, &model->dlogits, m * s->vocabulary);
	take(carve, &model->dx, m * d);
	take(carve, &model->dnormed, m * d);
	take(carve, &model->dwide, m * 4 * d);
	take(carve, &model->scratch, (size_t)s->context * s->context);
}

struct model *model_new(const struct layout *shape, uint32_t lines_max)
{
	struct model *model = calloc(1, sizeof(*model));
	struct carve carve = {0};

	assert(layout_valid(shape) && lines_max > 0);
	if (model == NULL)
		return NULL;
	model->shape = *shape;
	model->lines_max = lines_max;
	model->layers = calloc(shape->layers, sizeof(*model->layers));
	if (model->layers == NULL) {
		model_free(model);
		return NULL;
	}
	carve_all(model, &carve);
	model->memory = aligned_alloc(64, carve.used * sizeof(real));
	if (model->memory == NULL) {
		model_free(model);
		return NULL;
	}
	memset(model->memory, 0, carve.used * sizeof(real));
	carve = (struct carve){.memory = model->memory};
	carve_all(model, &carve);
	return model;
}

void model_free(struct model *model)
{
	if (model == NULL)
		return;
	free(model->memory);
	free(model->layers);
	free(model);
}

/* Gaussian from two uniform numbers. */
static double gaussian(uint64_t seed, uint64_t counter)
{
	double a = 1 - random_unit(random_at(seed, 2 * counter));
	double b = random_unit(random_at(seed, 2 * counter + 1));

	return sqrt(-2 * log(a)) * cos(6.283185307179586 * b);
}

void model_start(const struct layout *shape, uint64_t seed, real *parameters)
{
	for (uint32_t i = 0; i < layout_tensor_count(shape); i++) {
		struct tensor tensor;
		double scale = START_SCALE;
		uint32_t inner = (i - LAYOUT_FIRST_LAYER) % LAYOUT_PER_LAYER;

		layout_tensor(shape, i, &tensor);
		if (i >= LAYOUT_FIRST_LAYER && tensor.rows > 0) {
			/* Keep the size of what flows: the smaller, the more numbers are summed ... */
			scale = 0.5 / sqrt((double)tensor.rows);
			/* ... and the more layers add to the same x. */
			if (inner == LAYOUT_OUT || inner == LAYOUT_DOWN)
				scale /= sqrt(2.0 * shape->layers);
		}
		for (size_t j = 0; j < tensor.count; j++) {
			size_t at = tensor.offset + j;

			parameters[at] = tensor.rows == 0 ? 1 : (real)(scale * gaussian(seed, at));
		}
	}
}

/* y[m, n] = x[m, k] · w[k, n] + keep · y */
static void multiply(const real *x, const real *w, real *y, const uint32_t size[3], real keep)
{
	int m = (int)size[0], n = (int)size[1], k = (int)size[2];

	REAL_GEMM(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, n, k, 1, x, k, w, n, keep, y, n);
}

/* For y = x · w: dx[m, k] = dy[m, n] · w[k, n]ᵀ;  dw[k, n] += x[m, k]ᵀ · dy[m, n] */
struct product {
	const real *x, *w, *dy;
	real *dx, *dw;
};
static void multiply_back(const struct product *p, const uint32_t size[3])
{
	int m = (int)size[0], n = (int)size[1], k = (int)size[2];

	REAL_GEMM(CblasRowMajor, CblasTrans, CblasNoTrans, k, n, m, 1, p->x, k, p->dy, n, 1, p->dw, n);
	REAL_GEMM(CblasRowMajor, CblasNoTrans, CblasTrans, m, k, n, 1, p->dy, n, p->w, n, 0, p->dx, k);
}

static struct attention_shape attention_shape(const struct model *model)
{
	const struct layout *s = &model->shape;

	return (struct attention_shape){model->lines, s->context, s->width, s->heads};
}

/* From layer->in to out (the next layer's in): both [m, d]. */
static void layer_forward(struct model *model, uint32_t index, const real *p, real *out)
{
	const struct layout *s = &model->shape;
	struct layer *layer = &model->layers[index];
	struct attention_shape attention = attention_shape(model);
	uint32_t m = model->lines * s->context, d = s->width;
	size_t bytes = (size_t)m * d * sizeof(real);
	const real *at[LAYOUT_PER_LAYER];

	for (uint32_t i = 0; i < LAYOUT_PER_LAYER; i++)
		at[i] = p + layout_inner_offset(s, index, (enum layout_inner)i);
	kernels_norm(layer->in, at[LAYOUT_NORM_ATTENTION], m, d, layer->normed_in, layer->inverse_in);
	multiply(layer->normed_in, at[LAYOUT_QKV], layer->qkv, (uint32_t[]){m, 3 * d, d}, 0);
	kernels_attention(&attention, layer->qkv, layer->weight, layer->attended);
	memcpy(layer->between, layer->in, bytes);
	multiply(layer->attended, at[LAYOUT_OUT], layer->between, (uint32_t[]){m, d, d}, 1);

	kernels_norm(layer->between, at[LAYOUT_NORM_FEED], m, d, layer->normed_between,
	    layer->inverse_between);
	multiply(layer->normed_between, at[LAYOUT_UP], layer->up, (uint32_t[]){m, 4 * d, d}, 0);
	kernels_bend(layer->up, (size_t)m * 4 * d, layer->bent);
	memcpy(out, layer->between, bytes);
	multiply(layer->bent, at[LAYOUT_DOWN], out, (uint32_t[]){m, d, 4 * d}, 1);
}

double model_forward(struct model *model, const real *parameters, const uint8_t *tokens,
    const uint8_t *targets, uint32_t lines)
{
	const struct layout *s = &model->shape;
	uint32_t m = lines * s->context, d = s->width;
	const real *position = parameters + (size_t)s->vocabulary * d;

	assert(lines <= model->lines_max);
	model->lines = lines;
	model->tokens = tokens;
	for (uint32_t i = 0; i < m; i++) {
		const real *token = parameters + (size_t)tokens[i] * d;
		const real *place = position + (size_t)(i % s->context) * d;
		real *x = model->layers[0].in + (size_t)i * d;

		assert(tokens[i] < s->vocabulary);
		for (uint32_t j = 0; j < d; j++)
			x[j] = token[j] + place[j];
	}
	for (uint32_t l = 0; l < s->layers; l++)
		layer_forward(
		    model, l, parameters, l + 1 < s->layers ? model->layers[l + 1].in : model->out);
	kernels_norm(model->out, parameters + layout_final_offset(s), m, d, model->normed_out,
	    model->inverse_out);
	multiply(model->normed_out, parameters + layout_head_offset(s), model->logits,
	    (uint32_t[]){m, s->vocabulary, d}, 0);
	return targets == NULL
	    ? 0
	    : kernels_loss(model->logits, targets, m, s->vocabulary, model->dlogits);
}

/* model->dx [m, d] is the gradient by the layer's out, and becomes the one by its in. */
static void layer_backward(struct model *model, uint32_t index, const real *p, real *g)
{
	const struct layout *s = &model->shape;
	struct layer *layer = &model->layers[index];
	struct attention_shape attention = attention_shape(model);
	uint32_t m = model->lines * s->context, d = s->width;
	size_t at[LAYOUT_PER_LAYER];

	for (uint32_t i = 0; i < LAYOUT_PER_LAYER; i++)
		at[i] = layout_inner_offset(s, index, (enum layout_inner)i);
	multiply_back(&(struct product){layer->bent, p + at[LAYOUT_DOWN], model->dx, model->dwide,
			  g + at[LAYOUT_DOWN]},
	    (uint32_t[]){m, d, 4 * d});
	kernels_bend_back(layer->up, (size_t)m * 4 * d, model->dwide);
	multiply_back(&(struct product){layer->normed_between, p + at[LAYOUT_UP], model->dwide,
			  model->dnormed, g + at[LAYOUT_UP]},
	    (uint32_t[]){m, 4 * d, d});
	kernels_norm_back(
	    &(struct norm_back){layer->between, p + at[LAYOUT_NORM_FEED], layer->inverse_between,
		model->dnormed, model->dx, g + at[LAYOUT_NORM_FEED]},
	    m, d);

	multiply_back(&(struct product){layer->attended, p + at[LAYOUT_OUT], model->dx,
			  model->dnormed, g + at[LAYOUT_OUT]},
	    (uint32_t[]){m, d, d});
	kernels_attention_back(&attention,
	    &(struct attention_back){
		layer->qkv, layer->weight, model->dnormed, model->dwide, model->scratch});
	multiply_back(&(struct product){layer->normed_in, p + at[LAYOUT_QKV], model->dwide,
			  model->dnormed, g + at[LAYOUT_QKV]},
	    (uint32_t[]){m, 3 * d, d});
	kernels_norm_back(
	    &(struct norm_back){layer->in, p + at[LAYOUT_NORM_ATTENTION], layer->inverse_in,
		model->dnormed, model->dx, g + at[LAYOUT_NORM_ATTENTION]},
	    m, d);
}

void model_backward(struct model *model, const real *parameters, real *gradients)
{
	const struct layout *s = &model->shape;
	uint32_t m = model->lines * s->context, d = s->width;
	real *dposition = gradients + (size_t)s->vocabulary * d;

	multiply_back(&(struct product){model->normed_out, parameters + layout_head_offset(s),
			  model->dlogits, model->dnormed, gradients + layout_head_offset(s)},
	    (uint32_t[]){m, s->vocabulary, d});
	memset(model->dx, 0, (size_t)m * d * sizeof(real));
	kernels_norm_back(
	    &(struct norm_back){model->out, parameters + layout_final_offset(s), model->inverse_out,
		model->dnormed, model->dx, gradients + layout_final_offset(s)},
	    m, d);
	for (uint32_t l = s->layers; l-- > 0;)
		layer_backward(model, l, parameters, gradients);
	for (uint32_t i = 0; i < m; i++) {
		real *dtoken = gradients + (size_t)model->tokens[i] * d;
		real *dplace = dposition + (size_t)(i % s->context) * d;
		const real *dx = model->dx + (size_t)i * d;

		for (uint32_t j = 0; j < d; j++) {
			dtoken[j] += dx[j];
			dplace[j] += dx[j];
		}
	}
}

const real *model_logits(const struct model *model)
{
	return model->logits;
}
