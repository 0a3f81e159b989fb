/* SPDX-License-Identifier: BSD-3-Clause */
/* Slot ids and limits: reuse, merging, what happens when slots run short; and leftovers. */
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
	expect_commit(&w, "C14>4:1#2");
	/* What goes from under another, and has no room to come early, moves. */
	map_pages(&w, 20, 1, 5, 0, 0);
	map_pages(&w, 4, 1, 0, 0, 0);
	unmap_pages(&w, 10, 1);
	expect_commit(&w, "C-10:1#0 C4>20:1#2 C+4:1#0");
	world_destroy(&w);
}

/* Moves that don't pay, since the gate is open for both their halves: no more of them than needed. */
static void test_moves_for_want_of_ids(void **state)
{
	struct world w;

	(void)state;
	world_init(&w, NO_LIMIT, 4);
	for (uint64_t i = 0; i < 3; i++)
		map_pages(&w, 2 * i, 1, (int)i, 0, 0);
	world_commit(&w);
	for (uint64_t i = 0; i < 3; i++) {
		unmap_pages(&w, 2 * i, 1);
		map_pages(&w, 20 + 2 * i, 1, (int)i, 0, 0);
	}
	expect_plan(&w, "E+24:1#3 C0>20:1#0 C2>22:1#1 L-4:1#2");
	gm_plan_reject(&w.plan, &w.in);
	w.slots[0].ids.max_taken = 5;
	expect_plan(&w, "E+22:1#3 E+24:1#4 C0>20:1#0 L-2:1#1 L-4:1#2");
	gm_plan_reject(&w.plan, &w.in);
	w.slots[0].ids.max_taken = 6;
	expect_commit(&w, "E+20:1#3 E+22:1#4 E+24:1#5 L-0:1#0 L-2:1#1 L-4:1#2");
	/* What must go in this commit makes room, but not for what comes before the gate shuts. */
	map_pages(&w, 0, 1, 4, 0, 0);
	unmap_pages(&w, 20, 5);
	world_commit(&w);
	w.slots[0].ids.max_taken = 1;
	unmap_pages(&w, 0, 1);
	map_pages(&w, 8, 1, 4, 0, 0);
	expect_plan(&w, "C0>8:1#0");
	gm_plan_reject(&w.plan, &w.in);
	w.slots[0].ids.max_taken = 2;
	expect_commit(&w, "E+8:1#1 D-0:1#0");
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
	expect_plan(&w, "C-20:4#1 C40>4:4#2 C+20:8#1");
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
	w.in.max_slot_size = w.in.most_slot_size = 16 * PAGE;
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

/* The greatest size gives way where nothing is left to be merged, and not before. */
static void test_larger_slots(void **state)
{
	struct world w;

	(void)state;
	world_init(&w, NO_LIMIT, 4);
	w.in.max_slot_size = 4 * PAGE;
	w.in.most_slot_size = 16 * PAGE;
	map_pages(&w, 0, 16, 0, 0, 0);
	expect_commit(&w, "E+0:4#0 E+4:4#1 E+8:4#2 E+12:4#3");
	unmap_pages(&w, 0, 16);
	world_commit(&w);
	map_pages(&w, 0, 20, 0, 0, 0);
	expect_commit(&w, "E+0:8#0 E+8:8#1 E+16:4#2");
	map_pages(&w, 20, 12, 0, 20, 0);
	expect_commit(&w, "E+24:8#3 C-16:4#2 C+16:8#2");
	map_pages(&w, 32, 32, 0, 32, 0);
	expect_commit(&w,
		      "C-0:8#0 C-8:8#1 C-16:8#2 C-24:8#3 C+0:16#0 C+16:16#1 C+32:16#2 C+48:16#3");
	map_pages(&w, 64, 1, 0, 64, 0);
	assert_int_equal(world_make(&w), -ENOSPC);
	assert_string_equal(w.msg.text, "address space 0 needs 5 memory slots, and has 4");
	world_reject(&w);
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

/* ------------------------------------------------------------------------------ leftovers --- */

/* Memory of @region, as at page @first of its own. */
static void leave(struct world *w, uint64_t first, uint64_t n, int region, uint32_t flags,
		  uint32_t id)
{
	struct gm_slot s = {
		.gpa = pages(first, n),
		.hva = region_hva(region) + first * PAGE,
		.region = &w->regions[region],
		.offset = first * PAGE,
		.gmem_fd = flags & GM_SLOT_GUEST_MEMFD ? 7 : -1,
		.gmem_offset = flags & GM_SLOT_GUEST_MEMFD ? first * PAGE : 0,
		.id = id,
		.flags = flags,
	};

	slot_left_over(w, &s);
}

static void lose(struct world *w, uint64_t first)
{
	const struct gm_node *n = gm_tree_find(w->slots[0].tree.base, first * PAGE, 0);

	assert_non_null(n);
	slot_lost(w, gm_slot_of(n));
}

static void test_leftovers(void **state)
{
	struct world w;

	(void)state;
	world_init(&w, NO_LIMIT, NO_LIMIT);
	map_pages(&w, 0, 4, 0, 0, 0);
	world_commit(&w);
	/* It hides nothing, so it can wait again. */
	leave(&w, 8, 4, 1, 0, 7);
	expect_plan(&w, "L-8:4#7");
	gm_plan_reject(&w.plan, &w.in);
	assert_int_equal(w.slots[0].ids.nr_taken, 2);
	expect_commit(&w, "L-8:4#7");
	assert_int_equal(w.slots[0].ids.nr_taken, 1);
	/* Other memory comes where it is: it has to make room. */
	leave(&w, 8, 4, 1, 0, 7);
	map_pages(&w, 10, 4, 2, 0, 0);
	map_pages(&w, 20, 4, 3, 0, 0);
	expect_commit(&w, "E+20:4#1 C-8:4#7 C+10:4#7");
	/* More than one piece does, with nothing between them. */
	leave(&w, 60, 8, 1, 0, 17);
	map_pages(&w, 61, 1, 2, 61, 0);
	map_pages(&w, 64, 1, 2, 64, 0);
	expect_commit(&w, "C-60:8#17 C+61:1#17 C+64:1#2");
	unmap_pages(&w, 61, 4);
	world_commit(&w);
	/* A device does: it would hide that. */
	leave(&w, 32, 4, 1, 0, 2);
	map_kind(&w, 35, 1, GM_SEG_MMIO);
	expect_commit(&w, "D-32:4#2");
	/* Its memory may be freed when this commit has returned. */
	leave(&w, 40, 4, 4, 0, 2);
	expect_commit(&w, "D-40:4#2");
	/* Its log has not been read. */
	leave(&w, 40, 4, 0, GM_SLOT_LOG, 2);
	expect_commit(&w, "C-40:4l#2");
	/* The same memory comes back: there it is. */
	leave(&w, 40, 4, 1, 0, 2);
	map_pages(&w, 40, 4, 1, 40, 0);
	expect_commit(&w, "");
	assert_int_equal(w.slots[0].ids.nr_taken, 4);
	/* Its log is still on: a part of it comes back, without. */
	leave(&w, 50, 4, 1, GM_SLOT_LOG, 9);
	map_pages(&w, 50, 2, 1, 50, 0);
	expect_commit(&w, "C-50:4l#9 C+50:2#9");
	world_destroy(&w);
}

static void test_leftovers_of_a_guest_memfd(void **state)
{
	struct world w;

	(void)state;
	world_init(&w, NO_LIMIT, NO_LIMIT);
	/* Its pages are wanted elsewhere. */
	leave(&w, 8, 4, 1, GM_SLOT_GUEST_MEMFD, 3);
	map_gmem(&w, 0, 20, 4, 2, 6);
	expect_commit(&w, "C-8:4g#3 C+20:4g#3");
	leave(&w, 12, 4, 1, GM_SLOT_GUEST_MEMFD, 4);
	map_gmem(&w, 1, 20, 4, 2, 16);
	expect_commit(&w, "E+20:4gs#0 L-12:4g#4");
	world_destroy(&w);
}

static void test_leftovers_take_room(void **state)
{
	struct world w;

	(void)state;
	world_init(&w, 3, 3);
	map_pages(&w, 0, 4, 0, 0, 0);
	world_commit(&w);
	leave(&w, 8, 4, 1, 0, 1);
	map_pages(&w, 20, 4, 1, 0, 0);
	map_pages(&w, 24, 4, 2, 0, 0);
	expect_plan(&w, "E+20:4#2 C-8:4#1 C+24:4#1");
	gm_plan_reject(&w.plan, &w.in);
	assert_int_equal(w.slots[0].ids.nr_taken, 2);
	expect_commit(&w, "E+20:4#2 C-8:4#1 C+24:4#1");
	assert_int_equal(w.slots[0].ids.nr_taken, 3);
	unmap_pages(&w, 20, 8);
	world_commit(&w);
	/* It stands in the way, too. */
	leave(&w, 8, 4, 1, 0, 1);
	leave(&w, 12, 4, 1, 0, 2);
	map_pages(&w, 10, 4, 1, 0, 0);
	map_pages(&w, 40, 4, 2, 0, 0);
	expect_commit(&w, "C-8:4#1 C-12:4#2 C+10:4#1 C+40:4#2");
	world_destroy(&w);
}

/* In a map that was broken, a view may have what the kernel has not, and the other way round. */
static void test_slots_lost(void **state)
{
	struct world w;

	(void)state;
	world_init(&w, NO_LIMIT, 2);
	map_pages(&w, 0, 4, 0, 0, 0);
	map_pages(&w, 8, 4, 1, 0, 0);
	world_commit(&w);
	/* Made again: there was memory, by the view. */
	lose(&w, 0);
	expect_commit(&w, "D+0:4#0");
	/* Not wanted any more. */
	lose(&w, 0);
	unmap_pages(&w, 0, 4);
	expect_commit(&w, "");
	assert_int_equal(w.slots[0].ids.nr_taken, 1);
	assert_int_equal(w.slots[0].tree.count, 1);
	map_pages(&w, 0, 4, 0, 0, 0);
	world_commit(&w);
	lose(&w, 0);
	unmap_pages(&w, 8, 4);
	map_pages(&w, 20, 4, 2, 7, 0);
	expect_commit(&w, "E+20:4#0 C-8:4#1 C+0:4#1");
	/* Another slot is where it was. */
	lose(&w, 0);
	leave(&w, 2, 4, 3, 0, 1);
	w.in.one_instant = true;
	expect_commit(&w, "C-2:4#1 C+0:4#1");
	assert_int_equal(w.slots[0].ids.nr_taken, 2);
	world_destroy(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ids_are_reused),
		cmocka_unit_test(test_reserved_ids),
		cmocka_unit_test(test_full_on_the_way),
		cmocka_unit_test(test_moves_for_want_of_ids),
		cmocka_unit_test(test_merge_the_oldest),
		cmocka_unit_test(test_merge_with_what_comes),
		cmocka_unit_test(test_merge_no_move),
		cmocka_unit_test(test_merge_only_what_is_one),
		cmocka_unit_test(test_merge_a_surplus),
		cmocka_unit_test(test_larger_slots),
		cmocka_unit_test(test_far_too_much),
		cmocka_unit_test(test_leftovers),
		cmocka_unit_test(test_leftovers_of_a_guest_memfd),
		cmocka_unit_test(test_leftovers_take_room),
		cmocka_unit_test(test_slots_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
