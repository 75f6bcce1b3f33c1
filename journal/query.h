/*
 * The journal, folded to what a person asks: where the run stands and what interrupted it.
 *
 * A struct query reads through a store_reader and remembers how far it came, so that query_update() costs
 * what was committed since.  It knows nothing of the policy's own state.  All step numbers are those of role 0.
 * Owned memory grows with the number of incidents and checkpoints, not with that of the steps.
 */
#ifndef JOURNAL_QUERY_H
#define JOURNAL_QUERY_H

#include "journal/record.h"
#include "journal/status.h"
#include "journal/store.h"

#define QUERY_RATE_ROWS 100u

struct query_incident {
	struct decision_fault fault;
	uint64_t *evidence_seqs; /* of its RECORD_EVIDENCEs */
	size_t evidence_count;
	uint64_t start_seq;   /* of the last DECISION_START that answers it; 0: none yet */
	uint32_t start_count; /* attempts that were started for it */
	bool recovered;       /* recovery is filled in */
	struct decision_recovered recovery;
};

struct query_summary {
	uint64_t last_seq; /* everything up to here is in the summary */
	bool has_run;
	uint8_t run_id[16];
	uint64_t run_seq; /* of the RECORD_RUN: command and directory */
	char *command; /* the arguments, joined by spaces, quoted where a shell needs it; NULL without a run */
	char *directory; /* the working directory */
	uint32_t rank_count;
	int64_t wall_start_ns; /* since 1970, at run time 0 */
	uint64_t time_ns;      /* run time of the last turn */

	bool has_session;
	struct record_session session; /* the last */
	uint32_t agent_pid;            /* of the last agent that said hello; 0: none has */

	uint32_t attempt;   /* current or last; 0: none was started */
	uint64_t start_seq; /* of its DECISION_START */
	uint64_t attempt_count;

	uint32_t progress_format; /* enum progress_format: iterations are read from output; 0: they are not */
	uint32_t progress_rank;

	struct record_no_room no_room; /* the last; its kind is 0 when there was none */

	bool has_row;
	struct record_step last_row; /* fixed part of the last complete row, by commit */
	uint64_t last_row_seq;
	uint64_t first_step, high_step; /* smallest and largest step with a row; STEP_NONE without */
	uint64_t complete_step;         /* largest step with a complete row; STEP_NONE without */
	uint64_t missing_count;         /* steps in between that have no row */
	uint64_t row_count;             /* all rows, partial ones and repetitions included */
	uint64_t partial_count;         /* STEP_PARTIAL */
	uint64_t again_count;           /* STEP_AGAIN */
	double steps_per_s; /* over the last up to QUERY_RATE_ROWS rows of this attempt; 0: not known */

	uint64_t good_step;     /* newest rung on disk that stands as good; STEP_NONE: none */
	uint64_t good_rung_seq; /* of a RECORD_RUNG or RECORD_KEPT of it; 0: none seen */

	struct query_incident *incidents; /* in the order in which they were declared */
	size_t incident_count;
	/* What they cost together.  Those that one step ended are one interruption, and count as their longest. */
	uint64_t down_ns, redone_steps;

	bool ended;
	struct decision_end end;

	uint64_t gap_count, gap_reports; /* RECORD_GAPs, and the reports that were lost in them */
	uint64_t late_turns;             /* performed before they could be committed */
	uint64_t trouble_count;          /* RECORD_TROUBLEs */
	uint64_t turn_count;
};

struct query;

/* rd: borrowed until query_free(); NULL is returned when memory is short. */
struct query *query_new(struct store_reader *rd);
void query_free(struct query *q); /* NULL is allowed */

/*
 * Fold what the reader's snapshot holds beyond the last call; the caller refreshes the reader.
 * Returns STATUS_OK (also when nothing was new), STATUS_BAD (a damaged record: the summary stands before it),
 * STATUS_REFUSED (a record of a newer kind, likewise), STATUS_SYS.
 */
MUST_CHECK enum status query_update(struct query *q, struct cause *why);

/* Valid until the next query_update() or query_free(). */
const struct query_summary *query_summary(const struct query *q);

/* The incident with this number, or NULL. */
const struct query_incident *query_find_incident(const struct query *q, uint32_t incident);

/* Wall time of a moment of run time, since 1970, by the last session's clock. */
int64_t query_wall_ns(const struct query_summary *summary, uint64_t time_ns);

/*
 * One line for a DECISION_START, with the rung's path looked up in the journal where it starts from a file.
 * out has size bytes, at least 1.
 */
void query_start_sentence(struct query *q, uint64_t start_seq, char *out, size_t size);

#endif
