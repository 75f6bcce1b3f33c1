/* See deathwatch.h.  One thread for every WATCH_PER_THREAD ranks: a call takes 128 words at most. */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "supervisor/agent/deathwatch.h"
#include "supervisor/clock.h"

#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif

#define WATCH_PER_THREAD 63u
/* A trainer that keeps changing or waking its words is no longer watched; an honest one does so twice. */
#define LOOKS_MAX 1000u

struct watched {
	struct channel *map; /* NULL: nobody */
	uint32_t rank, attempt;
	int pid;
	uint32_t lock_value; /* last seen; waited on */
	uint32_t looks;      /* that its own words caused */
	bool lock_armed;
	bool alarm_armed;
};

struct watcher {
	struct deathwatch *owner;
	pthread_t thread;
	pthread_mutex_t mutex;    /* guards watched[]; held by the thread except while it waits */
	_Atomic uint32_t changed; /* futex word: bumped to interrupt the wait */
	bool started;
	_Atomic bool stop;
	struct watched watched[WATCH_PER_THREAD];
};

struct deathwatch {
	int read_fd, write_fd;
	uint32_t watcher_count;
	struct watcher watchers[];
};

static uint32_t *word_of(void *address)
{
	return address;
}

/* The status of a dying child, before it can be waited for: proc(5), field 52 of /proc/PID/stat, counted
 * from behind because the command's name may hold anything. */
bool deathwatch_status(int pid, int *wait_status)
{
	char path[64], text[1024];
	int fields = 0;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return false;
	ssize_t length = read(fd, text, sizeof(text) - 1);

	close(fd);
	if (length <= 0)
		return false;
	text[length] = '\0';
	char *at = strrchr(text, ')');

	/* Of a process that is stopped the field says by what. */
	if (at == NULL || at[1] != ' ' || at[2] == 'T' || at[2] == 't')
		return false;
	/* Behind the name stand fields 3 to 52; the process must be on its way out for 52 to mean it. */
	for (; *at != '\0' && fields < 50; at++)
		if (*at == ' ')
			fields++;
	if (fields != 50)
		return false;
	/* 0 is also what stands there when only the main thread ended, when it became another program, and when
	 * we may not know: a success can wait for waitid. */
	*wait_status = (int)strtol(at, NULL, 10);
	return *wait_status != 0;
}

static void tell(struct watcher *w, const struct watched *one, enum death_news_kind kind)
{
	struct death_news news = {.kind = kind,
	    .rank = one->rank,
	    .attempt = one->attempt,
	    .monotonic_ns = clock_monotonic_ns()};

	if (kind == NEWS_DEATH)
		news.status_known = deathwatch_status(one->pid, &news.wait_status);
	/* The pipe holds thousands; were it full, waitid tells the same a little later. */
	ssize_t written = write(w->owner->write_fd, &news, sizeof(news));

	(void)written;
}

/* Look at one channel's words; report what is new; arm what is to be waited for. */
static void look(struct watcher *w, struct watched *one)
{
	_Atomic uint32_t *lock = (_Atomic uint32_t *)word_of(&one->map->control.lock);
	uint32_t value = atomic_load(lock);
	uint32_t alarm = atomic_load(&one->map->control.alarm);

	/* What one trainer does with its words costs the others nothing. */
	if (value != one->lock_value)
		one->looks++;
	if (one->looks > LOOKS_MAX) {
		one->lock_armed = false;
		one->alarm_armed = false;
	}
	if (one->alarm_armed && alarm != 0) {
		one->alarm_armed = false; /* said, or scribbled over */
		if (alarm == CHANNEL_ALARM_CRASH)
			tell(w, one, NEWS_CRASHING);
	}
	if (!one->lock_armed)
		return;
	if (value & FUTEX_OWNER_DIED) {
		one->lock_armed = false;
		one->alarm_armed = false;
		if (!atomic_load(&one->map->control.leaving))
			tell(w, one, NEWS_DEATH);
		return;
	}
	if ((value & FUTEX_TID_MASK) != (one->lock_value & FUTEX_TID_MASK) ||
	    (value & FUTEX_TID_MASK) == 0) {
		one->lock_armed = false; /* let go in good order, or scribbled over */
		return;
	}
	/* The kernel wakes a dead owner's waiters only when the word says that there are some. */
	value = atomic_fetch_or(lock, FUTEX_WAITERS) | FUTEX_WAITERS;
	if (value & FUTEX_OWNER_DIED) {
		one->lock_armed = false;
		if (!atomic_load(&one->map->control.leaving))
			tell(w, one, NEWS_DEATH);
		return;
	}
	one->lock_value = value;
}

