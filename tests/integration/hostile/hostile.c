/*
 * A trainer that does what no trainer should: test_hostile.py runs it under holdfast, which must survive it (H10).
 *
 *	hostile MODE [ARGUMENT...]
 *
 *	steps N			N honest steps, for a control, and exit with 0
 *	silent			nothing at all
 *	garbage SECONDS SEED	random bytes over the whole mapping of its channel, again and again
 *	flood SECONDS		steps as fast as they can be reported
 *	shout LINE_BYTES BYTES	one line, then binary lines, on standard output and standard error
 *	mute N			N steps with standard output and standard error closed
 *	cut SIZE MS		steps, then the channel's file is truncated; alive for MS, and exit with 0
 *	unlink N		N steps, the first half before the channel's file is removed
 *	announce FILE PATH...	steps, and each path announced as a checkpoint; then steps until FILE exists
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "trainer/channel.h"
#include "trainer/holdfast.h"

#define STEPS_BEFORE 20u

/* life.py reads it there. */
static_assert(offsetof(struct channel_control, last_step) == 72, "LAST_STEP_OFFSET");

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void pause_ms(uint64_t ms)
{
	struct timespec wait = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};

	while (nanosleep(&wait, &wait) != 0 && errno == EINTR)
		;
}

static struct holdfast *join(void)
{
	struct holdfast *hf = holdfast_open();

	if (hf == NULL)
		_exit(3);
	return hf;
}

static void report(struct holdfast *hf, uint64_t step)
{
	struct holdfast_step it = {
	    .step = step, .fields = HOLDFAST_LOSS, .loss = 1.0 / (double)(step + 1)};

	holdfast_step(hf, &it);
}

/* Steps from `first` to `last`, slowly enough that no report is lost. */
static void steps(struct holdfast *hf, uint64_t first, uint64_t last)
{
	for (uint64_t step = first; step <= last; step++) {
		report(hf, step);
		pause_ms(1);
	}
}

static void garbage(uint64_t ms, uint64_t seed)
{
	int fd = open(getenv(CHANNEL_ENV), O_RDWR | O_CLOEXEC);
	uint64_t *words = fd < 0
	    ? MAP_FAILED
	    : mmap(NULL, CHANNEL_SIZE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (words == MAP_FAILED)
		_exit(3);
	for (uint64_t end = now_ms() + ms; now_ms() < end;)
		for (size_t i = 0; i < CHANNEL_SIZE_BYTES / 8; i++) {
			seed ^= seed << 13;
			seed ^= seed >> 7;
			seed ^= seed << 17;
			words[i] = seed;
		}
	_exit(0); /* nothing of the library's would survive its channel now */
}

static void flood(uint64_t ms)
{
	struct holdfast *hf = join();
	uint64_t step = 0;

	for (uint64_t end = now_ms() + ms; now_ms() < end;)
		for (unsigned i = 0; i < 1000; i++)
			report(hf, ++step);
	printf("%llu\n", (unsigned long long)step);
	holdfast_close(hf);
}

static void write_all(int fd, const char *bytes, size_t size)
{
	while (size > 0) {
		ssize_t written = write(fd, bytes, size);

		if (written <= 0)
			_exit(4);
		bytes += written;
		size -= (size_t)written;
	}
}

static void shout(size_t line_bytes, size_t bytes)
{
	char *line = malloc(line_bytes + 1);
	uint64_t noise = 88172645463325252ull;

	if (line == NULL)
		_exit(3);
	memset(line, 'x', line_bytes);
	line[line_bytes] = '\n';
	write_all(STDOUT_FILENO, line, line_bytes + 1);
	for (size_t i = 0; i < line_bytes; i++) {
		noise ^= noise << 13;
		noise ^= noise >> 7;
		noise ^= noise << 17;
		line[i] = (char)noise;
	}
	for (size_t done = line_bytes + 1; done < bytes;) {
		size_t part = bytes - done < 1u << 20 ? bytes - done : 1u << 20;

		part = part < line_bytes ? part : line_bytes;
		write_all(done % 2 ? STDERR_FILENO : STDOUT_FILENO, line, part);
		done += part;
	}
	free(line);
}

static void cut(off_t size, uint64_t ms)
{
	steps(join(), 1, STEPS_BEFORE);
	if (truncate(getenv(CHANNEL_ENV), size) != 0)
		_exit(3);
	pause_ms(ms);
	_exit(0); /* to leave in good order would be to touch what is gone */
}

static void vanish(uint64_t count)
{
	struct holdfast *hf = join();

	steps(hf, 1, count / 2);
	if (unlink(getenv(CHANNEL_ENV)) != 0)
		_exit(3);
	steps(hf, count / 2 + 1, count);
	holdfast_close(hf);
}

static void announce(const char *enough, char **paths)
{
	struct holdfast *hf = join();
	uint64_t step = 0;

	for (; *paths != NULL; paths++) {
		steps(hf, step + 1, step + 5);
		step += 5;
		while (holdfast_checkpoint_saved(hf, step, *paths, 1) == -EAGAIN)
			pause_ms(5);
	}
	for (; access(enough, F_OK) != 0; step++)
		steps(hf, step + 1, step + 1);
	holdfast_close(hf);
}

static void mute(uint64_t count)
{
	struct holdfast *hf;

	close(STDOUT_FILENO);
	close(STDERR_FILENO);
	hf = join();
	steps(hf, 1, count);
	holdfast_close(hf);
}

static void usual(uint64_t count)
{
	struct holdfast *hf = join();

	steps(hf, 1, count);
	holdfast_close(hf);
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";
	double first = argc > 2 ? strtod(argv[2], NULL) : 0;
	uint64_t second = argc > 3 ? strtoull(argv[3], NULL, 10) : 0;

	if (strcmp(mode, "steps") == 0)
		usual((uint64_t)first);
	else if (strcmp(mode, "garbage") == 0)
		garbage((uint64_t)(first * 1000), second);
	else if (strcmp(mode, "flood") == 0)
		flood((uint64_t)(first * 1000));
	else if (strcmp(mode, "shout") == 0)
		shout((size_t)first, second);
	else if (strcmp(mode, "mute") == 0)
		mute((uint64_t)first);
	else if (strcmp(mode, "cut") == 0)
		cut((off_t)first, second);
	else if (strcmp(mode, "unlink") == 0)
		vanish((uint64_t)first);
	else if (strcmp(mode, "announce") == 0 && argc > 2)
		announce(argv[2], argv + 3);
	else if (strcmp(mode, "silent") != 0)
		return 64;
	return 0;
}
