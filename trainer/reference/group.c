#include "trainer/reference/group.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static_assert(sizeof(struct group_head) <= GROUP_GRADIENT_OFFSET, "group head");
static_assert(GROUP_LOCK_RANK > GROUP_LOCK_JOIN, "lock bytes");

const struct group_layout group_layout = {
    .magic = GROUP_MAGIC,
    .gradient_offset = GROUP_GRADIENT_OFFSET,
    .page_bytes = GROUP_PAGE,
    .offset_of_count = offsetof(struct group_head, count),
    .offset_of_stride_bytes = offsetof(struct group_head, stride_bytes),
};

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static enum status fail(struct cause *why, const char *step, const char *subject)
{
	int error = errno;

	cause_set(why, CAUSE_ERRNO, error, step, subject);
	return error == ENOSPC || error == ENOMEM || error == EDQUOT ? STATUS_FULL : STATUS_SYS;
}

/* Bytes are locked on the open file description: the lock ends with the process, whatever ends it. */
static int lock_byte(int fd, int command, short type, off_t byte)
{
	struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};

	if (fcntl(fd, command, &lock) != 0)
		return -1;
	return command == F_OFD_GETLK ? lock.l_type != F_UNLCK : 0;
}

/* Whether another process holds the lock of this rank.  On doubt it lives; the timeout bounds the doubt. */
static bool rank_lives(int fd, uint32_t rank)
{
	return lock_byte(fd, F_OFD_GETLK, F_WRLCK, GROUP_LOCK_RANK + (off_t)rank) != 0;
}

static bool any_rank_lives(int fd)
{
	for (uint32_t rank = 0; rank < GROUP_RANKS_MAX; rank++)
		if (rank_lives(fd, rank))
			return true;
	return false;
}

/* Whether fd is still the file that the path names. */
static bool is_current(int fd, const char *path)
{
	struct stat mine, named;

	return fstat(fd, &mine) == 0 && lstat(path, &named) == 0 && mine.st_ino == named.st_ino &&
	    mine.st_dev == named.st_dev;
}

static void head_sizes(const struct group_request *request, struct group_head *out)
{
	uint64_t page = GROUP_PAGE, stride = (request->count * 4 + page - 1) / page * page;

	out->magic = GROUP_MAGIC;
	out->world = request->world;
	out->reserved = 0;
	out->count = request->count;
	out->gradient_offset = GROUP_GRADIENT_OFFSET;
	out->stride_bytes = stride;
	out->sum_offset = GROUP_GRADIENT_OFFSET + stride * request->world;
	out->size_bytes = out->sum_offset + stride;
}

static bool is_group_file(int fd)
{
	uint64_t magic;

	return pread(fd, &magic, sizeof(magic), 0) == (ssize_t)sizeof(magic) && magic == GROUP_MAGIC;
}

/* Open or make the file and take its join lock, before the deadline. */
static enum status open_locked(struct group *group, uint64_t deadline_ms, struct cause *why)
{
	const char *path = group->path;
	const struct timespec pause = {.tv_nsec = 2000000};

	for (;;) {
		group->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (group->fd < 0)
			return fail(why, "open", path);
		while (lock_byte(group->fd, F_OFD_SETLK, F_WRLCK, GROUP_LOCK_JOIN) != 0) {
			if (errno != EAGAIN && errno != EACCES)
				return fail(why, "lock", path);
			if (now_ms() >= deadline_ms) {
				cause_set(why, CAUSE_ERRNO, ETIMEDOUT, "lock", path);
				return STATUS_AGAIN;
			}
			/* Held by a rank that is joining, for well under a millisecond. */
			nanosleep(&pause, NULL);
		}
		if (is_current(group->fd, path)) {
			struct stat st;

			if (fstat(group->fd, &st) != 0)
				return fail(why, "stat", path);
			if (st.st_size == 0 || any_rank_lives(group->fd))
				return STATUS_OK;
			/* Left by ranks that are gone: a new file, so that no late writer reaches it. */
			if (!is_group_file(group->fd)) {
				cause_set(why, CAUSE_NONE, 0, "join: not a group's file", path);
				return STATUS_BAD;
			}
			if (unlink(path) != 0)
				return fail(why, "unlink", path);
		}
		close(group->fd);
		group->fd = -1;
	}
}

/* Under the join lock: give a new file its size and head, or check those of an old one. */
static enum status prepare(struct group *group, struct cause *why)
{
	struct group_head want = {0}, have;
	struct stat st;
	int error;

