#include "trainer/reference/adamw.h"

#include <math.h>

#define LANES 8

double adamw_norm(const float *gradient, size_t n)
{
	double lane[LANES] = {0}, sum = 0;
	size_t i = 0;

	for (; i + LANES <= n; i += LANES)
		for (size_t k = 0; k < LANES; k++)
			lane[k] += (double)gradient[i + k] * gradient[i + k];
	for (size_t k = 0; i < n; i++, k++)
		lane[k] += (double)gradient[i] * gradient[i];
	for (size_t k = 0; k < LANES; k++)
		sum += lane[k];
	return sqrt(sum);
}

/* The numbers of one update that are the same for a whole tensor. */
struct factors {
	float clip, beta_first, beta_second, rate, root, epsilon, keep;
};

static void update_range(const struct factors *f, const struct adamw_arrays *a, size_t begin, size_t end)
{
	const float *restrict gradient = a->gradient;
	float *restrict parameters = a->parameters;
	float *restrict first = a->first;
	float *restrict second = a->second;
	const struct factors c = *f;

	for (size_t i = begin; i < end; i++) {
		float g = gradient[i] * c.clip;
		float m = c.beta_first * first[i] + (1 - c.beta_first) * g;
		float v = c.beta_second * second[i] + (1 - c.beta_second) * g * g;

		first[i] = m;
		second[i] = v;
		parameters[i] = parameters[i] * c.keep - c.rate * m / (sqrtf(v) * c.root + c.epsilon);
	}
}

void adamw_update(const struct adamw *adamw, const struct layout *shape,
    const struct adamw_arrays *arrays, uint64_t step, double learning_rate, double norm)
{
	struct factors f = {
	    /* Written so that a norm that is not a number is not taken for a small one. */
	    .clip = (float)(norm <= adamw->clip ? 1 : adamw->clip / norm),
	    .beta_first = (float)adamw->beta_first,
	    .beta_second = (float)adamw->beta_second,
	    .rate = (float)(learning_rate / (1 - pow(adamw->beta_first, (double)step))),
	    .root = (float)(1 / sqrt(1 - pow(adamw->beta_second, (double)step))),
	    .epsilon = (float)adamw->epsilon,
	};

	for (uint32_t i = 0; i < layout_tensor_count(shape); i++) {
		struct tensor tensor;

		layout_tensor(shape, i, &tensor);
		f.keep = (float)(tensor.rows > 0 ? 1 - learning_rate * adamw->weight_decay : 1);
		update_range(&f, arrays, tensor.offset, tensor.offset + tensor.count);
	}
}
