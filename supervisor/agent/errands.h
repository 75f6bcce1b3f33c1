/*
 * What the agent has its helpers do for the supervisor: evidence, digests, surveys of memory.
 *
 * Each command becomes one or more jobs and, whatever happens to them, exactly one answer a question: a helper
 * that fails, hangs or cannot be started is an answer too.
 */
#ifndef AGENT_ERRANDS_H
#define AGENT_ERRANDS_H

#include "journal/record.h"
#include "supervisor/agent/crew.h"
#include "supervisor/agent/link.h"
#include "supervisor/agent/spawn.h"

struct errands;
struct event_base;

struct errands *errands_new(struct event_base *base, const struct spawn_signals *signals,
    struct link *link, struct crew *crew, uint32_t rank_count); /* NULL: memory is short */
void errands_free(struct errands *e);

/* One RECORD_EVIDENCE.  A question that is being answered already is not asked twice. */
void errands_capture(struct errands *e, const struct decision_capture *capture);

/* One RECORD_MEMORY a rank. */
void errands_survey(struct errands *e, const struct decision_survey *survey);

/* One RECORD_VERIFIED for all the RECORD_RUNGs, or for one RECORD_KEPT; they are borrowed. */
void errands_verify(struct errands *e, const struct decision_verify *verify,
    const struct record *const rungs[], size_t count);

/* One RECORD_RUNG. */
void errands_digest(
    struct errands *e, const struct decision_digest *digest, const struct record_saved *saved);

/* A child ended: true when it was one of ours. */
bool errands_child(struct errands *e, int pid, int wait_status);
bool errands_idle(const struct errands *e); /* nothing is being answered */
size_t errands_pids(const struct errands *e, int pids[], size_t max);

#endif
