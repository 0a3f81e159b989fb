/* SPDX-License-Identifier: BSD-3-Clause */
/* What the tests of the map share: an allocator that counts and can fail, a map with two address spaces, and
 * flat views as text. Memory of regions is never touched, so its address can be any number. */
#ifndef TESTS_MAP_FIXTURE_H
#define TESTS_MAP_FIXTURE_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "map/edit.h"
#include "map/flatten.h"
#include "map/map.h"
#include "map/plain.h"
#include "map/region.h"
#include "map/view.h"

#define PAGE UINT64_C(0x1000)
#define SPACES 2

struct counting {
	size_t live;
	size_t bytes; /* that are live */
	size_t peak;  /* the most bytes at a time */
	size_t calls;
	size_t fail_at; /* this call returns NULL; 0: none */
	bool for_good;	/* and so do all that follow */
};

static inline void *counting_alloc(void *opaque, size_t size)
{
	struct counting *c = opaque;
	void *p;

	c->calls++;
	if (c->fail_at && (c->calls == c->fail_at || (c->for_good && c->calls > c->fail_at)))
		return NULL;
	p = malloc(size);
	assert_non_null(p);
	c->live++;
	c->bytes += malloc_usable_size(p);
	if (c->peak < c->bytes)
		c->peak = c->bytes;
	return p;
}

static inline void counting_free(void *opaque, void *ptr)
{
	struct counting *c = opaque;

	if (ptr) {
		c->live--;
		c->bytes -= malloc_usable_size(ptr);
	}
	free(ptr);
}

struct env {
	struct counting mem;
	struct gm_alloc alloc;
	struct gm_map map;
	struct gm_tree view[SPACES];
	struct gm_msg msg;
	const struct gm_flatten_limits *limits; /* NULL: the usual ones */
	char text[8192];
};

static inline void fail_nth(struct env *e, size_t n)
{
	e->mem.calls = 0;
	e->mem.fail_at = n;
}

static inline void env_init(struct env *e)
{
	memset(e, 0, sizeof(*e));
	e->alloc = (struct gm_alloc){counting_alloc, counting_free, &e->mem};
	assert_int_equal(gm_map_init(&e->map, &e->alloc, SPACES, PAGE), 0);
	for (unsigned i = 0; i < SPACES; i++)
		gm_tree_init(&e->view[i], &gm_seg_type, &e->alloc);
}

static inline size_t reap(struct env *e)
{
	struct gpamap_region *r = gm_map_reap(&e->map), *next;
	size_t n = 0;

	for (; r; r = next, n++) {
		next = r->next_dead;
		gm_region_release(&e->alloc, r);
	}
	return n;
}

/* Everything must be gone then, but for regions that the test leaked. */
static inline void env_destroy(struct env *e)
{
	for (unsigned i = 0; i < SPACES; i++)
		gm_tree_destroy(&e->view[i]);
	gm_map_destroy(&e->map);
	reap(e);
	assert_int_equal(e->mem.live, 0);
}

static inline int setup(void **state)
{
	struct env *e = malloc(sizeof(*e));

	assert_non_null(e);
	env_init(e);
	*state = e;
	return 0;
}

static inline int teardown(void **state)
{
	env_destroy(*state);
	free(*state);
	return 0;
}

static inline struct gpamap_region *root(struct env *e, unsigned space)
{
	return e->map.spaces[space].root;
}

static inline struct gpamap_region *make(struct env *e, struct gpamap_region_desc desc)
{
	struct gpamap_region *r = NULL;
	int err = gm_region_new(&e->map, &desc, &e->msg, &r);

	if (err)
		fail_msg("gm_region_new: %d: %s", err, e->msg.text);
	return r;
}

#define MAKE(e, ...) make(e, (struct gpamap_region_desc){__VA_ARGS__})

static inline void put(struct gpamap_region *r)
{
	gm_region_unref(r);
}

static inline void ok(struct env *e, int err)
{
	if (err)
		fail_msg("%d: %s", err, e->msg.text);
}

static inline int flatten(struct env *e, unsigned space, const struct gm_windows *w,
			  struct gm_tree *view)
{
	return gm_flatten(&e->map, space, w, view, e->limits, &e->msg);
}

