/*
 * Evidence of a foreign process: the right names in the right order, and a process that is left as it was.
 *
 * Every case forks a target that is in a known function and a known state, runs the helper on it as the agent
 * does, and looks at the text and then at the target: its state, its tracer, and that it does what it is then
 * told to.  Controls: a target that nobody touched, a text without the guard's input, and the mutations that
 * the comments of the cases name.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka's header needs the four above. */
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <wchar.h>

#include "supervisor/evidence/evidence.h"
#include "supervisor/evidence/report.h"
#include "tests/faults/tracee.h"

#define WAIT_MAX_MS 20000
#define MANY_THREADS 60
#define TEXT_MAX (REPORT_SIZE_MAX + 4096)
#define STACKS_ALL_MAX 256
#define NOBODY 65534

/* What a target is told and tells; shared with it. */
struct shared {
	_Atomic uint64_t turns;   /* counts while it runs */
	_Atomic uint32_t signals; /* it received */
	_Atomic int ready;        /* threads that are where they should be */
	_Atomic pid_t tid[MANY_THREADS];
	_Atomic bool stop;
};

struct target {
	pid_t pid;
	int wake; /* write a byte: it goes on and exits with 7 */
};

static struct shared *shared;
static char text[TEXT_MAX]; /* of the last evidence */
static char error_text[4096];

/* The functions that targets are found in. */

static void keep_frame(void)
{
	__asm__ volatile("" ::: "memory");
}

__attribute__((noinline)) static int evt_inner(int fd)
{
	char byte;
	ssize_t n;

	shared->ready++;
	n = read(fd, &byte, 1);
	keep_frame();
	return n == 1 ? 7 : 8;
}

__attribute__((noinline)) static int evt_outer(int fd)
{
	int result = evt_inner(fd);

	keep_frame();
	return result;
}

__attribute__((noinline)) static int evt_spin(int fd)
{
	(void)fd;
	shared->ready++;
	while (!shared->stop)
		shared->turns++;
	return 7;
}

static int wake_fd;
static int *volatile nowhere;
static void (*volatile nowhere_code)(void);

__attribute__((noinline)) static void *evt_thread(void *index)
{
	shared->tid[(intptr_t)index] = gettid();
	evt_outer(wake_fd);
	return NULL;
}

__attribute__((noinline)) static int evt_threads(int fd)
{
	pthread_attr_t attributes;
	pthread_t thread;

	wake_fd = fd;
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	for (intptr_t i = 0; i < MANY_THREADS; i++)
		if (pthread_create(&thread, &attributes, evt_thread, (void *)i) != 0)
			return 9;
	while (!shared->stop) {
		shared->turns++;
		usleep(100);
	}
	return 7;
}

/* A crash handler that waits, as libholdfast's does. */
__attribute__((noinline)) static void evt_handler(int signal_number)
{
	(void)signal_number;
	_exit(evt_inner(wake_fd));
}

__attribute__((noinline, no_sanitize("null"))) static int evt_crash(int fd)
{
	static char stack[64 << 10];
	const stack_t alternate = {.ss_sp = stack, .ss_size = sizeof(stack)};
	struct sigaction action = {.sa_handler = evt_handler, .sa_flags = SA_ONSTACK};

	wake_fd = fd;
	sigaltstack(&alternate, NULL);
	sigaction(SIGSEGV, &action, NULL);
	*nowhere = 1;
	keep_frame();
	return 8;
}

__attribute__((noinline)) static int evt_handled_read(int fd)
{
	struct sigaction action = {.sa_handler = evt_handler};

	wake_fd = fd;
	sigaction(SIGSEGV, &action, NULL);
	return evt_outer(fd);
}

/* A call through a null pointer, from a function that keeps a frame pointer: libunwind alone skips it. */
__attribute__((noinline, optimize("no-omit-frame-pointer"))) static int evt_call_null(int fd)
{
	struct sigaction action = {.sa_handler = evt_handler};

	wake_fd = fd;
	sigaction(SIGSEGV, &action, NULL);
	nowhere_code();
	keep_frame();
	return 8;
}

