/* The helper that takes evidence: see evidence.h. */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "supervisor/evidence/evidence.h"
#include "supervisor/evidence/report.h"

#define EXIT_USAGE 64
#define DEADLINE_DEFAULT_MS 10000u

/* A signal handler has no other way to reach what it must write out. Set once, before the alarm is. */
static const struct sheet *alarm_sheet;

/* While the text is being written: what is out is out. */
static void on_alarm_writing(int signal_number)
{
	static const char error[] = "holdfast helper-evidence: Timer expired\n";

	(void)signal_number;
	(void)!write(STDERR_FILENO, error, sizeof(error) - 1);
	_exit(1);
}

/* While it is being composed: what is there is worth having. */
static void on_alarm(int signal_number)
{
	static const char note[] = "\n[the deadline passed here; the rest could not be taken]\n";
	size_t done = 0;

	/* A reader that does not read must not keep the traced process stopped. */
	signal(SIGALRM, on_alarm_writing);
	alarm(1);
	while (done < alarm_sheet->used) {
		ssize_t n = write(STDOUT_FILENO, alarm_sheet->data + done, alarm_sheet->used - done);
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	(void)!write(STDOUT_FILENO, note, sizeof(note) - 1);
	on_alarm_writing(signal_number);
}

static int parse_number(const char *word, long max, long *out)
{
	char *end;

	errno = 0;
	*out = strtol(word, &end, 10);
	return errno == 0 && end != word && *end == '\0' && *out >= 0 && *out <= max ? 0 : -EINVAL;
}

static int parse(int argc, char **argv, struct evidence_request *request)
{
	enum {
		OPTION_PID = 1,
		OPTION_TID,
		OPTION_KIND,
		OPTION_OUT,
		OPTION_ERR,
		OPTION_RECORDED,
		OPTION_DEADLINE
	};
	static const struct option options[] = {
	    {"pid", required_argument, NULL, OPTION_PID},
	    {"tid", required_argument, NULL, OPTION_TID},
	    {"kind", required_argument, NULL, OPTION_KIND},
	    {"out", required_argument, NULL, OPTION_OUT},
	    {"err", required_argument, NULL, OPTION_ERR},
	    {"recorded", required_argument, NULL, OPTION_RECORDED},
	    {"deadline-ms", required_argument, NULL, OPTION_DEADLINE},
	    {NULL, 0, NULL, 0},
	};
	long number = 0;
	int option;

	optind = 1;
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == OPTION_OUT) {
			request->out_path = optarg;
			continue;
		}
		if (option == OPTION_ERR) {
			request->err_path = optarg;
			continue;
		}
		if (option == OPTION_RECORDED) {
			request->recorded_path = optarg;
			continue;
		}
		if (option == '?' || parse_number(optarg, INT_MAX, &number) != 0)
			return -EINVAL;
		if (option == OPTION_PID)
			request->pid = (pid_t)number;
		else if (option == OPTION_TID)
			request->crash_tid = (pid_t)number;
		else if (option == OPTION_KIND)
			request->kind = (uint32_t)number;
		else
			request->deadline_ms = (uint32_t)number;
	}
	if (optind != argc || (request->kind != EVIDENCE_STACKS && request->kind != EVIDENCE_TAIL))
		return -EINVAL;
	if (request->deadline_ms == 0)
		request->deadline_ms = DEADLINE_DEFAULT_MS;
	return 0;
}

static void arm(uint32_t deadline_ms)
{
	struct itimerval timer = {.it_value = {.tv_sec = deadline_ms / 1000,
				      .tv_usec = (suseconds_t)(deadline_ms % 1000) * 1000}};
	/* SA_NODEFER: a second alarm comes through the handler's own write. */
	struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_NODEFER};
	sigset_t mask;

	sigemptyset(&action.sa_mask);
	sigaction(SIGALRM, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&mask);
	sigaddset(&mask, SIGALRM);
	sigprocmask(SIG_UNBLOCK, &mask, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
}

int evidence_main(int argc, char **argv)
{
	struct evidence_request request = {0};
	struct sheet sheet;
	int error;

	if (parse(argc, argv, &request) != 0) {
		fprintf(stderr,
		    "usage: holdfast helper-evidence --pid P [--tid T] --kind 1|2 [--out PATH] "
		    "[--err PATH] [--recorded PATH] [--deadline-ms D]\n");
		return EXIT_USAGE;
	}
	error = sheet_init(&sheet, REPORT_SIZE_MAX);
	if (error == 0) {
		alarm_sheet = &sheet;
		arm(request.deadline_ms);
		report_compose(&request, &sheet);
		signal(SIGALRM, on_alarm_writing);
		error = report_write(&sheet, STDOUT_FILENO);
		signal(SIGALRM, SIG_IGN);
		alarm_sheet = NULL;
		sheet_fini(&sheet);
	}
	if (error != 0) {
		fprintf(stderr, "holdfast helper-evidence: %s\n", strerror(-error));
		return 1;
	}
	return 0;
}
