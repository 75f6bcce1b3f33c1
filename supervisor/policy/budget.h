/*
 * The budget is progress: restarts are free while steps advance.  What was spent is state, so that it
 * survives the supervisor; a new agent, which a person or an init system started, begins anew.
 */
#ifndef POLICY_BUDGET_H
#define POLICY_BUDGET_H

#include "supervisor/policy/state.h"

/*
 * May the run be started again after what ended its attempt?
 *
 * wait_ns	filled when it may: how long to wait before it, 0 for not at all.
 * Returns	0, or the enum end_reason for which it is given up.
 */
uint32_t budget_charge(struct policy *p, uint64_t *wait_ns);

/* A new step, or a new agent. */
void budget_reset(struct policy *p);

#endif
