/* See rankenv.h. */
#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "supervisor/agent/rankenv.h"
#include "trainer/channel.h"

#define OWN_MAX 32
#define OWN_TEXT 256

extern char **environ;

struct own {
	char (*lines)[OWN_TEXT + 4096];
	size_t count;
};

__attribute__((format(printf, 3, 4))) static void own_set(
    struct own *own, const char *name, const char *format, ...)
{
	char *line = own->lines[own->count++];
	va_list arguments;
	int length = snprintf(line, OWN_TEXT, "%s=", name);

	va_start(arguments, format);
	vsnprintf(line + length, sizeof(own->lines[0]) - (size_t)length, format, arguments);
	va_end(arguments);
}

static bool same_name(const char *a, const char *b)
{
	size_t length = strcspn(a, "=");

	return strncmp(a, b, length + 1) == 0;
}

static void own_fill(struct own *own, const struct rankenv *w)
{
	own_set(own, "RANK", "%u", w->rank);
	own_set(own, "LOCAL_RANK", "%u", w->rank);
	own_set(own, "WORLD_SIZE", "%u", w->rank_count);
	own_set(own, "LOCAL_WORLD_SIZE", "%u", w->rank_count);
	own_set(own, "GROUP_RANK", "0");
	own_set(own, "GROUP_WORLD_SIZE", "1");
	own_set(own, "ROLE_RANK", "%u", w->rank);
	own_set(own, "ROLE_NAME", "%s", w->names.role != NULL ? w->names.role : "default");
	own_set(own, "ROLE_WORLD_SIZE", "%u", w->rank_count);
	own_set(own, "MASTER_ADDR", "%s",
	    w->names.master_addr != NULL ? w->names.master_addr : "127.0.0.1");
	own_set(own, "MASTER_PORT", "%u", w->names.master_port);
	own_set(own, "TORCHELASTIC_RESTART_COUNT", "%u", w->attempt - 1);
	own_set(own, "TORCHELASTIC_MAX_RESTARTS", "%u", w->tries_max);
	own_set(own, "TORCHELASTIC_RUN_ID", "%s",
	    w->names.run_name != NULL ? w->names.run_name : w->run_id_hex);
	own_set(own, "TORCHELASTIC_USE_AGENT_STORE", "False");
	own_set(own, "TORCH_NCCL_ASYNC_ERROR_HANDLING", "1");
	own_set(own, CHANNEL_ENV_RUN, "%s", w->run_id_hex);
	if (w->error_file != NULL)
		own_set(own, "TORCHELASTIC_ERROR_FILE", "%s", w->error_file);
	if (w->channel_path != NULL)
		own_set(own, CHANNEL_ENV, "%s", w->channel_path);
	if (w->notify_path != NULL)
		own_set(own, "NOTIFY_SOCKET", "%s", w->notify_path);
	if (w->rank_count > 1 && getenv("OMP_NUM_THREADS") == NULL)
		own_set(own, "OMP_NUM_THREADS", "1");
	/* What a rank printed last is wanted most when it is killed, and progress when it is made. */
	if (getenv("PYTHONUNBUFFERED") == NULL)
		own_set(own, "PYTHONUNBUFFERED", "1");
}

char **rankenv_make(const struct rankenv *wanted)
{
	size_t inherited = 0, count = 0;
	struct own own = {0};
	char **list;

	while (environ[inherited] != NULL)
		inherited++;
	/* One block: the list, then the texts of our own lines. */
	list = malloc((inherited + OWN_MAX + 1) * sizeof(*list) + OWN_MAX * sizeof(own.lines[0]));
	if (list == NULL)
		return NULL;
	own.lines = (void *)(list + inherited + OWN_MAX + 1);
	own_fill(&own, wanted);
	for (size_t i = 0; i < inherited; i++) {
		bool replaced = false;

		for (size_t j = 0; j < own.count && !replaced; j++)
			replaced = same_name(own.lines[j], environ[i]);
		if (!replaced)
			list[count++] = environ[i];
	}
	for (size_t j = 0; j < own.count; j++)
		list[count++] = own.lines[j];
	list[count] = NULL;
	return list;
}

/* A socket bound to the port on every address of the family, or -1. */
static int bind_port(int family, uint16_t port)
{
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct sockaddr *address = family == AF_INET6 ? (struct sockaddr *)&six
						      : (struct sockaddr *)&four;
	socklen_t size = family == AF_INET6 ? sizeof(six) : sizeof(four);
	int on = 1, off = 0, error;
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
	    (family != AF_INET6 || setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) == 0) &&
	    bind(fd, address, size) == 0)
		return fd;
	error = errno;
	close(fd);
	errno = error;
	return -1;
}

int rankenv_reserve_port(uint16_t *port)
{
	/* Both families lay the port at the same place. */
	struct sockaddr_in6 address = {0};
	socklen_t size = sizeof(address);
	int fd = bind_port(AF_INET6, *port);

	/* A machine without IPv6. */
	if (fd < 0 && errno != EADDRINUSE && errno != EACCES)
		fd = bind_port(AF_INET, *port);
	if (fd < 0)
		return -1;
	if (getsockname(fd, (struct sockaddr *)&address, &size) != 0) {
		close(fd);
		return -1;
	}
	*port = ntohs(address.sin6_port);
	return fd;
}
