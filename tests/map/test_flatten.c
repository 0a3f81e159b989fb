/* SPDX-License-Identifier: BSD-3-Clause */
/* What is seen of a tree of regions: cases made by hand. expect() also checks that flattening the windows
 * gives what flattening everything gives. */
#include "fixture.h"

static uint64_t next_hva;

static struct gpamap_region *ram(struct env *e, const char *name, uint64_t nr_pages)
{
	next_hva += UINT64_C(0x100000000);
	return MAKE(e, .kind = GPAMAP_RAM, .name = name, .size = nr_pages * PAGE,
		    .max_size = 16 * PAGE, .hva = (void *)(uintptr_t)next_hva);
}

static struct gpamap_region *box(struct env *e, const char *name, uint64_t nr_pages)
{
	return MAKE(e, .kind = GPAMAP_CONTAINER, .name = name, .size = nr_pages * PAGE,
		    .max_size = 32 * PAGE);
}

static struct gpamap_region *mmio(struct env *e, const char *name, uint64_t size)
{
	return MAKE(e, .kind = GPAMAP_MMIO, .name = name, .size = size);
}

static struct gpamap_region *alias(struct env *e, struct gpamap_region *target, uint64_t offset,
				   uint64_t size)
{
	return MAKE(e, .kind = GPAMAP_ALIAS, .name = "alias", .size = size, .target = target,
		    .target_offset = offset, .max_size = size == UINT64_MAX ? 0 : 64 * PAGE);
}

/* Put it there for good: the place is its only reference from now on. */
static struct gpamap_region *in(struct env *e, struct gpamap_region *parent, uint64_t offset,
				struct gpamap_region *child, int priority)
{
	ok(e, gm_edit_add(&e->map, parent, offset, child, priority, &e->msg));
	put(child);
	return child;
}

static void the_higher_priority_is_seen(void **state)
{
	struct env *e = *state;
	struct gpamap_region *r = root(e, 0), *b;

	in(e, r, 0, ram(e, "a", 4), 0);
	expect(e, 0, "0-3fff a+0 RAM");
	b = in(e, r, 0x1000, ram(e, "b", 1), 1);
	expect(e, 0, "0-fff a+0 RAM | 1000-1fff b+0 RAM | 2000-3fff a+2000 RAM");
	ok(e, gm_edit_priority(&e->map, b, -1, &e->msg));
	expect(e, 0, "0-3fff a+0 RAM");
	ok(e, gm_edit_move(&e->map, b, 0x3000, &e->msg));
	expect(e, 0, "0-3fff a+0 RAM");
}

static void among_equals_the_newest_is_seen(void **state)
{
	struct env *e = *state;
	struct gpamap_region *r = root(e, 0), *a, *b;

	a = in(e, r, 0, ram(e, "a", 2), 0);
	b = in(e, r, 0, ram(e, "b", 2), 0);
	expect(e, 0, "0-1fff b+0 RAM");
	ok(e, gm_edit_priority(&e->map, a, 0, &e->msg));
	expect(e, 0, "0-1fff a+0 RAM");
	/* To where it is: it gets no newer. */
	ok(e, gm_edit_move(&e->map, b, 0, &e->msg));
	expect(e, 0, "0-1fff a+0 RAM");
	ok(e, gm_edit_move(&e->map, b, 0x1000, &e->msg));
	expect(e, 0, "0-fff a+0 RAM | 1000-2fff b+0 RAM");
	/* Another size is no other age. */
	ok(e, gm_edit_resize(&e->map, a, 4 * PAGE, &e->msg));
	expect(e, 0, "0-fff a+0 RAM | 1000-2fff b+0 RAM | 3000-3fff a+3000 RAM");
	gm_edits_abort(&e->map);
}

static void priority_is_among_siblings_only(void **state)
{
	struct env *e = *state;
	struct gpamap_region *low = in(e, root(e, 0), 0, box(e, "low", 4), 0);

	in(e, low, 0, ram(e, "high", 4), 1000);
	in(e, root(e, 0), 0x1000, mmio(e, "dev", PAGE), 1);
	expect(e, 0, "0-fff high+0 RAM | 1000-1fff dev+0 MMIO | 2000-3fff high+2000 RAM");
}

