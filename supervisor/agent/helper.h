/*
 * The agent's helpers, as programs: `holdfast helper-…`.  They may block and crash; the agent may not.
 */
#ifndef AGENT_HELPER_H
#define AGENT_HELPER_H

#include <stdatomic.h>
#include <stdint.h>

#include "supervisor/progress/recogniser.h"

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

/* What a logger counts of a rank. */
struct logger_rank {
	_Atomic uint64_t bytes; /* that it took from the rank's pipes */
	_Atomic uint32_t busy;  /* 1 while what it took is not recognised yet */
	uint32_t reserved;
};

/* Memory that agent and logger share, and that outlives a logger: the next one goes on with it. */
struct logger_words {
	_Atomic uint32_t reporter; /* number of the rank whose output is reported, from 1; 0: none */
	_Atomic uint32_t format;   /* enum progress_format, once reporter is set */
	_Atomic uint64_t looks;    /* how often the followed file was looked at */
	uint64_t file_device, file_inode, file_offset; /* how far it was read; inode 0: not at all */
	uint64_t step_ns, gap_ns; /* monotonic time of the last step seen, and what lay before it */
	uint64_t phase_ns;        /* when the current phase was entered */
	uint32_t phase;           /* enum phase */
	uint32_t noted;           /* 1: the log says that the pattern is too slow */
	struct recogniser recogniser; /* of the reporter; its pointers mean nothing to another process */
	struct logger_rank ranks[];
};

/*
 * --dir DIR --ranks N --cap-bytes B: write the ranks' output to DIR/rank-NNNN.{out,err}.
 * --progress WHERE --shm-dir DIR --run HEX --attempt N --after-step N: report the iterations that it tells of,
 * from WHERE `holdfast run --progress` was told, into the rank's channel.  --notify 1: sockets follow.
 * Descriptors from 3: N pairs of pipe ends (out, err), a file that holds struct logger_words, and with --notify N
 * datagram sockets.  Ends when every pipe has ended.
 */
int helper_logger_main(int argc, char **argv);

#endif
