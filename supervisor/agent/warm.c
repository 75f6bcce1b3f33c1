/* See warm.h; warm.py is the other side of what is sent here. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <event2/event.h>

#include "supervisor/agent/warm.h"
#include "supervisor/clock.h"

#define PROBE_MAX_S 10
#define IMPORT_MAX_S 600   /* a file system far away may be slow */
#define ANSWER_MAX_MS 5000 /* of a fork */
#define GONE_LOOKS 1000u   /* at the end, of GONE_LOOK_NS each */
#define GONE_LOOK_NS 2000000
#define DEATHS_MAX 3u /* in a row, without a rank in between, until it is left */
#define REASON_MAX 256u
#define FOLDER "warm"
#define FILE_NAME                                                                                  \
	"sitecustomize.py" /* what an interpreter imports before it turns to its command */

enum warm_state {
	WARM_OFF,     /* given up */
	WARM_PROBING, /* does this command let us in? */
	WARM_IMPORTING,
	WARM_READY,
};

struct warm {
	struct warm_setup setup;
	enum warm_state state;
	bool settled; /* once true, nobody waits any more */
	int pid;      /* 0: none */
	int control_fd, out_fd;
	struct event *control, *out, *deadline;
	char **environment; /* one allocation */
	char **command;     /* borrowed words; the probe's is made of its beginning */
	size_t script;      /* as find_script() says */
	size_t head;        /* words of command that every rank's must begin with */
	unsigned deaths;
	char said[REASON_MAX]; /* the last line it wrote */
	size_t said_bytes;
	char dir[4096];
};

/* What is sent with a request; the numbers of bytes are those of the blocks in the last descriptor. */
struct request_head {
	uint32_t agent_pid;
	uint32_t tail; /* index of the script's first argument among the words */
	uint32_t argument_bytes, environment_bytes;
};

extern const char warm_program[];
extern const size_t warm_program_bytes;

/* --- what the command is -------------------------------------------------------------------------------- */

bool warm_modules_ok(const char *modules)
{
	bool begins = true; /* a name, or a part of one behind a dot */

	for (const char *at = modules; *at != '\0'; at++) {
		bool letter = isalpha((unsigned char)*at) || *at == '_' || (*at & 0x80) != 0;

		if (*at == ',' || *at == '.') {
			if (begins)
				return false;
			begins = true;
			continue;
		}
		if (!letter && (begins || !isdigit((unsigned char)*at)))
			return false;
		begins = false;
	}
	return !begins;
}

static bool is_interpreter(const char *word)
{
	const char *slash = strrchr(word, '/');
	const char *name = slash != NULL ? slash + 1 : word;

	return strncmp(name, "python", 6) == 0 && strspn(name + 6, "0123456789.t") == strlen(name + 6);
}

/*
 * Look through the interpreter's options for what it is to run.
 *
 * options_end	how many words of command are the interpreter and its options, -c and -m not among them.
 * script	index of the last word that is not the script's own: its name, or what stands behind -c or -m.
 * Returns	NULL, or why there is nothing to be run.
 */
static const char *find_script(char *const *command, size_t *options_end, size_t *script)
{
	for (size_t i = 1; command[i] != NULL; i++) {
		const char *word = command[i];

		if (word[0] != '-' || word[1] == '\0') {
			*options_end = *script = i;
			return NULL;
		}
		if (word[1] == '-') {
			if (strcmp(word, "--check-hash-based-pycs") != 0 || command[++i] == NULL)
				return "its options are not understood";
			continue;
		}
		for (const char *letter = word + 1; *letter != '\0'; letter++) {
			bool last = letter[1] == '\0';

			if (*letter == 'c' || *letter == 'm') {
				/* With other letters before it the probe could not leave it out. */
				if (letter != word + 1 || (last && command[i + 1] == NULL))
					return "its options are not understood";
				*options_end = i;
				*script = last ? i + 1 : i;
				return NULL;
			}
			if (*letter == 'W' || *letter == 'X') {
				if (last && command[++i] == NULL)
					return "its options are not understood";
				break;
			}
		}
	}
	return "it runs no script";
}

