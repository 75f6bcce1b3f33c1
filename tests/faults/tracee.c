/*
 * Faults inside a running process: see tracee.h.
 *
 * A thread that is interrupted in a system call would have that call restarted when it goes on, and its
 * program counter moved back with it.  On x86-64 the kernel does that when it lets the thread go, unless
 * orig_rax is -1; on aarch64 it has been done already, and is not touched again once pc was set.
 */
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>

#include "tests/faults/tracee.h"

#define HOLD_MAX_NS 5000000000ull
#define PAGE_BYTES 4096u
#define ADDRESS_UNMAPPED 8u /* below vm.mmap_min_addr on every system that has one */
#define EXECUTABLE_SCAN_MAX (64u << 10)

struct tracee {
	pid_t pid;
	int signal; /* that was about to be delivered; passed on when it is let go */
	struct user_regs_struct regs;
};

/* What differs between processors. */
#if defined(__x86_64__)
#define CODE_SYSCALL                                                                               \
	{                                                                                          \
		0x0f, 0x05                                                                         \
	}
#define CODE_LOOP                                                                                  \
	{                                                                                          \
		0xeb, 0xfe                                                                         \
	} /* jmp . */

static uint64_t regs_pc(const struct tracee *t)
{
	return t->regs.rip;
}

/* Go on at pc, in no system call. */
static void regs_jump(struct tracee *t, uint64_t pc)
{
	t->regs.rip = pc;
	t->regs.orig_rax = (unsigned long long)-1;
}

static void regs_call(struct tracee *t, uint64_t instruction, long number, const uint64_t args[6])
{
	regs_jump(t, instruction);
	t->regs.rax = (unsigned long long)number;
	t->regs.rdi = args[0];
	t->regs.rsi = args[1];
	t->regs.rdx = args[2];
	t->regs.r10 = args[3];
	t->regs.r8 = args[4];
	t->regs.r9 = args[5];
}

static uint64_t regs_result(const struct tracee *t)
{
	return t->regs.rax;
}

/* As if the interrupted code had called what comes next, so that its frames can be found from there.
 * This writes over a leaf function's red zone; nothing returns to it. */
static void regs_push_return(struct tracee *t)
{
	t->regs.rsp -= 8;
	ptrace(PTRACE_POKEDATA, t->pid, (void *)(uintptr_t)t->regs.rsp, (void *)(uintptr_t)t->regs.rip);
}

/*
 * A loop on a page of its own has no unwind information.  An entry of a procedure linkage table is a shape
 * that unwinders know without: `jmp *slot(%rip); push $0; jmp …`, its return address on top of the stack.
 * This one's slot points to itself.
 */
static size_t page_loop(uint8_t *code, uint64_t page)
{
	static const uint8_t entry[16] = {0xff, 0x25, 10, 0, 0, 0, 0x68, 0, 0, 0, 0, 0xe9, 0, 0, 0, 0};

	memcpy(code, entry, sizeof(entry));
	memcpy(code + sizeof(entry), &page, sizeof(page));
	return sizeof(entry) + sizeof(page);
}
#elif defined(__aarch64__)
#define CODE_SYSCALL                                                                               \
	{                                                                                          \
		0x01, 0x00, 0x00, 0xd4                                                             \
	}
#define CODE_LOOP                                                                                  \
	{                                                                                          \
		0x00, 0x00, 0x00, 0x14                                                             \
	} /* b . */

static uint64_t regs_pc(const struct tracee *t)
{
	return t->regs.pc;
}

static void regs_jump(struct tracee *t, uint64_t pc)
{
	t->regs.pc = pc;
}

static void regs_call(struct tracee *t, uint64_t instruction, long number, const uint64_t args[6])
{
	regs_jump(t, instruction);
	t->regs.regs[8] = (unsigned long long)number;
	for (int i = 0; i < 6; i++)
		t->regs.regs[i] = args[i];
}

static uint64_t regs_result(const struct tracee *t)
{
	return t->regs.regs[0];
}

/* The link register is where unwinders look when they know nothing else. */
static void regs_push_return(struct tracee *t)
{
	t->regs.regs[30] = t->regs.pc;
}

static size_t page_loop(uint8_t *code, uint64_t page)
{
	static const uint8_t loop[] = CODE_LOOP;

	(void)page;
	memcpy(code, loop, sizeof(loop));
	return sizeof(loop);
}
#else
#error "this processor's registers are not known here"
#endif

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Returns -errno, or 1 stopped, 0 not yet. */
static int notice_stop(struct tracee *t, int *status_out)
{
	pid_t got = waitpid(t->pid, status_out, __WALL | WNOHANG);

	if (got < 0)
		return -errno;
	if (got > 0 && !WIFSTOPPED(*status_out))
		return -ESRCH;
	return got > 0;
}

