/* SPDX-License-Identifier: BSD-3-Clause */
/* From regions and plain mappings to the flat view. */
#ifndef GM_MAP_FLATTEN_H
#define GM_MAP_FLATTEN_H

#include "map/region.h"
#include "map/view.h"

/* Regions on the way from a root, without it, to what stands below it. */
#define GM_DEPTH_MAX 64

/* Looks at regions that a run may take: so many, and so many more for each region that it finds. A region that shows
 * in several places is looked at for each. */
#define GM_FLATTEN_LOOKS 131072
#define GM_FLATTEN_LOOKS_PER_REGION 64

/* When to stop. All zero is good. */
struct gm_flatten_limits {
	/* Is asked now and then, between two short pieces of work; true: end with -ETIMEDOUT. May be NULL. */
	bool (*give_up)(void *opaque);
	void *opaque;
};

/*
 * Flatten the normalised @windows of @space again into @view, a tree of segments. @limits may be NULL. -ENOMEM,
 * -E2BIG (nested too deep, or too many looks), -EPERM (guest_memfd below something read-only), -ETIMEDOUT: abort the
 * tree.
 *
 * With w windows, m plain mappings in them, and l looks: O((w + m + l) log(...)), and as many nodes of memory. How
 * many looks there are is told in flatten.c; the limits above hold in any case.
 */
int gm_flatten(struct gm_map *map, unsigned space, const struct gm_windows *windows,
	       struct gm_tree *view, const struct gm_flatten_limits *limits, struct gm_msg *msg);

#endif
