/*
 * .kept.json: what a kept copy is, beside it.
 *
 * An object: version 1, ordinal, step (null: none), name, original, size_bytes, file_count, mtime_ns, flags (enum
 * keeper_flag: DIRECTORY, LINKED, IN_PLACE, UNCHECKED; MANIFEST_RENAMED),
 * finite, digest, source.  Paths are bytes: what is not printable ASCII, and the percent sign, stands as %XX.
 */
#ifndef LADDER_MANIFEST_H
#define LADDER_MANIFEST_H

#include "journal/status.h"
#include "supervisor/ladder/pattern.h"

#define MANIFEST_NAME ".kept.json"
#define MANIFEST_RENAMED 0x10000u /* among the flags: the original got its name by a rename */

struct manifest {
	uint64_t ordinal, step;
	uint64_t size_bytes, file_count;
	int64_t mtime_ns; /* of the newest file of the original */
	uint32_t flags, finite;
	uint8_t digest[16];
	uint8_t source[16];          /* listing_signature() of the original when it was kept */
	char name[PATTERN_NAME_MAX]; /* of the copy, in the manifest's directory */
	char original[PATTERN_PATH_MAX];
};

/* Read dir/.kept.json.  STATUS_NONE: there is none.  STATUS_BAD: it is not one of ours. */
enum status manifest_read(struct manifest *m, const char *dir, struct cause *why) MUST_CHECK;

/* Write dir/.kept.json, durably but for the entry in dir.  STATUS_SYS. */
enum status manifest_write(const struct manifest *m, const char *dir, struct cause *why) MUST_CHECK;

#endif