static void containers_are_transparent_and_clip(void **state)
{
	struct env *e = *state;
	struct gpamap_region *c;

	in(e, root(e, 0), 0, ram(e, "a", 8), 0);
	c = in(e, root(e, 0), 0x2000, box(e, "c", 4), 1);
	in(e, c, 0x3000, ram(e, "b", 4), 0);
	expect(e, 0, "0-4fff a+0 RAM | 5000-5fff b+0 RAM | 6000-7fff a+6000 RAM");
	ok(e, gm_edit_resize(&e->map, c, 5 * PAGE, &e->msg));
	expect(e, 0, "0-4fff a+0 RAM | 5000-6fff b+0 RAM | 7000-7fff a+7000 RAM");
	ok(e, gm_edit_resize(&e->map, c, 3 * PAGE, &e->msg));
	expect(e, 0, "0-7fff a+0 RAM");
}

static void the_disabled_are_not_there(void **state)
{
	struct env *e = *state;
	struct gpamap_region *c = in(e, root(e, 0), 0, box(e, "c", 8), 0);
	struct gpamap_region *a = in(e, c, 0x1000, ram(e, "a", 1), 0), *show;

	show = in(e, root(e, 0), 0x10000, alias(e, a, 0, PAGE), 0);
	expect(e, 0, "1000-1fff a+0 RAM | 10000-10fff a+0 RAM");
	ok(e, gm_edit_enabled(&e->map, c, false, &e->msg));
	expect(e, 0, "10000-10fff a+0 RAM");
	ok(e, gm_edit_enabled(&e->map, a, false, &e->msg));
	expect(e, 0, "");
	ok(e, gm_edit_enabled(&e->map, c, true, &e->msg));
	expect(e, 0, "");
	ok(e, gm_edit_enabled(&e->map, show, false, &e->msg));
	ok(e, gm_edit_enabled(&e->map, a, true, &e->msg));
	expect(e, 0, "1000-1fff a+0 RAM");
	ok(e, gm_edit_enabled(&e->map, root(e, 0), false, &e->msg));
	expect(e, 0, "");
	/* Changed while out of sight. */
	ok(e, gm_edit_move(&e->map, a, 0x2000, &e->msg));
	ok(e, gm_edit_enabled(&e->map, show, true, &e->msg));
	ok(e, gm_edit_enabled(&e->map, root(e, 0), true, &e->msg));
	expect(e, 0, "2000-2fff a+0 RAM | 10000-10fff a+0 RAM");
}

static void aliases_show_windows(void **state)
{
	struct env *e = *state;
	struct gpamap_region *a = ram(e, "a", 4);
	struct gpamap_region *w = in(e, root(e, 0), 0x8000, alias(e, a, 0x1000, 2 * PAGE), 0);

	expect(e, 0, "8000-9fff a+1000 RAM");
	ok(e, gm_edit_target_offset(&e->map, w, 0x3000, &e->msg));
	/* The window reaches beyond the target. */
	expect(e, 0, "8000-8fff a+3000 RAM");
	ok(e, gm_edit_resize(&e->map, a, 5 * PAGE, &e->msg));
	expect(e, 0, "8000-9fff a+3000 RAM");
	ok(e, gm_edit_resize(&e->map, w, PAGE, &e->msg));
	expect(e, 0, "8000-8fff a+3000 RAM");
	/* The same page once more, in the other address space. */
	in(e, root(e, 1), 0, alias(e, a, 0x3000, PAGE), 0);
	expect(e, 1, "0-fff a+3000 RAM");
	ok(e, gm_edit_log(&e->map, a, true, &e->msg));
	expect(e, 0, "8000-8fff a+3000 RAM,log");
	expect(e, 1, "0-fff a+3000 RAM,log");
	put(a);
}