/* Fill words behind the first with what is to be waited for, and owners with whose each is. */
static unsigned collect(struct watcher *w, struct futex_waitv words[], struct watched *owners[])
{
	unsigned count = 1;

	for (unsigned i = 0; i < WATCH_PER_THREAD; i++) {
		struct watched *one = &w->watched[i];

		if (one->map == NULL)
			continue;
		look(w, one);
		if (one->lock_armed) {
			owners[count] = one;
			words[count++] = (struct futex_waitv){.val = one->lock_value,
			    .uaddr = (uintptr_t)&one->map->control.lock,
			    .flags = FUTEX_32};
		}
		if (one->alarm_armed) {
			owners[count] = one;
			words[count++] = (struct futex_waitv){
			    .val = 0, .uaddr = (uintptr_t)&one->map->control.alarm, .flags = FUTEX_32};
		}
	}
	return count;
}

static void *watch(void *argument)
{
	struct watcher *w = argument;
	struct futex_waitv words[1 + 2 * WATCH_PER_THREAD];
	struct watched *owners[1 + 2 * WATCH_PER_THREAD];

	pthread_mutex_lock(&w->mutex);
	for (;;) {
		/* Read before what it speaks for: a change behind this line is a value that is not waited on. */
		words[0] = (struct futex_waitv){.val = atomic_load(&w->changed),
		    .uaddr = (uintptr_t)&w->changed,
		    .flags = FUTEX_32};
		if (atomic_load(&w->stop))
			break;
		unsigned count = collect(w, words, owners);

		/* The mutex is not held while waiting; futex_waitv itself never writes to the words, and a
		 * mapping that is removed meanwhile only makes it return. */
		pthread_mutex_unlock(&w->mutex);
		long woken = syscall(SYS_futex_waitv, words, count, 0, NULL, 0);

		pthread_mutex_lock(&w->mutex);
		if (woken > 0)
			owners[woken]->looks++;
		if (woken < 0 && errno == EFAULT)
			continue;
		if (woken < 0 && errno != EAGAIN && errno != EINTR)
			break; /* not on this kernel: pidfd and waitid remain */
	}
	pthread_mutex_unlock(&w->mutex);
	return NULL;
}

static void interrupt(struct watcher *w)
{
	atomic_fetch_add(&w->changed, 1);
	syscall(SYS_futex, &w->changed, FUTEX_WAKE, 1, NULL, NULL, 0);
}

enum status deathwatch_new(uint32_t rank_count, struct deathwatch **out, int *fd_out, struct cause *why)
{
	uint32_t watchers = (rank_count + WATCH_PER_THREAD - 1) / WATCH_PER_THREAD;
	struct deathwatch *w = calloc(1, sizeof(*w) + watchers * sizeof(w->watchers[0]));
	int ends[2];
	sigset_t all, before;

	if (w == NULL || pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) {
		cause_set(why, CAUSE_ERRNO, w == NULL ? ENOMEM : errno, "death watch", "");
		free(w);
		return STATUS_SYS;
	}
	w->read_fd = ends[0];
	w->write_fd = ends[1];
	w->watcher_count = watchers;
	sigfillset(&all);
	sigdelset(&all, SIGBUS); /* guard.h answers it */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	for (uint32_t i = 0; i < watchers; i++) {
		struct watcher *one = &w->watchers[i];

		one->owner = w;
		pthread_mutex_init(&one->mutex, NULL);
		one->started = pthread_create(&one->thread, NULL, watch, one) == 0;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	*out = w;
	*fd_out = w->read_fd;
	return STATUS_OK;
}

void deathwatch_free(struct deathwatch *w)
{
	if (w == NULL)
		return;
	for (uint32_t i = 0; i < w->watcher_count; i++) {
		struct watcher *one = &w->watchers[i];

		atomic_store(&one->stop, true);
		interrupt(one);
		if (one->started)
			pthread_join(one->thread, NULL);
		pthread_mutex_destroy(&one->mutex);
	}
	close(w->read_fd);
	close(w->write_fd);
	free(w);
}

void deathwatch_add(struct deathwatch *w, struct channel *map, uint32_t rank, uint32_t attempt, int pid)
{
	struct watcher *one = &w->watchers[rank / WATCH_PER_THREAD];

	pthread_mutex_lock(&one->mutex);
	one->watched[rank % WATCH_PER_THREAD] = (struct watched){.map = map,
	    .rank = rank,
	    .attempt = attempt,
	    .pid = pid,
	    .lock_value = atomic_load((_Atomic uint32_t *)word_of(&map->control.lock)),
	    .lock_armed = true,
	    .alarm_armed = true};
	pthread_mutex_unlock(&one->mutex);
	interrupt(one);
}

void deathwatch_forget(struct deathwatch *w, uint32_t rank)
{
	struct watcher *one = &w->watchers[rank / WATCH_PER_THREAD];

	/* The thread touches channels with the mutex held only; with the place empty it never will again. */
	pthread_mutex_lock(&one->mutex);
	memset(&one->watched[rank % WATCH_PER_THREAD], 0, sizeof(struct watched));
	pthread_mutex_unlock(&one->mutex);
	interrupt(one);
}
