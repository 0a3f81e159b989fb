/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The judge of dirty pages. See run.h.
 *
 * The vCPUs are paused while generations are read: KVM's emulator writes first and marks the page then,
 * so only of a vCPU that is out of KVM_RUN it is known that all its stores are marked.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "run.h"

static unsigned arena_pages(const struct run *r)
{
	return r->arena.windows * WINDOW_PAGES;
}

int dirty_init(struct run *r)
{
	struct dirty_judge *d = &r->dirty;

	d->lost = 0;
	d->bitmap = calloc(r->arena.size / PAGE / 64, sizeof(*d->bitmap));
	d->seen = calloc(arena_pages(r), sizeof(*d->seen));
	d->now = calloc(arena_pages(r), sizeof(*d->now));
	if (d->bitmap && d->seen && d->now)
		return 0;
	dirty_destroy(r);
	return -ENOMEM;
}

void dirty_destroy(struct run *r)
{
	free(r->dirty.bitmap);
	free(r->dirty.seen);
	free(r->dirty.now);
	memset(&r->dirty, 0, sizeof(r->dirty));
}

/* Changes with each store of the guest to the page. */
static uint64_t generation(const struct run *r, const uint64_t *page)
{
	switch (r->hazard) {
	case HAZARD_DATA:
	case HAZARD_LOCKED:
		return page[COUNT_WORD];
	case HAZARD_STRING:
	case HAZARD_STACK:
		/* Of two values that only grow: it changes unless both stay. */
		return page[HEAD_WORD] + page[WORDS - 1];
	default:
		return 0;
	}
}

/* pre: paused. */
static void read_generations(const struct run *r, uint64_t *to)
{
	for (unsigned i = 0; i < arena_pages(r); i++) {
		unsigned page = i % WINDOW_PAGES;

		if (arena_page_kind(page) == PAGE_RW && arena_page_id(page) == page)
			to[i] = generation(r, arena_page(&r->arena, i / WINDOW_PAGES, page));
	}
}

/* Any of the pages that show the same memory as page @i, the first of them, may be reported. */
static bool reported(const struct run *r, unsigned i)
{
	unsigned id = i % WINDOW_PAGES;

	for (unsigned k = id; k < WINDOW_PAGES && arena_page_id(k) == id; k++, i++) {
		if (r->dirty.bitmap[i / 64] & (UINT64_C(1) << (i % 64)))
			return true;
	}
	return false;
}

void dirty_begin(struct run *r)
{
	crew_pause(r);
	read_generations(r, r->dirty.seen);
	crew_resume(r);
}

int dirty_check(struct run *r)
{
	struct dirty_judge *d = &r->dirty;
	bool concurrent = editor_random(&r->editor, 2);
	int ret;

	crew_pause(r);
	read_generations(r, d->now);
	if (concurrent)
		crew_resume(r);
	memset(d->bitmap, 0, r->arena.size / PAGE / 8);
	ret = r->strategy->fetch_dirty(r, d->bitmap);
	for (unsigned i = 0; !ret && i < arena_pages(r); i++) {
		if (d->now[i] != d->seen[i] && !reported(r, i))
			d->lost++;
	}
	if (concurrent)
		crew_pause(r);
	read_generations(r, d->seen);
	crew_resume(r);
	return ret;
}
