/*
 * A trainer that reports a step a second and does nothing else: what idle.py measures the supervision of.
 *
 *	bench_pulse		under `holdfast run`; ends when it is asked to stop
 */
#include <time.h>

#include "trainer/holdfast.h"

int main(void)
{
	struct holdfast *hf = holdfast_open();
	struct holdfast_step step = {.fields = HOLDFAST_LOSS, .loss = 2.5};
	struct timespec next;

	clock_gettime(CLOCK_MONOTONIC, &next);
	while (!holdfast_should_stop(hf)) {
		step.step++;
		holdfast_step(hf, &step);
		next.tv_sec++;
		(void)clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
	}
	holdfast_close(hf);
	return 0;
}