/* --- saying --------------------------------------------------------------------------------------------- */

static void say(const struct warm *w, const char *what, const char *why)
{
	fprintf(stderr, "holdfast: --warm %s: %s%s%s\n", w->setup.modules, why,
	    what[0] != '\0' ? ": " : "", what);
}

static void settle(struct warm *w)
{
	if (w->settled)
		return;
	w->settled = true;
	w->setup.settled(w->setup.context);
}

/* --- the process ---------------------------------------------------------------------------------------- */

static void disconnect(struct warm *w)
{
	struct event **events[] = {&w->control, &w->out, &w->deadline};

	for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++) {
		if (*events[i] != NULL)
			event_free(*events[i]);
		*events[i] = NULL;
	}
	if (w->control_fd >= 0)
		close(w->control_fd);
	if (w->out_fd >= 0)
		close(w->out_fd);
	w->control_fd = w->out_fd = -1;
}

static void give_up(struct warm *w, const char *why)
{
	say(w, "ranks are started cold", why);
	w->state = WARM_OFF;
	disconnect(w);
	if (w->pid != 0)
		kill(w->pid, SIGKILL);
	settle(w);
}

/* What it writes is read so that it can write; the last line may say why it ended. */
static void on_out(evutil_socket_t fd, short what, void *argument)
{
	struct warm *w = argument;
	char text[4096];
	ssize_t length = read(fd, text, sizeof(text));

	(void)what;
	if (length <= 0) {
		if (length == 0 || (errno != EAGAIN && errno != EINTR))
			event_del(w->out);
		return;
	}
	for (ssize_t i = 0; i < length; i++) {
		bool line_ends = w->said_bytes > 0 && w->said[w->said_bytes - 1] == '\n';

		if (text[i] == '\n' && (line_ends || w->said_bytes == 0))
			continue;
		if (line_ends)
			w->said_bytes = 0;
		if (w->said_bytes < REASON_MAX - 2 || text[i] == '\n')
			w->said[w->said_bytes++] = text[i];
	}
}

/* The last line, without what a terminal would obey. */
static const char *last_line(struct warm *w)
{
	size_t size = w->said_bytes;

	while (size > 0 && w->said[size - 1] == '\n')
		size--;
	w->said[size] = '\0';
	for (size_t i = 0; i < size; i++)
		if ((unsigned char)w->said[i] < ' ' || w->said[i] == 127)
			w->said[i] = '?';
	return w->said;
}

static void on_control(evutil_socket_t fd, short what, void *argument);
static bool start_interpreter(struct warm *w, bool probe);

static void on_deadline(evutil_socket_t fd, short what, void *argument)
{
	struct warm *w = argument;

	(void)fd;
	(void)what;
	give_up(w,
	    w->state == WARM_PROBING ? "the interpreter does not answer"
				     : "the modules are not imported in time");
}

static bool make_events(struct warm *w, int control_fd, int out_fd, int max_s)
{
	struct timeval wait = {.tv_sec = max_s};

	w->control_fd = control_fd;
	w->out_fd = out_fd;
	w->said_bytes = 0;
	w->control = event_new(w->setup.base, control_fd, EV_READ | EV_PERSIST, on_control, w);
	w->out = event_new(w->setup.base, out_fd, EV_READ | EV_PERSIST, on_out, w);
	w->deadline = evtimer_new(w->setup.base, on_deadline, w);
	return w->control != NULL && w->out != NULL && w->deadline != NULL &&
	    event_add(w->control, NULL) == 0 && event_add(w->out, NULL) == 0 &&
	    event_add(w->deadline, &wait) == 0;
}

