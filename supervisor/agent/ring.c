/* See ring.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "supervisor/agent/guard.h"
#include "supervisor/agent/ring.h"
#include "supervisor/clock.h"

/* Whether the trainer may have made up this slot. */
static bool slot_plausible(const struct iteration *it, uint64_t last_seq)
{
	return it->check == (CHANNEL_MAGIC ^ it->ring_seq) && it->ring_seq > last_seq &&
	    ((it->kind >= ITERATION_STEP && it->kind <= ITERATION_CHECKPOINT) ||
		it->kind == ITERATION_NO_ROOM) &&
	    it->step != STEP_NONE && it->phase < PHASE_COUNT && it->previous < 1024;
}

static MUST_CHECK enum status ring_map(struct ring *ring, int fd, const char *path, struct cause *why)
{
	void *map = mmap(NULL, CHANNEL_SIZE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (map == MAP_FAILED) {
		cause_set(why, CAUSE_ERRNO, errno, "map", path);
		return STATUS_SYS;
	}
	memset(ring, 0, sizeof(*ring));
	ring->path = strdup(path);
	if (ring->path == NULL) {
		munmap(map, CHANNEL_SIZE_BYTES);
		cause_set(why, CAUSE_ERRNO, ENOMEM, "map", path);
		return STATUS_SYS;
	}
	ring->map = map;
	ring->guard = guard_add(map);
	return STATUS_OK;
}

enum status ring_create(
    struct ring *ring, const char *path, const struct channel_head *head, struct cause *why)
{
	int error = channel_create(path, head);
	int fd;
	enum status status;

	if (error != 0) {
		cause_set(why, CAUSE_ERRNO, -error, "create", path);
		return error == -ENOSPC || error == -ENOMEM ? STATUS_FULL : STATUS_SYS;
	}
	fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0) {
		cause_set(why, CAUSE_ERRNO, errno, "open", path);
		unlink(path);
		return STATUS_SYS;
	}
	status = ring_map(ring, fd, path, why);
	close(fd);
	if (status != STATUS_OK) {
		unlink(path);
		return status;
	}
	ring->rank = head->rank;
	ring->attempt = head->attempt;
	return STATUS_OK;
}

enum status ring_adopt(struct ring *ring, const char *path, struct cause *why)
{
	struct stat st;
	int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	enum status status;

	if (fd < 0) {
		cause_set(why, CAUSE_ERRNO, errno, "open", path);
		return STATUS_SYS;
	}
	if (fstat(fd, &st) != 0 || st.st_size != (off_t)CHANNEL_SIZE_BYTES || st.st_uid != geteuid()) {
		cause_set(why, CAUSE_DATA, st.st_size, "size", path);
		close(fd);
		return STATUS_BAD;
	}
	status = ring_map(ring, fd, path, why);
	close(fd);
	if (status != STATUS_OK)
		return status;
	if (ring->map->head.magic != CHANNEL_MAGIC || ring->map->head.version != CHANNEL_VERSION) {
		cause_set(why, CAUSE_DATA, (int64_t)ring->map->head.magic, "magic", path);
		ring_fini(ring, false);
		return STATUS_BAD;
	}
	ring->rank = ring->map->head.rank;
	ring->attempt = ring->map->head.attempt;
	/* The cursor in the mapping was the last agent's; slots in between are checked one by one. */
	ring->tail = ring->sent = ring->given = atomic_load(&ring->map->control.tail);
	/* Not from the slot below it, which the producer may have filled again. */
	ring->last_seq = ring->durable_seq = atomic_load(&ring->map->control.tail_seq);
	return STATUS_OK;
}

void ring_fini(struct ring *ring, bool remove)
{
	if (ring->map != NULL) {
		guard_remove(ring->guard);
		munmap(ring->map, CHANNEL_SIZE_BYTES);
	}
	if (remove && ring->path != NULL)
		unlink(ring->path);
	free(ring->path);
	memset(ring, 0, sizeof(*ring));
}

static void mark_damage(struct ring *ring, uint64_t offset, uint64_t value)
{
	if (ring->damaged)
		return;
	ring->damaged = true;
	ring->damage_offset = offset;
	ring->damage_value = value;
}

