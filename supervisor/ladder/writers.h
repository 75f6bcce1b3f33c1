/*
 * Who still has files open for writing, as far as /proc tells.
 *
 * Names are compared, not files: nothing is opened and nothing can block.  Processes of other users and of other
 * mount namespaces are not seen, so that "nobody" means "nobody that can be seen".
 */
#ifndef LADDER_WRITERS_H
#define LADDER_WRITERS_H

#include <stdbool.h>

/* Whether a process other than this one writes to path, or to something in it.  path: borrowed. */
bool writers_at(const char *path);

#endif
