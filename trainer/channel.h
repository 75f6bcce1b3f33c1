/*
 * The channel: one file of shared memory between a trainer's rank and its agent.
 *
 *	offset 0      struct channel_head   written by the agent before the trainer starts
 *	offset 4096   struct channel_control  words written by one side each
 *	offset 8192   CHANNEL_MAIL × 4096   paths of announced checkpoints, round robin
 *	CHANNEL_RING_OFFSET                 CHANNEL_RING × struct iteration
 *
 * The geometry is fixed by these constants; the agent never reads a size, an offset or a count out of the
 * mapping to find its way (H10).  The producer writes a slot, then stores
 * control.head with release order; the agent reads slots below head and stores control.tail after the
 * supervisor has made them durable (exactly once, H2, H3).  head and tail count slots since the start of
 * the attempt; slot i lies at i % CHANNEL_RING.  When head - tail = CHANNEL_RING, the report is dropped but
 * takes its ring_seq all the same, so that the next slot shows the hole, and control.lost_seq one that no slot
 * follows.  The producer never waits (H11).
 *
 * There is one producer: who first takes control.producer from CHANNEL_NOBODY with one compare-and-swap, and it stays
 * so.  holdfast_open() takes it for the trainer; the helper that reads the trainer's output takes it for
 * the iterations that it recognises there.  Who finds it taken writes nothing into the ring or the mail.
 *
 * control.lock is a pthread robust, process-shared mutex that the trainer's main thread holds from
 * holdfast_open() to holdfast_close() or its end.  Its futex word is its first 32 bits (glibc on Linux; a
 * test holds that): the owner's thread id, FUTEX_WAITERS set by the agent, FUTEX_OWNER_DIED set by the
 * kernel before the address space is torn down.
 *
 * control.alarm is a futex word: 0, then CHANNEL_ALARM_CRASH by a crash handler, which wakes it and waits
 * on alarm_answer until that is 1 or three seconds have passed.
 */
#ifndef TRAINER_CHANNEL_H
#define TRAINER_CHANNEL_H

#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "journal/record.h"

#define CHANNEL_MAGIC 0x31304c4e48434648ull /* "HFCHNL01" */
#define CHANNEL_VERSION 2u
#define CHANNEL_RING 8192u /* slots, a power of two */
#define CHANNEL_MAIL 16u
#define CHANNEL_MAIL_OFFSET 8192u
#define CHANNEL_RING_OFFSET (CHANNEL_MAIL_OFFSET + CHANNEL_MAIL * RECORD_TEXT_MAX)
#define CHANNEL_SIZE_BYTES (CHANNEL_RING_OFFSET + CHANNEL_RING * 128u)
#define CHANNEL_ALARM_CRASH 1u
#define CHANNEL_CRASH_WAIT_MS 3000

/* Environment the agent gives to a rank. */
#define CHANNEL_ENV "HOLDFAST_CHANNEL"    /* path of the channel */
#define CHANNEL_ENV_RUN "HOLDFAST_RUN_ID" /* 32 hexadecimal digits */

struct channel_head {
	uint64_t magic;
	uint32_t version;
	uint32_t rank, rank_count, attempt;
	uint32_t resume_source; /* enum start_source */
	uint32_t reserved;
	uint64_t resume_step;
	char resume_path[RECORD_TEXT_MAX - 256];
	char snapshot_path[200]; /* file of this rank's snapshots (trainer/snapshot.h) */
};

enum iteration_kind {
	ITERATION_STEP = 1,
	ITERATION_PHASE = 2,
	ITERATION_CHECKPOINT = 3,
	ITERATION_NO_ROOM = 5, /* tokens: bytes that the snapshots need; data_cursor: bytes that there are */
	ITERATION_LOST = 4, /* never in a slot: the agent says so that nothing follows what was lost up to ring_seq */
};

