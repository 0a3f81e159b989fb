/* SPDX-License-Identifier: BSD-3-Clause */
/* Slot ids and limits: reuse, merging, what happens when slots run short; and after a failed undo. */
#include "show.h"

static void test_ids_are_reused(void **state)
{
	struct world w;

	(void)state;
	world_init(&w, NO_LIMIT, NO_LIMIT);
	map_pages(&w, 0, 4, 0, 0, 0);
	map_pages(&w, 8, 4, 1, 0, 0);
	world_commit(&w);
	/* The deleted one's id serves in the same critical part, but not before it. */
	map_pages(&w, 0, 4, 2, 0, 0);
	map_pages(&w, 20, 4, 3, 0, 0);
	expect_commit(&w, "E+20:4#2 C-0:4#0 C+0:4#0");
	assert_int_equal(w.slots[0].ids.nr_taken, 3);
	unmap_pages(&w, 8, 4);
	expect_commit(&w, "L-8:4#1");
	assert_int_equal(w.slots[0].ids.nr_taken, 2);
	map_pages(&w, 30, 1, 0, 0, 0);
	map_pages(&w, 32, 1, 1, 0, 0);
	expect_commit(&w, "E+30:1#1 E+32:1#3");
	world_destroy(&w);
}

static void test_reserved_ids(void **state)
{
	struct world w;

	(void)state;
	world_init(&w, 6, NO_LIMIT);
	must(gm_ids_reserve(&w.slots[0].ids, 0, 2));
	must(gm_ids_reserve(&w.slots[0].ids, 4, 1));
	for (uint64_t i = 0; i < 3; i++)
		map_pages(&w, 2 * i, 1, (int)i, 0, 0);
	expect_commit(&w, "E+0:1#2 E+2:1#3 E+4:1#5");
	map_pages(&w, 6, 1, 3, 0, 0);
	assert_int_equal(world_make(&w), -ENOSPC);
	assert_string_equal(w.msg.text, "address space 0 needs 4 memory slots, and has 3");
	world_reject(&w);
	world_destroy(&w);
}

static void test_full_on_the_way(void **state)
{
	struct world w;

	(void)state;
	world_init(&w, NO_LIMIT, 3);
	for (uint64_t i = 0; i < 3; i++)
		map_pages(&w, 2 * i, 1, (int)i, 0, 0);
	world_commit(&w);
	/* It fits before and after, but not in between: then the gate shuts for it. */
	unmap_pages(&w, 0, 1);
	unmap_pages(&w, 2, 1);
	map_pages(&w, 10, 1, 3, 0, 0);
	expect_commit(&w, "C-0:1#0 C+10:1#0 L-2:1#1");
	/* One fits early, the other one not. */
	unmap_pages(&w, 4, 1);
	map_pages(&w, 12, 1, 4, 0, 0);
	map_pages(&w, 14, 1, 5, 0, 0);
	expect_commit(&w, "E+12:1#1 C-4:1#2 C+14:1#2");
	/* A move needs no id. */
	unmap_pages(&w, 14, 1);
	map_pages(&w, 4, 1, 5, 0, 0);
	expect_commit(&w, "L14>4:1#2");
	/* What goes from under another: no room to come early. */
	map_pages(&w, 20, 1, 5, 0, 0);
	map_pages(&w, 4, 1, 0, 0, 0);
	unmap_pages(&w, 10, 1);
	expect_commit(&w, "C-4:1#2 C-10:1#0 C+4:1#0 C+20:1#2");
	world_destroy(&w);
}

static void split(struct world *w, uint64_t at)
{
	map_pages(w, at, 1, 0, at, GM_SEG_READONLY);
	world_commit(w);
	map_pages(w, at, 1, 0, at, 0);
	world_commit(w);
}

static void test_merge_the_oldest(void **state)
{
	struct world w;

	(void)state;
	world_init(&w, NO_LIMIT, 7);
	map_pages(&w, 0, 100, 0, 0, 0);
	world_commit(&w);
	split(&w, 80); /* 0-79 80 81-99 */
	split(&w, 20); /* 0-19 20 21-79 80 81-99 */
	assert_int_equal(w.slots[0].ids.nr_taken, 5);
	map_pages(&w, 200, 1, 1, 0, 0);
	map_pages(&w, 202, 1, 2, 0, 0);
	expect_commit(&w, "E+200:1#5 E+202:1#6");
	assert_int_equal(w.plan.merged, 0);
	/* 80 was split first, so it's the first to be one again; what has no room before that waits for it. */
	map_pages(&w, 204, 1, 3, 0, 0);
	expect_commit(&w, "C-80:1#1 C-81:19#2 C+80:20#1 C+204:1#2");
	assert_int_equal(w.plan.merged, 1);
	map_pages(&w, 206, 1, 4, 0, 0);
	map_pages(&w, 208, 1, 5, 0, 0);
	expect_commit(&w, "C-0:20#0 C-20:1#3 C-21:59#4 C+0:80#0 C+206:1#3 C+208:1#4");
	assert_int_equal(w.plan.merged, 2);
	/* The last pair; then there's no more. */
	map_pages(&w, 210, 1, 1, 10, 0);
	expect_commit(&w, "C-0:80#0 C-80:20#1 C+0:100#0 C+210:1#1");
	map_pages(&w, 212, 1, 2, 10, 0);
	assert_int_equal(world_make(&w), -ENOSPC);
	assert_string_equal(w.msg.text, "address space 0 needs 8 memory slots, and has 7");
	world_reject(&w);
	world_destroy(&w);
}

