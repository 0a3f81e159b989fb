/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The cost of edits and of flattening by the shape of the map: what would be exponential if ways were followed one by
 * one, and quadratic if windows were.
 *
 *  - levels of aliases: a container shows the one below twice, that one the next, and so on; a page at the bottom, which
 *    is seen once or nowhere, since all of them lie on each other. It has 2^levels ways to the root.
 *  - stacked containers: n of them lie on each other, and each shows a page. All pages change.
 *  - places: one page in n places, by n aliases, or by levels of them until the map is refused.
 */
#include <errno.h>
#include <err.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"
#include "map/edit.h"
#include "map/flatten.h"
#include "map/map.h"

/* Four times the levels, and what falls out of the caches; the ways grow by 2^23. */
#define LEVELS_LIMIT 20.0
/* 32 times the containers, the logarithm, and the caches; the square would be 1,024. */
#define STACK_LIMIT 200.0

struct shape {
	unsigned n;
	struct gm_map map;
	struct gm_tree view;
	struct gpamap_region **pages;
	unsigned nr_pages;
	bool readonly;
	struct series edit;
	struct series flatten;
};

static struct gpamap_region *make(struct shape *s, enum gpamap_kind kind, uint64_t size,
				  struct gpamap_region *target)
{
	struct gpamap_region_desc desc = {
		.kind = kind, .name = "r", .size = size, .target = target};
	struct gpamap_region *r;

	if (kind == GPAMAP_RAM)
		desc.hva = (void *)(uintptr_t)GIB;
	check(gm_region_new(&s->map, &desc, NULL, &r), "region");
	return r;
}

/* The map has the only reference on @r then. */
static void add(struct shape *s, struct gpamap_region *parent, uint64_t offset,
		struct gpamap_region *r)
{
	check(gm_edit_add(&s->map, parent, offset, r, 0, NULL), "add");
	gm_region_unref(r);
}

static struct gpamap_region *root(struct shape *s)
{
	return s->map.spaces[0].root;
}

static int flatten(struct shape *s)
{
	struct gm_windows *w = &s->map.spaces[0].windows;

	gm_windows_normalise(w);
	return gm_flatten(&s->map, 0, w, &s->view, NULL, NULL);
}

static void commit(struct shape *s)
{
	struct gm_stale stale;

	check(flatten(s), "flatten");
	gm_tree_commit(&s->view, &stale);
	gm_edits_commit(&s->map);
	gm_stale_free(&stale);
}

static void shape_init(struct shape *s, unsigned n)
{
	*s = (struct shape){.n = n, .nr_pages = n};
	check(gm_map_init(&s->map, &gm_alloc_default, 1, PAGE), "map");
	gm_tree_init(&s->view, &gm_seg_type, &gm_alloc_default);
	s->pages = calloc(n, sizeof(struct gpamap_region *));
	if (!s->pages)
		err(1, "pages");
}

static void shape_destroy(struct shape *s)
{
	struct gpamap_region *next;

	gm_tree_destroy(&s->view);
	gm_map_destroy(&s->map);
	for (struct gpamap_region *dead = gm_map_reap(&s->map); dead; dead = next) {
		next = dead->next_dead;
		gm_region_release(&gm_alloc_default, dead);
	}
	free(s->pages);
	series_free(&s->edit);
	series_free(&s->flatten);
}

/* A page below @levels containers that show the one below twice, @apart or on each other. */
static struct gpamap_region *raise_levels(struct shape *s, unsigned levels, bool apart)
{
	struct gpamap_region *top = make(s, GPAMAP_RAM, PAGE, NULL);
	uint64_t size = PAGE;

	s->pages[0] = top;
	s->nr_pages = 1;
	for (unsigned i = 0; i < levels; i++, size <<= apart) {
		struct gpamap_region *box = make(s, GPAMAP_CONTAINER, size << apart, NULL);

		for (uint64_t twin = 0; twin < 2; twin++)
			add(s, box, apart ? twin * size : 0, make(s, GPAMAP_ALIAS, size, top));
		gm_region_unref(top);
		top = box;
	}
	return top;
}

