/*
 * The stall detector of trainers that speak to us (of others: silence.h): how long nothing may happen is learned from the run, by phase; that nothing happens is
 * confirmed by two samples; who is to blame is the one who does not wait for the others.
 *
 * It runs while the run does and no rank stands stopped.  It never ends a run whose phase, by a sample, is still
 * within that phase's own limit.
 */
#ifndef POLICY_STALL_H
#define POLICY_STALL_H

#include "supervisor/policy/state.h"

/* Any sign of life: a row, a phase, a checkpoint, a connection; output, where nothing else is heard. */
void stall_on_progress(struct moment *m);

/* A checkpoint is being written: a sign of life, and the next one comes a second later or when it is done. */
void stall_on_writing(struct moment *m);

/* An attempt begins. */
void stall_begin(struct moment *m);

/* A complete row; first: of its attempt. */
void stall_learn_row(struct policy *p, const struct record_step *row, bool first);
void stall_learn_phase(struct policy *p, const struct record_phase *phase);

/* RECORD_SAMPLE; with the last one that is waited for, judges. */
void stall_on_sample(struct moment *m, const struct record_sample *sample);

/* Asks for samples, or suspects a rank (incident_suspect). */
void stall_on_time(struct moment *m);

/* When stall_on_time() wants to be called; NEVER while the clock stands. */
uint64_t stall_deadline_ns(const struct policy *p);

/* How long a rank may be in that phase. */
uint64_t stall_phase_limit_ns(const struct policy *p, uint32_t phase);

/* How long the run may be silent now. */
uint64_t stall_limit_ns(const struct policy *p);

#endif
