/* See spawn.h. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "supervisor/agent/spawn.h"
#include "supervisor/clock.h"

#define KEEP_FIRST 3
#define REPORT_MAX_MS 10000

extern char **environ;

void spawn_signals_save(struct spawn_signals *saved)
{
	sigprocmask(SIG_SETMASK, NULL, &saved->mask);
	if (getrlimit(RLIMIT_NOFILE, &saved->files) != 0)
		saved->files = (struct rlimit){.rlim_cur = 0};
	for (int number = 1; number < SPAWN_SIGNALS; number++) {
		struct sigaction action;

		saved->ignored[number] = sigaction(number, NULL, &action) == 0 &&
		    (action.sa_flags & SA_SIGINFO) == 0 && action.sa_handler == SIG_IGN;
	}
}

struct failure {
	int32_t stage, error;
};

void spawn_more_files(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) != 0)
		return;
	files.rlim_cur = files.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &files);
}

static void child_fail(int report_fd, enum spawn_stage stage)
{
	struct failure failure = {.stage = stage, .error = errno};
	ssize_t written = write(report_fd, &failure, sizeof(failure));

	(void)written;
	_exit(127);
}

/* Between fork and exec: async-signal-safe calls only. */
static void child_signals(const struct spawn_signals *saved)
{
	struct sigaction action = {.sa_handler = SIG_DFL};

	for (int number = 1; number < SPAWN_SIGNALS; number++) {
		action.sa_handler = saved->ignored[number] ? SIG_IGN : SIG_DFL;
		(void)sigaction(number, &action, NULL);
	}
	sigprocmask(SIG_SETMASK, &saved->mask, NULL);
}

/* Put descriptors where they are wanted.  All sources lie above every target (moved there by the parent). */
static bool child_descriptors(const struct spawn_request *q)
{
	const int sources[3] = {q->in_fd, q->out_fd, q->err_fd};

	for (int target = 0; target < 3; target++)
		if (sources[target] >= 0 && dup2(sources[target], target) < 0)
			return false;
	for (size_t i = 0; i < q->keep_count; i++)
		if (dup2(q->keep_fds[i], KEEP_FIRST + (int)i) < 0)
			return false;
	if (q->stay_fd > 0 && fcntl(q->stay_fd, F_SETFD, 0) != 0)
		return false;
	/* Everything of ours is close-on-exec from birth; what else the user's shell opened goes on (H12). */
	return true;
}

static void child_run(const struct spawn_request *q, int report_fd, int parent_pid)
{
	if (q->die_with_parent && (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent_pid))
		child_fail(report_fd, SPAWN_SETUP);
	(void)setpgid(0, 0);
	/* Where Yama guards ptrace, the agent's helpers may still read this process's stacks. */
	(void)prctl(PR_SET_PTRACER, parent_pid);
	if (!child_descriptors(q))
		child_fail(report_fd, SPAWN_SETUP);
	if (q->work_dir != NULL && chdir(q->work_dir) != 0)
		child_fail(report_fd, SPAWN_CHDIR);
	child_signals(q->signals);
	if (q->signals->files.rlim_cur != 0)
		(void)setrlimit(RLIMIT_NOFILE, &q->signals->files);
	/* execvpe(3) would look into the PATH of our own environment. */
	environ = (char **)q->environment;
	execvp(q->command[0], (char *const *)q->command);
	child_fail(report_fd, SPAWN_EXEC);
}

uint64_t spawn_process_start(int pid)
{
	char path[64], text[1024];
	int fields = 0;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return 0;
	ssize_t length = read(fd, text, sizeof(text) - 1);

	close(fd);
	if (length <= 0)
		return 0;
	text[length] = '\0';
	char *at = strrchr(text, ')');

	for (; at != NULL && *at != '\0' && fields < 20; at++)
		if (*at == ' ')
			fields++;
	return fields == 20 ? strtoull(at, NULL, 10) : 0;
}

/* A copy of fd that lies above every descriptor the child is going to place. */
static int above(int fd, size_t keep_count)
{
	return fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, KEEP_FIRST + (int)keep_count + 1);
}

struct moved {
	int in_fd, out_fd, err_fd, report_fd;
	int *keep;
};

