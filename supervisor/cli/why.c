/*
 * holdfast why: each interruption explained: when, what, who, the evidence, what was decided on it and what it cost.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "journal/check.h"
#include "journal/print.h"
#include "supervisor/cli/cli.h"
#include "supervisor/cli/duration.h"
#include "supervisor/cli/excerpt.h"
#include "supervisor/cli/failure.h"
#include "supervisor/cli/notice.h"

#define AROUND_MAX 20000u /* records that are looked through around an incident */
#define SAME_TURN_MAX 4096u
#define CONSEQUENCES_MAX 8u
#define LOGS_MAX 64u      /* ranks whose logs are looked into for the cause */
#define BRIEF_EVIDENCE 1u /* pieces shown without --full */

enum why_option { OPT_DIR, OPT_INCIDENT, OPT_FULL, OPT_JSON, OPT_COUNT };

static const struct option_spec specs[OPT_COUNT] = {
    [OPT_DIR] = {"dir", 'd', "DIR", "the run's directory (default ./holdfast-run)"},
    [OPT_INCIDENT] = {"incident", 'i', "N", "this incident only"},
    [OPT_FULL] = {"full", 0, NULL, "all of the evidence, not only what is wanted first"},
    [OPT_JSON] = {"json", 0, NULL, "print JSON lines"},
};

struct why {
	struct source source;
	const char *dir;
	uint64_t incident; /* 0: all */
	bool full, json;
	bool stop;          /* nobody reads, or the journal cannot be read any more */
	enum status status; /* of the last look at the journal */
};

/* No record is held here: what was printed may be waited for. */
static void let_go(struct why *w)
{
	if (w->stop)
		return;
	w->status = source_let_go(&w->source, &w->stop);
	w->stop = w->stop || w->status != STATUS_OK;
}

/* --- looking around --------------------------------------------------------------------------------------- */

/* The first of an incident's turn: what led to it stands there, before the decision. */
static uint64_t turn_begin(struct why *w, const struct decision_fault *fault)
{
	uint64_t seq = fault->head.seq;

	for (unsigned i = 0; i < SAME_TURN_MAX && seq > 1; i++) {
		const struct record *r = source_record(&w->source, seq - 1);

		if (r == NULL || r->turn != fault->head.turn)
			break;
		seq--;
	}
	return seq;
}

static uint64_t start_of_attempt(struct why *w, uint32_t attempt)
{
	const struct query_summary *sum = query_summary(w->source.query);

	for (size_t i = 0; i < sum->incident_count; i++) {
		const struct record *r = source_record(&w->source, sum->incidents[i].start_seq);

		if (r != NULL && ((const struct decision_start *)r)->attempt == attempt)
			return r->seq;
	}
	return 1; /* the first attempt is near the beginning */
}

/* The pid that a rank had, or 0. */
static uint32_t pid_of(struct why *w, uint32_t attempt, uint32_t rank)
{
	uint64_t seq = start_of_attempt(w, attempt);

	for (unsigned i = 0; rank != RANK_NONE && i < AROUND_MAX; i++) {
		const struct record *r = source_record(&w->source, seq + i);
		const struct record_started *started = (const struct record_started *)r;

		if (r == NULL)
			break;
		if (r->kind == RECORD_STARTED && started->attempt == attempt && started->rank == rank)
			return started->pid;
	}
	return 0;
}

/* Where an incident is over: at its answer, or at the new step that needed none. */
static uint64_t last_seq(const struct query_incident *incident)
{
	if (incident->start_seq != 0)
		return incident->start_seq;
	return incident->recovered ? incident->recovery.head.seq : UINT64_MAX;
}

struct consequences {
	const struct why *why;
	unsigned count;
	bool cleared; /* the attempt was being ended when it came */
	json_t *list; /* for programs */
};