/* The parent of a vfork(2) sleeps uninterruptibly until its child ends. */
__attribute__((noinline)) static int evt_vfork(int fd)
{
	char byte;
	int status = 0;
	/* NOLINTNEXTLINE(clang-analyzer-security.insecureAPI.vfork): the state it causes is the case */
	pid_t child = vfork();

	if (child == 0) {
		shared->ready++;
		_exit(read(fd, &byte, 1) == 1 ? 7 : 8);
	}
	keep_frame();
	waitpid(child, &status, 0);
	return WEXITSTATUS(status);
}

static void count_signal(int signal_number)
{
	(void)signal_number;
	shared->signals++;
}

__attribute__((noinline)) static int evt_signals(int fd)
{
	struct sigaction action = {.sa_handler = count_signal, .sa_flags = SA_RESTART};

	sigaction(SIGRTMIN, &action, NULL);
	return evt_spin(fd);
}

/* Targets and their state. */

static bool until(bool (*condition)(pid_t), pid_t pid)
{
	const struct timespec pause = {.tv_nsec = 500000};

	for (int i = 0; i < WAIT_MAX_MS * 2; i++) {
		if (condition(pid))
			return true;
		nanosleep(&pause, NULL);
	}
	return false;
}

static void read_status(pid_t pid, char *buffer, size_t size)
{
	char path[64];
	FILE *in;
	size_t n = 0;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	in = fopen(path, "re");
	if (in != NULL) {
		n = fread(buffer, 1, size - 1, in);
		fclose(in);
	}
	buffer[n] = '\0';
}

static char state_of(pid_t pid)
{
	char status[4096], *at;

	read_status(pid, status, sizeof(status));
	at = strstr(status, "State:\t");
	return at != NULL ? at[7] : '?';
}

static int tracer_of(pid_t pid)
{
	char status[4096], *at;

	read_status(pid, status, sizeof(status));
	at = strstr(status, "TracerPid:\t");
	return at != NULL ? atoi(at + 11) : -1;
}

static bool is_sleeping(pid_t pid)
{
	return state_of(pid) == 'S';
}

static bool is_uninterruptible(pid_t pid)
{
	return state_of(pid) == 'D';
}

static bool is_stopped(pid_t pid)
{
	return state_of(pid) == 'T';
}

static bool is_traced(pid_t pid)
{
	return tracer_of(pid) > 0;
}

static bool is_free(pid_t pid)
{
	return tracer_of(pid) == 0;
}

static int ready_wanted;

static bool is_ready(pid_t pid)
{
	(void)pid;
	return shared->ready >= ready_wanted;
}

static bool has_turned(pid_t pid)
{
	static uint64_t before;
	bool turned = before != 0 && shared->turns > before + 2;

	(void)pid;
	before = turned ? 0 : before == 0 || shared->turns < before ? shared->turns : before;
	return turned;
}

static struct target start(int (*run)(int), int ready)
{
	struct target t;
	int pipe_fd[2];

	memset(shared, 0, sizeof(*shared));
	assert_int_equal(pipe(pipe_fd), 0);
	t.pid = fork();
	assert_true(t.pid >= 0);
	if (t.pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
		_exit(run(pipe_fd[0]));
	}
	close(pipe_fd[0]);
	t.wake = pipe_fd[1];
	ready_wanted = ready;
	assert_true(until(is_ready, t.pid));
	return t;
}

/* The target does what it is told: it was not changed. */
static void assert_goes_on(struct target *t)
{
	int status;

	shared->stop = true;
	assert_int_equal(write(t->wake, "x", 1), 1);
	assert_int_equal(waitpid(t->pid, &status, 0), t->pid);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 7)
		fail_msg("wait status 0x%x, expected exit(7)", (unsigned)status);
	close(t->wake);
}

static void end(struct target *t)
{
	kill(t->pid, SIGKILL);
	waitpid(t->pid, NULL, 0);
	close(t->wake);
}

/* The helper, as the agent starts it. */

struct helper {
	pid_t pid;
	int out, err; /* memfds */
};

struct words {
	pid_t pid, tid;
	const char *out_path, *err_path;
	int deadline_ms;
	int out_fd; /* instead of the memfd; 0: none */
	bool as_nobody;
};

static struct helper start_helper(const struct words *w)
{
	struct helper h = {.out = memfd_create("out", 0), .err = memfd_create("err", 0)};

