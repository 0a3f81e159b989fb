/* SPDX-License-Identifier: BSD-3-Clause */
/* Access to guest memory and devices through the current flat view. */
#ifndef GM_OPS_ACCESS_H
#define GM_OPS_ACCESS_H

#include <stdbool.h>
#include <stddef.h>

#include "gpamap.h"
#include "map/view.h"
#include "sync/publish.h"

/* As gpamap_read() and gpamap_write(). Regions whose last reference goes here are left on their map's list
 * of the dead: *@reap tells the caller to look. */
int gm_access(struct gm_publish *views, uint64_t page_size, unsigned space, uint64_t gpa, void *buf,
	      size_t len, bool is_write, bool *reap);
/* A segment that stands at @range, as the public header has it. */
struct gpamap_segment gm_segment_as_data(struct gm_range range, const struct gm_seg *seg);
/* As gpamap_lookup(), in one view. */
int gm_lookup_in(const struct gm_node *root, uint64_t gpa, struct gpamap_segment *ret);
int gm_lookup(struct gm_publish *views, unsigned space, uint64_t gpa, struct gpamap_segment *ret);

#endif
