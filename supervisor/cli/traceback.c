/*
 * See traceback.h.
 *
 * A block is a head ("Traceback (most recent call last):"), frames, which are indented, and an exception that is
 * not.  Blocks that Python joins with a sentence are a chain.  Each line is seen once and nothing is kept but the
 * block that is being read and the best failure so far.
 */
#include <ctype.h>
#include <string.h>

#include <jansson.h>

#include "supervisor/cli/traceback.h"

#define NOISE_MAX 20u /* lines of others between the frames of a block */

struct line {
	const char *at;
	size_t size;
};

/* From what is most to what is least likely the failure that ended the program. */
enum weight { WEIGHT_FAILURE = 3, WEIGHT_SECOND = 2, WEIGHT_ASIDE = 1, WEIGHT_NONE = 0 };

enum reading {
	READ_NOTHING,
	READ_FRAMES,  /* the most recent call last */
	READ_FATAL,   /* faulthandler: the most recent call first */
	READ_MESSAGE, /* an exception was named, and its message has not begun yet */
};

struct reader {
	enum reading reading;
	struct traceback block; /* being read */
	enum weight weight;     /* of it */
	unsigned noise;
	bool joined;             /* to the chain before it: its cause is known already */
	bool replaces;           /* the chain's cause so far: it came out of another process */
	bool in_chain;           /* a block has ended, and the next may be joined to it */
	enum weight next_weight; /* that the lines before a head give it */
	bool next_joined, next_replaces;
	bool group; /* an exception group was printed: its lines stand behind a bar */
	char fatal[TRACEBACK_TEXT_MAX];
	struct traceback best;
	enum weight best_weight;
};

/* --- lines ----------------------------------------------------------------------------------------------- */

static bool begins(struct line line, const char *words)
{
	size_t size = strlen(words);

	return line.size >= size && memcmp(line.at, words, size) == 0;
}

static bool ends(struct line line, const char *words)
{
	size_t size = strlen(words);

	return line.size >= size && memcmp(line.at + line.size - size, words, size) == 0;
}

static const char *find(struct line line, const char *words)
{
	return memmem(line.at, line.size, words, strlen(words));
}

static bool is_blank(struct line line)
{
	for (size_t i = 0; i < line.size; i++)
		if (line.at[i] != ' ')
			return false;
	return true;
}

static struct line behind(struct line line, size_t count)
{
	return (struct line){line.at + count, line.size - count};
}

static struct line trimmed(struct line line)
{
	while (line.size > 0 && line.at[0] == ' ')
		line = behind(line, 1);
	return line;
}

static void copy(char *out, size_t room, struct line line)
{
	size_t size = line.size < room ? line.size : room - 1;

	memcpy(out, line.at, size);
	out[size] = '\0';
	for (char *at = out; (at = memchr(at, '\0', size - (size_t)(at - out))) != NULL;)
		*at++ = '?';
}

/* Without "[rank0]: ", which torch puts before each line of a rank's traceback. */
static struct line without_rank(struct line line)
{
	size_t at = 5;

	if (!begins(line, "[rank"))
		return line;
	while (at < line.size && isdigit((unsigned char)line.at[at]))
		at++;
	if (at == 5 || at + 1 >= line.size || line.at[at] != ']' || line.at[at + 1] != ':')
		return line;
	at += 2;
	return behind(line, at < line.size && line.at[at] == ' ' ? at + 1 : at);
}

/* Without the bar that stands before each line of an exception group. */
static struct line without_bar(struct line line)
{
	struct line rest = trimmed(line);

	if (rest.size == line.size || (!begins(rest, "|") && !begins(rest, "+")))
		return line;
	rest = behind(rest, 1);
	return behind(rest, begins(rest, " "));
}

/* --- frames ---------------------------------------------------------------------------------------------- */

/* File "PATH", line N, in FUNCTION; faulthandler leaves the second comma out, a syntax error all behind N. */
static bool take_frame(struct line line, struct traceback_place *out)
{
	struct line file = trimmed(line);
	uint32_t number = 0;

	if (file.size == line.size || !begins(file, "File \""))
		return false;
	line = behind(file, 6);
	const char *end = find(line, "\", line ");

	if (end == NULL || end == line.at)
		return false;
	struct line rest = behind(line, (size_t)(end - line.at) + 8);

	if (rest.size == 0 || !isdigit((unsigned char)rest.at[0]))
		return false;
	for (; rest.size > 0 && isdigit((unsigned char)rest.at[0]); rest = behind(rest, 1))
		if (number < UINT32_MAX / 10 - 1)
			number = number * 10 + (uint32_t)(rest.at[0] - '0');
	copy(out->file, sizeof(out->file), (struct line){line.at, (size_t)(end - line.at)});
	out->line = number;
	out->function[0] = '\0';
	if (begins(rest, ","))
		rest = behind(rest, 1);
	if (begins(rest, " in "))
		copy(out->function, sizeof(out->function), behind(rest, 4));
	return true;
}

