/* See oom.h. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "supervisor/agent/oom.h"

#define MARK_NS 10000000000ull
#define TEXT_MAX 65536u
#define VMSTAT "/proc/vmstat"

/* --- texts ----------------------------------------------------------------------------------------------- */

bool oom_parse(const char *text, uint64_t *count_out)
{
	static const char key[] = "oom_kill ";
	const char *line = text;

	for (; line != NULL; line = strchr(line, '\n'), line = line != NULL ? line + 1 : NULL) {
		char *end;

		if (strncmp(line, key, sizeof(key) - 1) != 0)
			continue;
		const char *digits = line + sizeof(key) - 1;
		unsigned long long count = strtoull(digits, &end, 10);

		if (*digits < '0' || *digits > '9' || (*end != '\n' && *end != '\0'))
			return false;
		*count_out = count;
		return true;
	}
	return false;
}

/* Copy the next word of a line, which ends at a space or at the line's end; false when there is none. */
static bool take_word(const char **at, char *out, size_t size)
{
	size_t length;

	*at += strspn(*at, " ");
	length = strcspn(*at, " \n");
	if (length == 0 || length >= size)
		return false;
	memcpy(out, *at, length);
	out[length] = '\0';
	*at += length;
	return true;
}

static const char *next_line(const char *line)
{
	const char *end = strchr(line, '\n');

	return end != NULL ? end + 1 : line + strlen(line);
}

/* Whether a list with commas in between has the word. */
static bool lists(const char *list, size_t length, const char *word)
{
	size_t wanted = strlen(word);

	for (const char *at = list, *end = list + length; at < end;) {
		const char *comma = memchr(at, ',', (size_t)(end - at));
		size_t size = (size_t)((comma != NULL ? comma : end) - at);

		if (size == wanted && memcmp(at, word, wanted) == 0)
			return true;
		at += size + 1;
	}
	return false;
}

/* ID:CONTROLLERS:PATH; version 2 has the ID 0 and no controllers. */
static bool find_group(const char *groups, unsigned version, char out[OOM_PATH_MAX])
{
	for (const char *line = groups; *line != '\0'; line = next_line(line)) {
		size_t length = strcspn(line, "\n");
		const char *list = memchr(line, ':', length);
		const char *path = list != NULL
		    ? memchr(list + 1, ':', length - (size_t)(list + 1 - line))
		    : NULL;

		if (path == NULL || (size_t)(line + length - path) > OOM_PATH_MAX)
			continue;
		bool second = list == line + 1 && list == path - 1 && line[0] == '0';
		bool fits = version == 2 ? second
					 : lists(list + 1, (size_t)(path - list - 1), "memory");

		if (!fits)
			continue;
		memcpy(out, path + 1, (size_t)(line + length - path - 1));
		out[line + length - path - 1] = '\0';
		return out[0] == '/';
	}
	return false;
}

/* ID PARENT DEVICE ROOT POINT OPTIONS [MORE...] - TYPE SOURCE OPTIONS; a name with an escape in it is not ours. */
static bool take_mount(const char *line, unsigned version, char *root, char *point)
{
	char word[OOM_PATH_MAX];
	const char *at = line;

	for (unsigned i = 0; i < 3; i++)
		if (!take_word(&at, word, sizeof(word)))
			return false;
	if (!take_word(&at, root, OOM_PATH_MAX) || !take_word(&at, point, OOM_PATH_MAX))
		return false;
	do {
		if (!take_word(&at, word, sizeof(word)))
			return false;
	} while (strcmp(word, "-") != 0);
	if (!take_word(&at, word, sizeof(word)) ||
	    strcmp(word, version == 2 ? "cgroup2" : "cgroup") != 0)
		return false;
	if (version == 2)
		return true;
	/* The source, then the controllers among the options. */
	for (unsigned i = 0; i < 2; i++)
		if (!take_word(&at, word, sizeof(word)))
			return false;
	return lists(word, strlen(word), "memory");
}

