/*
 * What keeps a channel that shrinks from killing us: its trainer owns the file as much as we do, and a page that
 * was cut off is a SIGBUS for whoever touches it (H10).
 *
 * guard_add() takes over SIGBUS for the process.  A fault inside a guarded channel puts zeros in place
 * of the whole of it, which reads as damage, and the access is done again; every other fault ends the process as
 * ever.  Threads that touch channels must not block SIGBUS.
 */
#ifndef AGENT_GUARD_H
#define AGENT_GUARD_H

#include <stdbool.h>

#include "trainer/channel.h"

/* Guard a mapping of CHANNEL_SIZE_BYTES.  Returns its number, or -1 when there are more than a run can have. */
int guard_add(const struct channel *map);

/* Before the mapping goes, when nobody touches it any more.  -1 is allowed. */
void guard_remove(int guard);

/* Whether zeros have taken its place. */
bool guard_tripped(int guard);

#endif
