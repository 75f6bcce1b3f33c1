/* See crash.h. */
#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "trainer/crash.h"

#define STACK_BYTES (64u << 10) /* beside what the processor's registers take */
#define SECOND_WAIT_MS 1000
#define GUARD_BYTES (64u << 10) /* a page everywhere */

static const int crash_signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};

#define CRASH_SIGNALS (sizeof(crash_signals) / sizeof(crash_signals[0]))

/* A handler gets no context: this is what it may look at.  The channel is set last and cleared first. */
static struct {
	struct channel *_Atomic channel;
	pid_t pid; /* whose channel it is: a child that shares or copied this memory is not the trainer */
	_Atomic uint32_t reported; /* the first crashing thread speaks for the process */
	_Atomic uint32_t never;    /* stays 0, to be waited on */
	bool installed[CRASH_SIGNALS];
	void *stack;
	size_t stack_bytes;
} crash;

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000u + (uint64_t)ts.tv_nsec / 1000000u;
}

/* Wait until *word is not 0, until the moment until_ms at the latest.  Both sides have it mapped. */
static void wait_for_word(_Atomic uint32_t *word, uint64_t until_ms)
{
	for (uint64_t now = now_ms(); atomic_load(word) == 0 && now < until_ms; now = now_ms()) {
		uint64_t left_ms = until_ms - now;
		struct timespec left = {.tv_sec = (time_t)(left_ms / 1000u),
		    .tv_nsec = (long)(left_ms % 1000u) * 1000000L};

		if (syscall(SYS_futex, word, FUTEX_WAIT, 0, &left, NULL, 0) != 0 &&
		    errno != EAGAIN && errno != EINTR && errno != ETIMEDOUT)
			return;
	}
}

static void report(struct channel *map, int signal_number, const siginfo_t *info)
{
	struct channel_control *control = &map->control;

	/* Another thread that crashes meanwhile would end the process with a signal that is not the cause: it
	 * waits for the first one to do that. */
	if (atomic_exchange(&crash.reported, 1) != 0) {
		wait_for_word(&crash.never, now_ms() + CHANNEL_CRASH_WAIT_MS + SECOND_WAIT_MS);
		return;
	}
	atomic_store(&control->crash_tid, (uint32_t)gettid());
	atomic_store(&control->crash_signal, (uint32_t)signal_number);
	atomic_store(&control->crash_address, (uint64_t)(uintptr_t)info->si_addr);
	atomic_store(&control->alarm, CHANNEL_ALARM_CRASH);
	syscall(SYS_futex, &control->alarm, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
	wait_for_word(&control->alarm_answer, now_ms() + CHANNEL_CRASH_WAIT_MS);
}

/*
 * Runs on the crashing thread, with all five signals blocked: a crash in here is not handled, and ends the process
 * at once.  Calls nothing that is not async-signal-safe.
 */
static void on_crash(int signal_number, siginfo_t *info, void *context)
{
	struct channel *map = atomic_load(&crash.channel);
	struct sigaction standard = {.sa_handler = SIG_DFL};
	pid_t pid = getpid();

	(void)context;
	if (map != NULL && pid == crash.pid)
		report(map, signal_number, info);
	/* The signal, with all that it carried, waits until this handler returns to where it struck, and then has
	 * its default effect there: a core dump shows the crash and nothing of this. */
	sigaction(signal_number, &standard, NULL);
	if (syscall(SYS_rt_tgsigqueueinfo, pid, gettid(), signal_number, info) != 0)
		syscall(SYS_tgkill, pid, gettid(), signal_number);
}

static void install_stack(void)
{
	stack_t before, mine = {0};
	unsigned long minimum = getauxval(AT_MINSIGSTKSZ);
	size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
	size_t bytes = (STACK_BYTES + minimum + page_bytes - 1) / page_bytes * page_bytes;
	char *base;

	if (sigaltstack(NULL, &before) != 0 || !(before.ss_flags & SS_DISABLE))
		return;
	base = mmap(NULL, GUARD_BYTES + bytes, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	if (base == MAP_FAILED)
		return;
	mine.ss_sp = base + GUARD_BYTES;
	mine.ss_size = bytes;
	if (mprotect(base, GUARD_BYTES, PROT_NONE) != 0 || sigaltstack(&mine, NULL) != 0) {
		munmap(base, GUARD_BYTES + bytes);
		return;
	}
	crash.stack = base;
	crash.stack_bytes = GUARD_BYTES + bytes;
}

void crash_install(struct channel *map)
{
	struct sigaction mine = {.sa_sigaction = on_crash, .sa_flags = SA_SIGINFO | SA_ONSTACK};

	crash.pid = getpid();
	atomic_store(&crash.reported, 0);
	atomic_store(&crash.channel, map);
	install_stack();
	sigemptyset(&mine.sa_mask);
	for (size_t i = 0; i < CRASH_SIGNALS; i++)
		sigaddset(&mine.sa_mask, crash_signals[i]);
	for (size_t i = 0; i < CRASH_SIGNALS; i++) {
		struct sigaction before;

		crash.installed[i] = sigaction(crash_signals[i], NULL, &before) == 0 &&
		    !(before.sa_flags & SA_SIGINFO) && before.sa_handler == SIG_DFL &&
		    sigaction(crash_signals[i], &mine, NULL) == 0;
	}
}

static void remove_stack(void)
{
	stack_t now, none = {.ss_flags = SS_DISABLE};

	if (crash.stack == NULL || sigaltstack(NULL, &now) != 0)
		return;
	/* In use, replaced, or another thread's: then it stays where it is. */
	if (now.ss_sp != (char *)crash.stack + GUARD_BYTES || sigaltstack(&none, NULL) != 0)
		return;
	munmap(crash.stack, crash.stack_bytes);
	crash.stack = NULL;
}

void crash_remove(void)
{
	struct sigaction standard = {.sa_handler = SIG_DFL};

	atomic_store(&crash.channel, NULL);
	for (size_t i = 0; i < CRASH_SIGNALS; i++) {
		struct sigaction now;

		if (crash.installed[i] && sigaction(crash_signals[i], NULL, &now) == 0 &&
		    (now.sa_flags & SA_SIGINFO) && now.sa_sigaction == on_crash)
			sigaction(crash_signals[i], &standard, NULL);
		crash.installed[i] = false;
	}
	remove_stack();
}
