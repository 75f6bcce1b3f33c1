/*
 * A file that grows, read to its end again and again.
 *
 * One that is replaced or cut short is read from its beginning.  What stood in it when it was first looked at is of
 * before, and not given out.  A file that is no regular one, or cannot be read, is one that is not there.
 */
#ifndef AGENT_FOLLOW_H
#define AGENT_FOLLOW_H

#include <stddef.h>
#include <stdint.h>

struct follow {
	const char *path; /* borrowed */
	int fd;           /* -1: not open */
	uint64_t device, inode,
	    offset; /* of the file, and how far it was read; inode 0: none was seen yet */
	uint64_t looks;
};

typedef void follow_take(void *context, const char *bytes, size_t length);

/* path is borrowed.  To go on where another left off, device, inode and offset are then set to what it had. */
void follow_init(struct follow *f, const char *path);
void follow_fini(struct follow *f);

/* Give out what is new, a mebibyte at most: returns how much it was. */
size_t follow_look(struct follow *f, follow_take *take, void *context);

#endif