static void aliases_show_aliases_and_containers(void **state)
{
	struct env *e = *state;
	struct gpamap_region *c = box(e, "c", 8), *outer, *dev;

	in(e, c, 0x2000, ram(e, "a", 2), 0);
	dev = in(e, c, 0x3000, mmio(e, "dev", 0x80), 1);
	outer = alias(e, c, 0x1000, 6 * PAGE);
	in(e, root(e, 0), 0x10000, alias(e, outer, 0x2000, 2 * PAGE), 0);
	in(e, root(e, 0), 0x20000, c, 0);
	gm_region_ref(c);
	expect(e, 0,
	       "10000-1007f dev+0 MMIO | 10080-10fff a+1080 RAM | "
	       "22000-22fff a+0 RAM | 23000-2307f dev+0 MMIO | 23080-23fff a+1080 RAM");
	ok(e, gm_edit_move(&e->map, dev, 0x4f80, &e->msg));
	expect(e, 0,
	       "10000-10fff a+1000 RAM | 11f80-11fff dev+0 MMIO | 22000-23fff a+0 RAM | "
	       "24f80-24fff dev+0 MMIO");
	ok(e, gm_edit_target_offset(&e->map, outer, 0, &e->msg));
	expect(e, 0, "10000-11fff a+0 RAM | 22000-23fff a+0 RAM | 24f80-24fff dev+0 MMIO");
	put(outer);
	put(c);
}

/* An alias at the very top that shows the very bottom: where the target's offset 0 would stand wraps. */
static void nothing_wraps(void **state)
{
	struct env *e = *state;
	struct gpamap_region *all = alias(e, root(e, 1), 0, GPAMAP_SIZE_MAX);
	struct gpamap_region *top = ram(e, "top", 2), *bottom = ram(e, "bottom", 1);

	in(e, root(e, 1), 0 - 2 * PAGE, top, 0);
	in(e, root(e, 1), 0, bottom, 0);
	expect(e, 1, "0-fff bottom+0 RAM | ffffffffffffe000-ffffffffffffffff top+0 RAM");
	in(e, root(e, 0), 0, all, 0);
	expect(e, 0, "0-fff bottom+0 RAM | ffffffffffffe000-ffffffffffffffff top+0 RAM");
	in(e, root(e, 0), 0 - 2 * PAGE, alias(e, root(e, 1), 0, 2 * PAGE), 1);
	in(e, root(e, 0), 0, alias(e, top, PAGE, PAGE), 1);
	expect(e, 0,
	       "0-fff top+1000 RAM | ffffffffffffe000-ffffffffffffefff bottom+0 RAM | "
	       "fffffffffffff000-ffffffffffffffff top+1000 RAM");
	ok(e, gm_edit_remove(&e->map, all, &e->msg));
	expect(e, 0, "0-fff top+1000 RAM | ffffffffffffe000-ffffffffffffefff bottom+0 RAM");
}

static void a_device_may_have_all_2_64_bytes(void **state)
{
	struct env *e = *state;

	in(e, root(e, 0), 0, mmio(e, "all", GPAMAP_SIZE_MAX), -1);
	expect(e, 0, "0-ffffffffffffffff all+0 MMIO");
	in(e, root(e, 0), 0x1000, ram(e, "a", 1), 0);
	expect(e, 0, "0-fff all+0 MMIO | 1000-1fff a+0 RAM | 2000-ffffffffffffffff all+2000 MMIO");
}

static void read_only_is_inherited(void **state)
{
	struct env *e = *state;
	struct gpamap_region *c = in(e, root(e, 0), 0, box(e, "c", 8), 0);
	struct gpamap_region *a = in(e, c, 0, ram(e, "a", 1), 0), *w;

	in(e, c, 0x1000, mmio(e, "dev", PAGE), 0);
	w = in(e, root(e, 0), 0x10000, alias(e, c, 0, 2 * PAGE), 0);
	ok(e, gm_edit_readonly(&e->map, w, true, &e->msg));
	expect(e, 0,
	       "0-fff a+0 RAM | 1000-1fff dev+0 MMIO | 10000-10fff a+0 RAM,ro | "
	       "11000-11fff dev+0 MMIO");
	ok(e, gm_edit_readonly(&e->map, w, false, &e->msg));
	ok(e, gm_edit_readonly(&e->map, c, true, &e->msg));
	expect(e, 0,
	       "0-fff a+0 RAM,ro | 1000-1fff dev+0 MMIO | 10000-10fff a+0 RAM,ro | "
	       "11000-11fff dev+0 MMIO");
	/* What is read-only by itself stays so. */
	ok(e, gm_edit_readonly(&e->map, a, true, &e->msg));
	ok(e, gm_edit_readonly(&e->map, c, false, &e->msg));
	expect(e, 0,
	       "0-fff a+0 RAM,ro | 1000-1fff dev+0 MMIO | 10000-10fff a+0 RAM,ro | "
	       "11000-11fff dev+0 MMIO");
}

