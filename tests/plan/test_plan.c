/* SPDX-License-Identifier: BSD-3-Clause */
/* The planner, row by row: what a change of the view makes of the slots. */
#include "show.h"

#define TOP (UINT64_MAX / PAGE) /* the last page of the address space */

static void test_nothing(void **state)
{
	struct world *w = *state;

	expect_commit(w, "");
	map_pages(w, 0, 4, 0, 0, 0);
	world_commit(w);
	/* A window in which nothing has changed. */
	window(w, 0, pages(1, 2));
	window(w, 0, pages(100, 2));
	expect_commit(w, "");
}

static void test_create_and_delete(void **state)
{
	struct world *w = *state;

	map_pages(w, 0, 4, 0, 0, 0);
	map_pages(w, 8, 4, 1, 0, GM_SEG_READONLY);
	expect_commit(w, "E+0:4#0 E+8:4r#1");
	unmap_pages(w, 0, 4);
	expect_commit(w, "L-0:4#0");
	map_pages(w, 20, 1, 0, 0, 0);
	expect_commit(w, "E+20:1#0");
	/* An id that a late delete frees is not used before. */
	unmap_pages(w, 20, 1);
	map_pages(w, 24, 1, 1, 9, 0);
	expect_commit(w, "E+24:1#2 L-20:1#0");
}

static void test_kinds(void **state)
{
	struct world *w = *state;
	struct gm_seg seg = seg_of(w, 0, 0, 0);

	seg.kind = GM_SEG_ROMD;
	view_put(w, 0, pages(0, 1), &seg);
	seg.kind = GM_SEG_MMIO;
	view_put(w, 0, pages(1, 1), &seg);
	seg.kind = GM_SEG_NONE;
	view_put(w, 0, pages(2, 1), &seg);
	window(w, 0, pages(0, 3));
	expect_commit(w, "E+0:1r#0");
	/* From ROM to trap mode: a guest that still finds memory there would notice. */
	seg.kind = GM_SEG_MMIO;
	view_put(w, 0, pages(0, 1), &seg);
	window(w, 0, pages(0, 1));
	expect_commit(w, "D-0:1r#0");
	/* And back. */
	seg.kind = GM_SEG_ROMD;
	view_put(w, 0, pages(0, 1), &seg);
	window(w, 0, pages(0, 1));
	expect_commit(w, "D+0:1r#0");
}

static void test_grow_and_shrink(void **state)
{
	struct world *w = *state;

	map_pages(w, 0, 4, 0, 0, 0);
	world_commit(w);
	map_pages(w, 4, 4, 0, 4, 0);
	expect_commit(w, "E+4:4#1");
	/* The window may be all of it. */
	map_pages(w, 8, 2, 0, 8, 0);
	window(w, 0, pages(0, 10));
	expect_commit(w, "E+8:2#2");
	unmap_pages(w, 8, 2);
	expect_commit(w, "L-8:2#2");
	unmap_pages(w, 6, 2);
	expect_commit(w, "C-4:4#1 C+4:2#1");
}

static void test_protect_splits_once(void **state)
{
	struct world *w = *state;

	map_pages(w, 0, 100, 0, 0, 0);
	world_commit(w);
	map_pages(w, 10, 2, 0, 10, GM_SEG_READONLY);
	expect_commit(w, "C-0:100#0 C+0:10#0 C+10:2r#1 C+12:88#2");
	map_pages(w, 10, 2, 0, 10, 0);
	expect_commit(w, "C-10:2r#1 C+10:2#1");
	map_pages(w, 10, 2, 0, 10, GM_SEG_READONLY);
	expect_commit(w, "C-10:2#1 C+10:2r#1");
	map_pages(w, 11, 1, 0, 11, 0);
	expect_commit(w, "C-10:2r#1 C+10:1r#1 C+11:1#3");
	/* Across the pieces. */
	map_pages(w, 9, 4, 0, 9, GM_SEG_READONLY);
	expect_commit(w, "C-0:10#0 C-11:1#3 C-12:88#2 C+0:9#0 C+9:1r#2 C+11:2r#3 C+13:87#4");
}

