/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The flat view of an address space: what stands at each guest-physical address once priorities, aliases
 * and the plain mappings are worked out. Segments don't overlap. A segment is complete in itself, so a
 * view stays true when its regions are edited later; readers walk it without a lock.
 */
#ifndef GM_MAP_VIEW_H
#define GM_MAP_VIEW_H

#include <stdbool.h>
#include <stdint.h>

#include "base/range.h"
#include "base/tree.h"

struct gpamap_region;

enum gm_seg_kind {
	GM_SEG_RAM = 1, /* memory; with GM_SEG_READONLY writes trap */
	GM_SEG_ROMD,	/* a ROM device in ROM mode: memory, writes go to its callbacks */
	GM_SEG_MMIO,	/* callbacks; also a ROM device in trap mode */
	GM_SEG_NONE,	/* memory that is mapped, but traps (GPAMAP_NONE) */
};

enum {
	GM_SEG_READONLY = 1u << 0,
	GM_SEG_LOG = 1u << 1,
	GM_SEG_GUEST_MEMFD = 1u << 2,
};

struct gm_seg {
	struct gpamap_region *region; /* the terminal one; the node holds a reference */
	uint64_t offset;	      /* of the segment's first byte, in region */
	uint64_t hva;		      /* of the same byte; 0 for MMIO */
	uint64_t gmem_offset;	      /* of the same byte, with GM_SEG_GUEST_MEMFD */
	int gmem_fd;
	uint32_t kind; /* enum gm_seg_kind */
	uint32_t flags;
	uint64_t group; /* serial of the outermost unmergeable region on the way, else 0 */
};

/* Trees of segments have this type, and tag 0. */
extern const struct gm_tree_type gm_seg_type;

static inline const struct gm_seg *gm_seg_of(const struct gm_node *node)
{
	return (const struct gm_seg *)node->data;
}

/* Does the guest find memory there without an exit, so that it needs a slot? */
static inline bool gm_seg_backed(const struct gm_seg *s)
{
	return s->kind == GM_SEG_RAM || s->kind == GM_SEG_ROMD;
}

/* Is @b at @b_first what @a at @a_first goes on to be, so that both could be one segment? */
bool gm_seg_continues(const struct gm_seg *a, uint64_t a_first, const struct gm_seg *b,
		      uint64_t b_first);
/* @s, which begins at @first, as seen from @at on. */
struct gm_seg gm_seg_advance(const struct gm_seg *s, uint64_t first, uint64_t at);

/* Remove everything in @window from a tree of segments; segments that reach beyond are cut. -ENOMEM: the
 * tree is to be aborted. */
int gm_segs_clear(struct gm_tree *t, struct gm_range window);
/* Put @seg where nothing is in @range, and let it grow together with neighbours that it continues.
 * -ENOMEM: the tree is to be aborted. */
int gm_segs_fill(struct gm_tree *t, struct gm_range range, const struct gm_seg *seg);

#endif
