/* See notify.h. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "supervisor/agent/notify.h"

int notify_open(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	mode_t mask;
	int fd, error = 0;

	if (strlen(path) >= sizeof(address.sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(address.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -1;
	(void)unlink(path);
	mask = umask(0177);
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0)
		error = errno;
	umask(mask);
	if (error == 0)
		return fd;
	close(fd);
	errno = error;
	return -1;
}

static bool is(const char *line, size_t length, const char *word)
{
	return length == strlen(word) && memcmp(line, word, length) == 0;
}

static void take_line(const char *line, size_t length, struct notify_news *out)
{
	static const char status[] = "STATUS=";

	if (is(line, length, "READY=1")) {
		out->ready = true;
	} else if (is(line, length, "WATCHDOG=1")) {
		out->alive = true;
	} else if (length >= sizeof(status) - 1 && memcmp(line, status, sizeof(status) - 1) == 0) {
		out->status = line + sizeof(status) - 1;
		out->status_bytes = length - (sizeof(status) - 1);
	}
}

bool notify_read(int fd, char *text, size_t size, struct notify_news *out)
{
	ssize_t length;

	memset(out, 0, sizeof(*out));
	do
		length = recv(fd, text, size, MSG_DONTWAIT);
	while (length < 0 && errno == EINTR);
	if (length < 0)
		return false;
	for (size_t at = 0; at < (size_t)length;) {
		const char *end = memchr(text + at, '\n', (size_t)length - at);
		size_t line = end != NULL ? (size_t)(end - text) - at : (size_t)length - at;

		take_line(text + at, line, out);
		at += line + 1;
	}
	return true;
}
