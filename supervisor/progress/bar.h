/*
 * One redrawing of a progress bar, as tqdm prints it, and what is built on it:
 *
 *	Epoch 3:  10%|█         | 12/120 [00:01<00:10, 10.9it/s, loss=0.53, v_num=0]
 *	Epoch 3: 12it [00:01, 10.9it/s, loss=0.53]
 *
 * Pure; reads no further than the text's NUL.
 */
#ifndef PROGRESS_BAR_H
#define PROGRESS_BAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bar {
	uint64_t count, total; /* total 0: not known */
	uint64_t epoch;        /* from 0; meaningful with has_epoch */
	bool has_epoch;
	bool named;          /* something stands before the bar */
	bool training;       /* … that names training: epoch, train, step, iter */
	bool evaluating;     /* … that names an evaluation */
	size_t name_bytes;   /* of the text, before the bar */
	const char *postfix; /* within the text, behind the rate; "" when there is none */
};

/* True when text, borrowed and NUL-terminated, is a bar that counts things, and not bytes. */
bool bar_parse(const char *text, struct bar *out);

#endif
