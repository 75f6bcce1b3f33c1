/*
 * RUNDIR/checkpoints: the kept copies.
 *
 *	NNNNNN-step-S/		a kept copy and its .kept.json; appears whole, by a rename
 *	.stage-PID-N/		one in the making; removed by the next keeper
 *	.lock			held while a keeper, or what it started, is alive
 *	.rewritten		the script writes into files that were linked: no more links for this pattern
 *	aside/NNNN/		what restores moved out of the way; never touched again
 *
 * A kept copy is durable before it has its name.  Nothing outside this directory is ever written to.
 */
#ifndef LADDER_KEPT_H
#define LADDER_KEPT_H

#include <stdbool.h>
#include <stddef.h>

#include "supervisor/ladder/listing.h"
#include "supervisor/ladder/manifest.h"

#define KEPT_MAX 1024u
#define KEPT_NONE SIZE_MAX
#define KEPT_NAME_MAX 64u /* "NNNNNN-step-S" */

enum kept_mode { KEPT_AUTO = 0, KEPT_LINK, KEPT_COPY, KEPT_IN_PLACE };

struct kept {
	char dir[PATTERN_PATH_MAX];
	int lock_fd;
	struct manifest *entries[KEPT_MAX]; /* own; by rising ordinal */
	size_t count;
	uint64_t last_ordinal; /* the highest that was ever given, as far as the disk tells */
	bool rewritten;
};

/*
 * Take the directory into possession: make it, lock it, remove what a killed keeper left, read what is kept.
 *
 * run_dir	borrowed, absolute.
 * Returns	STATUS_AGAIN while another one has it, STATUS_FULL, STATUS_SYS.
 */
enum status kept_open(struct kept *k, const char *run_dir, struct cause *why) MUST_CHECK;
void kept_close(struct kept *k);

/* The directory of an entry, and the copy in it (of an entry in place: the original).  False: too long. */
bool kept_directory(const struct kept *k, const struct manifest *m, char out[PATTERN_PATH_MAX]);
bool kept_path(const struct kept *k, const struct manifest *m, char out[PATTERN_PATH_MAX]);

/* What to keep, and how. */
struct kept_plan {
	const char *path; /* borrowed */
	uint64_t step;
	uint8_t source[16]; /* its listing_signature() when it was decided; others are not kept */
	enum kept_mode mode;
	bool may_link;     /* with KEPT_AUTO: hard links are safe, as far as was seen */
	bool renamed;      /* it got its name by a rename, whole */
	bool may_be_parts; /* a directory without a mark of its own may be taken for complete */
};

struct kept_result {
	enum status status;
	struct cause why;
	struct manifest made; /* STATUS_OK, STATUS_NONE */
};

/*
 * Keep a checkpoint.  Slow: for a process of its own, which may be killed at any moment.
 *
 * result	status: STATUS_OK (made says what is there now), STATUS_NONE (the same bytes are kept already: made is
 *		that entry), STATUS_AGAIN (it is or was being written: when it is quiet again), STATUS_BAD (torn),
 *		STATUS_FULL, STATUS_SYS.
 */
void kept_save(const struct kept *k, const struct kept_plan *plan, struct kept_result *result);

/* Enter what kept_save() made.  STATUS_FULL: there are KEPT_MAX; STATUS_SYS: memory is short. */
enum status kept_enter(struct kept *k, const struct manifest *made) MUST_CHECK;

/* Remove the entry at `index` and its copy; never the original. */
void kept_drop(struct kept *k, size_t index);

/* The entry of this ordinal, of this original with this signature; KEPT_NONE. */
size_t kept_find(const struct kept *k, uint64_t ordinal);
size_t kept_known(const struct kept *k, const char *original, const uint8_t source[16]);

/* Whether a copy of links is no longer what was kept, because somebody wrote to the original. */
bool kept_changed(const struct kept *k, const struct manifest *m);

/* Remember that links are not safe for this pattern. */
void kept_distrust_links(struct kept *k);

/* Remove what a kept_save() that was killed left. */
void kept_clean(const struct kept *k);

/* Of all copies together. */
uint64_t kept_size_bytes(const struct kept *k);

#endif
