/*
 * See recogniser.h.  First what a line says (classify), then whose lines count (consider), then which iteration it is
 * (number_of), then giving it out (emit).
 *
 * The Hugging Face Trainer prints its values without a step, and beside them, on standard error, a bar
 * that counts steps.  It wipes the bar, prints the values, and draws the bar again at the step they belong to.  So
 * values behind a wiped bar wait for the next drawing, and others belong to the last; a drawing is given
 * out when the next one comes, so that its values find it.  Without a bar there is no step: the epoch, which is
 * printed with the values and goes on across restarts, is counted in ten-thousandths instead.
 */
#include <math.h>
#include <string.h>

#include "supervisor/progress/bar.h"
#include "supervisor/progress/lines.h"
#include "supervisor/progress/recogniser.h"

#define SETTLE_LINES 2u
#define SETTLE_VALIDATED                                                                           \
	3u              /* lines that also report an evaluation may be of a report of those only */
#define FALLEN_LINES 3u /* of a counter that began again, before it is believed */
#define OTHER_LINES 20u /* of another bar, before it takes the place of the first */
#define EPOCH_PARTS 10000.0
#define STEP_MAX 1000000000000000000ull
#define DURATION_MAX_S 1e6

void recogniser_init(struct recogniser *r, struct regex *pattern, uint64_t after_step)
{
	memset(r, 0, sizeof(*r));
	r->pattern = pattern;
	r->after_step = after_step;
	r->last_step = STEP_NONE;
	if (pattern != NULL)
		r->settled = PROGRESS_PATTERN;
}

void recogniser_resume(struct recogniser *r, struct regex *pattern)
{
	r->pattern = pattern;
}

enum progress_format recogniser_format(const struct recogniser *r)
{
	return r->settled;
}

/* --- what a line says ------------------------------------------------------------------------------------- */

/* A cheap look at what most lines are not: whatever is recognised holds one of these. */
static bool worth_reading(const char *line, size_t length)
{
	return memmem(line, length, "oss", 3) != NULL || memmem(line, length, "OSS", 3) != NULL ||
	    memmem(line, length, "%|", 2) != NULL || memmem(line, length, "it [", 4) != NULL;
}

/* A copy as text: without the terminal's control sequences (colours, movements), and without NULs. */
static void clean(const char *line, size_t length, char out[LINES_MAX + 1])
{
	size_t used = 0;

	for (size_t i = 0; i < length; i++) {
		if (line[i] == '\033' && i + 1 < length && line[i + 1] == '[') {
			for (i += 2; i < length && (unsigned char)line[i] < 0x40;)
				i++;
			continue;
		}
		out[used++] = line[i] == '\0' ? ' ' : line[i];
	}
	out[used] = '\0';
}

static void take_double(
    const struct scan_value *value, uint32_t field, double *number, struct sighting *s)
{
	if (!value->seen)
		return;
	s->fields |= field;
	*number = value->number;
}

static void take_values(const struct scan *scan, struct recogniser_line *l)
{
	const struct scan_value *v = scan->values;
	struct sighting *s = &l->values;

	s->kind = SIGHTING_STEP;
	take_double(&v[SCAN_LOSS], FIELD_LOSS, &s->loss, s);
	take_double(&v[SCAN_GRAD_NORM], FIELD_GRAD_NORM, &s->grad_norm, s);
	take_double(&v[SCAN_LEARNING_RATE], FIELD_LEARNING_RATE, &s->learning_rate, s);
	if (v[SCAN_TOKENS].seen && v[SCAN_TOKENS].whole) {
		s->fields |= FIELD_TOKENS;
		s->tokens = v[SCAN_TOKENS].count;
	}
	if (v[SCAN_TIME].seen && v[SCAN_TIME].number > 0 && v[SCAN_TIME].number < DURATION_MAX_S)
		s->duration_ns = (uint64_t)(v[SCAN_TIME].number * 1e9);
	l->validated = v[SCAN_VALIDATION].seen;
	l->has_epoch = v[SCAN_EPOCH].whole;
	l->epoch = v[SCAN_EPOCH].count;
	l->epochs = v[SCAN_EPOCH].seen ? v[SCAN_EPOCH].number : NAN;
	l->of_epoch = v[SCAN_STEP].of_epoch;
	l->raw = v[SCAN_STEP].count;
	l->total = v[SCAN_STEP].total;
}

