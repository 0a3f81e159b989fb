/* SPDX-License-Identifier: BSD-3-Clause */
/* From regions and plain mappings to the flat view. */
#ifndef GM_MAP_FLATTEN_H
#define GM_MAP_FLATTEN_H

#include "map/region.h"
#include "map/view.h"

/* Regions on the way from a root, without it, to what stands below it. */
#define GM_DEPTH_MAX 64

/* Flatten the normalised @windows of @space again into @view, a tree of segments (flatten.c). -ENOMEM,
 * -E2BIG (nested too deep), -EPERM (guest_memfd below something read-only): abort the tree. */
int gm_flatten(struct gm_map *map, unsigned space, const struct gm_windows *windows,
	       struct gm_tree *view, struct gm_msg *msg);

#endif
