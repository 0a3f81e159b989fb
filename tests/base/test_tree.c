/* SPDX-License-Identifier: BSD-3-Clause */
/* The tree against a sorted array, at every step. */
#include "tree_oracle.h"

static void queries(const struct gm_node *root, const struct oracle *o, uint64_t space)
{
	for (int i = 0; i < 4; i++) {
		struct entry e = random_entry(space);
		size_t at = oracle_place(o, e.range.first, e.tag);
		const struct gm_node *n = gm_tree_find(root, e.range.first, e.tag);

		check_overlaps(root, o, e.range);
		assert_int_equal(n != NULL, oracle_has(o, at, e.range.first, e.tag));
		if (n)
			assert_is(n, &o->e[at]);
	}
}

/* Versions that readers still hold. */
#define NR_HELD 4

struct held {
	const struct gm_node *root;
	struct oracle content;
	struct gm_stale stale; /* what replaced it has left over */
};

static void random_edits(void **state)
{
	static struct oracle now, base;
	static struct held held[NR_HELD];
	struct counting c;
	struct gm_tree t;

	(void)state;
	counting_init(&c);
	gm_tree_init(&t, &id_type, &c.alloc);
	for (unsigned step = 0; step < 6000; step++) {
		uint64_t space = step % 3000 < 1500 ? 40 : 4000;

		edit(&t, &now, space, step % 2000 < 1200 ? 6 : 2);
		queries(t.root, &now, space);
		if (step % 4 == 0)
			check_tree(&t, &now);
		for (int i = 0; i < NR_HELD && step % 16 == 0; i++)
			check_all(held[i].root, &held[i].content);
		if (random_below(40) == 0) {
			struct held *h = &held[random_below(NR_HELD)];

			/* An older version may share what a newer one has made stale, so all that was
			 * held before goes first. */
			for (int i = 0; i < NR_HELD; i++) {
				gm_stale_free(&held[i].stale);
				held[i] = (struct held){0};
			}
			h->root = t.base;
			h->content = base;
			gm_tree_commit(&t, &h->stale);
			base = now;
			assert_false(gm_tree_edited(&t));
			check_all(h->root, &h->content);
		} else if (random_below(80) == 0) {
			gm_tree_abort(&t);
			now = base;
			assert_false(gm_tree_edited(&t));
			check_tree(&t, &now);
		}
	}
	for (int i = 0; i < NR_HELD; i++)
		gm_stale_free(&held[i].stale);
	gm_tree_destroy(&t);
	assert_int_equal(c.live, 0);
	assert_int_equal(nr_refs, 0);
}

/* Several versions at a time: each keeps its content until what replaced it is freed, oldest first. */
static void readers_of_old_versions(void **state)
{
	static struct held held[NR_HELD];
	static struct oracle now;
	struct counting c;
	struct gm_tree t;

	(void)state;
	counting_init(&c);
	gm_tree_init(&t, &id_type, &c.alloc);
	for (unsigned round = 0; round < 200; round++) {
		struct held *h = &held[round % NR_HELD];

		gm_stale_free(&h->stale);
		h->root = t.base;
		h->content = now;
		for (uint64_t i = random_below(30); i; i--)
			edit(&t, &now, 200, round % 20 < 12 ? 6 : 2);
		gm_tree_commit(&t, &h->stale);
		for (unsigned i = 0; i < NR_HELD; i++)
			check_all(held[i].root, &held[i].content);
		check_tree(&t, &now);
	}
	for (unsigned i = 0; i < NR_HELD; i++)
		gm_stale_free(&held[(200 + i) % NR_HELD].stale);
	gm_tree_destroy(&t);
	assert_int_equal(c.live, 0);
	assert_int_equal(nr_refs, 0);
}

static void destroy_in_the_middle(void **state)
{
	static struct oracle now;
	struct gm_stale stale;
	struct counting c;
	struct gm_tree t;

	(void)state;
	counting_init(&c);
	gm_tree_init(&t, &id_type, &c.alloc);
	for (int i = 0; i < 100; i++)
		edit(&t, &now, 100, 7);
	gm_tree_commit(&t, &stale);
	gm_stale_free(&stale);
	for (int i = 0; i < 100; i++)
		edit(&t, &now, 100, 4);
	assert_int_equal(gm_tree_reserve(&t, 20), 0);
	gm_tree_destroy(&t);
	assert_int_equal(c.live, 0);
	assert_int_equal(nr_refs, 0);
}

