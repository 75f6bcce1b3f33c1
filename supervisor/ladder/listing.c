/* See listing.h. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "supervisor/ladder/listing.h"

#define ROOM_STEP 64u
#define PATH_BYTES 4096u

static enum status failed(struct cause *why, int error, const char *path)
{
	cause_set(why, CAUSE_ERRNO, error, "look at", path);
	return error == ENOENT || error == ENOTDIR ? STATUS_NONE : STATUS_SYS;
}

static enum status refused(struct cause *why, int error, const char *path)
{
	cause_set(why, CAUSE_ERRNO, error, "look at", path);
	return STATUS_BAD;
}

static int64_t time_ns(const struct timespec *at)
{
	return (int64_t)at->tv_sec * 1000000000 + at->tv_nsec;
}

static enum status add(struct listing *l, const char *name, const struct stat *st, struct cause *why)
{
	struct listing_entry *entry;

	if (l->count >= LISTING_MAX)
		return refused(why, E2BIG, name);
	if (l->count % ROOM_STEP == 0) {
		entry = realloc(l->entries, (l->count + ROOM_STEP) * sizeof(*entry));
		if (entry == NULL)
			return failed(why, ENOMEM, name);
		l->entries = entry;
	}
	entry = &l->entries[l->count];
	*entry = (struct listing_entry){.name = strdup(name),
	    .type = S_ISREG(st->st_mode) ? 'f'
		: S_ISDIR(st->st_mode)   ? 'd'
					 : 'l',
	    .mode = st->st_mode & 07777,
	    .mtime_ns = time_ns(&st->st_mtim),
	    .device = st->st_dev,
	    .inode = st->st_ino};
	if (entry->name == NULL)
		return failed(why, ENOMEM, name);
	l->count++;
	if (entry->type != 'd')
		entry->size_bytes = (uint64_t)st->st_size;
	if (entry->type != 'f')
		return STATUS_OK;
	l->file_count++;
	l->size_bytes += entry->size_bytes;
	if (entry->mtime_ns > l->mtime_ns)
		l->mtime_ns = entry->mtime_ns;
	return STATUS_OK;
}

/* fd: taken.  prefix: of the names, "" or "more/". */
static enum status walk(
    struct listing *l, int fd, const char *prefix, unsigned depth, struct cause *why)
{
	enum status status = STATUS_OK;
	char name[PATH_BYTES];
	struct dirent *entry;
	DIR *dir = fdopendir(fd);

	if (dir == NULL) {
		status = failed(why, errno, prefix);
		close(fd);
		return status;
	}
	while (status == STATUS_OK && (entry = readdir(dir)) != NULL) {
		struct stat st;

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if ((size_t)snprintf(name, sizeof(name), "%s%s", prefix, entry->d_name) >=
		    sizeof(name) - 1) {
			status = refused(why, ENAMETOOLONG, entry->d_name);
		} else if (fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
			/* Gone while we looked: so it is not part of it. */
			if (errno != ENOENT)
				status = failed(why, errno, name);
		} else if (S_ISREG(st.st_mode) || S_ISLNK(st.st_mode)) {
			status = add(l, name, &st, why);
		} else if (S_ISDIR(st.st_mode)) {
			status = add(l, name, &st, why);
			int inner = status != STATUS_OK
			    ? -1
			    : openat(dirfd(dir), entry->d_name,
				  O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

			if (status == STATUS_OK && inner < 0) {
				status = failed(why, errno, name);
			} else if (status == STATUS_OK && depth >= LISTING_DEPTH_MAX) {
				close(inner);
				status = refused(why, ELOOP, name);
			} else if (status == STATUS_OK) {
				memcpy(name + strlen(name), "/", 2);
				status = walk(l, inner, name, depth + 1, why);
			}
		}
	}
	closedir(dir);
	return status;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct listing_entry *)a)->name, ((const struct listing_entry *)b)->name);
}

enum status listing_take(struct listing *l, const char *path, struct cause *why)
{
	enum status status;
	struct stat st;
	int fd;

	*l = (struct listing){0};
	if (stat(path, &st) != 0)
		return failed(why, errno, path);
	if (S_ISREG(st.st_mode))
		return add(l, "", &st, why);
	if (!S_ISDIR(st.st_mode))
		return refused(why, EINVAL, path);
	l->directory = true;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return failed(why, errno, path);
	status = walk(l, fd, "", 0, why);
	if (l->count > 1)
		qsort(l->entries, l->count, sizeof(*l->entries), by_name);
	return status;
}

void listing_fini(struct listing *l)
{
	for (size_t i = 0; i < l->count; i++)
		free(l->entries[i].name);
	free(l->entries);
	*l = (struct listing){0};
}

void listing_signature(const struct listing *l, uint8_t signature[16])
{
	XXH3_state_t state;
	XXH128_canonical_t canonical;

	XXH3_INITSTATE(&state);
	XXH3_128bits_reset(&state);
	for (size_t i = 0; i < l->count; i++) {
		const struct listing_entry *entry = &l->entries[i];
		/* A directory's and a link's own times and numbers say nothing about the checkpoint. */
		bool file = entry->type == 'f';
		uint64_t words[5] = {(unsigned char)entry->type, entry->size_bytes,
		    file ? (uint64_t)entry->mtime_ns : 0, file ? entry->device : 0,
		    file ? entry->inode : 0};

		XXH3_128bits_update(&state, entry->name, strlen(entry->name) + 1);
		XXH3_128bits_update(&state, words, sizeof(words));
	}
	XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(&state));
	memcpy(signature, canonical.digest, 16);
}

const struct listing_entry *listing_find(const struct listing *l, const char *name)
{
	for (size_t i = 0; i < l->count; i++)
		if (strcmp(l->entries[i].name, name) == 0)
			return &l->entries[i];
	return NULL;
}

bool listing_path(const char *path, const struct listing_entry *entry, char *out, size_t size)
{
	int length = entry->name[0] == '\0' ? snprintf(out, size, "%s", path)
					    : snprintf(out, size, "%s/%s", path, entry->name);

	return length >= 0 && (size_t)length < size;
}
