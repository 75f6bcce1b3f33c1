/*
 * The agent's helpers, as programs: `holdfast helper-…`.  They may block and crash; the agent may not.
 */
#ifndef AGENT_HELPER_H
#define AGENT_HELPER_H

#include <stdint.h>

/* What helper-digest writes to standard output. */
struct helper_digest {
	int32_t error; /* errno; the rest is 0 then */
	uint32_t finite; /* 1: floating-point tensors hold no NaN or Inf; 0: some do; 2: unknown format */
	uint64_t size_bytes;
	uint8_t digest[16]; /* XXH3-128, canonical */
};

/* --path PATH: digest a file or a directory (ladder/content.h); safetensors files are also looked through for values
 * that are not finite. */
int helper_digest_main(int argc, char **argv);

/* --path FILE --before-step N: verify a rank's newest snapshots of steps < N; writes struct
 * snapshot_finding[MEMORY_SLOTS]. */
int helper_survey_main(int argc, char **argv);

/*
 * --dir DIR --ranks N --cap-bytes B: write the ranks' output to DIR/rank-NNNN.{out,err}.
 * Descriptors from 3: N pairs of pipe ends (out, err), then a file of N u64 that counts bytes a rank.
 * Ends when every pipe has ended.
 */
int helper_logger_main(int argc, char **argv);

#endif
