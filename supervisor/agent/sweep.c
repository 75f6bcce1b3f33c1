/* See sweep.h. */
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "supervisor/agent/sweep.h"
#include "trainer/channel.h"

#define ENVIRONMENT_MAX (1u << 20)

struct process {
	int pid, parent;
	char state;
	uint64_t cpu_ns, start;
	bool ours; /* a descendant of the root that was asked for */
};

struct table {
	struct process *rows;
	size_t count, capacity;
};

static ssize_t read_file(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length = 0, got;

	if (fd < 0)
		return -1;
	/* The kernel gives a page at a time. */
	while ((size_t)length < size - 1 &&
	    (got = read(fd, text + length, size - 1 - (size_t)length)) != 0) {
		if (got < 0) {
			close(fd);
			return -1;
		}
		length += got;
	}
	close(fd);
	text[length] = '\0';
	return length;
}

static bool read_process(int pid, struct process *p)
{
	char path[64], text[1024], *at;
	unsigned long user, system;
	unsigned long long start;
	long waited_user, waited_system; /* of children that ended: what they did is not lost */
	static long ticks;               /* per second; constant on a machine */

	if (ticks == 0)
		ticks = sysconf(_SC_CLK_TCK);
	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	if (read_file(path, text, sizeof(text)) <= 0 || (at = strrchr(text, ')')) == NULL)
		return false;
	memset(p, 0, sizeof(*p));
	p->pid = pid;
	if (sscanf(at + 1,
		" %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %ld %ld %*d %*d %*d %*d %llu",
		&p->state, &p->parent, &user, &system, &waited_user, &waited_system, &start) != 7)
		return false;
	p->start = start;
	p->cpu_ns = (user + system + (uint64_t)waited_user + (uint64_t)waited_system) *
	    (1000000000ull / (uint64_t)ticks);
	return true;
}

static bool table_add(struct table *t, const struct process *p)
{
	if (t->count == t->capacity) {
		size_t wanted = t->capacity == 0 ? 256 : t->capacity * 2;
		struct process *grown = realloc(t->rows, wanted * sizeof(*grown));

		if (grown == NULL)
			return false;
		t->rows = grown;
		t->capacity = wanted;
	}
	t->rows[t->count++] = *p;
	return true;
}

/* Children of one process through its task's children file (needs CONFIG_PROC_CHILDREN): a look at what is
 * ours only, however many processes the machine runs. */
static bool add_children(struct table *t, int pid)
{
	char path[64], *text = malloc(65536);
	bool known = false;
	DIR *tasks;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	tasks = opendir(path);
	for (struct dirent *e; text != NULL && tasks != NULL && (e = readdir(tasks)) != NULL;) {
		char children[128];

		if (!isdigit((unsigned char)e->d_name[0]))
			continue;
		snprintf(children, sizeof(children), "/proc/%d/task/%.16s/children", pid, e->d_name);
		if (read_file(children, text, 65536) < 0)
			continue;
		known = true;
		for (char *at = text, *end; *at != '\0'; at = end) {
			struct process p;
			int child = (int)strtol(at, &end, 10);

			if (end == at)
				break;
			/* A number that was cut off, or taken by somebody else meanwhile, is not ours. */
			if (read_process(child, &p) && p.parent == pid) {
				p.ours = true;
				(void)table_add(t, &p);
			}
			while (*end == ' ' || *end == '\n')
				end++;
		}
	}
	if (tasks != NULL)
		closedir(tasks);
	free(text);
	return known;
}

static void read_all(struct table *t)
{
	DIR *proc = opendir("/proc");

	for (struct dirent *e; proc != NULL && (e = readdir(proc)) != NULL;) {
		struct process p;

		if (isdigit((unsigned char)e->d_name[0]) &&
		    read_process((int)strtol(e->d_name, NULL, 10), &p))
			(void)table_add(t, &p);
	}
	if (proc != NULL)
		closedir(proc);
}

static bool is_other(const struct process *p, const struct sweep_others *others)
{
	for (size_t i = 0; others != NULL && i < others->count; i++)
		if (others->list[i].pid == p->pid && others->list[i].start == p->start)
			return true;
	return false;
}

static void leave_out(struct table *t, const struct sweep_others *others)
{
	size_t kept = 0;

	for (size_t i = 0; i < t->count; i++)
		if (!is_other(&t->rows[i], others))
			t->rows[kept++] = t->rows[i];
	t->count = kept;
}

/* Descendants of root, root itself not among them; nor others (NULL: none) and what is below them. */
static void read_descendants(struct table *t, int root, const struct sweep_others *others)
{
	if (add_children(t, root)) {
		leave_out(t, others);
		for (size_t i = 0; i < t->count; i++)
			(void)add_children(t, t->rows[i].pid);
		return;
	}
	read_all(t);
	leave_out(t, others);
	for (bool grew = true; grew;) {
		grew = false;
		for (size_t i = 0; i < t->count; i++) {
			struct process *p = &t->rows[i];

			if (p->ours)
				continue;
			bool child = p->parent == root;

			for (size_t j = 0; j < t->count && !child; j++)
				child = t->rows[j].ours && t->rows[j].pid == p->parent;
			p->ours = child;
			grew = grew || child;
		}
	}
}

