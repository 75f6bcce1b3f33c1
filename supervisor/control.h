/*
 * The control socket, RUNDIR/control.sock: what people may ask of a live run.
 *
 * A client sends one line, "stop", and gets one back: "ok" once the wish is committed, or
 * "error: …".  Only the user who runs the supervisor, and root, are heard (SO_PEERCRED).
 */
#ifndef SUPERVISOR_CONTROL_H
#define SUPERVISOR_CONTROL_H

#include "journal/record.h"
#include "journal/status.h"

struct control;
struct event_base;

/* A wish: called in the event loop. */
typedef void control_wish(void *context, enum control_verb verb, uint32_t uid, uint32_t pid);

/* base and context are borrowed.  An older socket of that name is replaced: the run directory is locked. */
MUST_CHECK enum status control_new(struct event_base *base, const char *run_dir, control_wish *wish,
    void *context, struct control **out, struct cause *why);
void control_free(struct control *c); /* removes the socket; NULL is allowed */

/* Answer every client that waits. */
void control_answer(struct control *c, const char *line);

#endif
