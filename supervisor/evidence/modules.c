/* Which file an address lies in: see modules.h. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "supervisor/evidence/modules.h"
#include "supervisor/evidence/sheet.h"

/* One line of /proc/PID/maps: start-end perms offset dev inode path. */
static bool parse(char *line, struct module *out, char path[static 4096])
{
	char permissions[5] = "";
	const char *name;
	int path_at = 0;

	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %*s %*s %*s %n", &out->start, &out->end,
		permissions, &path_at) < 3 ||
	    path_at == 0)
		return false;
	line[strcspn(line, "\n")] = '\0';
	snprintf(path, 4096, "%s", line + path_at);
	name = strrchr(path, '/');
	name = name != NULL ? name + 1 : path;
	sheet_escape(out->name, sizeof(out->name), name, strlen(name));
	out->executable = permissions[2] == 'x';
	out->base = out->start;
	return true;
}

static bool append(struct modules *m, size_t *room, const struct module *one)
{
	if (m->count == *room) {
		size_t more = *room == 0 ? 256 : *room * 2;
		struct module *list = realloc(m->list, more * sizeof(*list));
		if (list == NULL)
			return false;
		m->list = list;
		*room = more;
	}
	m->list[m->count++] = *one;
	return true;
}

int modules_init(struct modules *m, pid_t pid)
{
	char file[64], path[4096], previous[4096] = "", *line = NULL;
	size_t line_size = 0, room = 0;
	struct module one;
	int result = 0;
	FILE *in;

	*m = (struct modules){0};
	snprintf(file, sizeof(file), "/proc/%d/maps", (int)pid);
	in = fopen(file, "re");
	if (in == NULL)
		return -errno;
	while (m->count < MODULES_MAX && getline(&line, &line_size, in) >= 0) {
		if (!parse(line, &one, path))
			continue;
		/* A file's segments follow each other; the first one's start is where it is loaded. */
		if (path[0] == '/' && strcmp(path, previous) == 0 && m->count > 0)
			one.base = m->list[m->count - 1].base;
		if (!append(m, &room, &one)) {
			result = -ENOMEM;
			break;
		}
		/* Zero-filled memory may lie between two segments of a file. */
		if (path[0] != '\0')
			memcpy(previous, path, sizeof(previous));
		else
			m->list[m->count - 1].base = m->count > 1 && previous[0] == '/'
			    ? m->list[m->count - 2].base
			    : one.start;
	}
	free(line);
	fclose(in);
	if (result != 0)
		modules_fini(m);
	return result;
}

void modules_fini(struct modules *m)
{
	free(m->list);
	*m = (struct modules){0};
}

const struct module *modules_find(const struct modules *m, uint64_t address)
{
	size_t low = 0, high = m->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (address < m->list[middle].start)
			high = middle;
		else if (address >= m->list[middle].end)
			low = middle + 1;
		else
			return &m->list[middle];
	}
	return NULL;
}
