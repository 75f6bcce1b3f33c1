#include "tests/unit/reference_float.h"

#include <math.h>
#include <stdlib.h>

#include "trainer/reference/model.h"

double reference_float_gradient(const struct layout *shape, const double *parameters,
    const uint8_t *tokens, const uint8_t *targets, uint32_t lines, double *gradients)
{
	size_t count = layout_parameter_count(shape);
	struct model *model = model_new(shape, lines);
	float *memory = calloc(2 * count, sizeof(*memory));
	double loss = NAN;

	if (model != NULL && memory != NULL) {
		for (size_t i = 0; i < count; i++)
			memory[i] = (float)parameters[i];
		loss = model_forward(model, memory, tokens, targets, lines);
		model_backward(model, memory, memory + count);
		for (size_t i = 0; i < count; i++)
			gradients[i] = memory[count + i];
	}
	free(memory);
	model_free(model);
	return loss;
}