/* The two lines that warm.py finds itself by, in front of the ranks' environment. */
static bool spawn(struct warm *w, const char *const *command, bool probe, int stay_fd, int out_fd)
{
	const char *before = "";
	char path[8192], *word = NULL;
	size_t count = 0;
	struct spawn_result result;

	while (w->environment[count] != NULL)
		count++;
	char **environment = malloc((count + 3) * sizeof(*environment));

	if (environment == NULL ||
	    asprintf(&word, "HOLDFAST_WARM=%d %d %s %s", stay_fd, (int)getpid(),
		probe ? "probe" : "serve", w->setup.modules) < 0) {
		free(environment);
		return false;
	}
	count = 0;
	for (size_t i = 0; w->environment[i] != NULL; i++)
		if (strncmp(w->environment[i], "PYTHONPATH=", 11) == 0)
			before = w->environment[i] + 11;
		else
			environment[count++] = w->environment[i];
	int length = snprintf(
	    path, sizeof(path), "PYTHONPATH=%s%s%s", w->dir, before[0] != '\0' ? ":" : "", before);

	environment[count++] = path;
	environment[count++] = word;
	environment[count] = NULL;
	struct spawn_request request = {.command = command,
	    .environment = environment,
	    .work_dir = w->setup.work_dir,
	    .in_fd = -1,
	    .out_fd = out_fd,
	    .err_fd = out_fd,
	    .stay_fd = stay_fd,
	    .signals = w->setup.signals,
	    .die_with_parent = true};
	bool started = length > 0 && (size_t)length < sizeof(path) &&
	    spawn_process(&request, &result) == STATUS_OK;

	free(environment);
	free(word);
	if (!started)
		return false;
	if (result.pidfd >= 0)
		close(result.pidfd);
	w->pid = result.pid;
	return true;
}

/* Options and all, but with nothing to run: whether the command lets warm.py in is found out before the user's script
 * could run where it must not. */
static const char **probe_command(const struct warm *w, size_t options_end)
{
	const char **command = calloc(options_end + 3, sizeof(*command));

	if (command == NULL)
		return NULL;
	for (size_t i = 0; i < options_end; i++)
		command[i] = w->command[i];
	command[options_end] = "-c";
	command[options_end + 1] = "pass";
	return command;
}

/* A pair of sockets, ours not blocking, the other above the standard descriptors. */
static bool make_pair(int ends[2])
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		return false;
	ends[0] = pair[0];
	ends[1] = fcntl(pair[1], F_DUPFD_CLOEXEC, 3);
	close(pair[1]);
	if (ends[1] >= 0 && fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0)
		return true;
	close(ends[0]);
	if (ends[1] >= 0)
		close(ends[1]);
	return false;
}

static bool start_interpreter(struct warm *w, bool probe)
{
	size_t options_end, script;
	int ends[2], out[2];

	if (find_script(w->command, &options_end, &script) != NULL || !make_pair(ends))
		return false;
	if (pipe2(out, O_CLOEXEC) != 0) {
		close(ends[0]);
		close(ends[1]);
		return false;
	}
	(void)fcntl(out[0], F_SETFL, O_NONBLOCK);
	const char **probing = probe ? probe_command(w, options_end) : NULL;
	bool started = (!probe || probing != NULL) &&
	    spawn(w, probe ? probing : (const char *const *)w->command, probe, ends[1], out[1]);

	free(probing);
	close(ends[1]);
	close(out[1]);
	w->state = probe ? WARM_PROBING : WARM_IMPORTING;
	if (started && make_events(w, ends[0], out[0], probe ? PROBE_MAX_S : IMPORT_MAX_S))
		return true;
	if (w->control_fd < 0) {
		close(ends[0]);
		close(out[0]);
	}
	disconnect(w);
	return false;
}

static void on_control(evutil_socket_t fd, short what, void *argument)
{
	struct warm *w = argument;
	char text[REASON_MAX];
	ssize_t length = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT);

	(void)what;
	if (length <= 0) {
		/* Its end is told by its parent's wait. */
		if (length == 0 || (errno != EAGAIN && errno != EINTR))
			event_del(w->control);
		return;
	}
	text[length] = '\0';
	for (ssize_t i = 0; i < length; i++)
		if ((unsigned char)text[i] < ' ' || text[i] == 127)
			text[i] = ' ';
	if (text[0] == 'U') {
		give_up(w, text + 1);
	} else if (text[0] == 'R' && w->state == WARM_IMPORTING) {
		w->state = WARM_READY;
		event_del(w->deadline);
		settle(w);
	} else if (text[0] == 'P' && w->state == WARM_PROBING) {
		/* The interpreter itself is started when this one has ended. */
		w->state = WARM_IMPORTING;
	} else {
		give_up(w, "the interpreter talks nonsense");
	}
}

