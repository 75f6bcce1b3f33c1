/*
 * The fold of the journal that people's commands read, against a journal whose every answer is known; taken whole,
 * turn by turn, and over random steps against a count made the slow way.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "journal/query.h"
#include "journal/sentence.h"
#include "tests/unit/samples.h"

#define MS 1000000ull

static uint64_t seed;
static struct cause why;

static void expect(enum status status, enum status expected, const char *what)
{
	if (status != expected)
		fail_msg("%s: status %d, not %d (%s %lld %s)", what, status, expected,
		    why.step != NULL ? why.step : "", (long long)why.number, why.subject);
}

struct book { /* a journal in a directory of its own, written a turn at a time */
	char *dir;
	char path[4096];
	struct store *st;
	uint64_t now_ns;
};

static void book_open(struct book *book)
{
	*book = (struct book){.dir = sample_directory()};
	snprintf(book->path, sizeof(book->path), "%s/journal", book->dir);
	expect(store_open(book->path, &book->st, &why), STATUS_OK, "create");
}

static void book_close(struct book *book)
{
	store_close(book->st);
	sample_remove(book->dir);
}

static uint64_t book_add(struct book *book, void *record)
{
	struct record *r = record;

	r->time_ns = book->now_ns;
	expect(store_append(book->st, r, &why), STATUS_OK, "append");
	return r->seq;
}

static void book_begin(struct book *book)
{
	expect(store_begin(book->st, &why), STATUS_OK, "begin");
}

static void book_commit(struct book *book, bool late)
{
	struct record_turn turn = {
	    .head = {.kind = RECORD_TURN, .version = 1, .size_bytes = sizeof(turn)}, .late = late};

	book_add(book, &turn);
	expect(store_commit(book->st, &why), STATUS_OK, "commit");
}

static void book_step(struct book *book, uint32_t attempt, uint64_t step, uint32_t flags)
{
	struct record_step *row = sample_step(2, attempt, step);

	book->now_ns += 10 * MS;
	row->flags = flags;
	book_add(book, row);
	free(row);
}

#define HEAD(number, type) .head = {.kind = number, .version = 1, .size_bytes = sizeof(struct type)}

static void book_start(struct book *book, uint32_t attempt, uint32_t incident, uint64_t step)
{
	struct decision_start start = {HEAD(DECISION_START, decision_start), .attempt = attempt,
	    .source = step == STEP_NONE ? START_SCRATCH : START_MEMORY, .step = step,
	    .rank_count = 2, .incident = incident};

	book_add(book, &start);
}

static void book_run(struct book *book)
{
	struct record *run = sample_record(RECORD_RUN, &seed);
	struct record_session session = {HEAD(RECORD_SESSION, record_session), .wall_ns = 5000,
	    .supervisor_pid = 42, .session = 1};
	struct record_agent agent = {HEAD(RECORD_AGENT, record_agent), .agent_pid = 43};

	((struct record_run *)run)->wall_ns = 4000;
	book_begin(book);
	book_add(book, run);
	free(run);
	book->now_ns = 1000;
	book_add(book, &session);
	book_add(book, &agent);
	book_start(book, 1, 0, STEP_NONE);
	book_commit(book, false);
}

static uint64_t book_rung(struct book *book, uint64_t step)
{
	struct record *rung = sample_record(RECORD_RUNG, &seed);
	uint64_t seq;

	((struct record_rung *)rung)->step = step;
	seq = book_add(book, rung);
	free(rung);
	return seq;
}

static void book_standing(struct book *book, uint64_t step, uint32_t standing)
{
	struct decision_standing decision = {
	    HEAD(DECISION_STANDING, decision_standing), .step = step, .standing = standing};

	book_add(book, &decision);
}

/*
 * attempt 1: steps 0..9 and a partial 10; killed; attempt 2 does not live; attempt 3 from memory: steps 8..20 without
 * 15, which is lost in a gap; rungs at 5 (good) and 10 (good, then suspect); end.
 */
