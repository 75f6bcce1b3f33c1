/* See notice.h. */
#include <stdio.h>
#include <string.h>

#include "journal/print.h"
#include "supervisor/cli/notice.h"

static void trouble(const struct record_trouble *r, char *out, size_t size)
{
	char lasted[48];

	sentence_duration(r->head.time_ns > r->since_ns ? r->head.time_ns - r->since_ns : 0, lasted,
	    sizeof(lasted));
	snprintf(out, size, "the journal could not be written for %s; %u decisions are marked late",
	    lasted, r->late_count);
}

static void wish(const struct record_control *r, char *out, size_t size)
{
	static const char *const wishes[] = {
	    [CONTROL_STOP] = "a stop", [CONTROL_KICK] = "a restart", [CONTROL_CHECKPOINT] = "a checkpoint"};
	const char *what = r->verb >= CONTROL_STOP && r->verb <= CONTROL_CHECKPOINT
	    ? wishes[r->verb]
	    : "something unknown";

	if (r->verb == CONTROL_USR1 || r->verb == CONTROL_USR2)
		snprintf(out, size, "SIGUSR%u came, for every rank that lives",
		    r->verb == CONTROL_USR1 ? 1u : 2u);
	else if (r->pid == 0)
		snprintf(out, size, "a signal asked for %s", what);
	else
		snprintf(out, size, "process %u of user %u asked for %s", r->pid, r->uid, what);
}

/* "incident 3: " in front of what belongs to one. */
static size_t begin_incident(uint32_t incident, char *out, size_t size)
{
	int used = incident != 0 ? snprintf(out, size, "incident %u: ", incident) : 0;

	return used > 0 && (size_t)used < size ? (size_t)used : 0;
}

bool notice_text(struct source *s, const struct record *r, char *out, size_t size)
{
	const struct decision_start *start = (const struct decision_start *)r;
	size_t used;

	out[0] = '\0';
	switch (r->kind) {
	case DECISION_FAULT:
		used = begin_incident(((const struct decision_fault *)r)->incident, out, size);
		sentence_fault((const struct decision_fault *)r, out + used, size - used);
		break;
	case DECISION_START:
		used = begin_incident(start->incident, out, size);
		query_start_sentence(s->query, r->seq, out + used, size - used);
		break;
	case DECISION_RECOVERED:
		used = begin_incident(((const struct decision_recovered *)r)->incident, out, size);
		sentence_recovered((const struct decision_recovered *)r, out + used, size - used);
		break;
	case DECISION_END:
		sentence_end((const struct decision_end *)r, out, size);
		break;
	case RECORD_CLEAR:
		if (((const struct record_clear *)r)->stuck == 0)
			return false;
		sentence_stuck((const struct record_clear *)r, out, size);
		break;
	case RECORD_TROUBLE:
		trouble((const struct record_trouble *)r, out, size);
		break;
	case RECORD_NO_ROOM:
		sentence_no_room((const struct record_no_room *)r, out, size);
		break;
	case RECORD_PROGRESS:
		sentence_progress(((const struct record_progress *)r)->format,
		    ((const struct record_progress *)r)->rank, out, size);
		break;
	case RECORD_CONTROL:
		wish((const struct record_control *)r, out, size);
		break;
	default:
		return false;
	}
	/* A path in it is the trainer's word. */
	source_plain(out);
	return out[0] != '\0';
}

json_t *notice_json(struct source *s, const struct record *r)
{
	char text[NOTICE_MAX];
	json_t *object = NULL;

	if (!notice_text(s, r, text, sizeof(text)) ||
	    print_record_json(r, 0, &object, NULL) != STATUS_OK)
		return NULL;
	json_object_set_new(object, "sentence", print_text(text, strlen(text)));
	return object;
}