bool warm_child(struct warm *w, int pid, int wait_status)
{
	char how[64];

	if (w == NULL || pid != w->pid || WIFSTOPPED(wait_status) || WIFCONTINUED(wait_status))
		return false;
	w->pid = 0;
	/* What it said last may not have been looked at. */
	if (w->state != WARM_OFF && w->control_fd >= 0)
		on_control(w->control_fd, EV_READ, w);
	if (w->state != WARM_OFF && w->out_fd >= 0)
		on_out(w->out_fd, EV_READ, w);
	bool probed = w->state == WARM_IMPORTING && WIFEXITED(wait_status) &&
	    WEXITSTATUS(wait_status) == 0 && w->head == 0;

	if (w->state == WARM_OFF)
		return true;
	disconnect(w);
	if (probed) {
		w->head = w->script + 1;
		if (!start_interpreter(w, false))
			give_up(w, "the interpreter cannot be started");
		return true;
	}
	if (w->state == WARM_PROBING) {
		give_up(
		    w, "the interpreter leaves PYTHONPATH alone, or is none (-E, -I and -S have that effect)");
		return true;
	}
	if (WIFSIGNALED(wait_status))
		snprintf(how, sizeof(how), "the interpreter was ended by signal %d",
		    WTERMSIG(wait_status));
	else
		snprintf(how, sizeof(how), "the interpreter ended with status %d",
		    WEXITSTATUS(wait_status));
	if (++w->deaths >= DEATHS_MAX || !start_interpreter(w, false)) {
		if (w->said_bytes > 0)
			say(w, last_line(w), "the last that it said");
		give_up(w, how);
		return true;
	}
	say(w, "starting another; ranks are started cold until it is ready", how);
	return true;
}

/* --- a rank --------------------------------------------------------------------------------------------- */

static size_t block_bytes(const char *const *words)
{
	size_t bytes = 0;

	for (; *words != NULL; words++)
		bytes += strlen(*words) + 1;
	return bytes;
}

/* Words and environment, one behind the other, in memory of their own; -1: cannot be had. */
static int write_blocks(const struct spawn_request *q, struct request_head *head)
{
	const char *const *lists[] = {q->command, (const char *const *)q->environment};
	size_t bytes[] = {block_bytes(lists[0]), block_bytes(lists[1])};
	char *block = malloc(bytes[0] + bytes[1] + 1), *at = block;
	int fd = memfd_create("holdfast-start", MFD_CLOEXEC);

	for (size_t i = 0; block != NULL && i < 2; i++)
		for (const char *const *word = lists[i]; *word != NULL; word++) {
			size_t size = strlen(*word) + 1;

			memcpy(at, *word, size);
			at += size;
		}
	bool written = block != NULL && fd >= 0 &&
	    write(fd, block, bytes[0] + bytes[1]) == (ssize_t)(bytes[0] + bytes[1]);

	free(block);
	if (!written && fd >= 0)
		close(fd);
	head->argument_bytes = (uint32_t)bytes[0];
	head->environment_bytes = (uint32_t)bytes[1];
	return written ? fd : -1;
}

