/*
 * Numbered places at which a test lets this process die as by kill -9.
 *
 * HOLDFAST_FAILPOINT=POINT:TURN:FILE names one place and one turn; it acts once: whoever gets there first makes
 * FILE, and where FILE is there already nothing happens.  Without the variable a failpoint costs one comparison.
 */
#ifndef SUPERVISOR_FAILPOINT_H
#define SUPERVISOR_FAILPOINT_H

#include <stdint.h>

enum failpoint {
	FAILPOINT_BEFORE_DECIDE = 1,
	FAILPOINT_AFTER_DECIDE,
	FAILPOINT_AFTER_INPUTS, /* the transaction holds the inputs only */
	FAILPOINT_BEFORE_COMMIT,
	FAILPOINT_AFTER_COMMIT,     /* durable, nothing performed */
	FAILPOINT_WHILE_PERFORMING, /* the first decision was sent, the others not */
	FAILPOINT_BEFORE_ACK,
	FAILPOINT_AFTER_ACK,
	FAILPOINT_COUNT
};

/* Read the environment, once. */
void failpoint_init(void);

/* Die here, if this is the place. */
void failpoint_pass(enum failpoint point, uint64_t turn);

#endif
