/* See bench.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "tests/bench/bench.h"

uint64_t bench_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void bench_print_head(const char *what, const char *method)
{
	char line[256], model[256] = "unknown processor";
	struct utsname kernel;
	FILE *in = fopen("/proc/cpuinfo", "re");

	while (in != NULL && fgets(line, sizeof(line), in) != NULL) {
		char *value = strchr(line, ':');

		if (strncmp(line, "model name", 10) != 0 || value == NULL)
			continue;
		snprintf(model, sizeof(model), "%.*s", (int)strcspn(value + 2, "\n"), value + 2);
		break;
	}
	if (in != NULL)
		fclose(in);
	uname(&kernel);
	printf("%s\nmachine: %s, %ld cores, Linux %s\nmethod: %s\n", what, model,
	    sysconf(_SC_NPROCESSORS_ONLN), kernel.release, method);
}

static int compare(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

void bench_sort(double *values, size_t count)
{
	qsort(values, count, sizeof(*values), compare);
}

double bench_percentile(const double *sorted, size_t count, double fraction)
{
	size_t index = (size_t)((double)count * fraction);

	return sorted[index < count ? index : count - 1];
}
