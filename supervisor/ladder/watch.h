/*
 * Notices of what happens in directories: inotify where the file system gives any, else nothing, and the caller
 * looks for itself.
 *
 * A notice is a hint that something is worth a look, never the truth.  The set of directories is declared anew as
 * often as one likes (watch_begin, watch_want…, watch_end): a directory that was deleted, renamed or made again
 * under the same name is found by that.
 */
#ifndef LADDER_WATCH_H
#define LADDER_WATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WATCH_MAX 512u

struct watch_place {
	int number; /* inotify's */
	char *path; /* own */
	bool wanted;
};

struct watch {
	int fd;       /* readable when there are notices; -1: there will never be any */
	bool polling; /* it cannot be relied on: the file system may change without a notice */
	struct watch_place places[WATCH_MAX];
	size_t count;
	bool fresh; /* set by watch_want() for a directory that was not watched before */
};

enum watch_notice {
	WATCH_WRITTEN = 1, /* bytes were written, or it was cut */
	WATCH_CLOSED,      /* closed by one who had it open for writing */
	WATCH_MOVED_IN,    /* it got this name by a rename */
	WATCH_CHANGED,     /* made, removed, renamed away */
	WATCH_LOST,        /* notices were lost: look at everything; path is NULL */
};

/* path: borrowed for the call. */
typedef void watch_seen(void *context, enum watch_notice notice, const char *path);

/* Watches nothing yet; w is the caller's. */
void watch_init(struct watch *w);
void watch_fini(struct watch *w);

/* Clears fresh. */
void watch_begin(struct watch *w);
/* dir: borrowed.  False: it is not watched (not there, no directory, too many). */
bool watch_want(struct watch *w, const char *dir);
void watch_end(struct watch *w);

/* Everything that is there by now, without waiting. */
void watch_read(struct watch *w, watch_seen *seen, void *context);

#endif
