/*
 * The environment of a rank: the agent's own, and what launchers' users expect (torch elastic's names).
 */
#ifndef AGENT_RANKENV_H
#define AGENT_RANKENV_H

#include <stdint.h>

struct rankenv {
	uint32_t rank, rank_count, attempt;
	uint16_t master_port;
	uint32_t tries_max;
	const char *run_id_hex;
	const char *channel_path; /* NULL: none */
	const char *error_file;
};

/* A NULL-terminated list over one allocation; free() it.  NULL: memory is short. */
char **rankenv_make(const struct rankenv *wanted);

/*
 * Reserve a TCP port on this machine: bound, never listening, with SO_REUSEADDR, so that rank 0 may bind and
 * listen on it (as TCPStore does) while nobody gets it by chance, also between attempts.
 * Returns the descriptor (CLOEXEC; close it to give the port back), -1 when there is none.
 */
int rankenv_reserve_port(uint16_t *port_out);

#endif
