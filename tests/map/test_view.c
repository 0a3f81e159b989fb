/* SPDX-License-Identifier: BSD-3-Clause */
/* Segments against an array of pages, and windows against an array of bits. */
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "../base/counting.h"
#include "map/map.h"
#include "map/view.h"
#include "map/windows.h"

#define PAGE UINT64_C(4096)
#define NR_PAGES 48
#define NR_REGIONS 3

struct env {
	struct counting c;
	struct gm_map map;
	struct gpamap_region *region[NR_REGIONS];
	struct gm_tree view;
};

static void setup(struct env *e)
{
	static unsigned char memory[PAGE] __attribute__((aligned(4096)));
	struct gpamap_region_desc ram = {.kind = GPAMAP_RAM, .size = PAGE, .hva = memory};

	counting_init(&e->c);
	assert_int_equal(gm_map_init(&e->map, &e->c.alloc, 1, PAGE), 0);
	for (int i = 0; i < NR_REGIONS; i++)
		assert_int_equal(gm_region_new(&e->map, &ram, NULL, &e->region[i]), 0);
	gm_tree_init(&e->view, &gm_seg_type, &e->c.alloc);
}

static void teardown(struct env *e)
{
	struct gpamap_region *dead;
	int nr_dead = 0;

	gm_tree_destroy(&e->view);
	for (int i = 0; i < NR_REGIONS; i++) {
		assert_int_equal(atomic_load(&e->region[i]->refs), 1);
		gm_region_unref(e->region[i]);
	}
	gm_map_destroy(&e->map);
	dead = gm_map_reap(&e->map);
	while (dead) {
		struct gpamap_region *next = dead->next_dead;

		gm_region_release(&e->c.alloc, dead);
		dead = next;
		nr_dead++;
	}
	assert_int_equal(nr_dead, NR_REGIONS + 2); /* the root and the map's pages, too */
	assert_int_equal(e->c.live, 0);
}

/* ------------------------------------------------------------------- one against one --- */

static void continues(void **state)
{
	const struct gm_seg ram = {
		.region = NULL,
		.offset = 0x10000,
		.hva = 0x7000000,
		.kind = GM_SEG_RAM,
		.group = 3,
		.gmem_fd = -1,
	};
	struct gm_seg next = gm_seg_advance(&ram, 0x4000, 0x6000), other;

	(void)state;
	assert_int_equal(next.offset, 0x12000);
	assert_int_equal(next.hva, 0x7002000);
	assert_int_equal(next.gmem_offset, 0);
	assert_true(gm_seg_continues(&ram, 0x4000, &next, 0x6000));
	assert_false(gm_seg_continues(&ram, 0x4000, &next, 0x7000));
#define DIFFERS(field, value)                                                 \
	do {                                                                  \
		other = next;                                                 \
		other.field = (value);                                        \
		assert_false(gm_seg_continues(&ram, 0x4000, &other, 0x6000)); \
	} while (0)
	DIFFERS(region, (struct gpamap_region *)&other);
	DIFFERS(offset, 0x13000);
	DIFFERS(hva, 0x7003000);
	DIFFERS(kind, GM_SEG_NONE);
	DIFFERS(kind, GM_SEG_ROMD);
	DIFFERS(flags, GM_SEG_READONLY);
	DIFFERS(flags, GM_SEG_LOG);
	DIFFERS(group, 0);
	DIFFERS(group, 4);
	DIFFERS(gmem_fd, 5);
#undef DIFFERS
}

static void continues_mmio_and_guest_memfd(void **state)
{
	const struct gm_seg mmio = {.kind = GM_SEG_MMIO, .offset = 8, .gmem_fd = -1};
	const struct gm_seg gmem = {
		.kind = GM_SEG_RAM,
		.flags = GM_SEG_GUEST_MEMFD,
		.hva = 0x1000,
		.gmem_fd = 4,
		.gmem_offset = 0x8000,
	};
	struct gm_seg next = gm_seg_advance(&mmio, 3, 5);

	(void)state;
	assert_int_equal(next.offset, 10);
	assert_int_equal(next.hva, 0);
	assert_true(gm_seg_continues(&mmio, 3, &next, 5));
	next = gm_seg_advance(&gmem, 0, PAGE);
	assert_int_equal(next.gmem_offset, 0x9000);
	assert_true(gm_seg_continues(&gmem, 0, &next, PAGE));
	next.gmem_offset += PAGE;
	assert_false(gm_seg_continues(&gmem, 0, &next, PAGE));
}

