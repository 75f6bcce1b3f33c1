/* See rundir.h. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "supervisor/cli/cli.h"
#include "supervisor/cli/rundir.h"

#define BALLAST_BYTES (1 << 20)
#define LOCK_TRIES 8

static const char *const folders[RUNDIR_FOLDERS] = {"journal", "logs", "checkpoints"};

static const char *const files[] = {"lock", "ballast", "control.sock"};
#define FILES (sizeof(files) / sizeof(files[0]))

bool rundir_journal(const char *dir, char *out)
{
	int length = snprintf(out, RUNDIR_PATH, "%s/journal", dir);

	return length > 0 && length < RUNDIR_PATH;
}

int rundir_holder(const char *dir)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	char path[RUNDIR_PATH + 8];
	int fd, result;

	snprintf(path, sizeof(path), "%s/lock", dir);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	/* A read lock would do to ask, too; asking takes nothing. */
	result = fcntl(fd, F_GETLK, &lock);
	close(fd);
	if (result != 0)
		return -1;
	return lock.l_type == F_UNLCK ? 0 : lock.l_pid;
}

static int refuse(int code, const char *dir, const char *what, const char *remedy)
{
	fprintf(stderr, "holdfast: %s: %s%s%s\n", dir, what, remedy[0] != '\0' ? "; " : "", remedy);
	return code;
}

static int refuse_errno(const char *dir, const char *doing)
{
	int code = errno == ENOSPC || errno == EDQUOT ? CLI_EXIT_AGAIN : CLI_EXIT_CONFIG;
	const char *remedy = code == CLI_EXIT_AGAIN
	    ? "make room, then run the same command again"
	    : "name a directory that can be written to with --dir";

	fprintf(stderr, "holdfast: %s: %s: %s; %s\n", dir, doing, strerror(errno), remedy);
	return code;
}

static bool known(const char *name)
{
	for (size_t i = 0; i < RUNDIR_FOLDERS; i++)
		if (strcmp(name, folders[i]) == 0)
			return true;
	for (size_t i = 0; i < FILES; i++)
		if (strcmp(name, files[i]) == 0)
			return true;
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* A directory of other things is not taken for a run's. */
static int check_contents(const char *dir)
{
	DIR *d = opendir(dir);
	int code = 0;

	if (d == NULL)
		return refuse_errno(dir, "cannot be read");
	for (struct dirent *e; code == 0 && (e = readdir(d)) != NULL;)
		if (!known(e->d_name)) {
			char what[RUNDIR_PATH];

			snprintf(what, sizeof(what), "holds something else (%.200s)", e->d_name);
			code = refuse(CLI_EXIT_CONFIG, dir, what,
			    "name an empty or a new directory with --dir");
		}
	closedir(d);
	return code;
}

/* Open the lock file, making it when there is none. */
static int open_lock(struct rundir *rd, const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

	rd->made_lock = fd >= 0;
	if (fd < 0 && errno == EEXIST)
		fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	return fd;
}

static int take_lock(struct rundir *rd)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	char path[RUNDIR_PATH + 8], what[80];
	struct stat mine, named;

	snprintf(path, sizeof(path), "%s/lock", rd->path);
	for (int tries = 0; tries < LOCK_TRIES; tries++) {
		int fd = open_lock(rd, path);

		if (fd < 0)
			return refuse_errno(rd->path, "cannot make the lock file");
		if (fcntl(fd, F_SETLK, &lock) != 0) {
			int error = errno;
			int pid = rundir_holder(rd->path);

			rd->made_lock = false; /* another's now */
			close(fd);
			errno = error;
			if (error != EACCES && error != EAGAIN)
				return refuse_errno(rd->path, "cannot be locked");
			snprintf(what, sizeof(what), "is in use by a live run, pid %d", pid);
			return refuse(CLI_EXIT_AGAIN, rd->path, what,
			    "wait for it, or name another with --dir");
		}
		/* One that was refused may have removed the file between our opening and our lock. */
		if (fstat(fd, &mine) == 0 && stat(path, &named) == 0 &&
		    mine.st_ino == named.st_ino && mine.st_dev == named.st_dev) {
			rd->lock_fd = fd;
			return 0;
		}
		close(fd);
	}
	return refuse(CLI_EXIT_AGAIN, rd->path, "others start and end runs here", "try again");
}

static int make_ballast(struct rundir *rd, const char *path)
{
	struct stat st;
	int fd, error;

	if (stat(path, &st) == 0 && st.st_blocks * 512 >= BALLAST_BYTES)
		return 0;
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return refuse_errno(rd->path, "cannot make a file");
	rd->made_ballast = true;
	error = posix_fallocate(fd, 0, BALLAST_BYTES);
	close(fd);
	if (error == 0)
		return 0;
	errno = error;
	return refuse_errno(rd->path, "no room for 1 MiB");
}

int rundir_fill(struct rundir *rd)
{
	char path[RUNDIR_PATH + 32];
	int code;

	snprintf(path, sizeof(path), "%s/ballast", rd->path);
	code = make_ballast(rd, path);
	for (size_t i = 0; i < RUNDIR_FOLDERS && code == 0; i++) {
		snprintf(path, sizeof(path), "%s/%s", rd->path, folders[i]);
		rd->made_folder[i] = mkdir(path, 0700) == 0;
		if (!rd->made_folder[i] && errno != EEXIST)
			code = refuse_errno(rd->path, "cannot make a folder");
	}
	return code;
}

void rundir_withdraw(struct rundir *rd)
{
	char path[RUNDIR_PATH + 32];

	for (size_t i = 0; i < RUNDIR_FOLDERS; i++) {
		snprintf(path, sizeof(path), "%s/%s", rd->path, folders[i]);
		if (rd->made_folder[i])
			(void)rmdir(path);
	}
	snprintf(path, sizeof(path), "%s/ballast", rd->path);
	if (rd->made_ballast)
		(void)unlink(path);
	/* Removed while it is still locked, so that nobody locks a file that is about to go. */
	snprintf(path, sizeof(path), "%s/lock", rd->path);
	if (rd->made_lock)
		(void)unlink(path);
	if (rd->lock_fd >= 0)
		close(rd->lock_fd);
	if (rd->made_dir)
		(void)rmdir(rd->path);
	*rd = (struct rundir){.lock_fd = -1};
}

int rundir_take(struct rundir *rd, const char *dir)
{
	char *absolute;
	int code = 0;

	*rd = (struct rundir){.lock_fd = -1, .made_dir = mkdir(dir, 0700) == 0};
	if (!rd->made_dir && errno != EEXIST)
		return refuse_errno(dir, "cannot be made");
	absolute = realpath(dir, NULL);
	if (absolute == NULL || strlen(absolute) + 64 > RUNDIR_PATH) {
		code = refuse(CLI_EXIT_CONFIG, dir, "its path is too long or cannot be followed",
		    "name another with --dir");
		if (rd->made_dir)
			(void)rmdir(dir);
		free(absolute);
		return code;
	}
	snprintf(rd->path, sizeof(rd->path), "%s", absolute);
	free(absolute);
	if (!rd->made_dir)
		code = check_contents(rd->path);
	if (code == 0)
		code = take_lock(rd);
	if (code != 0)
		rundir_withdraw(rd);
	return code;
}
