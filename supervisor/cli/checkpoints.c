/* See checkpoints.h. */
#include "supervisor/cli/checkpoints.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "journal/record.h"

#define STEP_NAME "{step}"

const char *checkpoints_pattern_fault(const char *text)
{
	const char *step = strstr(text, STEP_NAME);
	size_t length = strlen(text);

	if (length == 0)
		return "a path is missing";
	if (length >= RECORD_TEXT_MAX)
		return "the path is too long";
	if (step != NULL && strstr(step + 1, STEP_NAME) != NULL)
		return "{step} may stand in it once";
	if (strspn(text, "/") == length)
		return "not a path of checkpoints";
	return NULL;
}

char *checkpoints_absolute(const char *text, const char *work_dir)
{
	char *path = NULL;
	size_t length;

	/* "./out/" is what people type for "out". */
	while (text[0] == '.' && text[1] == '/')
		text += 2 + strspn(text + 2, "/");
	if ((text[0] == '/' ? asprintf(&path, "%s", text)
			    : asprintf(&path, "%s/%s", work_dir, text)) < 0)
		return NULL;
	length = strlen(path);
	while (length > 1 && path[length - 1] == '/')
		path[--length] = '\0';
	if (length < RECORD_TEXT_MAX)
		return path;
	free(path);
	return NULL;
}

bool checkpoints_is_mode(const char *text)
{
	static const char *const modes[] = {"auto", "link", "copy", "inplace"};

	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
		if (strcmp(text, modes[i]) == 0)
			return true;
	return false;
}

bool checkpoints_size(const char *text, uint64_t *bytes_out)
{
	static const char units[] = "KMGTP";
	double factor = 1;
	char *end;

	/* strtod alone would take "nan", "0x1p3" and leading blanks. */
	if (!isdigit((unsigned char)text[0]) || text[strspn(text, "0123456789.")] == 'x')
		return false;
	double value = strtod(text, &end);

	if (*end != '\0') {
		const char *unit = strchr(units, toupper((unsigned char)*end));

		if (unit == NULL)
			return false;
		for (const char *at = units; at <= unit; at++)
			factor *= 1024;
		end++;
		/* 20G, 20GB and 20GiB are one to who types them. */
		if (*end == 'i')
			end++;
		if (*end == 'B')
			end++;
		if (*end != '\0')
			return false;
	}
	value *= factor;
	if (!(value >= 1 && value < 0x1p63))
		return false;
	*bytes_out = (uint64_t)value;
	return true;
}

/* One word from *at on, written to out; false: it has no end. */
static bool take_word(const char **at, char **out)
{
	char quote = '\0';

	for (; **at != '\0' && (quote != '\0' || !isspace((unsigned char)**at)); (*at)++) {
		char c = **at;

		if (quote == '\0' ? c == '\'' || c == '"' : c == quote) {
			quote = quote == '\0' ? c : '\0';
			continue;
		}
		if (c == '\\' && quote != '\'') {
			c = *++*at;
			if (c == '\0')
				return false;
		}
		*(*out)++ = c;
	}
	*(*out)++ = '\0';
	return quote == '\0';
}

char **checkpoints_words(const char *text)
{
	/* Every word takes a character and what parts it from the next. */
	size_t most = strlen(text) / 2 + 1, count = 0;
	char **words = malloc((most + 1) * sizeof(*words) + strlen(text) + 1);
	char *out;

	if (words == NULL)
		return NULL;
	out = (char *)(words + most + 1);
	for (text += strspn(text, " \t\n\v\f\r"); *text != '\0'; text += strspn(text, " \t\n\v\f\r")) {
		words[count++] = out;
		if (!take_word(&text, &out)) {
			free(words);
			return NULL;
		}
	}
	words[count] = NULL;
	if (count > 0)
		return words;
	free(words);
	return NULL;
}
