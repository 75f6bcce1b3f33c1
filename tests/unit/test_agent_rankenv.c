/*
 * What a rank finds in its environment, and the port that is kept for it between attempts.
 */
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "supervisor/agent/rankenv.h"
#include "trainer/channel.h"

extern char **environ;

static const struct rankenv wanted = {.rank = 3,
    .rank_count = 8,
    .attempt = 5,
    .tries_max = 7,
    .names = {.master_port = 29501},
    .run_id_hex = "00112233445566778899aabbccddeeff",
    .channel_path = "/dev/shm/a channel=1",
    .error_file = "/run/error.json"};

/* The value of `name`, which must stand there once; NULL when it does not. */
static const char *value_of(char *const *list, const char *name)
{
	const char *value = NULL;
	size_t length = strlen(name);

	for (; *list != NULL; list++)
		if (strncmp(*list, name, length) == 0 && (*list)[length] == '=') {
			if (value != NULL)
				fail_msg("%s stands there twice", name);
			value = *list + length + 1;
		}
	return value;
}

static void expect(char *const *list, const char *name, const char *expected)
{
	const char *value = value_of(list, name);

	if (value == NULL || strcmp(value, expected) != 0)
		fail_msg("%s is '%s', not '%s'", name, value != NULL ? value : "(unset)", expected);
}

static void every_name(void **state)
{
	static const char *const names[][2] = {{"RANK", "3"}, {"LOCAL_RANK", "3"},
	    {"WORLD_SIZE", "8"}, {"LOCAL_WORLD_SIZE", "8"}, {"GROUP_RANK", "0"},
	    {"GROUP_WORLD_SIZE", "1"}, {"ROLE_RANK", "3"}, {"ROLE_NAME", "default"},
	    {"ROLE_WORLD_SIZE", "8"}, {"MASTER_ADDR", "127.0.0.1"}, {"MASTER_PORT", "29501"},
	    {"TORCHELASTIC_RESTART_COUNT", "4"}, {"TORCHELASTIC_MAX_RESTARTS", "7"},
	    {"TORCHELASTIC_RUN_ID", "00112233445566778899aabbccddeeff"},
	    {"TORCHELASTIC_USE_AGENT_STORE", "False"}, {"TORCHELASTIC_ERROR_FILE", "/run/error.json"},
	    {"TORCH_NCCL_ASYNC_ERROR_HANDLING", "1"}, {"OMP_NUM_THREADS", "1"},
	    {"PYTHONUNBUFFERED", "1"}, {CHANNEL_ENV, "/dev/shm/a channel=1"},
	    {CHANNEL_ENV_RUN, "00112233445566778899aabbccddeeff"}};

	(void)state;
	unsetenv("OMP_NUM_THREADS");
	unsetenv("PYTHONUNBUFFERED");
	/* What the shell says of these is replaced; what it says of others stays as it is. */
	setenv("RANK", "77", 1);
	setenv("MASTER_PORT", "1", 1);
	setenv(CHANNEL_ENV, "/another/run", 1);
	setenv("RANKED", "yes", 1);
	setenv("EMPTY", "", 1);
	setenv("EQUAL", "a=b=c", 1);
	char **list = rankenv_make(&wanted);

	assert_non_null(list);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		expect(list, names[i][0], names[i][1]);
	expect(list, "RANKED", "yes");
	expect(list, "EMPTY", "");
	expect(list, "EQUAL", "a=b=c");
	expect(list, "PATH", getenv("PATH"));
	/* Nothing else was added, nothing lost. */
	for (char *const *at = list; *at != NULL; at++) {
		char name[256];

		snprintf(name, sizeof(name), "%.*s", (int)strcspn(*at, "="), *at);
		bool ours = getenv(name) != NULL;

		for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
			ours = ours || strcmp(name, names[i][0]) == 0;
		if (!ours)
			fail_msg("%s was added", name);
	}
	for (char *const *at = environ; *at != NULL; at++) {
		char name[256];

		snprintf(name, sizeof(name), "%.*s", (int)strcspn(*at, "="), *at);
		assert_non_null(value_of(list, name));
	}
	free(list);
	unsetenv(CHANNEL_ENV);
}

static void names_that_were_asked_for(void **state)
{
	struct rankenv named = wanted;

	(void)state;
	named.names = (struct rankenv_names){
	    .master_addr = "node-7", .role = "trainer", .run_name = "job 5", .master_port = 1};
	char **list = rankenv_make(&named);

	expect(list, "MASTER_ADDR", "node-7");
	expect(list, "MASTER_PORT", "1");
	expect(list, "ROLE_NAME", "trainer");
	expect(list, "TORCHELASTIC_RUN_ID", "job 5");
	expect(list, CHANNEL_ENV_RUN, wanted.run_id_hex);
	free(list);
}

/* Buffered output is what somebody may have asked for; an empty value means it to Python, too. */
static void buffering_is_the_users(void **state)
{
	(void)state;
	setenv("PYTHONUNBUFFERED", "", 1);
	char **list = rankenv_make(&wanted);

	expect(list, "PYTHONUNBUFFERED", "");
	free(list);
	unsetenv("PYTHONUNBUFFERED");
}