static uint64_t write_story(struct book *book, uint64_t *rung_seq)
{
	struct decision_fault fault = {HEAD(DECISION_FAULT, decision_fault), .incident = 1,
	    .fault = FAULT_SIGNAL, .attempt = 1, .rank = 1, .step = 9, .onset_step = 10,
	    .detail = SIGKILL};
	struct decision_recovered recovered = {HEAD(DECISION_RECOVERED, decision_recovered),
	    .incident = 1, .attempt = 3, .step = 10, .redone_steps = 2, .down_ns = 70 * MS};
	struct record_gap gap = {HEAD(RECORD_GAP, record_gap), .count = 3};
	struct record_trouble trouble = {HEAD(RECORD_TROUBLE, record_trouble)};
	struct decision_end end = {HEAD(DECISION_END, decision_end), .reason = END_DONE};
	struct record *evidence = sample_record(RECORD_EVIDENCE, &seed);
	uint64_t evidence_seq;

	book_run(book);
	for (uint64_t step = 0; step < 10; step++) {
		book_begin(book);
		book_step(book, 1, step, 0);
		if (step == 5)
			*rung_seq = book_rung(book, 5);
		book_commit(book, false);
	}
	book_begin(book);
	book_standing(book, 5, STANDING_GOOD);
	book_step(book, 1, 10, STEP_PARTIAL);
	book_add(book, &fault);
	book_commit(book, true);
	book_begin(book);
	((struct record_evidence *)evidence)->incident = 1;
	evidence_seq = book_add(book, evidence);
	free(evidence);
	book_start(book, 2, 1, 7);
	book_commit(book, false);
	book_begin(book);
	book_start(book, 3, 1, 7);
	book_commit(book, false);
	for (uint64_t step = 8; step <= 20; step++) {
		if (step == 15)
			continue;
		book_begin(book);
		book_step(book, 3, step, step <= 10 ? STEP_AGAIN : 0);
		if (step == 10) {
			book_add(book, &recovered);
			book_rung(book, 10);
		}
		if (step == 16)
			book_add(book, &gap);
		book_commit(book, false);
	}
	book_begin(book);
	book_standing(book, 10, STANDING_GOOD);
	book_add(book, &trouble);
	book_commit(book, false);
	book_begin(book);
	book_standing(book, 10, STANDING_SUSPECT);
	book_add(book, &end);
	book_commit(book, false);
	return evidence_seq;
}

static void check_story(
    struct query *q, const struct book *book, uint64_t evidence_seq, uint64_t rung_seq)
{
	const struct query_summary *sum = query_summary(q);
	const struct query_incident *incident;
	char text[SENTENCE_MAX];

	assert_int_equal(sum->last_seq, store_last_seq(book->st));
	assert_true(sum->has_run);
	assert_string_equal(sum->command, "python3 train.py '--name=a b' ''");
	assert_string_equal(sum->directory, "/home/user/run");
	assert_int_equal(sum->rank_count, 3);
	assert_int_equal(sum->wall_start_ns, 4000);
	assert_int_equal(sum->session.supervisor_pid, 42);
	assert_int_equal(sum->agent_pid, 43);
	assert_int_equal(query_wall_ns(sum, 3000), 7000);
	assert_int_equal(query_wall_ns(sum, 0), 4000);
	assert_int_equal(sum->attempt, 3);
	assert_int_equal(sum->attempt_count, 3);
	assert_true(sum->has_row);
	assert_int_equal(sum->last_row.step, 20);
	assert_int_equal(sum->first_step, 0);
	assert_int_equal(sum->high_step, 20);
	assert_int_equal(sum->complete_step, 20);
	assert_int_equal(sum->missing_count, 1);
	assert_int_equal(sum->row_count, 23);
	assert_int_equal(sum->partial_count, 1);
	assert_int_equal(sum->again_count, 3);
	if (sum->steps_per_s < 99.9 || sum->steps_per_s > 100.1)
		fail_msg("%.17g steps/s, not 100", sum->steps_per_s);
	assert_int_equal(sum->good_step, 5);
	assert_int_equal(sum->good_rung_seq, rung_seq);
	assert_true(sum->ended);
	assert_int_equal(sum->end.reason, END_DONE);
	assert_int_equal(sum->gap_count, 1);
	assert_int_equal(sum->gap_reports, 3);
	assert_int_equal(sum->late_turns, 1);
	assert_int_equal(sum->trouble_count, 1);
	assert_int_equal(sum->turn_count, store_last_turn(book->st));
	assert_int_equal(sum->time_ns, book->now_ns);
	assert_int_equal(sum->incident_count, 1);
	assert_null(query_find_incident(q, 2));
	incident = query_find_incident(q, 1);
	assert_ptr_equal(incident, &sum->incidents[0]);
	assert_int_equal(incident->fault.detail, SIGKILL);
	assert_int_equal(incident->evidence_count, 1);
	assert_int_equal(incident->evidence_seqs[0], evidence_seq);
	assert_int_equal(incident->start_count, 2);
	assert_int_equal(incident->start_seq, sum->start_seq);
	assert_true(incident->recovered);
	assert_int_equal(incident->recovery.redone_steps, 2);
	assert_int_equal(sum->redone_steps, 2);
	assert_int_equal(sum->down_ns, 70 * MS);
	query_start_sentence(q, incident->start_seq, text, sizeof(text));
	assert_string_equal(text, "attempt 3 continues from memory after step 7");
	query_start_sentence(q, 1, text, sizeof(text));
	assert_string_equal(text, "");
}