/* A bar: false when it is none. */
static bool classify_bar(const char *text, struct recogniser_line *l)
{
	struct bar bar;
	struct scan scan, named;
	char name[128];

	if (!bar_parse(text, &bar))
		return false;
	scan_text(bar.postfix, &scan);
	/* Some print the loss in front of the bar. */
	snprintf(name, sizeof(name), "%.*s",
	    (int)(bar.name_bytes < sizeof(name) ? bar.name_bytes : sizeof(name) - 1), text);
	scan_text(name, &named);
	for (size_t key = SCAN_LOSS; key <= SCAN_LEARNING_RATE; key++)
		if (!scan.values[key].seen)
			scan.values[key] = named.values[key];
	take_values(&scan, l);
	l->raw = bar.count;
	l->total = bar.total;
	l->epoch = bar.epoch;
	l->has_epoch = bar.has_epoch;
	l->format = PROGRESS_BAR;
	l->what = LINE_STEP;
	if (bar.evaluating) {
		l->what = LINE_EVALUATION;
	} else if (!bar.training && !scan.values[SCAN_LOSS].seen) {
		/* Downloads and preparations are drawn like this, and the Trainer's steps. */
		l->what = LINE_BAR;
		l->format = bar.named ? PROGRESS_NONE : PROGRESS_TRAINER;
	}
	return true;
}

static enum progress_format format_of_step(const char *text, const struct scan *scan)
{
	const struct scan_value *step = &scan->values[SCAN_STEP];
	bool loss = scan->values[SCAN_LOSS].seen;

	if (!step->seen || !step->whole)
		return PROGRESS_NONE;
	if (strchr(text, '|') != NULL && step->total != 0 &&
	    (strstr(text, "elapsed time per iteration") != NULL ||
		strstr(text, "consumed samples") != NULL))
		return PROGRESS_MEGATRON;
	if (!loss)
		return PROGRESS_NONE;
	if (text[0] == '{')
		return PROGRESS_JSON;
	if (strncmp(text, "iter ", 5) == 0 && strstr(text, ": loss ") != NULL)
		return PROGRESS_NANOGPT;
	return step->equals ? PROGRESS_KEYS : PROGRESS_WORDS;
}

static void classify(const char *text, struct recogniser_line *l)
{
	struct scan scan;

	memset(l, 0, sizeof(*l));
	text += strspn(text, " \t");
	if (classify_bar(text, l))
		return;
	scan_text(text, &scan);
	take_values(&scan, l);
	l->format = format_of_step(text, &scan);
	if (l->format != PROGRESS_NONE) {
		l->what = LINE_STEP;
	} else if (l->validated) {
		l->what = LINE_EVALUATED;
	} else if (text[0] == '{' && scan.values[SCAN_EPOCH].seen && scan.values[SCAN_LOSS].seen &&
	    scan.values[SCAN_LOSS].plain && !scan.values[SCAN_STEP].seen) {
		l->format = PROGRESS_TRAINER;
		l->what = LINE_VALUES;
	}
}

/* --- giving out ------------------------------------------------------------------------------------------- */

struct given {
	struct sighting *out; /* RECOGNISER_OUT places */
	size_t count;
};

static bool is_finite(const struct sighting *s)
{
	return ((s->fields & FIELD_LOSS) == 0 || isfinite(s->loss)) &&
	    ((s->fields & FIELD_GRAD_NORM) == 0 || isfinite(s->grad_norm));
}

static void give(struct given *g, const struct sighting *s)
{
	if (g->count < RECOGNISER_OUT)
		g->out[g->count++] = *s;
}

static void emit(struct recogniser *r, const struct sighting *s, struct given *g)
{
	if (s->step > STEP_MAX)
		return;
	/* The same step again is a copy of it, unless it says that something is wrong. */
	if (r->last_step != STEP_NONE &&
	    (s->step < r->last_step || (s->step == r->last_step && is_finite(s))))
		return;
	r->last_step = s->step;
	r->evaluating = false;
	give(g, s);
}

static void emit_evaluation(struct recogniser *r, enum sighting_kind kind, struct given *g)
{
	struct sighting s = {.kind = kind};

	if (r->evaluating)
		return;
	r->evaluating = true;
	give(g, &s);
}

/* --- which iteration it is -------------------------------------------------------------------------------- */

static uint64_t within(uint64_t epoch, uint64_t total, uint64_t raw)
{
	return total == 0 || epoch > STEP_MAX / total ? STEP_NONE : epoch * total + raw;
}

/* The base that carries a counter on which began again at raw. */
static uint64_t carried(const struct recogniser *r, uint64_t raw)
{
	return r->last_step == STEP_NONE ? 0 : r->last_step + (raw == 0 ? 1 : 0);
}