	h.pid = fork();
	assert_true(h.pid >= 0);
	if (h.pid == 0) {
		char pid[16], tid[16], deadline[16];
		const char *argv[16] = {"helper-evidence", "--pid", pid, "--tid", tid, "--kind",
		    "1", "--deadline-ms", deadline};
		int argc = 9;

		snprintf(pid, sizeof(pid), "%d", (int)w->pid);
		snprintf(tid, sizeof(tid), "%d", (int)w->tid);
		snprintf(
		    deadline, sizeof(deadline), "%d", w->deadline_ms != 0 ? w->deadline_ms : 15000);
		if (w->out_path != NULL) {
			argv[argc++] = "--out";
			argv[argc++] = w->out_path;
		}
		if (w->err_path != NULL) {
			argv[argc++] = "--err";
			argv[argc++] = w->err_path;
		}
		dup2(w->out_fd > 0 ? w->out_fd : h.out, STDOUT_FILENO);
		dup2(h.err, STDERR_FILENO);
		if (w->as_nobody && setuid(NOBODY) != 0)
			_exit(99);
		_exit(evidence_main(argc, (char **)(uintptr_t)argv));
	}
	return h;
}

static void read_memfd(int fd, char *buffer, size_t size)
{
	ssize_t n = pread(fd, buffer, size - 1, 0);

	buffer[n > 0 ? n : 0] = '\0';
	close(fd);
}

/* Fills text and error_text; returns the wait status. */
static int finish_helper(struct helper *h)
{
	int status;

	assert_int_equal(waitpid(h->pid, &status, 0), h->pid);
	read_memfd(h->out, text, sizeof(text));
	read_memfd(h->err, error_text, sizeof(error_text));
	return status;
}

/* Whatever was put in, the text is clean. */
static void assert_safe_text(void)
{
	mbstate_t state = {0};
	const char *at = text;

	for (const char *p = text; *p != '\0'; p++)
		if (((unsigned char)*p < 0x20 && *p != '\n' && *p != '\t') || *p == 0x7f)
			fail_msg("byte 0x%02x at %zu", (unsigned char)*p, (size_t)(p - text));
	if (mbsrtowcs(NULL, &at, 0, &state) == (size_t)-1)
		fail_msg("not UTF-8");
}

static void take(const struct words *w)
{
	struct helper h = start_helper(w);
	int status = finish_helper(&h);

	if (status != 0)
		fail_msg("helper: wait status 0x%x: %s", (unsigned)status, error_text);
	assert_safe_text();
}

static const char *assert_has(const char *from, const char *wanted)
{
	const char *at = strstr(from, wanted);

	if (at == NULL)
		fail_msg("'%s' is not in:\n%s", wanted, from);
	return at;
}

static void assert_lacks(const char *unwanted)
{
	if (strstr(text, unwanted) != NULL)
		fail_msg("'%s' is in:\n%s", unwanted, text);
}

/* Cases. */

static void blocked_target(void **state)
{
	struct target t = start(evt_outer, 1);

	(void)state;
	assert_true(until(is_sleeping, t.pid));
	take(&(struct words){.pid = t.pid});
	assert_has(assert_has(assert_has(text, "evt_inner+"), "evt_outer+"), "blocked_target+");
	assert_has(text, "system call read ");
	assert_has(text, "SigCgt:");
	assert_lacks("which crashed");
	print_message("%.60s\n", strstr(text, "stacks:"));
	assert_int_equal(tracer_of(t.pid), 0);
	assert_true(until(is_sleeping, t.pid));
	assert_goes_on(&t);
}

static void spinning_target(void **state)
{
	struct target t = start(evt_spin, 1);

	(void)state;
	take(&(struct words){.pid = t.pid});
	assert_has(text, "evt_spin+");
	assert_true(until(has_turned, t.pid));
	assert_goes_on(&t);
}

