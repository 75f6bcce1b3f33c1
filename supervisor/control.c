/* See control.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/listener.h>

#include "supervisor/control.h"

#define CLIENTS_MAX 16u
#define LINE_MAX_BYTES 64u
#define CLIENT_TIMEOUT_S 10

struct client {
	struct bufferevent *stream; /* NULL: free place */
	struct control *owner;
	uint32_t uid, pid;
	bool waiting; /* for the answer */
	bool closing;
};

struct control {
	struct evconnlistener *listener;
	control_wish *wish;
	void *context;
	int dir_fd;
	struct client clients[CLIENTS_MAX];
};

static void client_close(struct client *client)
{
	bufferevent_free(client->stream);
	memset(client, 0, sizeof(*client));
}

static void client_say(struct client *client, const char *line)
{
	evbuffer_add_printf(bufferevent_get_output(client->stream), "%s\n", line);
	client->waiting = false;
	client->closing = true;
	bufferevent_disable(client->stream, EV_READ);
}

static void on_line(struct bufferevent *stream, void *argument)
{
	static const struct {
		const char *word;
		enum control_verb verb;
	} verbs[] = {{"stop", CONTROL_STOP}};
	struct client *client = argument;
	struct evbuffer *in = bufferevent_get_input(stream);
	char *line = evbuffer_readln(in, NULL, EVBUFFER_EOL_LF);

	if (line == NULL) {
		if (evbuffer_get_length(in) >= LINE_MAX_BYTES)
			client_say(client, "error: the line is too long");
		return;
	}
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (strcmp(line, verbs[i].word) == 0) {
			client->waiting = true;
			client->owner->wish(
			    client->owner->context, verbs[i].verb, client->uid, client->pid);
			free(line);
			return;
		}
	free(line);
	client_say(client, "error: not understood; known is stop");
}

static void on_written(struct bufferevent *stream, void *argument)
{
	struct client *client = argument;

	(void)stream;
	if (client->closing)
		client_close(client);
}

static void on_client_end(struct bufferevent *stream, short what, void *argument)
{
	(void)stream;
	(void)what;
	client_close(argument);
}

static void on_client(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address,
    int length, void *argument)
{
	struct control *c = argument;
	struct client *client = NULL;
	struct ucred peer = {0};
	socklen_t size = sizeof(peer);
	struct timeval timeout = {.tv_sec = CLIENT_TIMEOUT_S};

	(void)address;
	(void)length;
	for (unsigned i = 0; i < CLIENTS_MAX && client == NULL; i++)
		if (c->clients[i].stream == NULL)
			client = &c->clients[i];
	if (client == NULL || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 ||
	    (peer.uid != geteuid() && peer.uid != 0)) {
		close(fd);
		return;
	}
	client->stream = bufferevent_socket_new(
	    evconnlistener_get_base(listener), fd, BEV_OPT_CLOSE_ON_FREE);
	if (client->stream == NULL) {
		close(fd);
		return;
	}
	client->owner = c;
	client->uid = peer.uid;
	client->pid = (uint32_t)peer.pid;
	bufferevent_setcb(client->stream, on_line, on_written, on_client_end, client);
	bufferevent_setwatermark(client->stream, EV_READ, 0, LINE_MAX_BYTES);
	bufferevent_set_timeouts(client->stream, &timeout, &timeout);
	bufferevent_enable(client->stream, EV_READ | EV_WRITE);
}

enum status control_new(struct event_base *base, const char *run_dir, control_wish *wish,
    void *context, struct control **out, struct cause *why)
{
	struct control *c = calloc(1, sizeof(*c));
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	if (c == NULL) {
		cause_set(why, CAUSE_ERRNO, ENOMEM, "control socket", run_dir);
		return STATUS_SYS;
	}
	c->wish = wish;
	c->context = context;
	/* A run directory's path may be longer than a socket's name; the way through /proc is short. */
	c->dir_fd = open(run_dir, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
	if (c->dir_fd >= 0) {
		snprintf(address.sun_path, sizeof(address.sun_path),
		    "/proc/self/fd/%d/control.sock", c->dir_fd);
		(void)unlinkat(c->dir_fd, "control.sock", 0);
		c->listener = evconnlistener_new_bind(base, on_client, c,
		    LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 8,
		    (const struct sockaddr *)&address, sizeof(address));
	}
	if (c->listener == NULL) {
		cause_set(why, CAUSE_ERRNO, errno, "control socket", run_dir);
		if (c->dir_fd >= 0)
			close(c->dir_fd);
		free(c);
		return STATUS_SYS;
	}
	if (fchmodat(c->dir_fd, "control.sock", 0600, 0) != 0) {
		cause_set(why, CAUSE_ERRNO, errno, "control socket", run_dir);
		control_free(c);
		return STATUS_SYS;
	}
	*out = c;
	return STATUS_OK;
}

void control_free(struct control *c)
{
	if (c == NULL)
		return;
	for (unsigned i = 0; i < CLIENTS_MAX; i++)
		if (c->clients[i].stream != NULL)
			client_close(&c->clients[i]);
	evconnlistener_free(c->listener);
	(void)unlinkat(c->dir_fd, "control.sock", 0);
	close(c->dir_fd);
	free(c);
}

void control_answer(struct control *c, const char *line)
{
	for (unsigned i = 0; i < CLIENTS_MAX; i++)
		if (c->clients[i].stream != NULL && c->clients[i].waiting)
			client_say(&c->clients[i], line);
}
