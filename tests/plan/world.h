/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * For the planner's tests: address spaces with views that are edited by hand, tables of slots, and a kernel that
 * is a plain list of slots. Every plan that is made goes through the verifier.
 */
#ifndef GM_TESTS_WORLD_H
#define GM_TESTS_WORLD_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "map/region.h"
#include "map/view.h"
#include "plan/plan.h"
#include "verify/verify.h"

#define PAGE UINT64_C(4096)
#define NR_REGIONS 7
/* Regions 4 and 5 have no release callback: what of them goes is gone when the commit returns. */
#define HAS_RELEASE(region) ((region) != 4 && (region) != 5)
#define SPACES 2
#define NO_LIMIT 4096

/* An allocator that counts, and lets the nth allocation fail. */
struct heap {
	struct gm_alloc alloc;
	size_t live;
	size_t calls;
	size_t fail; /* which call; 0: none */
};

static void *heap_alloc(void *opaque, size_t size)
{
	struct heap *h = opaque;
	void *ptr;

	if (++h->calls == h->fail)
		return NULL;
	ptr = malloc(size);
	h->live += ptr != NULL;
	return ptr;
}

static void heap_free(void *opaque, void *ptr)
{
	struct heap *h = opaque;

	h->live--;
	free(ptr);
}

struct world {
	struct heap heap;
	struct gpamap_region regions[NR_REGIONS];
	struct gm_slots slots[SPACES];
	struct gm_tree views[SPACES];
	struct gm_windows windows[SPACES];
	const struct gm_node *old_roots[SPACES];
	const struct gm_node *roots[SPACES];
	struct gm_plan_input in;
	struct gm_plan plan;
	struct gm_msg msg;
	struct gm_slot *kernel;
	size_t nr_kernel, kernel_room;
};

static inline uint64_t region_hva(int region)
{
	return (UINT64_C(0x7f) << 40) + ((uint64_t)region << 36);
}

static void never_released(void *opaque)
{
	(void)opaque;
	fail_msg("the planner releases nothing");
}

static inline void regions_init(struct world *w)
{
	for (int i = 0; i < NR_REGIONS; i++) {
		atomic_init(&w->regions[i].refs, 1);
		w->regions[i].now.hva = region_hva(i);
		w->regions[i].release = HAS_RELEASE(i) ? never_released : NULL;
	}
}

static inline void world_init(struct world *w, uint32_t limit, uint32_t max_taken)
{
	memset(w, 0, sizeof(*w));
	w->heap.alloc = (struct gm_alloc){heap_alloc, heap_free, &w->heap};
	regions_init(w);
	for (unsigned i = 0; i < SPACES; i++) {
		gm_tree_init(&w->slots[i].tree, &gm_slot_type, &w->heap.alloc);
		assert_int_equal(gm_ids_init(&w->slots[i].ids, &w->heap.alloc, limit, max_taken),
				 0);
		gm_tree_init(&w->views[i], &gm_seg_type, &w->heap.alloc);
		gm_windows_init(&w->windows[i], &w->heap.alloc);
	}
	w->in = (struct gm_plan_input){
		.alloc = &w->heap.alloc,
		.page_size = PAGE,
		.max_slot_size = UINT64_C(1) << 30,
		.most_slot_size = UINT64_C(1) << 30,
		.nr_spaces = SPACES,
		.slots = w->slots,
		.old_views = w->old_roots,
		.views = w->roots,
		.windows = w->windows,
	};
	gm_plan_init(&w->plan, &w->heap.alloc);
}

/* Nothing leaks: neither memory nor references. */
static inline void world_destroy(struct world *w)
{
	for (unsigned i = 0; i < SPACES; i++) {
		gm_tree_destroy(&w->slots[i].tree);
		gm_ids_destroy(&w->slots[i].ids);
		gm_tree_destroy(&w->views[i]);
		gm_windows_destroy(&w->windows[i]);
	}
	gm_plan_destroy(&w->plan);
	gm_free(&w->heap.alloc, w->kernel);
	assert_int_equal(w->heap.live, 0);
	for (int i = 0; i < NR_REGIONS; i++)
		assert_int_equal(atomic_load(&w->regions[i].refs), 1);
}

