/*
 * --checkpoint PATTERN: which names are checkpoints, and of which step.
 *
 * A pattern is a base directory, one component with the number (or, without {step}, the last component), and the
 * rest of the path behind it, which is empty unless {step} stands in a directory's name.  Names are bytes.
 */
#ifndef LADDER_PATTERN_H
#define LADDER_PATTERN_H

#include <stdbool.h>
#include <stddef.h>

#include "journal/record.h"
#include "journal/status.h"

#define PATTERN_PATH_MAX RECORD_TEXT_MAX
#define PATTERN_NAME_MAX 256u /* of one component, with its NUL */
#define PATTERN_MATCHES_MAX 65536u

struct pattern {
	char base[PATTERN_PATH_MAX];   /* absolute, without a slash at its end but for "/" */
	char before[PATTERN_NAME_MAX]; /* the number; without {step}: the whole component */
	char after[PATTERN_NAME_MAX];  /* the number */
	char rest[PATTERN_PATH_MAX];   /* behind that component: "" or "/more" */
	bool numbered;
};

/* One entry of base that matches. */
struct match {
	uint64_t step; /* STEP_NONE when the pattern has none */
	char name[PATTERN_NAME_MAX];
};
struct matches {
	struct match *at; /* own */
	size_t count;
};

/* text: borrowed, absolute.  STATUS_BAD: not a pattern; why->step says what is wrong with it. */
enum status pattern_parse(struct pattern *p, const char *text, struct cause *why) MUST_CHECK;

/* Whether `name` is such a component; *step is filled then. */
bool pattern_match(const struct pattern *p, const char *name, uint64_t *step);

/* Whether `name` holds one, as the names do under which a checkpoint is written before it is renamed. */
bool pattern_mention(const struct pattern *p, const char *name, uint64_t *step);

/* The path of the checkpoint, or of the component itself, for a name in base.  False: too long. */
bool pattern_path(const struct pattern *p, const char *name, char path[PATTERN_PATH_MAX]);
bool pattern_unit(const struct pattern *p, const char *name, char path[PATTERN_PATH_MAX]);

/* The last component of a path (borrowed from it). */
const char *pattern_last(const char *path);

/*
 * Every name in base that matches, in no order, at most PATTERN_MATCHES_MAX; nothing when there is no base.
 *
 * found	filled; to be given to pattern_forget() in any case.
 * Returns	STATUS_SYS when base cannot be read.
 */
enum status pattern_find(const struct pattern *p, struct matches *found, struct cause *why) MUST_CHECK;
void pattern_forget(struct matches *found);

#endif
