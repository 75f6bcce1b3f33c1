/*
 * The environment of a rank: the agent's own, and what launchers' users expect (torch elastic's names).
 *
 * What is named here replaces what the agent's own environment says, as with torchrun: a MASTER_PORT that an
 * earlier launcher or a batch script left there would be the same for two runs on one machine.  Only what a
 * user sets to tune a program, OMP_NUM_THREADS and PYTHONUNBUFFERED, is left alone when it is set.
 */
#ifndef AGENT_RANKENV_H
#define AGENT_RANKENV_H

#include <stdint.h>

/* What a run may be asked to tell its ranks otherwise than usual.  Texts are borrowed; NULL: as usual. */
struct rankenv_names {
	const char *master_addr; /* 127.0.0.1 */
	const char *role;        /* "default" */
	const char *run_name;    /* TORCHELASTIC_RUN_ID; the run's id */
	uint16_t master_port;    /* reserved by the caller */
};

struct rankenv {
	uint32_t rank, rank_count, attempt;
	uint32_t tries_max;
	struct rankenv_names names;
	const char *run_id_hex;
	const char *channel_path; /* NULL: none */
	const char *error_file;
	const char *notify_path; /* of its socket for sd_notify(3); NULL: none */
};

/* A NULL-terminated list over one allocation; free() it.  NULL: memory is short. */
char **rankenv_make(const struct rankenv *wanted);

/*
 * Reserve a TCP port of this machine for as long as the descriptor is open: bound on every address, IPv4 and
 * IPv6, never listening, with SO_REUSEADDR.  The kernel gives a port that is bound so to nobody who asks for
 * any port, neither to a bind nor to a connection that goes out, while who asks for this one by its number
 * and with SO_REUSEADDR too (as every TCPStore and Python's socket servers do) may bind and listen on it; so
 * rank 0 of each attempt does, and finds it free between attempts also while old connections are in TIME_WAIT.
 *
 * port		in: the port wanted, 0 for any; out: the one that was reserved (untouched on failure).
 * Returns the descriptor (CLOEXEC; close it to give the port back), or -1 with errno: EADDRINUSE when
 * somebody listens there or every port is taken, EACCES for a port below 1024.
 */
int rankenv_reserve_port(uint16_t *port);

#endif
