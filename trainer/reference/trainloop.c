#include "trainer/reference/trainloop.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "trainer/channel.h"
#include "trainer/reference/examine.h"
#include "trainer/reference/worker.h"

#define EXAM_PROBLEMS 200u /* on the way; `evaluate` takes more */

struct trainloop {
	const struct recipe *recipe;
	struct holdfast *hf;
	struct worker worker;
	char *directory;     /* of checkpoints, absolute; NULL when there are none */
	uint64_t saved_step; /* of the newest checkpoint file, HOLDFAST_STEP_NONE before */
	uint64_t printed_ns; /* when the last line was printed */
	uint64_t printed_step;
	double loss;         /* of the last iteration */
	uint32_t not_finite; /* iterations in a row */
	bool no_snapshots;   /* there is no memory for them */
};

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int exit_status(enum status status)
{
	switch (status) {
	case STATUS_OK:
		return 0;
	case STATUS_BAD:
	case STATUS_REFUSED:
	case STATUS_NONE:
		return RECIPE_EXIT_DATA;
	case STATUS_AGAIN:
		return RECIPE_EXIT_AGAIN;
	case STATUS_BUG:
		return RECIPE_EXIT_BUG;
	default:
		return RECIPE_EXIT_OS;
	}
}

/* One line about a failure: what failed, on what, and the number behind it. */
static void say(const struct trainloop *loop, const char *what, const struct cause *why)
{
	char detail[64] = "";

	if (why->domain == CAUSE_ERRNO)
		snprintf(detail, sizeof(detail), ": %s", strerror((int)why->number));
	else if (why->domain == CAUSE_DATA)
		snprintf(detail, sizeof(detail), " (%" PRId64 ")", why->number);
	fprintf(stderr, "holdfast-trainer: rank %u: %s: %s: %s%s\n", loop->recipe->rank, what,
	    why->subject, why->step != NULL ? why->step : "failed", detail);
}

static int put_snapshot(void *context, const void *data, size_t size_bytes)
{
	return holdfast_snapshot_write(context, data, size_bytes);
}

static int get_snapshot(void *context, void *data, size_t size_bytes)
{
	return holdfast_restore_read(context, data, size_bytes);
}

/* Save the state into memory that outlives the process. */
static void snapshot(struct trainloop *loop)
{
	const struct training *training = &loop->worker.training;
	int error;

	if (loop->hf == NULL || loop->no_snapshots)
		return;
	error = holdfast_snapshot_begin(loop->hf, training->step, training_size_bytes(training));
	if (error == 0)
		error = training_store(training, put_snapshot, loop->hf);
	if (error == 0)
		error = holdfast_snapshot_commit(loop->hf);
	if (error == 0)
		return;
	loop->no_snapshots = true;
	fprintf(stderr,
	    "holdfast-trainer: rank %u: no snapshots in memory (3 of %" PRIu64
	    " bytes each): %s; going on with checkpoint files\n",
	    loop->recipe->rank, training_size_bytes(training), strerror(-error));
}

static enum status restore_memory(struct trainloop *loop, uint64_t step, struct cause *why)
{
	struct training *training = &loop->worker.training;
	uint64_t size_bytes = 0;
	enum status status;
	int error = holdfast_restore_begin(loop->hf, step, &size_bytes);

	if (error != 0) {
		cause_set(why, CAUSE_ERRNO, -error, "restore", "snapshot");
		return STATUS_BAD;
	}
	status = training_load(training, get_snapshot, loop->hf, size_bytes, why);
	(void)holdfast_restore_end(loop->hf);
	if (status == STATUS_OK && training->step != step) {
		cause_set(why, CAUSE_DATA, (int64_t)training->step, "another step", "snapshot");
		return STATUS_BAD;
	}
	return status;
}

/* Bring the state to where the training is to go on. */
static enum status restore(struct trainloop *loop, struct cause *why)
{
	const struct recipe *recipe = loop->recipe;
	struct training *training = &loop->worker.training;
	struct holdfast_resume resume;
	enum status status = STATUS_OK;

