/*
 * What the reading commands read: the journal of a run directory, folded, and who holds the directory.
 *
 * DIR is a run directory, or a directory with a data.mdb in it: a journal that was copied somewhere.  Nothing here
 * changes the journal or waits for its writer.
 */
#ifndef CLI_SOURCE_H
#define CLI_SOURCE_H

#include <jansson.h>
#include <stddef.h>
#include <stdio.h>

#include "journal/query.h"
#include "supervisor/cli/options.h"
#include "supervisor/cli/rundir.h"

struct source {
	char dir[RUNDIR_PATH]; /* absolute where it could be resolved */
	struct store_reader *reader;
	struct query *query;
	struct cause why; /* of the last failure */
};

enum source_state {
	SOURCE_EMPTY = 0, /* no run was recorded yet */
	SOURCE_STARTING,  /* no row of the current attempt yet, and no incident is open */
	SOURCE_RUNNING,
	SOURCE_RECOVERING, /* an incident was declared and no new step was made since */
	SOURCE_ENDED,      /* the last decision is the run's end */
	SOURCE_DEAD        /* nobody holds the directory, and the run has not ended */
};

/*
 * Open dir's journal and fold it.
 * Returns	STATUS_OK, or what opening or folding said; source_complain() has the words for it.
 *		STATUS_BAD of the fold leaves the source open, with all that stands before the damage.
 * Call source_close() in every case.
 */
MUST_CHECK enum status source_open(struct source *s, const char *dir);
void source_close(struct source *s);

/* Fold what was committed since.  Returned records' pointers become invalid. */
MUST_CHECK enum status source_refresh(struct source *s);

/*
 * Between two lines: when much was printed, let go of the journal, write it, and look at the same journal again.
 * Whoever reads us may block us in it for as long as it likes.
 * stop		becomes true when nobody takes what we print.
 * Returned records' pointers become invalid; the fold stays as it is.
 * Returns	STATUS_OK, or what looking again said.
 */
MUST_CHECK enum status source_let_go(struct source *s, bool *stop);

/* Let go of the journal until source_refresh(), and write what was printed.  False: nobody takes it. */
MUST_CHECK bool source_park(struct source *s);

/* One line on standard error for a failure; returns the exit code to end with. */
int source_complain(const struct source *s, enum status status);

/*
 * Open for a reading command: complains by itself.
 * Returns 0, or the exit code to end with.  A damaged journal is said and shown up to the damage: 0, *damaged is true.
 */
MUST_CHECK int source_begin(struct source *s, const char *dir, bool *damaged);

/* A record that was checked, or NULL (none there, damaged, unknown).  Valid until the journal is let go of or refreshed. */
const struct record *source_record(struct source *s, uint64_t seq);

/* Pid of the live agent; 0 when there is none. */
int source_holder(const struct source *s);

/* holder: as source_holder() told; a run without one is dead or has ended. */
enum source_state source_state(const struct source *s, int holder);
const char *source_state_name(enum source_state state);

/* Iterations that have a row; 0 without any. */
uint64_t source_committed(const struct query_summary *sum);

/* Seconds until `total` iterations are committed at the present rate; negative: not known. */
double source_eta_s(const struct query_summary *sum, uint64_t total);

/* "2026-11-24 03:12:05" in local time. */
void source_wall_text(int64_t wall_ns, char *out, size_t size);

/* Make text that others wrote fit for a terminal: control characters become '?'; keeps UTF-8.  In place. */
void source_plain(char *text);

/* JSON members; a NULL value or short memory leaves the member out. */
void source_json_step(json_t *object, const char *name, uint64_t step); /* null for STEP_NONE */
void source_json_id(json_t *object, const uint8_t id[16]);              /* "run_id" */

/* One JSON object on a line of its own; takes the object.  False: memory, or nobody reads. */
bool source_print_json(json_t *object);

/*
 * The next option of a command whose one other word is DIR, before, between or behind its options.
 * dir		*dir becomes that word.
 * Returns	as options_next(); OPTIONS_END when there is nothing left.
 */
int source_next_option(struct options *o, const char **value_out, const char **dir);

/* Write out what is left, behind source_close().  Returns `code`, or CLI_EXIT_AGAIN after a line when standard output could not take it. */
int source_flush(int code);

/*
 * Before a command prints: what it prints waits for source_let_go(), source_park() or source_flush(), and a reader
 * that goes away ends us quietly, whatever we were started with.
 */
void source_begin_output(void);

#endif
