/*
 * Where the out-of-memory killer's counts are found and how they are read, on files as machines have them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "supervisor/agent/oom.h"

/* Debian 12 under systemd: version 2 alone. */
#define V2_GROUPS "0::/user.slice/user-1000.slice/session-3.scope\n"
#define V2_MOUNTS                                                                                  \
	"22 28 0:21 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw\n"            \
	"27 22 0:25 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 "  \
	"rw,nsdelegate,memory_recursiveprot\n"                                                     \
	"28 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,errors=remount-ro\n"

/* Both versions side by side; memory is in the first. */
#define HYBRID_GROUPS                                                                              \
	"9:name=systemd:/init.scope\n5:devices:/\n4:memory:/jobs/8e30\n3:cpu,cpuacct:/x\n0::/"     \
	"init.scope\n"
#define HYBRID_MOUNTS                                                                              \
	"31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"                      \
	"33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"     \
	"35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 master:2 - cgroup cgroup "        \
	"rw,memory\n"                                                                              \
	"41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"

struct place {
	const char *groups, *mounts;
	unsigned version;
	const char *dir; /* NULL: none */
	size_t top_bytes;
};

static const struct place places[] = {
    {V2_GROUPS, V2_MOUNTS, 2, "/sys/fs/cgroup/user.slice/user-1000.slice/session-3.scope", 14},
    {V2_GROUPS, V2_MOUNTS, 1, NULL, 0},
    {HYBRID_GROUPS, HYBRID_MOUNTS, 1, "/sys/fs/cgroup/memory/jobs/8e30", 21},
    {HYBRID_GROUPS, HYBRID_MOUNTS, 2, "/sys/fs/cgroup/unified/init.scope", 22},
    /* The root of a container with a namespace of its own. */
    {"0::/\n", V2_MOUNTS, 2, "/sys/fs/cgroup", 14},
    /* One without: what is mounted is the container's own group. */
    {"0::/docker/5e5d\n", "7 6 0:25 /docker/5e5d /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw\n", 2,
	"/sys/fs/cgroup", 14},
    {"0::/docker/5e5d/job\n", "7 6 0:25 /docker/5e5d /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw\n",
	2, "/sys/fs/cgroup/job", 14},
    {"0::/docker/5e5dead\n", "7 6 0:25 /docker/5e5d /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw\n",
	2, "/sys/fs/cgroup", 14},
    /* Names that only look like it. */
    {"4:memory2,rmemory:/a\n", HYBRID_MOUNTS, 1, NULL, 0},
    {"4:memory:/a\n", "35 31 0:32 / /m rw - cgroup cgroup rw,memoryless\n", 1, NULL, 0},
    {"10::/a\n0::/b\n", V2_MOUNTS, 2, "/sys/fs/cgroup/b", 14},
    /* Cut off, empty, and nonsense. */
    {"", V2_MOUNTS, 2, NULL, 0},
    {V2_GROUPS, "", 2, NULL, 0},
    {"0:", V2_MOUNTS, 2, NULL, 0},
    {"0::", V2_MOUNTS, 2, NULL, 0},
    {"0::relative\n", V2_MOUNTS, 2, NULL, 0},
    {V2_GROUPS, "27 22 0:25 / /sys/fs/cgroup rw,nosuid -", 2, NULL, 0},
    {V2_GROUPS, "27 22 0:25 / /sys/fs/cgroup rw,nosuid", 2, NULL, 0},
    {V2_GROUPS, "27 22 0:25", 2, NULL, 0},
    {":::\n::\n:\n\n", "\n - \n-\n", 2, NULL, 0},
};

static void groups_are_found(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		const struct place *p = &places[i];
		char dir[OOM_PATH_MAX] = "untouched";
		size_t top = 0;
		bool found = oom_group_dir(p->groups, p->mounts, p->version, dir, &top);

		if (found != (p->dir != NULL) || (found && strcmp(dir, p->dir) != 0) ||
		    (found && top != p->top_bytes))
			fail_msg("place %zu: %s '%s' (%zu), not '%s' (%zu)", i,
			    found ? "found" : "none", dir, top, p->dir != NULL ? p->dir : "(none)",
			    p->top_bytes);
	}
}

