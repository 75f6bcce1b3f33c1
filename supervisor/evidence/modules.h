/*
 * Which file an address of a foreign process lies in, from one reading of its /proc/PID/maps.
 *
 * Bounded (MODULES_MAX mappings; later ones are unknown).  Names are escaped.
 */
#ifndef EVIDENCE_MODULES_H
#define EVIDENCE_MODULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define MODULES_MAX 16384u

struct module {
	uint64_t start, end; /* addresses */
	uint64_t base;       /* start of the file's first mapping: what offsets count from */
	bool executable;
	char name[64]; /* last part of the path, "[heap]" and the like, or "" */
};

struct modules {
	struct module *list; /* owned; ascending */
	size_t count;
};

/* Returns 0, -ENOMEM, or the -errno of reading the file; *m is empty then and may be finished. */
int modules_init(struct modules *m, pid_t pid);
void modules_fini(struct modules *m);

/* NULL when nothing is mapped there; valid until modules_fini(). */
const struct module *modules_find(const struct modules *m, uint64_t address);

#endif
