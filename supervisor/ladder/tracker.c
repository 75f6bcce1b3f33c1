/* See tracker.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "supervisor/clock.h"
#include "supervisor/ladder/listing.h"
#include "supervisor/ladder/tracker.h"

#define MS 1000000ull
#define LOOK_EVERY_NS (20 * MS)     /* at most, however much happens */
#define COST_FACTOR 20u             /* a look that takes long is not repeated at once */
#define SWEEP_EVERY_NS (10000 * MS) /* with notices, in case one does not come */
#define POLL_EVERY_NS (1000 * MS)   /* without */
#define QUIET_RENAMED_NS (20 * MS)
#define QUIET_NS (200 * MS)
#define QUIET_POLLING_NS (2000 * MS)
#define QUIET_PARTS_NS (5000 * MS)     /* a directory of which nothing says that it is whole */
#define QUIET_UNCLOSED_NS (10000 * MS) /* cut by truncate(2), which nobody closes */

enum status tracker_init(struct tracker *t, const struct pattern *p, size_t items_max)
{
	*t = (struct tracker){.pattern = p,
	    .items_max = items_max < TRACKER_MAX ? items_max : TRACKER_MAX,
	    .sweep = true};
	t->items = calloc(TRACKER_MAX, sizeof(*t->items));
	if (t->items == NULL)
		return STATUS_SYS;
	watch_init(&t->watch);
	return STATUS_OK;
}

void tracker_fini(struct tracker *t)
{
	watch_fini(&t->watch);
	free(t->items);
	t->items = NULL;
}

struct item *tracker_find(struct tracker *t, const char *path)
{
	for (size_t i = 0; i < t->count; i++)
		if (strcmp(t->items[i].path, path) == 0)
			return &t->items[i];
	return NULL;
}

bool tracker_open(const struct item *item)
{
	return item->there &&
	    (!item->is_settled || memcmp(item->settled, item->signature, sizeof(item->settled)) != 0);
}

void tracker_settle(struct item *item, const uint8_t signature[16])
{
	memcpy(item->settled, signature, sizeof(item->settled));
	item->is_settled = true;
	item->at_start = false;
}

/* A place for one more: that of one that is gone, or of the oldest that has been dealt with, or of the oldest. */
static struct item *place(struct tracker *t)
{
	struct item *oldest = NULL;

	if (t->count < t->items_max)
		return &t->items[t->count++];
	for (size_t i = 0; i < t->count; i++) {
		struct item *item = &t->items[i];
		bool open = tracker_open(item);

		if (!item->there && !item->look)
			return item;
		if (oldest == NULL || (tracker_open(oldest) && !open) ||
		    (tracker_open(oldest) == open && item->mtime_ns < oldest->mtime_ns))
			oldest = item;
	}
	return oldest;
}

static struct item *follow(struct tracker *t, const char *name, uint64_t step)
{
	char path[PATTERN_PATH_MAX];
	struct item *item;

	if (!pattern_path(t->pattern, name, path))
		return NULL;
	item = tracker_find(t, path);
	if (item == NULL) {
		item = place(t);
		*item = (struct item){.step = step, .look = true};
		snprintf(item->name, sizeof(item->name), "%s", name);
		snprintf(item->path, sizeof(item->path), "%s", path);
	}
	return item;
}

/* --- notices --------------------------------------------------------------------------------------------- */

/* Whether `path` begins with the path `front`; *more is what follows: "" or "/…". */
static bool below(const char *path, const char *front, const char **more)
{
	size_t length = strcmp(front, "/") == 0 ? 0 : strlen(front);

	if (strncmp(path, front, length) != 0 || (path[length] != '\0' && path[length] != '/'))
		return false;
	*more = path + length;
	return true;
}

static void mark(struct item *item, enum watch_notice notice, bool itself)
{
	item->look = true;
	item->noticed = true;
	item->changed_ns = clock_monotonic_ns();
	if (notice == WATCH_MOVED_IN || notice == WATCH_WRITTEN)
		item->at_start = false;
	if (notice == WATCH_MOVED_IN && itself) {
		item->renamed = true;
		item->unclosed = false;
	} else if (notice == WATCH_CLOSED) {
		item->unclosed = false;
	} else if (notice == WATCH_WRITTEN) {
		/* Written anew before the last one was looked at: another state, of another step. */
		if (itself && !item->unclosed)
			item->writing = 0;
		item->unclosed = true;
		item->renamed = false;
	} else if (!itself) {
		item->renamed = false;
	}
}

