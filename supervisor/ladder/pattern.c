/* See pattern.h. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "supervisor/ladder/manifest.h"
#include "supervisor/ladder/pattern.h"

#define STEP_WORD "{step}"

static enum status bad(struct cause *why, const char *what, const char *text)
{
	cause_set(why, CAUSE_DATA, 0, what, text);
	return STATUS_BAD;
}

/* Without doubled slashes, "." components and a slash at the end.  False: too long. */
static bool tidy(const char *text, char out[PATTERN_PATH_MAX])
{
	size_t length = 0;

	while (*text != '\0') {
		size_t span = strcspn(text, "/");

		if (span > 0 && !(span == 1 && text[0] == '.')) {
			if (length + span + 2 > PATTERN_PATH_MAX)
				return false;
			out[length++] = '/';
			memcpy(out + length, text, span);
			length += span;
		}
		text += span;
		text += *text == '/';
	}
	out[length] = '\0';
	return true;
}

static bool place(char *out, size_t size, const char *from, size_t length)
{
	if (length >= size)
		return false;
	memcpy(out, from, length);
	out[length] = '\0';
	return true;
}

enum status pattern_parse(struct pattern *p, const char *text, struct cause *why)
{
	char path[PATTERN_PATH_MAX];
	char *word, *begin, *end;
	struct pattern made = {0};

	if (text[0] != '/')
		return bad(why, "not an absolute path", text);
	if (!tidy(text, path))
		return bad(why, "too long", text);
	word = strstr(path, STEP_WORD);
	if (word != NULL && strstr(word + 1, STEP_WORD) != NULL)
		return bad(why, "{step} more than once", text);
	made.numbered = word != NULL;
	begin = word != NULL ? word : path + strlen(path);
	while (begin > path && *begin != '/')
		begin--;
	if (*begin != '/' || begin[1] == '\0')
		return bad(why, "names no file", text);
	end = begin + 1 + strcspn(begin + 1, "/");
	if (strcmp(begin + 1, "..") == 0 || strcmp(pattern_last(path), MANIFEST_NAME) == 0)
		return bad(why, "not a name for a checkpoint", text);
	if ((size_t)(end - begin) > PATTERN_NAME_MAX - 1 + (word != NULL ? strlen(STEP_WORD) : 0))
		return bad(why, "too long", text);
	bool fits = begin == path ? place(made.base, sizeof(made.base), "/", 1)
				  : place(made.base, sizeof(made.base), path, (size_t)(begin - path));

	if (word == NULL) {
		fits = fits &&
		    place(made.before, sizeof(made.before), begin + 1, (size_t)(end - begin - 1));
	} else {
		char *behind = word + strlen(STEP_WORD);

		fits = fits &&
		    place(made.before, sizeof(made.before), begin + 1, (size_t)(word - begin - 1)) &&
		    place(made.after, sizeof(made.after), behind, (size_t)(end - behind));
	}
	if (!fits || !place(made.rest, sizeof(made.rest), end, strlen(end)))
		return bad(why, "too long", text);
	*p = made;
	return STATUS_OK;
}

/* A decimal number at the front of text: how many digits it has, 0 when there is none that is a step. */
static size_t read_step(const char *text, uint64_t *step)
{
	uint64_t value = 0;
	size_t digits = 0;

	for (; text[digits] >= '0' && text[digits] <= '9'; digits++) {
		uint64_t digit = (uint64_t)(text[digits] - '0');

		if (value > (STEP_NONE - 1 - digit) / 10)
			return 0;
		value = value * 10 + digit;
	}
	*step = value;
	return digits;
}

bool pattern_match(const struct pattern *p, const char *name, uint64_t *step)
{
	size_t before = strlen(p->before), digits;
	uint64_t value;

	if (!p->numbered) {
		if (strcmp(name, p->before) != 0)
			return false;
		*step = STEP_NONE;
		return true;
	}
	if (strncmp(name, p->before, before) != 0)
		return false;
	digits = read_step(name + before, &value);
	if (digits == 0 || strcmp(name + before + digits, p->after) != 0)
		return false;
	*step = value;
	return true;
}

bool pattern_mention(const struct pattern *p, const char *name, uint64_t *step)
{
	size_t before = strlen(p->before), after = strlen(p->after), digits;
	uint64_t value;

	if (!p->numbered) {
		*step = STEP_NONE;
		return strstr(name, p->before) != NULL;
	}
	for (; *name != '\0'; name++) {
		if (strncmp(name, p->before, before) != 0)
			continue;
		digits = read_step(name + before, &value);
		if (digits == 0 || strncmp(name + before + digits, p->after, after) != 0)
			continue;
		*step = value;
		return true;
	}
	return false;
}

const char *pattern_last(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash != NULL ? slash + 1 : path;
}

bool pattern_unit(const struct pattern *p, const char *name, char path[PATTERN_PATH_MAX])
{
	const char *base = p->base[1] == '\0' ? "" : p->base;
	int length = snprintf(path, PATTERN_PATH_MAX, "%s/%s", base, name);

	return length > 0 && (unsigned)length < PATTERN_PATH_MAX;
}

bool pattern_path(const struct pattern *p, const char *name, char path[PATTERN_PATH_MAX])
{
	size_t length;

	if (!pattern_unit(p, name, path))
		return false;
	length = strlen(path);
	return place(path + length, PATTERN_PATH_MAX - length, p->rest, strlen(p->rest));
}

static enum status append(struct matches *found, uint64_t step, const char *name, struct cause *why)
{
	if (found->count % 64 == 0) {
		struct match *more = realloc(found->at, (found->count + 64) * sizeof(*more));

		if (more == NULL) {
			cause_set(why, CAUSE_ERRNO, ENOMEM, "list", name);
			return STATUS_SYS;
		}
		found->at = more;
	}
	found->at[found->count].step = step;
	snprintf(found->at[found->count].name, sizeof(found->at->name), "%s", name);
	found->count++;
	return STATUS_OK;
}

enum status pattern_find(const struct pattern *p, struct matches *found, struct cause *why)
{
	enum status status = STATUS_OK;
	struct dirent *entry;
	uint64_t step;
	DIR *dir;

	*found = (struct matches){0};
	/* One path needs no look at its whole directory. */
	if (!p->numbered)
		return append(found, STEP_NONE, p->before, why);
	dir = opendir(p->base);
	if (dir == NULL) {
		if (errno == ENOENT || errno == ENOTDIR)
			return STATUS_OK;
		cause_set(why, CAUSE_ERRNO, errno, "open", p->base);
		return STATUS_SYS;
	}
	while (status == STATUS_OK && found->count < PATTERN_MATCHES_MAX &&
	    (entry = readdir(dir)) != NULL)
		if (pattern_match(p, entry->d_name, &step))
			status = append(found, step, entry->d_name, why);
	closedir(dir);
	return status;
}

void pattern_forget(struct matches *found)
{
	free(found->at);
	*found = (struct matches){0};
}
