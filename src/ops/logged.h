/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which slots log a part of a region. The table of slots is by GPA; this is by memory, so that a fetch of dirty pages
 * costs what the asked range costs. Made from the table when it is needed and the table has changed: who logs nothing,
 * or fetches nothing, pays nothing.
 */
#ifndef GM_OPS_LOGGED_H
#define GM_OPS_LOGGED_H

#include <stdbool.h>
#include <stddef.h>

#include "map/region.h"
#include "plan/slot.h"

struct gm_logged_slot;

struct gm_logged {
	const struct gm_alloc *alloc;
	struct gm_logged_slot *s;
	size_t n;
	size_t room;
	bool made;
	uint64_t versions; /* of the tables that it was made from, added up */
};

void gm_logged_init(struct gm_logged *l, const struct gm_alloc *alloc);
void gm_logged_destroy(struct gm_logged *l);

/* Follow the tables, by address space. O(n log n) if they have changed, else nothing. -ENOMEM: it knows nothing. */
int gm_logged_follow(struct gm_logged *l, const struct gm_slots *slots, unsigned nr_spaces);

/* Call @each for the slots that log memory of @r at @offsets, until one returns an error, which is returned. O(log n)
 * for each. pre: followed, and the tables have not changed since. */
int gm_logged_each(const struct gm_logged *l, const struct gpamap_region *r,
		   struct gm_range offsets, int (*each)(void *arg, const struct gm_slot *slot),
		   void *arg);

#endif
