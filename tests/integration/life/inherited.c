/*
 * Print what a process was given: one "word: value" a line, in order, nothing that differs between two starts of
 * the same kind.  Descriptors with what they are open on, the signal mask, ignored signals, limits, the umask,
 * the scheduling, the working directory, the arguments and the environment.
 */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

extern char **environ;

/* What a descriptor is open on; of pipes and sockets only that they are. */
static void print_descriptor(int fd)
{
	char path[64], target[4096];
	ssize_t length;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	length = readlink(path, target, sizeof(target) - 1);
	if (length < 0)
		return;
	target[length] = '\0';
	char *number = strstr(target, ":[");

	if (number != NULL)
		*number = '\0';
	printf("fd %d: %s, flags %x, close-on-exec %d\n", fd, target,
	    (unsigned)fcntl(fd, F_GETFL) & (O_ACCMODE | O_NONBLOCK | O_APPEND), fcntl(fd, F_GETFD));
}

static void print_signals(void)
{
	sigset_t mask;

	sigprocmask(SIG_SETMASK, NULL, &mask);
	for (int number = 1; number <= SIGRTMAX; number++) {
		struct sigaction action;

		if (sigismember(&mask, number) == 1)
			printf("signal %d: blocked\n", number);
		if (sigaction(number, NULL, &action) == 0 && action.sa_handler == SIG_IGN)
			printf("signal %d: ignored\n", number);
	}
}

static void print_limits(void)
{
	for (int resource = 0; resource < (int)RLIM_NLIMITS; resource++) {
		struct rlimit limit;

		if (getrlimit((__rlimit_resource_t)resource, &limit) == 0)
			printf("limit %d: %llu %llu\n", resource,
			    (unsigned long long)limit.rlim_cur, (unsigned long long)limit.rlim_max);
	}
}

static void print_rest(int argc, char **argv)
{
	char directory[4096];
	mode_t mask = umask(0);
	cpu_set_t cpus;

	umask(mask);
	printf("umask: %o\n", (unsigned)mask);
	printf("nice: %d\n", getpriority(PRIO_PROCESS, 0));
	printf("scheduler: %d\n", sched_getscheduler(0));
	if (sched_getaffinity(0, sizeof(cpus), &cpus) == 0)
		printf("cpus: %d\n", CPU_COUNT(&cpus));
	printf("dumpable: %d\n", prctl(PR_GET_DUMPABLE));
	printf("no new privileges: %d\n", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
	printf("uid: %u %u %u %u\n", getuid(), geteuid(), getgid(), getegid());
	printf("directory: %s\n", getcwd(directory, sizeof(directory)) != NULL ? directory : "none");
	for (int i = 0; i < argc; i++)
		printf("argument %d: %s\n", i, argv[i]);
	for (char **at = environ; *at != NULL; at++)
		printf("env %s\n", *at);
}

int main(int argc, char **argv)
{
	/* Not through opendir(): its own descriptor would be among them. */
	for (int fd = 0; fd < 1024; fd++)
		if (fcntl(fd, F_GETFD) >= 0)
			print_descriptor(fd);
	print_signals();
	print_limits();
	print_rest(argc, argv);
	return 0;
}