static void test_window_in_the_middle(void **state)
{
	struct world *w = *state;

	map_pages(w, 0, 20, 0, 0, 0);
	world_commit(w);
	/* Two windows in one slot, a third that only touches it. */
	unmap_pages(w, 3, 2);
	unmap_pages(w, 10, 2);
	window(w, 0, pages(15, 9));
	expect_commit(w, "C-0:20#0 C+0:3#0 C+5:5#1 C+12:8#2");
}

static void test_log(void **state)
{
	struct world *w = *state;

	map_pages(w, 0, 4, 0, 0, 0);
	map_pages(w, 8, 4, 0, 8, GM_SEG_READONLY);
	world_commit(w);
	map_pages(w, 0, 4, 0, 0, GM_SEG_LOG);
	/* What the guest can't write needs no log. */
	map_pages(w, 8, 4, 0, 8, GM_SEG_READONLY | GM_SEG_LOG);
	expect_commit(w, "E~0:4l#0");
	map_pages(w, 0, 4, 0, 0, 0);
	expect_commit(w, "L~0:4#0");
	/* A part. */
	map_pages(w, 0, 2, 0, 0, GM_SEG_LOG);
	expect_commit(w, "C-0:4#0 C+0:2l#0 C+2:2#2");
	/* Whole slots again: no piece is touched but in place. */
	map_pages(w, 0, 4, 0, 0, GM_SEG_LOG);
	expect_commit(w, "E~2:2l#2");
	/* A slot that logs goes in the critical part, even if nothing replaces it; what comes elsewhere is early. */
	unmap_pages(w, 0, 2);
	map_pages(w, 20, 1, 1, 0, 0);
	expect_commit(w, "E+20:1#3 C-0:2l#0");
	/* Read-only and back: the bits are read, and logging goes on. */
	map_pages(w, 2, 2, 0, 2, GM_SEG_LOG | GM_SEG_READONLY);
	expect_commit(w, "C-2:2l#2 C+2:2r#2");
	map_pages(w, 2, 2, 0, 2, GM_SEG_LOG);
	expect_commit(w, "C-2:2r#2 C+2:2l#2");
}

static void test_move_away(void **state)
{
	struct world *w = *state;

	map_pages(w, 0, 4, 0, 0, 0);
	world_commit(w);
	unmap_pages(w, 0, 4);
	map_pages(w, 8, 4, 0, 0, 0);
	/* A move would be critical; these are not. */
	expect_commit(w, "E+8:4#1 L-0:4#0");
}

static void test_move(void **state)
{
	struct world *w = *state;

	map_pages(w, 0, 4, 0, 0, GM_SEG_LOG);
	world_commit(w);
	unmap_pages(w, 0, 4);
	map_pages(w, 8, 4, 0, 0, GM_SEG_LOG);
	/* It logs: its bits are read when no processor writes. What comes need not wait for that. */
	expect_commit(w, "E+8:4l#1 C-0:4l#0");
	/* Onto itself. */
	unmap_pages(w, 8, 4);
	map_pages(w, 10, 4, 0, 0, GM_SEG_LOG);
	expect_commit(w, "C8>10:4l#1");
	/* The log changes as well: not one move. */
	unmap_pages(w, 10, 4);
	map_pages(w, 0, 4, 0, 0, 0);
	expect_commit(w, "E+0:4#0 C-10:4l#1");
	/* Another size: not one move. */
	unmap_pages(w, 0, 4);
	map_pages(w, 8, 3, 0, 0, 0);
	expect_commit(w, "E+8:3#1 L-0:4#0");
}

static void test_move_to_where_another_was(void **state)
{
	struct world *w = *state;

	map_pages(w, 0, 4, 0, 0, 0);
	map_pages(w, 8, 4, 1, 0, 0);
	world_commit(w);
	unmap_pages(w, 0, 4);
	map_pages(w, 8, 4, 0, 0, 0);
	expect_commit(w, "C-8:4#1 C0>8:4#0");
	/* Away from where another comes: only the delete has to be critical. */
	map_pages(w, 20, 4, 0, 0, 0);
	map_pages(w, 8, 4, 1, 0, 0);
	expect_commit(w, "E+20:4#1 C-8:4#0 C+8:4#0");
}

