/*
 * A training that is interrupted ends where an uninterrupted one ends, and no damaged file is believed.
 *
 * Twelve iterations straight are compared bit for bit with five, a save, a load into a fresh process's state, and
 * seven more: through a checkpoint file and through the bytes of a snapshot.  A small checkpoint is then
 * cut off at every length and has every byte of its header and a sample of its data changed: each is refused.
 */
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "trainer/reference/header.h"
#include "trainer/reference/random.h"
#include "trainer/reference/safetensors.h"
#include "trainer/reference/worker.h"

#define SEED 11u
#define STEPS 12u
#define CUT 5u

static char directory[] = "/tmp/holdfast-reference-XXXXXX";
static char path[64], other_path[64];

static int set_up(void **state)
{
	(void)state;
	printf("seed %u\n", SEED);
	worker_single_thread();
	if (mkdtemp(directory) == NULL)
		return -1;
	snprintf(path, sizeof(path), "%s/a.safetensors", directory);
	snprintf(other_path, sizeof(other_path), "%s/b.safetensors", directory);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	(void)unlink(path);
	(void)unlink(other_path);
	/* Fails where something else was left in it, a temporary file for one. */
	return rmdir(directory);
}

static struct recipe small_recipe(void)
{
	struct recipe recipe;

	recipe_default(&recipe, ARITHMETIC_TASK);
	recipe.shape.width = 16;
	recipe.shape.layers = 1;
	recipe.shape.heads = 2;
	recipe.batch = 8;
	recipe.steps = STEPS;
	recipe.warmup = 3;
	recipe.learning_rate = 0.01;
	recipe.seed = SEED;
	return recipe;
}

static void start(struct worker *worker, const struct recipe *recipe)
{
	struct group_request request = {.world = 1, .timeout_ms = 1000};
	struct cause why;

	assert_int_equal(worker_init(worker, recipe), STATUS_OK);
	worker_start(worker);
	request.count = worker->training.count;
	assert_int_equal(group_join(&worker->group, &request, &why), STATUS_OK);
}

static void end(struct worker *worker)
{
	group_leave(&worker->group, true);
	worker_fini(worker);
}

/* Iterate up to `last`; losses[step - 1] gets each loss. */
static void iterate(struct worker *worker, uint64_t last, double losses[STEPS])
{
	while (worker->training.step < last) {
		struct worker_report report;
		struct cause why;

		assert_int_equal(worker_step(worker, false, &report, &why), STATUS_OK);
		assert_true(report.finite);
		losses[report.step - 1] = report.loss;
	}
}

static void assert_same(const struct training *a, const struct training *b)
{
	assert_int_equal(a->step, b->step);
	assert_int_equal(a->position, b->position);
	assert_int_equal(a->count, b->count);
	/* All three arrays are one allocation. */
	assert_memory_equal(a->parameters, b->parameters, 3 * a->count * sizeof(float));
	assert_int_equal(training_digest(a), training_digest(b));
}

static void test_through_file(void **state)
{
	struct recipe recipe = small_recipe();
	struct worker straight, before, after;
	double losses[STEPS], again[STEPS];
	struct cause why;

	(void)state;
	start(&straight, &recipe);
	iterate(&straight, STEPS, losses);
	start(&before, &recipe);
	iterate(&before, CUT, again);
	assert_int_equal(training_save_file(&before.training, path, &why), STATUS_OK);
	end(&before);
	start(&after, &recipe);
	assert_int_equal(training_load_file(&after.training, path, &why), STATUS_OK);
	assert_int_equal(after.training.step, CUT);
	iterate(&after, STEPS, again);
	assert_same(&straight.training, &after.training);
	assert_memory_equal(losses, again, sizeof(losses));
	/* It did learn something: equal bits of nothing would prove little. */
	assert_true(losses[STEPS - 1] < losses[0]);
	end(&straight);
	end(&after);
}

/* Bytes in memory, as a snapshot keeps them. */
struct buffer {
	char *bytes;
	size_t size, at;
};

static int put(void *context, const void *data, size_t size_bytes)
{
	struct buffer *buffer = context;

	if (size_bytes > buffer->size - buffer->at)
		return -1;
	memcpy(buffer->bytes + buffer->at, data, size_bytes);
	buffer->at += size_bytes;
	return 0;
}

static int get(void *context, void *data, size_t size_bytes)
{
	struct buffer *buffer = context;

	if (size_bytes > buffer->size - buffer->at)
		return -1;
	memcpy(data, buffer->bytes + buffer->at, size_bytes);
	buffer->at += size_bytes;
	return 0;
}

