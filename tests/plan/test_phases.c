/* SPDX-License-Identifier: BSD-3-Clause */
/* What guests would notice, what callers would free, and pages of a guest_memfd: what is early, critical, late or
 * decisive because of them. */
#include "show.h"

/* -------------------------------------------------------------- what guests would notice --- */

static void test_over_a_device(void **state)
{
	struct world *w = *state;

	map_kind(w, 0, 4, GM_SEG_MMIO);
	map_kind(w, 8, 4, GM_SEG_NONE);
	map_kind(w, 20, 1, GM_SEG_MMIO);
	expect_commit(w, "");
	/* Alone: the last of the early ones, after what can be taken back. */
	map_pages(w, 0, 4, 0, 0, 0);
	map_pages(w, 4, 4, 1, 0, 0);
	expect_commit(w, "E+4:4#1 D+0:4#0");
	/* And before what can wait. */
	unmap_pages(w, 4, 4);
	map_pages(w, 8, 4, 2, 0, 0);
	map_pages(w, 0, 4, 0, 0, GM_SEG_LOG);
	expect_commit(w, "E~0:4l#0 D+8:4#2 L-4:4#1");
	/* A part of what comes is enough. */
	map_pages(w, 19, 3, 3, 0, 0);
	expect_commit(w, "D+19:3#1");
}

static void test_more_than_one_decisive(void **state)
{
	struct world *w = *state;

	map_kind(w, 0, 4, GM_SEG_MMIO);
	map_kind(w, 8, 4, GM_SEG_NONE);
	world_commit(w);
	/* Neither can be the last. */
	map_pages(w, 0, 4, 0, 0, 0);
	map_pages(w, 8, 4, 1, 0, 0);
	map_pages(w, 20, 4, 2, 0, 0);
	expect_commit(w, "E+20:4#0 C+0:4#1 C+8:4#2");
	map_kind(w, 0, 4, GM_SEG_MMIO);
	map_kind(w, 8, 4, GM_SEG_NONE);
	unmap_pages(w, 20, 4);
	expect_commit(w, "C-0:4#1 C-8:4#2 L-20:4#0");
	/* In two spaces. */
	map_pages(w, 30, 4, 4, 0, 0);
	map_gmem(w, 1, 0, 4, 5, 0);
	world_commit(w);
	unmap_pages(w, 30, 4);
	view_put(w, 1, pages(0, 4), NULL);
	window(w, 1, pages(0, 4));
	expect_commit(w, "C-30:4#0 C-0:4gs#0");
}

/* The gate is shut anyway. */
static void test_decisive_among_critical(void **state)
{
	struct world *w = *state;

	map_kind(w, 0, 4, GM_SEG_MMIO);
	map_pages(w, 8, 4, 1, 0, 0);
	world_commit(w);
	map_pages(w, 0, 4, 0, 0, 0);
	map_pages(w, 8, 4, 1, 0, GM_SEG_READONLY);
	map_pages(w, 20, 4, 2, 0, 0);
	expect_commit(w, "E+20:4#1 C-8:4#0 C+0:4#0 C+8:4r#2");
	/* A slot that logs has to wait for the gate, though it is alone. */
	map_pages(w, 0, 4, 0, 0, GM_SEG_LOG);
	world_commit(w);
	map_kind(w, 0, 4, GM_SEG_MMIO);
	expect_commit(w, "C-0:4l#0");
	/* All at one instant: at the side of the early ones there is none. */
	w->in.one_instant = true;
	map_pages(w, 0, 4, 0, 0, 0);
	expect_commit(w, "C+0:4#0");
}

static void test_under_memory(void **state)
{
	struct world *w = *state;

	map_pages(w, 0, 4, 0, 0, 0);
	map_pages(w, 10, 4, 1, 0, 0);
	map_pages(w, 20, 4, 2, 0, 0);
	world_commit(w);
	unmap_pages(w, 0, 4);
	map_kind(w, 3, 4, GM_SEG_MMIO);
	unmap_pages(w, 10, 4);
	expect_commit(w, "D-0:4#0 L-10:4#1");
	map_kind(w, 20, 4, GM_SEG_NONE);
	map_pages(w, 30, 4, 3, 0, 0);
	expect_commit(w, "E+30:4#0 D-20:4#2");
	/* What stays of it overlaps what goes. */
	map_kind(w, 33, 1, GM_SEG_MMIO);
	expect_commit(w, "C-30:4#0 C+30:3#0");
}