static void test_swap(void **state)
{
	struct world *w = *state;

	map_pages(w, 0, 4, 0, 0, 0);
	map_pages(w, 8, 4, 1, 0, 0);
	world_commit(w);
	map_pages(w, 0, 4, 1, 0, 0);
	map_pages(w, 8, 4, 0, 0, 0);
	/* One has to make room for the other. */
	expect_commit(w, "C-8:4#1 C0>8:4#0 C+0:4#1");
}

static void test_chain_of_moves(void **state)
{
	struct world *w = *state;

	for (int i = 0; i < 3; i++)
		map_pages(w, 4 * (uint64_t)i, 4, i, 0, 0);
	world_commit(w);
	unmap_pages(w, 0, 4);
	for (int i = 0; i < 3; i++)
		map_pages(w, 4 + 4 * (uint64_t)i, 4, i, 0, 0);
	/* The last one has nothing in its way, but goes from where another comes; then there's room for one move,
	 * and what comes behind it can't be one. */
	expect_commit(w, "E+12:4#3 C-8:4#2 C4>8:4#1 C+4:4#2 L-0:4#0");
}

static void test_reback(void **state)
{
	struct world *w = *state;
	struct gm_seg seg;

	map_pages(w, 0, 4, 0, 0, 0);
	world_commit(w);
	seg = seg_of(w, 0, 0, 0);
	seg.hva += 64 * PAGE;
	view_put(w, 0, pages(0, 4), &seg);
	window(w, 0, pages(0, 4));
	expect_commit(w, "C-0:4#0 C+0:4#0");
}

static const struct gm_slot *entry(const struct world *w, uint64_t first)
{
	const struct gm_node *n = gm_tree_find(w->slots[0].tree.root, first * PAGE, 0);

	assert_non_null(n);
	return gm_slot_of(n);
}

/* A slot that moves is as old as it was, for merging. */
static void test_age_of_a_move(void **state)
{
	struct world *w = *state;

	map_pages(w, 0, 4, 0, 0, 0);
	map_pages(w, 8, 4, 1, 0, 0);
	world_commit(w);
	unmap_pages(w, 0, 4);
	map_pages(w, 8, 4, 0, 0, 0);
	expect_commit(w, "C-8:4#1 C0>8:4#0");
	assert_int_equal(entry(w, 8)->stamp, 1);
}

/* The same bytes, but at another offset of the region, since that has been re-backed: the bits of a log would be those
 * of other pages. */
static void test_move_to_another_offset(void **state)
{
	struct world *w = *state;
	struct gm_seg seg;

	map_pages(w, 0, 4, 0, 8, GM_SEG_LOG);
	world_commit(w);
	w->regions[0].now.hva += 4 * PAGE;
	unmap_pages(w, 0, 4);
	seg = seg_of(w, 0, 4 * PAGE, GM_SEG_LOG);
	seg.hva += 4 * PAGE;
	view_put(w, 0, pages(2, 4), &seg);
	window(w, 0, pages(2, 4));
	expect_commit(w, "C-0:4l#0 C+2:4l#0");
}

/* The same memory under another name: the table learns the name, the kernel has nothing to do. */
static void test_relabel(void **state)
{
	struct world *w = *state;
	struct gm_seg seg;

	map_pages(w, 0, 4, 0, 0, 0);
	world_commit(w);
	seg = seg_of(w, 0, 0, 0);
	seg.region = &w->regions[1];
	seg.offset = 77 * PAGE;
	seg.group = 5;
	view_put(w, 0, pages(0, 4), &seg);
	window(w, 0, pages(0, 4));
	expect_commit(w, "");
	assert_ptr_equal(entry(w, 0)->region, &w->regions[1]);
	assert_int_equal(entry(w, 0)->offset, 77 * PAGE);
	assert_int_equal(entry(w, 0)->group, 5);
	assert_int_equal(entry(w, 0)->stamp, 1);
	assert_int_equal(atomic_load(&w->regions[0].refs), 1);
	seg.flags = GM_SEG_LOG;
	view_put(w, 0, pages(0, 4), &seg);
	window(w, 0, pages(0, 4));
	expect_commit(w, "E~0:4l#0");
	/* While its log runs, the bits not yet read belong to the old one. */
	map_pages(w, 0, 4, 0, 0, GM_SEG_LOG);
	expect_commit(w, "C-0:4l#0 C+0:4l#0");
	assert_ptr_equal(entry(w, 0)->region, &w->regions[0]);
}

