/* See budget.h. */
#include "supervisor/policy/budget.h"

/* The first restart since the last progress is at once, the second waits, each later one twice as long. */
static uint64_t backoff_ns(const struct policy_config *config, uint32_t tries)
{
	uint64_t wait_ns = config->backoff_first_ns;

	if (tries < 2)
		return 0;
	for (uint32_t i = 2; i < tries && wait_ns < config->backoff_max_ns; i++)
		wait_ns = times(wait_ns, 2);
	return lesser(wait_ns, config->backoff_max_ns);
}

uint32_t budget_charge(struct policy *p, uint64_t *wait_ns)
{
	*wait_ns = 0;
	if (p->charged == 0 || !RULE(RULE_BUDGET))
		return 0;
	p->charged = 0;
	if (p->last_step == STEP_NONE && p->kept_step == STEP_NONE) {
		if (p->tries + 1 >= p->config.tries_first_max)
			return END_NEVER_STEPPED;
	} else if (p->tries >= p->config.tries_max) {
		return END_NO_PROGRESS;
	}
	p->tries++;
	*wait_ns = backoff_ns(&p->config, p->tries);
	return 0;
}

void budget_reset(struct policy *p)
{
	p->tries = 0;
}
