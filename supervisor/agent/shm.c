/* See shm.h. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "supervisor/agent/shm.h"

void shm_channel_path(const struct shm *shm, uint32_t attempt, uint32_t rank, char out[SHM_PATH_MAX])
{
	snprintf(out, SHM_PATH_MAX, "%s/holdfast-%.16s-%u-%u.channel", shm->dir, shm->run_hex,
	    attempt, rank);
}

void shm_notify_path(const struct shm *shm, uint32_t attempt, uint32_t rank, char out[SHM_PATH_MAX])
{
	snprintf(out, SHM_PATH_MAX, "%s/holdfast-%.16s-%u-%u.notify", shm->dir, shm->run_hex,
	    attempt, rank);
}

void shm_snapshot_path(const struct shm *shm, uint32_t rank, char out[SHM_PATH_MAX])
{
	snprintf(out, SHM_PATH_MAX, "%s/holdfast-%.16s-rank-%u.snapshot", shm->dir, shm->run_hex, rank);
}

/* What follows the run's name in a file's, or NULL when it is not one of this run. */
static const char *behind_run(const struct shm *shm, const char *name)
{
	char prefix[64];
	int length = snprintf(prefix, sizeof(prefix), "holdfast-%.16s-", shm->run_hex);

	return strncmp(name, prefix, (size_t)length) == 0 ? name + length : NULL;
}

void shm_each_channel(const struct shm *shm, shm_visit *on_channel, void *context)
{
	DIR *dir = opendir(shm->dir);

	for (struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;) {
		const char *rest = behind_run(shm, e->d_name);
		char path[SHM_PATH_MAX], end[16];
		unsigned attempt, rank;

		if (rest == NULL || sscanf(rest, "%u-%u.%15s", &attempt, &rank, end) != 3 ||
		    strcmp(end, "channel") != 0)
			continue;
		snprintf(path, sizeof(path), "%s/%.200s", shm->dir, e->d_name);
		on_channel(context, attempt, rank, path);
	}
	if (dir != NULL)
		closedir(dir);
}

static void remove_where(const struct shm *shm, uint32_t attempt, bool all)
{
	DIR *dir = opendir(shm->dir);

	for (struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;) {
		const char *rest = behind_run(shm, e->d_name);
		char *end;

		if (rest == NULL)
			continue;
		unsigned long of = strtoul(rest, &end, 10);
		bool numbered = end != rest;
		bool channel = strstr(rest, ".channel") != NULL;

		if (all || (numbered && of <= attempt && !channel))
			unlinkat(dirfd(dir), e->d_name, 0);
	}
	if (dir != NULL)
		closedir(dir);
}

void shm_remove_attempts(const struct shm *shm, uint32_t attempt)
{
	remove_where(shm, attempt, false);
}

void shm_remove_all(const struct shm *shm)
{
	remove_where(shm, 0, true);
}
