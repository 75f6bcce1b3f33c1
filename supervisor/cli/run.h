/*
 * What others that begin a run share with `holdfast run`: its options and its way to the agent.
 */
#ifndef CLI_RUN_H
#define CLI_RUN_H

#include <stddef.h>

#include "supervisor/agent/rankenv.h"
#include "supervisor/cli/options.h"

/* The options of holdfast run; static storage. */
const struct option_spec *run_specs(size_t *count_out);

/*
 * holdfast run with these words, its ranks being told these names.
 * names	borrowed; outlives the run.  Its port is reserved here, and 0 becomes one that is free.
 * argv		borrowed; outlives the run.  argv[0] is no word.
 * Returns	the exit code of holdfast run.
 */
int run_begin(const struct rankenv_names *names, int argc, char **argv);

#endif
