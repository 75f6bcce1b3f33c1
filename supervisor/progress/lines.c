/* See lines.h. */
#include <string.h>

#include "supervisor/progress/lines.h"

void lines_init(struct lines *l)
{
	/* What has not begun needs no clearing, and its memory is not touched. */
	l->cut_count = 0;
	l->length = 0;
}

static void keep(struct lines *l, const char *bytes, size_t length)
{
	if (l->length < LINES_MAX) {
		size_t room = LINES_MAX - l->length;

		memcpy(l->begun + l->length, bytes, length < room ? length : room);
	}
	/* Saturating: a line without an end may be longer than any number. */
	l->length = length > SIZE_MAX - l->length ? SIZE_MAX : l->length + length;
}

static void give(struct lines *l, const char *line, size_t length, lines_take *take, void *context)
{
	if (length > LINES_MAX) {
		l->cut_count++;
		length = LINES_MAX;
	}
	if (length > 0)
		take(context, line, length);
}

/* The first `end` at or behind `at`, or NULL. */
static const char *find(const char *at, const char *stop, char end)
{
	return at < stop ? memchr(at, end, (size_t)(stop - at)) : NULL;
}

void lines_feed(struct lines *l, const char *bytes, size_t length, lines_take *take, void *context)
{
	const char *at = bytes, *stop = bytes + length;
	/* Each is looked for again only when it was passed: no byte is looked at more than twice. */
	const char *feed = find(at, stop, '\n'), *carriage = find(at, stop, '\r');

	while (feed != NULL || carriage != NULL) {
		const char *end = feed == NULL || (carriage != NULL && carriage < feed) ? carriage
											: feed;

		if (l->length > 0) {
			keep(l, at, (size_t)(end - at));
			give(l, l->begun, l->length, take, context);
			l->length = 0;
		} else {
			give(l, at, (size_t)(end - at), take, context);
		}
		at = end + 1;
		if (end == feed)
			feed = find(at, stop, '\n');
		else
			carriage = find(at, stop, '\r');
	}
	keep(l, at, (size_t)(stop - at));
}

void lines_end(struct lines *l, lines_take *take, void *context)
{
	give(l, l->begun, l->length, take, context);
	l->length = 0;
}
