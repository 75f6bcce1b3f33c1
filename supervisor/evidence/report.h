/*
 * The evidence of a fault, as one UTF-8 text: who the process is, what the kernel says of it, the stacks of
 * all its threads, and the end of what it printed.
 *
 * Taken in a helper process of its own, never in the agent: reading a foreign process can be slow, can hang
 * in the kernel and can crash on hostile debug information (DESIGN.md 2, H10).  It is taken before the
 * process is ended (H9) and leaves the process as it found it.  A part that cannot be had is replaced by a
 * line that says why; the rest is still there.
 */
#ifndef EVIDENCE_REPORT_H
#define EVIDENCE_REPORT_H

#include <stdint.h>
#include <sys/types.h>

#include "journal/record.h"
#include "journal/status.h"
#include "supervisor/evidence/sheet.h"

#define REPORT_SIZE_MAX (1u << 20)  /* bytes of the whole text */
#define REPORT_TAIL_MAX (64u << 10) /* bytes read from the end of each output file */

struct evidence_request {
	pid_t pid;            /* the rank's process; 0: none, output only */
	pid_t crash_tid;      /* the thread that waits in its crash handler: shown first; 0: none */
	uint32_t kind;        /* enum evidence_kind: EVIDENCE_STACKS or EVIDENCE_TAIL */
	uint32_t deadline_ms; /* for all of it, from the call on; 0: 10,000 */
	const char *out_path; /* borrowed; file of the rank's standard output; NULL: none */
	const char *err_path; /* borrowed; of its standard error; NULL: none */
	const char *recorded_path; /* borrowed; the error file it may have written; NULL: none */
};

/*
 * Write the evidence to sheet, which must hold REPORT_SIZE_MAX bytes; it grows as the parts are taken, so
 * that whoever is out of patience can use what is there.
 * Context	one thread, a process without children of its own: it waits for and blocks SIGCHLD.
 */
void report_compose(const struct evidence_request *request, struct sheet *sheet);

/* Write all of sheet to out_fd (borrowed). Returns 0 or the -errno of write(2). */
MUST_CHECK int report_write(const struct sheet *sheet, int out_fd);

/*
 * Compose a report and write it to out_fd when it is complete; the traced process is running again by then.
 * request	borrowed.
 * out_fd	borrowed; a pipe, a memfd or a file.
 * Returns	0, also for a process that is gone or refuses to be traced (the text says so); -ENOMEM; -EINVAL
 *		(kind); or the -errno of write(2).
 * Context	as report_compose().
 */
MUST_CHECK int evidence_report(const struct evidence_request *request, int out_fd);

#endif
