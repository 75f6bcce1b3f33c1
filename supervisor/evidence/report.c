/* The evidence of a fault as one text: see report.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "supervisor/evidence/report.h"
#include "supervisor/evidence/stacks.h"
#include "supervisor/evidence/threads.h"

#define DEADLINE_DEFAULT_MS 10000u
#define TIME_WIDTH 44u /* of the line's part that is filled in when the stacks have been taken */

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void compose_head(const struct evidence_request *request, struct sheet *sheet)
{
	char path[64], command[4096], safe[900];
	double age_s = threads_age_s(request->pid);
	ssize_t size;

	snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)request->pid);
	size = threads_read_file(path, command, sizeof(command));
	for (ssize_t i = 0; i + 1 < size; i++)
		if (command[i] == '\0')
			command[i] = ' ';
	sheet_escape(safe, sizeof(safe), command, strnlen(command, sizeof(command)));
	sheet_line(sheet, "process %d, state %c, started %.2f s before this\n", (int)request->pid,
	    threads_state(request->pid, request->pid), age_s);
	sheet_line(sheet, "command: %s\n", size > 0 ? safe : "(unknown)");
}

/* The lines of /proc/PID/status that tell something about a fault. */
static void compose_status(const struct evidence_request *request, struct sheet *sheet)
{
	static const char *const wanted[] = {
	    "State:", "TracerPid:", "Threads:", "VmPeak:", "VmSize:", "VmHWM:", "VmRSS:",
	    "RssShmem:", "VmSwap:", "SigQ:", "SigPnd:", "ShdPnd:", "SigBlk:", "SigIgn:", "SigCgt:",
	    "Cpus_allowed_list:", "voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"};
	char path[64], text[8192], *line, *rest;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)request->pid);
	sheet_line(sheet, "\nstatus\n");
	if (threads_read_file(path, text, sizeof(text)) <= 0) {
		sheet_line(sheet, "  (cannot be read)\n");
		return;
	}
	for (line = strtok_r(text, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest))
		for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
			if (strncmp(line, wanted[i], strlen(wanted[i])) == 0) {
				sheet_line(sheet, "  ");
				sheet_safe(sheet, line, strlen(line));
				sheet_line(sheet, "\n");
			}
}

/* The time it took is known last and belongs first: its place is kept free in the head. */
static void compose_stacks(
    const struct evidence_request *request, uint64_t until_ns, struct sheet *sheet)
{
	char text[TIME_WIDTH + 64];
	struct stacks_outcome outcome;
	size_t time_at;
	int error;

	sheet_line(sheet, "stacks: ");
	time_at = sheet->used;
	sheet_line(sheet, "%-*s\n", (int)TIME_WIDTH, "not taken");
	compose_status(request, sheet);
	sheet_line(sheet, "\nthreads\n");
	error = stacks_take(request->pid, request->crash_tid, until_ns, sheet, &outcome);
	if (error != 0) {
		sheet_line(sheet, "(no threads: %s)\n", strerror(-error));
		return;
	}
	snprintf(text, sizeof(text), "%u of %u in %.1f ms, held %.1f ms%*s", outcome.unwound_count,
	    outcome.thread_count, (double)outcome.taken_ns / 1e6, (double)outcome.held_ns / 1e6,
	    (int)TIME_WIDTH, "");
	if (time_at + TIME_WIDTH < sheet->used)
		memcpy(sheet->data + time_at, text, TIME_WIDTH);
}

/* Where the tail's first whole line begins, or at least its first whole character. */
static size_t tail_start(const char *text, size_t size)
{
	const char *newline = memchr(text, '\n', size < 1024 ? size : 1024);
	size_t at = 0;

	if (newline != NULL)
		return (size_t)(newline - text) + 1;
	while (at < size && at < 4 && ((unsigned char)text[at] & 0xc0) == 0x80)
		at++;
	return at;
}

static void compose_tail(const char *name, const char *path, struct sheet *sheet)
{
	char *text = malloc(REPORT_TAIL_MAX), safe[512];
	size_t start = 0, used = 0;
	struct stat st;
	off_t from;
	ssize_t n;
	int fd;

	sheet_escape(safe, sizeof(safe), path, strlen(path));
	/* A path may lead to anything; O_NONBLOCK keeps a FIFO without a writer from holding us. */
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (text == NULL || fd < 0 || fstat(fd, &st) != 0) {
		sheet_line(
		    sheet, "\n%s %s: %s\n", name, safe, strerror(text == NULL ? ENOMEM : errno));
		goto out;
	}
	if (!S_ISREG(st.st_mode)) {
		sheet_line(sheet, "\n%s %s: not a regular file\n", name, safe);
		goto out;
	}
	from = st.st_size > (off_t)REPORT_TAIL_MAX ? st.st_size - (off_t)REPORT_TAIL_MAX : 0;
	while (used < REPORT_TAIL_MAX &&
	    (n = pread(fd, text + used, REPORT_TAIL_MAX - used, from + (off_t)used)) > 0)
		used += (size_t)n;
	if (from > 0)
		start = tail_start(text, used);
	sheet_line(sheet, "\n%s %s, the last %zu of %lld bytes\n", name, safe, used - start,
	    (long long)st.st_size);
	sheet_safe(sheet, text + start, used - start);
	if (used > start && text[used - 1] != '\n')
		sheet_line(sheet, "\n");
out:
	if (fd >= 0)
		close(fd);
	free(text);
}

void report_compose(const struct evidence_request *request, struct sheet *sheet)
{
	uint64_t deadline_ms = request->deadline_ms != 0 ? request->deadline_ms : DEADLINE_DEFAULT_MS;
	/* A quarter of the time is left for the output and the writing. */
	uint64_t until_ns = now_ns() + deadline_ms * 750000u;

	if (request->pid > 0 && request->kind == EVIDENCE_STACKS) {
		compose_head(request, sheet);
		compose_stacks(request, until_ns, sheet);
	}
	if (request->err_path != NULL)
		compose_tail("standard error", request->err_path, sheet);
	if (request->out_path != NULL)
		compose_tail("standard output", request->out_path, sheet);
	/* Few programs write one. */
	if (request->recorded_path != NULL && access(request->recorded_path, F_OK) == 0)
		compose_tail("error file", request->recorded_path, sheet);
	sheet_section_end(sheet);
}

int report_write(const struct sheet *sheet, int out_fd)
{
	size_t done = 0;

	while (done < sheet->used) {
		ssize_t n = write(out_fd, sheet->data + done, sheet->used - done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		done += (size_t)n;
	}
	return 0;
}

int evidence_report(const struct evidence_request *request, int out_fd)
{
	struct sheet sheet;
	int error;

	if (request->kind != EVIDENCE_STACKS && request->kind != EVIDENCE_TAIL)
		return -EINVAL;
	error = sheet_init(&sheet, REPORT_SIZE_MAX);
	if (error != 0)
		return error;
	report_compose(request, &sheet);
	error = report_write(&sheet, out_fd);
	sheet_fini(&sheet);
	return error;
}