static bool send_request(const struct warm *w, const struct spawn_request *q, int channel)
{
	struct request_head head = {.agent_pid = (uint32_t)getpid(), .tail = (uint32_t)w->head};
	int fds[4] = {channel, q->out_fd, q->err_fd, write_blocks(q, &head)};
	union {
		char bytes[CMSG_SPACE(sizeof(fds))];
		struct cmsghdr align;
	} room = {.bytes = {0}};
	struct iovec part = {.iov_base = &head, .iov_len = sizeof(head)};
	struct msghdr message = {.msg_iov = &part,
	    .msg_iovlen = 1,
	    .msg_control = room.bytes,
	    .msg_controllen = sizeof(room.bytes)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&message);

	if (fds[3] < 0)
		return false;
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(fds));
	memcpy(CMSG_DATA(c), fds, sizeof(fds));
	ssize_t sent = sendmsg(w->control_fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);

	close(fds[3]);
	return sent == (ssize_t)sizeof(head);
}

/* The new process's pid, as the kernel tells it to us, whatever it may think that it is called; 0: none, errno says. */
static int receive_answer(int channel)
{
	struct pollfd ready = {.fd = channel, .events = POLLIN};
	unsigned char error = 0;
	struct ucred sender = {.pid = 0};
	union {
		char bytes[CMSG_SPACE(sizeof(sender))];
		struct cmsghdr align;
	} room;
	struct iovec part = {.iov_base = &error, .iov_len = 1};
	struct msghdr message = {.msg_iov = &part,
	    .msg_iovlen = 1,
	    .msg_control = room.bytes,
	    .msg_controllen = sizeof(room.bytes)};
	int polled;
	uint64_t end = clock_monotonic_ns() + ANSWER_MAX_MS * 1000000ull;

	do
		polled = poll(&ready, 1, (int)((end - clock_monotonic_ns()) / 1000000));
	while (polled < 0 && errno == EINTR && clock_monotonic_ns() < end);
	if (polled == 0)
		errno = ETIMEDOUT;
	if (polled <= 0)
		return 0;
	if (recvmsg(channel, &message, MSG_CMSG_CLOEXEC) != 1) {
		errno = EPIPE;
		return 0;
	}
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c != NULL; c = CMSG_NXTHDR(&message, c))
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS &&
		    c->cmsg_len >= CMSG_LEN(sizeof(sender)))
			memcpy(&sender, CMSG_DATA(c), sizeof(sender));
	errno = error != 0 ? error : EPROTO;
	return error == 0 ? sender.pid : 0;
}

