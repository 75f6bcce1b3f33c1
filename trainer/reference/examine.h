/*
 * Held-out exact-answer accuracy: greedy decoding, and only a whole right line counts.
 */
#ifndef TRAINER_REFERENCE_EXAMINE_H
#define TRAINER_REFERENCE_EXAMINE_H

#include "trainer/reference/model.h"

#define EXAMINE_OPERATIONS 3u

struct examine_result {
	uint32_t problems, correct;
	struct {
		char operation;
		uint32_t problems, correct;
	} by_operation[EXAMINE_OPERATIONS];
};

/*
 * Let the model answer `problems` held-out problems, the same ones always.
 * shape, parameters	borrowed; context and vocabulary are those of arithmetic.h.
 * Returns 0, or -1 when there is no memory.
 */
int examine(const struct layout *shape, const float *parameters, uint32_t problems,
    struct examine_result *out);

#endif
