/*
 * Hellos: the run's first record, a supervisor that takes over, an agent that says who it is and what it holds.
 *
 * Between a session's beginning and its agent's hello nothing is decided by time.  The agent of before may not
 * have heard the last decisions: they are said again.  With another agent, whatever attempt there was is dead.
 */
#ifndef POLICY_GREET_H
#define POLICY_GREET_H

#include "supervisor/policy/state.h"

/* Inputs of these kinds: the configuration, a session without an agent yet, an agent and what it holds. */
void greet_on_run(struct moment *m, const struct record *r);
void greet_on_session(struct moment *m, const struct record *r);
void greet_on_agent(struct moment *m, const struct record *r);

/* Say again what the current state waits for. */
void greet_reissue(struct moment *m);

#endif