/* Call visit for each end of another rank's process of the attempt, until the incident is over. */
static void each_consequence(struct why *w, const struct query_incident *incident,
    void (*visit)(struct consequences *c, const struct record_exit *exit), struct consequences *c)
{
	const struct decision_fault *fault = &incident->fault;
	uint64_t seq = turn_begin(w, fault), last = last_seq(incident);

	for (unsigned i = 0; i < AROUND_MAX && seq < last; i++, seq++) {
		const struct record *r = source_record(&w->source, seq);
		const struct record_exit *exit = (const struct record_exit *)r;

		if (r == NULL)
			break;
		c->cleared = c->cleared || r->kind == DECISION_CLEAR;
		if (r->kind == RECORD_EXIT && exit->attempt == fault->attempt &&
		    exit->rank != fault->rank)
			visit(c, exit);
	}
}

static const struct record_evidence *evidence_at(struct why *w, uint64_t seq)
{
	const struct record *r = source_record(&w->source, seq);

	return r != NULL && r->kind == RECORD_EVIDENCE ? (const struct record_evidence *)r : NULL;
}

/* --- for people ------------------------------------------------------------------------------------------- */

static void print_consequence(struct consequences *c, const struct record_exit *exit)
{
	char text[SENTENCE_MAX], said[FAILURE_SENTENCE_MAX];
	struct traceback failure;

	if (c->count++ >= CONSEQUENCES_MAX)
		return;
	sentence_exit(exit, text, sizeof(text));
	/* A signal without its sender would look like a second fault. */
	if (c->cleared && !exit->oom_killed && WIFSIGNALED(exit->wait_status) &&
	    WTERMSIG(exit->wait_status) == SIGKILL)
		snprintf(text, sizeof(text),
		    "rank %u was ended by holdfast, to start again with the group", exit->rank);
	printf("  %-10s %s\n", c->count == 1 ? "then" : "", text);
	/* What it met because it had lost a peer. */
	if (exit->wait_status != 0 &&
	    failure_of_log(c->why->dir, exit->attempt, exit->rank, &failure)) {
		failure_sentence(&failure, said);
		printf("  %-10s   %s\n", "", said);
	}
}

/* What a program printed says how it ended by itself, not how it was ended: it may have caught and logged that. */
static bool explains(const struct traceback *failure, const struct decision_fault *fault)
{
	return fault->fault == FAULT_EXIT ||
	    (fault->fault == FAULT_SIGNAL &&
		(fault->detail == SIGABRT || strcmp(failure->type, "Fatal Python error") == 0));
}

/* What the blamed rank's program said of it. */
static bool find_failure(struct why *w, const struct query_incident *incident, struct traceback *out)
{
	bool found = false;

	for (size_t i = 0; i < incident->evidence_count && !found; i++) {
		const struct record_evidence *evidence = evidence_at(w, incident->evidence_seqs[i]);
		char *text = NULL;
		size_t size;

		if (evidence == NULL || evidence->rank != incident->fault.rank ||
		    print_evidence_text(evidence, &text, &size, NULL) != STATUS_OK)
			continue;
		found = failure_of_evidence(text, out) && explains(out, &incident->fault);
		free(text);
	}
	return found;
}

/* A rank that was seen to end first may have met only what another's failure, which took longer, left behind. */
static bool find_culprit(const struct why *w, const struct decision_fault *fault,
    uint32_t *rank_out, struct traceback *out)
{
	const struct query_summary *sum = query_summary(w->source.query);

	for (uint32_t rank = 0; rank < sum->rank_count && rank < LOGS_MAX; rank++)
		if (rank != fault->rank && failure_of_log(w->dir, fault->attempt, rank, out) &&
		    !out->follows && strcmp(out->type, "KeyboardInterrupt") != 0) {
			*rank_out = rank;
			return true;
		}
	return false;
}

/* What the agent knew when it noticed the death of the blamed rank. */
static enum oom_kill find_oom(struct why *w, const struct query_incident *incident)
{
	const struct decision_fault *fault = &incident->fault;
	uint64_t seq = turn_begin(w, fault), last = last_seq(incident);