static bool is_library(const struct traceback_place *place)
{
	static const char *const parts[] = {
	    "/site-packages/", "/dist-packages/", "/lib/python", "/lib64/python"};

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		if (strstr(place->file, parts[i]) != NULL)
			return true;
	return place->file[0] == '<';
}

static void add_frame(struct reader *r, const struct traceback_place *place)
{
	bool first = r->reading == READ_FATAL && r->block.raised.file[0] != '\0';

	if (!first)
		r->block.raised = *place;
	if (!is_library(place) && (r->reading != READ_FATAL || r->block.own.file[0] == '\0'))
		r->block.own = *place;
}

/* --- exceptions ------------------------------------------------------------------------------------------ */

/* A dotted name whose last part looks like a class: a capital first, and some small letter. */
static size_t type_size(struct line line)
{
	size_t size = 0, last = 0;
	bool small = false;

	for (; size < line.size && line.at[size] != ':'; size++) {
		unsigned char c = (unsigned char)line.at[size];

		if (c == '.') {
			last = size + 1;
			small = false;
		} else if (!isalnum(c) && c != '_' && c < 0x80) {
			return 0;
		}
		small = small || islower(c);
	}
	if (size <= last || !isupper((unsigned char)line.at[last]) || !small)
		return 0;
	return size;
}

/* Errors that a rank meets because another has ended. */
static bool follows(const struct traceback *t)
{
	static const char *const types[] = {"BrokenPipeError", "ConnectionResetError",
	    "ConnectionAbortedError", "ConnectionRefusedError", "DistBackendError",
	    "DistNetworkError"};
	static const char *const words[] = {"onnection closed by peer", "onnection reset by peer",
	    "onnection refused", "Broken pipe", "Socket closed", "Socket Timeout", "was aborted",
	    "remote process exited", "Application timeout caused pair closure", "Timed out waiting",
	    "failed to recv", "Failed to recv"};
	const char *type = strrchr(t->type, '.');

	type = type != NULL ? type + 1 : t->type;
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (strcmp(type, types[i]) == 0)
			return true;
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strstr(t->message, words[i]) != NULL)
			return true;
	return false;
}

/* The block has ended well: it is the failure unless a better one was found, or its chain's cause was. */
static void finish(struct reader *r)
{
	struct traceback *t = &r->block;
	enum weight weight = r->weight;

	if (strcmp(t->own.file, t->raised.file) == 0 && t->own.line == t->raised.line)
		memset(&t->own, 0, sizeof(t->own));
	t->follows = follows(t);
	/* What ends a program from outside, or after its peers did, hides nothing that went wrong by itself. */
	if (weight == WEIGHT_FAILURE && (t->follows || strcmp(t->type, "KeyboardInterrupt") == 0))
		weight = WEIGHT_SECOND;
	if (r->replaces || (!r->joined && weight >= r->best_weight)) {
		r->best = *t;
		r->best_weight = weight;
	}
	r->reading = READ_NOTHING;
	r->in_chain = true;
	r->next_weight = WEIGHT_NONE;
	r->next_joined = r->next_replaces = false;
}

/* NAME or NAME: MESSAGE, where a block's exception stands. */
static bool take_exception(struct reader *r, struct line line)
{
	size_t size = type_size(line);

	if (size == 0)
		return false;
	copy(r->block.type, sizeof(r->block.type), (struct line){line.at, size});
	line = behind(line, size);
	copy(r->block.message, sizeof(r->block.message), trimmed(behind(line, begins(line, ":"))));
	/* A message may begin on the next line; where there is no colon, there is none. */
	r->reading = READ_MESSAGE;
	if (line.size == 0 || r->block.message[0] != '\0')
		finish(r);
	return true;
}

/* --- what stands before a block -------------------------------------------------------------------------- */

static const char head[] = "Traceback (most recent call last):";

static void begin_block(struct reader *r, enum reading reading)
{
	r->reading = reading;
	memset(&r->block, 0, sizeof(r->block));
	r->weight = r->next_weight != WEIGHT_NONE ? r->next_weight : WEIGHT_FAILURE;
	r->joined = r->next_joined && r->in_chain;
	r->replaces = r->next_replaces && r->in_chain;
	r->noise = 0;
}

