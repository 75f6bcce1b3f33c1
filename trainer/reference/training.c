#include "trainer/reference/training.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "trainer/reference/safetensors.h"

#define ARRAYS 3
#define FORMAT "holdfast-trainer 1"

/* The three arrays by their names in a file, in the order of both representations. */
static const char *const prefixes[ARRAYS] = {"model", "exp_avg", "exp_avg_sq"};

static float *array(const struct training *training, uint32_t index)
{
	return index == 0 ? training->parameters : index == 1 ? training->first : training->second;
}

enum status training_init(
    struct training *training, const struct layout *shape, const char *recipe, uint64_t seed)
{
	*training = (struct training){
	    .shape = *shape, .seed = seed, .count = layout_parameter_count(shape)};
	assert(strlen(recipe) < sizeof(training->recipe));
	snprintf(training->recipe, sizeof(training->recipe), "%s", recipe);
	training->parameters = calloc(training->count * ARRAYS, sizeof(float));
	if (training->parameters == NULL)
		return STATUS_FULL;
	training->first = training->parameters + training->count;
	training->second = training->first + training->count;
	return STATUS_OK;
}

void training_fini(struct training *training)
{
	free(training->parameters);
	*training = (struct training){0};
}

uint64_t training_digest(const struct training *training)
{
	return XXH3_64bits(training->parameters, training->count * sizeof(float));
}

static uint64_t arrays_bytes(const struct training *training)
{
	return (uint64_t)training->count * ARRAYS * sizeof(float);
}

uint64_t training_size_bytes(const struct training *training)
{
	return sizeof(struct training_head) + arrays_bytes(training);
}

int training_store(const struct training *training, training_put *put, void *context)
{
	struct training_head head = {
	    .magic = TRAINING_MAGIC,
	    .step = training->step,
	    .position = training->position,
	    .seed = training->seed,
	    .count = training->count,
	    .recipe_digest = XXH3_64bits(training->recipe, strlen(training->recipe)),
	};
	int result = put(context, &head, sizeof(head));

	return result != 0 ? result : put(context, training->parameters, arrays_bytes(training));
}

static enum status bad(struct cause *why, const char *step, const char *subject)
{
	cause_set(why, CAUSE_NONE, 0, step, subject);
	return STATUS_BAD;
}

enum status training_load(struct training *training, training_get *get, void *context,
    uint64_t size_bytes, struct cause *why)
{
	struct training_head head;
	int result;

	if (size_bytes != training_size_bytes(training))
		return bad(why, "snapshot of another size", "snapshot");
	result = get(context, &head, sizeof(head));
	if (result == 0 &&
	    (head.magic != TRAINING_MAGIC || head.count != training->count ||
		head.seed != training->seed ||
		head.recipe_digest != XXH3_64bits(training->recipe, strlen(training->recipe))))
		return bad(why, "snapshot of another training", "snapshot");
	if (result == 0)
		result = get(context, training->parameters, arrays_bytes(training));
	if (result != 0) {
		cause_set(why, CAUSE_ERRNO, -result, "read", "snapshot");
		return STATUS_SYS;
	}
	training->step = head.step;
	training->position = head.position;
	return STATUS_OK;
}

__attribute__((format(printf, 3, 4))) static void set_field(
    struct safetensors *content, const char *name, const char *format, ...)
{
	struct safetensors_field *field = &content->fields[content->field_count++];
	va_list arguments;

	snprintf(field->name, sizeof(field->name), "%s", name);
	va_start(arguments, format);
	vsnprintf(field->value, sizeof(field->value), format, arguments);
	va_end(arguments);
}

static void tensor_name(const struct layout *shape, uint32_t which, uint32_t index,
    struct tensor *tensor, char name[SAFETENSORS_NAME_MAX])
{
	layout_tensor(shape, index, tensor);
	snprintf(name, SAFETENSORS_NAME_MAX, "%s.%s", prefixes[which], tensor->name);
}

enum status training_save_file(const struct training *training, const char *path, struct cause *why)
{
	const struct layout *s = &training->shape;
	uint32_t per_array = layout_tensor_count(s);
	struct safetensors content = {
	    .fields = calloc(8, sizeof(*content.fields)),
	    .tensors = calloc((size_t)per_array * ARRAYS, sizeof(*content.tensors)),
	};
	enum status status;