static bool gone(const struct process *p)
{
	return p->state == 'X' || p->state == 'Z';
}

void sweep_remember(struct sweep_others *out)
{
	struct table t = {0};

	memset(out, 0, sizeof(*out));
	read_descendants(&t, getpid(), NULL);
	out->list = t.count > 0 ? malloc(t.count * sizeof(*out->list)) : NULL;
	for (size_t i = 0; out->list != NULL && i < t.count; i++)
		if (t.rows[i].ours)
			out->list[out->count++] = (struct sweep_identity){
			    .pid = t.rows[i].pid, .start = t.rows[i].start};
	free(t.rows);
}

struct sweep_result sweep_descendants(
    const int spare[], size_t spare_count, const struct sweep_others *others)
{
	struct table t = {0};
	struct sweep_result result = {0};

	read_descendants(&t, getpid(), others);
	for (size_t i = 0; i < t.count; i++) {
		const struct process *p = &t.rows[i];
		bool spared = !p->ours;

		for (size_t j = 0; j < spare_count; j++)
			spared = spared || spare[j] == p->pid;
		if (spared)
			continue;
		if (gone(p)) {
			result.ended++;
			if (result.found == 0)
				result.stuck_pid = (uint32_t)p->pid;
			continue;
		}
		kill(p->pid, SIGKILL);
		result.found++;
		result.stuck_pid = (uint32_t)p->pid;
	}
	free(t.rows);
	return result;
}

/* The thread that hangs, or the leader: state and wait channel of /proc/PID/task/TID. */
static void describe_thread(int pid, const char *tid, struct sweep_stuck *out)
{
	char path[96], text[1024], *at;

	snprintf(path, sizeof(path), "/proc/%d/task/%.16s/stat", pid, tid);
	if (read_file(path, text, sizeof(text)) <= 0 || (at = strrchr(text, ')')) == NULL ||
	    at[1] != ' ' || (out->state == 'D' && at[2] != 'D'))
		return;
	out->state = at[2];
	snprintf(path, sizeof(path), "/proc/%d/task/%.16s/wchan", pid, tid);
	memset(out->where, 0, sizeof(out->where));
	if (read_file(path, text, sizeof(text)) > 0 && strcmp(text, "0") != 0)
		snprintf(out->where, sizeof(out->where), "%.*s", (int)sizeof(out->where) - 1, text);
}

void sweep_describe(int pid, struct sweep_stuck *out)
{
	char path[64], text[64];
	DIR *tasks;

	memset(out, 0, sizeof(*out));
	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	if (read_file(path, text, sizeof(text)) > 0)
		snprintf(out->name, sizeof(out->name), "%.*s", (int)strcspn(text, "\n"), text);
	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	tasks = opendir(path);
	for (struct dirent *e; tasks != NULL && (e = readdir(tasks)) != NULL;)
		if (isdigit((unsigned char)e->d_name[0]))
			describe_thread(pid, e->d_name, out);
	if (tasks != NULL)
		closedir(tasks);
}

static bool environment_names(int pid, const char *wanted, char *text)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/environ", pid);
	ssize_t length = read_file(path, text, ENVIRONMENT_MAX);

	for (char *at = text; length > 0 && at < text + length; at += strlen(at) + 1)
		if (strcmp(at, wanted) == 0)
			return true;
	return false;
}

struct sweep_result sweep_environment(const char *run_id_hex)
{
	struct table t = {0}, mine = {0};
	struct sweep_result result = {0};
	char wanted[128], *text = malloc(ENVIRONMENT_MAX);

	snprintf(wanted, sizeof(wanted), "%s=%s", CHANNEL_ENV_RUN, run_id_hex);
	read_all(&t);
	read_descendants(&mine, getpid(), NULL);
	for (size_t i = 0; text != NULL && i < t.count; i++) {
		const struct process *p = &t.rows[i];
		bool spared = p->pid == getpid() || gone(p);

		for (size_t j = 0; j < mine.count && !spared; j++)
			spared = mine.rows[j].ours && mine.rows[j].pid == p->pid;
		if (spared || !environment_names(p->pid, wanted, text))
			continue;
		kill(p->pid, SIGKILL);
		result.found++;
		result.stuck_pid = (uint32_t)p->pid;
	}
	free(text);
	free(t.rows);
	free(mine.rows);
	return result;
}

uint64_t sweep_cpu_ns(int pid, char *state_out)
{
	struct table t = {0};
	struct process self;
	uint64_t cpu_ns = 0;

	*state_out = '?';
	if (!read_process(pid, &self))
		return 0;
	*state_out = self.state;
	cpu_ns = self.cpu_ns;
	read_descendants(&t, pid, NULL);
	for (size_t i = 0; i < t.count; i++)
		if (t.rows[i].ours)
			cpu_ns += t.rows[i].cpu_ns;
	free(t.rows);
	return cpu_ns;
}
