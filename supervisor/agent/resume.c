/* See resume.h. */
#include "supervisor/agent/resume.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "journal/record.h"

/* The value that stands for the name at `at`, and the name's length; NULL: there is none. */
static const char *value_at(const char *at, const char *step, const char *checkpoint, size_t *length_out)
{
	static const char STEP[] = "{step}", CHECKPOINT[] = "{checkpoint}";

	if (strncmp(at, STEP, sizeof(STEP) - 1) == 0) {
		*length_out = sizeof(STEP) - 1;
		return step;
	}
	if (strncmp(at, CHECKPOINT, sizeof(CHECKPOINT) - 1) == 0) {
		*length_out = sizeof(CHECKPOINT) - 1;
		return checkpoint;
	}
	return NULL;
}

/* Write the word with its names replaced to out, when that is not NULL.  Returns its bytes with the NUL. */
static size_t expand(const char *word, const char *step, const char *checkpoint, char *out)
{
	size_t size = 0;

	while (*word != '\0') {
		size_t length = 1;
		const char *value = value_at(word, step, checkpoint, &length);
		size_t bytes = value != NULL ? strlen(value) : 1;

		if (out != NULL)
			memcpy(out + size, value != NULL ? value : word, bytes);
		size += bytes;
		word += length;
	}
	if (out != NULL)
		out[size] = '\0';
	return size + 1;
}

static size_t count_of(const char *const words[])
{
	size_t count = 0;

	while (words != NULL && words[count] != NULL)
		count++;
	return count;
}

const char **resume_command(
    const char *const command[], const char *const args[], uint64_t step, const char *checkpoint)
{
	size_t own = count_of(command), added = count_of(args);
	size_t text = 0;
	char number[24] = "";
	const char **words;
	char *at;

	if (step != STEP_NONE)
		snprintf(number, sizeof(number), "%llu", (unsigned long long)step);
	for (size_t i = 0; i < added; i++)
		text += expand(args[i], number, checkpoint, NULL);
	words = malloc((own + added + 1) * sizeof(*words) + text);
	if (words == NULL)
		return NULL;
	at = (char *)(words + own + added + 1);
	for (size_t i = 0; i < own; i++)
		words[i] = command[i];
	for (size_t i = 0; i < added; i++) {
		words[own + i] = at;
		at += expand(args[i], number, checkpoint, at);
	}
	words[own + added] = NULL;
	return words;
}
