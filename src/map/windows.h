/* SPDX-License-Identifier: BSD-3-Clause */
/* Sets of ranges of addresses. Nothing here knows what stands in them. */
#ifndef GM_MAP_WINDOWS_H
#define GM_MAP_WINDOWS_H

#include <stddef.h>

#include "base/alloc.h"
#include "base/range.h"

/* An array; sorted and without overlaps once normalised. */
struct gm_windows {
	const struct gm_alloc *alloc;
	struct gm_range *r;
	size_t n;
	size_t room;
	size_t tidy; /* n when gm_windows_cover() has last normalised */
};

/* More than so many are not kept apart by gm_windows_cover(). */
#define GM_WINDOWS_MOST ((size_t)1 << 20)

void gm_windows_init(struct gm_windows *w, const struct gm_alloc *alloc);
void gm_windows_destroy(struct gm_windows *w);
/* Append, or let the last one grow if they touch: for ranges that come in order. -ENOMEM. */
int gm_windows_add(struct gm_windows *w, struct gm_range r);
/*
 * For sets that may be wider than what was put in: has all of it, in no order, until it is normalised. Ranges that
 * come again take no memory: there is room for twice the ranges that are left when overlaps are merged, and for
 * GM_WINDOWS_MOST at most. Beyond that, neighbours become one, with what lies between them. O(log n), on average
 * over many calls. -ENOMEM: unchanged, but for the order.
 */
int gm_windows_cover(struct gm_windows *w, struct gm_range r);
/* Sort, and merge those that overlap or touch: O(n log n). */
void gm_windows_normalise(struct gm_windows *w);

#endif
