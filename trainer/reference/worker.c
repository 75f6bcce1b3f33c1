#include "trainer/reference/worker.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void worker_single_thread(void)
{
	/*
	 * Right for a library with its own threads and for one on OpenMP; without threads it does nothing.
	 * More threads would split sums in ways that depend on how many there are.
	 */
	openblas_set_num_threads(1);
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

enum status worker_init(struct worker *worker, const struct recipe *recipe)
{
	char text[TRAINING_RECIPE_MAX];
	uint32_t begin = (uint32_t)((uint64_t)recipe->batch * recipe->rank / recipe->world);
	uint32_t end = (uint32_t)((uint64_t)recipe->batch * (recipe->rank + 1) / recipe->world);

	*worker = (struct worker){
	    .recipe = recipe, .first_line = begin, .lines = end - begin, .group = {.fd = -1}};
	recipe_text(recipe, text, sizeof(text));
	worker->model = model_new(&recipe->shape, worker->lines);
	worker->tokens = calloc((size_t)worker->lines * recipe->shape.context, 2);
	if (training_init(&worker->training, &recipe->shape, text, recipe->seed) != STATUS_OK ||
	    worker->model == NULL || worker->tokens == NULL)
		return STATUS_FULL;
	worker->targets = worker->tokens + (size_t)worker->lines * recipe->shape.context;
	return STATUS_OK;
}

void worker_start(struct worker *worker)
{
	model_start(&worker->recipe->shape, worker->recipe->seed, worker->training.parameters);
}

void worker_fini(struct worker *worker)
{
	training_fini(&worker->training);
	model_free(worker->model);
	free(worker->tokens);
	worker->model = NULL;
	worker->tokens = NULL;
}

/* The gradient of this rank's part, added up in its gradient area, which begins the iteration as zeros. */
static void make_gradient(struct worker *worker, struct group_member *mine)
{
	struct training *training = &worker->training;
	struct arithmetic_range range = {
	    .seed = training->seed,
	    .position = training->position + worker->first_line,
	    .lines = worker->lines,
	    .mixture = worker->recipe->mixture,
	};

	memset(worker->group.gradient, 0, training->count * sizeof(float));
	mine->step = training->step + 1;
	mine->target_count = arithmetic_batch(&range, worker->tokens, worker->targets);
	mine->loss_sum = model_forward(
	    worker->model, training->parameters, worker->tokens, worker->targets, worker->lines);
	model_backward(worker->model, training->parameters, worker->group.gradient);
}

enum status worker_step(struct worker *worker, bool stop, struct worker_report *out, struct cause *why)
{
	const struct recipe *recipe = worker->recipe;
	struct training *training = &worker->training;
	struct group_member mine = {.stop = stop};
	struct group_totals totals;
	struct worker_report report = {0};
	uint64_t begin_ns = now_ns(), averaged_ns;
	enum status status;

	make_gradient(worker, &mine);
	report.compute_ns = now_ns() - begin_ns;
	status = group_average(&worker->group, &mine, &totals, why);
	if (status != STATUS_OK)
		return status;
	averaged_ns = now_ns();
	report.step = training->step + 1;
	report.loss = totals.loss;
	report.target_count = totals.target_count;
	report.stop = totals.stop;
	report.grad_norm = adamw_norm(worker->group.average, training->count);
	report.learning_rate = recipe_learning_rate(recipe, report.step);
	report.finite = isfinite(report.loss) && isfinite(report.grad_norm);
	adamw_update(&recipe->adamw, &training->shape,
	    &(struct adamw_arrays){
		worker->group.average, training->parameters, training->first, training->second},
	    report.step, report.learning_rate, report.grad_norm);
	training->step = report.step;
	training->position += recipe->batch;
	report.compute_ns += now_ns() - averaged_ns;
	*out = report;
	return STATUS_OK;
}
