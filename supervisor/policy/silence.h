/*
 * Stalls of trainers that do not speak to us: no rank has opened its channel, steps are read out of the output or
 * not known at all.
 *
 * Now and then all ranks are measured.  Output, files that grow and CPU time of any process of any rank are signs
 * of life.  Two clocks run: since when nothing at all happened (idle), and since when nothing was to be seen but CPU
 * time (quiet).  An idle group has stalled when it is idle for longer than it ever was by a factor.  A quiet one that
 * computes is taken for stalled only when the run has shown steps, and much later: an evaluation that prints nothing
 * looks the same, and what has never shown a step may have none to show.
 *
 * A part of the stall detector: only stall.c and the handlers of its inputs call this.  Keeps H5; memory is fixed.
 */
#ifndef POLICY_SILENCE_H
#define POLICY_SILENCE_H

#include "supervisor/policy/state.h"

/* Whether these rules are the ones to go by: no rank has spoken to us in this run. */
bool silence_applies(const struct policy *p);

/* An attempt begins: what was silent before was ended, and teaches nothing. */
void silence_begin(struct moment *m);

/* A step, a phase, output, a file that grows: ends the silence of now, whose length is learned. */
void silence_broken(struct moment *m);

/* A rank's output told of a phase. */
void silence_on_phase(struct policy *p);

/* A rank was stopped: the time it stands still teaches nothing. */
void silence_taint(struct policy *p);

/* When silence_on_time() wants to be called. */
uint64_t silence_deadline_ns(const struct policy *p);

/* Asks for samples. */
void silence_on_time(struct moment *m);

/* RECORD_SAMPLE of a rank that lives; with the last one that is waited for, judges. */
void silence_on_sample(struct moment *m, const struct record_sample *sample);

/* How long the group may be idle now, and how long it may be quiet while it computes (NEVER: for ever). */
uint64_t silence_idle_limit_ns(const struct policy *p);
uint64_t silence_quiet_limit_ns(const struct policy *p);

#endif