/* Only our own child can be waited for, which is what makes it a rank. */
static bool is_child(int pid)
{
	siginfo_t info;

	return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

static bool fork_rank(struct warm *w, const struct spawn_request *q, struct spawn_result *result)
{
	int ends[2], on = 1, pid = 0;
	char go = 1;

	if (!make_pair(ends))
		return false;
	bool sent = setsockopt(ends[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) == 0 &&
	    send_request(w, q, ends[1]);

	close(ends[1]);
	if (sent)
		pid = receive_answer(ends[0]);
	bool whole = pid > 0 && is_child(pid);

	if (whole) {
		memset(result, 0, sizeof(*result));
		result->pid = pid;
		result->process_start = spawn_process_start(pid);
		result->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
		whole = send(ends[0], &go, 1, MSG_NOSIGNAL) == 1;
		if (!whole && result->pidfd >= 0)
			close(result->pidfd);
	}
	/* A process that has not heard the word by now never runs: it ends when it finds this closed. */
	close(ends[0]);
	return whole;
}

/* Whether what is asked for differs from what the interpreter was started with behind the script only. */
static bool fits(const struct warm *w, const struct spawn_request *q)
{
	for (size_t i = 0; i < w->head; i++)
		if (q->command[i] == NULL || strcmp(q->command[i], w->command[i]) != 0)
			return false;
	return q->in_fd < 0 && q->keep_count == 0;
}

enum status warm_process(
    struct warm *w, const struct spawn_request *q, struct spawn_result *result, bool *warm_out)
{
	*warm_out = false;
	if (w == NULL || w->state != WARM_READY || !fits(w, q))
		return spawn_process(q, result);
	if (fork_rank(w, q, result)) {
		w->deaths = 0;
		*warm_out = true;
		return STATUS_OK;
	}
	/* It is replaced when it is reaped. */
	w->state = WARM_IMPORTING;
	if (w->pid != 0)
		kill(w->pid, SIGKILL);
	say(w, "ranks are started cold", "the interpreter does not make a rank");
	return spawn_process(q, result);
}

/* --- life ----------------------------------------------------------------------------------------------- */

bool warm_settled(const struct warm *w)
{
	return w == NULL || w->settled;
}

size_t warm_pids(const struct warm *w, int pids[], size_t max)
{
	if (w == NULL || w->pid == 0 || max == 0)
		return 0;
	pids[0] = w->pid;
	return 1;
}

/* What belongs to one rank or attempt: modules that looked at it would be wrong in all others. */
static bool is_particular(const char *line)
{
	static const char *const names[] = {
	    "RANK=", "LOCAL_RANK=", "ROLE_RANK=", "TORCHELASTIC_RESTART_COUNT="};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strncmp(line, names[i], strlen(names[i])) == 0)
			return true;
	return false;
}

static char **copy_environment(char *const *from)
{
	size_t count = 0, bytes = 0;

	for (; from[count] != NULL; count++)
		bytes += strlen(from[count]) + 1;
	char **copy = malloc((count + 1) * sizeof(*copy) + bytes);
	char *at = (char *)(copy + count + 1);
	size_t kept = 0;

	if (copy == NULL)
		return NULL;
	for (size_t i = 0; i < count; i++) {
		size_t size = strlen(from[i]) + 1;

		if (is_particular(from[i]))
			continue;
		copy[kept++] = memcpy(at, from[i], size);
		at += size;
	}
	copy[kept] = NULL;
	return copy;
}

static bool write_program(const struct warm *w)
{
	char path[4096 + 64], part[4096 + 72];

	snprintf(path, sizeof(path), "%s/" FILE_NAME, w->dir);
	snprintf(part, sizeof(part), "%s.part", path);
	if (mkdir(w->dir, 0700) != 0 && errno != EEXIST)
		return false;
	int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0)
		return false;
	bool written = write(fd, warm_program, warm_program_bytes) == (ssize_t)warm_program_bytes;

	return close(fd) == 0 && written && rename(part, path) == 0;
}

/* NULL, or why there will be no warm interpreter. */
static const char *begin(struct warm *w)
{
	size_t options_end;
	const char *why;

	if (!is_interpreter(w->command[0]))
		return "the command is no Python interpreter";
	why = find_script(w->command, &options_end, &w->script);
	if (why != NULL)
		return why;
	/* The interpreter would take it for the end of the name. */
	if (strchr(w->dir, ':') != NULL)
		return "the run's directory has a colon in its name";
	if (!write_program(w))
		return "the run's directory cannot be written to";
	return start_interpreter(w, true) ? NULL : "the interpreter cannot be started";
}

struct warm *warm_new(const struct warm_setup *setup)
{
	struct warm *w = calloc(1, sizeof(*w));
	int length;

	if (w == NULL)
		return NULL;
	w->setup = *setup;
	w->command = (char **)setup->command;
	w->control_fd = w->out_fd = -1;
	w->environment = copy_environment(setup->environment);
	length = snprintf(w->dir, sizeof(w->dir), "%s/" FOLDER, setup->run_dir);
	if (w->environment == NULL || length < 0 || (size_t)length >= sizeof(w->dir)) {
		free(w->environment);
		free(w);
		return NULL;
	}
	const char *why = begin(w);

	if (why != NULL) {
		say(w, "ranks are started cold", why);
		w->state = WARM_OFF;
		w->settled = true;
	}
	return w;
}

void warm_free(struct warm *w)
{
	const struct timespec pause = {.tv_nsec = GONE_LOOK_NS};

	if (w == NULL)
		return;
	disconnect(w);
	if (w->pid != 0) {
		kill(w->pid, SIGKILL);
		for (unsigned i = 0; i < GONE_LOOKS && waitpid(w->pid, NULL, WNOHANG) == 0; i++)
			nanosleep(&pause, NULL);
	}
	free(w->environment);
	free(w);
}
