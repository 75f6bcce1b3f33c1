/* See slots.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "trainer/slots.h"

#define PATH_BYTES 256u /* of a snapshot's path, with the suffix of the new file */
#define SIZE_MAX_BYTES (UINT64_C(1) << 60)

static uint64_t file_bytes(const struct snapshot_file *file)
{
	return snapshot_body_offset(file, MEMORY_SLOTS);
}

/* A little larger than what is asked for: a state's text, its counters and names, need not always have the same length,
 * and a file is not to be replaced for that. */
static uint64_t slot_bytes_for(uint64_t size_bytes)
{
	return (size_bytes + size_bytes / 64 + 4096u + 4095u) & ~UINT64_C(4095);
}

uint64_t slots_file_bytes(uint64_t size_bytes)
{
	struct snapshot_file file = {
	    .slot_bytes = slot_bytes_for(size_bytes < SIZE_MAX_BYTES ? size_bytes : SIZE_MAX_BYTES)};

	return file_bytes(&file);
}

void slots_init(struct slots *s, const char *path)
{
	*s = (struct slots){.path = path, .staged_fd = -1, .restore_fd = -1};
}

/* --- the file ------------------------------------------------------------------------------------------ */

static void new_path(const struct slots *s, char out[PATH_BYTES])
{
	snprintf(out, PATH_BYTES, "%s.new", s->path);
}

/* Let go of the mapped file; one that has not taken its name is gone then. */
static void drop_file(struct slots *s)
{
	char path[PATH_BYTES];

	if (s->map != NULL)
		munmap(s->map, file_bytes(&s->file));
	s->map = NULL;
	s->writing = false;
	if (s->staged_fd < 0)
		return;
	close(s->staged_fd);
	s->staged_fd = -1;
	if (s->staged_named) {
		new_path(s, path);
		unlink(path);
	}
}

/* Have all the memory of the file, or -ENOSPC. */
static int allocate(int fd, uint64_t bytes)
{
	struct rlimit limit;
	struct stat st;
	int error;

	/* What an earlier attempt left is looked at, and not walked through page by page. */
	if (fstat(fd, &st) == 0 && (uint64_t)st.st_size == bytes &&
	    (uint64_t)st.st_blocks * 512u >= bytes)
		return 0;
	/* Going over this limit is not an error only, it is a signal as well. */
	if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
	    bytes > limit.rlim_cur)
		return -ENOSPC;
	do
		error = posix_fallocate(fd, 0, (off_t)bytes);
	while (error == EINTR);
	return error == EFBIG || error == ENOMEM ? -ENOSPC : -error;
}

static int map_file(struct slots *s, int fd, const struct snapshot_file *file)
{
	uint64_t bytes = file_bytes(file);
	struct stat st;
	void *map;
	int error = allocate(fd, bytes);

	if (error != 0)
		return error;
	if (fstat(fd, &st) != 0)
		return -errno;
	map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return errno == ENOMEM ? -ENOSPC : -errno;
	/* A forked child has no business here, and a core dump would hold the state three times more. */
	madvise(map, bytes, MADV_DONTFORK);
	madvise(map, bytes, MADV_DONTDUMP);
	s->map = map;
	s->ready = 0;
	s->file = *file;
	s->device = st.st_dev;
	s->inode = st.st_ino;
	return 0;
}

/* Whether the mapped file still has its name, or has yet to take it: nobody would find what is written elsewhere. */
static bool still_there(const struct slots *s)
{
	struct stat st;

	return s->staged_fd >= 0 ||
	    (lstat(s->path, &st) == 0 && st.st_dev == s->device && st.st_ino == s->inode &&
		(uint64_t)st.st_size >= file_bytes(&s->file));
}

/* Fill the page tables of a slot at once, where the kernel can, when it is first used: after a restart the first
 * snapshot stands before the second step, and need not pay for the other two slots. */
static void make_ready(struct slots *s, unsigned index)
{
	if ((s->ready & (1u << index)) != 0)
		return;
	s->ready |= 1u << index;
	madvise(s->map + snapshot_body_offset(&s->file, index), s->file.slot_bytes,
	    MADV_POPULATE_WRITE);
}

static void read_headers(struct slots *s, int fd, const struct snapshot_file *file)
{
	for (unsigned i = 0; i < MEMORY_SLOTS; i++) {
		if (snapshot_read_slot(fd, file, i, &s->slot[i]) != 0)
			memset(&s->slot[i], 0, sizeof(s->slot[i]));
		else if (s->slot[i].sequence > s->sequence)
			s->sequence = s->slot[i].sequence;
	}
}

