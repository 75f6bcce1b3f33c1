/* See writers.h. */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "supervisor/ladder/writers.h"

/* The line "flags:\t0100001" of /proc/PID/fdinfo/FD: octal, as in open(2). */
static bool opened_for_writing(const char *pid, const char *fd)
{
	char path[128], text[512], *flags;
	ssize_t length;
	int file;

	snprintf(path, sizeof(path), "/proc/%.20s/fdinfo/%.20s", pid, fd);
	file = open(path, O_RDONLY | O_CLOEXEC);
	if (file < 0)
		return false;
	length = read(file, text, sizeof(text) - 1);
	close(file);
	if (length <= 0)
		return false;
	text[length] = '\0';
	flags = strstr(text, "flags:");
	return flags != NULL && (strtoul(flags + strlen("flags:"), NULL, 8) & O_ACCMODE) != O_RDONLY;
}

static bool process_writes(const char *pid, const char *wanted, size_t length)
{
	char path[PATH_MAX], target[PATH_MAX];
	struct dirent *entry;
	bool found = false;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%.20s/fd", pid);
	dir = opendir(path);
	while (dir != NULL && !found && (entry = readdir(dir)) != NULL) {
		ssize_t size = readlinkat(dirfd(dir), entry->d_name, target, sizeof(target) - 1);

		if (size < (ssize_t)length || memcmp(target, wanted, length) != 0)
			continue;
		target[size] = '\0';
		found = (target[length] == '\0' || target[length] == '/') &&
		    opened_for_writing(pid, entry->d_name);
	}
	if (dir != NULL)
		closedir(dir);
	return found;
}

bool writers_at(const char *path)
{
	char real[PATH_MAX], self[24];
	struct dirent *entry;
	bool found = false;
	DIR *dir;

	/* /proc knows files by the names they have without symbolic links. */
	if (realpath(path, real) == NULL)
		return false;
	snprintf(self, sizeof(self), "%d", (int)getpid());
	dir = opendir("/proc");
	while (dir != NULL && !found && (entry = readdir(dir)) != NULL)
		found = entry->d_name[0] >= '1' && entry->d_name[0] <= '9' &&
		    strcmp(entry->d_name, self) != 0 &&
		    process_writes(entry->d_name, real, strlen(real));
	if (dir != NULL)
		closedir(dir);
	return found;
}
