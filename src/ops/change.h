/* SPDX-License-Identifier: BSD-3-Clause */
/* What differs between two sets of views, as data for listeners. */
#ifndef GM_OPS_CHANGE_H
#define GM_OPS_CHANGE_H

#include <stddef.h>

#include "base/alloc.h"
#include "gpamap-listener.h"
#include "map/view.h"

/* The views of one address space. */
struct gm_change_views {
	const struct gm_node *before;
	const struct gm_node *after;
};

struct gpamap_change {
	const struct gm_alloc *alloc;
	struct gpamap_changed *ranges;
	size_t n;
	size_t room;
	unsigned nr_spaces;
	struct gm_change_views views[]; /* kept by whoever made the change */
};

/* An empty one; the caller sets its views. NULL: no memory. */
struct gpamap_change *gm_change_new(const struct gm_alloc *alloc, unsigned nr_spaces);
void gm_change_free(struct gpamap_change *c);
/* Add what differs between the views of @space in @window. Spaces and windows come in order. -ENOMEM. */
int gm_change_add(struct gpamap_change *c, unsigned space, struct gm_range window);

#endif