static void folds_the_story(void **state)
{
	struct store_reader *rd;
	struct query *q;
	struct book book;
	uint64_t evidence_seq, rung_seq = 0;

	(void)state;
	book_open(&book);
	evidence_seq = write_story(&book, &rung_seq);
	expect(store_reader_open(book.path, &rd, &why), STATUS_OK, "open to read");
	q = query_new(rd);
	assert_non_null(q);
	expect(query_update(q, &why), STATUS_OK, "update");
	check_story(q, &book, evidence_seq, rung_seq);
	/* Nothing new: nothing changes. */
	expect(store_reader_refresh(rd, &why), STATUS_OK, "refresh");
	expect(query_update(q, &why), STATUS_OK, "update");
	check_story(q, &book, evidence_seq, rung_seq);
	query_free(q);
	store_reader_close(rd);
	book_close(&book);
	query_free(NULL);
}

/* The same, following the journal: one refresh and one update a turn. */
static void follows_the_story(void **state)
{
	struct store_reader *rd, *all;
	struct book book, copy;
	struct query *q;
	uint64_t evidence_seq, rung_seq = 0, seq = 0;

	(void)state;
	book_open(&book);
	evidence_seq = write_story(&book, &rung_seq);
	expect(store_reader_open(book.path, &all, &why), STATUS_OK, "open to read");
	book_open(&copy);
	expect(store_reader_open(copy.path, &rd, &why), STATUS_OK, "open to read");
	q = query_new(rd);
	expect(query_update(q, &why), STATUS_OK, "update of an empty journal");
	assert_false(query_summary(q)->has_run);
	assert_int_equal(query_summary(q)->first_step, STEP_NONE);
	while (seq < store_reader_last_seq(all)) {
		bool turn_ends = false;
		book_begin(&copy);
		while (!turn_ends) {
			const struct record *r;
			struct record *again;
			expect(store_reader_get(all, ++seq, &r, &why), STATUS_OK, "read");
			again = malloc(r->size_bytes);
			memcpy(again, r, r->size_bytes);
			turn_ends = r->kind == RECORD_TURN;
			copy.now_ns = r->time_ns;
			book_add(&copy, again);
			free(again);
		}
		expect(store_commit(copy.st, &why), STATUS_OK, "commit");
		expect(store_reader_refresh(rd, &why), STATUS_OK, "refresh");
		expect(query_update(q, &why), STATUS_OK, "update");
		assert_int_equal(query_summary(q)->last_seq, seq);
	}
	check_story(q, &copy, evidence_seq, rung_seq);
	query_free(q);
	store_reader_close(all);
	store_reader_close(rd);
	book_close(&copy);
	book_close(&book);
}

static void book_incident(struct book *book, uint32_t number, uint32_t attempt)
{
	struct decision_fault fault = {HEAD(DECISION_FAULT, decision_fault), .incident = number,
	    .fault = FAULT_KICK, .attempt = attempt, .rank = RANK_NONE, .onset_step = STEP_NONE};

	book_add(book, &fault);
}

static void book_recovered(
    struct book *book, uint32_t number, uint64_t step, uint64_t redone, uint64_t down_ns)
{
	struct decision_recovered recovered = {HEAD(DECISION_RECOVERED, decision_recovered),
	    .incident = number, .attempt = 2, .step = step, .redone_steps = redone,
	    .down_ns = down_ns};

	book_add(book, &recovered);
}

