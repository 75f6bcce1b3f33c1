/*
 * Which checkpoints of the pattern are being written, and which have come to rest.
 *
 * Notices say where to look and what is certain only from them (closed, renamed into place); what is there is
 * found by looking.  At most `items_max` of the newest matches are followed, so that nothing grows (H10).
 */
#ifndef LADDER_TRACKER_H
#define LADDER_TRACKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "supervisor/ladder/pattern.h"
#include "supervisor/ladder/watch.h"

#define TRACKER_MAX 64u
#define TRACKER_NEVER UINT64_MAX

struct item {
	char name[PATTERN_NAME_MAX]; /* in the pattern's base */
	char path[PATTERN_PATH_MAX];
	uint64_t step;
	uint64_t size_bytes;
	int64_t mtime_ns;
	uint8_t signature[16], settled[16]; /* as it was seen last; as it was when it was dealt with */
	uint64_t writing;    /* of what is not dealt with yet; 0: nobody was seen writing it */
	uint64_t changed_ns; /* when it was last seen to change, CLOCK_MONOTONIC like all of them */
	uint64_t retry_ns;   /* not before */
	bool there, directory;
	bool look; /* something happened: look at it again */
	bool is_settled;
	bool renamed;  /* it got its name by a rename, and nobody wrote since */
	bool unclosed; /* written, and not closed since */
	bool noticed;  /* its file system gives notices */
	bool at_start; /* it was there when we came, and nobody wrote since */
};

struct tracker {
	const struct pattern *pattern; /* borrowed */
	struct watch watch;
	struct item *items; /* own; TRACKER_MAX */
	size_t count, items_max;
	uint64_t writings;
	uint64_t looked_ns, swept_ns; /* when it last looked; at everything */
	uint64_t cost_ns;             /* of the last look */
	bool sweep;                   /* look at everything next time */
	/* A name that holds one of ours was written: what is renamed into place afterwards. */
	char apart[PATTERN_PATH_MAX];
	uint64_t apart_step;
	bool apart_seen;
};

/* STATUS_SYS: memory is short. */
enum status tracker_init(struct tracker *t, const struct pattern *p, size_t items_max) MUST_CHECK;
void tracker_fini(struct tracker *t);

/* Take the notices that are there. */
void tracker_read(struct tracker *t);

/* Look at what needs it.  Sets writing where one begins.  why: of a base that cannot be read; else untouched. */
enum status tracker_look(struct tracker *t, uint64_t now_ns, struct cause *why) MUST_CHECK;

/* Whether something is there that is not dealt with. */
bool tracker_open(const struct item *item);

/* When this item may be taken for complete, TRACKER_NEVER when it has been dealt with. */
uint64_t tracker_ready_ns(const struct tracker *t, const struct item *item);

/* Whether it has been quiet long enough for a directory without a mark of its completion. */
uint64_t tracker_whole_ns(const struct item *item);

/* When tracker_look() is due. */
uint64_t tracker_due_ns(const struct tracker *t);

/* It was dealt with, as it is. */
void tracker_settle(struct item *item, const uint8_t signature[16]);

/* The item of this path; NULL. */
struct item *tracker_find(struct tracker *t, const char *path);

#endif
