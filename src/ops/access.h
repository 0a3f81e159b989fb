/* SPDX-License-Identifier: BSD-3-Clause */
/* Access to guest memory and devices through the current flat view. */
#ifndef GM_OPS_ACCESS_H
#define GM_OPS_ACCESS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/msg.h"
#include "gpamap.h"
#include "map/view.h"
#include "sync/gate.h"
#include "sync/publish.h"

/* Where accessors find the memory of a map. */
struct gm_memory {
	/* Accessors are inside while they touch memory. Who publishes views that don't show all memory that the old ones
	 * do, in the same way, must have it shut meanwhile; not before listeners are quiesced, who may wait for accessors. */
	struct gm_gate *accessors;
	struct gm_publish *views;
	uint64_t page_size;
};

/* As gpamap_read() and gpamap_write(). A region whose last reference goes here is left on its map's list of the dead:
 * *@reap tells the caller to look. @msg may be NULL. */
int gm_access(const struct gm_memory *memory, unsigned space, uint64_t gpa, void *buf, size_t len,
	      bool is_write, struct gm_msg *msg, bool *reap);
/* A segment that stands at @range, as the public header has it. */
struct gpamap_segment gm_segment_as_data(struct gm_range range, const struct gm_seg *seg);
/* As gpamap_lookup(), in one view. */
int gm_lookup_in(const struct gm_node *root, uint64_t gpa, struct gpamap_segment *ret);
int gm_lookup(struct gm_publish *views, unsigned space, uint64_t gpa, struct gpamap_segment *ret);

#endif
