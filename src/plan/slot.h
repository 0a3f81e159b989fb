/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory slots as KVM has them, and the table of those that the library has made. Pure.
 *
 * The table is a persistent tree per address space, so that the planner can make the next table while
 * the old one stands, and a failed commit goes back at no cost.
 */
#ifndef GM_PLAN_SLOT_H
#define GM_PLAN_SLOT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/alloc.h"
#include "base/range.h"
#include "base/tree.h"
#include "map/view.h"

enum {
	GM_SLOT_READONLY = 1u << 0,
	GM_SLOT_LOG = 1u << 1,
	GM_SLOT_GUEST_MEMFD = 1u << 2,
};

struct gm_slot {
	struct gm_range gpa; /* whole pages */
	uint64_t hva;
	struct gpamap_region *region; /* whose memory it is; a table's node holds a reference */
	uint64_t offset;	      /* of gpa.first, in region */
	uint64_t group;		      /* see gm_seg */
	uint64_t stamp;		      /* number of the commit that made it: its age */
	uint64_t gmem_offset;
	int gmem_fd;
	uint32_t space;
	uint32_t id;
	uint32_t flags; /* GM_SLOT_* */
};

/* Trees of slots have this type, and tag 0. */
extern const struct gm_tree_type gm_slot_type;

static inline struct gm_slot *gm_slot_of(const struct gm_node *node)
{
	return (struct gm_slot *)node->data;
}

/* Do both show the same memory in the same way at every page they share? LOG is not looked at. */
bool gm_slot_same_backing(const struct gm_slot *a, const struct gm_slot *b);
/* Does the library say when the memory of @s may be freed, by a release callback? Then it can keep it until the slot is
 * gone. Otherwise, and where its region gets other memory or has got it, the caller may free it when the commit has
 * returned, and the slot must be gone by then (P5). To be called by the thread that has the transaction. */
bool gm_slot_kept_alive(const struct gm_slot *s);

/* Slot ids of an address space: taken by slots, or reserved by the caller. */
struct gm_ids {
	const struct gm_alloc *alloc;
	uint64_t *taken;
	uint64_t *reserved;
	uint64_t *
		known; /* asked for, or used before: a create makes a slot there, and changes none */
	uint32_t limit;	    /* ids 0 .. limit - 1 */
	uint32_t max_taken; /* no more than this many may be taken at a time */
	uint32_t nr_taken;
	uint32_t nr_reserved;
	uint32_t hint; /* no free id below */
};

int gm_ids_init(struct gm_ids *ids, const struct gm_alloc *alloc, uint32_t limit,
		uint32_t max_taken); /* -ENOMEM */
void gm_ids_destroy(struct gm_ids *ids);
int gm_ids_reserve(struct gm_ids *ids, uint32_t first, uint32_t count); /* -EBUSY, -ERANGE */
/* Is @id one of those that were reserved? */
bool gm_ids_reserved(const struct gm_ids *ids, uint32_t id);
/* Ids of slots that others have made look free. So an id is asked for in the kernel before the first slot with it
 * is created (gm_backend_ops.ids_free), and is known from then on. */
bool gm_ids_is_known(const struct gm_ids *ids, uint32_t id);
void gm_ids_set_known(struct gm_ids *ids, uint32_t id);
/* A free id, the lowest; marked taken. False: none. */
bool gm_ids_take(struct gm_ids *ids, uint32_t *ret);
void gm_ids_put(struct gm_ids *ids, uint32_t id);
/* Take @id. pre: it is below the limit, and free. */
void gm_ids_mark(struct gm_ids *ids, uint32_t id);

struct gm_slots {
	struct gm_tree tree; /* struct gm_slot by GPA */
	struct gm_ids ids;
};

#endif