	for (unsigned i = 0; i < AROUND_MAX && seq < last; i++, seq++) {
		const struct record *r = source_record(&w->source, seq);
		const struct record_death *death = (const struct record_death *)r;
		const struct record_exit *exit = (const struct record_exit *)r;

		if (r == NULL)
			break;
		if (r->kind == RECORD_DEATH && death->attempt == fault->attempt &&
		    death->rank == fault->rank && death->oom_killed != OOM_NONE)
			return death->oom_killed;
		if (r->kind == RECORD_EXIT && exit->attempt == fault->attempt &&
		    exit->rank == fault->rank)
			return exit->oom_killed;
	}
	return OOM_NONE;
}

static void print_oom(struct why *w, const struct query_incident *incident)
{
	if (incident->fault.fault != FAULT_OUT_OF_MEMORY)
		return;
	if (find_oom(w, incident) == OOM_CERTAIN)
		printf("  %-10s by the kernel's count for the ranks' control group\n", "known");
	else
		printf(
		    "  %-10s for the kernel's count for this machine rose, and nobody explains the "
		    "SIGKILL\n",
		    "likely");
}

static void print_failure(struct why *w, const struct query_incident *incident)
{
	struct traceback failure, other;
	char text[FAILURE_SENTENCE_MAX];
	uint32_t rank;

	if (!find_failure(w, incident, &failure))
		return;
	failure_sentence(&failure, text);
	printf("  %-10s %s\n", "error", text);
	failure_place(&failure, text);
	if (text[0] != '\0')
		printf("  %-10s %s\n", "", text);
	if (!failure.follows || !find_culprit(w, &incident->fault, &rank, &other))
		return;
	failure_sentence(&other, text);
	printf("  %-10s rank %u failed, too, and that is the likely cause: %s\n", "but", rank, text);
	failure_place(&other, text);
	if (text[0] != '\0')
		printf("  %-10s %s\n", "", text);
}

static void print_evidence(struct why *w, const struct record_evidence *evidence)
{
	char *text = NULL;
	size_t size;
	struct cause cause = {0};
	enum status status = print_evidence_text(evidence, &text, &size, &cause);

	printf("  %-10s rank %u, %s\n", "evidence", evidence->rank,
	    evidence->evidence_kind == EVIDENCE_STACKS ? "stacks and output" : "output");
	if (status == STATUS_NONE)
		printf("    | none could be taken: %s\n",
		    evidence->error > 0 ? strerror(evidence->error) : "nothing was there");
	else if (status != STATUS_OK)
		printf("    | it does not unpack (%s)\n", cause.step != NULL ? cause.step : "damaged");
	else if (w->full)
		excerpt_print_all(stdout, text, "    | ");
	else
		excerpt_print(stdout, text, "    | ");
	free(text);
}

/* Of the blamed rank first; of the others with --full. */
static void print_evidences(struct why *w, const struct query_incident *incident)
{
	size_t shown = 0;

	for (int others = 0; others < 2; others++)
		for (size_t i = 0; i < incident->evidence_count; i++) {
			const struct record_evidence *evidence = evidence_at(
			    w, incident->evidence_seqs[i]);

			if (evidence == NULL || (evidence->rank != incident->fault.rank) != others)
				continue;
			if (shown < BRIEF_EVIDENCE || w->full) {
				print_evidence(w, evidence);
				let_go(w);
				shown++;
			}
		}
	if (shown < incident->evidence_count)
		printf("  %-10s %zu more with --full\n", "", incident->evidence_count - shown);
}

static void print_when(struct why *w, const struct decision_fault *fault)
{
	const struct query_summary *sum = query_summary(w->source.query);
	char wall[64], run[48], late[48];

	source_wall_text(query_wall_ns(sum, fault->head.time_ns), wall, sizeof(wall));
	sentence_duration(fault->head.time_ns, run, sizeof(run));
	printf("incident %u at %s, %s into the run\n", fault->incident, wall, run);
	if (fault->head.time_ns > fault->onset_ns && fault->onset_ns != 0) {
		sentence_duration(fault->head.time_ns - fault->onset_ns, late, sizeof(late));
		printf("  %-10s %s after it began\n", "noticed", late);
	}
	if (fault->onset_step != STEP_NONE)
		printf("  %-10s nothing from step %llu on\n", "trusted",
		    (unsigned long long)fault->onset_step);
}

