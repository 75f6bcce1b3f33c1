/* See excerpt.h. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "supervisor/cli/excerpt.h"

#define OTHER_LINES 20u

static bool begins(const char *line, const char *word)
{
	return strncmp(line, word, strlen(word)) == 0;
}

static const char *line_end(const char *line)
{
	const char *end = strchr(line, '\n');

	return end != NULL ? end : line + strlen(line);
}

static const char *next_line(const char *line)
{
	const char *end = line_end(line);

	return *end == '\n' ? end + 1 : end;
}

/* Evidence is clean when our helper made it; a journal may come from anywhere. */
static void print_line(FILE *out, const char *line, const char *indent)
{
	fputs(indent, out);
	for (const char *at = line, *end = line_end(line); at < end; at++) {
		unsigned char c = (unsigned char)*at;
		bool second_set = c == 0xc2 && (unsigned char)at[1] >= 0x80 &&
		    (unsigned char)at[1] < 0xa0;

		fputc((c < 0x20 && c != '\t') || c == 0x7f || second_set ? '?' : c, out);
		at += second_set;
	}
	fputc('\n', out);
}

void excerpt_print_all(FILE *out, const char *text, const char *indent)
{
	for (const char *line = text; *line != '\0'; line = next_line(line))
		print_line(out, line, indent);
}

/* Whether the line holds the words. */
static bool holds(const char *line, const char *words)
{
	const char *found = strstr(line, words);

	return found != NULL && found < line_end(line);
}

static bool begins_output(const char *line)
{
	return begins(line, "standard error ") || begins(line, "standard output ") ||
	    begins(line, "error file ");
}

/* The first thread from `text` on whose line holds the words; what a trainer printed is not looked at. */
static const char *find_thread(const char *text, const char *words)
{
	for (const char *line = text; *line != '\0' && !begins_output(line); line = next_line(line))
		if (begins(line, "thread ") && holds(line, words))
			return line;
	return NULL;
}

/* The frames of a crash begin behind those of its handler. */
static const char *skip_handler(const char *frames)
{
	for (const char *line = frames; begins(line, "  "); line = next_line(line)) {
		if (holds(line, "<signal handler called>"))
			return next_line(line);
	}
	return frames;
}

static void print_thread(FILE *out, const char *text, const char *indent)
{
	const char *thread = find_thread(text, ", which crashed,");
	unsigned lines = 0;

	if (thread == NULL)
		thread = find_thread(text, "");
	if (thread == NULL)
		return;
	print_line(out, thread, indent);
	for (const char *line = skip_handler(next_line(thread)); begins(line, "  ");
	     line = next_line(line)) {
		if (lines++ == EXCERPT_FRAMES) {
			print_line(out, "  (more frames: --full)", indent);
			break;
		}
		print_line(out, line, indent);
	}
	if (find_thread(next_line(thread), "") != NULL || find_thread(text, "") != thread)
		print_line(out, "(more threads: --full)", indent);
}

/* Print the end of one output; returns where it ends. */
static const char *print_output(FILE *out, const char *head, const char *indent)
{
	const char *body = next_line(head), *end = body;
	unsigned lines = 0;

	for (; *end != '\0' && !begins_output(end); end = next_line(end))
		lines++;
	/* An empty line stands before the next output's head. */
	if (lines > 0 && begins_output(end))
		lines--;
	/* What printed nothing is not worth a line; what could not be read says so in its head. */
	if (lines == 0 && holds(head, ", the last 0 of 0 bytes"))
		return end;
	print_line(out, head, indent);
	for (const char *line = body; lines > 0; line = next_line(line), lines--)
		if (lines <= EXCERPT_OUTPUT_LINES)
			print_line(out, line, indent);
	return end;
}

void excerpt_print(FILE *out, const char *text, const char *indent)
{
	bool any = find_thread(text, "") != NULL;
	const char *line = text;

	print_thread(out, text, indent);
	while (*line != '\0') {
		if (begins(line, "error file ")) {
			/* For programs; what it says stands in standard error, too. */
			line = next_line(line);
			while (*line != '\0' && !begins_output(line))
				line = next_line(line);
		} else if (begins_output(line)) {
			line = print_output(out, line, indent);
			any = true;
		} else {
			line = next_line(line);
		}
	}
	line = text;
	for (unsigned i = 0; !any && *line != '\0' && i < OTHER_LINES; i++, line = next_line(line))
		print_line(out, line, indent);
}
