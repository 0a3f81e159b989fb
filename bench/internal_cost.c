/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The cost of flatten and plan: one page of many changes its protection. Of range mappings one is unmapped and mapped
 * again as well, and the cost of these edits is told, too. This is the part of the benchmarks that sees the inside of
 * the library.
 *
 * The promise is O(changes x log(regions)).
 */
#include <err.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"
#include "map/edit.h"
#include "map/flatten.h"
#include "map/map.h"
#include "map/plain.h"
#include "map/view.h"
#include "plan/plan.h"

/* The logarithm grows by 1.5 and by 4.5, and what falls out of the caches adds to it; the linear cost would
 * be 32 and 3,200. */
#define GROWTH_LIMIT_1000 8.0
#define GROWTH_LIMIT_10 40.0

struct rig {
	bool plain; /* range mappings, not regions of a tree */
	unsigned n;
	struct gm_map map;
	struct gm_tree view;
	struct gm_slots slots;
	uint64_t stamp;
	struct gpamap_region **regions;
	bool *readonly;
	struct series edit;
	struct series flatten;
	struct series plan;
	struct series unmapping; /* of range mappings only */
	struct series mapping;
};

/* Every other page, so that nothing grows together. */
static uint64_t place(unsigned i)
{
	return 2 * PAGE * i;
}

static void *memory_of(unsigned i)
{
	/* Never touched: only a number. */
	return (void *)(uintptr_t)(GIB + place(i));
}

static void map_one(struct rig *r, unsigned i)
{
	check(gm_ranges_map(&r->map, 0, place(i), PAGE, memory_of(i), GPAMAP_RW, NULL), "map");
	r->readonly[i] = false;
}

static void unmap_one(struct rig *r, unsigned i)
{
	check(gm_ranges_unmap(&r->map, 0, place(i), PAGE, NULL), "unmap");
}

static void add_one(struct rig *r, unsigned i)
{
	struct gpamap_region_desc desc = {
		.kind = GPAMAP_RAM, .name = "page", .size = PAGE, .hva = memory_of(i)};

	if (r->plain) {
		map_one(r, i);
		return;
	}
	check(gm_region_new(&r->map, &desc, NULL, &r->regions[i]), "region");
	check(gm_edit_add(&r->map, r->map.spaces[0].root, place(i), r->regions[i], 0, NULL), "add");
}

static void change_one(struct rig *r, unsigned i)
{
	r->readonly[i] = !r->readonly[i];
	if (r->plain)
		check(gm_ranges_protect(&r->map, 0, place(i), PAGE,
					r->readonly[i] ? GPAMAP_RO : GPAMAP_RW, NULL),
		      "protect");
	else
		check(gm_edit_readonly(&r->map, r->regions[i], r->readonly[i], NULL), "readonly");
}

/* As a commit does it, but for the ioctls. */
static void commit(struct rig *r, double *flattened, double *planned)
{
	const struct gm_node *old_root = r->view.base, *root;
	struct gm_windows *w = &r->map.spaces[0].windows;
	struct gm_plan plan;
	struct gm_stale stale;
	struct gm_plan_input in = {
		.alloc = &gm_alloc_default,
		.page_size = PAGE,
		.max_slot_size = GIB,
		.most_slot_size = GIB,
		.stamp = ++r->stamp,
		.nr_spaces = 1,
		.slots = &r->slots,
		.old_views = &old_root,
		.views = &root,
		.windows = w,
	};

	gm_plan_init(&plan, &gm_alloc_default);
	gm_windows_normalise(w);
	check(gm_flatten(&r->map, 0, w, &r->view, NULL, NULL), "flatten");
	*flattened = now_us();
	root = r->view.root;
	check(gm_plan_make(&plan, &in, NULL), "plan");
	*planned = now_us();
	gm_plan_accept(&plan, &in);
	gm_plan_destroy(&plan);
	gm_tree_commit(&r->view, &stale);
	gm_edits_commit(&r->map);
	gm_stale_free(&stale);
}

static void rig_init(struct rig *r, bool plain, unsigned n)
{
	double unused;

	*r = (struct rig){.plain = plain, .n = n};
	check(gm_map_init(&r->map, &gm_alloc_default, 1, PAGE), "map");
	gm_tree_init(&r->view, &gm_seg_type, &gm_alloc_default);
	gm_tree_init(&r->slots.tree, &gm_slot_type, &gm_alloc_default);
	check(gm_ids_init(&r->slots.ids, &gm_alloc_default, 32764, 32764), "ids");
	r->regions = calloc(n, sizeof(struct gpamap_region *));
	r->readonly = calloc(n, sizeof(*r->readonly));
	if (!r->regions || !r->readonly)
		err(1, "rig");
	for (unsigned i = 0; i < n; i++)
		add_one(r, i);
	commit(r, &unused, &unused);
}