/* Signals that were decided on together with the incident, such as one that lets a stopped rank go on. */
static void print_signals(struct why *w, const struct query_incident *incident)
{
	uint64_t seq = incident->fault.head.seq + 1;

	for (unsigned i = 0; i < SAME_TURN_MAX; i++) {
		const struct record *r = source_record(&w->source, seq + i);
		const struct decision_kill *kill = (const struct decision_kill *)r;
		char name[32];

		if (r == NULL || r->turn != incident->fault.head.turn)
			return;
		if (r->kind != DECISION_KILL)
			continue;
		sentence_signal(kill->signal, name, sizeof(name));
		printf("  %-10s %s was sent to ", "decided", name);
		if (kill->rank == RANK_NONE)
			printf("every rank");
		else
			printf("rank %u", kill->rank);
		printf("%s\n", kill->signal == SIGCONT ? ", so that it goes on" : "");
	}
}

static void print_answer(struct why *w, const struct query_incident *incident)
{
	const struct query_summary *sum = query_summary(w->source.query);
	char text[NOTICE_MAX];

	print_signals(w, incident);
	if (incident->start_seq != 0) {
		query_start_sentence(w->source.query, incident->start_seq, text, sizeof(text));
		source_plain(text);
		printf("  %-10s %s", "decided", text);
		if (incident->start_count > 1)
			printf(" (the last of %u tries)", incident->start_count);
		printf("\n");
	}
	if (incident->recovered) {
		sentence_recovered(&incident->recovery, text, sizeof(text));
		printf("  %-10s %s\n", "outcome", text);
	} else if (sum->ended && sum->end.incident == incident->fault.incident) {
		sentence_end(&sum->end, text, sizeof(text));
		printf("  %-10s %s\n", "outcome", text);
	} else if (incident < &sum->incidents[sum->incident_count - 1]) {
		printf("  %-10s incident %u came before a new step\n", "outcome",
		    incident[1].fault.incident);
	} else if (!sum->ended) {
		printf("  %-10s no new step was made yet\n", "outcome");
	}
}

static void print_incident(struct why *w, const struct query_incident *incident)
{
	const struct decision_fault *fault = &incident->fault;
	uint32_t pid = pid_of(w, fault->attempt, fault->rank);
	struct consequences consequences = {.why = w};
	char text[SENTENCE_MAX];

	print_when(w, fault);
	sentence_fault(fault, text, sizeof(text));
	printf("  %-10s %s\n", "what", text);
	if (fault->rank != RANK_NONE) {
		printf("  %-10s rank %u of attempt %u", "who", fault->rank, fault->attempt);
		if (pid != 0)
			printf(", pid %u", pid);
		printf("\n");
	}
	print_oom(w, incident);
	print_failure(w, incident);
	each_consequence(w, incident, print_consequence, &consequences);
	if (consequences.count > CONSEQUENCES_MAX)
		printf("  %-10s and %u more ranks ended\n", "", consequences.count - CONSEQUENCES_MAX);
	print_evidences(w, incident);
	print_answer(w, incident);
	printf("\n");
}

/* --- for programs ----------------------------------------------------------------------------------------- */

static void append_consequence(struct consequences *c, const struct record_exit *exit)
{
	json_t *object = NULL;

	if (print_record_json(&exit->head, 0, &object, NULL) == STATUS_OK)
		json_array_append_new(c->list, object);
}

static json_t *evidences_json(struct why *w, const struct query_incident *incident)
{
	json_t *list = json_array();

	for (size_t i = 0; i < incident->evidence_count; i++) {
		const struct record_evidence *evidence = evidence_at(w, incident->evidence_seqs[i]);
		json_t *object = NULL;

		if (evidence == NULL)
			continue;
		/* What does not unpack is still named. */
		if (print_record_json(&evidence->head, PRINT_EVIDENCE, &object, NULL) == STATUS_OK ||
		    print_record_json(&evidence->head, 0, &object, NULL) == STATUS_OK)
			json_array_append_new(list, object);
	}
	return list;
}