static void rom_devices_have_two_modes(void **state)
{
	struct env *e = *state;
	struct gpamap_region *c = in(e, root(e, 0), 0, box(e, "c", 8), 0);
	struct gpamap_region *d = in(e, c, 0,
				     MAKE(e, .kind = GPAMAP_ROM_DEVICE, .name = "rom",
					  .size = 2 * PAGE, .hva = (void *)(uintptr_t)0x5000),
				     0);

	expect(e, 0, "0-1fff rom+0 ROMD");
	ok(e, gm_edit_readonly(&e->map, c, true, &e->msg));
	expect(e, 0, "0-1fff rom+0 ROMD");
	ok(e, gm_edit_rom_mode(&e->map, d, false, &e->msg));
	expect(e, 0, "0-1fff rom+0 MMIO");
	ok(e, gm_edit_reback(&e->map, d, (void *)(uintptr_t)0x9000, &e->msg));
	ok(e, gm_edit_rom_mode(&e->map, d, true, &e->msg));
	expect(e, 0, "0-1fff rom+0 ROMD");
	assert_int_equal(gm_seg_of(e->view[0].root)->hva, 0x9000);
}

static void small_devices_cut_memory(void **state)
{
	struct env *e = *state;
	struct gpamap_region *d;

	in(e, root(e, 0), 0, ram(e, "a", 2), 0);
	d = in(e, root(e, 0), 0xffe, mmio(e, "dev", 4), 1);
	expect(e, 0, "0-ffd a+0 RAM | ffe-1001 dev+0 MMIO | 1002-1fff a+1002 RAM");
	ok(e, gm_edit_move(&e->map, d, 0x1ffe, &e->msg));
	/* What was cut is whole again. */
	expect(e, 0, "0-1ffd a+0 RAM | 1ffe-2001 dev+0 MMIO");
}

/* Children and windows that share one byte, after one that lies between windows. */
static void windows_of_one_byte(void **state)
{
	struct env *e = *state;
	struct gm_range r[] = {{0x10, 0x10}, {0x30, 0x30}};
	struct gm_windows w = {.alloc = &e->alloc, .r = r, .n = 2, .room = 2};

	in(e, root(e, 0), 0, mmio(e, "first", 0x11), 0);
	in(e, root(e, 0), 0x11, mmio(e, "between", 0x10), 0);
	in(e, root(e, 0), 0x28, mmio(e, "last", 9), 0);
	ok(e, flatten(e, 0, &w, &e->view[0]));
	assert_string_equal(view_text(e, e->view[0].root),
			    "10-10 first+10 MMIO | 30-30 last+8 MMIO");
}

static void the_unmergeable_stay_apart(void **state)
{
	struct env *e = *state;
	struct gpamap_region *a = ram(e, "a", 4), *w, *outer;
	uint64_t group;

	in(e, root(e, 0), 0, alias(e, a, 0, PAGE), 0);
	in(e, root(e, 0), 0x1000, alias(e, a, 0x1000, PAGE), 0);
	expect(e, 0, "0-1fff a+0 RAM");
	w = in(e, root(e, 0), 0x2000,
	       MAKE(e, .kind = GPAMAP_ALIAS, .size = PAGE, .target = a, .target_offset = 0x2000,
		    .flags = GPAMAP_UNMERGEABLE),
	       0);
	expect(e, 0, "0-1fff a+0 RAM | 2000-2fff a+2000 RAM,g");
	/* The outermost counts. */
	outer = MAKE(e, .kind = GPAMAP_CONTAINER, .size = PAGE, .flags = GPAMAP_UNMERGEABLE);
	ok(e, gm_edit_remove(&e->map, w, &e->msg));
	ok(e, gm_edit_add(&e->map, outer, 0, w, 0, &e->msg));
	in(e, root(e, 0), 0x2000, outer, 0);
	expect(e, 0, "0-1fff a+0 RAM | 2000-2fff a+2000 RAM,g");
	group = gm_seg_of(gm_tree_find(e->view[0].root, 0x2000, 0))->group;
	assert_int_equal(group, outer->serial);
	put(a);
}

