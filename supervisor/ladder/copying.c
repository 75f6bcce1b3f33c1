/* See copying.h. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "supervisor/ladder/content.h"
#include "supervisor/ladder/copying.h"

#define PATH_BYTES 4096u
#define DEPTH_MAX 64u

static enum status failed(struct cause *why, int error, const char *what, const char *path)
{
	cause_set(why, CAUSE_ERRNO, error, what, path);
	return error == ENOSPC || error == EDQUOT ? STATUS_FULL : STATUS_SYS;
}

static int write_all(int fd, const char *bytes, size_t size)
{
	while (size > 0) {
		ssize_t written = write(fd, bytes, size);

		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			return written < 0 ? errno : ENOSPC;
		bytes += written;
		size -= (size_t)written;
	}
	return 0;
}

/* Bytes of `in` to `out` (not when it is a clone already) and into the digest.  Returns an errno. */
static int pump(int in, int out, bool cloned, uint64_t size_bytes, struct hasher *h)
{
	char *chunk = malloc(CONTENT_CHUNK_BYTES);
	uint64_t done = 0;
	int error = chunk == NULL ? ENOMEM : 0;

	while (error == 0 && done <= size_bytes) {
		ssize_t length = content_read(
		    cloned ? out : in, chunk, CONTENT_CHUNK_BYTES, (off_t)done);

		if (length < 0)
			error = errno;
		if (length <= 0)
			break;
		hasher_bytes(h, chunk, (size_t)length);
		if (!cloned)
			error = write_all(out, chunk, (size_t)length);
		done += (uint64_t)length;
	}
	free(chunk);
	return error != 0 ? error : done != size_bytes ? ESTALE : 0;
}

static enum status lay_file(const char *from, const struct listing_entry *entry, const char *to,
    struct hasher *h, struct cause *why)
{
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT},
	    {.tv_sec = entry->mtime_ns / 1000000000, .tv_nsec = entry->mtime_ns % 1000000000}};
	int in = content_open(from), out = -1, error = in < 0 ? errno : 0;

	if (error != 0)
		return failed(why, error, "read", from);
	out = open(to, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (out < 0)
		error = errno;
	if (error == 0)
		error = pump(in, out, ioctl(out, FICLONE, in) == 0, entry->size_bytes, h);
	if (error == 0 && (fchmod(out, entry->mode) != 0 || fsync(out) != 0))
		error = errno;
	if (error == 0) {
		/* The trainer's own data shall stay in memory, not our copy; and its age is that of the original. */
		(void)posix_fadvise(out, 0, 0, POSIX_FADV_DONTNEED);
		(void)futimens(out, times);
	}
	if (out >= 0)
		close(out);
	close(in);
	if (error == ESTALE) {
		cause_set(why, CAUSE_ERRNO, error, "copy", from);
		return STATUS_AGAIN;
	}
	return error == 0 ? STATUS_OK : failed(why, error, "copy", to);
}

static enum status lay_link(const char *from, const char *to, struct cause *why)
{
	char target[LISTING_TARGET_MAX];
	ssize_t length = readlink(from, target, sizeof(target) - 1);

	if (length < 0)
		return failed(why, errno, "read", from);
	target[length] = '\0';
	return symlink(target, to) == 0 ? STATUS_OK : failed(why, errno, "copy", to);
}

/*
 * A second name for the very file that was looked at.  It is opened first, so that a name that means another
 * file by now is noticed; and its bytes have to be on the disk before a kept copy is made of them.
 */
static enum status lay_hard_link(
    const char *from, const struct listing_entry *entry, const char *to, struct cause *why)
{
	int fd = content_open(from), error = 0;
	char self[64];
	struct stat st;

	if (fd < 0)
		return failed(why, errno, "read", from);
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	if (fstat(fd, &st) != 0)
		error = errno;
	else if (st.st_ino != entry->inode || st.st_dev != entry->device)
		error = ESTALE;
	else if (linkat(AT_FDCWD, self, AT_FDCWD, to, AT_SYMLINK_FOLLOW) != 0 || fsync(fd) != 0)
		error = errno;
	close(fd);
	if (error == ESTALE || error == ENOENT) {
		cause_set(why, CAUSE_ERRNO, ESTALE, "link", from);
		return STATUS_AGAIN;
	}
	if (error == EXDEV || error == EPERM || error == EMLINK || error == EOPNOTSUPP ||
	    error == EACCES) {
		cause_set(why, CAUSE_ERRNO, error, "link", from);
		return STATUS_REFUSED;
	}
	return error == 0 ? STATUS_OK : failed(why, error, "link", to);
}

