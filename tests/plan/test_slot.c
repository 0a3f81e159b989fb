/* SPDX-License-Identifier: BSD-3-Clause */
/* Slots as entries of a tree, and when two of them show the same memory. */
#include "world.h"

static struct gm_slot slot(struct world *w, uint64_t first, uint64_t n, uint64_t at)
{
	return (struct gm_slot){
		.gpa = pages(first, n),
		.hva = region_hva(0) + at * PAGE,
		.region = &w->regions[0],
		.offset = at * PAGE,
		.gmem_fd = -1,
	};
}

static void test_entries_hold_references(void **state)
{
	struct world w;
	struct gm_slot s;

	(void)state;
	world_init(&w, 8, 8);
	s = slot(&w, 0, 1, 0);
	must(gm_tree_insert(&w.slots[0].tree, s.gpa, 0, &s));
	assert_int_equal(atomic_load(&w.regions[0].refs), 2);
	gm_tree_abort(&w.slots[0].tree);
	assert_int_equal(atomic_load(&w.regions[0].refs), 1);
	/* An entry without a region is fine. */
	s.region = NULL;
	must(gm_tree_insert(&w.slots[0].tree, s.gpa, 0, &s));
	world_destroy(&w);
}

static void test_same_backing(void **state)
{
	struct world w;
	struct gm_slot a, b, c;

	(void)state;
	world_init(&w, 8, 8);
	a = slot(&w, 4, 4, 10);
	b = slot(&w, 8, 2, 14);
	assert_true(gm_slot_same_backing(&a, &b));
	assert_true(gm_slot_same_backing(&b, &a));
	c = b;
	c.flags = GM_SLOT_LOG;
	assert_true(gm_slot_same_backing(&a, &c));
	c.flags = GM_SLOT_READONLY;
	assert_false(gm_slot_same_backing(&a, &c));
	c = b;
	c.hva += PAGE;
	assert_false(gm_slot_same_backing(&a, &c));
	c = b;
	c.offset += PAGE;
	assert_false(gm_slot_same_backing(&a, &c));
	c = b;
	c.region = &w.regions[1];
	assert_false(gm_slot_same_backing(&a, &c));
	c = b;
	c.group = 5;
	assert_false(gm_slot_same_backing(&a, &c));
	world_destroy(&w);
}

static void test_same_guest_memfd(void **state)
{
	struct world w;
	struct gm_slot a, b, c;

	(void)state;
	world_init(&w, 8, 8);
	a = slot(&w, 0, 1, 0);
	b = slot(&w, 1, 1, 1);
	a.flags = b.flags = GM_SLOT_GUEST_MEMFD;
	a.gmem_fd = b.gmem_fd = 9;
	b.gmem_offset = PAGE;
	assert_true(gm_slot_same_backing(&a, &b));
	assert_true(gm_slot_same_backing(&b, &a));
	c = b;
	c.gmem_fd = 8;
	assert_false(gm_slot_same_backing(&a, &c));
	c = b;
	c.gmem_offset = 0;
	assert_false(gm_slot_same_backing(&a, &c));
	c = b;
	c.flags = 0;
	assert_false(gm_slot_same_backing(&a, &c));
	world_destroy(&w);
}

/* By a release callback; but not what a reback has replaced, or is about to bring. */
static void test_kept_alive(void **state)
{
	struct world w;
	struct gpamap_region *r;
	struct gm_slot s;

	(void)state;
	world_init(&w, 8, 8);
	r = &w.regions[0];
	s = slot(&w, 4, 4, 10);
	assert_true(gm_slot_kept_alive(&s));
	r->release = NULL;
	assert_false(gm_slot_kept_alive(&s));
	r->release = never_released;
	r->was = r->now;
	r->touched = true;
	assert_true(gm_slot_kept_alive(&s));
	r->now.hva += 16 * PAGE;
	assert_false(gm_slot_kept_alive(&s));
	/* The new memory: the caller has it back if the transaction is aborted. */
	s.hva += 16 * PAGE;
	assert_false(gm_slot_kept_alive(&s));
	r->touched = false;
	assert_true(gm_slot_kept_alive(&s));
	s.hva -= 16 * PAGE;
	assert_false(gm_slot_kept_alive(&s));
	s.region = NULL;
	assert_false(gm_slot_kept_alive(&s));
	world_destroy(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_entries_hold_references),
		cmocka_unit_test(test_same_backing),
		cmocka_unit_test(test_kept_alive),
		cmocka_unit_test(test_same_guest_memfd),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
