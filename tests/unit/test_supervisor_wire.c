/*
 * The frames between agent and supervisor: whole, split at every byte, scattered over unaligned chains as a
 * socket leaves them, and wrong in every field; then 100,000 seeded mutations (H10).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

#include <cmocka.h>

#include "supervisor/wire.h"
#include "tests/unit/samples.h"

#define MUTATIONS 100000u

static struct cause why;

/* A frame's bytes; the caller frees them. */
static uint8_t *flatten(struct evbuffer *from, size_t *size)
{
	*size = evbuffer_get_length(from);
	uint8_t *bytes = malloc(*size + 1);

	assert_non_null(bytes);
	assert_int_equal(evbuffer_remove(from, bytes, *size), *size);
	return bytes;
}

static struct iteration report(uint64_t ring_seq)
{
	return (struct iteration){.ring_seq = ring_seq,
	    .kind = ITERATION_STEP,
	    .step = ring_seq,
	    .check = CHANNEL_MAGIC ^ ring_seq};
}

/* One frame of each kind that carries reports, and an empty one: what every test cuts and bends. */
static uint8_t *sample_stream(size_t *size)
{
	struct evbuffer *out = evbuffer_new();
	struct iteration reports[3] = {report(1), report(2), report(3)};
	struct wire_ring ring = {.rank = 1, .attempt = 2, .count = 3};
	struct wire_ring saved = {.rank = 1, .attempt = 2, .count = 1};
	struct wire_part iterations[] = {{&ring, sizeof(ring)}, {reports, sizeof(reports)}, {NULL, 0}};
	struct wire_part path[] = {
	    {&saved, sizeof(saved)}, {reports, sizeof(reports[0])}, {"/a/b", 5}};

	assert_int_equal(wire_send(out, WIRE_ITERATIONS, iterations, 3), 0);
	assert_int_equal(wire_send(out, WIRE_SAVED, path, 3), 0);
	assert_int_equal(wire_send(out, WIRE_REWIND, NULL, 0), 0);
	uint8_t *bytes = flatten(out, size);

	evbuffer_free(out);
	return bytes;
}

/* The next frame must be of this type; its reports are those of sample_stream(). */
static void expect_frame(struct evbuffer *in, enum wire_type type)
{
	struct wire_frame frame;
	const struct wire_ring *ring;
	const char *path = "untouched";

	assert_int_equal(wire_peek(in, &frame, &why), STATUS_OK);
	assert_int_equal(frame.type, type);
	assert_int_equal((uintptr_t)frame.payload & 7, 0);
	if (type == WIRE_REWIND) {
		assert_int_equal(frame.size_bytes, 0);
	} else {
		const struct iteration *it = wire_iterations(&frame, &ring, &path);

		assert_non_null(it);
		assert_int_equal(ring->rank, 1);
		assert_int_equal(ring->attempt, 2);
		assert_int_equal(ring->count, type == WIRE_SAVED ? 1 : 3);
		for (uint32_t i = 0; i < ring->count; i++)
			assert_int_equal(it[i].ring_seq, i + 1);
		if (type == WIRE_SAVED)
			assert_string_equal(path, "/a/b");
		else
			assert_null(path);
	}
	wire_done(in, &frame);
}

static void expect_stream(struct evbuffer *in)
{
	struct wire_frame frame;

	expect_frame(in, WIRE_ITERATIONS);
	expect_frame(in, WIRE_SAVED);
	expect_frame(in, WIRE_REWIND);
	assert_int_equal(wire_peek(in, &frame, &why), STATUS_AGAIN);
	assert_int_equal(evbuffer_get_length(in), 0);
}

static void ignore_free(const void *bytes, size_t size, void *context)
{
	(void)bytes;
	(void)size;
	(void)context;
}

