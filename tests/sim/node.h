/*
 * The simulated agent: does what committed decisions say, numbers its messages and keeps them until they are
 * acknowledged, restarts its supervisor.  Watches H1 (only what is committed reaches it), H2 (what is acknowledged
 * is committed) and H6 (no start beside the living).
 */
#ifndef SIM_NODE_H
#define SIM_NODE_H

#include "tests/sim/world.h"

/* Of a world, whose end is the caller's; memory being short ends the program. */
struct node *node_new(struct world *w);
void node_free(struct node *n);

void node_begin(struct world *w); /* somebody runs the command */
void node_die(struct world *w);   /* SIGKILL; the command is run again a while later */
bool node_alive(const struct world *w);
void node_on_overseer_end(struct world *w);

/* From the supervisor. */
void node_welcome(struct world *w, uint64_t link, uint64_t source_seq);
void node_command(struct world *w, uint64_t link, const struct record *r);
void node_ack(struct world *w, uint64_t link, uint64_t source_seq);
void node_ack_ring(struct world *w, uint64_t link, uint32_t attempt, uint32_t rank, uint64_t ring_seq);

/* A message of the agent's own; r is taken. */
void node_post(struct world *w, void *r);
/* Something was put into a ring. */
void node_pump(struct world *w);

/* The next clearing does not succeed. */
void node_get_stuck(struct world *w);

#endif