void ring_end(struct ring *ring)
{
	if (ring->map != NULL)
		ring->lost_seq = atomic_load_explicit(
		    &ring->map->control.lost_seq, memory_order_relaxed);
}

bool ring_has_more(const struct ring *ring)
{
	return ring->map != NULL && !ring->damaged &&
	    (atomic_load_explicit(&ring->map->control.head, memory_order_acquire) != ring->sent ||
		ring->lost_seq > ring->last_seq || guard_tripped(ring->guard));
}

/* The path of an announced checkpoint, when the mail slot still holds it. */
static bool read_mail(struct ring *ring, const struct iteration *it, char *path_out)
{
	const struct channel_mail *mail = &ring->map->mail[it->previous % CHANNEL_MAIL];

	if (mail->mail_seq != it->mail_seq)
		return false;
	memcpy(path_out, mail->path, sizeof(mail->path));
	path_out[sizeof(mail->path) - 1] = '\0';
	/* A seventeenth announcement takes the slot without asking: half of one path is no path. */
	atomic_thread_fence(memory_order_acquire);
	return *(const volatile uint64_t *)&mail->mail_seq == it->mail_seq && path_out[0] != '\0';
}

uint32_t ring_read(struct ring *ring, struct iteration *out, uint32_t max, char *path_out)
{
	uint32_t count = 0;

	if (ring->map == NULL || ring->damaged)
		return 0;
	uint64_t head = atomic_load_explicit(&ring->map->control.head, memory_order_acquire);

	if (guard_tripped(ring->guard)) {
		mark_damage(ring, 0, 0);
		return 0;
	}
	if (head - ring->tail > CHANNEL_RING || head < ring->sent) {
		mark_damage(ring, offsetof(struct channel, control.head), head);
		return 0;
	}
	if (ring->sent == head && ring->lost_seq > ring->last_seq) {
		ring->last_seq = ring->lost_seq;
		*out = (struct iteration){.ring_seq = ring->lost_seq,
		    .kind = ITERATION_LOST,
		    .monotonic_ns = clock_monotonic_ns(),
		    .check = CHANNEL_MAGIC ^ ring->lost_seq};
		return 1;
	}
	while (count < max && ring->sent < head) {
		const struct iteration *slot = &ring->map->ring[ring->sent % CHANNEL_RING];
		struct iteration it;

		memcpy(&it, slot, sizeof(it));
		if (!slot_plausible(&it, ring->last_seq)) {
			mark_damage(ring,
			    CHANNEL_RING_OFFSET + (ring->sent % CHANNEL_RING) * sizeof(it), it.check);
			break;
		}
		if (it.kind == ITERATION_CHECKPOINT) {
			if (count > 0)
				break; /* it goes alone, with its path, next time */
			if (!read_mail(ring, &it, path_out))
				snprintf(path_out, RECORD_TEXT_MAX, "(path overwritten)");
			max = 1;
		}
		out[count++] = it;
		ring->last_seq = it.ring_seq;
		ring->sent++;
		if (ring->sent > ring->given)
			ring->given = ring->sent;
	}
	return count;
}

void ring_ack(struct ring *ring, uint64_t ring_seq)
{
	if (ring->map == NULL)
		return;
	while (ring->tail < ring->given &&
	    ring->map->ring[ring->tail % CHANNEL_RING].ring_seq <= ring_seq)
		ring->tail++;
	if (ring_seq > ring->durable_seq)
		ring->durable_seq = ring_seq;
	/* Acknowledged after a rewind, before they were given out again: they need not be. */
	if (ring->sent < ring->tail) {
		ring->sent = ring->tail;
		ring->last_seq = ring->durable_seq;
	}
	/* In this order: for an agent that adopts the ring, an older tail_seq is right as well. */
	atomic_store_explicit(&ring->map->control.tail, ring->tail, memory_order_release);
	atomic_store_explicit(&ring->map->control.tail_seq, ring->durable_seq, memory_order_release);
}

void ring_rewind(struct ring *ring)
{
	ring->sent = ring->tail;
	ring->last_seq = ring->durable_seq;
}