static void test_through_bytes(void **state)
{
	struct recipe recipe = small_recipe();
	struct worker straight, before, after;
	struct buffer buffer = {0};
	double losses[STEPS], again[STEPS];
	struct cause why;

	(void)state;
	start(&straight, &recipe);
	iterate(&straight, STEPS, losses);
	start(&before, &recipe);
	iterate(&before, CUT, again);
	buffer.size = training_size_bytes(&before.training);
	buffer.bytes = malloc(buffer.size);
	assert_non_null(buffer.bytes);
	assert_int_equal(training_store(&before.training, put, &buffer), 0);
	assert_int_equal(buffer.at, buffer.size);
	end(&before);
	start(&after, &recipe);
	buffer.at = 0;
	assert_int_equal(training_load(&after.training, get, &buffer, buffer.size, &why), STATUS_OK);
	iterate(&after, STEPS, again);
	assert_same(&straight.training, &after.training);
	assert_memory_equal(losses, again, sizeof(losses));

	/* Another size, and every bit of the head that says whose bytes they are. */
	assert_int_equal(
	    training_load(&after.training, get, &buffer, buffer.size - 1, &why), STATUS_BAD);
	for (size_t i = 0; i < sizeof(struct training_head) * 8; i++) {
		bool changes_where = i / 8 >= offsetof(struct training_head, step) &&
		    i / 8 < offsetof(struct training_head, seed);

		if (changes_where) /* the supervisor's digest guards these, and the caller the step */
			continue;
		buffer.bytes[i / 8] ^= (char)(1 << i % 8);
		buffer.at = 0;
		assert_int_equal(
		    training_load(&after.training, get, &buffer, buffer.size, &why), STATUS_BAD);
		buffer.bytes[i / 8] ^= (char)(1 << i % 8);
	}
	free(buffer.bytes);
	end(&straight);
	end(&after);
}

static void test_recipe_counts(void **state)
{
	struct recipe recipe = small_recipe(), other = recipe;
	struct worker worker;
	struct cause why;
	double losses[STEPS];

	(void)state;
	start(&worker, &recipe);
	iterate(&worker, CUT, losses);
	assert_int_equal(training_save_file(&worker.training, path, &why), STATUS_OK);
	end(&worker);
	other.learning_rate *= 2;
	start(&worker, &other);
	assert_int_equal(training_load_file(&worker.training, path, &why), STATUS_REFUSED);
	/* As a base it is good: only the shape counts. */
	assert_int_equal(training_load_parameters(&worker.training, path, &why), STATUS_OK);
	assert_int_equal(worker.training.step, 0);
	end(&worker);
	other = recipe;
	other.seed++;
	start(&worker, &other);
	assert_int_equal(training_load_file(&worker.training, path, &why), STATUS_REFUSED);
	end(&worker);
	other = recipe;
	other.shape.width = 32;
	start(&worker, &other);
	assert_int_equal(training_load_parameters(&worker.training, path, &why), STATUS_BAD);
	end(&worker);
}

/* A gradient that is not finite shows in every parameter after the step. */
static void test_not_finite(void **state)
{
	struct recipe recipe = small_recipe();
	struct worker worker;
	struct worker_report report;
	struct cause why;

	(void)state;
	start(&worker, &recipe);
	worker.training.parameters[worker.training.count - 1] = NAN;
	assert_int_equal(worker_step(&worker, false, &report, &why), STATUS_OK);
	assert_false(report.finite);
	assert_true(isnan(report.grad_norm));
	for (size_t i = 0; i < worker.training.count; i++)
		assert_true(isnan(worker.training.parameters[i]));
	end(&worker);
}

