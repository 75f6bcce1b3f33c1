/*
 * What a checkpoint consists of, at one moment: a file, or everything in a directory, sorted by name.
 *
 * The last component of the path may be a symbolic link and is followed; links inside a directory are taken as
 * links.  What is neither file, directory nor link (a FIFO, a socket, a device) is never opened: as the
 * checkpoint itself it is an error, in a directory it is left out.  Names are bytes.  H10.
 */
#ifndef LADDER_LISTING_H
#define LADDER_LISTING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "journal/status.h"

#define LISTING_MAX 100000u      /* entries */
#define LISTING_DEPTH_MAX 32u    /* directories in directories */
#define LISTING_TARGET_MAX 4096u /* bytes of a link's target, with its NUL */

struct listing_entry {
	char *name; /* relative to the directory; "" for a checkpoint that is a file */
	char type;  /* 'f', 'd' or 'l' */
	mode_t mode;
	uint64_t size_bytes; /* of a file; of a link's target; 0 for a directory */
	int64_t mtime_ns;
	uint64_t device, inode;
};

struct listing {
	struct listing_entry *entries; /* own */
	size_t count;
	uint64_t size_bytes; /* of all files */
	uint64_t file_count;
	int64_t mtime_ns; /* of the newest file */
	bool directory;
};

/*
 * Look at path.
 *
 * l		filled; to be given to listing_fini() in any case.
 * Returns	STATUS_NONE (nothing there), STATUS_BAD (no file and no directory, or too much in it), STATUS_SYS.
 */
enum status listing_take(struct listing *l, const char *path, struct cause *why) MUST_CHECK;
void listing_fini(struct listing *l);

/* Names, sizes, times and inodes in 16 bytes: another value when something was written or replaced. */
void listing_signature(const struct listing *l, uint8_t signature[16]);

/* The entry of that name, NULL when there is none. */
const struct listing_entry *listing_find(const struct listing *l, const char *name);

/* path of an entry: "path" or "path/name".  False: too long. */
bool listing_path(const char *path, const struct listing_entry *entry, char *out, size_t size);

#endif