/* -------------------------------------------------------------------- random segments --- */

struct page {
	bool there;
	struct gm_seg seg; /* as it begins at this page */
};

static struct gm_range pages_at(uint64_t base, unsigned first, unsigned last)
{
	return (struct gm_range){base + first * PAGE, base + last * PAGE + (PAGE - 1)};
}

/* Few sorts, so that neighbours often go together. */
static struct gm_seg random_seg(const struct env *e, unsigned page)
{
	static const uint32_t kinds[] = {GM_SEG_RAM, GM_SEG_RAM, GM_SEG_MMIO, GM_SEG_NONE};
	uint64_t at = page * PAGE + random_below(2) * 64 * PAGE;
	struct gm_seg s = {
		.region = e->region[random_below(NR_REGIONS)],
		.offset = at,
		.hva = 0x100000000 + at,
		.kind = kinds[random_below(4)],
		.gmem_fd = -1,
		.group = random_below(6) == 0,
	};

	if (s.kind == GM_SEG_MMIO)
		s.hva = 0;
	else if (random_below(4) == 0)
		s.flags = GM_SEG_READONLY;
	return s;
}

/* Every page is as the array says, and segments are as long as they can be. */
static void check_view(const struct gm_tree *t, uint64_t base, const struct page *pages)
{
	const struct gm_node *prev = NULL;
	unsigned covered = 0;

	for (unsigned i = 0; i < NR_PAGES; i++) {
		const struct gm_node *n = gm_tree_first(t->root, pages_at(base, i, i));
		struct gm_seg seg;

		assert_int_equal(n != NULL, pages[i].there);
		if (!n)
			continue;
		seg = gm_seg_advance(gm_seg_of(n), n->range.first, base + i * PAGE);
		assert_true(gm_seg_continues(&seg, 0, &pages[i].seg, 0));
	}
	gm_tree_for_each (n, t->root, ((struct gm_range){0, UINT64_MAX})) {
		assert_int_equal(n->range.first % PAGE, 0);
		assert_int_equal(n->range.last % PAGE, PAGE - 1);
		covered += (n->range.last - n->range.first) / PAGE + 1;
		if (prev) {
			assert_true(prev->range.last < n->range.first);
			assert_false(prev->range.last + 1 == n->range.first &&
				     gm_seg_continues(gm_seg_of(prev), prev->range.first,
						      gm_seg_of(n), n->range.first));
		}
		prev = n;
	}
	for (unsigned i = 0; i < NR_PAGES; i++)
		covered -= pages[i].there;
	assert_int_equal(covered, 0);
}

/* Clear some pages, and perhaps put something there. */
static int change(struct env *e, uint64_t base, struct page *pages)
{
	unsigned first = random_below(NR_PAGES);
	unsigned last = first + random_below(NR_PAGES - first < 9 ? NR_PAGES - first : 9);
	struct gm_seg seg = random_seg(e, first);
	bool fill = random_below(4) != 0;
	int err;

	err = gm_segs_clear(&e->view, pages_at(base, first, last));
	if (!err && fill)
		err = gm_segs_fill(&e->view, pages_at(base, first, last), &seg);
	if (err)
		return err;
	for (unsigned i = first; i <= last; i++) {
		pages[i].there = fill;
		pages[i].seg = gm_seg_advance(&seg, 0, (i - first) * PAGE);
	}
	return 0;
}

static void random_changes(void **state)
{
	(void)state;
	for (int end = 0; end < 2; end++) {
		uint64_t base = end ? UINT64_MAX - NR_PAGES * PAGE + 1 : 0;
		struct page pages[NR_PAGES] = {0}, before[NR_PAGES] = {0};
		struct gm_stale stale;
		struct env e;

		setup(&e);
		for (unsigned step = 0; step < 3000; step++) {
			assert_int_equal(change(&e, base, pages), 0);
			check_view(&e.view, base, pages);
			if (random_below(20) == 0) {
				gm_tree_abort(&e.view);
				memcpy(pages, before, sizeof(pages));
				check_view(&e.view, base, pages);
			} else if (random_below(10) == 0) {
				gm_tree_commit(&e.view, &stale);
				gm_stale_free(&stale);
				memcpy(before, pages, sizeof(pages));
			}
		}
		teardown(&e);
	}
}

