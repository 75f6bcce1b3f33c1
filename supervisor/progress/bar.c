/* See bar.h. */
#include <string.h>
#include <strings.h>

#include "supervisor/progress/bar.h"
#include "supervisor/progress/scan.h"

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Whether the first `length` bytes of text hold the word, in any case. */
static bool holds(const char *text, size_t length, const char *word)
{
	size_t size = strlen(word);

	for (size_t i = 0; i + size <= length; i++)
		if (strncasecmp(text + i, word, size) == 0)
			return true;
	return false;
}

/* "Epoch 3", "epoch: 3", "Epoch 4/10": the last is counted from 1. */
static void read_epoch(const char *text, struct bar *b)
{
	for (size_t i = 0; i + 5 <= b->name_bytes; i++) {
		const char *at = text + i + 5;
		uint64_t total;

		if (strncasecmp(text + i, "epoch", 5) != 0)
			continue;
		at += strspn(at, " :=[#");
		at = scan_count(at, &b->epoch);
		if (at == NULL || at > text + b->name_bytes)
			continue;
		b->has_epoch = true;
		if (*at == '/' && scan_count(at + 1, &total) != NULL && b->epoch > 0)
			b->epoch--;
		return;
	}
}

static void read_name(const char *text, struct bar *b)
{
	static const char *const evaluations[] = {"valid", "eval", "sanity", "test", "predict", NULL};
	static const char *const trainings[] = {"epoch", "train", "step", "iter", NULL};
	size_t length = b->name_bytes;

	while (length > 0 && strchr(" :\t", text[length - 1]) != NULL)
		length--;
	b->named = length > 0;
	for (size_t i = 0; evaluations[i] != NULL; i++)
		b->evaluating = b->evaluating || holds(text, length, evaluations[i]);
	for (size_t i = 0; trainings[i] != NULL && !b->evaluating; i++)
		b->training = b->training || holds(text, length, trainings[i]);
	read_epoch(text, b);
}

/* "[00:01<00:10, 10.9it/s, loss=0.53]": false when it counts bytes. */
static bool read_rate(const char *at, struct bar *b)
{
	const char *rate = strchr(at, ',');
	size_t length;

	b->postfix = "";
	if (at[0] != '[')
		return false;
	if (rate == NULL)
		return true;
	length = strcspn(rate + 1, ",]") + 1;
	if (rate[length] == ',')
		b->postfix = rate + length + 1;
	return !holds(rate, length, "B/s");
}

/* " 10%|███   | 12/120 [": at is behind the percent sign. */
static bool read_drawn(const char *text, const char *at, struct bar *b)
{
	const char *from = at - 1;

	while (from > text && is_digit(from[-1]))
		from--;
	b->name_bytes = (size_t)(from - text);
	at = strchr(at + 1, '|');
	if (at == NULL)
		return false;
	at++;
	at = scan_count(at + strspn(at, " "), &b->count);
	if (at == NULL || *at != '/')
		return false;
	at = scan_count(at + 1, &b->total);
	return at != NULL && b->total > 0 && *at == ' ' && read_rate(at + 1, b);
}

/* "12it [": at is at the i. */
static bool read_undrawn(const char *text, const char *at, struct bar *b)
{
	const char *from = at;

	while (from > text && is_digit(from[-1]))
		from--;
	b->name_bytes = (size_t)(from - text);
	/* More digits than a count has, or none, are no count. */
	if (from == at || scan_count(from, &b->count) != at)
		return false;
	return (from == text || from[-1] == ' ') && read_rate(at + 3, b);
}

bool bar_parse(const char *text, struct bar *out)
{
	const char *percent = strstr(text, "%|"), *undrawn = NULL;

	memset(out, 0, sizeof(*out));
	if (percent != NULL && percent > text && is_digit(percent[-1])) {
		if (!read_drawn(text, percent + 1, out))
			return false;
	} else {
		undrawn = strstr(text, "it [");
		if (undrawn == NULL || !read_undrawn(text, undrawn, out))
			return false;
	}
	read_name(text, out);
	return true;
}