static void add_record(struct why *w, json_t *object, const char *name, uint64_t seq)
{
	const struct record *r = source_record(&w->source, seq);
	json_t *member = r != NULL ? notice_json(&w->source, r) : NULL;

	json_object_set_new(object, name, member != NULL ? member : json_null());
}

static bool print_incident_json(struct why *w, const struct query_incident *incident)
{
	const struct query_summary *sum = query_summary(w->source.query);
	const struct decision_fault *fault = &incident->fault;
	uint32_t pid = pid_of(w, fault->attempt, fault->rank);
	struct consequences others = {.list = json_array()};
	struct traceback failure;
	json_t *object = json_object();

	json_object_set_new(object, "kind", json_string("incident"));
	json_object_set_new(object, "incident", json_integer(fault->incident));
	json_object_set_new(object, "wall_ns", json_integer(query_wall_ns(sum, fault->head.time_ns)));
	json_object_set_new(object, "pid", pid != 0 ? json_integer(pid) : json_null());
	add_record(w, object, "fault", fault->head.seq);
	json_object_set_new(object, "error",
	    find_failure(w, incident, &failure) ? failure_json(&failure) : json_null());
	each_consequence(w, incident, append_consequence, &others);
	json_object_set_new(object, "exits", others.list);
	json_object_set_new(object, "evidence", evidences_json(w, incident));
	json_object_set_new(object, "starts", json_integer(incident->start_count));
	add_record(w, object, "start", incident->start_seq);
	add_record(w, object, "recovered", incident->recovered ? incident->recovery.head.seq : 0);
	return source_print_json(object);
}

/* --- the command ------------------------------------------------------------------------------------------ */

/* What the incidents cost together. */
static void print_cost(const struct query_summary *sum)
{
	char lost[48], whole[48];

	if (sum->incident_count == 0) {
		printf("nothing interrupted this run\n");
		return;
	}
	sentence_duration(sum->down_ns, lost, sizeof(lost));
	sentence_duration(sum->time_ns, whole, sizeof(whole));
	printf("%zu incident%s cost %s of %s, and %llu step%s had to be made again\n",
	    sum->incident_count, sum->incident_count == 1 ? "" : "s", lost, whole,
	    (unsigned long long)sum->redone_steps, sum->redone_steps == 1 ? "" : "s");
}

/* What could not be ended, among the inputs of the turn that ended the run; NULL when it was something else. */
static const struct record *stuck_record(struct why *w)
{
	const struct decision_end *end = &query_summary(w->source.query)->end;

	if (end->reason != END_STUCK)
		return NULL;
	for (uint64_t seq = end->head.seq - 1, i = 0; seq > 0 && i < SAME_TURN_MAX; seq--, i++) {
		const struct record *r = source_record(&w->source, seq);

		if (r == NULL || r->turn != end->head.turn)
			break;
		if (r->kind == RECORD_CLEAR && ((const struct record_clear *)r)->stuck != 0)
			return r;
	}
	return NULL;
}

static void print_end_json(struct why *w)
{
	const struct query_summary *sum = query_summary(w->source.query);
	const struct record *r = stuck_record(w);

	if (r != NULL)
		(void)source_print_json(notice_json(&w->source, r));
	r = source_record(&w->source, sum->end.head.seq);
	if (r != NULL)
		(void)source_print_json(notice_json(&w->source, r));
}

