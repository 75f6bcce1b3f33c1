/*
 * All threads' stacks of a foreign process: see stacks.h.
 *
 * The order is: seize and interrupt every thread, look again for threads that were made meanwhile until there
 * are none; wait for each to stop; unwind each; detach each.  PTRACE_SEIZE rather than PTRACE_ATTACH, because
 * it sends no SIGSTOP that could be left behind, and sees a group-stop as what it is.
 */
#include <errno.h>
#include <libunwind-ptrace.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>

#include "supervisor/evidence/modules.h"
#include "supervisor/evidence/stacks.h"
#include "supervisor/evidence/threads.h"
#include "supervisor/evidence/wild.h"

#define LIST_PASSES_MAX 8
#define BUSY_WAIT_NS                                                                               \
	100000000ull      /* what a thread in uninterruptible sleep is given to come out of it */
#define CACHE_SLOTS 1024u /* a power of two */

enum hold { HOLD_NONE = 0, HOLD_SEIZED, HOLD_STOPPED, HOLD_GONE };

struct held {
	struct thread facts; /* as they were before the thread was touched */
	enum hold hold;
	int error;  /* errno of PTRACE_SEIZE */
	int signal; /* that was about to be delivered; passed on at detach */
};

/* What an address is called; many threads of a process stand at the same few places. */
struct place {
	unw_word_t address; /* 0: free */
	char text[320];
};

struct stacks {
	pid_t pid;
	uint64_t until_ns;
	struct sheet *sheet;
	struct modules modules;
	unw_addr_space_t space;
	struct place *cache;
	struct held *held;
	int count; /* of held */
	int total; /* threads there are */
};

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Stopping. */

static void hold_one(struct stacks *st, pid_t tid)
{
	struct held *h = &st->held[st->count++];

	memset(h, 0, sizeof(*h));
	threads_look(st->pid, tid, &h->facts);
	/* A leader whose other threads go on is a zombie, and seizing it fails like a refusal. */
	if (strchr("ZX?", h->facts.state) != NULL) {
		h->hold = h->facts.state == 'Z' ? HOLD_NONE : HOLD_GONE;
		return;
	}
	if (ptrace(PTRACE_SEIZE, tid, NULL, NULL) != 0) {
		h->error = errno;
		h->hold = errno == ESRCH ? HOLD_GONE : HOLD_NONE;
		return;
	}
	h->hold = HOLD_SEIZED;
	ptrace(PTRACE_INTERRUPT, tid, NULL, NULL);
}

static bool is_held(const struct stacks *st, pid_t tid)
{
	for (int i = 0; i < st->count; i++)
		if (st->held[i].facts.tid == tid)
			return true;
	return false;
}

/* Seizes every thread, also those that are made while it looks. Returns 0 or -errno. */
static int hold_all(struct stacks *st, pid_t first)
{
	pid_t tids[STACKS_THREADS_MAX];

	for (int pass = 0; pass < LIST_PASSES_MAX; pass++) {
		int before = st->count;
		int n = threads_list(st->pid, first, tids, (int)STACKS_THREADS_MAX, &st->total);

		if (n < 0)
			return before > 0 ? 0 : n;
		for (int i = 0; i < n && st->count < (int)STACKS_THREADS_MAX; i++)
			if (!is_held(st, tids[i]))
				hold_one(st, tids[i]);
		if (st->count == before || now_ns() >= st->until_ns)
			break;
	}
	return 0;
}

/* Takes what waitid has for the thread, if there is anything. */
static void notice(struct held *h)
{
	int status;
	pid_t got = waitpid(h->facts.tid, &status, __WALL | WNOHANG);

	if (got == 0)
		return;
	if (got < 0 || WIFEXITED(status) || WIFSIGNALED(status)) {
		h->hold = HOLD_GONE;
		return;
	}
	h->hold = HOLD_STOPPED;
	/* Not our interrupt and no group-stop: a signal on its way, which must not be lost. */
	if (status >> 16 != PTRACE_EVENT_STOP)
		h->signal = WSTOPSIG(status);
}

