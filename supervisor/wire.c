/* Framing: see wire.h. */
#include <string.h>

#include <event2/buffer.h>

#include "supervisor/wire.h"

int wire_send(struct evbuffer *out, enum wire_type type, const struct wire_part *parts, size_t count)
{
	static const uint8_t zeros[8];
	size_t size = 0;

	for (size_t i = 0; i < count; i++)
		size += parts[i].size_bytes;
	size_t padded = RECORD_ROUND(size);
	struct wire_head head = {.magic = WIRE_MAGIC,
	    .type = (uint16_t)type,
	    .version = WIRE_VERSION,
	    .size_bytes = (uint32_t)padded};

	assert(padded <= WIRE_PAYLOAD_MAX);
	if (evbuffer_expand(out, sizeof(head) + padded) != 0)
		return -1;
	evbuffer_add(out, &head, sizeof(head));
	for (size_t i = 0; i < count; i++)
		evbuffer_add(out, parts[i].bytes, parts[i].size_bytes);
	evbuffer_add(out, zeros, padded - size);
	return 0;
}

enum status wire_peek(struct evbuffer *in, struct wire_frame *frame, struct cause *why)
{
	struct wire_head head;

	if (evbuffer_copyout(in, &head, sizeof(head)) < (ev_ssize_t)sizeof(head))
		return STATUS_AGAIN;
	if (head.magic != WIRE_MAGIC || head.version != WIRE_VERSION || head.type < WIRE_RUN ||
	    head.type >= WIRE_TYPE_COUNT || head.size_bytes > WIRE_PAYLOAD_MAX ||
	    head.size_bytes % 8 != 0) {
		cause_set(why, CAUSE_DATA, head.type, "frame", "head");
		return STATUS_BAD;
	}
	if (evbuffer_get_length(in) < sizeof(head) + head.size_bytes)
		return STATUS_AGAIN;

	/* pullup copies only when the frame is scattered over several chains; a chain may begin at any
	 * address, so the payload is moved to an aligned one where it is not. */
	uint8_t *bytes = evbuffer_pullup(in, (ev_ssize_t)(sizeof(head) + head.size_bytes));

	if (bytes == NULL) {
		cause_set(why, CAUSE_ERRNO, 12, "frame", "memory");
		return STATUS_SYS;
	}
	frame->type = head.type;
	frame->size_bytes = head.size_bytes;
	frame->payload = bytes + sizeof(head);
	if (((uintptr_t)frame->payload & 7) != 0) {
		struct evbuffer_iovec room;

		/* A fresh chain is aligned by malloc; sixteen bytes of head keep the payload so. */
		struct evbuffer *moved = evbuffer_new();

		if (moved == NULL ||
		    evbuffer_reserve_space(moved, (ev_ssize_t)evbuffer_get_length(in), &room, 1) != 1) {
			if (moved != NULL)
				evbuffer_free(moved);
			cause_set(why, CAUSE_ERRNO, 12, "frame", "memory");
			return STATUS_SYS;
		}
		ev_ssize_t length = evbuffer_copyout(in, room.iov_base, evbuffer_get_length(in));

		room.iov_len = (size_t)length;
		evbuffer_commit_space(moved, &room, 1);
		evbuffer_drain(in, (size_t)length);
		/* At the front: the end of a bufferevent's input is frozen for all but its socket. */
		int lost = evbuffer_prepend_buffer(in, moved);

		assert(lost == 0);
		evbuffer_free(moved);
		bytes = evbuffer_pullup(in, (ev_ssize_t)(sizeof(head) + head.size_bytes));
		frame->payload = bytes + sizeof(head);
		assert(((uintptr_t)frame->payload & 7) == 0);
	}
	return STATUS_OK;
}

void wire_done(struct evbuffer *in, const struct wire_frame *frame)
{
	evbuffer_drain(in, sizeof(struct wire_head) + frame->size_bytes);
}

const struct iteration *wire_iterations(
    const struct wire_frame *frame, const struct wire_ring **ring, const char **path_out)
{
	const struct wire_ring *r = frame->payload;

	if (frame->size_bytes < sizeof(*r) || r->count == 0 || r->count > WIRE_ITERATIONS_MAX)
		return NULL;
	size_t need = sizeof(*r) + (size_t)r->count * sizeof(struct iteration);

	if (frame->size_bytes < need)
		return NULL;
	if (path_out != NULL)
		*path_out = NULL;
	if (frame->type == WIRE_SAVED) {
		const char *path = (const char *)frame->payload + need;
		size_t room = frame->size_bytes - need;

		if (r->count != 1 || room == 0 || room > RECORD_TEXT_MAX + 8 ||
		    memchr(path, '\0', room) == NULL)
			return NULL;
		if (path_out != NULL)
			*path_out = path;
	}
	*ring = r;
	return (const struct iteration *)(r + 1);
}
