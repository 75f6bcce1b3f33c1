/*
 * The calls of libholdfast as a trainer makes them and as its agent sees them: joining, the lock that is held for
 * life, forks, threads, reports, announcements; and that nothing of it matters when nobody supervises (H11).
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/trainee.h"
#include "trainer/holdfast.h"
#include "trainer/snapshot.h"

static bool exited_with(int status, int code)
{
	return WIFEXITED(status) && WEXITSTATUS(status) == code;
}

/* For use in a trainer: the parent shows what it said. */
#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			dprintf(STDERR_FILENO, "%s:%d: %s\n", __FILE__, __LINE__, #condition);     \
			return 1;                                                                  \
		}                                                                                  \
	} while (0)

static void expect_fine(struct trainee *t, int (*program)(struct trainee *t))
{
	char said[512] = "";
	int status = trainee_run(t, program);

	trainee_said(t, said, sizeof(said));
	if (!exited_with(status, 0) || said[0] != '\0')
		fail_msg("wait status %d, on standard error: %s", status, said);
}

/* --- nobody supervises ----------------------------------------------------------------------------------- */

static int all_calls_without_effect(struct holdfast *hf)
{
	struct holdfast_step step = {.step = 1, .fields = HOLDFAST_LOSS, .loss = 1.0};
	struct holdfast_resume resume = {.source = 9, .attempt = 9, .path = "x"};
	uint64_t size_bytes = 77;
	char byte = 5;

	holdfast_resume_from(hf, &resume);
	CHECK(resume.source == HOLDFAST_FROM_SCRATCH && resume.attempt == 0);
	CHECK(resume.step == HOLDFAST_STEP_NONE && resume.path == NULL);
	holdfast_step(hf, &step);
	holdfast_phase(hf, HOLDFAST_PHASE_EVALUATION);
	holdfast_wait_begin(hf);
	holdfast_wait_end(hf);
	CHECK(holdfast_snapshot_begin(hf, 1, 1) == -ENOTCONN);
	CHECK(holdfast_snapshot_write(hf, &byte, 1) == -ENOTCONN);
	CHECK(holdfast_snapshot_commit(hf) == -ENOTCONN);
	CHECK(holdfast_restore_begin(hf, 1, &size_bytes) == -ENOTCONN && size_bytes == 77);
	CHECK(holdfast_restore_read(hf, &byte, 1) == -ENOTCONN && byte == 5);
	CHECK(holdfast_restore_end(hf) == -ENOTCONN);
	CHECK(holdfast_checkpoint_saved(hf, 1, "/x", 1) == 0);
	CHECK(holdfast_checkpoint_saved(hf, 1, NULL, 0) == 0);
	CHECK(holdfast_should_stop(hf) == 0);
	CHECK(holdfast_should_checkpoint(hf) == 0);
	holdfast_close(hf);
	return 0;
}

static int unsupervised(struct trainee *t)
{
	(void)t;
	CHECK(unsetenv(CHANNEL_ENV) == 0);
	CHECK(holdfast_open() == NULL);
	CHECK(setenv(CHANNEL_ENV, "", 1) == 0);
	CHECK(holdfast_open() == NULL);
	return all_calls_without_effect(NULL);
}

static void nothing_happens_without_a_supervisor(void **unused)
{
	struct trainee t;

	(void)unused;
	trainee_init(&t, START_SCRATCH, 0, NULL);
	expect_fine(&t, unsupervised);
	assert_int_equal(atomic_load(&t.map->control.connected), 0);
	trainee_fini(&t);
}

static int open_only(struct trainee *t)
{
	(void)t;
	return holdfast_open() == NULL ? 0 : 1;
}