static void long_names(void **state)
{
	static char groups[2 * OOM_PATH_MAX], dir[OOM_PATH_MAX];
	size_t top;

	(void)state;
	memset(groups, 'g', sizeof(groups) - 1);
	memcpy(groups, "0::/", 4);
	assert_false(oom_group_dir(groups, V2_MOUNTS, 2, dir, &top));
	/* Fits by itself, and not behind the mount point. */
	memcpy(groups + OOM_PATH_MAX - 1, "\n", 2);
	assert_false(oom_group_dir(groups, V2_MOUNTS, 2, dir, &top));
	memcpy(groups + 100, "\n", 2);
	assert_true(oom_group_dir(groups, V2_MOUNTS, 2, dir, &top));
}

static void counts_are_read(void **state)
{
	static const struct {
		const char *text;
		bool found;
		uint64_t count;
	} texts[] = {
	    {"low 0\nhigh 0\nmax 31\noom 4\noom_kill 3\noom_group_kill 0\n", true, 3},
	    {"oom_kill_disable 0\nunder_oom 0\noom_kill 12\n", true, 12},
	    {"nr_free_pages 5\noom_kill 18446744073709551615\nnuma_hit 1\n", true, UINT64_MAX},
	    {"oom_kill 7", true, 7},
	    {"low 0\nhigh 0\nmax 31\noom 4\noom_group_kill 9\n", false, 0},
	    {"xoom_kill 7\n oom_kill 7\n", false, 0},
	    {"oom_kill \n8\n", false, 0},
	    {"oom_kill -1\n", false, 0},
	    {"oom_kill 1x\n", false, 0},
	    {"", false, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		uint64_t count = 0;
		bool found = oom_parse(texts[i].text, &count);

		if (found != texts[i].found || count != texts[i].count)
			fail_msg("text %zu: %d, %llu", i, found, (unsigned long long)count);
	}
}

/* The counts of files that the test writes, looked at as those of the kernel. */
static void write_count(const char *path, unsigned count)
{
	FILE *f = fopen(path, "we");

	assert_non_null(f);
	fprintf(f, "max 1\noom_kill %u\n", count);
	assert_int_equal(fclose(f), 0);
}

static void what_counts_is_recent(void **state)
{
	const uint64_t second = 1000000000ull;
	char path[] = "/tmp/holdfast-test-oom-XXXXXX";
	struct oom oom;

	(void)state;
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	close(fd);
	write_count(path, 5);
	oom_init(&oom);
	snprintf(oom.group_path, sizeof(oom.group_path), "%s", path);
	oom_mark(&oom, 20 * second);
	oom_mark(&oom, 30 * second);
	assert_int_equal(oom_suspect(&oom), OOM_NONE);
	write_count(path, 6);
	assert_int_equal(oom_suspect(&oom), OOM_CERTAIN);
	oom_mark(&oom, 35 * second); /* too soon to be a mark */
	oom_mark(&oom, 40 * second);
	assert_int_equal(oom_suspect(&oom), OOM_CERTAIN);
	oom_mark(&oom, 50 * second);
	assert_int_equal(oom_suspect(&oom), OOM_NONE);
	/* With a count of our own group, the machine's does not matter. */
	oom.marks[0].machine = oom.marks[1].machine = 0;
	assert_int_equal(oom_suspect(&oom), OOM_NONE);
	unlink(path);
	/* Without one, it does; this machine's may be 0. */
	oom.group_path[0] = '\0';
	oom.marks[0].machine = UINT64_MAX;
	assert_int_equal(oom_suspect(&oom), OOM_NONE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(groups_are_found),
	    cmocka_unit_test(long_names),
	    cmocka_unit_test(counts_are_read),
	    cmocka_unit_test(what_counts_is_recent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
