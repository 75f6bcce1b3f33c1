/* See job.h. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>

#include "supervisor/agent/job.h"

struct job {
	struct job *next, **list;
	struct event *output_event, *deadline_event;
	struct job_request request; /* command is not kept */
	char *output;
	size_t output_bytes;
	int pid, output_fd; /* -1: closed */
	int wait_status;
	bool reaped, late;
};

extern char **environ;

static void job_free(struct job *job)
{
	for (struct job **at = job->list; *at != NULL; at = &(*at)->next)
		if (*at == job) {
			*at = job->next;
			break;
		}
	if (job->output_event != NULL)
		event_free(job->output_event);
	if (job->deadline_event != NULL)
		event_free(job->deadline_event);
	if (job->output_fd >= 0)
		close(job->output_fd);
	free(job->output);
	free(job);
}

static void finish_if_done(struct job *job)
{
	if (!job->reaped || job->output_fd >= 0)
		return;
	struct job_end end = {.wait_status = job->wait_status,
	    .late = job->late,
	    .output = job->output,
	    .output_bytes = job->output_bytes};
	job_done *done = job->request.done;

	job->output[job->output_bytes] = '\0';
	done(job->request.context, &end);
	job_free(job);
}

static void on_output(evutil_socket_t fd, short what, void *argument)
{
	struct job *job = argument;
	char overflow[4096];
	size_t room = job->request.output_max_bytes - job->output_bytes;
	ssize_t length = read(fd, room > 0 ? job->output + job->output_bytes : overflow,
	    room > 0 ? room : sizeof(overflow));

	(void)what;
	if (length > 0) {
		if (room > 0)
			job->output_bytes += (size_t)length;
		return;
	}
	if (length < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	event_del(job->output_event);
	close(job->output_fd);
	job->output_fd = -1;
	finish_if_done(job);
}

/* The deadline: whatever it is doing, it ends; what it holds open does not keep us either. */
static void on_deadline(evutil_socket_t fd, short what, void *argument)
{
	struct job *job = argument;

	(void)fd;
	(void)what;
	if (!job->reaped && job->pid > 0)
		kill(job->pid, SIGKILL);
	job->late = job->pid > 0; /* else it never began */
	if (job->output_fd >= 0) {
		event_del(job->output_event);
		close(job->output_fd);
		job->output_fd = -1;
	}
	/* A helper stuck in the kernel is not waited for; it is reaped whenever it ends. */
	job->reaped = true;
	finish_if_done(job);
}

static bool job_spawn(struct job *job, const struct job_request *request)
{
	struct spawn_result result;
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) != 0)
		return false;
	struct spawn_request spawn = {.command = request->command,
	    .environment = environ,
	    .in_fd = -1,
	    .out_fd = ends[1],
	    .err_fd = -1,
	    .signals = request->signals,
	    .die_with_parent = true};
	enum status status = spawn_process(&spawn, &result);

	close(ends[1]);
	if (status != STATUS_OK) {
		close(ends[0]);
		return false;
	}
	if (result.pidfd >= 0)
		close(result.pidfd);
	fcntl(ends[0], F_SETFL, O_NONBLOCK);
	job->pid = result.pid;
	job->output_fd = ends[0];
	return true;
}

bool job_start(struct event_base *base, const struct job_request *request, struct job **list)
{
	struct job *job = calloc(1, sizeof(*job));
	struct timeval deadline = {.tv_sec = (time_t)(request->deadline_ns / 1000000000ull),
	    .tv_usec = (suseconds_t)(request->deadline_ns % 1000000000ull / 1000)};

	if (job == NULL)
		return false;
	job->output_fd = -1;
	job->request = *request;
	job->list = list;
	job->next = *list;
	*list = job;
	job->output = malloc(request->output_max_bytes + 1);
	job->deadline_event = evtimer_new(base, on_deadline, job);
	if (job->output == NULL || job->deadline_event == NULL) {
		job_free(job);
		return false;
	}
	if (!job_spawn(job, request)) {
		/* Could not be started: told like an end, from the loop, at once. */
		job->wait_status = -1;
		deadline = (struct timeval){.tv_usec = 1000};
	} else {
		job->output_event = event_new(
		    base, job->output_fd, EV_READ | EV_PERSIST, on_output, job);
		if (job->output_event == NULL) {
			kill(job->pid, SIGKILL);
			job_free(job);
			return false;
		}
		event_add(job->output_event, NULL);
	}
	event_add(job->deadline_event, &deadline);
	return true;
}

bool job_reaped(struct job *list, int pid, int wait_status)
{
	for (struct job *job = list; job != NULL; job = job->next)
		if (job->pid == pid && !job->reaped) {
			job->reaped = true;
			job->wait_status = wait_status;
			finish_if_done(job);
			return true;
		}
	return false;
}

size_t job_pids(const struct job *list, int pids[], size_t max)
{
	size_t count = 0;

	for (const struct job *job = list; job != NULL && count < max; job = job->next)
		if (job->pid > 0)
			pids[count++] = job->pid;
	return count;
}

void job_cancel_all(struct job **list)
{
	for (struct job *job = *list, *next; job != NULL; job = next) {
		next = job->next;
		if (!job->reaped && job->pid > 0)
			kill(job->pid, SIGKILL);
		job_free(job);
	}
}