/* SIGCHLD is blocked: it comes for every thread that stops. */
static void wait_for(struct stacks *st, struct held *h, uint64_t busy_until_ns)
{
	sigset_t child;

	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	while (notice(h), h->hold == HOLD_SEIZED) {
		uint64_t now = now_ns(), until = st->until_ns;
		struct timespec pause = {.tv_nsec = 10000000};

		if (threads_state(st->pid, h->facts.tid) == 'D') {
			h->facts.state = 'D';
			until = busy_until_ns < until ? busy_until_ns : until;
		}
		if (now >= until)
			return;
		if (until - now < (uint64_t)pause.tv_nsec)
			pause.tv_nsec = (long)(until - now);
		sigtimedwait(&child, NULL, &pause);
	}
}

static void release_all(struct stacks *st)
{
	for (int i = 0; i < st->count; i++) {
		struct held *h = &st->held[i];

		if (h->hold == HOLD_SEIZED)
			notice(h);
		/* One that still has not stopped is let go by the kernel when this process ends. */
		if (h->hold == HOLD_STOPPED)
			ptrace(PTRACE_DETACH, h->facts.tid, NULL, (void *)(intptr_t)h->signal);
	}
}

/* Unwinding. */

/* "name+0x1f (file+0x1234)" with what of it is known. */
static void describe(
    struct stacks *st, void *upt, unw_word_t ip, unw_word_t look_at, char *out, size_t out_size)
{
	const struct module *module = modules_find(&st->modules, ip);
	char symbol[512], name[160] = "??", place[96] = "";
	unw_word_t offset = 0;
	unw_proc_info_t info;

	if (module != NULL && module->name[0] != '\0')
		snprintf(place, sizeof(place), " (%s+0x%llx)", module->name,
		    (unsigned long long)(ip - module->base));
	else if (module == NULL)
		snprintf(place, sizeof(place), " (not mapped)");
	if (module != NULL && module->executable &&
	    _UPT_get_proc_name(st->space, look_at, symbol, sizeof(symbol), &offset, upt) >= 0) {
		/* In a stripped file the nearest symbol below may be quite another function's: the unwind
		 * information knows where this one begins. */
		bool known = _UPT_find_proc_info(st->space, look_at, &info, 0, upt) < 0 ||
		    look_at - offset >= info.start_ip;
		if (known)
			sheet_escape(name, sizeof(name), symbol, strnlen(symbol, sizeof(symbol)));
	}
	if (strcmp(name, "??") == 0)
		snprintf(out, out_size, "??%s", place);
	else
		snprintf(out, out_size, "%s+0x%llx%s", name,
		    (unsigned long long)(offset + (ip - look_at)), place);
}

static const char *place_of(struct stacks *st, void *upt, unw_word_t ip, bool exact)
{
	/* A return address may already belong to the next function: its call lies before it. */
	unw_word_t look_at = exact ? ip : ip - 1;
	struct place *p = &st->cache[(look_at * 0x9e3779b97f4a7c15ull) >> 54 & (CACHE_SLOTS - 1)];

	if (p->address != look_at || look_at == 0) {
		describe(st, upt, ip, look_at, p->text, sizeof(p->text));
		p->address = look_at;
	}
	return p->text;
}

/*
 * Whether the kernel's return from a signal handler lies at ip: the call of rt_sigreturn(2).  Asked of the
 * code itself, for unw_is_signal_frame() is true of this frame on some processors and of the next on others.
 */
static bool is_trampoline(struct stacks *st, void *upt, unw_word_t ip)
{
#if defined(__x86_64__)
	/* mov $15,%rax; syscall */
	static const unsigned char code[] = {0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05};
#elif defined(__aarch64__)
	/* mov x8,#139; svc #0 */
	static const unsigned char code[] = {0x68, 0x11, 0x80, 0xd2, 0x01, 0, 0, 0xd4};
#else
#error "this processor's return from a signal handler is not known here"
#endif
	unsigned char found[16];

	for (size_t at = 0; at < sizeof(code); at += sizeof(unw_word_t)) {
		unw_word_t word;
		if (_UPT_access_mem(st->space, ip + at, &word, 0, upt) < 0)
			return false;
		memcpy(found + at, &word, sizeof(word));
		if (memcmp(found, code, at + 8 < sizeof(code) ? at + 8 : sizeof(code)) != 0)
			return false;
	}
	return true;
}

