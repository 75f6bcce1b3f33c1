/* See options.h. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "supervisor/cli/options.h"

#define HELP_COLUMN 28

/* Equal up to `length`, a dash and an underscore being the same. */
static bool same_name(const char *name, const char *word, size_t length)
{
	if (strlen(name) != length)
		return false;
	for (size_t i = 0; i < length; i++)
		if (name[i] != (word[i] == '_' ? '-' : word[i]))
			return false;
	return true;
}

static void print_help(const struct options *o)
{
	printf("usage: holdfast %s %s\n\n", o->command, o->synopsis);
	for (size_t i = 0; i < o->spec_count; i++) {
		const struct option_spec *spec = &o->specs[i];
		int width = printf("  ");

		if (spec->letter != 0)
			width += printf("-%c, ", spec->letter);
		width += printf("--%s", spec->name);
		if (spec->argument != NULL)
			width += printf(" %s", spec->argument);
		/* A long name gets a line of its own. */
		if (width >= HELP_COLUMN) {
			printf("\n");
			width = 0;
		}
		printf("%*s%s\n", HELP_COLUMN - width, "", spec->meaning);
	}
	printf("\nholdfast-%s(1) tells the rest.\n", o->command);
}

static int complain(const struct options *o, const char *word, const char *what)
{
	fprintf(stderr, "holdfast: %s: %s: %s; try holdfast %s --help\n", o->command, word, what,
	    o->command);
	return OPTIONS_BAD;
}

static const struct option_spec *spec_at(const struct options *o, size_t index)
{
	return index < o->spec_count ? &o->specs[index] : &o->more[index - o->spec_count];
}

/* The value of the option at `word`: behind it (inline_value) or the next word. */
static int take_value(struct options *o, int index, const char *word, const char *inline_value,
    const char **value_out)
{
	if (spec_at(o, (size_t)index)->argument == NULL) {
		if (inline_value != NULL)
			return complain(o, word, "takes no value");
		*value_out = NULL;
		return index;
	}
	if (inline_value == NULL) {
		if (o->at >= o->argc)
			return complain(o, word, "needs a value");
		inline_value = o->argv[o->at++];
	}
	*value_out = inline_value;
	return index;
}

static int next_long(struct options *o, const char *word, const char **value_out)
{
	const char *equals = strchr(word, '=');
	size_t length = equals != NULL ? (size_t)(equals - word) - 2 : strlen(word) - 2;

	if (strcmp(word, "--help") == 0) {
		print_help(o);
		return OPTIONS_HELP;
	}
	for (size_t i = 0; i < o->spec_count + o->more_count; i++)
		if (same_name(spec_at(o, i)->name, word + 2, length))
			return take_value(
			    o, (int)i, word, equals != NULL ? equals + 1 : NULL, value_out);
	return complain(o, word, "there is no such option");
}

static int next_short(struct options *o, const char *word, const char **value_out)
{
	if (strcmp(word, "-h") == 0) {
		print_help(o);
		return OPTIONS_HELP;
	}
	for (size_t i = 0; i < o->spec_count + o->more_count; i++)
		if (spec_at(o, i)->letter == word[1])
			return take_value(
			    o, (int)i, word, word[2] != '\0' ? word + 2 : NULL, value_out);
	return complain(o, word, "there is no such option");
}

int options_next(struct options *o, const char **value_out)
{
	const char *word;

	if (o->at >= o->argc)
		return OPTIONS_END;
	word = o->argv[o->at];
	if (word[0] != '-' || word[1] == '\0')
		return OPTIONS_END;
	o->at++;
	if (strcmp(word, "--") == 0)
		return OPTIONS_END;
	return word[1] == '-' ? next_long(o, word, value_out) : next_short(o, word, value_out);
}
