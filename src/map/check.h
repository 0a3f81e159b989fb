/* SPDX-License-Identifier: BSD-3-Clause */
/* Refusals that need no look at more than one region. */
#ifndef GM_MAP_CHECK_H
#define GM_MAP_CHECK_H

#include "map/region.h"

static inline bool gm_aligned(const struct gm_map *m, uint64_t x)
{
	return (x & (m->page_size - 1)) == 0;
}

/* GPAMAP_SIZE_MAX, as 2^64, is. */
static inline bool gm_size_aligned(const struct gm_map *m, uint64_t size)
{
	return size == GPAMAP_SIZE_MAX || gm_aligned(m, size);
}

/* Can @size bytes from @hva be memory? -EINVAL, -EOVERFLOW. */
int gm_check_hva(const struct gm_map *m, const char *name, uint64_t hva, uint64_t size,
		 struct gm_msg *msg);
/* Is the window of an alias one? -EINVAL, -EOVERFLOW. */
int gm_check_window(const struct gm_map *m, const char *name, uint64_t target_offset, uint64_t size,
		    struct gm_msg *msg);
/* gm_region_new() without memory: is @desc in order? */
int gm_check_desc(const struct gm_map *m, const struct gpamap_region_desc *desc,
		  struct gm_msg *msg);

/* Does @r belong to @m? -EXDEV. */
int gm_check_map(const struct gm_map *m, const struct gpamap_region *r, struct gm_msg *msg);

#endif