bool oom_group_dir(const char *groups, const char *mounts, unsigned version, char out[OOM_PATH_MAX],
    size_t *top_bytes)
{
	char group[OOM_PATH_MAX], root[OOM_PATH_MAX], point[OOM_PATH_MAX];
	const char *below;
	int length;

	if (!find_group(groups, version, group))
		return false;
	for (const char *line = mounts; *line != '\0'; line = next_line(line)) {
		if (!take_mount(line, version, root, point))
			continue;
		/* In a container the group's own directory may be what is mounted. */
		size_t above = strcmp(root, "/") == 0 ? 0 : strlen(root);

		if (strncmp(group, root, above) == 0 && (group[above] == '/' || group[above] == '\0'))
			below = group + above;
		else
			below = "";
		if (strcmp(below, "/") == 0)
			below = "";
		length = snprintf(out, OOM_PATH_MAX, "%s%s", point, below);
		*top_bytes = strlen(point);
		return length > 0 && (size_t)length < OOM_PATH_MAX;
	}
	return false;
}

/* --- files ----------------------------------------------------------------------------------------------- */

/* False when it cannot be read, or not whole. */
static bool read_text(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t used = 0;
	ssize_t length = 0;

	if (fd < 0)
		return false;
	while (used + 1 < size && (length = read(fd, text + used, size - 1 - used)) > 0)
		used += (size_t)length;
	close(fd);
	text[used] = '\0';
	return length == 0;
}

static bool read_count(const char *path, uint64_t *count_out)
{
	char text[16384];

	return path[0] != '\0' && read_text(path, text, sizeof(text)) && oom_parse(text, count_out);
}

static struct oom_count read_counts(const struct oom *oom)
{
	struct oom_count count = {0};

	(void)read_count(VMSTAT, &count.machine);
	(void)read_count(oom->group_path, &count.group);
	return count;
}

/* The nearest group from our own upwards whose count covers us. */
static bool find_file(struct oom *oom, const char *groups, const char *mounts, unsigned version)
{
	const char *name = version == 2 ? "/memory.events" : "/memory.oom_control";
	char dir[OOM_PATH_MAX];
	uint64_t count;
	size_t top;

	if (!oom_group_dir(groups, mounts, version, dir, &top))
		return false;
	for (;;) {
		int length = snprintf(oom->group_path, OOM_PATH_MAX, "%s%s", dir, name);
		char *slash = strrchr(dir, '/');

		if ((size_t)length < OOM_PATH_MAX && read_count(oom->group_path, &count))
			return true;
		oom->group_path[0] = '\0';
		/* Version 1 counts in the victim's own group only. */
		if (version == 1 || slash == NULL || (size_t)(slash - dir) < top)
			return false;
		*slash = '\0';
	}
}

void oom_init(struct oom *oom)
{
	char *groups = malloc(TEXT_MAX), *mounts = malloc(TEXT_MAX);

	memset(oom, 0, sizeof(*oom));
	if (groups != NULL && mounts != NULL && read_text("/proc/self/cgroup", groups, TEXT_MAX) &&
	    read_text("/proc/self/mountinfo", mounts, TEXT_MAX) && !find_file(oom, groups, mounts, 2))
		(void)find_file(oom, groups, mounts, 1);
	free(groups);
	free(mounts);
	oom->marks[0] = oom->marks[1] = read_counts(oom);
}

void oom_mark(struct oom *oom, uint64_t now_ns)
{
	if (now_ns - oom->mark_ns < MARK_NS)
		return;
	oom->mark_ns = now_ns;
	oom->marks[0] = oom->marks[1];
	oom->marks[1] = read_counts(oom);
}

enum oom_kill oom_suspect(const struct oom *oom)
{
	struct oom_count now = read_counts(oom);

	if (oom->group_path[0] != '\0')
		return now.group > oom->marks[0].group ? OOM_CERTAIN : OOM_NONE;
	return now.machine > oom->marks[0].machine ? OOM_LIKELY : OOM_NONE;
}
