/* SPDX-License-Identifier: BSD-3-Clause */
/* Samples of a duration, and their percentiles (by GSL). */
#ifndef TORTURE_PERCENTILES_H
#define TORTURE_PERCENTILES_H

#include <stddef.h>

/* All zero is empty. */
struct samples {
	double *value;
	size_t count;
	size_t room;
};

/* -ENOMEM. */
int samples_add(struct samples *s, double value);
void samples_free(struct samples *s);
/* Once, after the last one is added. */
void samples_sort(struct samples *s);
/* @fraction from 0 to 1, which is the greatest. pre: sorted, not empty. */
double samples_quantile(const struct samples *s, double fraction);

#endif
