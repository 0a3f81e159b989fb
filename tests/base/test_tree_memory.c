/* SPDX-License-Identifier: BSD-3-Clause */
/* The tree and memory: allocations that fail, reserves, and how much a transaction holds. */
#include "tree_oracle.h"

/* The nth allocation of an edit fails: nothing has changed, and the same edit succeeds later. */
static void every_allocation_fails(void **state)
{
	static struct oracle now;
	struct counting c;
	struct gm_tree t;

	(void)state;
	counting_init(&c);
	for (size_t n = 0; n < 120; n++) {
		struct gm_tree *p = &t;
		size_t failed = 0;
		uint64_t saved;
		int err;

		gm_tree_init(p, &id_type, &c.alloc);
		fill(p, &now, n, 300);
		saved = random_state;
		do {
			struct entry e = {{random_below(300), 400}, 9, 3};
			const struct gm_node *root = p->root;

			empty_pool(p);
			random_state = saved;
			counting_fail(&c, failed + 1, failed % 2);
			if (n % 2 && now.n)
				err = gm_tree_remove(p, now.e[n % now.n].range.first,
						     now.e[n % now.n].tag);
			else
				err = tree_insert(p, e);
			counting_fail(&c, 0, false);
			if (!err)
				break;
			assert_int_equal(err, -ENOMEM);
			assert_ptr_equal(p->root, root);
			check_tree(p, &now);
			failed++;
		} while (true);
		assert_true(failed > 0);
		gm_tree_abort(p);
		check_tree(p, &now);
		gm_tree_destroy(p);
	}
	assert_int_equal(c.live, 0);
	assert_int_equal(nr_refs, 0);
}

/* After a reserve, that many edits need no memory, whatever they are. */
static void reserved_edits_never_fail(void **state)
{
	static struct oracle now;
	struct counting c;

	(void)state;
	counting_init(&c);
	for (unsigned round = 0; round < 400; round++) {
		size_t n = random_below(round % 4 ? 250 : 12), edits = 1 + random_below(120);
		struct gm_stale stale;
		struct gm_tree t;

		gm_tree_init(&t, &id_type, &c.alloc);
		fill(&t, &now, n, 1000);
		for (uint64_t i = random_below(20); i; i--)
			edit(&t, &now, 1000, 5);
		empty_pool(&t);
		assert_int_equal(gm_tree_reserve(&t, edits), 0);
		counting_fail(&c, 1, true);
		for (size_t i = 0; i < edits; i++)
			edit(&t, &now, 1000, round % 9);
		counting_fail(&c, 0, false);
		check_tree(&t, &now);
		gm_tree_commit(&t, &stale);
		check_tree(&t, &now);
		gm_stale_free(&stale);
		gm_tree_destroy(&t);
	}
	assert_int_equal(c.live, 0);
	assert_int_equal(nr_refs, 0);
}

/* Ordered inserts grow the tree fastest, ordered removals rotate most. */
static void reserved_edits_in_order(void **state)
{
	struct counting c;

	(void)state;
	counting_init(&c);
	for (uint64_t n = 0; n < 130; n += 1 + n / 10) {
		for (uint64_t edits = 1; edits < 40; edits += 1 + edits / 8) {
			struct gm_stale stale;
			struct gm_tree t;
			uint64_t id = 5;

			gm_tree_init(&t, &id_type, &c.alloc);
			for (uint64_t i = 0; i < n; i++)
				assert_int_equal(
					gm_tree_insert(&t, (struct gm_range){i, i}, 0, &id), 0);
			gm_tree_commit(&t, &stale);
			gm_stale_free(&stale);
			empty_pool(&t);
			assert_int_equal(gm_tree_reserve(&t, edits), 0);
			counting_fail(&c, 1, true);
			for (uint64_t i = 0; i < edits; i++)
				assert_int_equal(
					i < edits / 2 && i < n
						? gm_tree_remove(&t, i, 0)
						: gm_tree_insert(&t,
								 (struct gm_range){n + i, n + i}, 0,
								 &id),
					0);
			counting_fail(&c, 0, false);
			check_shape(t.root, t.stamp);
			gm_tree_destroy(&t);
		}
	}
	assert_int_equal(c.live, 0);
	assert_int_equal(nr_refs, 0);
}

/* Insert the entries of a thinnest tree of a height in [first, first + its size), level by level, so that
 * nothing rotates. The left side is the lower one all along the left edge; elsewhere (@inner) it is the
 * higher one, so that what the edge has beside it must be rotated twice. Returns its size. */
