/* A NaN in one rank's gradient: see poison.h. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "tests/faults/poison.h"
#include "trainer/reference/group.h"

#define PLACES 64u /* spread over the gradient, so that every large tensor gets some */
#define PERIOD_NS 500000

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Whether the head describes a file of this size. */
static bool head_holds(const struct group_head *head, uint64_t size_bytes)
{
	return head->magic == GROUP_MAGIC && head->world >= 1 && head->world <= GROUP_RANKS_MAX &&
	    head->count >= 1 && head->count <= size_bytes / sizeof(float) &&
	    head->stride_bytes <= size_bytes && head->stride_bytes >= head->count * sizeof(float) &&
	    head->gradient_offset >= sizeof(*head) && head->gradient_offset <= size_bytes &&
	    head->world * head->stride_bytes <= size_bytes - head->gradient_offset &&
	    head->sum_offset <= size_bytes &&
	    head->count * sizeof(float) <= size_bytes - head->sum_offset &&
	    (head->gradient_offset | head->stride_bytes | head->sum_offset) % sizeof(float) == 0;
}

static int write_until_seen(volatile float *gradient, const volatile float *average, uint64_t count,
    uint32_t for_ms, uint64_t *at_ns_out)
{
	const struct timespec pause = {.tv_nsec = PERIOD_NS};
	uint64_t until = now_ns() + for_ms * 1000000ull;

	do {
		for (unsigned i = 0; i < PLACES; i++) {
			uint64_t at = count * i / PLACES;

			gradient[at] = NAN;
			if (isnan(average[at])) {
				*at_ns_out = now_ns();
				return 0;
			}
		}
		nanosleep(&pause, NULL);
	} while (now_ns() < until);
	return -ETIME;
}

int poison_group(
    const char *path, uint32_t rank, uint32_t for_ms, uint64_t *at_ns_out, const char **why_out)
{
	int fd = open(path, O_RDWR | O_CLOEXEC), error = 0;
	struct group_head head;
	struct stat st;
	char *bytes;

	*why_out = "open the file";
	if (fd < 0)
		return -errno;
	*why_out = "find a group in the file";
	/* The mapping is as long as the file was: a trainer never shortens its own. */
	if (fstat(fd, &st) != 0 || pread(fd, &head, sizeof(head), 0) != (ssize_t)sizeof(head) ||
	    !head_holds(&head, (uint64_t)st.st_size))
		error = -EBADMSG;
	else if (rank >= head.world)
		error = -ERANGE;
	if (error != 0)
		goto out;
	*why_out = "map the file";
	bytes = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (bytes == MAP_FAILED) {
		error = -errno;
		goto out;
	}
	*why_out = "see it in the average";
	error = write_until_seen((float *)(bytes + head.gradient_offset + rank * head.stride_bytes),
	    (const float *)(bytes + head.sum_offset), head.count, for_ms, at_ns_out);
	munmap(bytes, (size_t)st.st_size);
out:
	close(fd);
	return error;
}
