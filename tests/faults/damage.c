/* Faults in files: see damage.h. */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#include "tests/faults/damage.h"
#include "trainer/snapshot.h"

#define SNAPSHOT_FLIPS 16u
#define STOP_MAX_NS 5000000000ull

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* splitmix64: every seed gives a good sequence. */
static uint64_t draw(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

static int open_file(const char *path, uint64_t *size_out, const char **why_out)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	struct stat st;

	*why_out = "open the file";
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size == 0) {
		*why_out = "find a byte in the file";
		close(fd);
		return -ENOENT;
	}
	*size_out = (uint64_t)st.st_size;
	return fd;
}

static int flip_byte(int fd, uint64_t offset, uint64_t *state, const char **why_out)
{
	unsigned char byte;

	*why_out = "change a byte";
	if (pread(fd, &byte, 1, (off_t)offset) != 1)
		return errno != 0 ? -errno : -EIO;
	byte ^= (unsigned char)(1 + draw(state) % 255);
	if (pwrite(fd, &byte, 1, (off_t)offset) != 1)
		return errno != 0 ? -errno : -EIO;
	return 0;
}

/* Changes count bytes of [start, start + size), no byte twice when they lie in a row. */
static int flip_range(int fd, uint64_t start, uint64_t size, bool scattered, uint64_t count,
    uint64_t *state, struct damage *out, const char **why_out)
{
	/* Each scattered byte has a stretch of its own, so that none is changed back by a second hit. */
	uint64_t stretch = size / count > 0 ? size / count : 1;
	int error = 0;

	count = count < size ? count : size;
	for (uint64_t i = 0; i < count && error == 0; i++) {
		uint64_t at = scattered ? start + i * stretch + draw(state) % stretch : start + i;

		error = flip_byte(fd, at, state, why_out);
		if (i == 0)
			out->offset = at;
	}
	out->count = count;
	out->at_ns = now_ns();
	return error;
}

int damage_flip(const char *path, int64_t offset, uint64_t count, uint64_t seed, struct damage *out,
    const char **why_out)
{
	uint64_t size = 0, state = seed, start = offset >= 0 ? (uint64_t)offset : 0;
	int fd = open_file(path, &size, why_out), error;

	*out = (struct damage){0};
	if (fd < 0)
		return fd;
	if (start >= size || count == 0) {
		*why_out = "find the offset in the file";
		error = -ENOENT;
	} else {
		error = flip_range(fd, start, size - start, offset < 0, count, &state, out, why_out);
	}
	close(fd);
	return error;
}

int damage_truncate(const char *path, uint64_t seed, struct damage *out, const char **why_out)
{
	uint64_t size = 0, state = seed;
	int fd = open_file(path, &size, why_out), error = 0;

	*out = (struct damage){0};
	if (fd < 0)
		return fd;
	out->offset = draw(&state) % size;
	out->count = size - out->offset;
	*why_out = "shorten the file";
	if (ftruncate(fd, (off_t)out->offset) != 0)
		error = -errno;
	out->at_ns = now_ns();
	close(fd);
	return error;
}

/* The complete slot that was committed last; its number from 0, or -errno. */
static int newest_slot(int fd, struct snapshot_file *file_out, struct snapshot_slot *slot_out)
{
	int newest = -ENOENT;

	if (pread(fd, file_out, sizeof(*file_out), 0) != (ssize_t)sizeof(*file_out) ||
	    file_out->magic != SNAPSHOT_MAGIC || file_out->version != SNAPSHOT_VERSION)
		return -EBADMSG;
	for (unsigned i = 0; i < MEMORY_SLOTS; i++) {
		struct snapshot_slot slot;

		if (pread(fd, &slot, sizeof(slot), (off_t)4096 * (i + 1)) != (ssize_t)sizeof(slot) ||
		    slot.checksum == 0 ||
		    slot.checksum != XXH3_64bits(&slot, offsetof(struct snapshot_slot, checksum)) ||
		    slot.size_bytes == 0 || slot.size_bytes > file_out->slot_bytes)
			continue;
		if (newest < 0 || slot.sequence > slot_out->sequence) {
			*slot_out = slot;
			newest = (int)i;
		}
	}
	return newest;
}

/* SIGSTOP is only on its way when kill() returns: every thread must have arrived. */
static int stop_process(pid_t pid)
{
	uint64_t until = now_ns() + STOP_MAX_NS;
	char path[64], line[1024];

	if (kill(pid, SIGSTOP) != 0)
		return -errno;
	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	while (now_ns() < until) {
		struct timespec pause = {.tv_nsec = 200000};
		FILE *in = fopen(path, "re");
		const char *name_end;

		if (in == NULL)
			return -ESRCH;
		name_end = fgets(line, sizeof(line), in) != NULL ? strrchr(line, ')') : NULL;
		fclose(in);
		/* It is T once its last thread has stopped, when it has only that one at the latest. */
		if (name_end != NULL && strncmp(name_end, ") T", 3) == 0)
			return 0;
		if (name_end != NULL && strncmp(name_end, ") Z", 3) == 0)
			return -ESRCH;
		nanosleep(&pause, NULL);
	}
	return -ETIME;
}

static int flip_newest(int fd, uint64_t seed, struct damage *out, const char **why_out)
{
	struct snapshot_file file;
	struct snapshot_slot slot = {0};
	uint64_t state = seed;
	int index;

	*why_out = "find a complete snapshot";
	index = newest_slot(fd, &file, &slot);
	if (index < 0)
		return index;
	out->step = slot.step;
	return flip_range(fd, SNAPSHOT_BODY_OFFSET + (uint64_t)index * file.slot_bytes,
	    slot.size_bytes, true, SNAPSHOT_FLIPS, &state, out, why_out);
}

int damage_snapshot(const char *path, uint64_t seed, pid_t pid, struct damage *out, const char **why_out)
{
	uint64_t size = 0;
	int fd = open_file(path, &size, why_out), error = 0;

	*out = (struct damage){0};
	if (fd < 0)
		return fd;
	if (pid != 0) {
		*why_out = "stop the process";
		error = stop_process(pid);
	}
	if (error == 0) {
		error = flip_newest(fd, seed, out, why_out);
		/* Without the damage there is no fault: the process goes on as if nothing had been. */
		if (pid != 0)
			kill(pid, error == 0 ? SIGKILL : SIGCONT);
		out->at_ns = now_ns();
	}
	close(fd);
	return error;
}

int damage_wipe(const char *pattern, struct damage *out, const char **why_out)
{
	glob_t found;
	int error = 0;

	*out = (struct damage){0};
	*why_out = "find a file that matches";
	if (glob(pattern, GLOB_NOSORT, NULL, &found) != 0)
		return -ENOENT;
	for (size_t i = 0; i < found.gl_pathc; i++) {
		if (unlink(found.gl_pathv[i]) == 0) {
			out->count++;
		} else if (errno != ENOENT) {
			error = -errno;
			*why_out = "remove a file";
		}
	}
	out->at_ns = now_ns();
	globfree(&found);
	return error;
}
