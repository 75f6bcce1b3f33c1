/*
 * See guard.h.  A signal handler has no context but what is static: here, the addresses of the channels, each in
 * a word whose lowest bit says that it tripped.  The words are looked through only when something is wrong.
 */
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>

#include "supervisor/agent/guard.h"

#define GUARDS_MAX (2u * RANKS_MAX) /* those adopted and those made */
#define TRIPPED 1u

static _Atomic uintptr_t guards[GUARDS_MAX]; /* 0: free */
static _Atomic unsigned guards_used;         /* words below it may be taken */

static _Atomic uintptr_t *guard_of(uintptr_t address)
{
	unsigned used = atomic_load(&guards_used);

	for (unsigned i = 0; i < used; i++) {
		uintptr_t start = atomic_load(&guards[i]) & ~(uintptr_t)TRIPPED;

		if (start != 0 && address >= start && address - start < CHANNEL_SIZE_BYTES)
			return &guards[i];
	}
	return NULL;
}

/* Async-signal-safe: atomics and system calls. */
static void on_bus(int number, siginfo_t *info, void *context)
{
	_Atomic uintptr_t *guard = guard_of((uintptr_t)info->si_addr);

	(void)context;
	if (guard != NULL) {
		void *start = (void *)(atomic_load(guard) & ~(uintptr_t)TRIPPED);

		if (mmap(start, CHANNEL_SIZE_BYTES, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == start) {
			atomic_fetch_or(guard, TRIPPED);
			return;
		}
	}
	/* Not ours to mend: the access is done again, and is the end. */
	signal(number, SIG_DFL);
}

static void take_over(void)
{
	struct sigaction action = {.sa_sigaction = on_bus, .sa_flags = SA_SIGINFO};

	sigemptyset(&action.sa_mask);
	(void)sigaction(SIGBUS, &action, NULL);
}

int guard_add(const struct channel *map)
{
	take_over();
	for (unsigned i = 0; i < GUARDS_MAX; i++) {
		uintptr_t none = 0;

		if (!atomic_compare_exchange_strong(&guards[i], &none, (uintptr_t)map))
			continue;
		if (i >= atomic_load(&guards_used))
			atomic_store(&guards_used, i + 1);
		return (int)i;
	}
	return -1;
}

void guard_remove(int guard)
{
	if (guard >= 0)
		atomic_store(&guards[guard], 0);
}

bool guard_tripped(int guard)
{
	return guard >= 0 && (atomic_load(&guards[guard]) & TRIPPED) != 0;
}