	head_sizes(&group->request, &want);
	if (fstat(group->fd, &st) != 0)
		return fail(why, "stat", group->path);
	if (st.st_size == 0) {
		/* Take the memory now: a hole would be a SIGBUS in the middle of an iteration. */
		error = pwrite(group->fd, &want, sizeof(want), 0) != (ssize_t)sizeof(want) ? errno : 0;
		if (error == 0)
			error = posix_fallocate(group->fd, 0, (off_t)want.size_bytes);
		if (error == 0)
			return STATUS_OK;
		(void)unlink(group->path);
		errno = error;
		return fail(why, "allocate", group->path);
	}
	if (pread(group->fd, &have, sizeof(have), 0) != (ssize_t)sizeof(have) ||
	    memcmp(&have, &want, offsetof(struct group_head, member)) != 0 ||
	    (uint64_t)st.st_size != want.size_bytes) {
		cause_set(why, CAUSE_DATA, st.st_size, "join a group of another shape", group->path);
		return STATUS_BAD;
	}
	return STATUS_OK;
}

static enum status map_file(struct group *group, struct cause *why)
{
	struct group_head want = {0};
	char *memory;

	head_sizes(&group->request, &want);
	memory = mmap(NULL, want.size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, group->fd, 0);
	if (memory == MAP_FAILED)
		return fail(why, "map", group->path);
	group->head = (struct group_head *)(void *)memory;
	group->gradient = (float *)(void *)(memory + want.gradient_offset +
	    want.stride_bytes * group->request.rank);
	group->average = (const float *)(const void *)(memory + want.sum_offset);
	return STATUS_OK;
}

/* Under the join lock: become this rank. */
static enum status enter(struct group *group, struct cause *why)
{
	uint32_t rank = group->request.rank;
	struct group_member *me;
	enum status status;

	if (rank_lives(group->fd, rank)) {
		cause_set(why, CAUSE_DATA, rank, "join: this rank is there already", group->path);
		return STATUS_AGAIN;
	}
	status = map_file(group, why);
	if (status != STATUS_OK)
		return status;
	me = &group->head->member[rank];
	if (me->pid != 0) {
		cause_set(why, CAUSE_DATA, rank, "join: this rank came and went", group->path);
		return STATUS_AGAIN;
	}
	if (lock_byte(group->fd, F_OFD_SETLK, F_WRLCK, GROUP_LOCK_RANK + (off_t)rank) != 0)
		return fail(why, "lock", group->path);
	me->pid = (uint32_t)getpid();
	return STATUS_OK;
}

/* A group of one needs no file, but the same places to work in. */
static enum status join_alone(struct group *group, struct cause *why)
{
	struct group_head sizes = {0};
	char *memory;

	head_sizes(&group->request, &sizes);
	memory = mmap(
	    NULL, sizes.size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		return fail(why, "map", "gradients");
	group->head = (struct group_head *)(void *)memory;
	memcpy(memory, &sizes, offsetof(struct group_head, member));
	group->gradient = (float *)(void *)(memory + sizes.gradient_offset);
	group->average = (const float *)(const void *)(memory + sizes.sum_offset);
	return STATUS_OK;
}

enum status group_join(struct group *group, const struct group_request *request, struct cause *why)
{
	uint64_t deadline_ms = now_ms() + request->timeout_ms;
	enum status status;

	*group = (struct group){.request = *request, .fd = -1};
	if (request->world < 1 || request->world > GROUP_RANKS_MAX ||
	    request->rank >= request->world || request->count == 0) {
		cause_set(why, CAUSE_DATA, request->rank, "join", "rank");
		return STATUS_BUG;
	}
	if (request->world == 1)
		return join_alone(group, why);
	if ((size_t)snprintf(group->path, sizeof(group->path), "%s", request->path) >=
	    sizeof(group->path)) {
		cause_set(why, CAUSE_ERRNO, ENAMETOOLONG, "join", request->path);
		return STATUS_SYS;
	}
	status = open_locked(group, deadline_ms, why);
	if (status == STATUS_OK)
		status = prepare(group, why);
	if (status == STATUS_OK)
		status = enter(group, why);
	if (status == STATUS_OK && lock_byte(group->fd, F_OFD_SETLK, F_UNLCK, GROUP_LOCK_JOIN) != 0)
		status = fail(why, "unlock", group->path);
	if (status != STATUS_OK)
		group_leave(group, false);
	return status;
}

/* Whether this rank, which leaves a broken group, is the last to do so; its own lock is dropped. */
static bool leave_last(struct group *group)
{
	(void)lock_byte(group->fd, F_OFD_SETLK, F_UNLCK, GROUP_LOCK_RANK + (off_t)group->request.rank);
	/* A rank that is joining will find the group broken, and be the last itself. */
	return lock_byte(group->fd, F_OFD_SETLK, F_WRLCK, GROUP_LOCK_JOIN) == 0 &&
	    !any_rank_lives(group->fd);
}

/* Not somebody else's file: a new group may have taken the name if this one was given up. */
static void unlink_current(const struct group *group)
{
	if (is_current(group->fd, group->path) && is_group_file(group->fd))
		(void)unlink(group->path);
}

void group_leave(struct group *group, bool orderly)
{
	struct group_head sizes = {0};

	if (group->head != NULL) {
		head_sizes(&group->request, &sizes);
		munmap(group->head, sizes.size_bytes);
	}
	if (group->fd >= 0) {
		if (orderly ? group->request.rank == 0 : leave_last(group))
			unlink_current(group);
		close(group->fd);
	}
	*group = (struct group){.fd = -1};
}

static void futex_wait(_Atomic uint32_t *word, uint32_t seen)
{
	struct timespec slice = {.tv_nsec = GROUP_SLICE_MS * 1000000L};

	(void)syscall(SYS_futex, word, FUTEX_WAIT, seen, &slice, NULL, 0);
}

static bool has_arrived(const struct group_member *member, uint32_t barrier)
{
	return (int32_t)(atomic_load_explicit(&member->arrived, memory_order_acquire) - barrier) >= 0;
}

/* Wait for one rank to come to a barrier. */
static enum status wait_for(
    struct group *group, uint32_t rank, uint32_t barrier, uint64_t deadline_ms, struct cause *why)
{
	struct group_member *peer = &group->head->member[rank];

