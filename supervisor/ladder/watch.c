/* See watch.h. */
#include <errno.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "supervisor/ladder/watch.h"

#define INTEREST                                                                                   \
	(IN_MODIFY | IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_CREATE | IN_DELETE |        \
	    IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR)
#define READS_MAX 64 /* a flood is cut here; the rest is there at the next call */

/* File systems on which others, on other machines, write without a notice here. */
static bool silent(const char *dir)
{
	static const unsigned long remote[] = {NFS_SUPER_MAGIC, SMB_SUPER_MAGIC, CIFS_SUPER_MAGIC,
	    SMB2_SUPER_MAGIC, FUSE_SUPER_MAGIC, CEPH_SUPER_MAGIC, AFS_SUPER_MAGIC, V9FS_MAGIC,
	    CODA_SUPER_MAGIC, 0x0BD00BD0 /* Lustre */, 0x47504653 /* GPFS */, 0x19830326 /* BeeGFS */};
	struct statfs fs;

	if (statfs(dir, &fs) != 0)
		return false;
	for (size_t i = 0; i < sizeof(remote) / sizeof(remote[0]); i++)
		if ((unsigned long)(unsigned int)fs.f_type == remote[i])
			return true;
	return false;
}

void watch_init(struct watch *w)
{
	*w = (struct watch){.fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC)};
	w->polling = w->fd < 0;
}

void watch_fini(struct watch *w)
{
	for (size_t i = 0; i < w->count; i++)
		free(w->places[i].path);
	w->count = 0;
	if (w->fd >= 0)
		close(w->fd);
	w->fd = -1;
}

static struct watch_place *find(struct watch *w, int number)
{
	for (size_t i = 0; i < w->count; i++)
		if (w->places[i].number == number)
			return &w->places[i];
	return NULL;
}

void watch_begin(struct watch *w)
{
	w->fresh = false;
	for (size_t i = 0; i < w->count; i++)
		w->places[i].wanted = false;
}

bool watch_want(struct watch *w, const char *dir)
{
	struct watch_place *place;
	int number;

	if (silent(dir))
		w->polling = true;
	if (w->fd < 0)
		return false;
	number = inotify_add_watch(w->fd, dir, INTEREST);
	if (number < 0) {
		/* The user's watches are used up: there will be no notices from here. */
		if (errno == ENOSPC || errno == ENOMEM)
			w->polling = true;
		return false;
	}
	place = find(w, number);
	if (place == NULL && w->count < WATCH_MAX) {
		place = &w->places[w->count++];
		*place = (struct watch_place){.number = number};
		w->fresh = true;
	}
	if (place == NULL) {
		w->polling = true;
		(void)inotify_rm_watch(w->fd, number);
		return false;
	}
	/* The same directory may have another name by now. */
	if (place->path == NULL || strcmp(place->path, dir) != 0) {
		free(place->path);
		place->path = strdup(dir);
	}
	place->wanted = place->path != NULL;
	return place->wanted;
}

void watch_end(struct watch *w)
{
	for (size_t i = w->count; i-- > 0;) {
		if (w->places[i].wanted)
			continue;
		(void)inotify_rm_watch(w->fd, w->places[i].number);
		free(w->places[i].path);
		w->places[i] = w->places[--w->count];
	}
}

static void tell(struct watch *w, const struct inotify_event *event, watch_seen *seen, void *context)
{
	const struct watch_place *place = find(w, event->wd);
	char path[PATH_MAX];
	int length;

	if ((event->mask & IN_Q_OVERFLOW) != 0) {
		seen(context, WATCH_LOST, NULL);
		return;
	}
	if (place == NULL)
		return;
	length = event->len == 0 ? snprintf(path, sizeof(path), "%s", place->path)
				 : snprintf(path, sizeof(path), "%s/%s",
				       place->path[1] == '\0' ? "" : place->path, event->name);
	if (length < 0 || (size_t)length >= sizeof(path))
		seen(context, WATCH_LOST, NULL);
	else if ((event->mask & IN_MOVED_TO) != 0)
		seen(context, WATCH_MOVED_IN, path);
	else if ((event->mask & IN_CLOSE_WRITE) != 0)
		seen(context, WATCH_CLOSED, path);
	else if ((event->mask & IN_MODIFY) != 0)
		seen(context, WATCH_WRITTEN, path);
	else
		seen(context, WATCH_CHANGED, path);
}

void watch_read(struct watch *w, watch_seen *seen, void *context)
{
	_Alignas(struct inotify_event) char bytes[65536];

	for (int i = 0; i < READS_MAX && w->fd >= 0; i++) {
		ssize_t length = read(w->fd, bytes, sizeof(bytes));

		if (length <= 0)
			return;
		for (ssize_t at = 0; at < length;) {
			const struct inotify_event *event = (const void *)(bytes + at);

			tell(w, event, seen, context);
			at += (ssize_t)sizeof(*event) + event->len;
		}
	}
}