/* The update against its formula in double precision. */
static void test_adamw(void **state)
{
	struct recipe recipe = small_recipe();
	const struct adamw *a = &recipe.adamw;
	size_t count = layout_parameter_count(&recipe.shape);
	float *memory = calloc(4 * count, sizeof(float));
	double *check = calloc(3 * count, sizeof(double));
	struct adamw_arrays arrays = {memory, memory + count, memory + 2 * count, memory + 3 * count};
	struct tensor tensor;
	uint32_t index = 0;

	(void)state;
	assert_non_null(memory);
	assert_non_null(check);
	for (size_t i = 0; i < count; i++) {
		memory[i] = (float)(random_unit(random_at(SEED, i)) - 0.5) * 0.2F;
		check[i] = arrays.parameters[i] = (float)random_unit(random_at(SEED + 1, i));
	}
	for (uint64_t step = 1; step <= 20; step++) {
		double norm = adamw_norm(memory, count), clip = norm > a->clip ? a->clip / norm : 1;

		adamw_update(a, &recipe.shape, &arrays, step, 0.01, norm);
		for (index = 0; index < layout_tensor_count(&recipe.shape); index++) {
			layout_tensor(&recipe.shape, index, &tensor);
			for (size_t i = tensor.offset; i < tensor.offset + tensor.count; i++) {
				double g = memory[i] * clip;
				double *p = &check[i], *m = &check[count + i],
				       *v = &check[2 * count + i];

				*m = a->beta_first * *m + (1 - a->beta_first) * g;
				*v = a->beta_second * *v + (1 - a->beta_second) * g * g;
				if (tensor.rows > 0)
					*p -= 0.01 * a->weight_decay * *p;
				*p -= 0.01 * *m / (1 - pow(a->beta_first, (double)step)) /
				    (sqrt(*v / (1 - pow(a->beta_second, (double)step))) + a->epsilon);
			}
		}
	}
	for (size_t i = 0; i < count; i++)
		if (fabs(arrays.parameters[i] - check[i]) > 1e-4)
			fail_msg("parameter %zu: %.9g, should be %.9g", i,
			    (double)arrays.parameters[i], check[i]);
	free(memory);
	free(check);
}

/* ---- files ---- */

/* Write a small checkpoint and return its size and, in *header_end, where its data begins. */
static size_t write_small(struct worker *worker, const char *where, size_t *header_end)
{
	static struct recipe recipe;
	uint64_t header_size;
	struct stat st;
	struct cause why;
	int fd;

	recipe = small_recipe();
	recipe.shape.width = 4;
	recipe.shape.heads = 1;
	start(worker, &recipe);
	assert_int_equal(training_save_file(&worker->training, where, &why), STATUS_OK);
	fd = open(where, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &header_size, 8, 0), 8);
	assert_int_equal(fstat(fd, &st), 0);
	close(fd);
	*header_end = 8 + (size_t)header_size;
	return (size_t)st.st_size;
}

static void test_same_bytes(void **state)
{
	struct worker worker;
	size_t header_end, size = write_small(&worker, path, &header_end);
	char *a = malloc(size), *b = malloc(size);
	FILE *first, *second;
	struct cause why;

	(void)state;
	assert_int_equal(training_save_file(&worker.training, other_path, &why), STATUS_OK);
	first = fopen(path, "rb");
	second = fopen(other_path, "rb");
	assert_non_null(first);
	assert_non_null(second);
	assert_int_equal(fread(a, 1, size, first), size);
	assert_int_equal(fread(b, 1, size, second), size);
	assert_memory_equal(a, b, size);
	assert_int_equal(fgetc(second), EOF);
	fclose(first);
	fclose(second);
	free(a);
	free(b);
	end(&worker);
}

static void test_every_length(void **state)
{
	struct worker worker;
	size_t header_end, size = write_small(&worker, path, &header_end);
	struct cause why;

	(void)state;
	assert_int_equal(training_load_file(&worker.training, path, &why), STATUS_OK);
	for (size_t length = size; length-- > 0;) {
		assert_int_equal(truncate(path, (off_t)length), 0);
		assert_int_equal(training_load_file(&worker.training, path, &why), STATUS_BAD);
		assert_non_null(why.step);
	}
	end(&worker);
	/* Longer than it says. */
	size = write_small(&worker, path, &header_end);
	assert_int_equal(truncate(path, (off_t)size + 1), 0);
	assert_int_equal(training_load_file(&worker.training, path, &why), STATUS_BAD);
	assert_int_equal(truncate(path, (off_t)size), 0);
	assert_int_equal(training_load_file(&worker.training, path, &why), STATUS_OK);
	end(&worker);
}

static void test_changed_bytes(void **state)
{
	struct worker worker;
	size_t header_end, size = write_small(&worker, path, &header_end);
	struct cause why;
	int fd = open(path, O_RDWR | O_CLOEXEC);

	(void)state;
	assert_true(fd >= 0);
	for (uint64_t i = 0; i < header_end + 1000; i++) {
		size_t at = i < header_end
		    ? i
		    : header_end + random_below(random_at(SEED, i), (uint32_t)(size - header_end));
		char byte, changed;

		assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
		changed = (char)(byte ^ (1 + random_below(random_at(SEED + 1, i), 255)));
		assert_int_equal(pwrite(fd, &changed, 1, (off_t)at), 1);
		if (training_load_file(&worker.training, path, &why) == STATUS_OK)
			fail_msg("byte %zu changed from %d to %d is believed", at, byte, changed);
		assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
	}
	assert_int_equal(training_load_file(&worker.training, path, &why), STATUS_OK);
	close(fd);
	end(&worker);
}