/* A name in base, and what follows it. */
static void mark_name(struct tracker *t, const char *name, const char *more, enum watch_notice notice)
{
	const char *rest = t->pattern->rest, *inner;
	struct item *item;
	uint64_t step;

	if (!pattern_match(t->pattern, name, &step)) {
		if (!pattern_mention(t->pattern, name, &step))
			return;
		t->apart_seen = true;
		t->apart_step = step;
		(void)pattern_unit(t->pattern, name, t->apart);
		return;
	}
	item = follow(t, name, step);
	if (item == NULL)
		return;
	/* The checkpoint itself, something in it, or a directory on the way to it. */
	if (strcmp(more, rest) == 0 || (*more != '\0' && below(rest, more, &inner)) || *more == '\0')
		mark(item, notice, true);
	else if (below(more, rest, &inner) || *rest == '\0')
		mark(item, notice, false);
}

static void on_notice(void *context, enum watch_notice notice, const char *path)
{
	struct tracker *t = context;
	char name[PATTERN_NAME_MAX];
	const char *more;
	size_t length;

	if (notice == WATCH_LOST) {
		t->sweep = true;
		return;
	}
	if (!below(path, t->pattern->base, &more) || *more == '\0') {
		/* A directory on the way to base came or went. */
		if (below(t->pattern->base, path, &more))
			t->sweep = true;
		return;
	}
	length = strcspn(more + 1, "/");
	if (length >= sizeof(name))
		return;
	memcpy(name, more + 1, length);
	name[length] = '\0';
	mark_name(t, name, more + 1 + length, notice);
}

void tracker_read(struct tracker *t)
{
	watch_read(&t->watch, on_notice, t);
}

/* --- looking --------------------------------------------------------------------------------------------- */

/* Every directory from base down to the one that the checkpoint lies in. */
static void watch_way(struct tracker *t, const struct item *item)
{
	char path[PATTERN_PATH_MAX];
	size_t length;

	if (t->pattern->rest[0] == '\0' || !pattern_unit(t->pattern, item->name, path))
		return;
	length = strlen(path);
	do {
		memcpy(path, item->path, length);
		path[length] = '\0';
		(void)watch_want(&t->watch, path);
		length += 1 + strcspn(item->path + length + 1, "/");
	} while (item->path[length] != '\0');
}

static void watch_base(struct tracker *t)
{
	char path[PATTERN_PATH_MAX];

	snprintf(path, sizeof(path), "%s", t->pattern->base);
	while (!watch_want(&t->watch, path)) {
		char *slash = strrchr(path, '/');

		if (slash == NULL || path[1] == '\0')
			return;
		slash[slash == path] = '\0';
	}
}

/* The directories of an item that is one, those in it only while it is being written. */
static void watch_inside(struct tracker *t, const struct item *item)
{
	char path[PATTERN_PATH_MAX];
	struct listing l;

	if (!item->directory || !watch_want(&t->watch, item->path) || !tracker_open(item))
		return;
	/* What cannot be seen is not watched; the next sweep looks again. */
	if (listing_take(&l, item->path, NULL) == STATUS_OK)
		for (size_t i = 0; i < l.count; i++)
			if (l.entries[i].type == 'd' &&
			    listing_path(item->path, &l.entries[i], path, sizeof(path)))
				(void)watch_want(&t->watch, path);
	listing_fini(&l);
}

/* What came into a directory before it was watched came without a notice: then it has to be looked at again. */
static void watch_all(struct tracker *t)
{
	watch_begin(&t->watch);
	watch_base(t);
	t->sweep = t->sweep || t->watch.fresh;
	if (t->apart[0] != '\0')
		(void)watch_want(&t->watch, t->apart);
	for (size_t i = 0; i < t->count; i++) {
		t->watch.fresh = false;
		watch_way(t, &t->items[i]);
		watch_inside(t, &t->items[i]);
		t->items[i].look = t->items[i].look || t->watch.fresh;
	}
	watch_end(&t->watch);
}

struct dated {
	int64_t mtime_ns;
	size_t index;
};