/* What region @region shows from @offset on. */
static inline struct gm_seg seg_of(struct world *w, int region, uint64_t offset, uint32_t flags)
{
	return (struct gm_seg){
		.region = &w->regions[region],
		.offset = offset,
		.hva = region_hva(region) + offset,
		.kind = GM_SEG_RAM,
		.flags = flags,
		.gmem_fd = flags & GM_SEG_GUEST_MEMFD ? 7 : -1,
		.gmem_offset = flags & GM_SEG_GUEST_MEMFD ? offset : 0,
	};
}

static inline void must(int err)
{
	assert_int_equal(err, 0);
}

/* Put @seg at @r, or nothing if it is NULL. No window. */
static inline void view_put(struct world *w, unsigned space, struct gm_range r,
			    const struct gm_seg *seg)
{
	must(gm_segs_clear(&w->views[space], r));
	if (seg)
		must(gm_segs_fill(&w->views[space], r, seg));
}

static inline void window(struct world *w, unsigned space, struct gm_range r)
{
	must(gm_windows_add(&w->windows[space], r));
}

static inline struct gm_range pages(uint64_t first, uint64_t n)
{
	return (struct gm_range){first * PAGE, (first + n) * PAGE - 1};
}

/* Edits in space 0, with the least windows: memory of a region at offset @at, nothing, other flags. */
static inline void map_pages(struct world *w, uint64_t first, uint64_t n, int region, uint64_t at,
			     uint32_t flags)
{
	struct gm_seg seg = seg_of(w, region, at * PAGE, flags);

	view_put(w, 0, pages(first, n), &seg);
	window(w, 0, pages(first, n));
}

static inline void unmap_pages(struct world *w, uint64_t first, uint64_t n)
{
	view_put(w, 0, pages(first, n), NULL);
	window(w, 0, pages(first, n));
}

/* A device, or a mapping that traps. */
static inline void map_kind(struct world *w, uint64_t first, uint64_t n, enum gm_seg_kind kind)
{
	struct gm_seg seg = {.region = &w->regions[0], .kind = kind, .gmem_fd = -1};

	view_put(w, 0, pages(first, n), &seg);
	window(w, 0, pages(first, n));
}

static inline void map_gmem(struct world *w, unsigned space, uint64_t first, uint64_t n, int region,
			    uint64_t at)
{
	struct gm_seg seg = seg_of(w, region, at * PAGE, GM_SEG_GUEST_MEMFD);

	view_put(w, space, pages(first, n), &seg);
	window(w, space, pages(first, n));
}

/* The kernel does the plan. */
static inline void kernel_remove(struct world *w, const struct gm_slot *s)
{
	for (size_t i = 0; i < w->nr_kernel; i++) {
		if (w->kernel[i].space == s->space && w->kernel[i].id == s->id) {
			w->kernel[i] = w->kernel[--w->nr_kernel];
			return;
		}
	}
	fail_msg("no slot %u", s->id);
}

/* The table knows by which region and offset the view names the memory of a slot. */
static inline void kernel_learn_names(struct world *w)
{
	for (size_t i = 0; i < w->nr_kernel; i++) {
		struct gm_slot *s = &w->kernel[i];
		const struct gm_node *n =
			gm_tree_find(w->slots[s->space].tree.root, s->gpa.first, 0);

		assert_non_null(n);
		*s = *gm_slot_of(n);
	}
}

static inline void kernel_add(struct world *w, const struct gm_slot *s)
{
	size_t fail = w->heap.fail;

	w->heap.fail = 0;
	must(gm_array_reserve(&w->heap.alloc, (void **)&w->kernel, &w->kernel_room,
			      w->nr_kernel + 1, sizeof(*s)));
	w->heap.fail = fail;
	w->kernel[w->nr_kernel++] = *s;
}

/* What the kernel has is unlike what the views say, after an operation that it has refused, and the table
 * knows: a slot more, or one less. Every commit has a window there. */
