/* SPDX-License-Identifier: BSD-3-Clause */
/* What a memory slot is, as an entry of a tree. */
#include "map/region.h"
#include "plan/slot.h"

static void ref_slot(const void *data)
{
	const struct gm_slot *s = data;

	if (s->region)
		gm_region_ref(s->region);
}

static void unref_slot(const void *data)
{
	const struct gm_slot *s = data;

	if (s->region)
		gm_region_unref(s->region);
}

const struct gm_tree_type gm_slot_type = {
	.size = sizeof(struct gm_slot),
	.ref = ref_slot,
	.unref = unref_slot,
};

bool gm_slot_same_backing(const struct gm_slot *a, const struct gm_slot *b)
{
	/* The same distance from each other everywhere; modulo 2^64, so either may be the lower one. */
	uint64_t by = b->gpa.first - a->gpa.first;

	if (a->region != b->region || a->offset + by != b->offset || a->hva + by != b->hva ||
	    a->group != b->group || ((a->flags ^ b->flags) & ~(uint32_t)GM_SLOT_LOG))
		return false;
	return !(a->flags & GM_SLOT_GUEST_MEMFD) ||
	       (a->gmem_fd == b->gmem_fd && a->gmem_offset + by == b->gmem_offset);
}

bool gm_slot_kept_alive(const struct gm_slot *s)
{
	const struct gpamap_region *r = s->region;

	if (!r || !r->release || s->hva != r->now.hva + s->offset)
		return false;
	/* This transaction gives the region its memory: should it be aborted, the caller may free that. */
	return !r->touched || r->was.hva == r->now.hva;
}
