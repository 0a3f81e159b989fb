/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Dirty pages. They are kept by region, 1 bit per page of its memory, because slots come and go: whatever
 * is read from a slot is added to the bits of its region (P4).
 */
#ifndef GM_OPS_DIRTY_H
#define GM_OPS_DIRTY_H

#include <stddef.h>
#include <stdint.h>

#include "backend/backend.h"
#include "map/region.h"
#include "plan/slot.h"

/* Words of bitmap that one slot needs. */
size_t gm_dirty_words(const struct gm_slot *slot, uint64_t page_size);
/* Read the dirty bits of @slot from the backend, into @scratch (of gm_dirty_words()), and add them to its
 * region. pre: slot logs; no slot operation at the same time. */
int gm_dirty_harvest(struct gm_backend *b, const struct gm_slot *slot, uint64_t *scratch);
/* Mark the pages of a range of @r. Any thread. */
void gm_dirty_mark(struct gpamap_region *r, uint64_t page_size, uint64_t offset, uint64_t len);
/* Move bits [@first, @first + @n) of @r's pages to @bitmap from bit 0 on. */
void gm_dirty_take(struct gpamap_region *r, uint64_t first, uint64_t n, uint64_t *bitmap);
/* Forget all of them. */
void gm_dirty_clear(struct gpamap_region *r, uint64_t page_size);

#endif
