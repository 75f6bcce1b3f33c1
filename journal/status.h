/*
 * What a call's caller can do about its outcome, and the detail beside it.
 *
 * Every fallible function of this tree returns an enum status and, on failure only, fills a
 * caller-owned struct cause.  Nothing here allocates, logs or exits.
 */
#ifndef JOURNAL_STATUS_H
#define JOURNAL_STATUS_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum status {
	STATUS_OK = 0,
	STATUS_NONE,    /* nothing there (no such row, end of the journal): not an error */
	STATUS_AGAIN,   /* not now (busy, in use, incomplete): try again later */
	STATUS_FULL,    /* no space on the device: keep what you have, try again later */
	STATUS_SYS,     /* the operating system refused: cause.number is its errno */
	STATUS_BAD,     /* bytes from outside are not what they should be: do not use them */
	STATUS_REFUSED, /* understood and not allowed (newer schema, other run): change the request */
	STATUS_BUG,     /* the caller broke the contract */
};

#define MUST_CHECK __attribute__((warn_unused_result))

enum cause_domain {
	CAUSE_NONE = 0,
	CAUSE_ERRNO, /* number is an errno */
	CAUSE_LMDB,  /* number is an MDB_* code */
	CAUSE_DATA,  /* number is the offset or the value that was wrong */
};

/* The detail of a failure: which operation (step), on what (subject), with which number. */
struct cause {
	enum cause_domain domain;
	int64_t number;
	const char *step;  /* static storage: "open", "map", "commit", … */
	char subject[256]; /* a path, a record, a rank: shortened to fit */
};

static inline void cause_set(struct cause *why, enum cause_domain domain, int64_t number,
    const char *step, const char *subject)
{
	if (why == NULL)
		return;
	why->domain = domain;
	why->number = number;
	why->step = step;
	snprintf(why->subject, sizeof(why->subject), "%.255s", subject != NULL ? subject : "");
}

#endif
