/*
 * What agent and supervisor say to each other, over a socketpair or TCP.
 *
 * A frame is struct wire_head and size_bytes of payload, little-endian.  Payloads:
 *	agent → supervisor
 *	WIRE_RUN         struct record_run: what it was started for; first frame of a connection
 *	WIRE_RECORD      one input record; head.time_ns is the agent's CLOCK_MONOTONIC, head.source_seq set
 *	WIRE_ITERATIONS  struct wire_ring, then struct iteration × count, in ring order
 *	WIRE_SAVED       struct wire_ring (count 1), one struct iteration, the path, NUL-terminated
 *	WIRE_REWIND      nothing: what was asked to come again comes from here on
 *	supervisor → agent
 *	WIRE_WELCOME     struct wire_welcome: what is durable already
 *	WIRE_COMMAND     one decision record, then the records its comment names
 *	WIRE_ACK         struct wire_ack: durable up to here
 *	WIRE_REWIND      nothing: send again every message and report that was not acknowledged
 *	WIRE_REFUSED     u32 exit code: the journal belongs to another run
 *	WIRE_PROTECT     u64 × POLICY_PROTECTED: ordinals of kept checkpoints that must not be given up to make room
 *
 * Both sides check every length and count before they use it (H10).  A frame that is not understood ends the
 * connection; the agent then starts a new supervisor.
 */
#ifndef SUPERVISOR_WIRE_H
#define SUPERVISOR_WIRE_H

#include <stddef.h>

#include "journal/record.h"
#include "journal/status.h"
#include "trainer/channel.h"

struct evbuffer;

#define WIRE_MAGIC 0x48464457u /* "WDFH" in memory */
#define WIRE_VERSION 1u
#define WIRE_PAYLOAD_MAX (RECORD_SIZE_MAX + (1u << 20))
#define WIRE_ITERATIONS_MAX 1024u /* a frame */

enum wire_type {
	WIRE_RUN = 1,
	WIRE_RECORD,
	WIRE_ITERATIONS,
	WIRE_SAVED,
	WIRE_WELCOME,
	WIRE_COMMAND,
	WIRE_ACK,
	WIRE_REWIND,
	WIRE_REFUSED,
	WIRE_PROTECT,
	WIRE_TYPE_COUNT
};

struct wire_head {
	uint32_t magic;
	uint16_t type, version;
	uint32_t size_bytes; /* of the payload; a multiple of 8 */
	uint32_t reserved;
};

struct wire_ring {
	uint32_t rank, attempt;
	uint32_t count, reserved;
};

struct wire_welcome {
	uint64_t source_seq; /* messages up to this one are durable */
	uint32_t attempt, reserved;
};

struct wire_ack {
	uint64_t source_seq;    /* messages up to this one are durable; 0: none new */
	uint32_t attempt, rank; /* rank RANK_NONE: no ring part */
	uint64_t ring_seq;      /* reports of that rank up to this one are durable */
};

/* A frame in place: payload points into the evbuffer and is valid until wire_done(). */
struct wire_frame {
	enum wire_type type;
	uint32_t size_bytes;
	const void *payload; /* 8-byte aligned */
};

/* Append a frame of up to three parts (NULL, 0 for absent); padded to 8.  Returns 0, or -1: memory is short. */
struct wire_part {
	const void *bytes;
	size_t size_bytes;
};
int wire_send(struct evbuffer *out, enum wire_type type, const struct wire_part *parts, size_t count);

/*
 * Look at the first frame of in.
 * Returns	STATUS_OK (*frame filled; call wire_done() after use), STATUS_AGAIN (not all here yet),
 *		STATUS_BAD (not our protocol or too long: end the connection), STATUS_SYS (memory is short).
 */
MUST_CHECK enum status wire_peek(struct evbuffer *in, struct wire_frame *frame, struct cause *why);
void wire_done(struct evbuffer *in, const struct wire_frame *frame);

/*
 * The payload of WIRE_ITERATIONS or WIRE_SAVED, taken apart.
 * Returns the first of ring->count iterations, NULL when lengths or counts do not fit.
 * path_out	may be NULL; for WIRE_SAVED the path, checked to be NUL-terminated.
 */
const struct iteration *wire_iterations(
    const struct wire_frame *frame, const struct wire_ring **ring, const char **path_out);

#endif
