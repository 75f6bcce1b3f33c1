/* See memstep.h. */
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

#include "supervisor/cli/memstep.h"
#include "trainer/snapshot.h"

#define PATH_BYTES 4096

/* The steps one rank holds; false: none. */
static bool held_steps(const char *path, uint64_t steps[MEMORY_SLOTS])
{
	struct snapshot_file file;
	struct snapshot_slot slot;
	int fd = snapshot_open(path, O_RDONLY, &file);
	bool any = false;

	if (fd < 0)
		return false;
	for (unsigned i = 0; i < MEMORY_SLOTS; i++) {
		steps[i] = STEP_NONE;
		if (snapshot_read_slot(fd, &file, i, &slot) == 0) {
			steps[i] = slot.step;
			any = true;
		}
	}
	close(fd);
	return any;
}

uint64_t memstep_newest(const char *shm_dir, const uint8_t run_id[16], uint32_t rank_count)
{
	uint64_t common[MEMORY_SLOTS], held[MEMORY_SLOTS], newest = STEP_NONE;
	char path[PATH_BYTES], hex[17];

	/* Names carry the first half of the run's id. */
	for (int i = 0; i < 8; i++)
		snprintf(hex + 2 * i, 3, "%02x", run_id[i]);
	for (uint32_t rank = 0; rank < rank_count; rank++) {
		snprintf(path, sizeof(path), "%s/holdfast-%s-rank-%u.snapshot", shm_dir, hex, rank);
		if (!held_steps(path, rank == 0 ? common : held))
			return STEP_NONE;
		for (unsigned i = 0; rank != 0 && i < MEMORY_SLOTS; i++) {
			bool both = false;

			for (unsigned k = 0; k < MEMORY_SLOTS; k++)
				both = both || common[i] == held[k];
			if (!both)
				common[i] = STEP_NONE;
		}
	}
	for (unsigned i = 0; rank_count > 0 && i < MEMORY_SLOTS; i++)
		if (common[i] != STEP_NONE && (newest == STEP_NONE || common[i] > newest))
			newest = common[i];
	return newest;
}
