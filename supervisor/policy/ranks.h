/*
 * The ranks of the current attempt: what each input says about one, and what they say together.
 *
 * Nothing here decides; the attempt does.  Invariants: H3 (ring_seq), H7 (only inputs of the current attempt
 * come here).
 */
#ifndef POLICY_RANKS_H
#define POLICY_RANKS_H

#include "supervisor/policy/state.h"

/* A new attempt: no rank has a process. */
void ranks_reset(struct policy *p);

/* Inputs of these kinds, of a rank that exists and of the current attempt. */
void ranks_on_started(struct moment *m, const struct record *r);
void ranks_on_crashing(struct moment *m, const struct record *r);
void ranks_on_connected(struct moment *m, const struct record *r);
void ranks_on_stopped(struct moment *m, const struct record *r);
void ranks_on_death(struct moment *m, const struct record *r);
void ranks_on_exit(struct moment *m, const struct record *r);
void ranks_on_damage(struct moment *m, const struct record *r);
void ranks_on_phase(struct moment *m, const struct record *r);
void ranks_on_gap(struct moment *m, const struct record *r);
void ranks_on_no_room(struct moment *m, const struct record *r);

/* Whether a report with this ring_seq is new; it counts as seen from then on. */
bool ranks_take(struct policy *p, uint32_t rank, uint64_t ring_seq);

/*
 * Who died, or began to crash, first without being done?  Suspects that rank when it is known how.  While it is
 * not, and less than ten seconds have passed, nobody is suspected: those who came later may be its victims.
 */
void ranks_judge(struct moment *m);
uint64_t ranks_judge_deadline_ns(const struct policy *p);

/* Grace is over for a rank that stands stopped: the first one and the time; NEVER when none stands. */
uint64_t ranks_stopped_deadline_ns(const struct policy *p, uint32_t *rank_out);

/* A complete row came: ranks that were continued are nearer to being clean. */
void ranks_on_row(struct policy *p);

/* SIGCONT was decided for a rank that stands stopped. */
void ranks_mark_continued(struct policy *p, uint32_t rank);

/* Whether it has a process, as far as is known. */
bool ranks_alive(const struct policy *p, uint32_t rank);

/* A rank's evidence is there, or cannot come any more. */
void ranks_captured(struct policy *p, uint32_t rank);

#endif