/* False: the line does not count. */
static bool number_counter(struct recogniser *r, const struct recogniser_line *l, uint64_t *step)
{
	if (l->of_epoch) {
		*step = within(l->epoch, l->total, l->raw);
		return *step != STEP_NONE;
	}
	if (r->last_step != STEP_NONE && l->raw < r->last_raw) {
		bool next_epoch = l->has_epoch && l->epoch > r->last_epoch;

		r->fallen = r->fallen > 0 && l->raw > r->fallen_raw ? r->fallen + 1 : 1;
		r->fallen_raw = l->raw;
		if (!next_epoch && r->fallen < FALLEN_LINES)
			return false;
		r->base = carried(r, l->raw);
	}
	r->fallen = 0;
	r->last_raw = l->raw;
	if (l->has_epoch)
		r->last_epoch = l->epoch;
	*step = r->base + l->raw;
	return l->raw <= STEP_MAX && r->base <= STEP_MAX;
}

/* Whether the line is of the bar that counts; another one takes its place when it alone is drawn for long. */
static bool is_the_bar(struct recogniser *r, const struct recogniser_line *l)
{
	if (r->bar_total == l->total && r->settled == PROGRESS_BAR) {
		r->other_count = 0;
		return true;
	}
	r->other_count = r->other_total == l->total ? r->other_count + 1 : 1;
	r->other_total = l->total;
	if (r->other_count < OTHER_LINES)
		return false;
	r->bar_total = l->total;
	r->base = carried(r, l->raw);
	r->last_raw = 0;
	return true;
}

static bool number_bar(struct recogniser *r, const struct recogniser_line *l, uint64_t *step)
{
	if (!is_the_bar(r, l) || l->raw == 0 || l->raw > STEP_MAX)
		return false;
	if (l->has_epoch && l->total != 0) {
		*step = within(l->epoch, l->total, l->raw);
		return *step != STEP_NONE;
	}
	if (l->raw < r->last_raw)
		r->base = l->total != 0 ? r->base + l->total : carried(r, l->raw);
	r->last_raw = l->raw;
	*step = r->base + l->raw;
	return true;
}

static void count_step(struct recogniser *r, const struct recogniser_line *l, struct given *g)
{
	struct sighting s = l->values;
	bool counts = l->format == PROGRESS_BAR ? number_bar(r, l, &s.step)
						: number_counter(r, l, &s.step);

	if (l->validated)
		emit_evaluation(r, SIGHTING_EVALUATED, g);
	if (counts)
		emit(r, &s, g);
}

/* --- values, and a bar beside them ------------------------------------------------------------------------ */

static void emit_held(struct recogniser *r, struct given *g)
{
	if (r->held_valid)
		emit(r, &r->held, g);
	r->held_valid = false;
}

static void join(struct sighting *s, const struct sighting *values)
{
	uint64_t step = s->step;

	*s = *values;
	s->step = step;
}

static void emit_by_epoch(struct recogniser *r, const struct recogniser_line *l, struct given *g)
{
	struct sighting s = l->values;

	if (!(l->epochs >= 0) || l->epochs > 1e9)
		return;
	s.step = (uint64_t)(l->epochs * EPOCH_PARTS + 0.5);
	emit(r, &s, g);
}

static void take_drawing(struct recogniser *r, const struct recogniser_line *l, struct given *g)
{
	if (r->bar_total == 0 && l->raw < l->total)
		r->bar_total = l->total;
	if (l->total != r->bar_total || r->by_epoch) {
		if (r->last_step != STEP_NONE && l->total != r->bar_total)
			emit_evaluation(r, SIGHTING_EVALUATION, g);
		return;
	}
	r->cleared = false;
	if (r->held_valid && l->raw > r->held.step)
		emit_held(r, g);
	if (l->raw == 0 || (r->last_step != STEP_NONE && l->raw <= r->last_step))
		return;
	r->held = (struct sighting){.kind = SIGHTING_STEP, .step = l->raw};
	r->held_valid = true;
	if (!r->waiting_valid)
		return;
	join(&r->held, &r->waiting.values);
	r->waiting_valid = false;
	emit_held(r, g);
}

static void take_trainer_values(struct recogniser *r, const struct recogniser_line *l, struct given *g)
{
	if (r->by_epoch) {
		emit_by_epoch(r, l, g);
		return;
	}
	if (r->held_valid && !r->cleared) {
		join(&r->held, &l->values);
		emit_held(r, g);
		return;
	}
	/* Twice values, and no bar in between: there is none. */
	if (r->waiting_valid && r->last_step == STEP_NONE && !r->held_valid) {
		r->by_epoch = true;
		emit_by_epoch(r, &r->waiting, g);
		emit_by_epoch(r, l, g);
		r->waiting_valid = false;
		return;
	}
	r->waiting = *l;
	r->waiting_valid = true;
}