static void guest_memfd_is_passed_on(void **state)
{
	struct env *e = *state;
	struct gpamap_region *c = in(e, root(e, 0), 0, box(e, "c", 8), 0);
	struct gpamap_region *g =
		MAKE(e, .kind = GPAMAP_RAM, .name = "g", .size = 4 * PAGE,
		     .hva = (void *)(uintptr_t)0x10000, .flags = GPAMAP_GUEST_MEMFD,
		     .guest_memfd = 9, .guest_memfd_offset = 0x40000);
	struct gpamap_region *hide;

	in(e, c, 0, g, 0);
	in(e, c, 0x1000, mmio(e, "dev", PAGE), 1);
	expect(e, 0, "0-fff g+0 RAM,gmem | 1000-1fff dev+0 MMIO | 2000-3fff g+2000 RAM,gmem");
	ok(e, gm_edit_readonly(&e->map, c, true, &e->msg));
	assert_int_equal(flatten_windows(e, 0), -EPERM);
	assert_non_null(strstr(e->msg.text, "'g' at GPA 0x0"));
	gm_tree_abort(&e->view[0]);
	/* What isn't seen does no harm. */
	hide = in(e, root(e, 0), 0, mmio(e, "hide", 4 * PAGE), 1);
	expect(e, 0, "0-3fff hide+0 MMIO");
	ok(e, gm_edit_resize(&e->map, c, PAGE, &e->msg));
	ok(e, gm_edit_readonly(&e->map, c, false, &e->msg));
	ok(e, gm_edit_remove(&e->map, hide, &e->msg));
	expect(e, 0, "0-fff g+0 RAM,gmem");
}

/* @n containers in each other, and a page in the innermost. The outermost has no place. */
static struct gpamap_region *nest(struct env *e, unsigned n)
{
	struct gpamap_region *outer = ram(e, "deep", 1);

	while (n--) {
		struct gpamap_region *c = box(e, "nest", 1);

		in(e, c, 0, outer, 0);
		outer = c;
	}
	return outer;
}

static void depth_has_a_limit(void **state)
{
	struct env *e = *state;
	struct gpamap_region *deep = nest(e, GM_DEPTH_MAX), *hide;

	in(e, root(e, 0), 0x1000, nest(e, GM_DEPTH_MAX - 1), 0);
	commit(e);
	expect(e, 0, "1000-1fff deep+0 RAM");
	in(e, root(e, 0), 0x2000, deep, 0);
	assert_int_equal(flatten_windows(e, 0), -E2BIG);
	assert_non_null(strstr(e->msg.text, "'deep' at GPA 0x2000 lies more than 64"));
	gm_tree_abort(&e->view[0]);
	/* An edit far down gets its window all the same: it shows when depth allows. */
	gm_region_ref(deep);
	hide = in(e, root(e, 0), 0x2000, mmio(e, "hide", PAGE), 1);
	expect(e, 0, "1000-1fff deep+0 RAM | 2000-2fff hide+0 MMIO");
	ok(e, gm_edit_remove(&e->map, hide, &e->msg));
	ok(e, gm_edit_remove(&e->map, deep, &e->msg));
	expect(e, 0, "1000-1fff deep+0 RAM");
	put(deep);
}