	if (content.fields == NULL || content.tensors == NULL) {
		safetensors_fini(&content);
		cause_set(why, CAUSE_ERRNO, ENOMEM, "save", path);
		return STATUS_FULL;
	}
	set_field(&content, "format", "%s", FORMAT);
	set_field(&content, "model", "width=%u layers=%u heads=%u context=%u vocabulary=%u",
	    s->width, s->layers, s->heads, s->context, s->vocabulary);
	set_field(&content, "recipe", "%s", training->recipe);
	set_field(&content, "step", "%" PRIu64, training->step);
	set_field(&content, "data_cursor", "%" PRIu64, training->position);
	set_field(&content, "rng", "key=%" PRIu64 " counter=%" PRIu64, training->seed,
	    training->position);
	for (uint32_t which = 0; which < ARRAYS; which++)
		for (uint32_t i = 0; i < per_array; i++) {
			struct safetensors_tensor *out = &content.tensors[content.tensor_count++];
			struct tensor tensor;

			tensor_name(s, which, i, &tensor, out->name);
			out->rows = tensor.rows;
			out->columns = tensor.columns;
			out->data = array(training, which) + tensor.offset;
		}
	status = safetensors_write(path, &content, why);
	safetensors_fini(&content);
	return status;
}

/* A whole decimal number and nothing else; a file's text is not trusted to be one. */
static bool parse_number(const char *text, uint64_t *out)
{
	uint64_t number = 0;

	if (text == NULL || *text == '\0' || strlen(text) > 19)
		return false;
	for (; *text != '\0'; text++) {
		if (*text < '0' || *text > '9')
			return false;
		number = number * 10 + (uint64_t)(*text - '0');
	}
	*out = number;
	return true;
}

static enum status open_file(const char *path, struct safetensors *out, struct cause *why)
{
	enum status status = safetensors_read(path, out, why);
	const char *format;

	if (status != STATUS_OK)
		return status;
	format = safetensors_field(out, "format");
	if (format != NULL && strcmp(format, FORMAT) == 0)
		return STATUS_OK;
	safetensors_fini(out);
	return bad(why, "not a file of this program", path);
}

static enum status copy_array(const struct safetensors *content, struct training *training,
    uint32_t which, const char *path, struct cause *why)
{
	for (uint32_t i = 0; i < layout_tensor_count(&training->shape); i++) {
		char name[SAFETENSORS_NAME_MAX];
		struct tensor tensor;
		const struct safetensors_tensor *found;

		tensor_name(&training->shape, which, i, &tensor, name);
		found = safetensors_tensor(content, name);
		if (found == NULL || found->rows != tensor.rows || found->columns != tensor.columns)
			return bad(why, "a model of another shape", path);
		memcpy(array(training, which) + tensor.offset, found->data,
		    tensor.count * sizeof(float));
	}
	return STATUS_OK;
}

enum status training_load_file(struct training *training, const char *path, struct cause *why)
{
	struct safetensors content;
	uint64_t step = 0, position = 0;
	char rng[SAFETENSORS_VALUE_MAX];
	const char *recipe, *stated_rng;
	enum status status = open_file(path, &content, why);

	if (status != STATUS_OK)
		return status;
	recipe = safetensors_field(&content, "recipe");
	stated_rng = safetensors_field(&content, "rng");
	if (!parse_number(safetensors_field(&content, "step"), &step) ||
	    !parse_number(safetensors_field(&content, "data_cursor"), &position)) {
		status = bad(why, "step or position missing", path);
	} else {
		snprintf(
		    rng, sizeof(rng), "key=%" PRIu64 " counter=%" PRIu64, training->seed, position);
		if (recipe == NULL || stated_rng == NULL || strcmp(recipe, training->recipe) != 0 ||
		    strcmp(stated_rng, rng) != 0) {
			cause_set(why, CAUSE_NONE, 0, "made by other options than these", path);
			status = STATUS_REFUSED;
		}
	}
	for (uint32_t which = 0; which < ARRAYS && status == STATUS_OK; which++)
		status = copy_array(&content, training, which, path, why);
	safetensors_fini(&content);
	if (status != STATUS_OK)
		return status;
	training->step = step;
	training->position = position;
	return STATUS_OK;
}

enum status training_load_parameters(struct training *training, const char *path, struct cause *why)
{
	struct safetensors content;
	enum status status = open_file(path, &content, why);

	if (status != STATUS_OK)
		return status;
	status = copy_array(&content, training, 0, path, why);
	safetensors_fini(&content);
	return status;
}

enum status training_peek(
    const char *path, struct layout *shape_out, uint64_t *step_out, struct cause *why)
{
	struct safetensors content;
	struct layout shape;
	uint64_t step = 0;
	const char *model;
	enum status status = open_file(path, &content, why);

	if (status != STATUS_OK)
		return status;
	model = safetensors_field(&content, "model");
	if (model == NULL ||
	    sscanf(model, "width=%9u layers=%9u heads=%9u context=%9u vocabulary=%9u", &shape.width,
		&shape.layers, &shape.heads, &shape.context, &shape.vocabulary) != 5 ||
	    !layout_valid(&shape) || !parse_number(safetensors_field(&content, "step"), &step))
		status = bad(why, "no model or step in its metadata", path);
	safetensors_fini(&content);
	if (status != STATUS_OK)
		return status;
	*shape_out = shape;
	*step_out = step;
	return STATUS_OK;
}