static void split_at_every_byte(void **state)
{
	size_t size;
	uint8_t *bytes = sample_stream(&size);

	(void)state;
	for (size_t cut = 0; cut <= size; cut++) {
		struct evbuffer *in = evbuffer_new();
		struct wire_frame frame;

		/* Referenced memory makes each piece a chain of its own. */
		evbuffer_add_reference(in, bytes, cut, ignore_free, NULL);
		size_t first = ((const struct wire_head *)bytes)->size_bytes +
		    sizeof(struct wire_head);

		if (cut < first)
			assert_int_equal(wire_peek(in, &frame, &why), STATUS_AGAIN);
		evbuffer_add_reference(in, bytes + cut, size - cut, ignore_free, NULL);
		expect_stream(in);
		evbuffer_free(in);
	}
	free(bytes);
}

static void byte_by_byte(void **state)
{
	size_t size;
	uint8_t *bytes = sample_stream(&size);
	struct evbuffer *in = evbuffer_new();
	struct wire_frame frame;
	unsigned frames = 0;

	(void)state;
	for (size_t i = 0; i < size; i++) {
		evbuffer_add(in, bytes + i, 1);
		enum status status = wire_peek(in, &frame, &why);

		assert_true(status == STATUS_AGAIN || status == STATUS_OK);
		if (status == STATUS_OK) {
			frames++;
			wire_done(in, &frame);
		}
	}
	assert_int_equal(frames, 3);
	evbuffer_free(in);
	free(bytes);
}

/* A chain may begin at any address: the payload is moved to an aligned one, and nothing is lost. */
static void unaligned_chains(void **state)
{
	size_t size;
	uint8_t *bytes = sample_stream(&size);
	uint8_t *shifted = malloc(size + 16);

	(void)state;
	for (size_t shift = 0; shift < 8; shift++) {
		struct evbuffer *in = evbuffer_new();

		memcpy(shifted + shift, bytes, size);
		evbuffer_add_reference(in, shifted + shift, size, ignore_free, NULL);
		expect_stream(in);
		evbuffer_free(in);
	}
	free(shifted);
	free(bytes);
}

/* The same where it happens: in the input of a bufferevent, whose end is frozen for all but the socket. */
struct session {
	struct event_base *base;
	unsigned frames;
	bool started;
};

static void on_read(struct bufferevent *stream, void *argument)
{
	struct session *s = argument;
	struct evbuffer *in = bufferevent_get_input(stream);
	struct wire_frame frame;

	/* Three bytes of something else shift the rest of the chain. */
	if (!s->started && evbuffer_get_length(in) >= 3) {
		evbuffer_drain(in, 3);
		s->started = true;
	}
	while (s->started && wire_peek(in, &frame, &why) == STATUS_OK) {
		s->frames++;
		wire_done(in, &frame);
	}
	if (s->frames == 3)
		event_base_loopbreak(s->base);
}

