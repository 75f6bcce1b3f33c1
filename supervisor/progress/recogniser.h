/*
 * What one rank's output says of its iterations.
 *
 * Lines go in, sightings come out: an iteration with its values, an evaluation that goes on, one that has been.  A
 * format is settled by its first lines that agree with each other, their numbers going up, and from then on
 * no other counts: a stray line of another kind changes nothing.  The numbers of the iterations that are given out
 * go up only: a counter that begins again with each epoch is carried on.
 *
 * Pure: no I/O, no clock, fixed memory.  The same lines give the same sightings.
 */
#ifndef PROGRESS_RECOGNISER_H
#define PROGRESS_RECOGNISER_H

#include <stdbool.h>
#include <stddef.h>

#include "journal/record.h"
#include "supervisor/progress/regex.h"

#define RECOGNISER_OUT 4u /* sightings from one line, at most */

enum sighting_kind {
	SIGHTING_STEP = 1,
	SIGHTING_EVALUATION, /* one goes on */
	SIGHTING_EVALUATED,  /* there was one since the step before */
};

struct sighting {
	enum sighting_kind kind; /* the rest is SIGHTING_STEP's */
	uint32_t fields;         /* enum iteration_field: LOSS, GRAD_NORM, LEARNING_RATE, TOKENS */
	uint64_t step;
	double loss, grad_norm, learning_rate; /* as printed; NaN and infinities, too */
	uint64_t tokens;
	uint64_t duration_ns; /* as printed; 0: it was not */
};

/* What one line says.  Only the recogniser looks inside. */
struct recogniser_line {
	enum progress_format format; /* whose line it is; PROGRESS_NONE: nobody's */
	enum {
		LINE_STEP = 1,
		LINE_VALUES,     /* of a step whose number stands elsewhere */
		LINE_BAR,        /* that may count steps */
		LINE_EVALUATION, /* goes on */
		LINE_EVALUATED,
	} what;
	bool has_epoch, of_epoch, validated, continued;
	uint64_t raw, total; /* the counter as it stands there, and its end, 0: unknown */
	uint64_t epoch;
	double epochs; /* with fractions */
	struct sighting values;
};

struct recogniser {
	struct regex *pattern; /* borrowed; NULL: the common formats */
	uint64_t after_step;   /* what the attempt continues from; STEP_NONE: from the beginning */
	enum progress_format settled;
	bool evaluating;
	uint64_t limit_count; /* lines that the pattern's limits gave up on */
	/* numbering */
	uint64_t last_step; /* given out; STEP_NONE: none */
	uint64_t base;      /* added to the counter */
	uint64_t last_raw, last_epoch;
	uint64_t fallen_raw;
	uint32_t fallen; /* lines in a row whose counter lies below the last */
	/* bars */
	uint64_t bar_total, other_total;
	uint32_t other_count; /* lines in a row of another bar */
	/* values and a bar beside them */
	uint64_t live_count, live_total;
	bool live, cleared, held_valid, waiting_valid, by_epoch;
	struct sighting held;           /* the bar's last, not given out yet */
	struct recogniser_line waiting; /* values without a number yet */
	/* what may be settled */
	struct {
		uint32_t count; /* lines that agree */
		struct recogniser_line first;
		uint64_t order; /* of the last line, to be exceeded by the next */
	} candidates[PROGRESS_COUNT];
};

/*
 * pattern	borrowed for as long as the recogniser is used; NULL: the common formats are recognised.
 * after_step	the step that the attempt continues from, or STEP_NONE: bars that do not say their epoch begin there.
 */
void recogniser_init(struct recogniser *r, struct regex *pattern, uint64_t after_step);

/* Go on with the state of a process that is gone, as it lay in memory: its pattern was compiled elsewhere. */
void recogniser_resume(struct recogniser *r, struct regex *pattern);

/* One line, borrowed, of any bytes.  Fills out, RECOGNISER_OUT places; returns how many. */
size_t recogniser_line(struct recogniser *r, const char *line, size_t length, struct sighting out[]);

/* There are no more lines: what was held back.  Likewise. */
size_t recogniser_end(struct recogniser *r, struct sighting out[]);

/* What it has settled on, or PROGRESS_NONE. */
enum progress_format recogniser_format(const struct recogniser *r);

#endif