/* Deeper than any stack would bear: marking and the search for cycles take none. */
static void edits_of_any_depth_are_fine(void **state)
{
	struct env *e = *state;
	struct gpamap_region *inner = box(e, "inner", 1), *top = inner;

	for (unsigned i = 0; i < 20000; i++) {
		struct gpamap_region *a = alias(e, top, 0, PAGE);

		put(top);
		top = a;
	}
	gm_region_ref(inner);
	ok(e, gm_edit_add(&e->map, root(e, 0), 0x7000, top, 0, &e->msg));
	gm_edits_commit(&e->map);
	in(e, inner, 0, ram(e, "a", 1), 0);
	assert_int_equal(e->map.spaces[0].windows.n, 1);
	assert_int_equal(e->map.spaces[0].windows.r[0].first, 0x7000);
	assert_int_equal(e->map.spaces[0].windows.r[0].last, 0x7fff);
	gm_edits_abort(&e->map);
	put(top);
	put(inner);
}

/* The cost of a commit: windows cover what changed, and no more. */
static void windows_are_tight(void **state)
{
	struct env *e = *state;
	struct gm_windows *w = &e->map.spaces[0].windows;
	struct gpamap_region *c = in(e, root(e, 0), 0, box(e, "c", 16), 0);
	struct gpamap_region *a = in(e, c, 0x1000, ram(e, "a", 8), 0), *far;

	in(e, root(e, 0), 0x100000, alias(e, a, 0x4000, 2 * PAGE), 0);
	commit(e);
	ok(e, gm_edit_resize(&e->map, a, 5 * PAGE, &e->msg));
	gm_windows_normalise(w);
	assert_int_equal(w->n, 2);
	assert_int_equal(w->r[0].first, 0x6000);
	assert_int_equal(w->r[0].last, 0x8fff);
	assert_int_equal(w->r[1].first, 0x101000);
	assert_int_equal(w->r[1].last, 0x101fff);
	commit(e);
	far = in(e, c, 0x10000, ram(e, "far", 1), 0);
	/* Outside of its container: nowhere to be seen. */
	assert_int_equal(w->n, 0);
	ok(e, gm_edit_move(&e->map, far, 0xf000, &e->msg));
	assert_int_equal(w->n, 1);
	assert_int_equal(w->r[0].first, 0xf000);
	assert_int_equal(w->r[0].last, 0xffff);
	ok(e, gm_edit_enabled(&e->map, c, false, &e->msg));
	commit(e);
	/* What is below the disabled is nowhere, but for aliases of it. */
	ok(e, gm_edit_remove(&e->map, far, &e->msg));
	assert_int_equal(w->n, 0);
	ok(e, gm_edit_readonly(&e->map, a, true, &e->msg));
	assert_int_equal(w->n, 1);
	assert_int_equal(w->r[0].first, 0x100000);
}

static void lack_of_memory_is_an_error(void **state)
{
	struct env *e = *state;
	unsigned failures = 0;

	for (uint64_t i = 0; i < 20; i++)
		in(e, root(e, 0), i * 2 * PAGE, ram(e, "a", 1), 0);
	in(e, root(e, 0), 0, mmio(e, "dev", 64 * PAGE), -1);
	e->mem.for_good = true;
	for (size_t n = 1;; n++, failures++) {
		int err;

		fail_nth(e, n);
		err = flatten_windows(e, 0);
		fail_nth(e, 0);
		if (!err)
			break;
		assert_int_equal(err, -ENOMEM);
		assert_string_equal(e->msg.text, "no memory to flatten address space 0");
		gm_tree_abort(&e->view[0]);
		assert_null(e->view[0].root);
	}
	assert_true(failures > 40);
	assert_int_equal(e->view[0].count, 40);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(the_higher_priority_is_seen),
		TEST(among_equals_the_newest_is_seen),
		TEST(priority_is_among_siblings_only),
		TEST(containers_are_transparent_and_clip),
		TEST(the_disabled_are_not_there),
		TEST(aliases_show_windows),
		TEST(aliases_show_aliases_and_containers),
		TEST(nothing_wraps),
		TEST(a_device_may_have_all_2_64_bytes),
		TEST(read_only_is_inherited),
		TEST(rom_devices_have_two_modes),
		TEST(small_devices_cut_memory),
		TEST(windows_of_one_byte),
		TEST(the_unmergeable_stay_apart),
		TEST(guest_memfd_is_passed_on),
		TEST(depth_has_a_limit),
		TEST(edits_of_any_depth_are_fine),
		TEST(windows_are_tight),
		TEST(lack_of_memory_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
