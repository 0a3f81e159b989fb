/* SPDX-License-Identifier: BSD-3-Clause */
/* The plain way: pages mapped, unmapped and protected by GPA. */
#ifndef GM_MAP_PLAIN_H
#define GM_MAP_PLAIN_H

#include "map/region.h"

/* As in gpamap.h. On failure nothing has changed. */
int gm_ranges_map(struct gm_map *m, unsigned space, uint64_t gpa, uint64_t size, void *hva,
		  enum gpamap_prot prot, struct gm_msg *msg);
int gm_ranges_map_region(struct gm_map *m, unsigned space, uint64_t gpa, uint64_t size,
			 struct gpamap_region *ram, uint64_t offset, enum gpamap_prot prot,
			 struct gm_msg *msg);
int gm_ranges_unmap(struct gm_map *m, unsigned space, uint64_t gpa, uint64_t size,
		    struct gm_msg *msg);
int gm_ranges_protect(struct gm_map *m, unsigned space, uint64_t gpa, uint64_t size,
		      enum gpamap_prot prot, struct gm_msg *msg);

#endif
