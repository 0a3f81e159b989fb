/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ranges of addresses: closed intervals, so that one that ends at 2^64 - 1 needs no special case, and
 * an empty range can't be written down.
 */
#ifndef GM_BASE_RANGE_H
#define GM_BASE_RANGE_H

#include <stdbool.h>
#include <stdint.h>

struct gm_range {
	uint64_t first;
	uint64_t last; /* included */
};

/* @size of UINT64_MAX stands for 2^64. False: @size is 0, or the range would wrap. */
static inline bool gm_range_make(uint64_t first, uint64_t size, struct gm_range *ret)
{
	uint64_t last_offset = size == UINT64_MAX ? UINT64_MAX : size - 1;

	if (size == 0 || first > UINT64_MAX - last_offset)
		return false;
	ret->first = first;
	ret->last = first + last_offset;
	return true;
}

/* Bytes in @r; UINT64_MAX stands for 2^64. */
static inline uint64_t gm_range_size(struct gm_range r)
{
	uint64_t last_offset = r.last - r.first;

	return last_offset == UINT64_MAX ? UINT64_MAX : last_offset + 1;
}

static inline bool gm_range_has(struct gm_range r, uint64_t point)
{
	return r.first <= point && point <= r.last;
}

static inline bool gm_range_overlap(struct gm_range a, struct gm_range b)
{
	return a.first <= b.last && b.first <= a.last;
}

static inline bool gm_range_within(struct gm_range inner, struct gm_range outer)
{
	return outer.first <= inner.first && inner.last <= outer.last;
}

/* False: they have nothing in common. */
static inline bool gm_range_intersect(struct gm_range a, struct gm_range b, struct gm_range *ret)
{
	if (!gm_range_overlap(a, b))
		return false;
	ret->first = a.first > b.first ? a.first : b.first;
	ret->last = a.last < b.last ? a.last : b.last;
	return true;
}

#endif