/* The last references went with the map. */
static void reap(struct rig *r)
{
	struct gpamap_region *next;

	for (struct gpamap_region *dead = gm_map_reap(&r->map); dead; dead = next) {
		next = dead->next_dead;
		gm_region_release(&gm_alloc_default, dead);
	}
}

static void rig_destroy(struct rig *r)
{
	for (unsigned i = 0; i < r->n; i++) {
		if (r->regions[i])
			gm_region_unref(r->regions[i]);
	}
	gm_tree_destroy(&r->view);
	gm_tree_destroy(&r->slots.tree);
	gm_ids_destroy(&r->slots.ids);
	gm_map_destroy(&r->map);
	reap(r);
	free(r->regions);
	free(r->readonly);
	series_free(&r->edit);
	series_free(&r->flatten);
	series_free(&r->plan);
	series_free(&r->unmapping);
	series_free(&r->mapping);
}

static void time_one(struct rig *r, void (*edit)(struct rig *r, unsigned i), unsigned i,
		     struct series *took)
{
	double start = now_us(), unused;

	edit(r, i);
	series_add(took, now_us() - start);
	commit(r, &unused, &unused);
}

static void sample(struct rig *r)
{
	double start, edited, flattened, planned;
	unsigned i;

	start = now_us();
	change_one(r, (unsigned)rand() % r->n);
	edited = now_us();
	commit(r, &flattened, &planned);
	series_add(&r->edit, edited - start);
	series_add(&r->flatten, flattened - edited);
	series_add(&r->plan, planned - flattened);
	if (!r->plain)
		return;
	i = (unsigned)rand() % r->n;
	time_one(r, unmap_one, i, &r->unmapping);
	time_one(r, map_one, i, &r->mapping);
}

enum { NR_SIZES = 3, NR_RIGS = 2 * NR_SIZES };

static void report_growth(struct bench *b, const char *part, const char *kind,
			  const double median[NR_SIZES], const struct rig *rigs)
{
	static const double limits[NR_SIZES - 1] = {GROWTH_LIMIT_10, GROWTH_LIMIT_1000};
	char what[80];

	for (int i = 0; i < NR_SIZES - 1; i++) {
		snprintf(what, sizeof(what), "%s, %s: at %u / at %u", part, kind,
			 rigs[NR_SIZES - 1].n, rigs[i].n);
		result_ratio(b, "flatten", what, median[NR_SIZES - 1] / median[i], limits[i]);
	}
}

static void report(struct bench *b, struct rig *rigs, const char *kind)
{
	static const char *const parts[] = {"edit", "flatten", "plan", "unmap", "map"};
	int nr_parts = rigs[0].plain ? 5 : 3;
	char what[64];

	for (int part = 0; part < nr_parts; part++) {
		double median[NR_SIZES];

		snprintf(what, sizeof(what), "%s, %s", parts[part], kind);
		for (int i = 0; i < NR_SIZES; i++) {
			struct series *series[] = {&rigs[i].edit, &rigs[i].flatten, &rigs[i].plan,
						   &rigs[i].unmapping, &rigs[i].mapping};

			median[i] = result_row(b, "flatten", what, rigs[i].n, "us", series[part]);
		}
		report_growth(b, parts[part], kind, median, rigs);
	}
}

void bench_flatten(struct bench *b)
{
	static const unsigned sizes[NR_SIZES] = {10, 1000, 32000};
	unsigned rounds = b->quick ? 40 : 400;
	struct rig *rigs = calloc(NR_RIGS, sizeof(*rigs));

	if (!rigs)
		err(1, "rigs");
	srand(1);
	for (int i = 0; i < NR_RIGS; i++)
		rig_init(&rigs[i], i >= NR_SIZES, sizes[i % NR_SIZES]);
	for (unsigned round = 0; round < rounds; round++) {
		for (int i = 0; i < NR_RIGS; i++) {
			for (int turn = 0; turn < 50; turn++)
				sample(&rigs[i]);
		}
	}
	report(b, rigs, "regions");
	report(b, rigs + NR_SIZES, "range mappings");
	for (int i = 0; i < NR_RIGS; i++)
		rig_destroy(&rigs[i]);
	free(rigs);
}