/* Three incidents that one step ends are one interruption; and what was reached does not go back. */
static void counts_an_interruption_once(void **state)
{
	struct store_reader *rd;
	const struct query_summary *sum;
	struct query *q;
	struct book book;

	(void)state;
	book_open(&book);
	book_run(&book);
	book_begin(&book);
	book_step(&book, 1, 8, 0);
	book_step(&book, 1, 9, 0);
	book_step(&book, 1, 10, STEP_PARTIAL);
	for (uint32_t number = 1; number <= 4; number++)
		book_incident(&book, number, 1);
	book_start(&book, 2, 1, 7);
	book_step(&book, 2, 8, STEP_AGAIN);
	book_commit(&book, false);
	expect(store_reader_open(book.path, &rd, &why), STATUS_OK, "open to read");
	q = query_new(rd);
	assert_non_null(q);
	sum = query_summary(q);
	assert_int_equal(sum->complete_step, STEP_NONE);
	expect(query_update(q, &why), STATUS_OK, "update");
	assert_int_equal(sum->last_row.step, 8);
	assert_int_equal(sum->complete_step, 9);
	assert_int_equal(sum->high_step, 10);
	book_begin(&book);
	book_recovered(&book, 1, 10, 1, 50 * MS);
	book_recovered(&book, 2, 10, 2, 70 * MS);
	book_recovered(&book, 3, 10, 0, 60 * MS);
	book_recovered(&book, 4, 11, 0, 5 * MS);
	book_commit(&book, false);
	expect(store_reader_refresh(rd, &why), STATUS_OK, "refresh");
	expect(query_update(q, &why), STATUS_OK, "update");
	assert_int_equal(sum->incident_count, 4);
	assert_int_equal(sum->down_ns, 75 * MS);
	assert_int_equal(sum->redone_steps, 2);
	query_free(q);
	store_reader_close(rd);
	book_close(&book);
}

/* Random steps, out of order and again, against a table of which were seen. */
static void counts_missing_steps(void **state)
{
	(void)state;
	for (int round = 0; round < 20; round++) {
		bool seen[300] = {false};
		uint64_t first = 300, last = 0, missing = 0;
		struct store_reader *rd;
		struct book book;
		struct query *q;

		book_open(&book);
		expect(store_reader_open(book.path, &rd, &why), STATUS_OK, "open to read");
		q = query_new(rd);
		for (int turn = 0; turn < 10; turn++) {
			book_begin(&book);
			for (int i = 0; i < 40; i++) {
				uint64_t step = sample_random(&seed) % (turn < 5 ? 300 : 100);
				book_step(&book, 1, step, 0);
				seen[step] = true;
				first = step < first ? step : first;
				last = step > last ? step : last;
			}
			book_commit(&book, false);
			missing = 0;
			for (uint64_t step = first; step <= last; step++)
				missing += !seen[step];
			expect(store_reader_refresh(rd, &why), STATUS_OK, "refresh");
			expect(query_update(q, &why), STATUS_OK, "update");
			if (query_summary(q)->missing_count != missing)
				fail_msg("%llu steps missing, not %llu",
				    (unsigned long long)query_summary(q)->missing_count,
				    (unsigned long long)missing);
		}
		query_free(q);
		store_reader_close(rd);
		book_close(&book);
	}
}

/* More rows than the rate looks at: 100 at 10 ms, then 150 at 40 ms. */
static void measures_the_rate(void **state)
{
	struct store_reader *rd;
	struct book book;
	struct query *q;

	(void)state;
	book_open(&book);
	book_run(&book);
	book_begin(&book);
	for (uint64_t step = 0; step < 250; step++) {
		if (step >= 100)
			book.now_ns += 30 * MS;
		book_step(&book, 1, step, 0);
	}
	book_commit(&book, false);
	expect(store_reader_open(book.path, &rd, &why), STATUS_OK, "open to read");
	q = query_new(rd);
	expect(query_update(q, &why), STATUS_OK, "update");
	if (query_summary(q)->steps_per_s < 24.99 || query_summary(q)->steps_per_s > 25.01)
		fail_msg("%.17g steps/s, not 25", query_summary(q)->steps_per_s);
	query_free(q);
	store_reader_close(rd);
	book_close(&book);
}