/* Go on with the file that an earlier attempt left, when its slots are large enough; else s->map stays NULL. */
static int use_old_file(struct slots *s, uint64_t size_bytes)
{
	struct snapshot_file file = {0};
	struct stat st;
	int fd = snapshot_open(s->path, O_RDWR, &file);
	int error = 0;

	/* Missing, damaged or whatever: a new one is made. */
	if (fd < 0)
		return 0;
	read_headers(s, fd, &file);
	/* Of another length than it says, it is no file of ours: its size is not to be asked for. */
	if (file.slot_bytes >= size_bytes && fstat(fd, &st) == 0 &&
	    (uint64_t)st.st_size == file_bytes(&file))
		error = map_file(s, fd, &file);
	close(fd);
	return error;
}

static void folder_path(const struct slots *s, char out[PATH_BYTES])
{
	char *slash;

	snprintf(out, PATH_BYTES, "%s", s->path);
	slash = strrchr(out, '/');
	if (slash == NULL)
		snprintf(out, PATH_BYTES, ".");
	else
		slash[slash == out] = '\0';
}

uint64_t slots_room_bytes(const struct slots *s)
{
	char path[PATH_BYTES];
	struct statvfs found;
	struct rlimit limit;
	uint64_t room = 0;

	folder_path(s, path);
	if (statvfs(path, &found) == 0)
		room = (uint64_t)found.f_bavail * found.f_frsize;
	if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
	    limit.rlim_cur < room)
		room = limit.rlim_cur;
	return room;
}

