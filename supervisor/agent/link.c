/* See link.h. */
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

#include "supervisor/agent/link.h"
#include "supervisor/clock.h"

struct link {
	struct event_base *base;
	struct bufferevent *stream; /* NULL: no supervisor */
	struct link_callbacks callbacks;
	/* Unacknowledged messages, oldest first: a ring that grows to LINK_MESSAGES_MAX. */
	struct record **messages;
	size_t capacity, first, count;
	size_t sent;       /* of them */
	uint64_t last_seq; /* source_seq of the newest */
	bool welcomed;
};

struct link *link_new(struct event_base *base, const struct link_callbacks *callbacks)
{
	struct link *l = calloc(1, sizeof(*l));

	if (l == NULL)
		return NULL;
	l->base = base;
	l->callbacks = *callbacks;
	return l;
}

static struct record **message_at(const struct link *l, size_t index)
{
	return &l->messages[(l->first + index) % l->capacity];
}

void link_free(struct link *l)
{
	if (l == NULL)
		return;
	link_close(l);
	for (size_t i = 0; i < l->count; i++)
		free(*message_at(l, i));
	free(l->messages);
	free(l);
}

void link_close(struct link *l)
{
	if (l->stream != NULL)
		bufferevent_free(l->stream);
	l->stream = NULL;
	l->welcomed = false;
	l->sent = 0;
}

static void on_read(struct bufferevent *stream, void *argument)
{
	struct link *l = argument;
	struct wire_frame frame;
	enum status status;

	while (l->stream == stream &&
	    (status = wire_peek(bufferevent_get_input(stream), &frame, NULL)) != STATUS_AGAIN) {
		bool taken = status == STATUS_OK &&
		    l->callbacks.on_frame(l->callbacks.context, &frame);

		if (l->stream != stream)
			return; /* closed by the frame */
		if (!taken) {
			l->callbacks.on_end(l->callbacks.context);
			return;
		}
		wire_done(bufferevent_get_input(stream), &frame);
	}
}

static void on_write(struct bufferevent *stream, void *argument)
{
	struct link *l = argument;

	(void)stream;
	l->callbacks.on_room(l->callbacks.context);
}

static void on_stream_end(struct bufferevent *stream, short what, void *argument)
{
	struct link *l = argument;

	(void)what;
	if (l->stream == stream)
		l->callbacks.on_end(l->callbacks.context);
}

bool link_open(struct link *l, int fd)
{
	link_close(l);
	evutil_make_socket_nonblocking(fd);
	l->stream = bufferevent_socket_new(l->base, fd, BEV_OPT_CLOSE_ON_FREE);
	if (l->stream == NULL)
		return false;
	bufferevent_setcb(l->stream, on_read, on_write, on_stream_end, l);
	bufferevent_setwatermark(l->stream, EV_WRITE, LINK_OUTPUT_MAX / 4, 0);
	bufferevent_setwatermark(l->stream, EV_READ, 0, WIRE_PAYLOAD_MAX + (1u << 20));
	bufferevent_enable(l->stream, EV_READ | EV_WRITE);
	return true;
}

bool link_welcomed(const struct link *l)
{
	return l->welcomed;
}

static void send_record(struct link *l, enum wire_type type, const struct record *r)
{
	struct wire_part part = {r, r->size_bytes};

	/* Memory being short here drops the supervisor, whose successor gets it again. */
	if (wire_send(bufferevent_get_output(l->stream), type, &part, 1) != 0)
		link_close(l);
}

void link_hello(struct link *l, enum wire_type type, const struct record *r)
{
	if (l->stream != NULL)
		send_record(l, type, r);
}

void link_welcome(struct link *l, uint64_t source_seq)
{
	link_ack(l, source_seq);
	l->sent = 0;
	l->welcomed = true;
}

void link_rewind(struct link *l)
{
	struct wire_part nothing = {"", 0};

	l->sent = 0;
	if (l->stream != NULL &&
	    wire_send(bufferevent_get_output(l->stream), WIRE_REWIND, &nothing, 1) != 0)
		link_close(l);
}

void link_ack(struct link *l, uint64_t source_seq)
{
	while (l->count > 0 && (*message_at(l, 0))->source_seq <= source_seq) {
		free(*message_at(l, 0));
		l->first = (l->first + 1) % l->capacity;
		l->count--;
		if (l->sent > 0)
			l->sent--;
	}
}

void *link_record(uint16_t kind, size_t fixed_bytes, size_t text_bytes)
{
	size_t rounded = RECORD_ROUND(fixed_bytes + text_bytes);
	struct record *r = calloc(1, rounded);

	if (r == NULL)
		abort(); /* a few hundred bytes: the machine is beyond work; the next agent continues */
	r->kind = kind;
	r->version = 1;
	r->size_bytes = (uint32_t)rounded;
	return r;
}

void link_post(struct link *l, struct record *r, uint64_t time_ns)
{
	if (l->count == l->capacity && l->capacity < LINK_MESSAGES_MAX) {
		size_t wanted = l->capacity == 0 ? 64 : l->capacity * 2;
		struct record **grown = calloc(wanted, sizeof(*grown));

		if (grown != NULL) {
			for (size_t i = 0; i < l->count; i++)
				grown[i] = *message_at(l, i);
			free(l->messages);
			l->messages = grown;
			l->capacity = wanted;
			l->first = 0;
		}
	}
	/* Full only when somebody outside stops and continues ranks thousands of times while there is no
	 * supervisor: such a notice is dropped, the state it told of is found by sampling.  The last places are
	 * for what cannot be found again. */
	if (l->count == l->capacity ||
	    (r->kind == RECORD_STOPPED && l->count >= LINK_MESSAGES_MAX - LINK_MESSAGES_KEPT)) {
		free(r);
		return;
	}
	r->source_seq = ++l->last_seq;
	r->time_ns = time_ns != 0 ? time_ns : clock_monotonic_ns();
	*message_at(l, l->count) = r;
	l->count++;
	l->callbacks.on_room(l->callbacks.context);
}

const struct record *link_next(const struct link *l)
{
	return l->welcomed && l->sent < l->count ? *message_at(l, l->sent) : NULL;
}

void link_send_next(struct link *l)
{
	const struct record *r = link_next(l);

	if (r == NULL)
		return;
	l->sent++;
	send_record(l, WIRE_RECORD, r);
}

void link_send_iterations(
    struct link *l, const struct wire_ring *ring, const struct iteration *it, const char *path)
{
	struct wire_part parts[] = {{ring, sizeof(*ring)}, {it, ring->count * sizeof(*it)},
	    {path, path != NULL ? strlen(path) + 1 : 0}};

	if (wire_send(bufferevent_get_output(l->stream),
		path != NULL ? WIRE_SAVED : WIRE_ITERATIONS, parts, 3) != 0)
		link_close(l);
}

bool link_has_room(const struct link *l)
{
	return l->stream != NULL && l->welcomed &&
	    evbuffer_get_length(bufferevent_get_output(l->stream)) < LINK_OUTPUT_MAX;
}

bool link_idle(const struct link *l)
{
	return l->count == 0;
}