/* A channel that cannot be used: one line that names it, and the program goes on. */
static void expect_refusal(struct trainee *t, const char *word)
{
	char said[512];

	assert_true(exited_with(trainee_run(t, open_only), 0));
	trainee_said(t, said, sizeof(said));
	if (strstr(said, t->channel_path) == NULL || strstr(said, word) == NULL ||
	    strchr(said, '\n') != said + strlen(said) - 1)
		fail_msg("said: %s", said);
	assert_int_equal(unlink(t->said_path), 0);
}

static void a_channel_that_cannot_be_used_is_said_once(void **unused)
{
	struct trainee t;

	(void)unused;
	trainee_init(&t, START_SCRATCH, 0, NULL);
	t.map->head.version++;
	expect_refusal(&t, "version");
	t.map->head.version--;
	t.map->head.magic++;
	expect_refusal(&t, "version");
	t.map->head.magic--;
	if (geteuid() == 0) {
		assert_int_equal(chown(t.channel_path, 1, 1), 0);
		expect_refusal(&t, "another user");
		assert_int_equal(chown(t.channel_path, 0, 0), 0);
	} else {
		printf("skipped, needs root: a channel of another user\n");
	}
	assert_int_equal(truncate(t.channel_path, CHANNEL_SIZE_BYTES - 1), 0);
	expect_refusal(&t, "not a channel");
	assert_int_equal(unlink(t.channel_path), 0);
	expect_refusal(&t, "No such file");
	/* Opening a pipe for good would wait for its other end. */
	assert_int_equal(mkfifo(t.channel_path, 0600), 0);
	expect_refusal(&t, "not a channel");
	assert_int_equal(unlink(t.channel_path), 0);
	assert_int_equal(symlink("/dev/zero", t.channel_path), 0);
	expect_refusal(&t, "cannot open");
	trainee_fini(&t);
}

/* --- joining, and the end -------------------------------------------------------------------------------- */

static int join_and_close(struct trainee *t)
{
	struct holdfast *hf = holdfast_open();

	CHECK(hf != NULL);
	CHECK(atomic_load(&t->map->control.connected) == (uint32_t)getpid());
	/* What the agent's death watch relies on: glibc's robust mutex begins with its futex word. */
	CHECK(trainee_lock_word(t) == (uint32_t)gettid());
	CHECK(atomic_load(&t->map->control.heartbeat_ns) > 0);
	CHECK(atomic_load(&t->map->control.leaving) == 0);
	CHECK(holdfast_open() == NULL);
	holdfast_close(hf);
	CHECK(trainee_lock_word(t) == 0);
	CHECK(atomic_load(&t->map->control.leaving) == 1);
	CHECK(holdfast_open() == NULL);
	return 0;
}

static int join_and_exit(struct trainee *t)
{
	(void)t;
	if (holdfast_open() == NULL)
		return 1;
	exit(0);
}

static int join_and_end_at_once(struct trainee *t)
{
	(void)t;
	if (holdfast_open() == NULL)
		return 1;
	_exit(7);
}

static int join_and_crash(struct trainee *t)
{
	/* Answered beforehand: the handler does not wait. */
	atomic_store(&t->map->control.alarm_answer, 1);
	if (holdfast_open() == NULL)
		return 1;
	raise(SIGSEGV);
	return 1;
}

static int join_and_wait(struct trainee *t)
{
	(void)t;
	if (holdfast_open() == NULL)
		return 1;
	for (;;)
		pause();
}