static void threads_are_the_users(void **state)
{
	struct rankenv one = wanted;

	(void)state;
	setenv("OMP_NUM_THREADS", "6", 1);
	char **list = rankenv_make(&wanted);

	expect(list, "OMP_NUM_THREADS", "6");
	free(list);
	unsetenv("OMP_NUM_THREADS");
	one.rank_count = 1;
	list = rankenv_make(&one);
	assert_null(value_of(list, "OMP_NUM_THREADS"));
	free(list);
}

static void without_a_channel(void **state)
{
	struct rankenv none = wanted;

	(void)state;
	none.channel_path = none.error_file = NULL;
	char **list = rankenv_make(&none);

	assert_null(value_of(list, CHANNEL_ENV));
	assert_null(value_of(list, "TORCHELASTIC_ERROR_FILE"));
	free(list);
}

static void long_values(void **state)
{
	struct rankenv odd = wanted;
	char path[4096], *huge = malloc(100000);

	(void)state;
	memset(path, 'p', sizeof(path));
	path[sizeof(path) - 1] = '\0';
	memset(huge, 'h', 100000);
	huge[99999] = '\0';
	odd.error_file = path;
	setenv("HUGE_VALUE", huge, 1);
	char **list = rankenv_make(&odd);

	expect(list, "TORCHELASTIC_ERROR_FILE", path);
	expect(list, "HUGE_VALUE", huge);
	free(list);
	unsetenv("HUGE_VALUE");
	free(huge);
}

/* --- the port -------------------------------------------------------------------------------------------- */

union address {
	struct sockaddr any;
	struct sockaddr_in four;
	struct sockaddr_in6 six;
};

enum { WILD6 = -1 }; /* every address, both families, as torch listens */

static socklen_t address_fill(union address *at, int64_t where, uint16_t port)
{
	memset(at, 0, sizeof(*at));
	if (where == WILD6) {
		at->six = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(port)};
		return sizeof(at->six);
	}
	at->four = (struct sockaddr_in){
	    .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl((uint32_t)where)};
	return sizeof(at->four);
}

/* A socket bound there, or -1 with errno. */
static int bind_to(uint16_t port, int64_t where, bool reuse, bool listening)
{
	union address at;
	socklen_t size = address_fill(&at, where, port);
	int fd = socket(at.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1, error;

	if (fd < 0)
		return -1;
	if (reuse)
		assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), 0);
	if (bind(fd, &at.any, size) == 0 && (!listening || listen(fd, 8) == 0))
		return fd;
	error = errno;
	close(fd);
	errno = error;
	return -1;
}

static int connect_to(uint16_t port)
{
	union address at;
	socklen_t size = address_fill(&at, INADDR_LOOPBACK, port);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd >= 0 && connect(fd, &at.any, size) == 0)
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

static uint16_t port_of(int fd)
{
	union address at = {0};
	socklen_t size = sizeof(at);

	assert_int_equal(getsockname(fd, &at.any, &size), 0);
	return ntohs(at.four.sin_port);
}

/* Rank 0 of one attempt: listens, talks to a peer, and ends first, so that its end stays in TIME_WAIT. */
static void one_attempt(uint16_t port, int64_t where)
{
	int rank = bind_to(port, where, true, true);

	if (rank < 0)
		fail_msg("rank 0 cannot listen on port %u: %s", port, strerror(errno));
	int client = connect_to(port);
	int served = accept(rank, NULL, NULL);

	assert_true(client >= 0 && served >= 0);
	close(served);
	close(client);
	close(rank);
}

static void the_port_is_the_ranks(void **state)
{
	static const int64_t places[] = {INADDR_LOOPBACK, INADDR_ANY, WILD6};
	uint16_t port = 0;
	int fd = rankenv_reserve_port(&port);

	(void)state;
	assert_true(fd >= 0 && port != 0);
	assert_int_equal(bind_to(port, INADDR_LOOPBACK, false, true), -1); /* not by chance */
	for (unsigned attempt = 0; attempt < 20; attempt++) {
		int64_t where = places[attempt % 3];
		int six = where == WILD6 ? socket(AF_INET6, SOCK_STREAM, 0) : -1;

		one_attempt(port, where == WILD6 && six < 0 ? INADDR_ANY : where);
		if (six >= 0)
			close(six);
	}
	close(fd);
}

static void a_port_that_was_asked_for(void **state)
{
	uint16_t port = 0, again;
	int fd = rankenv_reserve_port(&port);

	(void)state;
	assert_true(fd >= 0);
	close(fd);
	again = port;
	fd = rankenv_reserve_port(&again);
	assert_true(fd >= 0);
	assert_int_equal(again, port);
	close(fd);
	/* Where somebody listens, rank 0 could not. */
	int other = bind_to(port, INADDR_ANY, true, true);

	assert_true(other >= 0);
	again = port;
	errno = 0;
	assert_int_equal(rankenv_reserve_port(&again), -1);
	assert_int_equal(errno, EADDRINUSE);
	assert_int_equal(again, port);
	close(other);
}