/* Control: without the stop the same target turns after the helper, as the case above shows. */
static void stopped_target(void **state)
{
	struct target t = start(evt_spin, 1);
	uint64_t turns;
	int status;

	(void)state;
	kill(t.pid, SIGSTOP);
	assert_int_equal(waitpid(t.pid, &status, WUNTRACED), t.pid);
	turns = shared->turns;
	take(&(struct words){.pid = t.pid});
	assert_has(text, "evt_spin+");
	assert_has(text, "state T");
	/* The kernel wakes a detached thread for the moment in which it stops it again. */
	assert_true(until(is_stopped, t.pid));
	assert_int_equal(shared->turns, turns);
	/* Its parent heard nothing of it. */
	assert_int_equal(waitpid(t.pid, &status, WUNTRACED | WCONTINUED | WNOHANG), 0);
	kill(t.pid, SIGCONT);
	assert_true(until(has_turned, t.pid));
	assert_goes_on(&t);
}

static void many_threads(void **state)
{
	struct target t = start(evt_threads, MANY_THREADS);
	const char *first, *second;
	int unwound, all;
	char wanted[64];

	(void)state;
	take(&(struct words){.pid = t.pid, .tid = shared->tid[7]});
	snprintf(wanted, sizeof(wanted), "thread %d (", (int)shared->tid[7]);
	first = assert_has(text, "\nthread ");
	assert_ptr_equal(first + 1, assert_has(text, wanted));
	assert_has(first, "which crashed");
	second = assert_has(first + 1, "\nthread ");
	assert_has(first, "evt_thread+");
	assert_true(strstr(first, "evt_inner+") < second);
	snprintf(wanted, sizeof(wanted), "thread %d (", (int)t.pid);
	assert_ptr_equal(second + 1, assert_has(text, wanted));
	/* A sanitizer may have threads of its own. */
	assert_int_equal(sscanf(assert_has(text, "stacks:"), "stacks: %d of %d in", &unwound, &all), 2);
	assert_int_equal(unwound, all);
	assert_in_range(all, MANY_THREADS + 1, STACKS_ALL_MAX);
	print_message("%.60s\n", strstr(text, "stacks:"));
	assert_true(until(has_turned, t.pid));
	assert_goes_on(&t);
}

static void crash_handler(void **state)
{
	struct target t = start(evt_crash, 1);
	const char *at;

	(void)state;
	take(&(struct words){.pid = t.pid, .tid = t.pid});
	at = assert_has(assert_has(text, "which crashed"), "evt_inner+");
	at = assert_has(assert_has(at, "evt_handler+"), "<signal handler called>");
	assert_has(at, "evt_crash+");
	assert_goes_on(&t);
}

static void wild_call(void **state)
{
	struct target t = start(evt_call_null, 1);
	const char *at;

	(void)state;
	take(&(struct words){.pid = t.pid, .tid = t.pid});
	at = assert_has(assert_has(text, "<signal handler called>"), "(not mapped)");
	assert_has(assert_has(at, "evt_call_null+"), "wild_call+");
	assert_goes_on(&t);
}

/* It is not waited for; the kernel lets go of it when the helper ends. */
static void uninterruptible_target(void **state)
{
	struct target t = start(evt_vfork, 1);
	struct timespec began, ended;

	(void)state;
	assert_true(until(is_uninterruptible, t.pid));
	clock_gettime(CLOCK_MONOTONIC, &began);
	take(&(struct words){.pid = t.pid});
	clock_gettime(CLOCK_MONOTONIC, &ended);
	assert_has(text, "it is in uninterruptible sleep");
	assert_has(text, "stacks: 0 of 1 in");
	assert_true(ended.tv_sec - began.tv_sec < 5);
	assert_true(until(is_free, t.pid));
	assert_goes_on(&t);
}

/* SIGKILL in the middle: the kernel lets go, and a stopped target stays stopped. */
static void killed_helper(void **state)
{
	const struct timespec pause = {.tv_nsec = 20000};
	int caught = 0, status;

	(void)state;
	for (int round = 0; round < 10; round++) {
		struct target t = start(evt_threads, MANY_THREADS);
		struct helper h;
		bool stopped = round % 2 == 1;

		if (stopped) {
			kill(t.pid, SIGSTOP);
			assert_int_equal(waitpid(t.pid, &status, WUNTRACED), t.pid);
		}
		h = start_helper(&(struct words){.pid = t.pid});
		for (int i = 0; i < 100000 && !is_traced(t.pid); i++)
			nanosleep(&pause, NULL);
		kill(h.pid, SIGKILL);
		caught += WIFSIGNALED(finish_helper(&h)) && text[0] == '\0';
		assert_true(until(is_free, t.pid));
		if (stopped) {
			assert_true(until(is_stopped, t.pid));
			kill(t.pid, SIGCONT);
		}
		assert_true(until(has_turned, t.pid));
		assert_goes_on(&t);
	}
	/* The control of this case itself: the helper was in the middle. */
	print_message("killed in the middle: %d of 10\n", caught);
	assert_true(caught >= 5);
}