/* What the editor has seen in a transaction stays readable and referenced for the rest of it (T4). */
static void dropped_nodes_keep_their_content(void **state)
{
	struct entry a = {{10, 19}, 0, 7}, b = {{20, 29}, 0, 8};
	const struct gm_node *old, *fresh;
	struct gm_stale stale;
	struct counting c;
	struct gm_tree t;

	(void)state;
	counting_init(&c);
	gm_tree_init(&t, &id_type, &c.alloc);
	assert_int_equal(tree_insert(&t, a), 0);
	gm_tree_commit(&t, &stale);
	assert_null(stale.list);
	assert_int_equal(tree_insert(&t, b), 0);
	old = gm_tree_find(t.base, 10, 0);
	fresh = gm_tree_find(t.root, 20, 0);
	assert_int_equal(gm_tree_remove(&t, 10, 0), 0);
	assert_int_equal(gm_tree_remove(&t, 20, 0), 0);
	assert_null(t.root);
	for (uint64_t i = 0; i < 20; i++)
		assert_int_equal(tree_insert(&t, (struct entry){{i, i}, 1, 9}), 0);
	assert_is(old, &a);
	assert_is(fresh, &b);
	assert_true(refs[7] > 0 && refs[8] == 1);
	gm_tree_commit(&t, &stale);
	gm_stale_free(&stale);
	assert_int_equal(refs[7] + refs[8], 0);
	assert_int_equal(refs[9], 20);
	gm_tree_destroy(&t);
	assert_int_equal(nr_refs, 0);
	assert_int_equal(c.live, 0);
}

/* Edits that undo each other leave something to commit, or the reference would stay. */
static void edits_that_cancel_out(void **state)
{
	struct entry a = {{0, UINT64_MAX}, 5, 1};
	struct gm_stale stale;
	struct counting c;
	struct gm_tree t;

	(void)state;
	counting_init(&c);
	gm_tree_init(&t, &id_type, &c.alloc);
	assert_false(gm_tree_edited(&t));
	assert_int_equal(tree_insert(&t, a), 0);
	assert_int_equal(tree_insert(&t, a), -EEXIST);
	assert_int_equal(gm_tree_remove(&t, 0, 5), 0);
	assert_int_equal(gm_tree_remove(&t, 0, 5), -ENOENT);
	assert_true(gm_tree_edited(&t));
	gm_tree_commit(&t, &stale);
	gm_stale_free(&stale);
	assert_int_equal(nr_refs, 0);
	gm_tree_destroy(&t);
	assert_int_equal(c.live, 0);
}

static void for_each_while_editing(void **state)
{
	struct counting c;
	struct gm_tree t;
	size_t seen = 0;

	(void)state;
	counting_init(&c);
	gm_tree_init(&t, &id_type, &c.alloc);
	for (uint64_t i = 0; i < 100; i++)
		assert_int_equal(tree_insert(&t, (struct entry){{i, i}, 0, i % NR_IDS}), 0);
	gm_tree_for_each (n, t.root, ((struct gm_range){10, 89})) {
		seen++;
		assert_int_equal(gm_tree_remove(&t, n->range.first, n->tag), 0);
	}
	assert_int_equal(seen, 80);
	assert_int_equal(t.count, 20);
	gm_tree_destroy(&t);
	assert_int_equal(c.live, 0);
}

/* Types without references, and without data. */
static void plain_types(void **state)
{
	static const struct gm_tree_type empty = {0};
	struct gm_stale stale;
	struct counting c;
	struct gm_tree t;

	(void)state;
	counting_init(&c);
	gm_tree_init(&t, &empty, &c.alloc);
	for (uint64_t tag = 0; tag < 50; tag++)
		assert_int_equal(gm_tree_insert(&t, (struct gm_range){3, 3}, tag, NULL), 0);
	gm_tree_commit(&t, &stale);
	gm_stale_free(&stale);
	for (uint64_t tag = 0; tag < 50; tag += 2)
		assert_int_equal(gm_tree_remove(&t, 3, tag), 0);
	assert_int_equal(check_shape(t.root, t.stamp).count, 25);
	gm_tree_destroy(&t);
	assert_int_equal(c.live, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_edits),
		cmocka_unit_test(readers_of_old_versions),
		cmocka_unit_test(destroy_in_the_middle),
		cmocka_unit_test(dropped_nodes_keep_their_content),
		cmocka_unit_test(edits_that_cancel_out),
		cmocka_unit_test(for_each_while_editing),
		cmocka_unit_test(plain_types),
	};

	random_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
