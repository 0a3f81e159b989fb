/* SPDX-License-Identifier: BSD-3-Clause */
/* A map as a whole: its beginning and end, and the ends of a transaction. */
#ifndef GM_MAP_MAP_H
#define GM_MAP_MAP_H

#include "map/region.h"

int gm_map_init(struct gm_map *map, const struct gm_alloc *alloc, unsigned spaces,
		uint64_t page_size); /* -ENOMEM */
/* All views must be freed; roots go, other regions die with their last reference. The struct must stay
 * as long as any region does, since a region that dies goes on its list: gm_map_reap() still works. */
void gm_map_destroy(struct gm_map *map);

/* Keep the state of @r for gm_edits_abort(), before it is changed. pre: it has a reference. */
void gm_touch(struct gpamap_region *r);
/* The transaction's end for regions and ranges. Neither can fail. Old nodes are freed at once: views hold
 * references of their own. References that they drop may put regions on map->dead. */
void gm_edits_commit(struct gm_map *map);
void gm_edits_abort(struct gm_map *map);

#endif
