/* See follow.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>

#include "supervisor/agent/follow.h"

#define LOOK_BYTES (1u << 20)

void follow_init(struct follow *f, const char *path)
{
	*f = (struct follow){.path = path, .fd = -1};
}

static void let_go(struct follow *f)
{
	if (f->fd >= 0)
		close(f->fd);
	f->fd = -1;
}

void follow_fini(struct follow *f)
{
	let_go(f);
}

/* Have the file open that lies at the path now; false when there is none. */
static bool have(struct follow *f)
{
	struct stat at, ours;

	/* Looked at before it is opened: opening a device may do something. */
	if (stat(f->path, &at) != 0 || !S_ISREG(at.st_mode))
		return false;
	if (f->fd >= 0 && (at.st_ino != f->inode || at.st_dev != f->device))
		let_go(f);
	if (f->fd < 0) {
		f->fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
		if (f->fd < 0 || fstat(f->fd, &ours) != 0 || !S_ISREG(ours.st_mode)) {
			let_go(f);
			return false;
		}
		if (ours.st_ino != f->inode || ours.st_dev != f->device)
			f->offset = f->looks == 0 && f->inode == 0 ? (uint64_t)ours.st_size : 0;
		f->inode = ours.st_ino;
		f->device = ours.st_dev;
		at = ours;
	}
	if ((uint64_t)at.st_size < f->offset)
		f->offset = 0;
	return true;
}

size_t follow_look(struct follow *f, follow_take *take, void *context)
{
	char bytes[16384];
	size_t taken = 0;

	if (have(f))
		while (taken < LOOK_BYTES) {
			ssize_t length = pread(f->fd, bytes, sizeof(bytes), (off_t)f->offset);

			if (length < 0 && errno == EINTR)
				continue;
			if (length <= 0)
				break;
			f->offset += (uint64_t)length;
			taken += (size_t)length;
			take(context, bytes, (size_t)length);
		}
	f->looks++;
	return taken;
}