/* Memory that the caller may free when the commit has returned. */
static void test_without_release(void **state)
{
	struct world *w = *state;

	map_pages(w, 0, 4, 4, 0, 0);
	map_pages(w, 8, 4, 0, 0, 0);
	map_pages(w, 16, 4, 5, 0, 0);
	map_pages(w, 24, 4, 5, 4, 0);
	world_commit(w);
	unmap_pages(w, 0, 4);
	unmap_pages(w, 8, 4);
	map_pages(w, 30, 4, 1, 0, 0);
	expect_commit(w, "E+30:4#4 D-0:4#0 L-8:4#1");
	unmap_pages(w, 16, 4);
	unmap_pages(w, 24, 4);
	expect_commit(w, "C-16:4#2 C-24:4#3");
	/* It moves: both can't be early, and one move is better than an early create and a delete that shuts the
	 * gate only where that create would have to wait, too. */
	map_pages(w, 0, 4, 4, 0, 0);
	map_kind(w, 16, 4, GM_SEG_MMIO);
	world_commit(w);
	unmap_pages(w, 0, 4);
	map_pages(w, 8, 4, 4, 0, 0);
	expect_commit(w, "E+8:4#1 D-0:4#0");
	unmap_pages(w, 8, 4);
	map_pages(w, 16, 4, 4, 0, 0);
	expect_commit(w, "C8>16:4#1");
	/* With a release callback only the create is decisive. */
	map_kind(w, 8, 4, GM_SEG_MMIO);
	map_pages(w, 0, 4, 0, 0, 0);
	world_commit(w);
	unmap_pages(w, 0, 4);
	map_pages(w, 8, 4, 0, 0, 0);
	expect_commit(w, "D+8:4#2 L-0:4#0");
}

/* A release callback does not speak for memory that a reback has replaced. */
static void test_reback_and_gone(void **state)
{
	struct world *w = *state;
	struct gpamap_region *r = &w->regions[0];

	map_pages(w, 0, 4, 0, 0, 0);
	map_pages(w, 8, 4, 0, 8, 0);
	world_commit(w);
	r->was = r->now;
	r->touched = true;
	r->now.hva += 64 * PAGE;
	unmap_pages(w, 0, 4);
	unmap_pages(w, 8, 4);
	expect_plan(w, "C-0:4#0 C-8:4#1");
	world_reject(w);
	r->now.hva = r->was.hva;
	unmap_pages(w, 0, 4);
	unmap_pages(w, 8, 4);
	expect_plan(w, "L-0:4#0 L-8:4#1");
	world_reject(w);
	/* It was replaced before, while the slot was left over. */
	r->touched = false;
	r->now.hva += 64 * PAGE;
	unmap_pages(w, 0, 4);
	expect_commit(w, "D-0:4#0");
}

/* ----------------------------------------------------------------- pages of a guest_memfd --- */

static void test_gmem_elsewhere(void **state)
{
	struct world *w = *state;

	map_gmem(w, 0, 0, 8, 0, 0);
	map_gmem(w, 0, 20, 4, 0, 20);
	world_commit(w);
	/* What grows takes pages that nobody has. */
	map_gmem(w, 0, 8, 4, 0, 8);
	expect_commit(w, "E+8:4g#2");
	/* The last two pages go to another place: what is left of the slot has to be made anew, as always. */
	unmap_pages(w, 6, 2);
	map_gmem(w, 0, 30, 2, 0, 6);
	map_gmem(w, 0, 40, 2, 0, 40);
	expect_commit(w, "E+40:2g#3 C-0:8g#0 C+0:6g#0 C+30:2g#4");
	/* One that is smaller, or begins elsewhere, but shares a page. */
	unmap_pages(w, 20, 4);
	map_gmem(w, 0, 50, 2, 0, 18);
	map_gmem(w, 0, 52, 2, 0, 24);
	unmap_pages(w, 30, 2);
	expect_commit(w, "E+50:2g#5 E+52:2g#6 L-20:4g#1 L-30:2g#4");
	unmap_pages(w, 50, 2);
	map_gmem(w, 0, 60, 8, 0, 12);
	expect_commit(w, "C-50:2g#5 C+60:8g#5");
}

