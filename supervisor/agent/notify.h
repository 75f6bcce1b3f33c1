/*
 * What a rank says by sd_notify(3): datagrams on a socket of its own, whose path is its NOTIFY_SOCKET.
 *
 * The agent makes the socket and the logger reads it.  Of what may be said, READY=1, STATUS= and WATCHDOG=1 mean
 * something; the rest, and garbage, mean nothing.  Descriptors that come along are closed by the kernel.
 */
#ifndef AGENT_NOTIFY_H
#define AGENT_NOTIFY_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Make the socket at path (borrowed), for this user only; what lies there is removed.
 * Returns	the descriptor (CLOEXEC, not blocking), or -1 with errno: ENAMETOOLONG for a path no socket can have.
 */
int notify_open(const char *path);

struct notify_news {
	bool ready, alive;
	const char *status; /* within the datagram, not NUL-terminated; NULL: none */
	size_t status_bytes;
};

/* The next datagram into text, size bytes, cut to that; false when there is none. */
bool notify_read(int fd, char *text, size_t size, struct notify_news *out);

#endif
