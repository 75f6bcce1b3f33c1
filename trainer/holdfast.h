/*
 * libholdfast: what a training program says to its supervisor.
 *
 * Every call is a harmless no-op when the program was not started by `holdfast run`, so that the same
 * binary runs by hand.  No call waits for the supervisor (H11); reporting a step makes no system call.
 * The library needs nothing but libc.  One thread uses it: the one that called holdfast_open(), which
 * should be the main thread, for its end is how the supervisor learns of a crash within a millisecond.
 *
 * Functions that can fail return 0 or a negative errno.  libholdfast(3) describes each.
 */
#ifndef HOLDFAST_H
#define HOLDFAST_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define HOLDFAST_API __attribute__((visibility("default")))
#define HOLDFAST_STEP_NONE UINT64_MAX

struct holdfast; /* one supervised process */

/* What one iteration did.  Fill what you have and name it in fields; the rest is ignored. */
struct holdfast_step {
	uint64_t step; /* counts up from any start, across restarts the same step has the same number */
	uint32_t fields; /* HOLDFAST_LOSS | … */
	uint32_t reserved;
	double loss;
	double grad_norm;
	double learning_rate;
	uint64_t tokens;      /* consumed by this step, by the group */
	uint64_t data_cursor; /* position in the data after this step */
	uint64_t digest;      /* of whatever should agree between replicas and between runs */
	uint64_t compute_ns;  /* this rank's own work, without waiting for others */
};

enum holdfast_field {
	HOLDFAST_LOSS = 1,
	HOLDFAST_GRAD_NORM = 2,
	HOLDFAST_LEARNING_RATE = 4,
	HOLDFAST_TOKENS = 8,
	HOLDFAST_DATA_CURSOR = 16,
	HOLDFAST_DIGEST = 32,
	HOLDFAST_COMPUTE = 64,
	HOLDFAST_NOT_FINITE = 128 /* no value: something else that was measured is a NaN or an infinity */
};

enum holdfast_phase {
	HOLDFAST_PHASE_INIT = 0,
	HOLDFAST_PHASE_STEP = 1,
	HOLDFAST_PHASE_EVALUATION = 2,
	HOLDFAST_PHASE_CHECKPOINT = 3,
	HOLDFAST_PHASE_RESTORE = 4,
	HOLDFAST_PHASE_OTHER = 5
};

enum holdfast_source {
	HOLDFAST_FROM_SCRATCH = 0,
	HOLDFAST_FROM_MEMORY = 1, /* holdfast_restore_begin() gives the state */
	HOLDFAST_FROM_FILE = 2    /* load path */
};

/* From where to continue. path is valid until holdfast_close(). */
struct holdfast_resume {
	uint32_t source;  /* enum holdfast_source */
	uint32_t attempt; /* from 1; 0 when not supervised */
	uint64_t step; /* the last step that the state contains; HOLDFAST_STEP_NONE from scratch */
	const char *path; /* for HOLDFAST_FROM_FILE, else NULL */
};

/*
 * Join the supervisor, once, early in main().  Returns NULL when the program is not supervised or the
 * channel cannot be used (one line on standard error then); every other call takes NULL and does nothing.
 * Installs handlers for SIGSEGV, SIGBUS, SIGFPE, SIGILL and SIGABRT where the program has none, which let
 * the supervisor read the crashing thread's stack for at most three seconds and then end as before.
 */
HOLDFAST_API struct holdfast *holdfast_open(void);

/* Leave in good order.  Also done at exit(3).  NULL is allowed. */
HOLDFAST_API void holdfast_close(struct holdfast *hf);

/* Fills *out (also when hf is NULL: from scratch, attempt 0). */
HOLDFAST_API void holdfast_resume_from(const struct holdfast *hf, struct holdfast_resume *out);

/* Report a finished iteration.  Wait-free, no system call; *report is borrowed. */
HOLDFAST_API void holdfast_step(struct holdfast *hf, const struct holdfast_step *report);

/* Enter a phase.  The first holdfast_step() enters HOLDFAST_PHASE_STEP by itself. */
HOLDFAST_API void holdfast_phase(struct holdfast *hf, enum holdfast_phase phase);

/* Between these two the rank waits for its peers: a stall is then not this rank's fault. */
HOLDFAST_API void holdfast_wait_begin(struct holdfast *hf);
HOLDFAST_API void holdfast_wait_end(struct holdfast *hf);

/*
 * Save the state after `step` into memory that outlives the process.
 * begin, then write the state in pieces of any size, exactly size_bytes in all, then commit.  Until commit
 * returns, the older snapshots stand.  A snapshot that is begun again without commit is dropped.
 * begin: -ENOSPC when the memory for three snapshots cannot be had (say so once; go on without: the supervisor
 * learns how much it would take, and later calls fail at once), -EINVAL for size_bytes 0 or no step, -ENOTCONN when
 * hf is NULL.  write and commit: -EINVAL when the pieces are not size_bytes in all or nothing was begun; the snapshot
 * is dropped then.  begin and commit: -EDOM once holdfast_step() was given a loss or a gradient norm that is not
 * finite, or HOLDFAST_NOT_FINITE: the snapshots of before that stand.
 */
HOLDFAST_API int holdfast_snapshot_begin(struct holdfast *hf, uint64_t step, uint64_t size_bytes);
HOLDFAST_API int holdfast_snapshot_write(struct holdfast *hf, const void *data, size_t size_bytes);
HOLDFAST_API int holdfast_snapshot_commit(struct holdfast *hf);

/*
 * Read the snapshot of `step` back.  begin verifies its digest first: -ENOENT when no slot holds that step,
 * -EBADMSG when its bytes are not those that were saved; end after reading what is needed.  read: -EINVAL
 * beyond the end or when nothing was begun.
 */
HOLDFAST_API int holdfast_restore_begin(struct holdfast *hf, uint64_t step, uint64_t *size_bytes_out);
HOLDFAST_API int holdfast_restore_read(struct holdfast *hf, void *data, size_t size_bytes);
HOLDFAST_API int holdfast_restore_end(struct holdfast *hf);

/*
 * Announce a checkpoint file that is complete, synced and in its final place, holding the state after
 * `step`.  shard_count is the number of files that make the whole checkpoint (1 for one file).
 * A path that is not absolute is taken from the working directory of this moment.  -EINVAL for no path, no
 * shard or no step, -ENAMETOOLONG for an absolute path of more than 4087 bytes, -EAGAIN when the supervisor is
 * so far behind that the announcement was lost: announce it again later.  -EBUSY when the program's iterations were
 * taken from its output before it called holdfast_open(): call that earlier.  0 when hf is NULL.
 */
HOLDFAST_API int holdfast_checkpoint_saved(
    struct holdfast *hf, uint64_t step, const char *path, uint32_t shard_count);

/* 1 when the supervisor asked the program to save what it needs and end with status 0. */
HOLDFAST_API int holdfast_should_stop(const struct holdfast *hf);

/* 1 once for each time the supervisor asked for a checkpoint now. */
HOLDFAST_API int holdfast_should_checkpoint(struct holdfast *hf);

#ifdef __cplusplus
}
#endif

#endif