static uint64_t thinnest(struct gm_tree *t, int height, int depth, uint64_t first, bool inner)
{
	uint64_t left, right, id = 2;

	if (height <= 0)
		return 0;
	left = thinnest(t, height - (inner ? 1 : 2), depth - 1, first, false);
	right = thinnest(t, height - (inner ? 2 : 1), depth - 1, first + left + 1, true);
	if (depth == 0)
		assert_int_equal(gm_tree_insert(t, (struct gm_range){first + left, first + left}, 0,
						&id),
				 0);
	return left + 1 + right;
}

/* The removal that rotates at every level of its path needs the most copies. */
static void removals_that_rotate_most(void **state)
{
	struct counting c;

	(void)state;
	counting_init(&c);
	for (int height = 1; height <= 12; height++) {
		struct gm_stale stale;
		struct gm_tree t;
		uint64_t n = 0;

		gm_tree_init(&t, &id_type, &c.alloc);
		for (int depth = 0; depth < height; depth++)
			n = thinnest(&t, height, depth, 0, false);
		gm_tree_commit(&t, &stale);
		gm_stale_free(&stale);
		assert_int_equal(t.count, n);
		assert_int_equal(t.root->height, height);
		for (uint64_t i = 0; i < n; i++) {
			empty_pool(&t);
			assert_int_equal(gm_tree_reserve(&t, 1), 0);
			counting_fail(&c, 1, true);
			assert_int_equal(gm_tree_remove(&t, i, 0), 0);
			counting_fail(&c, 0, false);
			check_shape(t.root, t.stamp);
			gm_tree_abort(&t);
		}
		gm_tree_destroy(&t);
	}
	assert_int_equal(c.live, 0);
	assert_int_equal(nr_refs, 0);
}

static void reserve_fails(void **state)
{
	static struct oracle now;
	struct counting c;
	struct gm_tree t;

	(void)state;
	counting_init(&c);
	gm_tree_init(&t, &id_type, &c.alloc);
	fill(&t, &now, 100, 1000);
	assert_int_equal(gm_tree_reserve(&t, SIZE_MAX), -ENOMEM);
	for (size_t nth = 1; nth < 50; nth++) {
		counting_fail(&c, nth, true);
		assert_int_equal(gm_tree_reserve(&t, 100000), -ENOMEM);
		counting_fail(&c, 0, false);
		check_tree(&t, &now);
	}
	gm_tree_destroy(&t);
	assert_int_equal(c.live, 0);
	assert_int_equal(nr_refs, 0);
}

/* Many edits in one transaction: the nodes that it holds are bounded by entries and inserts, not by
 * edits times height. */
static void memory_of_a_long_transaction(void **state)
{
	enum { ENTRIES = 20000, EDITS = 40000 };
	struct gm_stale stale;
	struct counting c;
	struct gm_tree t;
	uint64_t id = 1;

	(void)state;
	counting_init(&c);
	gm_tree_init(&t, &id_type, &c.alloc);
	for (uint64_t i = 0; i < ENTRIES; i++)
		assert_int_equal(gm_tree_insert(&t, (struct gm_range){i * 8, i * 8 + 7}, 0, &id),
				 0);
	gm_tree_commit(&t, &stale);
	gm_stale_free(&stale);
	for (uint64_t i = 0; i < EDITS / 2; i++) {
		uint64_t first = i * 7919 % ENTRIES * 8;

		assert_int_equal(gm_tree_remove(&t, first, 0), 0);
		assert_int_equal(gm_tree_insert(&t, (struct gm_range){first, first + 7}, 0, &id),
				 0);
	}
	assert_int_equal(t.count, ENTRIES);
	assert_in_range(c.live, ENTRIES, 2 * ENTRIES + EDITS / 2 + 100);
	check_shape(t.root, t.stamp);
	gm_tree_abort(&t);
	assert_in_range(c.live, ENTRIES, ENTRIES + 100);
	/* A small commit frees only what it has replaced. */
	assert_int_equal(gm_tree_remove(&t, 0, 0), 0);
	gm_tree_commit(&t, &stale);
	assert_in_range(length(stale.list), 1, 60);
	gm_stale_free(&stale);
	/* A reserve that was not needed goes with the transaction. */
	assert_int_equal(gm_tree_reserve(&t, 1000), 0);
	gm_tree_commit(&t, &stale);
	assert_in_range(c.live, ENTRIES - 1, ENTRIES + 100);
	assert_int_equal(gm_tree_reserve(&t, 1000), 0);
	gm_tree_abort(&t);
	assert_in_range(c.live, ENTRIES - 1, ENTRIES + 100);
	gm_tree_destroy(&t);
	assert_int_equal(c.live, 0);
	assert_int_equal(nr_refs, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_allocation_fails),
		cmocka_unit_test(reserved_edits_never_fail),
		cmocka_unit_test(reserved_edits_in_order),
		cmocka_unit_test(removals_that_rotate_most),
		cmocka_unit_test(reserve_fails),
		cmocka_unit_test(memory_of_a_long_transaction),
	};

	random_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