/* Whichever allocation fails: -ENOMEM, and the abort brings everything back. */
static void changes_without_memory(void **state)
{
	struct page pages[NR_PAGES] = {0}, copy[NR_PAGES];
	struct gm_stale stale;
	size_t nr_failed = 0;
	struct env e;

	(void)state;
	setup(&e);
	for (unsigned step = 0; step < 400; step++) {
		uint64_t saved = random_state;
		size_t nth = 0;
		int err;

		do {
			random_state = saved;
			memcpy(copy, pages, sizeof(pages));
			nth++;
			counting_fail(&e.c, nth, nth % 2);
			err = change(&e, 0, copy);
			counting_fail(&e.c, 0, false);
			if (err) {
				assert_int_equal(err, -ENOMEM);
				gm_tree_abort(&e.view);
				check_view(&e.view, 0, pages);
				nr_failed++;
			}
		} while (err);
		memcpy(pages, copy, sizeof(pages));
		check_view(&e.view, 0, pages);
		gm_tree_commit(&e.view, &stale);
		gm_stale_free(&stale);
	}
	assert_true(nr_failed > 0);
	teardown(&e);
}

/* ------------------------------------------------------------------------------- join --- */

static void put(struct env *e, unsigned first, unsigned last, const struct gm_seg *seg)
{
	assert_int_equal(gm_tree_insert(&e->view, pages_at(0, first, last), 0, seg), 0);
}

/* Fill between two that it joins up; groups keep apart. */
static void fill_between(void **state)
{
	struct gm_seg a, b, c;
	struct env e;

	(void)state;
	for (uint64_t group = 0; group < 3; group++) {
		setup(&e);
		a = (struct gm_seg){.region = e.region[0], .hva = PAGE, .kind = GM_SEG_NONE};
		a.group = 1;
		b = gm_seg_advance(&a, 0, 2 * PAGE);
		b.group = group;
		c = gm_seg_advance(&a, 0, 3 * PAGE);
		put(&e, 0, 1, &a);
		put(&e, 3, 4, &c);
		assert_int_equal(gm_segs_fill(&e.view, pages_at(0, 2, 2), &b), 0);
		assert_int_equal(e.view.count, group == 1 ? 1 : 3);
		teardown(&e);
	}
}

/* The last page of the address space has nothing to do with the first one. */
static void ends_do_not_join(void **state)
{
	const struct gm_range top = {UINT64_MAX - PAGE + 1, UINT64_MAX}, bottom = {0, PAGE - 1};
	struct gm_seg a, b;
	struct env e;

	(void)state;
	for (int order = 0; order < 2; order++) {
		setup(&e);
		a = (struct gm_seg){.region = e.region[0], .hva = PAGE, .kind = GM_SEG_RAM};
		b = gm_seg_advance(&a, 0, PAGE);
		assert_int_equal(gm_segs_fill(&e.view, order ? top : bottom, order ? &a : &b), 0);
		assert_int_equal(gm_segs_fill(&e.view, order ? bottom : top, order ? &b : &a), 0);
		assert_int_equal(e.view.count, 2);
		teardown(&e);
	}
}

/* ---------------------------------------------------------------------------- windows --- */

static void windows_at_both_ends(void **state)
{
	struct gm_windows w;
	struct counting c;

	(void)state;
	counting_init(&c);
	gm_windows_init(&w, &c.alloc);
	assert_int_equal(gm_windows_add(&w, (struct gm_range){UINT64_MAX - 1, UINT64_MAX}), 0);
	assert_int_equal(gm_windows_add(&w, (struct gm_range){0, 0}), 0);
	assert_int_equal(gm_windows_add(&w, (struct gm_range){UINT64_MAX, UINT64_MAX}), 0);
	gm_windows_normalise(&w);
	assert_int_equal(w.n, 2);
	assert_int_equal(w.r[0].last, 0);
	assert_int_equal(w.r[1].first, UINT64_MAX - 1);
	gm_windows_destroy(&w);
	assert_int_equal(c.live, 0);
}

