/*
 * A NaN in the gradient of one rank of the reference trainer, written from outside into the file through
 * which its ranks average their gradients (trainer/reference/group.h).
 *
 * The file is trusted no more than any other: every offset is checked against its real length.
 */
#ifndef FAULTS_POISON_H
#define FAULTS_POISON_H

#include <stdint.h>

/*
 * Write NaNs into the rank's gradient, again and again, until the ranks' average holds one.
 * for_ms	how long at most; the trainer zeroes its gradients in each iteration, so one write may be lost.
 * at_ns_out	CLOCK_MONOTONIC when the average held it.
 * Returns	0; -errno of opening the file; -EBADMSG not such a file; -ERANGE no such rank; -ETIME no average
 *		was made in that time.  *why_out: the step that failed (static storage).
 */
int poison_group(
    const char *path, uint32_t rank, uint32_t for_ms, uint64_t *at_ns_out, const char **why_out);

#endif