static enum status lay_entry(const char *from, const struct listing_entry *entry, const char *to,
    struct hasher *h, struct cause *why)
{
	hasher_entry(h, entry);
	if (entry->type == 'd')
		return mkdir(to, 0700) == 0 ? STATUS_OK : failed(why, errno, "make", to);
	if (entry->type == 'f')
		return lay_file(from, entry, to, h, why);
	char target[LISTING_TARGET_MAX];
	ssize_t length = readlink(from, target, sizeof(target));

	if (length > 0)
		hasher_bytes(h, target, (size_t)length);
	return lay_link(from, to, why);
}

enum status copying_sync_directory(const char *path, struct cause *why)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), error = 0;

	if (fd < 0)
		return failed(why, errno, "open", path);
	if (fsync(fd) != 0)
		error = errno;
	close(fd);
	return error == 0 ? STATUS_OK : failed(why, error, "sync", path);
}

/* Directories last, from the deepest: only now can they be made read-only, as the original may be. */
static enum status finish_directories(const struct listing *l, const char *to, struct cause *why)
{
	enum status status = STATUS_OK;
	char path[PATH_BYTES];

	for (size_t i = l->count; status == STATUS_OK && i-- > 0;) {
		if (l->entries[i].type != 'd' || !listing_path(to, &l->entries[i], path, sizeof(path)))
			continue;
		status = copying_sync_directory(path, why);
		(void)chmod(path, l->entries[i].mode | 0700);
	}
	return status == STATUS_OK ? copying_sync_directory(to, why) : status;
}

enum status copying_lay(const char *from, const struct listing *l, const char *to, bool link,
    uint8_t digest[16], struct cause *why)
{
	struct hasher *h = hasher_new(l->directory);
	enum status status = h == NULL ? failed(why, ENOMEM, "copy", from) : STATUS_OK;
	char source[PATH_BYTES], target[PATH_BYTES];

	if (status == STATUS_OK && l->directory && mkdir(to, 0755) != 0)
		status = failed(why, errno, "make", to);
	for (size_t i = 0; status == STATUS_OK && i < l->count; i++) {
		const struct listing_entry *entry = &l->entries[i];

		if (!listing_path(from, entry, source, sizeof(source)) ||
		    !listing_path(to, entry, target, sizeof(target)))
			status = failed(why, ENAMETOOLONG, "copy", from);
		else if (link && entry->type == 'f')
			status = lay_hard_link(source, entry, target, why);
		else
			status = lay_entry(source, entry, target, h, why);
	}
	if (status == STATUS_OK && l->directory)
		status = finish_directories(l, to, why);
	if (status == STATUS_OK && !link)
		hasher_digest(h, digest);
	hasher_free(h);
	return status;
}

enum status copying_make_directories(const char *path, struct cause *why)
{
	char part[PATH_BYTES];

	if (snprintf(part, sizeof(part), "%s", path) >= (int)sizeof(part))
		return failed(why, ENAMETOOLONG, "make", path);
	for (char *at = part + 1;; at++) {
		char stop = *at;

		if (stop != '/' && stop != '\0')
			continue;
		*at = '\0';
		if (mkdir(part, 0777) != 0 && errno != EEXIST)
			return failed(why, errno, "make", part);
		*at = stop;
		if (stop == '\0')
			return STATUS_OK;
	}
}

static void remove_at(int parent, const char *name, unsigned depth)
{
	struct dirent *entry;
	DIR *dir;
	int fd;

	if (unlinkat(parent, name, 0) == 0 || (errno != EISDIR && errno != EPERM) || depth > DEPTH_MAX)
		return;
	fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || (dir = fdopendir(fd)) == NULL) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while ((entry = readdir(dir)) != NULL)
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			remove_at(dirfd(dir), entry->d_name, depth + 1);
	closedir(dir);
	(void)unlinkat(parent, name, AT_REMOVEDIR);
}

void copying_remove(const char *path)
{
	remove_at(AT_FDCWD, path, 0);
}
