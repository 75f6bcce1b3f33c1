/*
 * What every benchmark says of itself, and the arithmetic of its figures.  A benchmark never fails on a time.
 */
#ifndef TESTS_BENCH_BENCH_H
#define TESTS_BENCH_BENCH_H

#include <stddef.h>
#include <stdint.h>

/* CLOCK_MONOTONIC in ns. */
uint64_t bench_now_ns(void);

/* Print the machine (processor, cores, kernel), what is measured and how. */
void bench_print_head(const char *what, const char *method);

/* Sort values in place. */
void bench_sort(double *values, size_t count);

/* Of sorted values, by nearest rank: fraction 0.5 is the median. */
double bench_percentile(const double *sorted, size_t count, double fraction);

#endif
