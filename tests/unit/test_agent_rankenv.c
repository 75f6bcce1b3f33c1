/*
 * What a rank finds in its environment, and the port that is kept for it between attempts.
 */
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "supervisor/agent/rankenv.h"
#include "trainer/channel.h"

extern char **environ;

static const struct rankenv wanted = {.rank = 3,
    .rank_count = 8,
    .attempt = 5,
    .master_port = 29501,
    .tries_max = 7,
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
	    {"TORCHELASTIC_USE_AGENT_STORE", "False"},
	    {"TORCHELASTIC_ERROR_FILE", "/run/error.json"}, {"TORCH_NCCL_ASYNC_ERROR_HANDLING", "1"},
	    {"OMP_NUM_THREADS", "1"}, {CHANNEL_ENV, "/dev/shm/a channel=1"},
	    {CHANNEL_ENV_RUN, "00112233445566778899aabbccddeeff"}};

	(void)state;
	unsetenv("OMP_NUM_THREADS");
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

static int bind_to(uint16_t port, uint32_t address, bool reuse, bool listening)
{
	struct sockaddr_in at = {
	    .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(address)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

	assert_true(fd >= 0);
	if (reuse)
		assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), 0);
	if (bind(fd, (struct sockaddr *)&at, sizeof(at)) == 0 && (!listening || listen(fd, 8) == 0))
		return fd;
	close(fd);
	return -1;
}

static uint16_t port_of(int fd)
{
	struct sockaddr_in at = {0};
	socklen_t size = sizeof(at);

	assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &size), 0);
	return ntohs(at.sin_port);
}

static void the_port_is_the_ranks(void **state)
{
	uint16_t port = 0;
	int fd = rankenv_reserve_port(&port);

	(void)state;
	assert_true(fd >= 0 && port != 0);
	assert_int_equal(bind_to(port, INADDR_LOOPBACK, false, true), -1); /* not by chance */
	/* Rank 0 of each attempt in turn, on one address or on all. */
	for (unsigned attempt = 0; attempt < 4; attempt++) {
		int rank = bind_to(port, attempt % 2 ? INADDR_ANY : INADDR_LOOPBACK, true, true);

		assert_true(rank >= 0);
		struct sockaddr_in at = {.sin_family = AF_INET,
		    .sin_port = htons(port),
		    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
		int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

		assert_int_equal(connect(client, (struct sockaddr *)&at, sizeof(at)), 0);
		int served = accept(rank, NULL, NULL);

		assert_true(served >= 0);
		close(served); /* the server closes first: its end stays in TIME_WAIT */
		close(client);
		close(rank);
	}
	close(fd);
}

/* Thousands who ask for any port do not get that one, whether they may share ports or not. */
static void nobody_gets_it_by_chance(void **state)
{
	enum { OTHERS = 4000 };
	static int others[OTHERS];
	uint16_t port = 0;
	int fd = rankenv_reserve_port(&port);
	unsigned count = 0;

	(void)state;
	assert_true(fd >= 0);
	for (; count < OTHERS; count++) {
		others[count] = bind_to(0, INADDR_LOOPBACK, count % 2 == 0, false);
		if (others[count] < 0)
			break;
		assert_int_not_equal(port_of(others[count]), port);
	}
	assert_true(count > 500);
	for (unsigned i = 0; i < count; i++)
		close(others[i]);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(every_name),
	    cmocka_unit_test(threads_are_the_users),
	    cmocka_unit_test(without_a_channel),
	    cmocka_unit_test(long_values),
	    cmocka_unit_test(the_port_is_the_ranks),
	    cmocka_unit_test(nobody_gets_it_by_chance),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