static void read_between(struct reader *r, struct line line)
{
	struct traceback_place place;

	static const char terminate[] = "terminate called after throwing an instance of '";

	if (is_blank(line) || begins(line, "\"\"\""))
		return;
	if (begins(line, "The above exception was the direct cause of the following exception:") ||
	    begins(line, "During handling of the above exception, another exception occurred:")) {
		r->next_joined = true;
	} else if (begins(line, "-- Process ") && ends(line, "terminated with the following error:")) {
		r->next_replaces = true;
	} else if (begins(line, "Exception ignored in")) {
		r->next_weight = WEIGHT_ASIDE;
	} else if (begins(line, "Exception in thread ") ||
	    (begins(line, "Process ") && ends(line, ":"))) {
		r->next_weight = WEIGHT_SECOND;
	} else if (begins(line, "Fatal Python error: ")) {
		copy(r->fatal, sizeof(r->fatal), behind(line, 20));
	} else if (begins(line, "Current thread ") && r->fatal[0] != '\0') {
		r->next_joined = false;
		begin_block(r, READ_FATAL);
		memcpy(r->block.type, "Fatal Python error", sizeof("Fatal Python error"));
		memcpy(r->block.message, r->fatal, sizeof(r->fatal));
	} else if (begins(line, terminate)) {
		/* An exception of C++, which may come while Python's is being handled. */
		r->next_weight = WEIGHT_SECOND;
		r->next_joined = false;
		begin_block(r, READ_MESSAGE);
		line = behind(line, sizeof(terminate) - 1);
		copy(r->block.type, sizeof(r->block.type),
		    (struct line){line.at, line.size - ends(line, "'")});
	} else if (take_frame(line, &place)) {
		/* The beginning was cut off, or it is a syntax error, which has none. */
		begin_block(r, READ_FRAMES);
		add_frame(r, &place);
	} else if (line.at[0] != ' ') {
		r->next_weight = WEIGHT_NONE;
		r->next_joined = r->next_replaces = false;
	}
}

static void read_block(struct reader *r, struct line line)
{
	struct traceback_place place;

	if (take_frame(line, &place)) {
		add_frame(r, &place);
	} else if (ends(line, "(most recent call first):")) {
		r->reading = READ_NOTHING; /* it was another thread of a fatal error */
		read_between(r, line);
	} else if (r->reading == READ_FATAL) {
		if (line.size == 0 || line.at[0] != ' ')
			finish(r);
	} else if (line.size > 0 && line.at[0] != ' ' && !take_exception(r, line) &&
	    ++r->noise > NOISE_MAX) {
		r->reading = READ_NOTHING;
		r->in_chain = false;
	}
}

static void read_head(struct reader *r, struct line line)
{
	if (r->reading == READ_MESSAGE || (r->reading == READ_FATAL && r->block.raised.file[0] != '\0'))
		finish(r);
	if (ends(line, "Original Traceback (most recent call last):"))
		r->next_replaces = true;
	if (ends(line, "Exception Group Traceback (most recent call last):"))
		r->group = true;
	begin_block(r, READ_FRAMES);
}

/* The line behind an exception whose own line had no message.  An empty one: it has none. */
static void read_message(struct reader *r, struct line line)
{
	line = trimmed(line);
	if (begins(line, "what():"))
		line = trimmed(behind(line, 7));
	copy(r->block.message, sizeof(r->block.message), line);
	finish(r);
}

static void read_line(struct reader *r, struct line line)
{
	line = without_rank(line);
	if (ends(line, "\r"))
		line.size--;
	if (r->group)
		line = without_bar(line);
	/* A progress bar may stand before the head on its line. */
	if (ends(line, head))
		read_head(r, line);
	else if (r->reading == READ_MESSAGE)
		read_message(r, line);
	else if (r->reading == READ_NOTHING)
		read_between(r, line);
	else
		read_block(r, line);
}

bool traceback_find(const char *text, size_t size, struct traceback *out)
{
	struct reader r = {.reading = READ_NOTHING};

	for (size_t at = 0; at < size;) {
		const char *end = memchr(text + at, '\n', size - at);
		size_t length = end != NULL ? (size_t)(end - text) - at : size - at;

		read_line(&r, (struct line){text + at, length});
		at += length + 1;
	}
	if (r.reading == READ_MESSAGE || (r.reading == READ_FATAL && r.block.raised.file[0] != '\0'))
		finish(&r);
	if (r.best_weight == WEIGHT_NONE)
		return false;
	*out = r.best;
	return true;
}

bool traceback_find_recorded(const char *text, size_t size, struct traceback *out)
{
	json_t *root = json_loadb(text, size, JSON_DISABLE_EOF_CHECK, NULL);
	json_t *outer = json_object_get(root, "message");
	json_t *stack = json_object_get(json_object_get(outer, "extraInfo"), "py_callstack");
	json_t *message = json_object_get(outer, "message");
	bool found = json_is_string(stack) &&
	    traceback_find(json_string_value(stack), json_string_length(stack), out);

	if (!found && json_is_string(message)) {
		struct reader r = {.weight = WEIGHT_FAILURE};
		const char *first = json_string_value(message);

		if (take_exception(&r, (struct line){first, strcspn(first, "\n")})) {
			if (r.reading == READ_MESSAGE)
				finish(&r);
			*out = r.best;
			found = true;
		}
	}
	json_decref(root);
	return found;
}
