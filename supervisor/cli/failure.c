/* See failure.h. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "supervisor/cli/failure.h"
#include "supervisor/cli/rundir.h"
#include "supervisor/cli/source.h"

#define LOG_MAX_BYTES (64u << 10)

/* --- where it is looked for ------------------------------------------------------------------------------ */

struct section {
	const char *at;
	size_t size;
};

/* What stands behind the head that begins with these words, up to the next head; empty when there is none. */
static struct section find_section(const char *text, const char *name)
{
	static const char *const names[] = {"\nstandard error ", "\nstandard output ", "\nerror file "};
	const char *begin = strstr(text, name), *end = NULL;

	if (begin == NULL || (begin = strchr(begin + 1, '\n')) == NULL)
		return (struct section){"", 0};
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const char *next = strstr(begin, names[i]);

		if (next != NULL && (end == NULL || next < end))
			end = next;
	}
	begin++;
	if (end != NULL && end < begin)
		end = begin;
	return (struct section){begin, end != NULL ? (size_t)(end - begin) : strlen(begin)};
}

bool failure_of_evidence(const char *text, struct traceback *out)
{
	struct section recorded = find_section(text, "\nerror file ");
	struct section error = find_section(text, "\nstandard error ");
	struct section output = find_section(text, "\nstandard output ");

	return traceback_find_recorded(recorded.at, recorded.size, out) ||
	    traceback_find(error.at, error.size, out) || traceback_find(output.at, output.size, out);
}

bool failure_of_log(const char *dir, uint32_t attempt, uint32_t rank, struct traceback *out)
{
	char path[RUNDIR_PATH + 64];
	char *text = malloc(LOG_MAX_BYTES);
	struct stat st;
	bool found = false;

	snprintf(path, sizeof(path), "%s/logs/attempt-%03u/rank-%04u.err", dir, attempt, rank);
	/* A path may lead to anything; O_NONBLOCK keeps a FIFO without a writer from holding us. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd >= 0 && text != NULL && fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
		off_t from = st.st_size > (off_t)LOG_MAX_BYTES ? st.st_size - (off_t)LOG_MAX_BYTES : 0;
		ssize_t size = pread(fd, text, LOG_MAX_BYTES, from);

		found = size > 0 && traceback_find(text, (size_t)size, out);
	}
	if (fd >= 0)
		close(fd);
	free(text);
	return found;
}

/* --- how it is said -------------------------------------------------------------------------------------- */

void failure_sentence(const struct traceback *failure, char out[FAILURE_SENTENCE_MAX])
{
	snprintf(out, FAILURE_SENTENCE_MAX, "%s%s%s", failure->type,
	    failure->message[0] != '\0' ? ": " : "", failure->message);
	source_plain(out);
}

static void add_place(char *out, size_t size, const char *before, const struct traceback_place *place)
{
	size_t used = strlen(out);

	snprintf(out + used, size - used, "%s%s:%u", before, place->file, place->line);
	used = strlen(out);
	if (place->function[0] != '\0' && strcmp(place->function, "<module>") != 0)
		snprintf(out + used, size - used, " in %s", place->function);
}

void failure_place(const struct traceback *failure, char out[FAILURE_SENTENCE_MAX])
{
	out[0] = '\0';
	/* Where the program itself was is what its author looks for; the library's line comes behind it. */
	if (failure->own.file[0] != '\0') {
		add_place(out, FAILURE_SENTENCE_MAX, "at ", &failure->own);
		add_place(out, FAILURE_SENTENCE_MAX, ", from ", &failure->raised);
	} else if (failure->raised.file[0] != '\0') {
		add_place(out, FAILURE_SENTENCE_MAX, "at ", &failure->raised);
	}
	source_plain(out);
}

static void add_text(json_t *object, const char *name, const char *text)
{
	json_t *value = text[0] != '\0' ? json_string(text) : NULL;

	/* Bytes that are no UTF-8 make no string. */
	json_object_set_new(object, name, value != NULL ? value : json_null());
}

static void add_place_json(
    json_t *object, const char *const names[3], const struct traceback_place *place)
{
	add_text(object, names[0], place->file);
	json_object_set_new(
	    object, names[1], place->file[0] != '\0' ? json_integer(place->line) : json_null());
	add_text(object, names[2], place->function);
}

json_t *failure_json(const struct traceback *failure)
{
	static const char *const raised[] = {"file", "line", "function"};
	static const char *const own[] = {"own_file", "own_line", "own_function"};
	json_t *object = json_object();

	add_text(object, "type", failure->type);
	add_text(object, "message", failure->message);
	add_place_json(object, raised, &failure->raised);
	add_place_json(object, own, &failure->own);
	return object;
}
