/* What /proc says of a process and its threads: see threads.h. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "supervisor/evidence/sheet.h"
#include "supervisor/evidence/threads.h"

/* The calls in which trainers are found waiting; others are shown by number. */
static const struct {
	long number;
	const char *name;
} calls[] = {
    {SYS_futex, "futex"},
    {SYS_read, "read"},
    {SYS_write, "write"},
    {SYS_pread64, "pread64"},
    {SYS_pwrite64, "pwrite64"},
    {SYS_readv, "readv"},
    {SYS_writev, "writev"},
    {SYS_openat, "openat"},
    {SYS_close, "close"},
    {SYS_fsync, "fsync"},
    {SYS_fdatasync, "fdatasync"},
    {SYS_ftruncate, "ftruncate"},
    {SYS_flock, "flock"},
    {SYS_fcntl, "fcntl"},
    {SYS_ioctl, "ioctl"},
    {SYS_mmap, "mmap"},
    {SYS_munmap, "munmap"},
    {SYS_madvise, "madvise"},
    {SYS_ppoll, "ppoll"},
    {SYS_pselect6, "pselect6"},
    {SYS_epoll_pwait, "epoll_pwait"},
    {SYS_nanosleep, "nanosleep"},
    {SYS_clock_nanosleep, "clock_nanosleep"},
    {SYS_restart_syscall, "restart_syscall"},
    {SYS_wait4, "wait4"},
    {SYS_waitid, "waitid"},
    {SYS_rt_sigtimedwait, "rt_sigtimedwait"},
    {SYS_rt_sigsuspend, "rt_sigsuspend"},
    {SYS_recvfrom, "recvfrom"},
    {SYS_recvmsg, "recvmsg"},
    {SYS_sendto, "sendto"},
    {SYS_sendmsg, "sendmsg"},
    {SYS_connect, "connect"},
    {SYS_accept, "accept"},
    {SYS_accept4, "accept4"},
#ifdef SYS_poll
    {SYS_poll, "poll"},
    {SYS_select, "select"},
    {SYS_epoll_wait, "epoll_wait"},
    {SYS_pause, "pause"},
#endif
};

ssize_t threads_read_file(const char *path, char *buffer, size_t buffer_size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	size_t used = 0;
	ssize_t n = 0;

	buffer[0] = '\0';
	if (fd < 0)
		return -errno;
	while (used + 1 < buffer_size) {
		n = read(fd, buffer + used, buffer_size - 1 - used);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		used += (size_t)n;
	}
	if (n < 0)
		n = -errno;
	close(fd);
	buffer[used] = '\0';
	return n < 0 ? n : (ssize_t)used;
}

static int by_number(const void *a, const void *b)
{
	pid_t x = *(const pid_t *)a, y = *(const pid_t *)b;

	return (x > y) - (x < y);
}

static void bring_forward(pid_t *tids, int count, pid_t tid)
{
	for (int i = 0; i < count; i++) {
		if (tids[i] != tid)
			continue;
		memmove(tids + 1, tids, (size_t)i * sizeof(*tids));
		tids[0] = tid;
		return;
	}
}

int threads_list(pid_t pid, pid_t first, pid_t *tids, int room, int *total_out)
{
	char path[64];
	struct dirent *entry;
	int count = 0, total = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	dir = opendir(path);
	if (dir == NULL)
		return errno == ENOENT ? -ESRCH : -errno;
	while ((entry = readdir(dir)) != NULL) {
		long tid = strtol(entry->d_name, NULL, 10);
		if (tid <= 0)
			continue;
		total++;
		if (count < room)
			tids[count++] = (pid_t)tid;
		else if (tid == first && room > 0)
			tids[room - 1] = (pid_t)tid; /* the one that matters must not fall off */
	}
	closedir(dir);
	qsort(tids, (size_t)count, sizeof(*tids), by_number);
	bring_forward(tids, count, pid);
	bring_forward(tids, count, first);
	*total_out = total;
	return count > 0 ? count : -ESRCH;
}

/* Everything behind the command's name, which may itself hold spaces and parentheses. */
static const char *stat_fields(const char *path, char *buffer, size_t buffer_size)
{
	char *end;

	if (threads_read_file(path, buffer, buffer_size) <= 0)
		return NULL;
	end = strrchr(buffer, ')');
	return end != NULL && end[1] == ' ' ? end + 2 : NULL;
}

char threads_state(pid_t pid, pid_t tid)
{
	char path[96], buffer[1024];
	const char *fields;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", (int)pid, (int)tid);
	fields = stat_fields(path, buffer, sizeof(buffer));
	return fields == NULL || fields[0] == '\0' ? '?' : fields[0];
}

double threads_age_s(pid_t pid)
{
	char path[64], buffer[1024];
	const char *fields;
	struct timespec now;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fields = stat_fields(path, buffer, sizeof(buffer));
	if (fields == NULL)
		return -1;
	/* fields begins with the third: the 22nd is nineteen spaces further. */
	for (int i = 0; i < 19 && fields != NULL; i++) {
		fields = strchr(fields, ' ');
		fields = fields != NULL ? fields + 1 : NULL;
	}
	if (fields == NULL)
		return -1;
	clock_gettime(CLOCK_BOOTTIME, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9 -
	    strtod(fields, NULL) / (double)sysconf(_SC_CLK_TCK);
}

/* First line of a file of the thread, escaped; "-" when there is none or it may not be read. */
static void look_at(pid_t pid, pid_t tid, const char *file, char *out, size_t out_size)
{
	char path[96], buffer[256];
	ssize_t size;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/%s", (int)pid, (int)tid, file);
	size = threads_read_file(path, buffer, sizeof(buffer));
	if (size <= 0 || (buffer[0] == '0' && size == 1)) {
		snprintf(out, out_size, "-");
		return;
	}
	sheet_escape(out, out_size, buffer, strcspn(buffer, "\n"));
}

void threads_look(pid_t pid, pid_t tid, struct thread *thread)
{
	char call[192], *arguments;
	long number;

	thread->tid = tid;
	thread->state = threads_state(pid, tid);
	look_at(pid, tid, "comm", thread->name, sizeof(thread->name));
	look_at(pid, tid, "wchan", thread->wait_channel, sizeof(thread->wait_channel));
	look_at(pid, tid, "syscall", call, sizeof(call));
	snprintf(thread->system_call, sizeof(thread->system_call), "%s", call);
	number = strtol(call, &arguments, 10);
	if (arguments == call || number < 0)
		return;
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
		if (calls[i].number == number)
			snprintf(thread->system_call, sizeof(thread->system_call), "%s%s",
			    calls[i].name, arguments);
}
