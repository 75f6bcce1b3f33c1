/* See errands.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <event2/event.h>
#include <zstd.h>

#include "supervisor/agent/errands.h"
#include "supervisor/agent/helper.h"
#include "supervisor/agent/job.h"
#include "supervisor/clock.h"
#include "trainer/snapshot.h"

#define EVIDENCE_MAX_BYTES (2u << 20)
#define EVIDENCE_LEVEL 6
#define LOOK_US 2000
#define LOOKS_MAX 100u
#define SELF "/proc/self/exe"

struct errands {
	struct event_base *base;
	const struct spawn_signals *signals;
	struct link *link;
	struct crew *crew;
	struct job *jobs;
	struct capture *captures; /* under way */
	uint32_t rank_count;
};

struct errands *errands_new(struct event_base *base, const struct spawn_signals *signals,
    struct link *link, struct crew *crew, uint32_t rank_count)
{
	struct errands *e = calloc(1, sizeof(*e));

	if (e == NULL)
		return NULL;
	e->base = base;
	e->signals = signals;
	e->link = link;
	e->crew = crew;
	e->rank_count = rank_count;
	return e;
}

/* Start a job; when even that fails, its end is told at once. */
static void start(struct errands *e, const char *const command[], uint64_t deadline_ns,
    size_t output_max_bytes, job_done *done, void *context)
{
	struct job_request request = {.command = command,
	    .signals = e->signals,
	    .deadline_ns = deadline_ns > 1000000 ? deadline_ns : 1000000,
	    .output_max_bytes = output_max_bytes,
	    .done = done,
	    .context = context};
	struct job_end end = {.wait_status = -1, .output = ""};

	if (!job_start(e->base, &request, &e->jobs))
		done(context, &end);
}

static int end_error(const struct job_end *end)
{
	if (end->late)
		return ETIME;
	return end->wait_status == 0 ? 0 : EIO;
}

/* --- evidence -------------------------------------------------------------------------------------------- */

struct capture {
	struct capture *next;
	struct errands *owner;
	struct event *look; /* while the rank's last words are on their way */
	unsigned looks;
	struct decision_capture question;
};

static void capture_forget(struct capture *capture)
{
	for (struct capture **at = &capture->owner->captures; *at != NULL; at = &(*at)->next)
		if (*at == capture) {
			*at = capture->next;
			break;
		}
	if (capture->look != NULL)
		event_free(capture->look);
	free(capture);
}

static void on_captured(void *context, const struct job_end *end)
{
	struct capture *capture = context;
	struct errands *e = capture->owner;
	size_t room = ZSTD_compressBound(end->output_bytes);
	void *frame = malloc(room);
	size_t size = frame != NULL && end->output_bytes > 0
	    ? ZSTD_compress(frame, room, end->output, end->output_bytes, EVIDENCE_LEVEL)
	    : 0;

	if (ZSTD_isError(size))
		size = 0;
	struct record_evidence *r = link_record(RECORD_EVIDENCE, sizeof(*r), size);

	r->rank = capture->question.rank;
	r->attempt = capture->question.attempt;
	r->incident = capture->question.incident;
	r->evidence_kind = capture->question.evidence_kind;
	r->raw_bytes = size > 0 ? (uint32_t)end->output_bytes : 0;
	r->text_bytes = (uint32_t)size;
	r->error = end_error(end);
	if (size > 0)
		memcpy(r + 1, frame, size);
	free(frame);
	link_post(e->link, &r->head, 0);
	crew_release_crashed(e->crew, r->attempt, r->rank);
	capture_forget(capture);
}

static void run_capture(struct capture *capture)
{
	const struct decision_capture *question = &capture->question;
	struct errands *e = capture->owner;
	struct crew_rank_view view;
	char pid[16], tid[16], kind[16], deadline[24];
	const char *command[] = {SELF, "helper-evidence", "--pid", pid, "--tid", tid, "--kind",
	    kind, "--out", view.out_path, "--err", view.err_path, "--recorded", view.recorded_path,
	    "--deadline-ms", deadline, NULL};

	if (!crew_view(e->crew, question->attempt, question->rank, &view)) {
		struct job_end end = {.wait_status = -1, .output = ""};

		on_captured(capture, &end);
		return;
	}
	snprintf(pid, sizeof(pid), "%d", view.pid);
	snprintf(tid, sizeof(tid), "%u", view.crash_tid);
	snprintf(kind, sizeof(kind), "%u", question->evidence_kind);
	/* The helper gives itself up a little before it is given up. */
	snprintf(deadline, sizeof(deadline), "%llu",
	    (unsigned long long)(question->deadline_ns / 1000000 * 9 / 10 + 1));
	start(e, command, question->deadline_ns, EVIDENCE_MAX_BYTES, on_captured, capture);
}