static void deadline(void **state)
{
	struct target t = start(evt_threads, MANY_THREADS);
	int late = 0;

	(void)state;
	for (int ms = 1; ms <= 8; ms++) {
		struct helper h = start_helper(&(struct words){.pid = t.pid, .deadline_ms = ms});
		int status = finish_helper(&h);

		if (status != 0) {
			assert_int_equal(status, 1 << 8);
			assert_non_null(strstr(error_text, "Timer expired"));
		}
		assert_safe_text();
		late += status != 0 || strstr(text, "time for it is over") != NULL;
		assert_true(until(is_free, t.pid));
		assert_true(until(has_turned, t.pid));
	}
	assert_true(late > 0);
	assert_goes_on(&t);
}

/* Nobody reads what it writes: it ends at its deadline all the same. Mutation: without the alarm it hangs. */
static void full_pipe(void **state)
{
	char path[] = "/tmp/holdfast-evidence-XXXXXX";
	struct target t = start(evt_spin, 1);
	int fd = mkstemp(path), pipe_fd[2], status;
	struct helper h;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, REPORT_TAIL_MAX), 0);
	assert_int_equal(pipe(pipe_fd), 0);
	h = start_helper(&(struct words){
	    .pid = t.pid, .out_path = path, .deadline_ms = 300, .out_fd = pipe_fd[1]});
	status = finish_helper(&h);
	if (status != 1 << 8)
		fail_msg("wait status 0x%x", (unsigned)status);
	assert_non_null(strstr(error_text, "Timer expired"));
	assert_int_equal(tracer_of(t.pid), 0);
	close(pipe_fd[0]);
	close(pipe_fd[1]);
	close(fd);
	unlink(path);
	assert_goes_on(&t);
}

/* Mutation: with 0 instead of the signal at PTRACE_DETACH some are lost. */
static void passed_signals(void **state)
{
	struct target t;
	uint32_t sent = 0;

	(void)state;
#ifdef __SANITIZE_THREAD__
	print_message("skipped: this sanitizer keeps one signal of a kind\n");
	skip();
#endif
	t = start(evt_signals, 1);
	for (int round = 0; round < 20; round++) {
		struct helper h = start_helper(&(struct words){.pid = t.pid});
		int status;

		while (waitpid(h.pid, &status, WNOHANG) == 0)
			if (sigqueue(t.pid, SIGRTMIN, (union sigval){0}) == 0)
				sent++;
		close(h.out);
		close(h.err);
		assert_int_equal(status, 0);
	}
	for (int i = 0; i < WAIT_MAX_MS && shared->signals < sent; i++)
		usleep(1000);
	print_message("signals: sent %u, received %u\n", sent, (unsigned)shared->signals);
	assert_int_equal(shared->signals, sent);
	assert_goes_on(&t);
}

static void traced_target(void **state)
{
	struct target t = start(evt_outer, 1);
	char wanted[64];
	pid_t tracer;

	(void)state;
	assert_true(until(is_sleeping, t.pid));
	tracer = fork();
	if (tracer == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit(ptrace(PTRACE_SEIZE, t.pid, NULL, NULL) != 0 ? 1 : pause());
	}
	assert_true(until(is_traced, t.pid));
	take(&(struct words){.pid = t.pid});
	assert_has(text, "ptrace was refused");
	snprintf(wanted, sizeof(wanted), "traced by process %d", (int)tracer);
	assert_has(text, wanted);
	assert_has(text, "system call read ");
	assert_lacks("evt_inner");
	kill(tracer, SIGKILL);
	waitpid(tracer, NULL, 0);
	assert_goes_on(&t);
}

