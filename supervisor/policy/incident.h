/*
 * Incidents: declaring a fault once, knowing it when it comes again (the loop), and saying when it is over.
 */
#ifndef POLICY_INCIDENT_H
#define POLICY_INCIDENT_H

#include "supervisor/policy/state.h"

/* Keep the earliest suspicion of the turn: who died first is the cause, whoever was noticed first. */
void incident_suspect(struct moment *m, const struct suspicion *s);

/* The exit code that a wait status stands for: the program's own, or 128 + signal. */
int32_t incident_status_code(int32_t wait_status);

enum incident_way {
	INCIDENT_RESTART,  /* the attempt ends for it */
	INCIDENT_IN_PLACE, /* the attempt goes on */
	INCIDENT_ASIDE,    /* found while choosing: it costs no attempt */
};

/*
 * Declare a fault: DECISION_FAULT, its number is returned.  A restart for a fingerprint that was seen since the
 * last progress sets the floor: the next attempt starts from an older state than this one did.  So does the first
 * restart of a program that ended by itself before it had made a step of a file: a digest says only that the file is
 * what it was when it was digested.
 */
uint32_t incident_declare(struct moment *m, const struct suspicion *s, enum incident_way way);

/* Whether this fault was declared already since the last progress. */
bool incident_known(const struct policy *p, const struct suspicion *s);

/* A complete row of the current attempt: what it recovers is over.  fresh: it is a new step. */
void incident_on_row(struct moment *m, uint64_t step, bool fresh);

/* The run is done: every incident is over. */
void incident_close_all(struct moment *m);

#endif