/* --- a network of our own, with few ports ----------------------------------------------------------------- */

#define FEW_FIRST 40000u
#define FEW 16u
#define SERVER_PORT 50000u
#define TRIES 4000u

static bool write_text(const char *path, const char *text)
{
	FILE *f = fopen(path, "we");
	bool written = f != NULL && fputs(text, f) >= 0;

	return f != NULL && fclose(f) == 0 && written;
}

/* False where the machine does not let us. */
static bool own_network(void)
{
	struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
	char range[32];
	int fd;

	if (unshare(geteuid() == 0 ? CLONE_NEWNET : CLONE_NEWUSER | CLONE_NEWNET) != 0)
		return false;
	snprintf(range, sizeof(range), "%u %u\n", FEW_FIRST, FEW_FIRST + FEW - 1);
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool up = fd >= 0 && ioctl(fd, SIOCSIFFLAGS, &request) == 0;

	close(fd);
	return up && write_text("/proc/sys/net/ipv4/ip_local_port_range", range);
}

/* Ask for any port as often as there are some, in every manner; returns how often it was `port`. */
static unsigned binds_that_got(uint16_t port, unsigned *bound)
{
	static const int64_t places[] = {INADDR_LOOPBACK, INADDR_ANY, INADDR_LOOPBACK + 1, WILD6};
	unsigned hits = 0;

	*bound = 0;
	for (unsigned manner = 0; manner < 8; manner++) {
		int held[FEW * 2];
		unsigned count = 0;

		for (; count < FEW * 2; count++) {
			held[count] = bind_to(0, places[manner / 2], manner % 2 == 0, manner % 4 == 3);
			if (held[count] < 0)
				break;
			hits += port_of(held[count]) == port;
		}
		*bound += count;
		while (count > 0)
			close(held[--count]);
	}
	return hits;
}

/* Connections that go out, as many at once as there are ports; returns how many were from `port`. */
static unsigned connects_that_got(uint16_t port, unsigned *connected)
{
	int server = bind_to(SERVER_PORT, INADDR_LOOPBACK, true, true), clients[FEW * 2];
	struct linger at_once = {.l_onoff = 1}; /* no TIME_WAIT: there are few ports */
	unsigned hits = 0;

	*connected = 0;
	for (unsigned round = 0; round < 50 && server >= 0; round++) {
		unsigned count = 0;

		for (; count < FEW * 2 && (clients[count] = connect_to(SERVER_PORT)) >= 0; count++) {
			hits += port_of(clients[count]) == port;
			close(accept(server, NULL, NULL));
		}
		*connected += count;
		while (count > 0) {
			setsockopt(clients[--count], SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
			close(clients[count]);
		}
	}
	close(server);
	return hits;
}

/* Clients of a server that is not there yet: one that is given the same port connects to itself. */
static unsigned connects_to_itself(uint16_t port)
{
	unsigned hits = 0;

	for (unsigned i = 0; i < TRIES; i++) {
		int client = connect_to(port);

		hits += client >= 0;
		if (client >= 0)
			close(client);
	}
	return hits;
}

static void greedy_neighbours(void)
{
	uint16_t port = 0;
	unsigned bound, connected, hits;
	int fd = rankenv_reserve_port(&port);

	if (fd < 0 || port < FEW_FIRST || port >= FEW_FIRST + FEW)
		fail_msg("reserved port %u is none of the few", port);
	hits = binds_that_got(port, &bound);
	hits += connects_that_got(port, &connected);
	hits += connects_to_itself(port);
	if (hits != 0 || bound < 4 * (FEW - 1) || connected < FEW)
		fail_msg("%u of %u binds and %u connections got the port", hits, bound, connected);
	/* The control: without the reservation, they get it. */
	close(fd);
	bound = binds_that_got(port, &bound);
	connected = connects_that_got(port, &connected);
	if (bound == 0 || connected == 0)
		fail_msg("%u binds and %u connections got a port that was free; nothing was shown",
		    bound, connected);
}

static void nobody_gets_it_by_chance(void **state)
{
	int wait_status;
	pid_t pid = fork();

	(void)state;
	assert_true(pid >= 0);
	if (pid == 0) {
		if (!own_network())
			_exit(77);
		greedy_neighbours();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &wait_status, 0), pid);
	if (WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 77) {
		print_message("no network of our own can be had here\n");
		skip();
	}
	assert_int_equal(wait_status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(every_name),
	    cmocka_unit_test(names_that_were_asked_for),
	    cmocka_unit_test(threads_are_the_users),
	    cmocka_unit_test(buffering_is_the_users),
	    cmocka_unit_test(without_a_channel),
	    cmocka_unit_test(long_values),
	    cmocka_unit_test(the_port_is_the_ranks),
	    cmocka_unit_test(a_port_that_was_asked_for),
	    cmocka_unit_test(nobody_gets_it_by_chance),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