static void test_merge_with_what_comes(void **state)
{
	struct world w;

	(void)state;
	world_init(&w, NO_LIMIT, 1);
	map_pages(&w, 10, 4, 0, 10, 0);
	world_commit(&w);
	/* Growing takes a slot more; here there's none, so the one that is there has to go. */
	map_pages(&w, 14, 4, 0, 14, 0);
	expect_commit(&w, "C-10:4#0 C+10:8#0");
	map_pages(&w, 8, 2, 0, 8, 0);
	map_pages(&w, 18, 2, 0, 18, 0);
	expect_commit(&w, "C-10:8#0 C+8:12#0");
	map_pages(&w, 20, 2, 1, 0, 0);
	assert_int_equal(world_make(&w), -ENOSPC);
	world_reject(&w);
	world_destroy(&w);
}

/* What comes by a move is merged only if nothing else is left: it would be one no more. */
static void test_merge_no_move(void **state)
{
	struct world w;

	(void)state;
	world_init(&w, NO_LIMIT, 4);
	map_pages(&w, 0, 4, 0, 0, 0);
	map_pages(&w, 20, 4, 1, 0, 0);
	map_pages(&w, 40, 4, 0, 4, 0);
	map_pages(&w, 60, 4, 2, 0, 0);
	world_commit(&w);
	unmap_pages(&w, 40, 4);
	map_pages(&w, 4, 4, 0, 4, 0);
	map_pages(&w, 24, 4, 1, 4, 0);
	expect_plan(&w, "C-20:4#1 C+20:8#1 L40>4:4#2");
	gm_plan_reject(&w.plan, &w.in);
	map_pages(&w, 26, 2, 3, 0, 0);
	expect_commit(&w, "C-0:4#0 C-20:4#1 C-40:4#2 C+0:8#0 C+20:6#1 C+26:2#2");
	world_destroy(&w);
}

/* Neighbours that must not be one slot. */
static void test_merge_only_what_is_one(void **state)
{
	struct world w;
	struct gm_seg seg;

	(void)state;
	world_init(&w, NO_LIMIT, 7);
	w.in.max_slot_size = 16 * PAGE;
	map_pages(&w, 14, 2, 0, 14, 0); /* next block */
	map_pages(&w, 16, 1, 0, 16, 0);
	map_pages(&w, 17, 1, 0, 17, GM_SEG_LOG);
	map_pages(&w, 18, 1, 0, 18, GM_SEG_READONLY);
	seg = seg_of(&w, 0, 19 * PAGE, GM_SEG_READONLY);
	seg.group = 9;
	view_put(&w, 0, pages(19, 1), &seg);
	window(&w, 0, pages(19, 1));
	map_pages(&w, 20, 1, 0, 21, 0); /* other offset */
	world_commit(&w);
	map_pages(&w, 40, 1, 0, 40, GM_SEG_GUEST_MEMFD);
	world_commit(&w);
	map_pages(&w, 41, 1, 0, 41, GM_SEG_GUEST_MEMFD);
	assert_int_equal(world_make(&w), -ENOSPC);
	world_reject(&w);
	world_destroy(&w);
}

static void test_merge_a_surplus(void **state)
{
	struct world w;
	size_t before;

	(void)state;
	world_init(&w, 1024, 1024);
	map_pages(&w, 0, 1022, 0, 0, 0);
	world_commit(&w);
	for (uint64_t i = 0; i < 1022; i += 2)
		map_pages(&w, i, 1, 0, i, GM_SEG_READONLY);
	world_commit(&w);
	for (uint64_t i = 0; i < 1022; i += 2)
		map_pages(&w, i, 1, 0, i, 0);
	world_commit(&w);
	for (uint64_t i = 0; i < 2; i++)
		map_pages(&w, 2000 + 2 * i, 1, 1, i * 10, 0);
	world_commit(&w);
	before = w.slots[0].tree.count;
	assert_int_equal(before, 1024);
	/* One is needed, and 1024 / 512 more are merged, so that the next two need no gate. */
	map_pages(&w, 3000, 1, 2, 0, 0);
	world_commit(&w);
	assert_int_equal(w.plan.merged, 3);
	assert_true(w.plan.nr_critical > 0);
	for (uint64_t i = 1; i <= 2; i++) {
		map_pages(&w, 3000 + 2 * i, 1, 2, i * 10, 0);
		world_commit(&w);
		assert_int_equal(w.plan.nr_critical, 0);
	}
	world_destroy(&w);
}

