/* Durations and counts as people type them. */
#ifndef CLI_DURATION_H
#define CLI_DURATION_H

#include <stdbool.h>
#include <stdint.h>

/* "250ms", "2s", "1.5m", "3h"; a bare number is seconds.  More than 0, at most a year.  False: not a duration. */
bool duration_parse(const char *text, uint64_t *ns_out);

/* A whole number from minimum to maximum, in decimal. */
bool duration_count(const char *text, uint64_t minimum, uint64_t maximum, uint64_t *out);

#endif
