/* SPDX-License-Identifier: BSD-3-Clause */
/* What the files that edit regions share. */
#ifndef GM_MAP_EDIT_H
#define GM_MAP_EDIT_H

#include "map/region.h"

/* Of numbers in messages: printf knows no uint64_t. */
typedef unsigned long long gm_ull;

/* How to print a region in a message, cut to a length that leaves room for the rest. */
#define GM_NAME "%.40s"
/* Its name, or else its kind. */
const char *gm_label(const struct gpamap_region *r);
const char *gm_kind_name(enum gpamap_kind kind);

static inline bool gm_aligned(const struct gm_map *m, uint64_t x)
{
	return (x & (m->page_size - 1)) == 0;
}

/* GPAMAP_SIZE_MAX, as 2^64, is. */
static inline bool gm_size_aligned(const struct gm_map *m, uint64_t size)
{
	return size == GPAMAP_SIZE_MAX || gm_aligned(m, size);
}

/* All of a region of @size bytes, in its own offsets. pre: size isn't 0. */
static inline struct gm_range gm_all_of(uint64_t size)
{
	return (struct gm_range){0, size == UINT64_MAX ? UINT64_MAX : size - 1};
}

/* A region with one reference, its state all zero but for kind, size and enabled. NULL: no memory. */
struct gpamap_region *gm_region_alloc(struct gm_map *map, enum gpamap_kind kind, const char *name,
				      uint64_t size);
/* One reference more, unless it has none: then it's dead. */
bool gm_region_try_ref(struct gpamap_region *r);
/* All children of @r lose their place. pre: @r is dead, or its map ends. */
void gm_drop_children(struct gpamap_region *r);

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
/* Keep the state of @r for gm_edits_abort(), before it is changed. pre: it has a reference. */
void gm_touch(struct gpamap_region *r);
/* Mark all of @r, and its plain mappings. -ENOMEM, as gm_mark(). */
int gm_mark_all(struct gpamap_region *r);

#endif
