/* What people type about the ladder on files: patterns, modes, sizes and words. */
#ifndef CLI_CHECKPOINTS_H
#define CLI_CHECKPOINTS_H

#include <stdbool.h>
#include <stdint.h>

#define CHECKPOINTS_KEEP_DEFAULT 3u
#define CHECKPOINTS_KEEP_MIN 2u
#define CHECKPOINTS_KEEP_MAX 32u /* fewer than the policy remembers rungs */

/* NULL when text can be a pattern, else what is wrong with it. */
const char *checkpoints_pattern_fault(const char *text);

/*
 * The pattern as an absolute path.
 *
 * work_dir	borrowed, absolute: what a relative pattern means.
 * Returns	a string from malloc; NULL when it would be longer than a path may be, or memory is short.
 */
char *checkpoints_absolute(const char *text, const char *work_dir);

/* Whether text is a mode that helper-keeper knows. */
bool checkpoints_is_mode(const char *text);

/* "500M", "20G", "1.5T", "1048576": units of 1024, at least a byte.  False: not a size. */
bool checkpoints_size(const char *text, uint64_t *bytes_out);

/*
 * Words as a shell would split them: blanks between, '…' and "…" around what belongs together, \ before a character
 * that is meant as it is.  Nothing is expanded.
 * Returns	one block from malloc, NULL-terminated, with at least one word; NULL: a quote is not closed, nothing
 *		stands behind a \, there is no word, or memory is short.
 */
char **checkpoints_words(const char *text);

#endif
