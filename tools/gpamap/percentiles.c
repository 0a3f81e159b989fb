/* SPDX-License-Identifier: BSD-3-Clause */
/* See percentiles.h. */
#include "percentiles.h"

#include <errno.h>
#include <gsl/gsl_sort.h>
#include <gsl/gsl_statistics_double.h>
#include <stdlib.h>
#include <string.h>

int samples_add(struct samples *s, double value)
{
	if (s->count == s->room) {
		size_t room = s->room ? 2 * s->room : 1024;
		double *p = realloc(s->value, room * sizeof(*p));

		if (!p)
			return -ENOMEM;
		s->value = p;
		s->room = room;
	}
	s->value[s->count++] = value;
	return 0;
}

void samples_free(struct samples *s)
{
	free(s->value);
	memset(s, 0, sizeof(*s));
}

void samples_sort(struct samples *s)
{
	gsl_sort(s->value, 1, s->count);
}

double samples_quantile(const struct samples *s, double fraction)
{
	return gsl_stats_quantile_from_sorted_data(s->value, 1, s->count, fraction);
}
