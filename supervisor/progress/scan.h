/*
 * Numbers with names in a line of text, in the ways in which people print them:
 *
 *	loss 1.25    loss: 1.25    loss=1.25    "loss": 1.25    'loss': '1.25'    lm loss: 1.2E+00    step 60/1000
 *
 * What a name means is told by a table of the words that training scripts use; a name that may mean something else
 * means nothing.  Pure; reads no further than the text's NUL.
 */
#ifndef PROGRESS_SCAN_H
#define PROGRESS_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum scan_key {
	SCAN_NONE = 0,
	SCAN_STEP,
	SCAN_EPOCH,
	SCAN_LOSS,
	SCAN_VALIDATION, /* a loss on data that is not trained on */
	SCAN_GRAD_NORM,
	SCAN_LEARNING_RATE,
	SCAN_TOKENS,
	SCAN_TIME,
	SCAN_COUNT
};

struct scan_value {
	bool seen;
	bool whole;     /* count holds it: an integer that is not negative */
	bool plain;     /* its name is one word, as "loss" of "train_loss" is not */
	bool equals;    /* written NAME=VALUE */
	bool of_epoch;  /* STEP: counted from the epoch's beginning, as in "Epoch: [3][ 10/500]" */
	double number;  /* TIME: in seconds */
	uint64_t count; /* STEP, EPOCH, TOKENS */
	uint64_t total; /* of "60/1000"; 0: none was given */
};

struct scan {
	struct scan_value values[SCAN_COUNT]; /* by enum scan_key; the first of its kind counts */
};

/* Find what there is in text, which is borrowed and NUL-terminated.  *out is filled in whole. */
void scan_text(const char *text, struct scan *out);

/*
 * A number at text, as scan_text() takes it: also nan, inf and infinity in any case, with a sign.
 * Returns the first byte behind it, or NULL when there is none.
 */
const char *scan_number(const char *text, double *number_out);

/* A whole number at text, thousands set off by commas or not.  The first byte behind it, or NULL. */
const char *scan_count(const char *text, uint64_t *count_out);

#endif