static int wait_stop(struct tracee *t, int *status_out)
{
	uint64_t until = now_ns() + HOLD_MAX_NS;
	struct timespec pause = {.tv_nsec = 20000000};
	sigset_t child;
	int stopped;

	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	while ((stopped = notice_stop(t, status_out)) == 0) {
		if (now_ns() >= until)
			return -ETIME;
		sigtimedwait(&child, NULL, &pause);
	}
	return stopped < 0 ? stopped : 0;
}

static int get_regs(struct tracee *t)
{
	struct iovec io = {&t->regs, sizeof(t->regs)};

	return ptrace(PTRACE_GETREGSET, t->pid, (void *)(intptr_t)NT_PRSTATUS, &io) == 0 ? 0 : -errno;
}

static int set_regs(struct tracee *t)
{
	struct iovec io = {&t->regs, sizeof(t->regs)};

	return ptrace(PTRACE_SETREGSET, t->pid, (void *)(intptr_t)NT_PRSTATUS, &io) == 0 ? 0 : -errno;
}

static int hold(struct tracee *t, pid_t pid, const char **why_out)
{
	sigset_t child;
	int status = 0, error;

	*t = (struct tracee){.pid = pid};
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	*why_out = "ptrace";
	if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) != 0 ||
	    ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) != 0)
		return -errno;
	*why_out = "stop the process";
	error = wait_stop(t, &status);
	if (error != 0)
		return error;
	if (status >> 16 != PTRACE_EVENT_STOP)
		t->signal = WSTOPSIG(status);
	*why_out = "read its registers";
	return get_regs(t);
}

/* Writes the registers and lets the process go, also when error says that nothing was to be done. */
static int release(struct tracee *t, int error, uint64_t *at_ns_out, const char **why_out)
{
	if (error == 0) {
		*why_out = "write its registers";
		error = set_regs(t);
	}
	if (ptrace(PTRACE_DETACH, t->pid, NULL, (void *)(intptr_t)t->signal) != 0 && error == 0) {
		*why_out = "let the process go";
		error = -errno;
	}
	if (error == 0)
		*at_ns_out = now_ns();
	return error;
}

/* Whole words, aligned: a write must not reach into the next mapping. */
static int poke(const struct tracee *t, uint64_t address, const uint8_t *bytes, size_t size)
{
	while (size > 0) {
		uint64_t at = address & ~(uint64_t)7;
		size_t skip = (size_t)(address - at), n = 8 - skip < size ? 8 - skip : size;
		long word;

		errno = 0;
		word = ptrace(PTRACE_PEEKTEXT, t->pid, (void *)(uintptr_t)at, NULL);
		if (errno != 0)
			return -errno;
		memcpy((uint8_t *)&word + skip, bytes, n);
		if (ptrace(PTRACE_POKETEXT, t->pid, (void *)(uintptr_t)at, (void *)word) != 0)
			return -errno;
		address += n;
		bytes += n;
		size -= n;
	}
	return 0;
}

/* Finds the mapping that holds address, or, when name is not NULL, the executable one so named. */
static bool find_mapping(pid_t pid, uint64_t address, const char *name, uint64_t *start_out,
    uint64_t *end_out, char *kind_out)
{
	char path[64], line[5000];
	bool found = false;
	FILE *in;

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	in = fopen(path, "re");
	if (in == NULL)
		return false;
	while (!found && fgets(line, sizeof(line), in) != NULL) {
		uint64_t start, end;
		char permissions[5];

		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s", &start, &end, permissions) != 3)
			continue;
		found = name == NULL ? address >= start && address < end
				     : permissions[2] == 'x' && strstr(line, name) != NULL;
		if (found) {
			*start_out = start;
			*end_out = end;
			*kind_out = permissions[3];
		}
	}
	fclose(in);
	return found;
}

