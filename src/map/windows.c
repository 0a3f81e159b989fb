/* SPDX-License-Identifier: BSD-3-Clause */
/* Sets of ranges: see windows.h. */
#include <stdlib.h>

#include "map/windows.h"

/* Fewer than so many are left as they are. */
#define TIDY_FROM 64

void gm_windows_init(struct gm_windows *w, const struct gm_alloc *alloc)
{
	*w = (struct gm_windows){.alloc = alloc};
}

void gm_windows_destroy(struct gm_windows *w)
{
	gm_free(w->alloc, w->r);
	gm_windows_init(w, w->alloc);
}

/* Do they overlap, or does one begin where the other ends? */
static bool touch(struct gm_range a, struct gm_range b)
{
	if (gm_range_overlap(a, b))
		return true;
	return a.last < b.first ? b.first - a.last == 1 : a.first - b.last == 1;
}

static void widen(struct gm_range *r, struct gm_range by)
{
	if (r->first > by.first)
		r->first = by.first;
	if (r->last < by.last)
		r->last = by.last;
}

int gm_windows_add(struct gm_windows *w, struct gm_range r)
{
	int err;

	/* Edits often go on where the last one ended. */
	if (w->n && touch(w->r[w->n - 1], r)) {
		widen(&w->r[w->n - 1], r);
		return 0;
	}
	err = gm_array_reserve(w->alloc, (void **)&w->r, &w->room, w->n + 1, sizeof(*w->r));
	if (err)
		return err;
	w->r[w->n++] = r;
	return 0;
}

static int by_first(const void *a, const void *b)
{
	const struct gm_range *ra = a, *rb = b;

	return (ra->first > rb->first) - (ra->first < rb->first);
}

void gm_windows_normalise(struct gm_windows *w)
{
	size_t n = 0;

	if (w->n < 2)
		return;
	qsort(w->r, w->n, sizeof(*w->r), by_first);
	for (size_t i = 1; i < w->n; i++) {
		if (touch(w->r[n], w->r[i]))
			widen(&w->r[n], w->r[i]);
		else
			w->r[++n] = w->r[i];
	}
	w->n = n + 1;
}

/* Of each two neighbours one. pre: normalised. */
static void join_pairs(struct gm_windows *w)
{
	size_t n = 0;

	for (size_t i = 0; i < w->n; i += 2) {
		struct gm_range pair = w->r[i];

		if (i + 1 < w->n)
			pair.last = w->r[i + 1].last;
		w->r[n++] = pair;
	}
	w->n = n;
}

int gm_windows_cover(struct gm_windows *w, struct gm_range r)
{
	if (w->n >= TIDY_FROM && w->n / 2 >= w->tidy) {
		gm_windows_normalise(w);
		if (w->n > GM_WINDOWS_MOST / 2)
			join_pairs(w);
		w->tidy = w->n;
	}
	return gm_windows_add(w, r);
}
