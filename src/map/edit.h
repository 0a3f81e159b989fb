/* SPDX-License-Identifier: BSD-3-Clause */
/* Edits of regions (place.c, state.c). */
#ifndef GM_MAP_EDIT_H
#define GM_MAP_EDIT_H

#include "map/region.h"

/* Edits: as in gpamap.h. On failure nothing has changed. */
int gm_edit_add(struct gm_map *m, struct gpamap_region *parent, uint64_t offset,
		struct gpamap_region *child, int priority, struct gm_msg *msg);
int gm_edit_remove(struct gm_map *m, struct gpamap_region *child, struct gm_msg *msg);
int gm_edit_move(struct gm_map *m, struct gpamap_region *child, uint64_t offset,
		 struct gm_msg *msg);
int gm_edit_priority(struct gm_map *m, struct gpamap_region *child, int priority,
		     struct gm_msg *msg);
int gm_edit_enabled(struct gm_map *m, struct gpamap_region *r, bool enabled, struct gm_msg *msg);
int gm_edit_readonly(struct gm_map *m, struct gpamap_region *r, bool readonly, struct gm_msg *msg);
int gm_edit_resize(struct gm_map *m, struct gpamap_region *r, uint64_t size, struct gm_msg *msg);
int gm_edit_reback(struct gm_map *m, struct gpamap_region *r, void *hva, struct gm_msg *msg);
int gm_edit_target_offset(struct gm_map *m, struct gpamap_region *alias, uint64_t offset,
			  struct gm_msg *msg);
int gm_edit_rom_mode(struct gm_map *m, struct gpamap_region *r, bool rom, struct gm_msg *msg);
int gm_edit_log(struct gm_map *m, struct gpamap_region *r, bool on, struct gm_msg *msg);

#endif
