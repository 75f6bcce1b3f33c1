/* See channel.h.  Only the making of a channel: who uses one maps it (trainer/client.c, the agent). */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "trainer/channel.h"

/* The lock that the trainer will hold for life: between processes, and handed on by the kernel. */
static int init_lock(pthread_mutex_t *lock)
{
	pthread_mutexattr_t attributes;
	int error = pthread_mutexattr_init(&attributes);

	if (error != 0)
		return -error;
	error = pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
	if (error == 0)
		error = pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
	if (error == 0)
		error = pthread_mutex_init(lock, &attributes);
	pthread_mutexattr_destroy(&attributes);
	return -error;
}

static int fill(int fd, const struct channel_head *head)
{
	struct channel *map;
	int error;

	/* The umask must not take the owner's own rights. */
	if (fchmod(fd, 0600) != 0)
		return -errno;
	do
		error = posix_fallocate(fd, 0, CHANNEL_SIZE_BYTES);
	while (error == EINTR);
	if (error != 0)
		return -error;
	map = mmap(NULL, CHANNEL_SIZE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	map->head = *head;
	map->head.magic = CHANNEL_MAGIC;
	map->head.version = CHANNEL_VERSION;
	atomic_store(&map->control.last_step, STEP_NONE);
	error = init_lock(&map->control.lock);
	munmap(map, CHANNEL_SIZE_BYTES);
	return error;
}

int channel_create(const char *path, const struct channel_head *head)
{
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	int error;

	if (fd < 0)
		return -errno;
	error = fill(fd, head);
	close(fd);
	if (error != 0)
		unlink(path);
	return error;
}

bool channel_claim(struct channel *map, enum channel_producer wanted)
{
	uint32_t holder = CHANNEL_NOBODY;

	return atomic_compare_exchange_strong(&map->control.producer, &holder, (uint32_t)wanted) ||
	    holder == (uint32_t)wanted;
}
