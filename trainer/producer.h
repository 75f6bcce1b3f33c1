/*
 * The producing end of a channel's ring: one producer, which never waits and never calls the kernel (H11).
 *
 * Everything it must remember lies here, in the producer's own memory, so that nothing that somebody writes into
 * the mapping can lead it outside of the ring.  A report that finds the ring full is dropped but takes its
 * ring_seq, so that the next one, or control.lost_seq, shows the hole (H3).
 */
#ifndef TRAINER_PRODUCER_H
#define TRAINER_PRODUCER_H

#include <stdbool.h>

#include "trainer/channel.h"

struct producer {
	struct channel *map; /* borrowed */
	uint64_t head;       /* slots filled so far */
	uint64_t tail;       /* the agent's cursor when it was last looked at */
	uint64_t ring_seq;   /* of the last report, a dropped one too */
	uint64_t mail_seq;   /* of the last announced path */
};

/* map is borrowed until the producer is no longer used. */
void producer_init(struct producer *p, struct channel *map);

/*
 * Go on where a producer left off that is gone, as its last words in the mapping have it.
 * Returns	false when they make no sense: write nothing then.
 */
bool producer_resume(struct producer *p, struct channel *map);

/*
 * The slot for the next report, or NULL when the ring is full and the report is lost.  Fill it all, except
 * ring_seq and check, and pass it to producer_publish().  Not to be called twice without that.
 */
struct iteration *producer_claim(struct producer *p);

/* Show the claimed slot to the agent. */
void producer_publish(struct producer *p, struct iteration *slot);

/*
 * Announce a path with the report *it, whose previous and mail_seq are filled in here.
 * path		borrowed, absolute, length bytes without its NUL, at most sizeof(struct channel_mail.path) - 1.
 * Returns	false when the ring is full: nothing was announced.
 */
bool producer_mail(struct producer *p, const struct iteration *it, const char *path, size_t length);

#endif
