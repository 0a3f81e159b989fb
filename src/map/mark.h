/* SPDX-License-Identifier: BSD-3-Clause */
/* Where does a region show? Marks the windows that have to be flattened again. */
#ifndef GM_MAP_MARK_H
#define GM_MAP_MARK_H

#include "map/region.h"

/* Ranges that one search keeps apart: so many, and so many more for each region that it passes. What goes on from
 * there is one range for each region, from the first to the last: wider than it need be, which is harmless. */
#define GM_MARK_RANGES 4096
#define GM_MARK_RANGES_PER_REGION 64

/*
 * Mark the ranges of all address spaces where @r's @local range (offsets in r) shows. -ENOMEM: some windows may
 * have been added; harmless.
 *
 * With n enabled regions that @r lies in or shows in, alias by alias, and e ways from one of them to the next, which
 * are 2n at most: each is passed once, with k ranges on average that are kept apart, see above. So it is O(e k log k),
 * however many ways lead from a root to @r.
 */
int gm_mark(struct gpamap_region *r, struct gm_range local);

/* Mark all of @r, and its plain mappings. -ENOMEM, as gm_mark(). */
int gm_mark_all(struct gpamap_region *r);

#endif