/* One frame up. Returns as unw_step(). */
static int step_up(struct stacks *st, void *upt, unw_word_t ip, struct wild *wild, unw_cursor_t *cursor)
{
	const struct module *module = modules_find(&st->modules, ip);

	/* Once a thread: what lies behind a wild call is ordinary code. */
	if (st->modules.count > 0 && (module == NULL || !module->executable) &&
	    wild->space == NULL && wild_return(wild, st->space, upt, cursor) == 0)
		return 1;
	return unw_step(cursor);
}

/* Returns NULL, or why the frames end early. */
static const char *unwind_frames(struct stacks *st, void *upt, struct wild *wild)
{
	unw_word_t ip, sp, previous_ip = 0, previous_sp = 0;
	bool exact = true; /* the first address, and one that a signal interrupted, is no return address */
	unw_cursor_t cursor;
	int step;

	if (unw_init_remote(&cursor, st->space, upt) < 0)
		return "its registers cannot be read";
	for (unsigned frame = 0; frame < STACKS_FRAMES_MAX; frame++) {
		if (unw_get_reg(&cursor, UNW_REG_IP, &ip) < 0 ||
		    unw_get_reg(&cursor, UNW_REG_SP, &sp) < 0)
			return "the registers of the next frame are unknown";
		if (ip == 0 && frame > 0 && !exact)
			return NULL;
		if (frame > 0 && ip == previous_ip && sp == previous_sp)
			return "the next frame is the same again";
		if (is_trampoline(st, upt, ip)) {
			sheet_line(st->sheet, "  #%-3u <signal handler called>\n", frame);
			exact = true;
		} else {
			sheet_line(st->sheet, "  #%-3u 0x%016llx %s\n", frame,
			    (unsigned long long)ip, place_of(st, upt, ip, exact));
			exact = false;
		}
		if (now_ns() >= st->until_ns)
			return "the time for it is over";
		previous_ip = ip;
		previous_sp = sp;
		step = step_up(st, upt, ip, wild, &cursor);
		if (step == 0)
			return NULL;
		if (step < 0)
			return unw_strerror(step);
	}
	return "more frames than are shown";
}

/* What the kernel has for a thread that cannot be stopped. */
static void show_kernel_stack(const struct stacks *st, pid_t tid)
{
	char path[96], text[4096];
	ssize_t size;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/stack", (int)st->pid, (int)tid);
	size = threads_read_file(path, text, sizeof(text));
	if (size > 0) {
		sheet_line(st->sheet, "  kernel stack:\n");
		sheet_safe(st->sheet, text, (size_t)size);
	} else {
		sheet_line(st->sheet, "  (its kernel stack may not be read)\n");
	}
}

static void show_thread(struct stacks *st, struct held *h, bool crashed, struct stacks_outcome *outcome)
{
	const char *ended = NULL;
	struct wild wild = {0};
	void *upt;

	sheet_line(st->sheet, "\nthread %d (%s)%s, state %c, waits in %s, system call %s\n",
	    (int)h->facts.tid, h->facts.name, crashed ? ", which crashed" : "", h->facts.state,
	    h->facts.wait_channel, h->facts.system_call);
	outcome->thread_count++;
	if (h->hold == HOLD_GONE) {
		sheet_line(st->sheet, "  (it ended meanwhile)\n");
	} else if (h->facts.state == 'Z') {
		sheet_line(st->sheet, "  (it has ended and is a zombie)\n");
	} else if (h->hold == HOLD_NONE) {
		sheet_line(st->sheet, "  (no stack: ptrace: %s)\n", strerror(h->error));
	} else if (h->hold == HOLD_SEIZED) {
		sheet_line(st->sheet,
		    h->facts.state == 'D' ? "  (no stack: it is in uninterruptible sleep)\n"
					  : "  (no stack: it did not stop in time)\n");
		show_kernel_stack(st, h->facts.tid);
	} else {
		if (now_ns() >= st->until_ns)
			ended = "no stack: the time for it is over";
		else if (upt = _UPT_create(h->facts.tid), upt == NULL)
			ended = "no stack: memory is short";
		else {
			ended = unwind_frames(st, upt, &wild);
			wild_fini(&wild);
			_UPT_destroy(upt);
			outcome->unwound_count++;
		}
		if (ended != NULL)
			sheet_line(st->sheet, "  (%s)\n", ended);
	}
}

