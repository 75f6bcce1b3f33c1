/* See scan.h. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "supervisor/progress/scan.h"

#define WORDS_MAX 6u /* of a name; a longer one means nothing */
#define WORD_MAX 16u
#define COUNT_MAX 1000000000000000000ull

/* The words of a name, in lower case.  The first `apart` of them stand apart: "lm loss", not "lm_loss". */
struct name {
	char words[WORDS_MAX][WORD_MAX];
	size_t count, apart;
	bool milliseconds; /* "(ms)" stands behind it */
	bool equals;
};

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static char to_lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool joins(char c)
{
	return c == '_' || c == '/' || c == '.' || c == '-';
}

static bool is_of_name(char c)
{
	return is_letter(c) || is_digit(c) || joins(c);
}

/* --- numbers ------------------------------------------------------------------------------------------- */

const char *scan_count(const char *text, uint64_t *count_out)
{
	const char *at = text;
	uint64_t count = 0;

	while (is_digit(*at) ||
	    (*at == ',' && at - text <= 3 + (at - text) / 4 && at > text && is_digit(at[1]) &&
		is_digit(at[2]) && is_digit(at[3]) && !is_digit(at[4]))) {
		if (*at != ',')
			count = count * 10 + (uint64_t)(*at - '0');
		if (count > COUNT_MAX)
			return NULL;
		at++;
	}
	if (at == text)
		return NULL;
	*count_out = count;
	return at;
}

/* The length of nan, inf or infinity at text, when nothing else goes on behind it; or 0. */
static size_t word_number(const char *text)
{
	size_t length = strncasecmp(text, "nan", 3) == 0 ? 3 : 0;

	if (strncasecmp(text, "inf", 3) == 0)
		length = strncasecmp(text, "infinity", 8) == 0 ? 8 : 3;
	return length > 0 && !is_letter(text[length]) && !is_digit(text[length]) && text[length] != '_'
	    ? length
	    : 0;
}

/* Whether a number begins at text; what stands before it is not looked at. */
static bool begins_number(const char *text)
{
	if (*text == '-' || *text == '+')
		text++;
	return is_digit(*text) || (*text == '.' && is_digit(text[1])) || word_number(text) > 0;
}

const char *scan_number(const char *text, double *number_out)
{
	char *end;

	if (!begins_number(text))
		return NULL;
	*number_out = strtod(text, &end);
	return end > text ? end : NULL;
}

/* --- names --------------------------------------------------------------------------------------------- */

static bool is_word(const struct name *n, size_t index, const char *const list[])
{
	for (size_t i = 0; list[i] != NULL; i++)
		if (strcmp(n->words[index], list[i]) == 0)
			return true;
	return false;
}

static bool any_word(const struct name *n, const char *const list[])
{
	for (size_t i = 0; i < n->count; i++)
		if (is_word(n, i, list))
			return true;
	return false;
}

/* Whether every word but the last `but`, and those that stand apart, are of the list. */
static bool only_words(const struct name *n, size_t but, const char *const list[])
{
	for (size_t i = n->apart; i + but < n->count; i++)
		if (!is_word(n, i, list))
			return false;
	return true;
}

static const char *const not_training[] = {
    "val", "valid", "validation", "eval", "evaluation", "test", "dev", NULL};
static const char *const training[] = {
    "train", "training", "trainer", "global", "current", "optimizer", "num", NULL};
static const char *const losses[] = {"train", "training", "lm", "total", "mean", "avg", "average",
    "ce", "cross", "entropy", "batch", "step", "loss", NULL};
/* A number that was, or is to be compared with. */
static const char *const other[] = {"best", "min", "lowest", "max", "prev", "previous", "last",
    "aux", "every", "warmup", "per", "save", "saved", "from", "until", NULL};
static const char *const steps[] = {
    "step", "steps", "iter", "iteration", "it", "update", "updates", NULL};

static bool ends_with(const struct name *n, const char *before, const char *last)
{
	return n->count >= 2 && strcmp(n->words[n->count - 1], last) == 0 &&
	    strcmp(n->words[n->count - 2], before) == 0;
}

static enum scan_key key_of_loss(const struct name *n)
{
	if (any_word(n, not_training))
		return SCAN_VALIDATION;
	return any_word(n, other) || !only_words(n, 0, losses) ? SCAN_NONE : SCAN_LOSS;
}

/* "total steps" */
static bool is_all_of_them(const struct name *n)
{
	return n->apart > 0 && strcmp(n->words[n->apart - 1], "total") == 0;
}

static enum scan_key key_of(const struct name *n)
{
	const char *last;

	if (n->count == 0)
		return SCAN_NONE;
	last = n->words[n->count - 1];
	if (strcmp(last, "loss") == 0 || ends_with(n, "loss", "step"))
		return key_of_loss(n);
	if (n->milliseconds && ends_with(n, "per", "iteration"))
		return SCAN_TIME;
	if (any_word(n, not_training) || any_word(n, other))
		return SCAN_NONE;
	if (is_word(n, n->count - 1, steps))
		return only_words(n, 1, training) && !is_all_of_them(n) ? SCAN_STEP : SCAN_NONE;
	if (strcmp(last, "epoch") == 0)
		return only_words(n, 1, training) ? SCAN_EPOCH : SCAN_NONE;
	if (strcmp(last, "gnorm") == 0 || strcmp(last, "gradnorm") == 0 ||
	    ends_with(n, "grad", "norm") || ends_with(n, "gradient", "norm") ||
	    (strcmp(last, "norm") == 0 && n->count - n->apart == 1))
		return SCAN_GRAD_NORM;
	if (strcmp(last, "lr") == 0 || ends_with(n, "learning", "rate"))
		return SCAN_LEARNING_RATE;
	if (strcmp(last, "tokens") == 0 && n->count - n->apart == 1)
		return SCAN_TOKENS;
	if (strcmp(last, "time") == 0 || strcmp(last, "dt") == 0)
		return only_words(n, 1, steps) ? SCAN_TIME : SCAN_NONE;
	return SCAN_NONE;
}