static void forbidden_target(void **state)
{
	struct target t;

	(void)state;
	if (geteuid() != 0) {
		print_message("skipped: only root can become another user\n");
		skip();
	}
	t = start(evt_outer, 1);
	take(&(struct words){.pid = t.pid, .as_nobody = true});
	assert_has(text, "ptrace was refused: Operation not permitted");
	assert_has(text, "State:\t");
	assert_lacks("evt_inner");
	assert_goes_on(&t);
}

static void gone_target(void **state)
{
	struct target t = start(evt_outer, 1);

	(void)state;
	assert_goes_on(&t);
	take(&(struct words){.pid = t.pid, .out_path = "/nonexistent/out"});
	assert_has(text, "No such process");
	assert_has(text, "/nonexistent/out: No such file");
}

static void output_tails(void **state)
{
	static const char
	    bad[] = "red \033[31m bell \a cr \r del \177 nul \0 latin \344 c1 \302\205 "
		    "override \342\200\256 cut \342\202\n\ttab gr\303\274n\n";
	char path[] = "/tmp/holdfast-evidence-XXXXXX", fifo[64];
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(write(fd, bad, sizeof(bad) - 1), (ssize_t)sizeof(bad) - 1);
	take(&(struct words){.err_path = path});
	assert_has(text,
	    "red \\x1b[31m bell \\x07 cr \\x0d del \\x7f nul \\x00 latin \\xe4 c1 \\xc2\\x85 "
	    "override \\xe2\\x80\\xae cut \\xe2\\x82\n\ttab gr\303\274n\n");
	/* Only the end of a long file, from the beginning of a line; all of it hostile. */
	for (int i = 0; i < 6000; i++)
		assert_true(
		    dprintf(fd, "%06d \033\033\033\033\033\033\033\033\033\033\033\033\033\n", i) > 0);
	take(&(struct words){.out_path = path});
	assert_lacks("red ");
	assert_has(text, "\n005999 \\x1b");
	assert_has(text, " bytes\n00");
	assert_true(strlen(text) > REPORT_TAIL_MAX);
	snprintf(fifo, sizeof(fifo), "%s.fifo", path);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	take(&(struct words){.out_path = fifo});
	assert_has(text, "not a regular file");
	close(fd);
	unlink(fifo);
	unlink(path);
}

/* What the fault injector does to a process is what the evidence then shows. */
static void injected_faults(void **state)
{
	struct target t = start(evt_outer, 1);
	const char *why, *at;
	uint64_t at_ns;

	(void)state;
	assert_int_equal(tracee_spin(t.pid, &at_ns, &why), 0);
	take(&(struct words){.pid = t.pid});
	assert_has(assert_has(text, "evt_inner+"), "evt_outer+");
	end(&t);
	t = start(evt_handled_read, 1);
	ready_wanted = 2;
	assert_int_equal(tracee_segv(t.pid, &at_ns, &why), 0);
	assert_true(until(is_ready, t.pid));
	take(&(struct words){.pid = t.pid, .tid = t.pid});
	at = assert_has(assert_has(text, "evt_handler+"), "<signal handler called>");
	assert_has(assert_has(at, "evt_inner+"), "evt_outer+");
	assert_goes_on(&t);
	t = start(evt_threads, MANY_THREADS);
	assert_int_equal(tracee_spin(t.pid, &at_ns, &why), 0);
	take(&(struct words){.pid = t.pid});
	assert_has(text, "evt_threads+");
	end(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(blocked_target),
	    cmocka_unit_test(spinning_target),
	    cmocka_unit_test(stopped_target),
	    cmocka_unit_test(many_threads),
	    cmocka_unit_test(crash_handler),
	    cmocka_unit_test(wild_call),
	    cmocka_unit_test(uninterruptible_target),
	    cmocka_unit_test(killed_helper),
	    cmocka_unit_test(deadline),
	    cmocka_unit_test(full_pipe),
	    cmocka_unit_test(passed_signals),
	    cmocka_unit_test(traced_target),
	    cmocka_unit_test(forbidden_target),
	    cmocka_unit_test(gone_target),
	    cmocka_unit_test(output_tails),
	    cmocka_unit_test(injected_faults),
	};

	setlocale(LC_CTYPE, "C.UTF-8");
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return 1;
	return cmocka_run_group_tests_name("evidence", tests, NULL, NULL);
}