	holdfast_resume_from(loop->hf, &resume);
	if (resume.source == HOLDFAST_FROM_MEMORY)
		return restore_memory(loop, resume.step, why);
	if (resume.source == HOLDFAST_FROM_FILE) {
		status = training_load_file(training, resume.path, why);
		if (status == STATUS_OK && training->step != resume.step) {
			cause_set(
			    why, CAUSE_DATA, (int64_t)training->step, "another step", resume.path);
			return STATUS_BAD;
		}
	} else if (recipe->resume != NULL) {
		status = training_load_file(training, recipe->resume, why);
	} else if (recipe->base != NULL) {
		return training_load_parameters(training, recipe->base, why);
	} else {
		worker_start(&loop->worker);
	}
	if (status == STATUS_OK && training->step > 0)
		loop->saved_step = training->step;
	return status;
}

/* Save a checkpoint file and announce it; only rank 0 does.  A failure is said and the older ones stand. */
static enum status save_checkpoint(struct trainloop *loop)
{
	const struct training *training = &loop->worker.training;
	struct cause why = {0};
	enum status status;
	char *path = NULL;
	int error;

	if (loop->recipe->rank != 0 || loop->directory == NULL || loop->saved_step == training->step)
		return STATUS_OK;
	holdfast_phase(loop->hf, HOLDFAST_PHASE_CHECKPOINT);
	if (asprintf(&path, "%s/step-%06" PRIu64 ".safetensors", loop->directory, training->step) < 0)
		return STATUS_FULL;
	status = training_save_file(training, path, &why);
	if (status == STATUS_OK) {
		loop->saved_step = training->step;
		error = holdfast_checkpoint_saved(loop->hf, training->step, path, 1);
		if (error != 0 && loop->hf != NULL)
			fprintf(stderr, "holdfast-trainer: %s: not announced: %s\n", path,
			    strerror(-error));
	} else {
		say(loop, "checkpoint", &why);
	}
	free(path);
	holdfast_phase(loop->hf, HOLDFAST_PHASE_STEP);
	return status;
}

/* Rank 0 measures how many held-out problems the model answers; the state is not touched. */
static void evaluate(struct trainloop *loop)
{
	const struct training *training = &loop->worker.training;
	struct examine_result result;

	if (loop->recipe->rank != 0)
		return;
	holdfast_phase(loop->hf, HOLDFAST_PHASE_EVALUATION);
	if (examine(&training->shape, training->parameters, EXAM_PROBLEMS, &result) == 0)
		printf("evaluation step %" PRIu64 " exact %.4f (%u of %u)\n", training->step,
		    (double)result.correct / result.problems, result.correct, result.problems);
	holdfast_phase(loop->hf, HOLDFAST_PHASE_STEP);
}

static void report(struct trainloop *loop, const struct worker_report *made)
{
	const struct training *training = &loop->worker.training;
	const uint32_t every = loop->recipe->log_every;
	struct holdfast_step step = {
	    .step = made->step,
	    .fields = HOLDFAST_LOSS | HOLDFAST_GRAD_NORM | HOLDFAST_LEARNING_RATE |
		HOLDFAST_TOKENS | HOLDFAST_DATA_CURSOR | HOLDFAST_DIGEST | HOLDFAST_COMPUTE,
	    .loss = made->loss,
	    .grad_norm = made->grad_norm,
	    .learning_rate = made->learning_rate,
	    .tokens = made->target_count,
	    .data_cursor = training->position,
	    .digest = training_digest(training),
	    .compute_ns = made->compute_ns,
	};
	uint64_t now = now_ns();

	holdfast_step(loop->hf, &step);
	if (every == 0 || made->step % every != 0)
		return;
	printf("step %" PRIu64 " loss %.4f grad_norm %.3f lr %.2e tokens %" PRIu64
	       " time %.1f ms\n",
	    made->step, made->loss, made->grad_norm, made->learning_rate, made->target_count,
	    (double)(now - loop->printed_ns) / 1e6 / (double)(made->step - loop->printed_step));
	loop->printed_ns = now;
	loop->printed_step = made->step;
}