static void test_one_instant(void **state)
{
	struct world *w = *state;

	w->in.one_instant = true;
	map_pages(w, 0, 4, 0, 0, 0);
	map_pages(w, 8, 4, 1, 0, 0);
	map_pages(w, 16, 4, 2, 0, 0);
	expect_commit(w, "C+0:4#0 C+8:4#1 C+16:4#2");
	unmap_pages(w, 0, 4);
	map_pages(w, 8, 4, 1, 0, GM_SEG_LOG);
	unmap_pages(w, 16, 4);
	map_pages(w, 24, 4, 2, 0, 0);
	map_pages(w, 32, 4, 3, 0, 0);
	expect_commit(w, "C-0:4#0 C16>24:4#2 C+32:4#0 C~8:4l#1");
	map_pages(w, 8, 4, 1, 0, 0);
	expect_commit(w, "C~8:4#1");
}

static void test_two_spaces(void **state)
{
	struct world *w = *state;
	struct gm_seg seg = seg_of(w, 0, 0, 0);

	map_pages(w, 0, 4, 0, 0, 0);
	view_put(w, 1, pages(0, 8), &seg);
	window(w, 1, pages(0, 8));
	expect_commit(w, "E+0:4#0 E+0:8s#0");
	map_pages(w, 1, 1, 1, 0, 0);
	seg = seg_of(w, 0, 2 * PAGE, GM_SEG_READONLY);
	view_put(w, 1, pages(2, 2), &seg);
	window(w, 1, pages(2, 2));
	expect_commit(w, "C-0:4#0 C-0:8s#0 C+0:1#0 C+1:1#1 C+2:2#2 "
			 "C+0:2s#0 C+2:2rs#1 C+4:4s#2");
}

static void test_groups_stay_apart(void **state)
{
	struct world *w = *state;
	struct gm_seg seg = seg_of(w, 0, 4 * PAGE, 0);

	map_pages(w, 0, 4, 0, 0, 0);
	seg.group = 3;
	view_put(w, 0, pages(4, 4), &seg);
	window(w, 0, pages(4, 4));
	map_pages(w, 8, 4, 0, 8, 0);
	expect_commit(w, "E+0:4#0 E+4:4#1 E+8:4#2");
}

static void test_guest_memfd(void **state)
{
	struct world *w = *state;

	map_pages(w, 0, 4, 0, 0, GM_SEG_GUEST_MEMFD);
	expect_commit(w, "E+0:4g#0");
	/* No log, in place or otherwise. */
	map_pages(w, 0, 4, 0, 0, GM_SEG_GUEST_MEMFD | GM_SEG_LOG);
	expect_commit(w, "");
	/* No move. */
	unmap_pages(w, 0, 4);
	map_pages(w, 8, 4, 0, 0, GM_SEG_GUEST_MEMFD);
	expect_commit(w, "C-0:4g#0 C+8:4g#0");
	/* The flag never changes in place. */
	map_pages(w, 8, 4, 0, 0, 0);
	expect_commit(w, "C-8:4g#0 C+8:4#0");
	map_pages(w, 8, 4, 0, 0, GM_SEG_GUEST_MEMFD | GM_SEG_READONLY);
	assert_int_equal(world_make(w), -EPERM);
	assert_non_null(strstr(w->msg.text, "read-only"));
	world_reject(w);
}

