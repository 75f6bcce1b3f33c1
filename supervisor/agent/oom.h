/*
 * Whether the kernel's out-of-memory killer was at work: two counts of its victims, read beside a SIGKILL that
 * nobody explains.
 *
 *	certain	the count of our own control group rose: version 2, memory.events of the nearest group that
 *		has it; version 1, memory.oom_control of our own.  The ranks are in that group, and hardly
 *		anything else is.  Where there is such a count, and it did not rise, it was somebody else's
 *		memory that ran out, whatever the machine says.
 *	likely	there is none, and the machine's count (oom_kill of /proc/vmstat) rose.
 *
 * The kernel counts before it kills, so the count has risen when the death is noticed.  What counts is what
 * happened within the last ten to twenty seconds, not since the attempt began: in a week somebody's memory runs
 * out on any machine.
 */
#ifndef AGENT_OOM_H
#define AGENT_OOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "journal/record.h"

#define OOM_PATH_MAX 4096u /* bytes, with the NUL */

struct oom_count {
	uint64_t machine, group;
};

struct oom {
	char group_path[OOM_PATH_MAX]; /* the file with our group's count; "" when there is none */
	struct oom_count marks[2];     /* the older one first */
	uint64_t mark_ns;              /* monotonic; of the newer one */
};

/* Find the files and take the first marks. */
void oom_init(struct oom *oom);

/* Take a mark when the last one is old enough; now_ns is monotonic.  Cheap when it is not. */
void oom_mark(struct oom *oom, uint64_t now_ns);

/* What the counts say of a process that SIGKILL ended just now. */
enum oom_kill oom_suspect(const struct oom *oom);

/*
 * The directory of a process's group in a hierarchy, as the process itself sees it.
 * groups	its /proc/PID/cgroup; borrowed.
 * mounts	its /proc/PID/mountinfo; borrowed.
 * version	2, or 1 for the hierarchy that has the memory controller.
 * out		filled on success; top_bytes: how much of it is the mount point.
 * Returns false when it is in no such hierarchy, or that is mounted nowhere.
 */
bool oom_group_dir(const char *groups, const char *mounts, unsigned version, char out[OOM_PATH_MAX],
    size_t *top_bytes);

/* The number behind "oom_kill " at the beginning of a line; false when there is none. */
bool oom_parse(const char *text, uint64_t *count_out);

#endif