/* A record that is not valid stops the fold in front of it. */
static void stops_before_nonsense(void **state)
{
	struct store_reader *rd;
	struct book book;
	struct query *q;
	struct record *step = &sample_step(2, 1, 3)->head, *gap = sample_record(RECORD_GAP, &seed);

	(void)state;
	book_open(&book);
	book_run(&book);
	book_begin(&book);
	((struct record_step *)step)->present_count = 77;
	book_add(&book, step);
	book_commit(&book, false);
	expect(store_reader_open(book.path, &rd, &why), STATUS_OK, "open to read");
	q = query_new(rd);
	expect(query_update(q, &why), STATUS_BAD, "update");
	assert_int_equal(query_summary(q)->last_seq, 5);
	assert_int_equal(query_summary(q)->row_count, 0);
	query_free(q);
	store_reader_close(rd);
	book_close(&book);
	book_open(&book);
	book_begin(&book);
	gap->kind = 200;
	book_add(&book, gap);
	book_commit(&book, false);
	expect(store_reader_open(book.path, &rd, &why), STATUS_OK, "open to read");
	q = query_new(rd);
	expect(query_update(q, &why), STATUS_REFUSED, "update");
	assert_int_equal(why.number, 200);
	query_free(q);
	store_reader_close(rd);
	book_close(&book);
	free(step);
	free(gap);
}

static void says_faults(void **state)
{
	static const struct {
		struct decision_fault fault;
		const char *text;
	} cases[] = {
	    {{.fault = FAULT_EXIT, .rank = 0, .detail = 3, .step = 7},
		"rank 0 ended with exit status 3 after step 7"},
	    {{.fault = FAULT_SIGNAL, .rank = 1, .detail = SIGKILL, .step = 812},
		"rank 1 was killed by SIGKILL after step 812"},
	    {{.fault = FAULT_SIGNAL, .rank = 1, .detail = SIGSEGV, .step = STEP_NONE, .repeat = 2},
		"rank 1 was killed by SIGSEGV before the first step, as it was 2 times before"},
	    {{.fault = FAULT_STOPPED, .rank = 0, .detail = SIGSTOP, .step = 5, .value_ns = 3000 * MS},
		"rank 0 was stopped by SIGSTOP after step 5 and not continued for 3.0 s"},
	    {{.fault = FAULT_STALL_IDLE, .rank = 0, .step = 5, .value_ns = 4200 * MS, .limit_ns = 2000 * MS},
		"rank 0 made no progress after step 5 for 4.2 s (limit 2.0 s) and used no CPU"},
	    {{.fault = FAULT_STALL_SPINNING,
		 .rank = RANK_NONE,
		 .step = 5,
		 .value_ns = 4200 * MS,
		 .limit_ns = 2000 * MS},
		"the group made no progress after step 5 for 4.2 s (limit 2.0 s) while it kept "
		"using CPU"},
	    {{.fault = FAULT_NOT_FINITE, .rank = 1, .step = 9, .onset_step = 9},
		"rank 1 reported a value that is not a finite number at step 9"},
	    {{.fault = FAULT_BAD_SNAPSHOT, .rank = 1, .step = 9, .onset_step = STEP_NONE},
		"the newest snapshot in memory of rank 1 failed its digest and is not used"},
	    {{.fault = FAULT_BAD_CHECKPOINT, .rank = RANK_NONE, .step = 9, .onset_step = STEP_NONE},
		"a checkpoint on disk failed its verification and is not used"},
	    {{.fault = FAULT_BAD_CHECKPOINT, .rank = RANK_NONE, .detail = VERIFY_MISSING, .onset_step = 8},
		"the checkpoint of step 8 on disk is missing and is not used"},
	    {{.fault = FAULT_BAD_CHECKPOINT, .rank = RANK_NONE, .detail = VERIFY_SIZE, .onset_step = 8},
		"the checkpoint of step 8 on disk has another size than when it was announced and "
		"is not used"},
	    {{.fault = FAULT_BAD_CHECKPOINT, .rank = RANK_NONE, .detail = VERIFY_DIGEST, .onset_step = 8},
		"the checkpoint of step 8 on disk has another digest than when it was announced "
		"and is not used"},
	    {{.fault = FAULT_BAD_CHECKPOINT, .rank = RANK_NONE, .detail = VERIFY_UNREADABLE, .onset_step = 8},
		"the checkpoint of step 8 on disk cannot be read and is not used"},
	    {{.fault = FAULT_BAD_CHECKPOINT,
		 .rank = RANK_NONE,
		 .detail = VERIFY_LATE,
		 .onset_step = 8,
		 .limit_ns = 3000 * MS},
		"the checkpoint of step 8 on disk was not verified in time (limit 3.0 s) and is "
		"not used"},
	    {{.fault = FAULT_BAD_CHECKPOINT, .rank = RANK_NONE, .detail = 77, .onset_step = 8},
		"the checkpoint of step 8 on disk failed its verification and is not used"},
	    {{.fault = FAULT_SPAWN, .rank = 2, .detail = 2, .step = STEP_NONE},
		"rank 2 could not be started: No such file or directory"},
	    {{.fault = FAULT_AGENT_LOST, .attempt = 4, .rank = RANK_NONE, .step = 100},
		"the agent was lost, and attempt 4 with it, after step 100"},
	    {{.fault = FAULT_OUT_OF_MEMORY, .rank = 0, .step = 3, .repeat = 1},
		"rank 0 was killed by the kernel because memory ran out after step 3, as it was "
		"once before"},
	    {{.fault = FAULT_KICK, .rank = RANK_NONE, .step = 3},
		"a person asked for a restart after step 3"},
	};
	char text[SENTENCE_MAX], cut[8];

	(void)state;
	assert_int_equal(sizeof(cases) / sizeof(cases[0]) >= FAULT_COUNT - 1, true);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		sentence_fault(&cases[i].fault, text, sizeof(text));
		assert_string_equal(text, cases[i].text);
		sentence_fault(&cases[i].fault, cut, sizeof(cut));
		assert_int_equal(strlen(cut), 7);
		assert_memory_equal(cut, text, 7);
		sentence_fault(&cases[i].fault, cut, 1);
		assert_string_equal(cut, "");
	}
}