static inline void settle_table(struct world *w, unsigned space)
{
	struct gm_stale stale;

	gm_tree_commit(&w->slots[space].tree, &stale);
	gm_stale_free(&stale);
}

static inline void slot_left_over(struct world *w, const struct gm_slot *s)
{
	must(gm_tree_insert(&w->slots[s->space].tree, s->gpa, 0, s));
	settle_table(w, s->space);
	gm_ids_mark(&w->slots[s->space].ids, s->id);
	kernel_add(w, s);
	window(w, s->space, s->gpa);
}

static inline void slot_lost(struct world *w, const struct gm_slot *s)
{
	struct gm_slot lost = *s;

	must(gm_tree_remove(&w->slots[lost.space].tree, lost.gpa.first, 0));
	settle_table(w, lost.space);
	gm_ids_put(&w->slots[lost.space].ids, lost.id);
	kernel_remove(w, &lost);
	window(w, lost.space, lost.gpa);
}

/* How many slots each space may have. */
static inline uint32_t capacity(const struct world *w)
{
	const struct gm_ids *ids = &w->slots[0].ids;
	uint32_t usable = ids->limit - ids->nr_reserved;

	return usable < ids->max_taken ? usable : ids->max_taken;
}

static inline int world_verify(struct world *w)
{
	struct gm_verify_input in = {
		.alloc = &gm_alloc_default,
		.page_size = w->in.page_size,
		.most_slot_size = w->in.most_slot_size,
		.nr_spaces = w->in.nr_spaces,
		.max_slots = capacity(w),
		.old = w->kernel,
		.nr_old = w->nr_kernel,
		.old_views = w->old_roots,
		.views = w->roots,
	};

	return gm_plan_verify(&w->plan, &in, &w->msg);
}

/* Make a plan; if that succeeds, it is right. */
static inline int world_make(struct world *w)
{
	int err;

	w->in.stamp++;
	for (unsigned i = 0; i < SPACES; i++) {
		gm_windows_normalise(&w->windows[i]);
		w->old_roots[i] = w->views[i].base;
		w->roots[i] = w->views[i].root;
	}
	memset(&w->msg, 0, sizeof(w->msg));
	err = gm_plan_make(&w->plan, &w->in, &w->msg);
	if (!err && world_verify(w))
		fail_msg("%s", w->msg.text);
	return err;
}

static inline void forget_windows(struct world *w)
{
	for (unsigned i = 0; i < SPACES; i++)
		w->windows[i].n = 0;
}

static inline void world_accept(struct world *w)
{
	struct gm_stale stale;

	for (size_t i = 0; i < w->plan.n; i++) {
		const struct gm_op *op = &w->plan.ops[i];

		if (op->kind != GM_OP_CREATE)
			kernel_remove(w, &op->from);
		if (op->kind != GM_OP_DELETE)
			kernel_add(w, &op->to);
	}
	gm_plan_accept(&w->plan, &w->in);
	kernel_learn_names(w);
	for (unsigned i = 0; i < SPACES; i++) {
		gm_tree_commit(&w->views[i], &stale);
		gm_stale_free(&stale);
	}
	forget_windows(w);
}

/* Throws the edits of the view away, too. */
static inline void world_reject(struct world *w)
{
	gm_plan_reject(&w->plan, &w->in);
	for (unsigned i = 0; i < SPACES; i++)
		gm_tree_abort(&w->views[i]);
	forget_windows(w);
}

static inline void world_commit(struct world *w)
{
	int err = world_make(w);

	if (err)
		fail_msg("%d: %s", err, w->msg.text);
	world_accept(w);
}

static inline int world_setup(void **state)
{
	struct world *w = malloc(sizeof(*w));

	world_init(w, NO_LIMIT, NO_LIMIT);
	*state = w;
	return 0;
}

static inline int world_teardown(void **state)
{
	world_destroy(*state);
	free(*state);
	return 0;
}

/* A test whose state is a world without limits. */
#define world_test(test) cmocka_unit_test_setup_teardown(test, world_setup, world_teardown)

#endif