/* What may be due after an iteration. */
static void act(struct trainloop *loop, bool finite)
{
	const struct recipe *recipe = loop->recipe;
	uint64_t step = loop->worker.training.step;
	bool asked = holdfast_should_checkpoint(loop->hf) != 0;

	if (finite && (asked || (recipe->checkpoint_every > 0 && step % recipe->checkpoint_every == 0)))
		(void)save_checkpoint(loop); /* the older ones stand, and the next one may succeed */
	if (recipe->evaluate_every > 0 && step % recipe->evaluate_every == 0)
		evaluate(loop);
}

/* Iterate to the end, a request to stop, or trouble. */
static int iterate(struct trainloop *loop)
{
	struct training *training = &loop->worker.training;
	struct worker_report made = {.finite = true};
	struct cause why = {0};

	while (training->step < loop->recipe->steps && !made.stop) {
		bool stop = holdfast_should_stop(loop->hf) != 0;
		enum status status = worker_step(&loop->worker, stop, &made, &why);

		if (status != STATUS_OK) {
			say(loop, "average", &why);
			return exit_status(status);
		}
		loop->loss = made.loss;
		loop->not_finite = made.finite ? 0 : loop->not_finite + 1;
		if (made.finite)
			snapshot(loop);
		report(loop, &made);
		if (loop->not_finite > TRAINLOOP_NOT_FINITE_MAX) {
			fprintf(
			    stderr, "holdfast-trainer: rank %u: loss or gradient not finite since step %" PRIu64 "\n",
			    loop->recipe->rank, made.step - loop->not_finite + 1);
			return 1;
		}
		act(loop, made.finite);
	}
	if (loop->not_finite > 0) {
		fprintf(stderr, "holdfast-trainer: rank %u: ended with a loss that is not finite\n",
		    loop->recipe->rank);
		return 1;
	}
	return 0;
}

/* The last state to where it is to be, and good-bye to the other ranks. */
static int finish(struct trainloop *loop)
{
	const struct recipe *recipe = loop->recipe;
	const struct training *training = &loop->worker.training;
	bool done = training->step >= recipe->steps;
	struct cause why = {0};
	enum status status;

	if (save_checkpoint(loop) != STATUS_OK)
		return RECIPE_EXIT_IO;
	if (recipe->rank == 0 && recipe->output != NULL && done) {
		status = training_save_file(training, recipe->output, &why);
		if (status != STATUS_OK) {
			say(loop, "output", &why);
			return RECIPE_EXIT_IO;
		}
	}
	status = group_meet(&loop->worker.group, &why);
	if (status != STATUS_OK) {
		say(loop, "finish", &why);
		return exit_status(status);
	}
	if (recipe->rank == 0)
		printf("%s step %" PRIu64 " loss %.6f\n", done ? "done" : "stopped", training->step,
		    loop->loss);
	return 0;
}

/* Where the ranks meet: named by run and attempt when supervised, so that no attempt meets another's. */
static char *group_path(const struct trainloop *loop)
{
	const char *run = getenv(CHANNEL_ENV_RUN);
	struct holdfast_resume resume;
	char *path = NULL;
	int length;

	holdfast_resume_from(loop->hf, &resume);
	if (loop->recipe->group != NULL)
		length = asprintf(&path, "%s", loop->recipe->group);
	else if (loop->hf != NULL && run != NULL && strchr(run, '/') == NULL)
		length = asprintf(&path, "/dev/shm/holdfast-%.16s-%u-group", run, resume.attempt);
	else
		length = asprintf(&path, "/dev/shm/holdfast-trainer-%d-group", (int)getppid());
	return length >= 0 ? path : NULL;
}

static void on_wait(void *context, bool waiting)
{
	if (waiting)
		holdfast_wait_begin(context);
	else
		holdfast_wait_end(context);
}