static void says_the_rest(void **state)
{
	struct decision_start start = {.attempt = 3, .source = START_MEMORY, .step = 811};
	struct decision_recovered recovered = {.step = 812, .redone_steps = 1, .down_ns = 412 * MS};
	struct decision_end end = {.reason = END_DONE};
	struct record_exit exit_record = {.rank = 2, .wait_status = 1 << 8};
	char text[SENTENCE_MAX];

	(void)state;
	sentence_start(&start, NULL, text, sizeof(text));
	assert_string_equal(text, "attempt 3 continues from memory after step 811");
	start = (struct decision_start){.attempt = 4, .source = START_FILE, .step = 800};
	sentence_start(&start, "checkpoints/step-800.safetensors", text, sizeof(text));
	assert_string_equal(
	    text, "attempt 4 continues from checkpoints/step-800.safetensors after step 800");
	start = (struct decision_start){.attempt = 1, .source = START_SCRATCH, .step = STEP_NONE};
	sentence_start(&start, NULL, text, sizeof(text));
	assert_string_equal(text, "attempt 1 starts from the beginning");
	sentence_recovered(&recovered, text, sizeof(text));
	assert_string_equal(text, "stepping again at step 812 after 412 ms, 1 step was made again");
	sentence_end(&end, text, sizeof(text));
	assert_string_equal(text, "the run is done: every rank ended with status 0");
	end = (struct decision_end){.reason = END_NO_PROGRESS, .exit_code = 139, .incident = 5};
	sentence_end(&end, text, sizeof(text));
	assert_string_equal(
	    text, "the run was given up: restart after restart brought no new step (exit status 139, see incident 5)");
	sentence_exit(&exit_record, text, sizeof(text));
	assert_string_equal(text, "rank 2 ended with exit status 1");
	exit_record.wait_status = SIGSEGV | 0x80;
	sentence_exit(&exit_record, text, sizeof(text));
	assert_string_equal(text, "rank 2 was killed by SIGSEGV");
	sentence_signal(77, text, sizeof(text));
	assert_string_equal(text, "signal 77");
	sentence_duration(750 * 1000000000ull, text, sizeof(text));
	assert_string_equal(text, "12 min 30 s");
	sentence_duration(UINT64_MAX, text, sizeof(text));
	assert_string_equal(text, "5124095 h 34 min");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(folds_the_story),
	    cmocka_unit_test(follows_the_story),
	    cmocka_unit_test(counts_an_interruption_once),
	    cmocka_unit_test(counts_missing_steps),
	    cmocka_unit_test(measures_the_rate),
	    cmocka_unit_test(stops_before_nonsense),
	    cmocka_unit_test(says_faults),
	    cmocka_unit_test(says_the_rest),
	};

	seed = sample_seed(1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