static void test_gmem_between_spaces(void **state)
{
	struct world *w = *state;
	struct gm_seg other = seg_of(w, 1, 0, GM_SEG_GUEST_MEMFD);

	map_gmem(w, 0, 0, 4, 0, 0);
	map_gmem(w, 1, 0, 4, 0, 8);
	world_commit(w);
	unmap_pages(w, 0, 4);
	map_gmem(w, 1, 8, 4, 1, 0);
	expect_commit(w, "C-0:4g#0 C+8:4gs#1");
	/* There and back, and nothing comes between. */
	view_put(w, 1, pages(0, 12), NULL);
	window(w, 1, pages(0, 12));
	map_gmem(w, 0, 0, 4, 0, 8);
	expect_commit(w, "C-0:4gs#0 C+0:4g#0 L-8:4gs#1");
	/* The same offset of another file. */
	other.gmem_fd = 9;
	other.gmem_offset = 8 * PAGE;
	view_put(w, 1, pages(0, 4), &other);
	window(w, 1, pages(0, 4));
	unmap_pages(w, 0, 4);
	expect_commit(w, "E+0:4gs#0 L-0:4g#0");
}

static void expect_shown_twice(struct world *w, const char *where)
{
	assert_int_equal(world_make(w), -EBUSY);
	if (!strstr(w->msg.text, where))
		fail_msg("\"%s\", but not: %s", where, w->msg.text);
	assert_int_equal(w->plan.n, 0);
	assert_int_equal(w->slots[0].ids.nr_taken, w->slots[0].tree.count);
	world_reject(w);
}

static void test_gmem_shown_twice(void **state)
{
	struct world *w = *state;

	map_gmem(w, 0, 0, 4, 0, 0);
	world_commit(w);
	/* Beside a slot that no edit has touched. */
	map_gmem(w, 0, 8, 4, 0, 3);
	expect_shown_twice(w, "offset 0x3000 of guest_memfd 7 would show in slots at 0x0 of "
			      "space 0 and at 0x8000 of space 0");
	map_gmem(w, 1, 0, 1, 0, 2);
	expect_shown_twice(w, "offset 0x2000 of guest_memfd 7 would show in slots at 0x0 of "
			      "space 0 and at 0x0 of space 1");
	/* Two that come; one of them from behind. */
	map_gmem(w, 0, 20, 4, 0, 20);
	map_gmem(w, 1, 20, 4, 0, 17);
	expect_shown_twice(w, "offset 0x14000 of guest_memfd 7 would show in slots at 0x14000 of "
			      "space 1 and at 0x14000 of space 0");
	/* One that is looked at, and stays. */
	window(w, 0, pages(0, 4));
	map_gmem(w, 0, 4, 4, 0, 0);
	expect_shown_twice(w, "offset 0x0 of guest_memfd 7 would show in slots at 0x0 of "
			      "space 0 and at 0x4000 of space 0");
	/* It goes, but comes again. */
	map_gmem(w, 0, 3, 4, 0, 0);
	expect_shown_twice(w, "offset 0x0 of guest_memfd 7");
	/* Without a page's end there is no slot for it. */
	view_put(w, 1, (struct gm_range){0, PAGE - 2},
		 &(struct gm_seg){.region = &w->regions[0],
				  .kind = GM_SEG_RAM,
				  .flags = GM_SEG_GUEST_MEMFD,
				  .hva = region_hva(0),
				  .gmem_fd = 7});
	window(w, 1, pages(0, 1));
	expect_commit(w, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		world_test(test_over_a_device),		  world_test(test_more_than_one_decisive),
		world_test(test_decisive_among_critical), world_test(test_under_memory),
		world_test(test_without_release),	  world_test(test_reback_and_gone),
		world_test(test_gmem_elsewhere),	  world_test(test_gmem_between_spaces),
		world_test(test_gmem_shown_twice),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