	while (!has_arrived(peer, barrier)) {
		uint32_t seen = atomic_load_explicit(&peer->arrived, memory_order_acquire);
		bool joined = peer->pid != 0;

		if (seen != barrier)
			futex_wait(&peer->arrived, seen);
		if (has_arrived(peer, barrier))
			break;
		/* Its lock is taken before its pid is written, so joined and free means gone. */
		if (joined && !rank_lives(group->fd, rank) && !has_arrived(peer, barrier)) {
			cause_set(why, CAUSE_DATA, rank, "lost a rank: it ended", group->path);
			return STATUS_AGAIN;
		}
		if (now_ms() >= deadline_ms) {
			cause_set(why, CAUSE_DATA, rank, "lost a rank: it did not come in time",
			    group->path);
			return STATUS_AGAIN;
		}
	}
	return STATUS_OK;
}

enum status group_meet(struct group *group, struct cause *why)
{
	const struct group_request *request = &group->request;
	struct group_member *me = &group->head->member[request->rank];
	uint64_t deadline_ms = now_ms() + request->timeout_ms;
	enum status status = STATUS_OK;

	if (request->world == 1)
		return STATUS_OK;
	if (request->on_wait != NULL)
		request->on_wait(request->context, true);
	group->barriers++;
	atomic_store_explicit(&me->arrived, group->barriers, memory_order_release);
	(void)syscall(SYS_futex, &me->arrived, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
	for (uint32_t rank = 0; rank < request->world && status == STATUS_OK; rank++)
		if (rank != request->rank)
			status = wait_for(group, rank, group->barriers, deadline_ms, why);
	if (request->on_wait != NULL)
		request->on_wait(request->context, false);
	return status;
}

/* Average this rank's slice of the gradients: rank 0's number first, then rank 1's, and so on. */
static void average_slice(struct group *group, float scale)
{
	char *memory = (char *)group->head;
	uint64_t world = group->request.world, rank = group->request.rank;
	size_t begin = (size_t)(group->request.count * rank / world);
	size_t end = (size_t)(group->request.count * (rank + 1) / world);
	struct group_head sizes = {0};
	float *restrict sum;

	/* The sizes are computed, not read back: what others write into the file must not lead astray. */
	head_sizes(&group->request, &sizes);
	sum = (float *)(void *)(memory + sizes.sum_offset);
	memcpy(sum + begin, memory + sizes.gradient_offset + begin * 4, (end - begin) * 4);
	for (uint64_t r = 1; r < world; r++) {
		const float *restrict other = (const float *)(const void *)(memory +
		    sizes.gradient_offset + r * sizes.stride_bytes);

		for (size_t i = begin; i < end; i++)
			sum[i] += other[i];
	}
	for (size_t i = begin; i < end; i++)
		sum[i] *= scale;
}

enum status group_average(struct group *group, const struct group_member *mine,
    struct group_totals *out, struct cause *why)
{
	struct group_member *member = group->head->member;
	struct group_member *me = &member[group->request.rank];
	struct group_totals totals = {0};
	enum status status;

	me->step = mine->step;
	me->loss_sum = mine->loss_sum;
	me->target_count = mine->target_count;
	me->stop = mine->stop;
	status = group_meet(group, why);
	if (status != STATUS_OK)
		return status;
	for (uint32_t rank = 0; rank < group->request.world; rank++) {
		if (member[rank].step != mine->step) {
			cause_set(why, CAUSE_DATA, rank, "ranks are at different steps", group->path);
			return STATUS_BAD;
		}
		totals.loss += member[rank].loss_sum;
		totals.target_count += member[rank].target_count;
		totals.stop = totals.stop || member[rank].stop != 0;
	}
	totals.loss /= (double)totals.target_count;
	average_slice(group, (float)(1.0 / (double)totals.target_count));
	status = group_meet(group, why);
	if (status == STATUS_OK)
		*out = totals;
	return status;
}
