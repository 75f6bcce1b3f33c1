/*
 * The agent's side of its conversation with the supervisor.
 *
 * Messages (input records) are numbered and kept until the supervisor has made them durable; a new supervisor
 * says how far its journal goes, and gets the rest again.  Nothing is sent before its welcome.  What waits is
 * bounded: LINK_MESSAGES_MAX messages, LINK_OUTPUT_MAX bytes under way (H10).  Invariants: H2.
 */
#ifndef AGENT_LINK_H
#define AGENT_LINK_H

#include <stdbool.h>
#include <stddef.h>

#include "journal/record.h"
#include "supervisor/wire.h"

#define LINK_MESSAGES_MAX 65536u
#define LINK_MESSAGES_KEPT 16384u /* of them, for more than notices of stops */
#define LINK_OUTPUT_MAX (4u << 20)

struct bufferevent;
struct event_base;
struct link;

struct link_callbacks {
	/* A frame from the supervisor.  False: not understood; the link is closed. */
	bool (*on_frame)(void *context, const struct wire_frame *frame);
	/* There is room to send. */
	void (*on_room)(void *context);
	/* The supervisor hung up. */
	void (*on_end)(void *context);
	void *context;
};

/* NULL: memory is short. */
struct link *link_new(struct event_base *base, const struct link_callbacks *callbacks);
void link_free(struct link *l);

/* Speak over fd from now on (taken).  Nothing but hello frames goes out before link_welcome(). */
bool link_open(struct link *l, int fd);
void link_close(struct link *l);
bool link_welcomed(const struct link *l);

/* Send a frame now, unnumbered: the hello. */
void link_hello(struct link *l, enum wire_type type, const struct record *r);

/* Messages up to source_seq are durable; the ones after it are to be sent (again). */
void link_welcome(struct link *l, uint64_t source_seq);
void link_ack(struct link *l, uint64_t source_seq);

/* Say that all that is not acknowledged comes again from here on, and send it. */
void link_rewind(struct link *l);

/*
 * Give a record on.  r is from malloc and becomes the link's; its kind, version, size and text are filled, its
 * time and source_seq are set here.  time_ns 0: now.
 */
void link_post(struct link *l, struct record *r, uint64_t time_ns);

/* The next unsent message, NULL when none; link_send_next() sends it. */
const struct record *link_next(const struct link *l);
void link_send_next(struct link *l);

/* Send reports of a ring; path for a checkpoint, else NULL. */
void link_send_iterations(
    struct link *l, const struct wire_ring *ring, const struct iteration *it, const char *path);

/* True while less than LINK_OUTPUT_MAX is under way. */
bool link_has_room(const struct link *l);

/* Nothing waits to be sent or acknowledged. */
bool link_idle(const struct link *l);

/* A zeroed record of `kind` with room for text_bytes behind its fixed part; never NULL. */
void *link_record(uint16_t kind, size_t fixed_bytes, size_t text_bytes);

#endif