/* Address of a system call instruction in the process; one is put at its pc when none is found. */
static int find_syscall(struct tracee *t, uint64_t *address_out)
{
	static const uint8_t wanted[] = CODE_SYSCALL;
	uint64_t start, end;
	uint8_t *code;
	char kind;

	if (find_mapping(t->pid, 0, "[vdso]", &start, &end, &kind)) {
		size_t size = end - start < EXECUTABLE_SCAN_MAX ? (size_t)(end - start)
								: EXECUTABLE_SCAN_MAX;
		struct iovec local, remote = {(void *)(uintptr_t)start, size};
		ssize_t n = -1;

		code = malloc(size);
		if (code == NULL)
			return -ENOMEM;
		local = (struct iovec){code, size};
		n = process_vm_readv(t->pid, &local, 1, &remote, 1, 0);
		for (ssize_t i = 0; i + (ssize_t)sizeof(wanted) <= n;
		     i += (ssize_t)sizeof(wanted) == 4 ? 4 : 1)
			if (memcmp(code + i, wanted, sizeof(wanted)) == 0) {
				*address_out = start + (uint64_t)i;
				free(code);
				return 0;
			}
		free(code);
	}
	*address_out = regs_pc(t);
	return poke(t, regs_pc(t), wanted, sizeof(wanted));
}

static int thread_count(pid_t pid)
{
	char path[64];
	struct dirent *entry;
	int count = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	dir = opendir(path);
	if (dir == NULL)
		return 0;
	while ((entry = readdir(dir)) != NULL)
		count += entry->d_name[0] != '.';
	closedir(dir);
	return count;
}

/* Execute one system call in the process; its registers are as before afterwards. */
static int call_in(struct tracee *t, long number, const uint64_t args[6], uint64_t *result_out)
{
	struct user_regs_struct before = t->regs;
	uint64_t instruction;
	int status, error = find_syscall(t, &instruction);

	if (error != 0)
		return error;
	regs_call(t, instruction, number, args);
	error = set_regs(t);
	while (error == 0) {
		if (ptrace(PTRACE_SINGLESTEP, t->pid, NULL, NULL) != 0) {
			error = -errno;
			break;
		}
		error = wait_stop(t, &status);
		if (error != 0 || (WSTOPSIG(status) == SIGTRAP && status >> 16 == 0))
			break;
		/* A signal came first: keep it for the end, the instruction is still to be executed. */
		if (status >> 16 == 0)
			t->signal = WSTOPSIG(status);
	}
	if (error == 0)
		error = get_regs(t);
	if (error == 0)
		*result_out = regs_result(t);
	t->regs = before;
	return error;
}

/* A loop on a page of its own, for a process whose other threads may execute the same code. */
static int spin_aside(struct tracee *t, const char **why_out)
{
	static const long protection = PROT_READ | PROT_EXEC, flags = MAP_PRIVATE | MAP_ANONYMOUS;
	const uint64_t args[6] = {
	    0, PAGE_BYTES, (uint64_t)protection, (uint64_t)flags, (uint64_t)-1, 0};
	uint8_t code[64];
	uint64_t page = 0;
	int error;

	*why_out = "map a page in it";
	error = call_in(t, SYS_mmap, args, &page);
	if (error == 0 && page > (uint64_t)-4096)
		error = -(int)(0 - page);
	if (error == 0)
		error = poke(t, page, code, page_loop(code, page));
	if (error == 0) {
		regs_push_return(t);
		regs_jump(t, page);
	}
	return error;
}

int tracee_segv(pid_t pid, uint64_t *at_ns_out, const char **why_out)
{
	struct tracee t;
	int error = hold(&t, pid, why_out);

	if (error == 0) {
		regs_push_return(&t);
		regs_jump(&t, ADDRESS_UNMAPPED);
	}
	return release(&t, error, at_ns_out, why_out);
}

int tracee_exit(pid_t pid, int code, uint64_t *at_ns_out, const char **why_out)
{
	const uint64_t args[6] = {(uint64_t)code};
	uint64_t instruction = 0;
	struct tracee t;
	int error = hold(&t, pid, why_out);

	if (error == 0) {
		*why_out = "find a system call in it";
		error = find_syscall(&t, &instruction);
	}
	if (error == 0)
		regs_call(&t, instruction, SYS_exit_group, args);
	return release(&t, error, at_ns_out, why_out);
}

int tracee_spin(pid_t pid, uint64_t *at_ns_out, const char **why_out)
{
	static const uint8_t loop[] = CODE_LOOP;
	uint64_t start, end;
	struct tracee t;
	char kind = 's';
	int error = hold(&t, pid, why_out);

	if (error != 0)
		return release(&t, error, at_ns_out, why_out);
	/* At the pc itself only where no other thread comes by, and where the write makes a private copy. */
	find_mapping(pid, regs_pc(&t), NULL, &start, &end, &kind);
	if (thread_count(pid) == 1 && kind == 'p' && poke(&t, regs_pc(&t), loop, sizeof(loop)) == 0)
		regs_jump(&t, regs_pc(&t));
	else
		error = spin_aside(&t, why_out);
	return release(&t, error, at_ns_out, why_out);
}