/* Add the words of [from, to) in front of those that are there; false when they are too many or too long. */
static bool add_words(struct name *n, const char *from, const char *to)
{
	char words[WORDS_MAX][WORD_MAX];
	size_t count = 0, length = 0;

	for (const char *at = from; at <= to; at++) {
		if (at < to && !joins(*at)) {
			if (count == WORDS_MAX || length + 1 >= WORD_MAX)
				return false;
			words[count][length++] = to_lower(*at);
		} else if (length > 0) {
			words[count++][length] = '\0';
			length = 0;
		}
	}
	if (count + n->count > WORDS_MAX)
		return false;
	memmove(n->words[count], n->words[0], n->count * sizeof(n->words[0]));
	memcpy(n->words[0], words, count * sizeof(words[0]));
	n->count += count;
	return true;
}

/* Behind the last byte before `at` that is not a space. */
static const char *skip_spaces(const char *start, const char *at)
{
	while (at > start && (at[-1] == ' ' || at[-1] == '\t'))
		at--;
	return at;
}

static const char *skip_quotes(const char *start, const char *at)
{
	while (at > start && (at[-1] == '"' || at[-1] == '\''))
		at--;
	return at;
}

/* What stands between a number and its name, from the right; returns the name's end. */
static const char *skip_separators(const char *start, const char *at, struct name *n)
{
	at = skip_spaces(start, skip_quotes(start, at));
	if (at > start && (at[-1] == '[' || at[-1] == '(' || at[-1] == '#'))
		at = skip_spaces(start, at - 1);
	if (at > start && (at[-1] == '=' || at[-1] == ':')) {
		n->equals = at[-1] == '=';
		at = skip_spaces(start, at - 1);
	}
	at = skip_quotes(start, at);
	if (at - start > 4 && memcmp(at - 4, "(ms)", 4) == 0) {
		n->milliseconds = true;
		at = skip_spaces(start, at - 4);
	}
	return at;
}

/* The name of the number at `at`: the words right before it, and the one that stands apart before those. */
static void read_name(const char *start, const char *at, struct name *n)
{
	const char *end = skip_separators(start, at, n), *from = end;

	bool letters = false;

	while (from > start && is_of_name(from[-1]))
		letters = is_letter(*--from) || letters;
	if (!letters || !add_words(n, from, end)) {
		n->count = 0;
		return;
	}
	end = skip_spaces(start, from);
	if (end == from)
		return;
	for (from = end; from > start && is_of_name(from[-1]);)
		from--;
	size_t before = n->count;

	if (from < end && add_words(n, from, end))
		n->apart = n->count - before;
}

/* --- the line ------------------------------------------------------------------------------------------ */

/* Behind "60/1000" stands the total. */
static const char *read_total(const char *at, uint64_t *total)
{
	const char *behind = at, *end;

	while (*behind == ' ')
		behind++;
	if (*behind != '/')
		return at;
	for (behind++; *behind == ' ';)
		behind++;
	end = scan_count(behind, total);
	return end != NULL ? end : at;
}

/* Seconds in one of what the number at TIME counts; 0: that cannot be told. */
static double unit_of(const char *behind, const struct name *n)
{
	while (*behind == ' ')
		behind++;
	if (n->milliseconds || strncmp(behind, "ms", 2) == 0)
		return 1e-3;
	if (strncmp(behind, "us", 2) == 0)
		return 1e-6;
	return behind[0] == 's' && (!is_letter(behind[1]) || strncmp(behind, "sec", 3) == 0) ? 1 : 0;
}

/* A number that follows an epoch's in brackets of its own counts within it. */
static bool is_within_epoch(const char *start, const char *at, const struct scan *out)
{
	at = skip_spaces(start, at);
	return at > start && at[-1] == '[' && out->values[SCAN_EPOCH].seen &&
	    !out->values[SCAN_STEP].seen;
}

/* The number at `at`; returns the first byte behind it. */
static const char *take_number(const char *start, const char *at, struct scan *out)
{
	struct name name = {.count = 0};
	struct scan_value value = {.seen = true};
	const char *end, *whole_end;
	enum scan_key key;

	read_name(start, at, &name);
	key = key_of(&name);
	end = scan_number(at, &value.number);
	whole_end = scan_count(at, &value.count);
	value.whole = whole_end != NULL && whole_end >= end;
	if (value.whole)
		end = read_total(whole_end, &value.total);
	if (key == SCAN_NONE && value.whole && value.total != 0 && name.count == 0 &&
	    is_within_epoch(start, at, out)) {
		key = SCAN_STEP;
		value.of_epoch = true;
	}
	if (key == SCAN_TIME) {
		double unit = unit_of(end, &name);

		value.number *= unit;
		if (unit == 0)
			key = SCAN_NONE;
	}
	value.plain = name.count - name.apart == 1;
	value.equals = name.equals;
	if (key != SCAN_NONE && !out->values[key].seen)
		out->values[key] = value;
	return end;
}

void scan_text(const char *text, struct scan *out)
{
	const char *at = text;

	memset(out, 0, sizeof(*out));
	while (*at != '\0') {
		if (begins_number(at)) {
			at = take_number(text, at, out);
			/* A number that something goes on behind was none: a date, a version. */
			while (is_digit(*at) || *at == '.' || *at == ':')
				at++;
		} else if (is_of_name(*at)) {
			while (is_of_name(*at))
				at++;
		} else {
			at++;
		}
	}
}