static void the_lock_tells_a_death_from_a_leave(void **unused)
{
	struct trainee t;
	pid_t pid;
	int status;

	(void)unused;
	trainee_init(&t, START_SCRATCH, 0, NULL);
	expect_fine(&t, join_and_close);
	assert_int_equal(trainee_lock_word(&t), 0);

	trainee_renew(&t);
	expect_fine(&t, join_and_exit);
	assert_int_equal(trainee_lock_word(&t), 0);
	assert_int_equal(atomic_load(&t.map->control.leaving), 1);

	trainee_renew(&t);
	pid = trainee_start(&t, join_and_end_at_once);
	assert_true(exited_with(trainee_wait(pid), 7));
	assert_true(trainee_lock_word(&t) & FUTEX_OWNER_DIED);
	assert_int_equal(atomic_load(&t.map->control.leaving), 0);

	trainee_renew(&t);
	pid = trainee_start(&t, join_and_crash);
	status = trainee_wait(pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
	assert_true(trainee_lock_word(&t) & FUTEX_OWNER_DIED);

	trainee_renew(&t);
	pid = trainee_start(&t, join_and_wait);
	trainee_await_word(&t.map->control.connected, 0);
	assert_int_equal(trainee_lock_word(&t), pid);
	/* A second one with the same environment is nobody, and says nothing. */
	expect_fine(&t, open_only);
	assert_int_equal(trainee_lock_word(&t), pid);
	kill(pid, SIGKILL);
	status = trainee_wait(pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	/* The kernel leaves the dead owner's number aside: 0 and the mark. */
	assert_int_equal(trainee_lock_word(&t), FUTEX_OWNER_DIED);
	/* Also after the death, whose mark must stay for the agent to see. */
	expect_fine(&t, open_only);
	assert_int_equal(trainee_lock_word(&t), FUTEX_OWNER_DIED);
	/* One that died before it said that it had joined: its mark stays as well. */
	atomic_store(&t.map->control.connected, 0);
	expect_fine(&t, open_only);
	assert_int_equal(trainee_lock_word(&t), FUTEX_OWNER_DIED);
	trainee_fini(&t);
}

static int resume(struct trainee *t)
{
	struct holdfast *hf = holdfast_open();
	struct holdfast_resume from;

	holdfast_resume_from(hf, &from);
	CHECK(from.attempt == 3 && from.source == t->map->head.resume_source);
	CHECK(from.step == (from.source == START_SCRATCH ? HOLDFAST_STEP_NONE : 41));
	CHECK((from.path != NULL) == (from.source == START_FILE));
	CHECK(from.path == NULL || strcmp(from.path, "/a/checkpoint") == 0);
	/* The words in the channel may change under a program that was told. */
	t->map->head.resume_path[0] = 'X';
	holdfast_resume_from(hf, &from);
	CHECK(from.path == NULL || strcmp(from.path, "/a/checkpoint") == 0);
	holdfast_close(hf);
	return 0;
}

static void the_place_to_resume_from_is_told(void **unused)
{
	struct trainee t;

	(void)unused;
	for (uint32_t source = START_SCRATCH; source <= START_FILE; source++) {
		trainee_init(&t, source, 41, "/a/checkpoint");
		expect_fine(&t, resume);
		trainee_fini(&t);
	}
}

/* --- forks and threads ----------------------------------------------------------------------------------- */

static int be_a_fork(struct trainee *t, struct holdfast *hf)
{
	uint64_t head = atomic_load(&t->map->control.head);

	CHECK(all_calls_without_effect(hf) == 0);
	CHECK(holdfast_open() == NULL);
	CHECK(atomic_load(&t->map->control.head) == head);
	CHECK(atomic_load(&t->map->control.leaving) == 0);
	return 0;
}

static int fork_in_two_ways(struct trainee *t)
{
	struct holdfast *hf = holdfast_open();
	struct holdfast_step step = {.step = 1};
	uint32_t lock = trainee_lock_word(t);
	pid_t pid;
	int status;

	CHECK(hf != NULL);
	CHECK(holdfast_snapshot_begin(hf, 1, 4) == 0);
	holdfast_step(hf, &step);
	pid = fork();
	if (pid == 0)
		exit(be_a_fork(t, hf));
	CHECK(waitpid(pid, &status, 0) == pid && exited_with(status, 0));
	/* One that the C library does not know of. */
	pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
	if (pid == 0)
		_exit(be_a_fork(t, hf));
	CHECK(waitpid(pid, &status, 0) == pid && exited_with(status, 0));
	/* The parent notices nothing of it. */
	CHECK(trainee_lock_word(t) == lock);
	step.step = 2;
	holdfast_step(hf, &step);
	CHECK(atomic_load(&t->map->control.last_step) == 2);
	CHECK(holdfast_snapshot_write(hf, "abcd", 4) == 0 && holdfast_snapshot_commit(hf) == 0);
	holdfast_close(hf);
	return 0;
}

static void a_fork_is_not_the_trainer(void **unused)
{
	struct trainee t;

	(void)unused;
	trainee_init(&t, START_SCRATCH, 0, NULL);
	expect_fine(&t, fork_in_two_ways);
	trainee_fini(&t);
}

static void *open_in_thread(void *unused)
{
	(void)unused;
	return holdfast_open();
}

static int open_elsewhere(struct trainee *t)
{
	pthread_t thread;
	void *hf = t;

	CHECK(pthread_create(&thread, NULL, open_in_thread, NULL) == 0);
	CHECK(pthread_join(thread, &hf) == 0);
	return hf == NULL ? 0 : 1;
}

static void *exit_in_thread(void *delay)
{
	(void)delay;
	exit(0);
}

/* Registered before the library's own, so that it runs after it: what reports meanwhile has time to fall. */
static void linger(void)
{
	const struct timespec pause = {.tv_nsec = 2000000};

	nanosleep(&pause, NULL);
}

static int exit_elsewhere(struct trainee *t)
{
	struct holdfast_step step = {.step = 1};
	struct holdfast *hf;
	pthread_t thread;

	(void)t;
	CHECK(atexit(linger) == 0);
	hf = holdfast_open();
	CHECK(hf != NULL);
	CHECK(pthread_create(&thread, NULL, exit_in_thread, NULL) == 0);
	/* The library's main thread reports until the very end. */
	for (;; step.step++)
		holdfast_step(hf, &step);
}

static void another_thread_cannot_join_but_may_exit(void **unused)
{
	struct trainee t;
	char said[256];

	(void)unused;
	trainee_init(&t, START_SCRATCH, 0, NULL);
	assert_true(exited_with(trainee_run(&t, open_elsewhere), 0));
	trainee_said(&t, said, sizeof(said));
	assert_non_null(strstr(said, "main thread"));
	assert_int_equal(atomic_load(&t.map->control.connected), 0);
	for (unsigned i = 0; i < 20; i++) {
		trainee_renew(&t);
		expect_fine(&t, exit_elsewhere);
		assert_int_equal(atomic_load(&t.map->control.leaving), 1);
	}
	trainee_fini(&t);
}

/* --- reports --------------------------------------------------------------------------------------------- */

static int report_some(struct trainee *t)
{
	struct holdfast *hf = holdfast_open();
	struct holdfast_step step = {.step = HOLDFAST_STEP_NONE, .fields = HOLDFAST_LOSS};

	CHECK(hf != NULL);
	holdfast_step(hf, &step);
	CHECK(atomic_load(&t->map->control.head) == 0);
	holdfast_phase(hf, HOLDFAST_PHASE_INIT);
	CHECK(atomic_load(&t->map->control.head) == 0);
	step = (struct holdfast_step){.step = 5,
	    .fields = 0xffffff00u | HOLDFAST_LOSS | HOLDFAST_TOKENS,
	    .loss = 1.25,
	    .grad_norm = NAN,
	    .tokens = 100,
	    .digest = 9};
	holdfast_step(hf, &step);
	CHECK(atomic_load(&t->map->control.last_step) == 5);
	CHECK(atomic_load(&t->map->control.phase) == PHASE_STEP);
	holdfast_wait_begin(hf);
	CHECK(atomic_load(&t->map->control.waiting) == 1);
	holdfast_wait_end(hf);
	CHECK(atomic_load(&t->map->control.waiting) == 0);
	step.step = 6;
	holdfast_step(hf, &step);
	holdfast_phase(hf, HOLDFAST_PHASE_EVALUATION);
	CHECK(atomic_load(&t->map->control.phase) == PHASE_EVALUATION);
	CHECK(holdfast_checkpoint_saved(hf, 6, "relative/file", 2) == 0);
	CHECK(holdfast_checkpoint_saved(hf, 6, "", 1) == -EINVAL);
	CHECK(holdfast_checkpoint_saved(hf, 6, NULL, 1) == -EINVAL);
	CHECK(holdfast_checkpoint_saved(hf, 6, "/x", 0) == -EINVAL);
	CHECK(holdfast_checkpoint_saved(hf, HOLDFAST_STEP_NONE, "/x", 1) == -EINVAL);
	char path[sizeof(t->map->mail[0].path) + 2];

	memset(path, 'a', sizeof(path));
	path[0] = '/';
	path[sizeof(t->map->mail[0].path)] = '\0';
	CHECK(holdfast_checkpoint_saved(hf, 6, path, 1) == -ENAMETOOLONG);
	path[sizeof(t->map->mail[0].path) - 1] = '\0';
	CHECK(holdfast_checkpoint_saved(hf, 7, path, 1) == 0);
	holdfast_close(hf);
	return 0;
}

static void reports_arrive_as_they_were_made(void **unused)
{
	const struct iteration *ring;
	struct trainee t;
	char here[4000], wanted[4096];

	(void)unused;
	trainee_init(&t, START_SCRATCH, 0, NULL);
	expect_fine(&t, report_some);
	ring = t.map->ring;
	assert_int_equal(atomic_load(&t.map->control.head), 6);
	for (uint64_t i = 0; i < 6; i++) {
		assert_int_equal(ring[i].ring_seq, i + 1);
		assert_int_equal(ring[i].check, CHANNEL_MAGIC ^ (i + 1));
	}
	assert_int_equal(ring[0].kind, ITERATION_PHASE);
	assert_int_equal(ring[0].phase, PHASE_STEP);
	assert_int_equal(ring[0].previous, PHASE_INIT);
	assert_int_equal(ring[1].kind, ITERATION_STEP);
	assert_int_equal(ring[1].step, 5);
	assert_int_equal(ring[1].fields, HOLDFAST_LOSS | HOLDFAST_TOKENS);
	assert_true(ring[1].loss == 1.25);
	/* What was not named is not there, a NaN least of all. */
	assert_true(ring[1].grad_norm == 0.0);
	assert_int_equal(ring[1].digest, 0);
	assert_int_equal(ring[1].tokens, 100);
	assert_int_equal(ring[2].duration_ns, ring[2].monotonic_ns - ring[1].monotonic_ns);
	assert_int_equal(ring[3].kind, ITERATION_PHASE);
	assert_int_equal(ring[3].previous, PHASE_STEP);
	assert_int_equal(ring[4].kind, ITERATION_CHECKPOINT);
	assert_int_equal(ring[4].fields, 2);
	assert_non_null(getcwd(here, sizeof(here)));
	snprintf(wanted, sizeof(wanted), "%s/relative/file", here);
	assert_string_equal(t.map->mail[ring[4].previous].path, wanted);
	assert_int_equal(t.map->mail[ring[4].previous].mail_seq, ring[4].mail_seq);
	assert_int_equal(strlen(t.map->mail[ring[5].previous].path), sizeof(t.map->mail[0].path) - 1);
	trainee_fini(&t);
}

static int overflow(struct trainee *t)
{
	struct holdfast *hf = holdfast_open();
	struct holdfast_step step = {0};

	CHECK(hf != NULL);
	for (step.step = 1; step.step <= CHANNEL_RING + 50; step.step++)
		holdfast_step(hf, &step);
	CHECK(atomic_load(&t->map->control.head) == CHANNEL_RING);
	CHECK(holdfast_checkpoint_saved(hf, 1, "/x", 1) == -EAGAIN);
	/* The words beside the ring go on: a supervisor that is behind sees progress all the same. */
	CHECK(atomic_load(&t->map->control.last_step) == CHANNEL_RING + 50);
	/* As the agent does when the supervisor is back. */
	atomic_store(&t->map->control.tail, CHANNEL_RING);
	CHECK(holdfast_checkpoint_saved(hf, 1, "/x", 1) == 0);
	/* The phase, the steps and the announcement that was lost have taken their numbers. */
	CHECK(t->map->ring[0].ring_seq == CHANNEL_RING + 50 + 1 + 1 + 1);
	holdfast_close(hf);
	return 0;
}

static void a_full_ring_is_no_obstacle(void **unused)
{
	struct trainee t;

	(void)unused;
	trainee_init(&t, START_SCRATCH, 0, NULL);
	expect_fine(&t, overflow);
	trainee_fini(&t);
}

static int speak_beside_the_output(struct trainee *t)
{
	struct channel_control *control = &t->map->control;
	struct holdfast *hf = holdfast_open();
	struct holdfast_step step = {.step = 9, .fields = HOLDFAST_LOSS, .loss = 1.0};
	char byte = 5;

	CHECK(hf != NULL);
	CHECK(atomic_load(&control->connected) == (uint32_t)getpid());
	holdfast_step(hf, &step);
	holdfast_phase(hf, HOLDFAST_PHASE_EVALUATION);
	CHECK(holdfast_checkpoint_saved(hf, 9, "/x", 1) == -EBUSY);
	CHECK(atomic_load(&control->producer) == CHANNEL_OUTPUT);
	CHECK(atomic_load(&control->head) == 1 && t->map->ring[0].ring_seq == 77);
	CHECK(t->map->mail[1].mail_seq == 0);
	CHECK(atomic_load(&control->phase) == PHASE_EVALUATION);
	CHECK(holdfast_snapshot_begin(hf, 9, 1) == 0 && holdfast_snapshot_write(hf, &byte, 1) == 0);
	CHECK(holdfast_snapshot_commit(hf) == 0);
	holdfast_close(hf);
	return 0;
}

/* Who comes second writes neither slot nor mail; and when the trainer comes first, it is the other's turn to see. */
static void a_ring_has_one_producer(void **unused)
{
	struct trainee t;

	(void)unused;
	trainee_init(&t, START_SCRATCH, 0, NULL);
	assert_true(channel_claim(t.map, CHANNEL_OUTPUT));
	t.map->ring[0].ring_seq = 77;
	atomic_store(&t.map->control.head, 1);
	expect_fine(&t, speak_beside_the_output);
	trainee_renew(&t);
	expect_fine(&t, report_some);
	assert_int_equal(atomic_load(&t.map->control.producer), CHANNEL_TRAINER);
	assert_false(channel_claim(t.map, CHANNEL_OUTPUT));
	assert_true(channel_claim(t.map, CHANNEL_TRAINER));
	trainee_fini(&t);
}

static int answer_requests(struct trainee *t)
{
	struct channel_control *control = &t->map->control;
	struct holdfast *hf = holdfast_open();

	CHECK(holdfast_should_stop(hf) == 0 && holdfast_should_checkpoint(hf) == 0);
	atomic_store(&control->stop_asked, 1);
	CHECK(holdfast_should_stop(hf) == 1 && holdfast_should_stop(hf) == 1);
	atomic_store(&control->checkpoint_asked, 1);
	CHECK(holdfast_should_checkpoint(hf) == 1);
	CHECK(holdfast_should_checkpoint(hf) == 0);
	atomic_store(&control->checkpoint_asked, 3);
	CHECK(holdfast_should_checkpoint(hf) == 1);
	CHECK(holdfast_should_checkpoint(hf) == 0);
	CHECK(atomic_load(&control->checkpoint_taken) == 3);
	holdfast_close(hf);
	return 0;
}

static void requests_are_seen(void **unused)
{
	struct trainee t;

	(void)unused;
	trainee_init(&t, START_SCRATCH, 0, NULL);
	expect_fine(&t, answer_requests);
	trainee_fini(&t);
}

/* From here on the kernel ends this process with SIGSYS when it makes any call but exit. */
static int forbid_system_calls(void)
{
	struct sock_filter filter[] = {
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit, 0, 1),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
	struct sock_fprog program = {.len = sizeof(filter) / sizeof(filter[0]), .filter = filter};

	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
	return 0;
}

static int report_without_the_kernel(struct trainee *t)
{
	struct holdfast *hf = holdfast_open();
	struct holdfast_step step = {.fields = HOLDFAST_LOSS, .loss = 1.0};

	(void)t;
	CHECK(hf != NULL);
	CHECK(forbid_system_calls() == 0);
	for (step.step = 1; step.step < 2 * CHANNEL_RING; step.step++)
		holdfast_step(hf, &step);
	holdfast_phase(hf, HOLDFAST_PHASE_EVALUATION);
	holdfast_wait_begin(hf);
	holdfast_wait_end(hf);
	if (holdfast_should_stop(hf) + holdfast_should_checkpoint(hf) == 0)
		syscall(SYS_exit, 42);
	return 1;
}

static int read_the_clock(struct trainee *t)
{
	struct timespec ts;

	(void)t;
	CHECK(forbid_system_calls() == 0);
	clock_gettime(CLOCK_MONOTONIC, &ts);
	syscall(SYS_exit, 42);
	return 1;
}

static int ask_the_kernel(struct trainee *t)
{
	(void)t;
	CHECK(forbid_system_calls() == 0);
	(void)getppid();
	syscall(SYS_exit, 42);
	return 1;
}

static void a_report_makes_no_system_call(void **unused)
{
	struct trainee t;
	int status;

	(void)unused;
	trainee_init(&t, START_SCRATCH, 0, NULL);
	/* Control: a system call does end the program. */
	status = trainee_run(&t, ask_the_kernel);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
	if (!exited_with(trainee_run(&t, read_the_clock), 42)) {
		trainee_fini(&t);
		print_message("skipped: this machine's clock is read by a system call\n");
		skip();
	}
	status = trainee_run(&t, report_without_the_kernel);
	if (!exited_with(status, 42))
		fail_msg("wait status %d", status);
	trainee_fini(&t);
}

/* --- after a NaN ----------------------------------------------------------------------------------------- */

static int save_state(struct holdfast *hf, uint64_t step)
{
	int error = holdfast_snapshot_begin(hf, step, 4);

	if (error == 0)
		error = holdfast_snapshot_write(hf, "abcd", 4);
	return error == 0 ? holdfast_snapshot_commit(hf) : error;
}

static int poison_itself(struct trainee *t)
{
	struct holdfast *hf = holdfast_open();
	struct holdfast_step step = {.step = 2, .fields = HOLDFAST_LOSS, .grad_norm = INFINITY};
	uint64_t size_bytes;
	uint32_t way = t->map->head.rank_count;

	CHECK(save_state(hf, 1) == 0);
	/* Not named, so not reported. */
	holdfast_step(hf, &step);
	CHECK(save_state(hf, 2) == 0);
	CHECK(holdfast_snapshot_begin(hf, 3, 4) == 0);
	CHECK(holdfast_snapshot_write(hf, "abcd", 4) == 0);
	if (way == 1)
		step = (struct holdfast_step){
		    .step = 3, .fields = HOLDFAST_GRAD_NORM, .grad_norm = INFINITY};
	else if (way == 2)
		step = (struct holdfast_step){.step = 3, .fields = HOLDFAST_LOSS, .loss = NAN};
	else
		step = (struct holdfast_step){.step = 3, .fields = HOLDFAST_NOT_FINITE};
	holdfast_step(hf, &step);
	CHECK(holdfast_snapshot_commit(hf) == -EDOM);
	CHECK(holdfast_snapshot_begin(hf, 3, 4) == -EDOM);
	/* A finite report afterwards does not heal the state. */
	step = (struct holdfast_step){.step = 4, .fields = HOLDFAST_LOSS, .loss = 1.0};
	holdfast_step(hf, &step);
	CHECK(save_state(hf, 4) == -EDOM);
	CHECK(holdfast_restore_begin(hf, 1, &size_bytes) == 0 && holdfast_restore_end(hf) == 0);
	CHECK(holdfast_restore_begin(hf, 2, &size_bytes) == 0 && holdfast_restore_end(hf) == 0);
	CHECK(holdfast_restore_begin(hf, 3, &size_bytes) == -ENOENT);
	holdfast_close(hf);
	return 0;
}

static void a_poisoned_state_is_not_saved(void **unused)
{
	struct trainee t;

	(void)unused;
	for (uint32_t i = 1; i <= 3; i++) {
		trainee_init(&t, START_SCRATCH, 0, NULL);
		t.map->head.rank_count = i;
		expect_fine(&t, poison_itself);
		trainee_fini(&t);
	}
}

/* In a child: files of more than a megabyte are not allowed, and later they are. */
static int find_no_room(struct trainee *t)
{
	struct holdfast *hf = holdfast_open();
	struct rlimit limit, small;

	CHECK(getrlimit(RLIMIT_FSIZE, &limit) == 0);
	small = limit;
	small.rlim_cur = 1u << 20;
	CHECK(setrlimit(RLIMIT_FSIZE, &small) == 0);
	CHECK(holdfast_snapshot_begin(hf, 7, 1u << 20) == -ENOSPC);
	CHECK(holdfast_snapshot_begin(hf, 8, 2u << 20) == -ENOSPC);
	CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
	/* Remembered, and not tried again; what is smaller is. */
	CHECK(holdfast_snapshot_begin(hf, 9, 1u << 21) == -ENOSPC);
	CHECK(save_state(hf, 9) == 0);
	CHECK(atomic_load(&t->map->control.head) == 1);
	CHECK(t->map->ring[0].kind == ITERATION_NO_ROOM && t->map->ring[0].step == 7);
	CHECK(t->map->ring[0].tokens > 3u << 20 && t->map->ring[0].tokens < 4u << 20);
	CHECK(t->map->ring[0].data_cursor > 0 && t->map->ring[0].data_cursor <= 1u << 20);
	holdfast_close(hf);
	return 0;
}

static void no_room_is_told_once_and_not_tried_again(void **unused)
{
	struct trainee t;

	(void)unused;
	trainee_init(&t, START_SCRATCH, 0, NULL);
	expect_fine(&t, find_no_room);
	trainee_fini(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(nothing_happens_without_a_supervisor),
	    cmocka_unit_test(a_channel_that_cannot_be_used_is_said_once),
	    cmocka_unit_test(the_lock_tells_a_death_from_a_leave),
	    cmocka_unit_test(the_place_to_resume_from_is_told),
	    cmocka_unit_test(a_fork_is_not_the_trainer),
	    cmocka_unit_test(another_thread_cannot_join_but_may_exit),
	    cmocka_unit_test(reports_arrive_as_they_were_made),
	    cmocka_unit_test(a_full_ring_is_no_obstacle),
	    cmocka_unit_test(a_ring_has_one_producer),
	    cmocka_unit_test(requests_are_seen),
	    cmocka_unit_test(a_report_makes_no_system_call),
	    cmocka_unit_test(a_poisoned_state_is_not_saved),
	    cmocka_unit_test(no_room_is_told_once_and_not_tried_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
