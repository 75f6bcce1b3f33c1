/*
 * The newest step that every rank holds in shared memory, by the headers of the snapshots alone.
 *
 * For display only: bodies are not verified here, a restart does that (H8).  Reads, never writes.
 */
#ifndef CLI_MEMSTEP_H
#define CLI_MEMSTEP_H

#include <stdint.h>

/* STEP_NONE when there is none, or when the snapshots are not to be found or not ours to read. */
uint64_t memstep_newest(const char *shm_dir, const uint8_t run_id[16], uint32_t rank_count);

#endif
