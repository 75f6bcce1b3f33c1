/* See duration.h. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "supervisor/cli/duration.h"

#define YEAR_S (366.0 * 24 * 3600)

bool duration_parse(const char *text, uint64_t *ns_out)
{
	static const struct {
		const char *unit;
		double s;
	} units[] = {
	    {"ms", 1e-3}, {"s", 1}, {"m", 60}, {"min", 60}, {"h", 3600}, {"d", 86400}, {"", 1}};
	char *end;

	/* strtod alone would take "nan", "0x1p3" and leading blanks. */
	if (!isdigit((unsigned char)text[0]) || text[strspn(text, "0123456789.")] == 'x')
		return false;
	double value = strtod(text, &end);

	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (strcmp(end, units[i].unit) != 0)
			continue;
		value *= units[i].s;
		if (!(value >= 1e-3 && value <= YEAR_S))
			return false;
		*ns_out = (uint64_t)(value * 1e9 + 0.5);
		return true;
	}
	return false;
}

bool duration_count(const char *text, uint64_t minimum, uint64_t maximum, uint64_t *out)
{
	char *end;
	unsigned long long value;

	if (!isdigit((unsigned char)text[0]))
		return false;
	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno != 0 || *end != '\0' || value < minimum || value > maximum)
		return false;
	*out = value;
	return true;
}