static inline int flatten_windows(struct env *e, unsigned space)
{
	struct gm_windows *w = &e->map.spaces[space].windows;

	gm_windows_normalise(w);
	return flatten(e, space, w, &e->view[space]);
}

/* All of an address space, into an empty tree. */
static inline int flatten_all(struct env *e, unsigned space, struct gm_tree *view)
{
	struct gm_range all = {0, UINT64_MAX};
	struct gm_windows w = {.alloc = &e->alloc, .r = &all, .n = 1, .room = 1};

	gm_tree_init(view, &gm_seg_type, &e->alloc);
	return flatten(e, space, &w, view);
}

static inline void end_view(struct gm_tree *view)
{
	struct gm_stale stale;

	gm_tree_commit(view, &stale);
	gm_stale_free(&stale);
}

static inline void commit(struct env *e)
{
	for (unsigned i = 0; i < SPACES; i++) {
		ok(e, flatten_windows(e, i));
		end_view(&e->view[i]);
	}
	gm_edits_commit(&e->map);
	reap(e);
}

static inline bool same_seg(const struct gm_node *a, const struct gm_node *b)
{
	const struct gm_seg *sa = gm_seg_of(a), *sb = gm_seg_of(b);

	return a->range.first == b->range.first && a->range.last == b->range.last &&
	       a->tag == b->tag && sa->region == sb->region && sa->offset == sb->offset &&
	       sa->hva == sb->hva && sa->gmem_fd == sb->gmem_fd &&
	       sa->gmem_offset == sb->gmem_offset && sa->kind == sb->kind &&
	       sa->flags == sb->flags && sa->group == sb->group;
}

/* Node by node. */
static inline bool same_view(const struct gm_node *a, const struct gm_node *b)
{
	struct gm_range all = {0, UINT64_MAX};
	const struct gm_node *x = gm_tree_first(a, all), *y = gm_tree_first(b, all);

	while (x && y && same_seg(x, y)) {
		x = gm_tree_next(a, all, x->range.first, x->tag);
		y = gm_tree_next(b, all, y->range.first, y->tag);
	}
	return !x && !y;
}

/* "0-fff ram+0 RAM,ro | ...": names, offsets, kinds and flags; g with a group. What is mapped without a region is "pages",
 * at its host address. Addresses of memory are checked on the way. */
static inline const char *view_text(struct env *e, const struct gm_node *tree)
{
	static const char *const kinds[] = {"", "RAM", "ROMD", "MMIO", "NONE"};
	size_t at = 0;

	e->text[0] = '\0';
	gm_tree_for_each (n, tree, ((struct gm_range){0, UINT64_MAX})) {
		const struct gm_seg *s = gm_seg_of(n);
		const struct gpamap_region *r = s->region;

		assert_int_equal(s->hva, s->kind == GM_SEG_MMIO ? 0 : r->now.hva + s->offset);
		if (s->flags & GM_SEG_GUEST_MEMFD) {
			assert_int_equal(s->gmem_offset, r->gmem_offset + s->offset);
			assert_int_equal(s->gmem_fd, r->gmem_fd);
		}
		at += (size_t)snprintf(
			e->text + at, sizeof(e->text) - at, "%s%llx-%llx %s+%llx %s%s%s%s%s",
			at ? " | " : "", (unsigned long long)n->range.first,
			(unsigned long long)n->range.last, r->name, (unsigned long long)s->offset,
			kinds[s->kind], s->flags & GM_SEG_READONLY ? ",ro" : "",
			s->flags & GM_SEG_LOG ? ",log" : "",
			s->flags & GM_SEG_GUEST_MEMFD ? ",gmem" : "", s->group ? ",g" : "");
		assert_true(at < sizeof(e->text));
	}
	return e->text;
}

/* What the windows give, and what all gives, is @want. (RG3) The edits stay open. */
static inline void expect(struct env *e, unsigned space, const char *want)
{
	struct gm_tree all;

	ok(e, flatten_windows(e, space));
	assert_string_equal(view_text(e, e->view[space].root), want);
	ok(e, flatten_all(e, space, &all));
	assert_true(same_view(e->view[space].root, all.root));
	gm_tree_destroy(&all);
}

#endif