static enum status join(struct trainloop *loop, struct cause *why)
{
	const struct recipe *recipe = loop->recipe;
	char *path = group_path(loop);
	struct group_request request = {
	    .path = path,
	    .rank = recipe->rank,
	    .world = recipe->world,
	    .count = loop->worker.training.count,
	    .timeout_ms = recipe->peer_timeout_ms,
	    .on_wait = on_wait,
	    .context = loop->hf,
	};
	enum status status;

	if (path == NULL) {
		cause_set(why, CAUSE_ERRNO, ENOMEM, "allocate", "group");
		return STATUS_FULL;
	}
	status = group_join(&loop->worker.group, &request, why);
	free(path);
	return status;
}

/* A mistake in a path is found before the work that it would lose, not after it; errno says what is wrong. */
static bool can_make_files(const char *where)
{
	struct stat st;

	if (stat(where, &st) == 0 && !S_ISDIR(st.st_mode)) {
		errno = ENOTDIR;
		return false;
	}
	return access(where, W_OK | X_OK) == 0;
}

static enum status check_output(const struct trainloop *loop, struct cause *why)
{
	const char *path = loop->recipe->output, *slash;
	char *where;
	enum status status = STATUS_OK;

	if (path == NULL || loop->recipe->rank != 0)
		return STATUS_OK;
	slash = strrchr(path, '/');
	where = slash == NULL ? strdup(".") : strndup(path, (size_t)(slash - path) + 1);
	if (where == NULL || !can_make_files(where)) {
		cause_set(why, CAUSE_ERRNO, errno, "write into its directory", path);
		status = STATUS_SYS;
	}
	free(where);
	return status;
}

/* The directory of checkpoints, made if it is not there, as an absolute path: the supervisor is elsewhere. */
static enum status find_directory(struct trainloop *loop, struct cause *why)
{
	const char *given = loop->recipe->checkpoints;

	if (given == NULL || loop->recipe->rank != 0)
		return STATUS_OK;
	if (mkdir(given, 0777) != 0 && errno != EEXIST) {
		cause_set(why, CAUSE_ERRNO, errno, "make", given);
		return STATUS_SYS;
	}
	loop->directory = realpath(given, NULL);
	if (loop->directory == NULL || !can_make_files(loop->directory)) {
		cause_set(why, CAUSE_ERRNO, errno, "write into", given);
		return STATUS_SYS;
	}
	return STATUS_OK;
}

static int run(struct trainloop *loop)
{
	struct cause why = {0};
	enum status status = worker_init(&loop->worker, loop->recipe);
	int result;

	if (status != STATUS_OK) {
		cause_set(&why, CAUSE_ERRNO, ENOMEM, "allocate", "model");
		say(loop, "start", &why);
		return exit_status(status);
	}
	status = find_directory(loop, &why);
	if (status == STATUS_OK)
		status = check_output(loop, &why);
	if (status != STATUS_OK) {
		say(loop, "start", &why);
		return RECIPE_EXIT_IO;
	}
	holdfast_phase(loop->hf, HOLDFAST_PHASE_RESTORE);
	status = restore(loop, &why);
	if (status != STATUS_OK) {
		say(loop, "restore", &why);
		return RECIPE_EXIT_DATA;
	}
	status = join(loop, &why);
	if (status != STATUS_OK) {
		say(loop, "join", &why);
		return exit_status(status);
	}
	holdfast_phase(loop->hf, HOLDFAST_PHASE_STEP);
	loop->printed_ns = now_ns();
	loop->printed_step = loop->worker.training.step;
	result = iterate(loop);
	if (result == 0)
		result = finish(loop);
	group_leave(&loop->worker.group, result == 0);
	return result;
}

int trainloop_run(const struct recipe *recipe, struct holdfast *hf)
{
	struct trainloop loop = {.recipe = recipe, .hf = hf, .saved_step = HOLDFAST_STEP_NONE};
	int result;

	worker_single_thread();
	result = run(&loop);
	worker_fini(&loop.worker);
	free(loop.directory);
	return result;
}
