/* SPDX-License-Identifier: BSD-3-Clause */
/* For tests of access: regions of one address space, shown by hand in a view that is published. */
#ifndef GM_TESTS_VIEWS_H
#define GM_TESTS_VIEWS_H

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <sys/mman.h>
#include <cmocka.h>

#include "../base/counting.h"
#include "map/edit.h"
#include "map/map.h"
#include "ops/access.h"

/* A multiple of every host's page size. */
#define PAGE UINT64_C(65536)
#define NR_PAGES 4
#define BASE UINT64_C(0x40000000)

struct env {
	struct counting c;
	struct gm_map map;
	struct gm_tree view;
	struct gm_publish views;
	struct gm_gate accessors;
	struct gm_memory guest;
	unsigned char *mapped;
	unsigned char *memory; /* of it: NR_PAGES, aligned */
};

/* ----------------------------------------------------------------------------- fixture --- */

/* Free what is dead; returns how many. */
static inline unsigned reap(struct env *e)
{
	struct gpamap_region *r = gm_map_reap(&e->map);
	unsigned n = 0;

	for (; r; n++) {
		struct gpamap_region *next = r->next_dead;

		gm_region_release(&e->c.alloc, r);
		r = next;
	}
	return n;
}

static inline void publish(struct env *e)
{
	struct gm_views *v = gm_calloc(&e->c.alloc, 1, sizeof(*v) + sizeof(v->root[0]));
	struct gm_stale stale;

	assert_non_null(v);
	v->nr_spaces = 1;
	v->root[0] = e->view.root;
	v = gm_views_set(&e->views, v);
	gm_tree_commit(&e->view, &stale);
	gm_synchronize();
	gm_stale_free(&stale);
	gm_free(&e->c.alloc, v);
	reap(e);
}

static inline void setup(struct env *e)
{
	memset(e, 0, sizeof(*e));
	counting_init(&e->c);
	assert_int_equal(gm_map_init(&e->map, &e->c.alloc, 1, PAGE), 0);
	gm_tree_init(&e->view, &gm_seg_type, &e->c.alloc);
	assert_int_equal(gm_gate_init(&e->accessors, 0, true), 0);
	e->guest = (struct gm_memory){&e->accessors, &e->views, PAGE};
	e->mapped = mmap(NULL, (NR_PAGES + 1) * PAGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(e->mapped, MAP_FAILED);
	e->memory = e->mapped + (PAGE - (uintptr_t)e->mapped % PAGE);
	publish(e);
}

/* The caller has put his regions. */
static inline void teardown(struct env *e)
{
	assert_int_equal(gm_segs_clear(&e->view, (struct gm_range){0, UINT64_MAX}), 0);
	publish(e);
	gm_free(&e->c.alloc, gm_views_set(&e->views, NULL));
	gm_tree_destroy(&e->view);
	gm_map_destroy(&e->map);
	reap(e);
	gm_gate_destroy(&e->accessors);
	munmap(e->mapped, (NR_PAGES + 1) * PAGE);
	assert_int_equal(e->c.live, 0);
}

static inline struct gpamap_region *new_region(struct env *e, struct gpamap_region_desc desc)
{
	struct gpamap_region *r;

	assert_int_equal(gm_region_new(&e->map, &desc, NULL, &r), 0);
	return r;
}

/* RAM of @pages from page @first of the memory on. */
static inline struct gpamap_region *new_ram(struct env *e, unsigned first, unsigned pages)
{
	return new_region(e, (struct gpamap_region_desc){.kind = GPAMAP_RAM,
							 .size = pages * PAGE,
							 .hva = e->memory + first * PAGE});
}

/* Replace what is at [@gpa, @gpa + @size) by a segment of @r, or by nothing. */
static inline void show(struct env *e, uint64_t gpa, uint64_t size, struct gpamap_region *r,
			uint32_t kind, uint32_t flags)
{
	struct gm_range range;
	struct gm_seg seg = {.region = r, .kind = kind, .flags = flags, .gmem_fd = -1};

	assert_true(gm_range_make(gpa, size, &range));
	assert_int_equal(gm_segs_clear(&e->view, range), 0);
	if (!r)
		return;
	if (kind != GM_SEG_MMIO)
		seg.hva = r->now.hva;
	assert_int_equal(gm_segs_fill(&e->view, range, &seg), 0);
}

static inline int rd(struct env *e, uint64_t gpa, void *buf, size_t len)
{
	bool dead = false;
	int err = gm_access(&e->guest, 0, gpa, buf, len, false, NULL, &dead);

	assert_false(dead);
	return err;
}

static inline int wr(struct env *e, uint64_t gpa, const void *buf, size_t len)
{
	bool dead = false;
	int err = gm_access(&e->guest, 0, gpa, (void *)buf, len, true, NULL, &dead);

	assert_false(dead);
	return err;
}

#endif