/* Why a trace is refused, as far as it can be known from outside. */
static void explain_refusal(const struct stacks *st, int error)
{
	char text[4096], path[64], *tracer;
	long pid;

	sheet_line(st->sheet, "ptrace was refused: %s\n", strerror(error));
	snprintf(path, sizeof(path), "/proc/%d/status", (int)st->pid);
	if (threads_read_file(path, text, sizeof(text)) > 0 &&
	    (tracer = strstr(text, "\nTracerPid:")) != NULL &&
	    (pid = strtol(tracer + 11, NULL, 10)) > 0)
		sheet_line(st->sheet, "  it is traced by process %ld already\n", pid);
	if (threads_read_file("/proc/sys/kernel/yama/ptrace_scope", text, sizeof(text)) > 0 &&
	    text[0] != '0')
		sheet_line(st->sheet, "  kernel.yama.ptrace_scope is %.1s\n", text);
	sheet_line(st->sheet, "  what follows is from /proc alone\n");
}

static int prepare(struct stacks *st)
{
	st->held = calloc(STACKS_THREADS_MAX, sizeof(*st->held));
	st->cache = calloc(CACHE_SLOTS, sizeof(*st->cache));
	st->space = unw_create_addr_space(&_UPT_accessors, 0);
	if (st->held == NULL || st->cache == NULL || st->space == NULL)
		return -ENOMEM;
	unw_set_caching_policy(st->space, UNW_CACHE_GLOBAL);
	return 0;
}

/* The process stands still from here to its end. */
static int take_held(struct stacks *st, pid_t first, struct stacks_outcome *outcome)
{
	uint64_t began_ns = now_ns();
	int error = hold_all(st, first);

	if (error != 0)
		return error;
	for (int i = 0; i < st->count; i++)
		if (st->held[i].hold == HOLD_SEIZED)
			wait_for(st, &st->held[i], began_ns + BUSY_WAIT_NS);
	for (int i = 0; i < st->count && outcome->error == 0; i++)
		outcome->error = st->held[i].hold == HOLD_NONE ? st->held[i].error : 0;
	if (outcome->error != 0)
		explain_refusal(st, outcome->error);
	/* Without the map there are no file names, and the stacks are still worth having. */
	(void)modules_init(&st->modules, st->pid);
	for (int i = 0; i < st->count; i++)
		show_thread(st, &st->held[i], st->held[i].facts.tid == first, outcome);
	if (st->total > st->count)
		sheet_line(st->sheet, "\n(%d more threads are not shown)\n", st->total - st->count);
	release_all(st);
	outcome->held_ns = now_ns() - began_ns;
	return 0;
}

int stacks_take(pid_t pid, pid_t first_tid, uint64_t until_ns, struct sheet *sheet,
    struct stacks_outcome *outcome)
{
	struct stacks st = {.pid = pid, .until_ns = until_ns, .sheet = sheet};
	uint64_t began_ns = now_ns();
	sigset_t child, old;
	int error;

	*outcome = (struct stacks_outcome){0};
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, &old);
	error = prepare(&st);
	if (error == 0) {
		sheet_section(sheet, STACKS_TEXT_MAX);
		error = take_held(&st, first_tid, outcome);
		sheet_section_end(sheet);
	}
	modules_fini(&st.modules);
	if (st.space != NULL)
		unw_destroy_addr_space(st.space);
	free(st.cache);
	free(st.held);
	sigprocmask(SIG_SETMASK, &old, NULL);
	outcome->taken_ns = now_ns() - began_ns;
	return error;
}
