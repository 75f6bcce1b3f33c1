/*
 * Trees of files laid down somewhere else, durably, and removed again.
 *
 * Nothing here writes to, or through a link to, what it copies from.
 */
#ifndef LADDER_COPYING_H
#define LADDER_COPYING_H

#include <stdbool.h>

#include "journal/status.h"
#include "supervisor/ladder/listing.h"

/*
 * Lay what `l` lists at `from` down at `to`, which must not exist, and wait until it is on the disk.
 *
 * link		hard links instead of copies; else reflinks where the file system has them, else copies.
 * digest	of the bytes that were laid down; may be NULL with link only.
 * Returns	STATUS_REFUSED (hard links are not possible here: copy), STATUS_AGAIN (changed while it was read),
 *		STATUS_FULL (no space, no quota: try again when there is), STATUS_SYS.  What was laid down until then
 *		stays: copying_remove() it.
 */
enum status copying_lay(const char *from, const struct listing *l, const char *to, bool link,
    uint8_t digest[16], struct cause *why) MUST_CHECK;

/* Wait until a directory's entries are on the disk.  STATUS_SYS. */
enum status copying_sync_directory(const char *path, struct cause *why) MUST_CHECK;

/* mkdir -p.  STATUS_FULL, STATUS_SYS. */
enum status copying_make_directories(const char *path, struct cause *why) MUST_CHECK;

/* Remove a file or a directory with all that is in it; links are removed, never followed.  Best effort. */
void copying_remove(const char *path);

#endif
