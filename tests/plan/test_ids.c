/* SPDX-License-Identifier: BSD-3-Clause */
/* Slot ids. */
#include "world.h"

static uint32_t take(struct gm_ids *ids)
{
	uint32_t id = 0;

	assert_true(gm_ids_take(ids, &id));
	return id;
}

static void test_lowest_first(void **state)
{
	struct gm_ids ids;

	(void)state;
	must(gm_ids_init(&ids, &gm_alloc_default, 200, 200));
	for (uint32_t i = 0; i < 200; i++)
		assert_int_equal(take(&ids), i);
	gm_ids_put(&ids, 150);
	gm_ids_put(&ids, 3);
	gm_ids_put(&ids, 64);
	assert_int_equal(ids.nr_taken, 197);
	assert_int_equal(take(&ids), 3);
	assert_int_equal(take(&ids), 64);
	assert_int_equal(take(&ids), 150);
	gm_ids_destroy(&ids);
}

static void test_no_more_than_there_are(void **state)
{
	struct gm_ids ids;
	uint32_t id = 12345;

	(void)state;
	/* A limit within a word, at its end, and none at all. */
	for (uint32_t limit = 0; limit <= 130; limit += 65) {
		must(gm_ids_init(&ids, &gm_alloc_default, limit, UINT32_MAX));
		for (uint32_t i = 0; i < limit; i++)
			take(&ids);
		assert_false(gm_ids_take(&ids, &id));
		assert_int_equal(id, 12345);
		assert_int_equal(ids.nr_taken, limit);
		gm_ids_destroy(&ids);
	}
	must(gm_ids_init(&ids, &gm_alloc_default, 64, 2));
	take(&ids);
	take(&ids);
	assert_false(gm_ids_take(&ids, &id));
	gm_ids_put(&ids, 1);
	assert_int_equal(take(&ids), 1);
	gm_ids_destroy(&ids);
}

static void test_reserved_are_left_alone(void **state)
{
	struct gm_ids ids;
	uint32_t id;

	(void)state;
	must(gm_ids_init(&ids, &gm_alloc_default, 70, 70));
	must(gm_ids_reserve(&ids, 0, 2));
	must(gm_ids_reserve(&ids, 60, 9));
	must(gm_ids_reserve(&ids, 1, 2));
	assert_int_equal(ids.nr_reserved, 12);
	for (id = 0; id < 200; id++)
		assert_int_equal(gm_ids_reserved(&ids, id), id <= 2 || (id >= 60 && id <= 68));
	assert_int_equal(take(&ids), 3);
	assert_false(gm_ids_reserved(&ids, 3));
	assert_int_equal(gm_ids_reserve(&ids, 2, 2), -EBUSY);
	assert_int_equal(ids.nr_reserved, 12);
	assert_int_equal(gm_ids_reserve(&ids, 69, 2), -ERANGE);
	assert_int_equal(gm_ids_reserve(&ids, 71, 0), -ERANGE);
	assert_int_equal(gm_ids_reserve(&ids, 1, UINT32_MAX), -ERANGE);
	must(gm_ids_reserve(&ids, 70, 0));
	for (uint32_t i = 4; i < 60; i++)
		assert_int_equal(take(&ids), i);
	assert_int_equal(take(&ids), 69);
	assert_false(gm_ids_take(&ids, &id));
	gm_ids_destroy(&ids);
}

static void test_put_twice_is_harmless(void **state)
{
	struct gm_ids ids;

	(void)state;
	must(gm_ids_init(&ids, &gm_alloc_default, 8, 8));
	take(&ids);
	gm_ids_put(&ids, 0);
	gm_ids_put(&ids, 0);
	gm_ids_put(&ids, 4000);
	assert_int_equal(ids.nr_taken, 0);
	gm_ids_destroy(&ids);
}

static void test_no_memory(void **state)
{
	struct world w;
	struct gm_ids ids;

	(void)state;
	world_init(&w, 1, 1);
	for (size_t nth = 1; nth <= 2; nth++) {
		size_t live = w.heap.live;

		w.heap.fail = w.heap.calls + nth;
		assert_int_equal(gm_ids_init(&ids, &w.heap.alloc, 8, 8), -ENOMEM);
		assert_int_equal(w.heap.live, live);
	}
	world_destroy(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lowest_first),
		cmocka_unit_test(test_no_more_than_there_are),
		cmocka_unit_test(test_reserved_are_left_alone),
		cmocka_unit_test(test_put_twice_is_harmless),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
