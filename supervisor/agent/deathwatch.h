/*
 * The death watch: learns within a fraction of a millisecond that a trainer's main thread ended.
 *
 * Threads in futex_waitv(2) wait on the robust lock word and the alarm word of every watched channel.  The
 * kernel marks a dying owner's word before it tears the address space down, so the news does not wait for
 * gigabytes to be freed.  At that moment the exit code can be read already, from field 52 of
 * /proc/PID/stat; where it cannot, the news says so and the status comes from waitid.
 *
 * The threads decide nothing: they put struct death_news into a pipe that the event loop reads.  They read
 * words a hostile trainer may scribble over: a word that is not what it should be is no longer watched, and
 * the process's pidfd remains (H10).  Without futex_waitv (before Linux 5.16) nothing is watched.
 */
#ifndef AGENT_DEATHWATCH_H
#define AGENT_DEATHWATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "journal/status.h"
#include "trainer/channel.h"

struct deathwatch;

enum death_news_kind { NEWS_DEATH = 1, NEWS_CRASHING = 2 };

struct death_news { /* written whole into the pipe */
	uint32_t kind;
	uint32_t rank, attempt;
	int32_t wait_status;
	uint32_t status_known;
	uint32_t source; /* enum death_source; filled by who reads the news */
	uint64_t monotonic_ns;
};

/* fd_out: the pipe's read end, non-blocking, owned by the watch. */
MUST_CHECK enum status deathwatch_new(
    uint32_t rank_count, struct deathwatch **out, int *fd_out, struct cause *why);
void deathwatch_free(struct deathwatch *w); /* joins the threads; NULL is allowed */

/*
 * Watch a connected channel.  map must stay mapped until deathwatch_forget().
 * pid: the agent's own child, not reaped before deathwatch_forget() or its news.
 * When the owner is dead already, the news comes at once.
 */
void deathwatch_add(
    struct deathwatch *w, struct channel *map, uint32_t rank, uint32_t attempt, int pid);

/*
 * The wait status of a child that is dying or dead and not reaped yet, as long as it is not 0: a success looks like
 * a life.  False when it lives, was stopped, or cannot be looked at.
 */
bool deathwatch_status(int pid, int *wait_status);

/* Stop watching a rank; on return no thread touches its channel any more. */
void deathwatch_forget(struct deathwatch *w, uint32_t rank);

#endif
