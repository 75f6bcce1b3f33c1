/* See regex.h. */
#include <errno.h>
#include <stdlib.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "supervisor/progress/regex.h"

#define TEXT_MAX 4096u     /* bytes of a pattern */
#define MATCH_LIMIT 10000u /* of internal steps, from each place in the line */
#define DEPTH_LIMIT 1000u
#define HEAP_LIMIT_KIB 1024u
#define VALUE_MAX 64u /* bytes of a number */

struct regex {
	pcre2_code *code;
	pcre2_match_data *data;
	pcre2_match_context *limits;
};

static const struct group {
	const char *name;
	enum scan_key key;
} GROUPS[] = {
    {"step", SCAN_STEP},
    {"epoch", SCAN_EPOCH},
    {"loss", SCAN_LOSS},
    {"grad_norm", SCAN_GRAD_NORM},
    {"lr", SCAN_LEARNING_RATE},
    {"learning_rate", SCAN_LEARNING_RATE},
    {"tokens", SCAN_TOKENS},
    {"time", SCAN_TIME},
};

/* What is captured under a name, which may be given to several groups. */
struct names {
	const char *table; /* of entries: number, high byte first; name, NUL-terminated */
	uint32_t count, entry_bytes;
};

static void names_of(const struct regex *p, struct names *n)
{
	(void)pcre2_pattern_info(p->code, PCRE2_INFO_NAMECOUNT, &n->count);
	(void)pcre2_pattern_info(p->code, PCRE2_INFO_NAMEENTRYSIZE, &n->entry_bytes);
	(void)pcre2_pattern_info(p->code, PCRE2_INFO_NAMETABLE, (void *)&n->table);
}

static const struct group *group_named(const char *name)
{
	for (size_t i = 0; i < sizeof(GROUPS) / sizeof(GROUPS[0]); i++)
		if (strcmp(GROUPS[i].name, name) == 0)
			return &GROUPS[i];
	return NULL;
}

/* A group whose name means nothing is a mistake: its number would be missed later, in silence. */
static enum status check_names(const struct regex *p, const char *text, struct cause *why)
{
	struct names n;
	bool has_step = false;
	char subject[200];

	names_of(p, &n);
	for (uint32_t i = 0; i < n.count; i++) {
		const char *name = n.table + i * n.entry_bytes + 2;
		const struct group *group = group_named(name);
		const char *at = strstr(text, name);

		if (group == NULL) {
			snprintf(subject, sizeof(subject),
			    "a group is named '%.64s'; the names are step, epoch, loss, grad_norm, "
			    "lr, learning_rate, tokens and time",
			    name);
			cause_set(why, CAUSE_DATA, at != NULL ? at - text : 0, "compile", subject);
			return STATUS_REFUSED;
		}
		has_step = has_step || group->key == SCAN_STEP;
	}
	if (has_step)
		return STATUS_OK;
	cause_set(why, CAUSE_DATA, (int64_t)strlen(text), "compile",
	    "no group is named step; write (?<step>\\d+) where the number of the iteration stands");
	return STATUS_REFUSED;
}

static enum status compile(struct regex *p, const char *text, struct cause *why)
{
	pcre2_compile_context *context = pcre2_compile_context_create(NULL);
	char message[200] = "";
	PCRE2_SIZE offset = 0;
	int error = 0;

	if (context != NULL) {
		(void)pcre2_set_max_pattern_length(context, TEXT_MAX);
		p->code = pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED,
		    PCRE2_NEVER_BACKSLASH_C, &error, &offset, context);
		pcre2_compile_context_free(context);
	}
	if (p->code != NULL)
		return check_names(p, text, why);
	if (context == NULL || error == PCRE2_ERROR_HEAP_FAILED) {
		cause_set(why, CAUSE_ERRNO, ENOMEM, "compile", "");
		return STATUS_SYS;
	}
	(void)pcre2_get_error_message(error, (PCRE2_UCHAR *)message, sizeof(message));
	cause_set(why, CAUSE_DATA, (int64_t)offset, "compile", message);
	return STATUS_REFUSED;
}

enum status regex_new(const char *text, struct regex **out, struct cause *why)
{
	struct regex *p = calloc(1, sizeof(*p));
	enum status status = STATUS_SYS;

	if (p == NULL) {
		cause_set(why, CAUSE_ERRNO, ENOMEM, "compile", "");
		return STATUS_SYS;
	}
	status = compile(p, text, why);
	if (status == STATUS_OK) {
		p->data = pcre2_match_data_create_from_pattern(p->code, NULL);
		p->limits = pcre2_match_context_create(NULL);
		if (p->data == NULL || p->limits == NULL) {
			cause_set(why, CAUSE_ERRNO, ENOMEM, "compile", "");
			status = STATUS_SYS;
		}
	}
	if (status != STATUS_OK) {
		regex_free(p);
		return status;
	}
	/* Not compiled to machine code: these limits mean less there. */
	(void)pcre2_set_match_limit(p->limits, MATCH_LIMIT);
	(void)pcre2_set_depth_limit(p->limits, DEPTH_LIMIT);
	(void)pcre2_set_heap_limit(p->limits, HEAP_LIMIT_KIB);
	*out = p;
	return STATUS_OK;
}

void regex_free(struct regex *p)
{
	if (p == NULL)
		return;
	pcre2_match_context_free(p->limits);
	pcre2_match_data_free(p->data);
	pcre2_code_free(p->code);
	free(p);
}

/* A captured text as a number; what is none was not captured. */
static void read_value(const char *text, size_t length, struct scan_value *value)
{
	char copy[VALUE_MAX];
	const char *end;

	if (length == 0 || length >= sizeof(copy))
		return;
	memcpy(copy, text, length);
	copy[length] = '\0';
	end = scan_number(copy, &value->number);
	value->seen = end != NULL;
	end = scan_count(copy, &value->count);
	value->whole = end != NULL && *end == '\0';
}

enum regex_result regex_match(struct regex *p, const char *line, size_t length, struct scan *out)
{
	PCRE2_SIZE size = length < REGEX_LINE_MAX ? length : REGEX_LINE_MAX;
	int found = pcre2_match(p->code, (PCRE2_SPTR)line, size, 0, 0, p->data, p->limits);
	const PCRE2_SIZE *at = pcre2_get_ovector_pointer(p->data);
	struct scan scan;
	struct names n;

	if (found == PCRE2_ERROR_MATCHLIMIT || found == PCRE2_ERROR_DEPTHLIMIT ||
	    found == PCRE2_ERROR_HEAPLIMIT || found == PCRE2_ERROR_NOMEMORY)
		return REGEX_LIMIT;
	if (found <= 0)
		return REGEX_NO;
	memset(&scan, 0, sizeof(scan));
	names_of(p, &n);
	for (uint32_t i = 0; i < n.count; i++) {
		const char *entry = n.table + i * n.entry_bytes;
		size_t number = (size_t)(unsigned char)entry[0] << 8 | (unsigned char)entry[1];
		const struct group *group = group_named(entry + 2);

		/* \K may leave an end before its beginning. */
		if (group == NULL || number >= (size_t)found || at[2 * number] == PCRE2_UNSET ||
		    at[2 * number + 1] < at[2 * number] || scan.values[group->key].seen)
			continue;
		read_value(line + at[2 * number], at[2 * number + 1] - at[2 * number],
		    &scan.values[group->key]);
	}
	if (!scan.values[SCAN_STEP].whole)
		return REGEX_NO;
	*out = scan;
	return REGEX_YES;
}