/* --- whose lines count ------------------------------------------------------------------------------------ */

/* What has to grow from one line of a format to the next. */
static uint64_t order_of(const struct recogniser_line *l)
{
	return l->has_epoch && l->total != 0 ? within(l->epoch, l->total, l->raw) : l->raw;
}

static void settle(struct recogniser *r, const struct recogniser_line *first)
{
	r->settled = first->format;
	if (first->format == PROGRESS_TRAINER) {
		r->bar_total = r->live ? r->live_total : 0;
		r->held_valid = r->live && r->live_count > 0;
		r->held = (struct sighting){.kind = SIGHTING_STEP, .step = r->live_count};
		return;
	}
	r->bar_total = first->total;
	if (first->format == PROGRESS_BAR && !first->has_epoch && first->total != 0 &&
	    r->after_step != STEP_NONE)
		r->base = r->after_step / first->total * first->total;
}

/* Nothing is settled yet. */
static void consider(struct recogniser *r, const struct recogniser_line *l, struct given *g)
{
	uint32_t needed = l->validated ? SETTLE_VALIDATED : SETTLE_LINES;

	if (l->what == LINE_VALUES) {
		/* Nothing else looks like this. */
		settle(r, l);
		take_trainer_values(r, l, g);
		return;
	}
	if (l->what != LINE_STEP || (l->format == PROGRESS_BAR && l->raw == 0))
		return;
	uint32_t *count = &r->candidates[l->format].count;
	bool agrees = *count > 0 && order_of(l) > r->candidates[l->format].order &&
	    (l->format != PROGRESS_BAR || l->total == r->candidates[l->format].first.total);

	if (!agrees) {
		*count = 0;
		r->candidates[l->format].first = *l;
	}
	r->candidates[l->format].order = order_of(l);
	if (++*count < needed)
		return;
	settle(r, &r->candidates[l->format].first);
	count_step(r, &r->candidates[l->format].first, g);
	count_step(r, l, g);
}

static void take_settled(struct recogniser *r, const struct recogniser_line *l, struct given *g)
{
	if (r->settled == PROGRESS_TRAINER && l->format == PROGRESS_TRAINER) {
		if (l->what == LINE_VALUES)
			take_trainer_values(r, l, g);
		else
			take_drawing(r, l, g);
	} else if (l->what == LINE_EVALUATION) {
		emit_evaluation(r, SIGHTING_EVALUATION, g);
	} else if (l->what == LINE_STEP && l->format == r->settled) {
		count_step(r, l, g);
	} else if (l->what == LINE_EVALUATED || l->validated) {
		emit_evaluation(r, SIGHTING_EVALUATED, g);
	}
}

/* A bar that is wiped: spaces over its whole length. */
static bool is_wiping(const char *line, size_t length)
{
	return length > 2 && line[0] == ' ' && line[length - 1] == ' ' && strspn(line, " ") >= length;
}

static void match(struct recogniser *r, const char *text, struct given *g)
{
	struct recogniser_line l;
	struct scan scan;
	enum regex_result result = regex_match(r->pattern, text, strlen(text), &scan);

	if (result == REGEX_LIMIT)
		r->limit_count++;
	if (result != REGEX_YES)
		return;
	memset(&l, 0, sizeof(l));
	take_values(&scan, &l);
	l.format = PROGRESS_PATTERN;
	l.what = LINE_STEP;
	count_step(r, &l, g);
}

size_t recogniser_line(struct recogniser *r, const char *line, size_t length, struct sighting out[])
{
	struct given g = {.out = out};
	struct recogniser_line l;
	char text[LINES_MAX + 1];

	if (length > LINES_MAX)
		length = LINES_MAX;
	if (r->pattern != NULL) {
		clean(line, length, text);
		match(r, text, &g);
		return g.count;
	}
	if (!worth_reading(line, length)) {
		if (r->live && length > 2 && line[0] == ' ' && line[length - 1] == ' ') {
			clean(line, length, text);
			r->cleared = r->cleared || is_wiping(text, strlen(text));
		}
		return 0;
	}
	clean(line, length, text);
	classify(text, &l);
	if (l.what == LINE_BAR && l.format == PROGRESS_TRAINER) {
		r->live = l.raw < l.total;
		r->live_count = l.raw;
		r->live_total = l.total;
		if (r->settled == PROGRESS_NONE)
			r->cleared = false;
	}
	if (r->settled == PROGRESS_NONE)
		consider(r, &l, &g);
	else
		take_settled(r, &l, &g);
	return g.count;
}

size_t recogniser_end(struct recogniser *r, struct sighting out[])
{
	struct given g = {.out = out};

	emit_held(r, &g);
	return g.count;
}