static void test_far_too_much(void **state)
{
	struct world w;
	struct gm_seg seg;

	(void)state;
	world_init(&w, NO_LIMIT, NO_LIMIT);
	seg = seg_of(&w, 0, 0, 0);
	view_put(&w, 0, (struct gm_range){0, UINT64_MAX}, &seg);
	window(&w, 0, (struct gm_range){0, UINT64_MAX});
	assert_int_equal(world_make(&w), -ENOSPC);
	world_reject(&w);
	world_destroy(&w);
}

/* -------------------------------------------------------------------- after a failed undo --- */

static void lose(struct world *w, uint64_t first)
{
	const struct gm_node *n = gm_tree_find(w->slots[0].tree.base, first * PAGE, 0);

	assert_non_null(n);
	kernel_remove(w, gm_slot_of(n));
	gm_slot_of(n)->missing = true;
	window(w, 0, n->range);
}

static void stray(struct world *w, uint64_t first, uint64_t n, uint32_t id)
{
	struct gm_slot s = {
		.gpa = pages(first, n),
		.hva = region_hva(5) + first * PAGE,
		.region = &w->regions[5],
		.gmem_fd = -1,
		.id = id,
	};

	kernel_add(w, &s);
	must(gm_array_reserve(&w->heap.alloc, (void **)&w->strays, &w->strays_room,
			      w->nr_strays + 1, sizeof(s)));
	w->strays[w->nr_strays++] = s;
}

static void test_missing_slots(void **state)
{
	struct world w;

	(void)state;
	world_init(&w, NO_LIMIT, 2);
	map_pages(&w, 0, 4, 0, 0, 0);
	map_pages(&w, 8, 4, 1, 0, 0);
	world_commit(&w);
	/* Made again, with the same id: there's no other. */
	lose(&w, 0);
	expect_commit(&w, "E+0:4#0");
	/* Not wanted any more: no operation, but the id is free. */
	lose(&w, 0);
	unmap_pages(&w, 0, 4);
	expect_commit(&w, "");
	assert_int_equal(w.slots[0].ids.nr_taken, 1);
	assert_int_equal(w.slots[0].tree.count, 1);
	/* They make no room in the critical part; what the kernel has does. */
	map_pages(&w, 0, 4, 0, 0, 0);
	world_commit(&w);
	lose(&w, 0);
	unmap_pages(&w, 8, 4);
	map_pages(&w, 20, 4, 1, 7, 0);
	expect_commit(&w, "E+0:4#0 C-8:4#1 C+20:4#1");
	unmap_pages(&w, 0, 4);
	unmap_pages(&w, 20, 4);
	map_pages(&w, 8, 4, 1, 0, 0);
	world_commit(&w);
	/* And nothing moves from there. */
	lose(&w, 8);
	unmap_pages(&w, 8, 4);
	map_pages(&w, 20, 4, 1, 0, 0);
	expect_commit(&w, "E+20:4#0");
	world_destroy(&w);
}

static void test_strays(void **state)
{
	struct world w;

	(void)state;
	world_init(&w, 3, 3);
	map_pages(&w, 0, 4, 0, 0, 0);
	world_commit(&w);
	/* Its id is free in the table, but not in the kernel, until the critical part. */
	stray(&w, 8, 4, 1);
	map_pages(&w, 20, 4, 1, 0, 0);
	map_pages(&w, 24, 4, 2, 0, 0);
	expect_plan(&w, "E+20:4#2 C-8:4#1 C+24:4#1");
	gm_plan_reject(&w.plan, &w.in);
	assert_int_equal(w.slots[0].ids.nr_taken, 1);
	expect_commit(&w, "E+20:4#2 C-8:4#1 C+24:4#1");
	assert_int_equal(w.slots[0].ids.nr_taken, 3);
	unmap_pages(&w, 20, 8);
	world_commit(&w);
	/* It covers a slot that is missing, with the same id. */
	lose(&w, 0);
	stray(&w, 2, 4, 0);
	expect_commit(&w, "C-2:4#0 C+0:4#0");
	assert_int_equal(w.slots[0].ids.nr_taken, 1);
	/* Nothing else to do: it is deleted, and its id is free. */
	stray(&w, 8, 4, 2);
	expect_commit(&w, "C-8:4#2");
	assert_int_equal(w.slots[0].ids.nr_taken, 1);
	/* It stands in the way, and takes room. */
	stray(&w, 8, 4, 1);
	stray(&w, 12, 4, 2);
	map_pages(&w, 10, 4, 1, 0, 0);
	map_pages(&w, 40, 4, 2, 0, 0);
	expect_commit(&w, "C-8:4#1 C-12:4#2 C+10:4#1 C+40:4#2");
	world_destroy(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ids_are_reused),
		cmocka_unit_test(test_reserved_ids),
		cmocka_unit_test(test_full_on_the_way),
		cmocka_unit_test(test_merge_the_oldest),
		cmocka_unit_test(test_merge_with_what_comes),
		cmocka_unit_test(test_merge_no_move),
		cmocka_unit_test(test_merge_only_what_is_one),
		cmocka_unit_test(test_merge_a_surplus),
		cmocka_unit_test(test_far_too_much),
		cmocka_unit_test(test_missing_slots),
		cmocka_unit_test(test_strays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