static void moved_close(struct moved *m, size_t keep_count)
{
	const int fds[4] = {m->in_fd, m->out_fd, m->err_fd, m->report_fd};

	for (int i = 0; i < 4; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	for (size_t i = 0; m->keep != NULL && i < keep_count; i++)
		if (m->keep[i] >= 0)
			close(m->keep[i]);
	free(m->keep);
}

static bool move_up(const struct spawn_request *q, int report_fd, struct moved *m)
{
	bool all = true;

	m->in_fd = q->in_fd >= 0 ? above(q->in_fd, q->keep_count) : -1;
	if (q->in_fd < 0) {
		int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

		m->in_fd = above(null, q->keep_count);
		if (null >= 0)
			close(null);
	}
	m->out_fd = above(q->out_fd, q->keep_count);
	m->err_fd = above(q->err_fd, q->keep_count);
	m->report_fd = above(report_fd, q->keep_count);
	m->keep = calloc(q->keep_count + 1, sizeof(*m->keep));
	for (size_t i = 0; m->keep != NULL && i < q->keep_count; i++) {
		m->keep[i] = above(q->keep_fds[i], q->keep_count);
		all = all && m->keep[i] >= 0;
	}
	return all && m->keep != NULL && m->in_fd >= 0 && m->report_fd >= 0 &&
	    (q->out_fd < 0 || m->out_fd >= 0) && (q->err_fd < 0 || m->err_fd >= 0);
}

/* fork, with every signal blocked around it so that no handler of ours runs in the child. */
static int fork_child(const struct spawn_request *q, const struct moved *m)
{
	struct spawn_request child = *q;
	sigset_t all, before;
	int parent = getpid();

	child.in_fd = m->in_fd;
	child.out_fd = m->out_fd;
	child.err_fd = m->err_fd;
	child.keep_fds = m->keep;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	int pid = fork();

	if (pid == 0)
		child_run(&child, m->report_fd, parent);
	int error = errno;

	sigprocmask(SIG_SETMASK, &before, NULL);
	errno = error;
	return pid;
}

/*
 * Wait for exec (the pipe closes) or for the report of what failed before it.  A file system that does not answer
 * is not waited for beyond REPORT_MAX_MS: the child is as good as not started.
 */
static bool read_report(int fd, struct spawn_result *result)
{
	struct pollfd ready = {.fd = fd, .events = POLLIN};
	uint64_t end_ns = clock_monotonic_ns() + REPORT_MAX_MS * 1000000ull;
	struct failure failure;
	ssize_t length;
	int count;

	/* Another child's end interrupts the wait, and does not make it longer. */
	do {
		uint64_t now_ns = clock_monotonic_ns();

		count = poll(&ready, 1, now_ns < end_ns ? (int)((end_ns - now_ns) / 1000000) : 0);
	} while (count < 0 && errno == EINTR);
	if (count <= 0) {
		result->stage = SPAWN_EXEC;
		result->error = ETIMEDOUT;
		return false;
	}
	do
		length = read(fd, &failure, sizeof(failure));
	while (length < 0 && errno == EINTR);
	if (length != (ssize_t)sizeof(failure))
		return true;
	result->stage = (enum spawn_stage)failure.stage;
	result->error = failure.error;
	return false;
}

enum status spawn_process(const struct spawn_request *q, struct spawn_result *result)
{
	struct moved m = {-1, -1, -1, -1, NULL};
	int report[2];

	memset(result, 0, sizeof(*result));
	result->stage = SPAWN_PREPARE;
	if (pipe2(report, O_CLOEXEC) != 0) {
		result->error = errno;
		return STATUS_SYS;
	}
	bool ready = move_up(q, report[1], &m);

	result->error = errno;
	int pid = ready ? fork_child(q, &m) : -1;

	if (ready && pid < 0) {
		result->stage = SPAWN_FORK;
		result->error = errno;
	}
	moved_close(&m, q->keep_count);
	close(report[1]);
	if (pid < 0) {
		close(report[0]);
		return STATUS_SYS;
	}
	bool running = read_report(report[0], result);

	close(report[0]);
	if (!running) {
		/* One that hangs in the kernel is reaped when it comes back, with the other orphans. */
		bool hangs = result->error == ETIMEDOUT;

		if (hangs)
			kill(pid, SIGKILL);
		while (waitpid(pid, NULL, hangs ? WNOHANG : 0) < 0 && errno == EINTR)
			;
		return STATUS_SYS;
	}
	result->pid = pid;
	result->process_start = spawn_process_start(pid);
	result->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	return STATUS_OK;
}