static int newest_first(const void *a, const void *b)
{
	const struct dated *x = a, *y = b;

	return x->mtime_ns < y->mtime_ns ? 1 : -(x->mtime_ns > y->mtime_ns);
}

/* Everything that matches: the newest become items. */
static enum status sweep(struct tracker *t, struct cause *why)
{
	struct matches found;
	enum status status = pattern_find(t->pattern, &found, why);
	struct dated *dates = calloc(found.count + 1, sizeof(*dates));
	char path[PATTERN_PATH_MAX];
	struct stat st;
	size_t count = 0;

	for (size_t i = 0; dates != NULL && i < found.count; i++)
		if (pattern_path(t->pattern, found.at[i].name, path) && stat(path, &st) == 0)
			dates[count++] = (struct dated){
			    (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec, i};
	if (count > 1)
		qsort(dates, count, sizeof(*dates), newest_first);
	if (count > t->items_max)
		count = t->items_max;
	/* The oldest first, so that it is they that make room. */
	while (count-- > 0) {
		const struct match *match = &found.at[dates[count].index];
		struct item *item = follow(t, match->name, match->step);

		if (item != NULL)
			item->at_start = item->at_start || t->swept_ns == 0;
	}
	for (size_t i = 0; i < t->count; i++)
		t->items[i].look = true;
	free(dates);
	pattern_forget(&found);
	return status;
}

static void look_at(struct tracker *t, struct item *item, uint64_t now_ns)
{
	uint8_t signature[16];
	struct listing l;
	bool was_there;

	item->look = false;
	was_there = item->there;
	/* What cannot be read now, or is no checkpoint at all, is as if it were not there. */
	item->there = listing_take(&l, item->path, NULL) == STATUS_OK && l.count > 0;
	item->directory = l.directory;
	if (item->there) {
		listing_signature(&l, signature);
		if (memcmp(signature, item->signature, sizeof(signature)) != 0) {
			memcpy(item->signature, signature, sizeof(signature));
			item->changed_ns = now_ns;
			item->retry_ns = 0;
			item->at_start = item->at_start && !was_there;
		}
		item->size_bytes = l.size_bytes;
		item->mtime_ns = l.mtime_ns;
	}
	listing_fini(&l);
	if (tracker_open(item) && item->writing == 0 && !item->at_start)
		item->writing = ++t->writings;
}

enum status tracker_look(struct tracker *t, uint64_t now_ns, struct cause *why)
{
	enum status status = STATUS_OK;

	if (t->sweep || now_ns >= t->swept_ns + (t->watch.polling ? POLL_EVERY_NS : SWEEP_EVERY_NS)) {
		/* First the watches, then the look: what comes in between is noticed. */
		watch_all(t);
		t->sweep = false;
		status = sweep(t, why);
		t->swept_ns = now_ns;
	}
	for (size_t i = 0; i < t->count; i++)
		if (t->items[i].look)
			look_at(t, &t->items[i], now_ns);
	watch_all(t);
	t->looked_ns = now_ns;
	t->cost_ns = clock_monotonic_ns() - now_ns;
	return status;
}

uint64_t tracker_ready_ns(const struct tracker *t, const struct item *item)
{
	uint64_t quiet_ns = QUIET_NS, ready_ns;

	if (!tracker_open(item))
		return TRACKER_NEVER;
	if (item->unclosed)
		quiet_ns = QUIET_UNCLOSED_NS;
	else if (item->renamed)
		quiet_ns = QUIET_RENAMED_NS;
	else if (t->watch.polling && !item->at_start)
		quiet_ns = QUIET_POLLING_NS;
	ready_ns = item->changed_ns + quiet_ns;
	return ready_ns > item->retry_ns ? ready_ns : item->retry_ns;
}

uint64_t tracker_whole_ns(const struct item *item)
{
	return item->renamed ? item->changed_ns : item->changed_ns + QUIET_PARTS_NS;
}

uint64_t tracker_due_ns(const struct tracker *t)
{
	uint64_t soon_ns = t->looked_ns + LOOK_EVERY_NS + COST_FACTOR * t->cost_ns;

	if (t->sweep)
		return soon_ns;
	for (size_t i = 0; i < t->count; i++)
		if (t->items[i].look)
			return soon_ns;
	return t->swept_ns + (t->watch.polling ? POLL_EVERY_NS : SWEEP_EVERY_NS);
}
