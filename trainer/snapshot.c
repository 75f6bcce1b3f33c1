/* See snapshot.h: the format, and reading it.  What is read may be anything: every number is checked (H8, H10). */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "trainer/bodyhash.h"
#include "trainer/snapshot.h"

static_assert(sizeof(struct snapshot_file) == 32, "snapshot file header without holes");
static_assert(sizeof(struct snapshot_slot) == 48, "snapshot slot header without holes");

uint64_t snapshot_file_checksum(const struct snapshot_file *file)
{
	return bodyhash_short(file, offsetof(struct snapshot_file, checksum));
}

uint64_t snapshot_slot_checksum(const struct snapshot_slot *slot)
{
	return bodyhash_short(slot, offsetof(struct snapshot_slot, checksum));
}

/* Read exactly size_bytes.  -EBADMSG when the file ends before. */
static int read_at(int fd, void *data, size_t size_bytes, uint64_t offset)
{
	unsigned char *at = data;

	while (size_bytes > 0) {
		ssize_t n = pread(fd, at, size_bytes, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EBADMSG;
		at += n;
		offset += (uint64_t)n;
		size_bytes -= (size_t)n;
	}
	return 0;
}

static bool file_whole(const struct snapshot_file *file)
{
	return file->magic == SNAPSHOT_MAGIC && file->version == SNAPSHOT_VERSION &&
	    file->slot_count == MEMORY_SLOTS && file->slot_bytes > 0 && file->slot_bytes % 4096 == 0 &&
	    file->slot_bytes <= (INT64_MAX - SNAPSHOT_BODY_OFFSET) / MEMORY_SLOTS &&
	    file->checksum == snapshot_file_checksum(file);
}

int snapshot_open(const char *path, int flags, struct snapshot_file *out)
{
	struct snapshot_file file;
	struct stat st;
	/* Whatever else may lie there, a pipe say, must not make the opening wait. */
	int fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	int error = 0;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) != 0)
		error = -errno;
	else if (!S_ISREG(st.st_mode))
		error = -EBADMSG;
	else if (st.st_uid != geteuid())
		error = -EPERM;
	if (error == 0)
		error = read_at(fd, &file, sizeof(file), 0);
	if (error == 0 && !file_whole(&file))
		error = -EBADMSG;
	if (error != 0) {
		close(fd);
		return error;
	}
	*out = file;
	return fd;
}

int snapshot_read_slot(
    int fd, const struct snapshot_file *file, unsigned index, struct snapshot_slot *out)
{
	struct snapshot_slot slot;
	int error = read_at(fd, &slot, sizeof(slot), snapshot_slot_offset(index));

	if (error == -EBADMSG)
		return -ENODATA;
	if (error != 0)
		return error;
	if (slot.checksum == 0 || slot.checksum != snapshot_slot_checksum(&slot) ||
	    slot.size_bytes == 0 || slot.size_bytes > file->slot_bytes || slot.step == STEP_NONE)
		return -ENODATA;
	*out = slot;
	return 0;
}

int snapshot_check_body(
    int fd, const struct snapshot_file *file, unsigned index, const struct snapshot_slot *slot)
{
	uint64_t offset = snapshot_body_offset(file, index), left = slot->size_bytes;
	unsigned char *chunk = malloc(BODYHASH_CHUNK_BYTES);
	uint8_t digest[16];
	struct bodyhash hash;
	int error = 0;

	if (chunk == NULL)
		return -ENOMEM;
	bodyhash_init(&hash);
	while (left > 0 && error == 0) {
		size_t n = left < BODYHASH_CHUNK_BYTES ? (size_t)left : BODYHASH_CHUNK_BYTES;

		error = read_at(fd, chunk, n, offset);
		if (error == 0)
			bodyhash_update(&hash, chunk, n);
		offset += n;
		left -= n;
	}
	free(chunk);
	if (error != 0)
		return error;
	bodyhash_final(&hash, digest);
	return memcmp(digest, slot->digest, sizeof(digest)) == 0 ? 0 : -EBADMSG;
}

/* Put the slots that may be asked for in order, newest first; returns how many there are, or a negative errno. */
static int order_slots(int fd, const struct snapshot_file *file, uint64_t before_step,
    struct snapshot_slot slots[MEMORY_SLOTS], unsigned indexes[MEMORY_SLOTS])
{
	unsigned count = 0;

	for (unsigned i = 0; i < MEMORY_SLOTS; i++) {
		struct snapshot_slot slot;
		int error = snapshot_read_slot(fd, file, i, &slot);
		unsigned at = count;

		if (error != 0 && error != -ENODATA)
			return error;
		if (error == -ENODATA || slot.step >= before_step)
			continue;
		for (; at > 0 && slots[at - 1].step < slot.step; at--) {
			slots[at] = slots[at - 1];
			indexes[at] = indexes[at - 1];
		}
		slots[at] = slot;
		indexes[at] = i;
		count++;
	}
	return (int)count;
}

int snapshot_survey_newest(const char *path, uint64_t before_step, unsigned enough,
    struct snapshot_finding finding[MEMORY_SLOTS])
{
	struct snapshot_finding found[MEMORY_SLOTS] = {0};
	struct snapshot_slot slots[MEMORY_SLOTS] = {0};
	struct snapshot_file file = {0};
	unsigned indexes[MEMORY_SLOTS] = {0}, good = 0;
	int fd = snapshot_open(path, O_RDONLY, &file);
	int count, error = 0;

	if (fd < 0)
		return fd;
	count = order_slots(fd, &file, before_step, slots, indexes);
	for (int i = 0; i < count && good < enough; i++) {
		error = snapshot_check_body(fd, &file, indexes[i], &slots[i]);
		if (error != 0 && error != -EBADMSG)
			break;
		good += error == 0;
		found[indexes[i]] = (struct snapshot_finding){
		    .state = error == 0 ? SNAPSHOT_GOOD : SNAPSHOT_TORN,
		    .step = slots[i].step,
		    .size_bytes = slots[i].size_bytes};
		error = 0;
	}
	close(fd);
	if (count < 0)
		return count;
	if (error == 0)
		memcpy(finding, found, sizeof(found));
	return error;
}

int snapshot_survey(const char *path, struct snapshot_finding finding[MEMORY_SLOTS])
{
	return snapshot_survey_newest(path, STEP_NONE, MEMORY_SLOTS, finding);
}