static void unaligned_in_a_bufferevent(void **state)
{
	struct session s = {.base = event_base_new()};
	struct timeval limit = {.tv_sec = 10};
	size_t size;
	uint8_t *bytes = sample_stream(&size);
	int ends[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
	struct bufferevent *stream = bufferevent_socket_new(s.base, ends[0], BEV_OPT_CLOSE_ON_FREE);

	bufferevent_setcb(stream, on_read, NULL, NULL, &s);
	bufferevent_enable(stream, EV_READ);
	assert_int_equal(write(ends[1], "abc", 3), 3);
	assert_int_equal(write(ends[1], bytes, size), size);
	event_base_loopexit(s.base, &limit);
	event_base_dispatch(s.base);
	assert_int_equal(s.frames, 3);
	bufferevent_free(stream);
	close(ends[1]);
	event_base_free(s.base);
	free(bytes);
}

static enum status peek_head(struct wire_head head, size_t payload_bytes)
{
	struct evbuffer *in = evbuffer_new();
	struct wire_frame frame;
	uint8_t *zeros = calloc(1, payload_bytes + 1);

	evbuffer_add(in, &head, sizeof(head));
	evbuffer_add(in, zeros, payload_bytes);
	enum status status = wire_peek(in, &frame, &why);

	evbuffer_free(in);
	free(zeros);
	return status;
}

static void wrong_heads(void **state)
{
	const struct wire_head good = {
	    .magic = WIRE_MAGIC, .type = WIRE_ACK, .version = WIRE_VERSION, .size_bytes = 16};
	struct wire_head head;

	(void)state;
	assert_int_equal(peek_head(good, 16), STATUS_OK); /* control */
	assert_int_equal(peek_head(good, 15), STATUS_AGAIN);
	for (unsigned bit = 0; bit < 32; bit++) {
		head = good;
		head.magic ^= 1u << bit;
		assert_int_equal(peek_head(head, 16), STATUS_BAD);
	}
	for (unsigned version = 0; version < 65536; version += 257) {
		head = good;
		head.version = (uint16_t)version;
		assert_int_equal(peek_head(head, 16), version == WIRE_VERSION ? STATUS_OK : STATUS_BAD);
	}
	for (unsigned type = 0; type < 64; type++) {
		head = good;
		head.type = (uint16_t)type;
		assert_int_equal(peek_head(head, 16),
		    type >= WIRE_RUN && type < WIRE_TYPE_COUNT ? STATUS_OK : STATUS_BAD);
	}
	head = good;
	head.size_bytes = 12;
	assert_int_equal(peek_head(head, 16), STATUS_BAD);
	head.size_bytes = WIRE_PAYLOAD_MAX;
	assert_int_equal(peek_head(head, 16), STATUS_AGAIN); /* control: still allowed */
	head.size_bytes = WIRE_PAYLOAD_MAX + 8;
	assert_int_equal(peek_head(head, 16), STATUS_BAD);
	head.size_bytes = UINT32_MAX - 7;
	assert_int_equal(peek_head(head, 16), STATUS_BAD);
}

/* wire_iterations() on a payload of exactly size_bytes, in memory of exactly that size (for the sanitizer). */
static bool payload_taken(
    enum wire_type type, uint32_t count, size_t size_bytes, const char *tail, size_t tail_bytes)
{
	struct wire_ring ring = {.count = count};
	const struct wire_ring *ring_out;
	const char *path;
	uint8_t *payload = calloc(1, size_bytes + (size_bytes == 0));

	assert_non_null(payload);
	memcpy(payload, &ring, size_bytes < sizeof(ring) ? size_bytes : sizeof(ring));
	if (tail_bytes > 0)
		memcpy(payload + size_bytes - tail_bytes, tail, tail_bytes);
	struct wire_frame frame = {
	    .type = type, .size_bytes = (uint32_t)size_bytes, .payload = payload};
	bool taken = wire_iterations(&frame, &ring_out, &path) != NULL;

	/* Whoever wants no path may leave it away. */
	assert_int_equal(wire_iterations(&frame, &ring_out, NULL) != NULL, taken);
	free(payload);
	return taken;
}

static void counts_and_paths(void **state)
{
	const size_t head = sizeof(struct wire_ring), one = sizeof(struct iteration);
	char *long_path = malloc(RECORD_TEXT_MAX + 64);

	(void)state;
	assert_true(payload_taken(WIRE_ITERATIONS, 1, head + one, NULL, 0));
	assert_true(payload_taken(
	    WIRE_ITERATIONS, WIRE_ITERATIONS_MAX, head + WIRE_ITERATIONS_MAX * one, NULL, 0));
	assert_false(payload_taken(WIRE_ITERATIONS, 0, head + one, NULL, 0));
	assert_false(payload_taken(WIRE_ITERATIONS, WIRE_ITERATIONS_MAX + 1,
	    head + (WIRE_ITERATIONS_MAX + 1) * one, NULL, 0));
	assert_false(payload_taken(WIRE_ITERATIONS, UINT32_MAX, head + one, NULL, 0));
	for (size_t size = 0; size < head + 3 * one; size += 8)
		assert_false(payload_taken(WIRE_ITERATIONS, 3, size, NULL, 0));
	/* A path of one byte and its NUL; none; one without its NUL; a frame of two reports. */
	assert_true(payload_taken(WIRE_SAVED, 1, head + one + 8, "a\0\0\0\0\0\0", 8));
	assert_false(payload_taken(WIRE_SAVED, 1, head + one, NULL, 0));
	assert_false(payload_taken(WIRE_SAVED, 1, head + one + 8, "abcdefgh", 8));
	assert_false(payload_taken(WIRE_SAVED, 2, head + 2 * one + 8, "a\0\0\0\0\0\0", 8));
	memset(long_path, 'x', RECORD_TEXT_MAX + 64);
	long_path[RECORD_TEXT_MAX - 1] = '\0';
	assert_true(
	    payload_taken(WIRE_SAVED, 1, head + one + RECORD_TEXT_MAX, long_path, RECORD_TEXT_MAX));
	assert_false(payload_taken(
	    WIRE_SAVED, 1, head + one + RECORD_TEXT_MAX + 16, long_path, RECORD_TEXT_MAX + 16));
	free(long_path);
}

/* Whatever comes, a frame lies inside what came, and the reports and the path inside the frame. */
static void read_hostile(struct evbuffer *in)
{
	struct wire_frame frame;
	const struct wire_ring *ring;
	const char *path;
	volatile uint64_t sum = 0;

	while (wire_peek(in, &frame, &why) == STATUS_OK) {
		const uint8_t *payload = frame.payload;

		assert_true(frame.type >= WIRE_RUN && frame.type < WIRE_TYPE_COUNT);
		assert_true(evbuffer_get_length(in) >= sizeof(struct wire_head) + frame.size_bytes);
		for (uint32_t i = 0; i < frame.size_bytes; i++)
			sum += payload[i];
		const struct iteration *it = frame.type == WIRE_ITERATIONS || frame.type == WIRE_SAVED
		    ? wire_iterations(&frame, &ring, &path)
		    : NULL;

		if (it != NULL)
			assert_true((const uint8_t *)(it + ring->count) <= payload + frame.size_bytes);
		if (it != NULL && path != NULL)
			assert_true((const uint8_t *)path + strlen(path) < payload + frame.size_bytes);
		wire_done(in, &frame);
	}
}

static void mutations(void **state)
{
	uint64_t seed = sample_seed(20261124);
	size_t size;
	uint8_t *bytes = sample_stream(&size), *bent = malloc(size);

	(void)state;
	for (unsigned round = 0; round < MUTATIONS; round++) {
		struct evbuffer *in = evbuffer_new();
		size_t length = size, from = 0;

		memcpy(bent, bytes, size);
		for (uint64_t edits = 1 + sample_random(&seed) % 4; edits > 0; edits--) {
			size_t at = sample_random(&seed) % size;

			/* Heads and counts are where it hurts: most mutations go there. */
			if (sample_random(&seed) % 2 == 0)
				at %= sizeof(struct wire_head) + sizeof(struct wire_ring);
			bent[at] = sample_random(&seed) % 2 == 0
			    ? (uint8_t)sample_random(&seed)
			    : (uint8_t)(bent[at] ^ (1u << sample_random(&seed) % 8));
		}
		if (sample_random(&seed) % 4 == 0)
			length = sample_random(&seed) % size;
		while (from < length) {
			size_t piece = 1 + sample_random(&seed) % (length - from);

			evbuffer_add_reference(in, bent + from, piece, ignore_free, NULL);
			from += piece;
		}
		read_hostile(in);
		evbuffer_free(in);
	}
	free(bent);
	free(bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(split_at_every_byte),
	    cmocka_unit_test(byte_by_byte),
	    cmocka_unit_test(unaligned_chains),
	    cmocka_unit_test(unaligned_in_a_bufferevent),
	    cmocka_unit_test(wrong_heads),
	    cmocka_unit_test(counts_and_paths),
	    cmocka_unit_test(mutations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