static void test_greatest_size(void **state)
{
	struct world *w = *state;

	w->in.max_slot_size = 8 * PAGE;
	map_pages(w, 5, 20, 0, 0, 0);
	expect_commit(w, "E+5:3#0 E+8:8#1 E+16:8#2 E+24:1#3");
	/* Only the block of the change is made anew. */
	map_pages(w, 9, 1, 0, 4, GM_SEG_READONLY);
	expect_commit(w, "C-8:8#1 C+8:1#1 C+9:1r#4 C+10:6#5");
	map_pages(w, 25, 16, 0, 20, 0);
	expect_commit(w, "E+25:7#6 E+32:8#7 E+40:1#8");
}

static void test_parts_of_pages(void **state)
{
	struct world *w = *state;
	struct gm_range bytes = {2 * PAGE + 16, 2 * PAGE + 31};
	struct gm_seg mmio = {.region = &w->regions[5], .kind = GM_SEG_MMIO, .gmem_fd = -1};
	struct gm_seg ram;

	map_pages(w, 0, 4, 0, 0, 0);
	world_commit(w);
	/* A device of 16 bytes takes a page. */
	view_put(w, 0, bytes, &mmio);
	window(w, 0, bytes);
	expect_commit(w, "C-0:4#0 C+0:2#0 C+3:1#1");
	/* It goes again, and only its own bytes are a window. */
	ram = seg_of(w, 0, bytes.first, 0);
	view_put(w, 0, bytes, &ram);
	window(w, 0, bytes);
	expect_commit(w, "D+2:1#2");
}

static void test_unjoined_segments(void **state)
{
	struct world *w = *state;

	/* Two segments that the view has not joined. */
	for (uint64_t i = 0; i < 2; i++) {
		struct gm_seg seg = seg_of(w, 0, i * 2 * PAGE + i * 512, 0);
		struct gm_range r = {i * 2 * PAGE + i * 512, (i + 1) * 2 * PAGE - 1};

		if (i == 0)
			r.last += 512;
		must(gm_tree_insert(&w->views[0], r, 0, &seg));
	}
	window(w, 0, pages(0, 4));
	expect_commit(w, "E+0:4#0");
	window(w, 0, pages(1, 1));
	expect_commit(w, "");
}

static void test_end_of_the_space(void **state)
{
	struct world *w = *state;
	struct gm_range all = {0, UINT64_MAX};

	map_pages(w, TOP - 3, 4, 0, 0, 0);
	map_pages(w, 0, 1, 1, 0, 0);
	window(w, 0, all);
	expect_commit(w, "E+0:1#0 E+4503599627370492:4#1");
	map_pages(w, TOP, 1, 0, 3, GM_SEG_READONLY);
	window(w, 0, all);
	expect_commit(w, "C-4503599627370492:4#1 C+4503599627370492:3#1 C+4503599627370495:1r#2");
	unmap_pages(w, TOP, 1);
	expect_commit(w, "L-4503599627370495:1r#2");
	/* Part of the last page, and of the first. */
	view_put(w, 0, (struct gm_range){UINT64_MAX - 99, UINT64_MAX},
		 &(struct gm_seg){.region = &w->regions[0],
				  .kind = GM_SEG_RAM,
				  .offset = PAGE - 100,
				  .hva = region_hva(0) + PAGE - 100,
				  .gmem_fd = -1});
	view_put(w, 0, (struct gm_range){100, PAGE - 1}, NULL);
	window(w, 0, all);
	expect_commit(w, "D-0:1#0");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		world_test(test_nothing),
		world_test(test_create_and_delete),
		world_test(test_kinds),
		world_test(test_grow_and_shrink),
		world_test(test_protect_splits_once),
		world_test(test_window_in_the_middle),
		world_test(test_log),
		world_test(test_move),
		world_test(test_move_away),
		world_test(test_move_to_where_another_was),
		world_test(test_swap),
		world_test(test_chain_of_moves),
		world_test(test_reback),
		world_test(test_age_of_a_move),
		world_test(test_move_to_another_offset),
		world_test(test_relabel),
		world_test(test_one_instant),
		world_test(test_two_spaces),
		world_test(test_groups_stay_apart),
		world_test(test_guest_memfd),
		world_test(test_greatest_size),
		world_test(test_parts_of_pages),
		world_test(test_unjoined_segments),
		world_test(test_end_of_the_space),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