/* The last words of a rank that died are the ones to keep: wait, a little, until its logger has taken them. */
static void on_look(evutil_socket_t fd, short what, void *argument)
{
	struct capture *capture = argument;
	const struct decision_capture *question = &capture->question;
	struct timeval again = {.tv_usec = LOOK_US};

	(void)fd;
	(void)what;
	if (question->evidence_kind == EVIDENCE_TAIL && capture->look != NULL &&
	    capture->looks++ < LOOKS_MAX &&
	    crew_output_pending(capture->owner->crew, question->attempt, question->rank))
		event_add(capture->look, &again);
	else
		run_capture(capture);
}

void errands_capture(struct errands *e, const struct decision_capture *question)
{
	struct capture *capture;

	for (capture = e->captures; capture != NULL; capture = capture->next)
		if (capture->question.incident == question->incident &&
		    capture->question.rank == question->rank)
			return;
	capture = calloc(1, sizeof(*capture));
	if (capture == NULL)
		return; /* the policy's deadline answers */
	capture->owner = e;
	capture->question = *question;
	capture->next = e->captures;
	e->captures = capture;
	capture->look = evtimer_new(e->base, on_look, capture);
	on_look(-1, 0, capture);
}

/* --- memory ---------------------------------------------------------------------------------------------- */

struct survey {
	struct errands *owner;
	uint32_t rank, attempt;
	uint64_t before_step;
};

/* Newest first; only steps before the limit, which is where trust ends. */
static void fill_memory(
    struct record_memory *r, const struct snapshot_finding findings[], uint64_t before_step)
{
	unsigned count = 0;

	for (unsigned i = 0; i < MEMORY_SLOTS; i++) {
		const struct snapshot_finding *f = &findings[i];

		if (f->state == SNAPSHOT_EMPTY || f->step >= before_step)
			continue;
		if (f->state == SNAPSHOT_TORN) {
			if (r->bad_step == STEP_NONE || f->step > r->bad_step)
				r->bad_step = f->step;
			continue;
		}
		unsigned at = count++;

		for (; at > 0 && r->step[at - 1] < f->step; at--)
			r->step[at] = r->step[at - 1];
		r->step[at] = f->step;
		if (f->size_bytes > r->size_bytes)
			r->size_bytes = f->size_bytes;
	}
}

static void on_surveyed(void *context, const struct job_end *end)
{
	struct survey *survey = context;
	struct record_memory *r = link_record(RECORD_MEMORY, sizeof(*r), 0);
	struct snapshot_finding findings[MEMORY_SLOTS];

	r->rank = survey->rank;
	r->attempt = survey->attempt;
	r->bad_step = STEP_NONE;
	for (unsigned i = 0; i < MEMORY_SLOTS; i++)
		r->step[i] = STEP_NONE;
	if (end_error(end) == 0 && end->output_bytes == sizeof(findings)) {
		memcpy(findings, end->output, sizeof(findings));
		fill_memory(r, findings, survey->before_step);
	}
	link_post(survey->owner->link, &r->head, 0);
	free(survey);
}

void errands_survey(struct errands *e, const struct decision_survey *question)
{
	for (uint32_t rank = 0; rank < e->rank_count; rank++) {
		struct survey *survey = calloc(1, sizeof(*survey));
		char path[512];
		char before[24];
		const char *command[] = {
		    SELF, "helper-survey", "--path", path, "--before-step", before, NULL};

		if (survey == NULL)
			return; /* the policy's deadline answers */
		*survey = (struct survey){.owner = e,
		    .rank = rank,
		    .attempt = question->attempt,
		    .before_step = question->before_step};
		snprintf(path, sizeof(path), "%s", crew_snapshot_path(e->crew, rank));
		snprintf(before, sizeof(before), "%llu", (unsigned long long)question->before_step);
		start(e, command, question->deadline_ns,
		    sizeof(struct snapshot_finding) * MEMORY_SLOTS, on_surveyed, survey);
	}
}

/* --- files ----------------------------------------------------------------------------------------------- */

/* A rung under verification: one job a shard, one answer. */
struct verification {
	struct errands *owner;
	struct decision_verify question;
	size_t open_shards;
	uint32_t result; /* the first that was not VERIFY_OK */
	int32_t error;
};

struct shard {
	struct verification *whole;
	uint64_t size_bytes;
	uint8_t digest[16];
};

static uint32_t judge(
    const struct shard *shard, const struct job_end *end, const struct helper_digest *found)
{
	if (end->late)
		return VERIFY_LATE;
	if (end_error(end) != 0)
		return VERIFY_UNREADABLE;
	if (found->error == ENOENT)
		return VERIFY_MISSING;
	if (found->error != 0)
		return VERIFY_UNREADABLE;
	if (found->size_bytes != shard->size_bytes)
		return VERIFY_SIZE;
	if (memcmp(found->digest, shard->digest, sizeof(shard->digest)) != 0)
		return VERIFY_DIGEST;
	return VERIFY_OK;
}

static bool take_digest(const struct job_end *end, struct helper_digest *found)
{
	memset(found, 0, sizeof(*found));
	if (end->output_bytes != sizeof(*found))
		return false;
	memcpy(found, end->output, sizeof(*found));
	return true;
}