static void random_windows(void **state)
{
	struct counting c;

	(void)state;
	counting_init(&c);
	for (unsigned round = 0; round < 2000; round++) {
		uint64_t base = round % 2 ? UINT64_MAX - NR_PAGES + 1 : 0;
		bool has[NR_PAGES] = {0};
		struct gm_windows w;

		gm_windows_init(&w, &c.alloc);
		for (uint64_t i = random_below(20); i; i--) {
			uint64_t first = random_below(NR_PAGES);
			uint64_t last = first + random_below(NR_PAGES - first) % 6;

			assert_int_equal(
				gm_windows_add(&w, (struct gm_range){base + first, base + last}),
				0);
			for (; first <= last; first++)
				has[first] = true;
		}
		gm_windows_normalise(&w);
		for (uint64_t i = 0; i < NR_PAGES; i++) {
			bool in = false;

			for (size_t j = 0; j < w.n; j++)
				in |= gm_range_has(w.r[j], base + i);
			assert_int_equal(in, has[i]);
		}
		/* Sorted, and something between each two. */
		for (size_t j = 1; j < w.n; j++)
			assert_true(w.r[j - 1].last + 1 < w.r[j].first);
		gm_windows_destroy(&w);
	}
	assert_int_equal(c.live, 0);
}

/* Ranges that come again and again take no memory, and none is lost. */
static void covering_keeps_what_differs(void **state)
{
	struct gm_windows w;
	struct counting c;

	(void)state;
	counting_init(&c);
	gm_windows_init(&w, &c.alloc);
	for (unsigned round = 0; round < 100; round++) {
		for (uint64_t i = 0; i < 1000; i++) {
			uint64_t at = 10 * ((i * 7) % 1000);

			assert_int_equal(
				gm_windows_cover(&w, (struct gm_range){at, at + 1 + i % 3}), 0);
		}
		assert_true(w.room <= 4096);
	}
	gm_windows_normalise(&w);
	assert_int_equal(w.n, 1000);
	for (uint64_t i = 0; i < 1000; i++) {
		assert_int_equal(w.r[i].first, 10 * i);
		assert_true(w.r[i].last > 10 * i && w.r[i].last <= 10 * i + 3);
	}
	gm_windows_destroy(&w);
	assert_int_equal(c.live, 0);
}

/* Too many that differ become wider, and nothing falls out. */
static void covering_has_a_limit(void **state)
{
	const uint64_t n = 3 * GM_WINDOWS_MOST;
	struct gm_windows w;
	struct counting c;
	size_t at = 0;

	(void)state;
	counting_init(&c);
	gm_windows_init(&w, &c.alloc);
	for (uint64_t i = 0; i < n; i++) {
		uint64_t first = 16 * ((i * 5) % n);

		assert_int_equal(gm_windows_cover(&w, (struct gm_range){first, first + 1}), 0);
		assert_true(w.n <= GM_WINDOWS_MOST);
	}
	gm_windows_normalise(&w);
	assert_true(w.n >= GM_WINDOWS_MOST / 8);
	for (uint64_t i = 0; i < n; i++) {
		while (w.r[at].last < 16 * i + 1)
			at++;
		assert_true(w.r[at].first <= 16 * i);
	}
	gm_windows_destroy(&w);
	assert_int_equal(c.live, 0);
}

static void windows_without_memory(void **state)
{
	struct gm_windows w;
	struct counting c;

	(void)state;
	counting_init(&c);
	gm_windows_init(&w, &c.alloc);
	counting_fail(&c, 1, true);
	assert_int_equal(gm_windows_add(&w, (struct gm_range){0, 1}), -ENOMEM);
	assert_int_equal(w.n, 0);
	counting_fail(&c, 0, false);
	assert_int_equal(gm_windows_add(&w, (struct gm_range){0, 1}), 0);
	counting_fail(&c, 1, true);
	/* What goes on where the last one ended needs none. */
	for (uint64_t i = 1; i < 1000; i++)
		assert_int_equal(gm_windows_add(&w, (struct gm_range){i, i + 1}), 0);
	assert_int_equal(w.n, 1);
	assert_int_equal(w.r[0].last, 1000);
	gm_windows_destroy(&w);
	assert_int_equal(c.live, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(continues),
		cmocka_unit_test(continues_mmio_and_guest_memfd),
		cmocka_unit_test(random_changes),
		cmocka_unit_test(changes_without_memory),
		cmocka_unit_test(fill_between),
		cmocka_unit_test(ends_do_not_join),
		cmocka_unit_test(random_windows),
		cmocka_unit_test(windows_at_both_ends),
		cmocka_unit_test(covering_keeps_what_differs),
		cmocka_unit_test(covering_has_a_limit),
		cmocka_unit_test(windows_without_memory),
	};

	random_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