static void stack(struct shape *s)
{
	for (unsigned i = 0; i < s->n; i++) {
		struct gpamap_region *box = make(s, GPAMAP_CONTAINER, GPAMAP_SIZE_MAX, NULL);

		s->pages[i] = make(s, GPAMAP_RAM, PAGE, NULL);
		add(s, box, 2 * PAGE * i, s->pages[i]);
		add(s, root(s), 0, box);
	}
}

static void scatter(struct shape *s)
{
	struct gpamap_region *page = make(s, GPAMAP_RAM, PAGE, NULL);

	s->pages[0] = page;
	s->nr_pages = 1;
	for (unsigned i = 0; i < s->n; i++)
		add(s, root(s), 2 * PAGE * i, make(s, GPAMAP_ALIAS, PAGE, page));
	gm_region_unref(page);
}

static void sample(struct shape *s)
{
	double start = now_us(), edited;

	s->readonly = !s->readonly;
	for (unsigned i = 0; i < s->nr_pages; i++)
		check(gm_edit_readonly(&s->map, s->pages[i], s->readonly, NULL), "readonly");
	edited = now_us();
	check(flatten(s), "flatten");
	series_add(&s->flatten, now_us() - edited);
	series_add(&s->edit, edited - start);
	commit(s);
}

enum { NR_SIZES = 3 };

static void measure(struct bench *b, const char *what, const unsigned sizes[NR_SIZES],
		    void (*build)(struct shape *s), double limit)
{
	struct shape shapes[NR_SIZES];
	double edit[NR_SIZES], flat[NR_SIZES];
	unsigned rounds = b->quick ? 5 : 25;
	char text[80];

	for (int i = 0; i < NR_SIZES; i++) {
		shape_init(&shapes[i], sizes[i]);
		build(&shapes[i]);
		commit(&shapes[i]);
	}
	for (unsigned round = 0; round < rounds; round++) {
		for (int i = 0; i < NR_SIZES; i++)
			sample(&shapes[i]);
	}
	for (int i = 0; i < NR_SIZES; i++) {
		snprintf(text, sizeof(text), "edit, %s", what);
		edit[i] = result_row(b, "shapes", text, sizes[i], "us", &shapes[i].edit);
		snprintf(text, sizeof(text), "flatten, %s", what);
		flat[i] = result_row(b, "shapes", text, sizes[i], "us", &shapes[i].flatten);
	}
	snprintf(text, sizeof(text), "edit, %s: at %u / at %u", what, sizes[NR_SIZES - 1],
		 sizes[0]);
	result_ratio(b, "shapes", text, edit[NR_SIZES - 1] / edit[0], limit);
	snprintf(text, sizeof(text), "flatten, %s: at %u / at %u", what, sizes[NR_SIZES - 1],
		 sizes[0]);
	result_ratio(b, "shapes", text, flat[NR_SIZES - 1] / flat[0], limit);
	for (int i = 0; i < NR_SIZES; i++)
		shape_destroy(&shapes[i]);
}

static void build_levels(struct shape *s)
{
	add(s, root(s), 0, raise_levels(s, s->n, false));
}

/* How long it takes to be refused. */
static void measure_refusal(struct bench *b)
{
	enum { LEVELS = 31 };
	struct series took = {0};
	struct shape s;

	shape_init(&s, LEVELS);
	add(&s, root(&s), 0, raise_levels(&s, LEVELS, true));
	for (unsigned round = 0; round < (b->quick ? 5 : 25); round++) {
		double start = now_us();

		if (flatten(&s) != -E2BIG)
			errx(1, "2^%d places were not refused", LEVELS);
		gm_tree_abort(&s.view);
		series_add(&took, now_us() - start);
	}
	result_row(b, "shapes", "flatten, 2^levels places: refused", LEVELS, "us", &took);
	gm_edits_abort(&s.map);
	series_free(&took);
	shape_destroy(&s);
}

void bench_shapes(struct bench *b)
{
	static const unsigned levels[NR_SIZES] = {8, 16, 31};
	static const unsigned many[NR_SIZES] = {1000, 4000, 32000};

	measure(b, "levels of aliases", levels, build_levels, LEVELS_LIMIT);
	measure(b, "stacked containers", many, stack, STACK_LIMIT);
	measure(b, "aliases of a page", many, scatter, STACK_LIMIT);
	measure_refusal(b);
}