static void finish_verification(struct verification *v)
{
	struct record_verified *r = link_record(RECORD_VERIFIED, sizeof(*r), 0);

	r->attempt = v->question.attempt;
	r->step = v->question.step;
	r->result = v->result;
	r->error = v->error;
	link_post(v->owner->link, &r->head, 0);
	free(v);
}

static void on_shard(void *context, const struct job_end *end)
{
	struct shard *shard = context;
	struct verification *v = shard->whole;
	struct helper_digest found;
	uint32_t result = take_digest(end, &found) || end->late ? judge(shard, end, &found)
								: VERIFY_UNREADABLE;

	if (result != VERIFY_OK && v->result == VERIFY_OK) {
		v->result = result;
		v->error = found.error;
	}
	free(shard);
	if (--v->open_shards == 0)
		finish_verification(v);
}

/* What a rung's record says of its file or directory; returns the path. */
static const char *expected_of(const struct record *r, struct shard *shard)
{
	const struct record_rung *rung = (const struct record_rung *)r;
	const struct record_kept *kept = (const struct record_kept *)r;
	bool copy = r->kind == RECORD_KEPT;

	shard->size_bytes = copy ? kept->size_bytes : rung->size_bytes;
	memcpy(shard->digest, copy ? kept->digest : rung->digest, sizeof(shard->digest));
	return copy ? RECORD_TEXT(r, struct record_kept) : RECORD_TEXT(r, struct record_rung);
}

void errands_verify(struct errands *e, const struct decision_verify *question,
    const struct record *const rungs[], size_t count)
{
	struct verification *v = calloc(1, sizeof(*v));

	if (v == NULL)
		return; /* the policy's deadline answers */
	v->owner = e;
	v->question = *question;
	v->open_shards = 1; /* held until every shard's job was started */
	if (count < question->shard_count)
		v->result = VERIFY_MISSING;
	for (size_t i = 0; i < count; i++) {
		struct shard *shard = calloc(1, sizeof(*shard));

		if (shard == NULL) {
			v->result = VERIFY_UNREADABLE;
			break;
		}
		const char *command[] = {
		    SELF, "helper-digest", "--path", expected_of(rungs[i], shard), NULL};

		shard->whole = v;
		v->open_shards++;
		start(e, command, question->deadline_ns, sizeof(struct helper_digest), on_shard, shard);
	}
	if (--v->open_shards == 0)
		finish_verification(v);
}

struct digest {
	struct errands *owner;
	uint64_t saved_seq;
	struct record_saved *saved;
};

static void on_digested(void *context, const struct job_end *end)
{
	struct digest *d = context;
	const struct record_saved *saved = d->saved;
	struct record_rung *r = link_record(RECORD_RUNG, sizeof(*r), saved->text_bytes);
	struct helper_digest found;
	bool whole = take_digest(end, &found);

	r->rank = saved->rank;
	r->attempt = saved->attempt;
	r->saved_seq = d->saved_seq;
	r->step = saved->step;
	r->size_bytes = found.size_bytes;
	memcpy(r->digest, found.digest, sizeof(r->digest));
	r->shard_count = saved->shard_count;
	r->error = end->late ? ETIME : end_error(end) != 0 || !whole ? EIO : found.error;
	r->finite = r->error == 0 ? found.finite : 2;
	r->text_bytes = saved->text_bytes;
	memcpy(r + 1, saved + 1, saved->text_bytes);
	link_post(d->owner->link, &r->head, 0);
	free(d->saved);
	free(d);
}

void errands_digest(
    struct errands *e, const struct decision_digest *question, const struct record_saved *saved)
{
	struct digest *d = calloc(1, sizeof(*d));

	if (d == NULL || (d->saved = malloc(saved->head.size_bytes)) == NULL) {
		free(d);
		return; /* the policy's deadline answers */
	}
	memcpy(d->saved, saved, saved->head.size_bytes);
	d->owner = e;
	d->saved_seq = question->saved_seq;
	const char *command[] = {SELF, "helper-digest", "--path", (const char *)(d->saved + 1), NULL};

	start(e, command, question->deadline_ns, sizeof(struct helper_digest), on_digested, d);
}

/* --- the rest -------------------------------------------------------------------------------------------- */

bool errands_child(struct errands *e, int pid, int wait_status)
{
	return job_reaped(e->jobs, pid, wait_status);
}

bool errands_idle(const struct errands *e)
{
	return e->captures == NULL && e->jobs == NULL;
}

size_t errands_pids(const struct errands *e, int pids[], size_t max)
{
	return job_pids(e->jobs, pids, max);
}

void errands_free(struct errands *e)
{
	if (e == NULL)
		return;
	/* What the jobs were for is lost with them: nobody is left to tell. */
	job_cancel_all(&e->jobs);
	for (struct capture *capture = e->captures, *next; capture != NULL; capture = next) {
		next = capture->next;
		if (capture->look != NULL)
			event_free(capture->look);
		free(capture);
	}
	free(e);
}
