/*
 * The command of a start that goes on from a kept checkpoint: the run's own, with the words of --resume-args behind
 * it.  Pure but for memory.
 */
#ifndef AGENT_RESUME_H
#define AGENT_RESUME_H

#include <stdint.h>

/*
 * command	borrowed, NULL-terminated, as args; args may be NULL: nothing is added.
 * step		for {step}; STEP_NONE: "" stands there.
 * checkpoint	borrowed, for {checkpoint}.
 * Returns	one block from malloc, NULL-terminated, for free() as (void *); NULL when memory is short.
 */
const char **resume_command(
    const char *const command[], const char *const args[], uint64_t step, const char *checkpoint);

#endif
