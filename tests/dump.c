/*
 * holdfast-dump: every record of a journal as a JSON line, for tests that look at all of it.
 *
 *	holdfast-dump JOURNAL [--follow]
 *
 * With --follow it goes on with what is committed later, waits for a journal that is not there yet, and ends
 * when its standard input does.  Exit status: 0; 1 with one line when the journal cannot be read.
 */
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "journal/print.h"
#include "journal/store.h"

#define POLL_MS 5

static int fail(const char *dir, const struct cause *why)
{
	fprintf(stderr, "holdfast-dump: %s: %s %s (%lld)\n", dir,
	    why->step != NULL ? why->step : "cannot be read", why->subject, (long long)why->number);
	return 1;
}

static bool print_one(const struct record *r, struct cause *why)
{
	json_t *object;

	if (print_record_json(r, PRINT_CELLS, &object, why) != STATUS_OK)
		return false;
	json_dumpf(object, stdout, JSON_COMPACT);
	putchar('\n');
	json_decref(object);
	return true;
}

/* Wait a little for more; false when nobody reads us any longer. */
static bool pause_follow(void)
{
	struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
	char byte;

	fflush(stdout);
	if (ferror(stdout))
		return false;
	return poll(&input, 1, POLL_MS) == 0 || read(STDIN_FILENO, &byte, 1) > 0;
}

int main(int argc, char **argv)
{
	bool follow = argc == 3 && strcmp(argv[2], "--follow") == 0;
	struct store_reader *reader = NULL;
	struct cause why = {0};
	enum status status;

	if (argc != 2 && !follow) {
		fprintf(stderr, "usage: holdfast-dump JOURNAL [--follow]\n");
		return 64;
	}
	while ((status = store_reader_open(argv[1], &reader, &why)) != STATUS_OK)
		if (!follow || (status != STATUS_NONE && status != STATUS_AGAIN) || !pause_follow())
			return fail(argv[1], &why);
	for (uint64_t seq = 1; status == STATUS_OK;) {
		const struct record *r;

		if (seq > store_reader_last_seq(reader)) {
			if (!follow || !pause_follow())
				break;
			status = store_reader_refresh(reader, &why);
			continue;
		}
		status = store_reader_get(reader, seq, &r, &why);
		if (status == STATUS_OK && !print_one(r, &why))
			status = STATUS_BAD;
		seq++;
	}
	store_reader_close(reader);
	return status == STATUS_OK ? 0 : fail(argv[1], &why);
}
