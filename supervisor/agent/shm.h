/*
 * The run's files of shared memory: how they are named, found and removed.
 *
 *	DIR/holdfast-RUN-ATTEMPT-RANK.channel	the channel of a rank in one attempt
 *	DIR/holdfast-RUN-ATTEMPT-RANK.notify	where a rank's datagrams for sd_notify(3) go
 *	DIR/holdfast-RUN-ATTEMPT-…		what trainers of an attempt share among themselves
 *	DIR/holdfast-RUN-rank-RANK.snapshot	a rank's snapshots, which outlive attempts
 *
 * RUN is the first 16 hexadecimal digits of the run's id.  Opens and maps nothing (agent/ring.h does).
 */
#ifndef AGENT_SHM_H
#define AGENT_SHM_H

#include <stdbool.h>
#include <stdint.h>

#define SHM_PATH_MAX 512u /* bytes, with the NUL */

struct shm {
	const char *dir;     /* borrowed */
	const char *run_hex; /* borrowed: the run's id, 32 hexadecimal digits */
};

/* Where the channel and the socket of a rank in one attempt lie, and where its snapshots do. */
void shm_channel_path(const struct shm *shm, uint32_t attempt, uint32_t rank, char out[SHM_PATH_MAX]);
void shm_notify_path(const struct shm *shm, uint32_t attempt, uint32_t rank, char out[SHM_PATH_MAX]);
void shm_snapshot_path(const struct shm *shm, uint32_t rank, char out[SHM_PATH_MAX]);

/* Call on_channel for each channel that is there, in no order; it may remove the file it is called for. */
typedef void shm_visit(void *context, uint32_t attempt, uint32_t rank, const char *path);
void shm_each_channel(const struct shm *shm, shm_visit *on_channel, void *context);

/* Remove what trainers of attempts up to `attempt` shared; not channels, which go when the journal holds their
 * reports. */
void shm_remove_attempts(const struct shm *shm, uint32_t attempt);

/* Remove all of the run, snapshots and channels too. */
void shm_remove_all(const struct shm *shm);

#endif