/* A file without a name where there is such a thing: it vanishes with the process that does not finish it. */
static int open_new_file(struct slots *s)
{
	char path[PATH_BYTES];
	int fd;

	folder_path(s, path);
	s->staged_named = false;
	fd = open(path, O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
	if (fd >= 0)
		return fd;
	if (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT)
		return -errno;
	new_path(s, path);
	unlink(path);
	s->staged_named = true;
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	return fd >= 0 ? fd : -errno;
}

static int make_new_file(struct slots *s, uint64_t size_bytes)
{
	struct snapshot_file file = {.magic = SNAPSHOT_MAGIC,
	    .version = SNAPSHOT_VERSION,
	    .slot_count = MEMORY_SLOTS,
	    .slot_bytes = slot_bytes_for(size_bytes)};
	int fd = open_new_file(s);
	int error;

	if (fd < 0)
		return fd;
	file.checksum = snapshot_file_checksum(&file);
	s->staged_fd = fd;
	error = map_file(s, fd, &file);
	if (error != 0) {
		drop_file(s);
		return error;
	}
	assert(s->map != NULL);
	memset(s->slot, 0, sizeof(s->slot));
	memcpy(s->map, &file, sizeof(file));
	return 0;
}

/* The new file takes its name; what had it before is gone then. */
static int publish_file(struct slots *s)
{
	char path[PATH_BYTES], link[64];

	new_path(s, path);
	if (!s->staged_named) {
		snprintf(link, sizeof(link), "/proc/self/fd/%d", s->staged_fd);
		unlink(path);
		if (linkat(AT_FDCWD, link, AT_FDCWD, path, AT_SYMLINK_FOLLOW) != 0)
			return -errno;
		s->staged_named = true;
	}
	if (rename(path, s->path) != 0)
		return -errno;
	close(s->staged_fd);
	s->staged_fd = -1;
	return 0;
}

/* --- writing ------------------------------------------------------------------------------------------- */

static struct snapshot_slot *header_of(struct slots *s, unsigned index)
{
	return (struct snapshot_slot *)(void *)(s->map + snapshot_slot_offset(index));
}

/* Which slot may be lost: see snapshot.h. */
static unsigned choose(const struct slots *s, uint64_t step)
{
	unsigned best = 0;
	unsigned best_rank = 0;

	for (unsigned i = 0; i < MEMORY_SLOTS; i++) {
		unsigned rank = s->slot[i].size_bytes == 0 ? 3 : s->slot[i].step >= step ? 2 : 1;

		if (rank > best_rank ||
		    (rank == best_rank && s->slot[i].sequence < s->slot[best].sequence)) {
			best = i;
			best_rank = rank;
		}
	}
	return best;
}

int slots_begin(struct slots *s, uint64_t step, uint64_t size_bytes)
{
	int error = 0;

	s->writing = false;
	/* Its slot may be the one that is written now. */
	(void)slots_restore_end(s);
	if (size_bytes == 0 || step == STEP_NONE)
		return -EINVAL;
	if (size_bytes > SIZE_MAX_BYTES)
		return -ENOSPC;
	if (s->path[0] == '\0')
		return -ENOTCONN;
	if (s->map != NULL && !still_there(s))
		drop_file(s);
	if (s->map != NULL && s->file.slot_bytes < size_bytes)
		drop_file(s);
	else if (s->map == NULL)
		error = use_old_file(s, size_bytes);
	if (error == 0 && s->map == NULL)
		error = make_new_file(s, size_bytes);
	if (error != 0)
		return error;
	s->index = choose(s, step);
	s->slot[s->index] = (struct snapshot_slot){0};
	/* From here on the slot is incomplete, before any byte of it changes. */
	(void)__atomic_exchange_n(&header_of(s, s->index)->checksum, 0, __ATOMIC_ACQ_REL);
	make_ready(s, s->index);
	bodyhash_init(&s->hash);
	s->step = step;
	s->size_bytes = size_bytes;
	s->done_bytes = 0;
	s->writing = true;
	return 0;
}

int slots_write(struct slots *s, const void *data, size_t size_bytes)
{
	const unsigned char *from = data;
	unsigned char *to;

	if (!s->writing)
		return -EINVAL;
	if (size_bytes > s->size_bytes - s->done_bytes) {
		s->writing = false;
		return -EINVAL;
	}
	to = s->map + snapshot_body_offset(&s->file, s->index) + s->done_bytes;
	s->done_bytes += size_bytes;
	/* Memory is read once: what was just copied is digested while it lies in the cache.  The digest is of
	 * the copy's source, so that a copy that went wrong does not verify. */
	while (size_bytes > 0) {
		size_t n = size_bytes < BODYHASH_CHUNK_BYTES ? size_bytes : BODYHASH_CHUNK_BYTES;

		bodyhash_update(&s->hash, from, n);
		memcpy(to, from, n);
		from += n;
		to += n;
		size_bytes -= n;
	}
	return 0;
}

int slots_commit(struct slots *s)
{
	struct snapshot_slot *header;
	struct snapshot_slot slot = {
	    .step = s->step, .size_bytes = s->size_bytes, .sequence = s->sequence + 1};
	int error = 0;

	if (!s->writing || s->done_bytes != s->size_bytes) {
		s->writing = false;
		return -EINVAL;
	}
	s->writing = false;
	bodyhash_final(&s->hash, slot.digest);
	slot.checksum = snapshot_slot_checksum(&slot);
	header = header_of(s, s->index);
	memcpy(header, &slot, offsetof(struct snapshot_slot, checksum));
	/* A header without its checksum is no header: this store is the commit. */
	__atomic_store_n(&header->checksum, slot.checksum, __ATOMIC_RELEASE);
	s->slot[s->index] = slot;
	s->sequence = slot.sequence;
	if (s->staged_fd >= 0) {
		error = publish_file(s);
		if (error != 0)
			drop_file(s);
	}
	return error;
}

void slots_drop(struct slots *s)
{
	s->writing = false;
}

/* --- reading back -------------------------------------------------------------------------------------- */

int slots_restore_end(struct slots *s)
{
	if (s->restore_fd < 0)
		return -EINVAL;
	close(s->restore_fd);
	s->restore_fd = -1;
	return 0;
}

int slots_restore_begin(struct slots *s, uint64_t step, uint64_t *size_bytes_out)
{
	struct snapshot_file file = {0};
	uint64_t sequence = 0;
	int error = -ENOENT;
	int fd;

	(void)slots_restore_end(s);
	fd = snapshot_open(s->path, O_RDONLY, &file);
	if (fd < 0)
		return fd;
	/* Should two slots hold that step, the newer one that is whole counts. */
	for (unsigned i = 0; i < MEMORY_SLOTS; i++) {
		struct snapshot_slot slot;
		int result = snapshot_read_slot(fd, &file, i, &slot);

		if (result != 0 || slot.step != step || slot.sequence < sequence)
			continue;
		result = snapshot_check_body(fd, &file, i, &slot);
		if (result == 0) {
			sequence = slot.sequence;
			s->restore_at = snapshot_body_offset(&file, i);
			s->restore_left = slot.size_bytes;
			error = 0;
		} else if (error != 0) {
			error = result;
		}
	}
	if (error != 0) {
		close(fd);
		return error;
	}
	s->restore_fd = fd;
	*size_bytes_out = s->restore_left;
	return 0;
}

int slots_restore_read(struct slots *s, void *data, size_t size_bytes)
{
	unsigned char *to = data;

	if (s->restore_fd < 0 || size_bytes > s->restore_left)
		return -EINVAL;
	while (size_bytes > 0) {
		ssize_t n = pread(s->restore_fd, to, size_bytes, (off_t)s->restore_at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n == 0 ? -EBADMSG : -errno;
		to += n;
		size_bytes -= (size_t)n;
		s->restore_at += (uint64_t)n;
		s->restore_left -= (uint64_t)n;
	}
	return 0;
}

void slots_fini(struct slots *s)
{
	drop_file(s);
	(void)slots_restore_end(s);
}
