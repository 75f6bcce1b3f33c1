/* See clock.h. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "supervisor/clock.h"

static uint64_t read_clock(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

uint64_t clock_monotonic_ns(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

int64_t clock_wall_ns(void)
{
	return (int64_t)read_clock(CLOCK_REALTIME);
}

void clock_boot_id(uint8_t boot_id[16])
{
	char text[64] = {0};
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	unsigned digits = 0;

	memset(boot_id, 0, 16);
	if (fd < 0)
		return;
	if (read(fd, text, sizeof(text) - 1) > 0)
		for (const char *c = text; *c != '\0' && digits < 32; c++) {
			unsigned value;

			if (sscanf(c, "%1x", &value) != 1 || *c == '-')
				continue;
			boot_id[digits / 2] |= (uint8_t)(value << (digits % 2 ? 0 : 4));
			digits++;
		}
	close(fd);
}

uint64_t clock_run_offset(const struct record_session *last, uint64_t last_time_ns)
{
	uint64_t now = clock_monotonic_ns();
	uint8_t boot_id[16];

	if (last == NULL)
		return 0 - now;
	clock_boot_id(boot_id);
	if (memcmp(boot_id, last->boot_id, sizeof(boot_id)) == 0) {
		uint64_t offset = last->head.time_ns - last->monotonic_ns;

		if (offset + now >= last_time_ns)
			return offset;
	}
	int64_t away_ns = clock_wall_ns() -
	    (last->wall_ns + (int64_t)(last_time_ns - last->head.time_ns));

	return last_time_ns + (away_ns > 0 ? (uint64_t)away_ns : 0) - now;
}