static enum status parse(const char *text, uint64_t data_bytes)
{
	static struct safetensors_field fields[SAFETENSORS_FIELDS_MAX];
	static struct safetensors_tensor tensors[SAFETENSORS_TENSORS_MAX];
	static const float data[8];
	struct safetensors content = {.fields = fields, .tensors = tensors};
	struct cause why;
	size_t size = strlen(text);
	/* Behind an allocation's end, so that a sanitizer sees a reader that runs over it. */
	char *exact = malloc(size > 0 ? size : 1);
	enum status status;

	assert_non_null(exact);
	memcpy(exact, text, size);
	status = header_parse(exact, size, (const char *)data, data_bytes, &content, &why);
	free(exact);
	return status;
}

static void test_headers(void **state)
{
	static const char
	    tensor_twice[] = "{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]},"
			     "\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[16,32]}}";
	static const char number_as_metadata
	    [] = "{\"__metadata__\":{\"a\":1},"
		 "\"a\":{\"dtype\":\"F32\",\"shape\":[8],\"data_offsets\":[0,32]}}";
	static const char
	    metadata_twice[] = "{\"__metadata__\":{\"a\":\"1\",\"a\":\"1\"},"
			       "\"a\":{\"dtype\":\"F32\",\"shape\":[8],\"data_offsets\":[0,32]}}";
	static const char *const wrong[] = {
	    "",
	    "{",
	    "}",
	    "[]",
	    "{}}",
	    "{\"",
	    "{\"a\"",
	    "{\"a\":",
	    "{\"a\":1}",
	    "{\"a\":{\"dtype\":\"F32\",\"shape\":[8],\"data_offsets\":[0,32]},}",
	    "{\"a\":{\"dtype\":\"F64\",\"shape\":[8],\"data_offsets\":[0,32]}}",
	    "{\"a\":{\"dtype\":\"F32\",\"shape\":[9],\"data_offsets\":[0,36]}}",
	    "{\"a\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}",
	    "{\"a\":{\"dtype\":\"F32\",\"shape\":[7],\"data_offsets\":[0,28]}}",
	    "{\"a\":{\"dtype\":\"F32\",\"shape\":[8],\"data_offsets\":[0]}}",
	    "{\"a\":{\"dtype\":\"F32\",\"shape\":[8],\"data_offsets\":[4,36]}}",
	    "{\"a\":{\"dtype\":\"F32\",\"shape\":[8],\"shape\":[8],\"data_offsets\":[0,32]}}",
	    "{\"a\":{\"dtype\":\"F32\",\"shape\":[-8],\"data_offsets\":[0,32]}}",
	    "{\"a\":{\"dtype\":\"F32\",\"shape\":[2,2,2],\"data_offsets\":[0,32]}}",
	    "{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967304],\"data_offsets\":[0,32]}}",
	    "{\"a\":{\"dtype\":\"F32\",\"shape\":[99999999999999999999],\"data_offsets\":[0,32]}}",
	    "{\"a\":{\"dtype\":\"F32\",\"shape\":[8]}}",
	    "{\"a\\u0000\":{\"dtype\":\"F32\",\"shape\":[8],\"data_offsets\":[0,32]}}",
	    tensor_twice,
	    number_as_metadata,
	    metadata_twice,
	};

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		if (parse(wrong[i], 32) != STATUS_BAD)
			fail_msg("believed: %s", wrong[i]);
	/* The controls: what differs from the wrong ones by one thing only, and other ways to write it. */
	assert_int_equal(
	    parse("{\"a\":{\"dtype\":\"F32\",\"shape\":[8],\"data_offsets\":[0,32]}}", 32), STATUS_OK);
	assert_int_equal(parse("{ \"__metadata__\" : { } , \"a\" : { \"shape\" : [ 2 , 4 ] , "
			       "\"data_offsets\":[0, 32], \"dtype\":\"F32\" } }   ",
			     32),
	    STATUS_OK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_through_file),
	    cmocka_unit_test(test_through_bytes),
	    cmocka_unit_test(test_recipe_counts),
	    cmocka_unit_test(test_not_finite),
	    cmocka_unit_test(test_adamw),
	    cmocka_unit_test(test_same_bytes),
	    cmocka_unit_test(test_every_length),
	    cmocka_unit_test(test_changed_bytes),
	    cmocka_unit_test(test_headers),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