static void print_end(struct why *w, enum source_state state)
{
	const struct query_summary *sum = query_summary(w->source.query);
	const struct record *stuck;
	char text[NOTICE_MAX], wall[64];

	source_wall_text(query_wall_ns(sum, sum->time_ns), wall, sizeof(wall));
	switch (state) {
	case SOURCE_ENDED:
		source_wall_text(query_wall_ns(sum, sum->end.head.time_ns), wall, sizeof(wall));
		sentence_end(&sum->end, text, sizeof(text));
		printf("end at %s: %s\n", wall, text);
		if ((stuck = stuck_record(w)) != NULL &&
		    notice_text(&w->source, stuck, text, sizeof(text)))
			printf("  %-10s %s\n", "stuck", text);
		break;
	case SOURCE_DEAD:
		printf("the journal breaks off at %s, for what ran the run is gone; the same "
		       "holdfast run "
		       "command continues it\n",
		    wall);
		break;
	default:
		printf("the run is %s", source_state_name(state));
		if (sum->has_row)
			printf(", last at step %llu", (unsigned long long)sum->last_row.step);
		printf("\n");
		break;
	}
}

/* Why restarts did not continue from memory. */
static void print_no_room(struct why *w)
{
	const struct record_no_room *no_room = &query_summary(w->source.query)->no_room;
	const struct record *r = source_record(&w->source, no_room->head.seq);
	char text[NOTICE_MAX];

	if (r == NULL || !notice_text(&w->source, r, text, sizeof(text)))
		return;
	if (w->json)
		(void)source_print_json(notice_json(&w->source, r));
	else
		printf("%s\n", text);
}

/* Behind all incidents: their sum, what went on besides, and what became of the run. */
static void print_rest(struct why *w)
{
	enum source_state state = source_state(&w->source, source_holder(&w->source));

	if (query_summary(w->source.query)->no_room.head.kind != 0)
		print_no_room(w);

	if (!w->json) {
		print_cost(query_summary(w->source.query));
		print_end(w, state);
	} else if (state == SOURCE_ENDED) {
		print_end_json(w);
	}
}

static int show_all(struct why *w)
{
	const struct query_summary *sum = query_summary(w->source.query);
	size_t shown = 0;

	for (size_t i = 0; i < sum->incident_count && !w->stop; i++) {
		if (w->incident != 0 && sum->incidents[i].fault.incident != w->incident)
			continue;
		shown++;
		if (!w->json)
			print_incident(w, &sum->incidents[i]);
		else if (!print_incident_json(w, &sum->incidents[i]))
			w->stop = true;
		let_go(w);
	}
	if (shown == 0 && w->incident != 0) {
		store_reader_park(w->source.reader);
		fprintf(stderr, "holdfast: why: there is no incident %llu; there are %zu\n",
		    (unsigned long long)w->incident, sum->incident_count);
		return CLI_EXIT_USAGE;
	}
	if (w->incident == 0 && !w->stop)
		print_rest(w);
	return 0;
}

static int show(struct why *w, const char *dir)
{
	bool damaged;
	int code;

	w->dir = dir;
	code = source_begin(&w->source, dir, &damaged);

	if (code == 0)
		code = show_all(w);
	source_close(&w->source);
	if (w->status != STATUS_OK)
		code = source_complain(&w->source, w->status);
	return source_flush(code == 0 && damaged ? CLI_EXIT_CONFIG : code);
}

int cli_why(int argc, char **argv)
{
	static struct why w;
	struct options o = {.command = "why",
	    .synopsis = "[OPTIONS] [DIR]",
	    .specs = specs,
	    .spec_count = OPT_COUNT,
	    .argc = argc,
	    .argv = argv,
	    .at = 1};
	const char *dir = RUNDIR_DEFAULT, *value;
	int option;

	while ((option = source_next_option(&o, &value, &dir)) >= 0) {
		if (option == OPT_DIR)
			dir = value;
		else if (option == OPT_FULL)
			w.full = true;
		else if (option == OPT_JSON)
			w.json = true;
		else if (!duration_count(value, 1, UINT32_MAX, &w.incident)) {
			fprintf(stderr, "holdfast: why: --incident %s: not a number from 1 on\n",
			    value);
			return CLI_EXIT_USAGE;
		}
	}
	if (option == OPTIONS_HELP)
		return 0;
	if (option == OPTIONS_BAD)
		return CLI_EXIT_USAGE;
	source_begin_output();
	return show(&w, dir);
}