/* One slot.  Also what the agent sends to the supervisor, unchanged. */
struct iteration {
	uint64_t ring_seq; /* from 1; counts reports, dropped ones included */
	uint32_t kind;     /* enum iteration_kind */
	uint32_t fields;   /* STEP: enum iteration_field.  CHECKPOINT: shard_count */
	uint64_t step;
	uint64_t monotonic_ns; /* CLOCK_MONOTONIC at the report */
	uint64_t duration_ns; /* since the previous step report; PHASE: spent in the previous phase */
	uint64_t compute_ns;
	double loss, grad_norm, learning_rate;
	uint64_t tokens, data_cursor, digest;
	uint32_t phase;    /* current; PHASE: entered */
	uint32_t previous; /* PHASE: left.  CHECKPOINT: index of the mail slot */
	uint64_t mail_seq; /* CHECKPOINT: its number, from 1; the mail slot begins with it */
	uint64_t printed; /* 1: read from what the trainer prints; no other rank is to be waited for */
	uint64_t check; /* CHANNEL_MAGIC ^ ring_seq: tells garbage from a report */
};

/* A mail slot: u64 mail_seq, then the path, NUL-terminated. */
struct channel_mail {
	uint64_t mail_seq;
	char path[RECORD_TEXT_MAX - 8];
};

enum channel_producer { CHANNEL_NOBODY = 0, CHANNEL_TRAINER = 1, CHANNEL_OUTPUT = 2 };

struct channel_control {
	/* written by the trainer, those from head to phase by the producer */
	pthread_mutex_t lock;
	alignas(64) _Atomic uint64_t head;
	_Atomic uint64_t last_step;      /* STEP_NONE before the first */
	_Atomic uint64_t phase_since_ns; /* CLOCK_MONOTONIC */
	_Atomic uint64_t heartbeat_ns;   /* CLOCK_MONOTONIC of the last call of any kind */
	_Atomic uint32_t phase;
	_Atomic uint32_t waiting;
	_Atomic uint32_t connected; /* pid, once lock is held */
	_Atomic uint32_t leaving; /* 1: holdfast_close() was called; an owner's death means nothing */
	_Atomic uint32_t checkpoint_taken; /* last checkpoint_asked that was seen */
	_Atomic uint32_t producer;         /* enum channel_producer; by compare-and-swap */
	_Atomic uint64_t lost_seq; /* ring_seq of the last report that found no room; 0: none */
	alignas(64) _Atomic uint32_t alarm; /* futex word */
	_Atomic uint32_t crash_tid;
	_Atomic uint32_t crash_signal;
	_Atomic uint64_t crash_address;
	/* written by the agent */
	alignas(64) _Atomic uint64_t tail;
	_Atomic uint64_t tail_seq; /* ring_seq of the last report below tail */
	_Atomic uint32_t stop_asked;
	_Atomic uint32_t checkpoint_asked; /* counts up */
	_Atomic uint32_t alarm_answer;     /* futex word */
};

struct channel {
	struct channel_head head;
	alignas(4096) struct channel_control control;
	alignas(4096) struct channel_mail mail[CHANNEL_MAIL];
	struct iteration ring[CHANNEL_RING];
};

static_assert(sizeof(struct iteration) == 128, "ring slot");
static_assert(sizeof(struct channel_head) <= 4096, "channel head");
static_assert(sizeof(struct channel_control) <= 4096, "channel control");
static_assert(offsetof(struct channel, mail) == CHANNEL_MAIL_OFFSET, "mail");
static_assert(offsetof(struct channel, ring) == CHANNEL_RING_OFFSET, "ring");
static_assert(sizeof(struct channel) == CHANNEL_SIZE_BYTES, "channel");
static_assert(offsetof(struct channel_control, producer) == 116 &&
	offsetof(struct channel_control, alarm) == 128,
    "the words of a channel stay where they are");

/*
 * Make the channel of one rank (agent only): a new file of mode 0600 whose memory is all there already, so that
 * neither side ever meets a full file system as a SIGBUS; the lock is unlocked, last_step is STEP_NONE.
 *
 * path, head	borrowed; magic and version are filled in whatever head says.
 * Returns	0 or a negative errno, and then there is no file: -EEXIST (remove it first), -ENOSPC, -ENOMEM.
 */
int channel_create(const char *path, const struct channel_head *head);

/*
 * Become a channel's producer, for good.
 *
 * map, wanted	the mapping, borrowed; who asks: CHANNEL_TRAINER or CHANNEL_OUTPUT.
 * Returns	true when it is the producer now, or was already; false: another one is, write nothing.
 * Context	either side; never waits.
 */
bool channel_claim(struct channel *map, enum channel_producer wanted);

#endif
