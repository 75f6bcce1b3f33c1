/*
 * How `holdfast run --progress` tells where to look for a run's iterations.
 */
#ifndef PROGRESS_PROGRESS_H
#define PROGRESS_PROGRESS_H

#include <string.h>

#define PROGRESS_FILE_PREFIX "file:"

enum progress_source {
	PROGRESS_FROM_OUTPUT = 1, /* "auto": the common formats, in what the ranks print */
	PROGRESS_FROM_NOTHING,    /* "none" */
	PROGRESS_FROM_FILE,       /* "file:PATH": the common formats, in that file */
	PROGRESS_FROM_PATTERN,    /* anything else: a regular expression, in what the ranks print */
};

/* What a text, borrowed, asks for. */
static inline enum progress_source progress_source_of(const char *text)
{
	if (strcmp(text, "auto") == 0)
		return PROGRESS_FROM_OUTPUT;
	if (strcmp(text, "none") == 0)
		return PROGRESS_FROM_NOTHING;
	return strncmp(text, PROGRESS_FILE_PREFIX, sizeof(PROGRESS_FILE_PREFIX) - 1) == 0
	    ? PROGRESS_FROM_FILE
	    : PROGRESS_FROM_PATTERN;
}

/* The path of PROGRESS_FROM_FILE, within text. */
static inline const char *progress_path(const char *text)
{
	return text + sizeof(PROGRESS_FILE_PREFIX) - 1;
}

#endif
