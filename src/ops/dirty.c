/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The dirty bits of regions.
 *
 * Invariants:
 *  D1  A bit is set after the page was written, and with release; it is taken with acquire. So whoever
 *      takes it sees what was written, and a write that comes too late for that sets the bit anew. (P4)
 *  D2  Bits leave only by gm_dirty_take() and gm_dirty_clear(), each of them once.
 */
#include <string.h>

#include "ops/dirty.h"

#define WORD 64

static uint64_t words_of(uint64_t pages)
{
	return pages / WORD + (pages % WORD != 0);
}

/* Page sizes are powers of two; a shift is all that a write to a logged page should pay. */
static unsigned page_shift(uint64_t page_size)
{
	return (unsigned)__builtin_ctzll(page_size);
}

/* The lowest @n bits; @n is 1 or more, and 64 or more means all. */
static uint64_t low_bits(uint64_t n)
{
	return n >= WORD ? UINT64_MAX : (UINT64_C(1) << n) - 1;
}

static void set_bits(_Atomic(uint64_t) *word, uint64_t bits)
{
	/* Not even when they are set already may this be left out: someone may be taking them, who has read
	 * the page before this write. */
	if (bits)
		atomic_fetch_or_explicit(word, bits, memory_order_release);
}

/* A plain look first: most words have nothing, and stay shared between caches. */
static uint64_t take_bits(_Atomic(uint64_t) *word, uint64_t bits)
{
	if (!(atomic_load_explicit(word, memory_order_relaxed) & bits))
		return 0;
	return atomic_fetch_and_explicit(word, ~bits, memory_order_acquire) & bits;
}

size_t gm_dirty_words(const struct gm_slot *slot, uint64_t page_size)
{
	uint64_t pages = ((slot->gpa.last - slot->gpa.first) >> page_shift(page_size)) + 1;

	return words_of(pages);
}

/* Add @n bits of @from to those of a region from page @first on. */
static void add_bits(_Atomic(uint64_t) *to, uint64_t first, uint64_t n, const uint64_t *from)
{
	unsigned shift = first % WORD;

	to += first / WORD;
	for (uint64_t i = 0; i < words_of(n); i++) {
		/* What lies beyond the slot is another slot's. */
		uint64_t bits = from[i] & low_bits(n - i * WORD);

		set_bits(&to[i], bits << shift);
		if (shift && bits >> (WORD - shift))
			set_bits(&to[i + 1], bits >> (WORD - shift));
	}
}

int gm_dirty_harvest(struct gm_backend *b, const struct gm_slot *slot, uint64_t *scratch)
{
	uint64_t page_size = b->caps.limits.page_size;
	unsigned shift = page_shift(page_size);
	_Atomic(uint64_t) *dirty = slot->region->dirty;
	int err;

	err = b->ops->dirty(b, slot, scratch);
	if (err || !dirty)
		return err;
	add_bits(dirty, slot->offset >> shift, ((slot->gpa.last - slot->gpa.first) >> shift) + 1,
		 scratch);
	return 0;
}

void gm_dirty_mark(struct gpamap_region *r, uint64_t page_size, uint64_t offset, uint64_t len)
{
	_Atomic(uint64_t) *dirty = r->dirty;
	unsigned shift = page_shift(page_size);
	uint64_t page, last;

	if (!dirty || len == 0)
		return;
	page = offset >> shift;
	last = (offset + (len - 1)) >> shift;
	while (page <= last) {
		uint64_t bits = low_bits(last - page + 1) << page % WORD;

		set_bits(&dirty[page / WORD], bits);
		page += WORD - page % WORD;
	}
}

void gm_dirty_take(struct gpamap_region *r, uint64_t first, uint64_t n, uint64_t *bitmap)
{
	_Atomic(uint64_t) *dirty = r->dirty;
	unsigned shift = first % WORD;

	if (!dirty) {
		memset(bitmap, 0, words_of(n) * sizeof(*bitmap));
		return;
	}
	dirty += first / WORD;
	for (uint64_t i = 0; i < words_of(n); i++) {
		uint64_t bits = low_bits(n - i * WORD);

		bitmap[i] = take_bits(&dirty[i], bits << shift) >> shift;
		if (shift && bits >> (WORD - shift))
			bitmap[i] |= take_bits(&dirty[i + 1], bits >> (WORD - shift))
				     << (WORD - shift);
	}
}

void gm_dirty_clear(struct gpamap_region *r, uint64_t page_size)
{
	_Atomic(uint64_t) *dirty = r->dirty;
	uint64_t words = words_of(r->max_size >> page_shift(page_size));

	for (uint64_t i = 0; dirty && i < words; i++)
		atomic_store_explicit(&dirty[i], 0, memory_order_relaxed);
}
