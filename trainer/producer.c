/* See producer.h. */
#include <string.h>

#include "trainer/producer.h"

void producer_init(struct producer *p, struct channel *map)
{
	*p = (struct producer){.map = map};
}

bool producer_resume(struct producer *p, struct channel *map)
{
	uint64_t head = atomic_load_explicit(&map->control.head, memory_order_acquire);
	uint64_t tail = atomic_load_explicit(&map->control.tail, memory_order_acquire);
	uint64_t lost = atomic_load_explicit(&map->control.lost_seq, memory_order_relaxed);
	uint64_t last = 0;

	if (head - tail > CHANNEL_RING)
		return false;
	if (head > 0) {
		const struct iteration *slot = &map->ring[(head - 1) % CHANNEL_RING];

		last = slot->ring_seq;
		if (slot->check != (CHANNEL_MAGIC ^ last) || last < head)
			return false;
	}
	*p = (struct producer){
	    .map = map, .head = head, .tail = tail, .ring_seq = lost > last ? lost : last};
	return true;
}

struct iteration *producer_claim(struct producer *p)
{
	p->ring_seq++;
	/* The agent's cursor lies in a line that the agent writes: it is fetched only when it may matter. */
	if (p->head - p->tail >= CHANNEL_RING) {
		p->tail = atomic_load_explicit(&p->map->control.tail, memory_order_acquire);
		if (p->head - p->tail >= CHANNEL_RING) {
			atomic_store_explicit(
			    &p->map->control.lost_seq, p->ring_seq, memory_order_relaxed);
			return NULL;
		}
	}
	return &p->map->ring[p->head % CHANNEL_RING];
}

void producer_publish(struct producer *p, struct iteration *slot)
{
	slot->ring_seq = p->ring_seq;
	slot->check = CHANNEL_MAGIC ^ p->ring_seq;
	p->head++;
	atomic_store_explicit(&p->map->control.head, p->head, memory_order_release);
}

bool producer_mail(struct producer *p, const struct iteration *it, const char *path, size_t length)
{
	struct iteration *slot = producer_claim(p);
	struct channel_mail *mail;

	if (slot == NULL)
		return false;
	p->mail_seq++;
	mail = &p->map->mail[p->mail_seq % CHANNEL_MAIL];
	/* Whoever still reads the path that stood here must not take a half of each for one. */
	(void)__atomic_exchange_n(&mail->mail_seq, 0, __ATOMIC_ACQ_REL);
	memcpy(mail->path, path, length);
	mail->path[length] = '\0';
	__atomic_store_n(&mail->mail_seq, p->mail_seq, __ATOMIC_RELEASE);
	*slot = *it;
	slot->previous = (uint32_t)(p->mail_seq % CHANNEL_MAIL);
	slot->mail_seq = p->mail_seq;
	producer_publish(p, slot);
	return true;
}
