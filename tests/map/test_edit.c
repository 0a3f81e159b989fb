/* SPDX-License-Identifier: BSD-3-Clause */
/* What edits refuse, with which errno and which words; and that a refusal, or a lack of memory, changes
 * nothing. */
#include "fixture.h"

static void *const hva = (void *)(uintptr_t)0x10000000;

static int check_words(struct env *e, int got, int err, const char *words)
{
	if (got != err || !strstr(e->msg.text, words))
		fail_msg("%d, '%s': not %d, '%s'", got, e->msg.text, err, words);
	/* A refusal touches nothing, and marks nothing. */
	assert_null(e->map.touched);
	assert_int_equal(e->map.spaces[0].windows.n, 0);
	e->msg.text[0] = '\0';
	return 0;
}

/* The message is written first: then it is looked at. */
#define REFUSED(e, call, err, words)              \
	do {                                      \
		int got_ = (call);                \
                                                  \
		check_words(e, got_, err, words); \
	} while (0)

static struct gpamap_region *container(struct env *e, const char *name)
{
	return MAKE(e, .kind = GPAMAP_CONTAINER, .name = name, .size = 16 * PAGE);
}

static struct gpamap_region *ram(struct env *e, const char *name)
{
	return MAKE(e, .kind = GPAMAP_RAM, .name = name, .size = 2 * PAGE, .max_size = 4 * PAGE,
		    .hva = hva);
}

static void add_refuses(void **state)
{
	struct env *e = *state;
	struct gm_map *m = &e->map;
	struct gm_msg *msg = &e->msg;
	struct gpamap_region *r = ram(e, "ram"), *other = ram(e, "other");
	struct gpamap_region *box = container(e, "box");
	struct gpamap_region *odd = MAKE(e, .kind = GPAMAP_MMIO, .size = 3);

	REFUSED(e, gm_edit_add(m, r, 0, other, 0, msg), -ENOTDIR, "'ram' is no container");
	REFUSED(e, gm_edit_add(m, box, 0, root(e, 1), 0, msg), -EBUSY, "root of an address space");
	REFUSED(e, gm_edit_add(m, box, 0x1800, r, 0, msg), -EINVAL, "offset 0x1800 of 'ram'");
	REFUSED(e, gm_edit_add(m, box, 0 - PAGE, r, 0, msg), -EOVERFLOW,
		"0x2000 bytes at offset 0xfffffffffffff000 of 'box'");
	REFUSED(e, gm_edit_add(m, box, UINT64_MAX - 1, odd, 0, msg), -EOVERFLOW, "beyond 2^64");
	ok(e, gm_edit_add(m, box, UINT64_MAX - 2, odd, 0, msg));
	ok(e, gm_edit_add(m, box, 0 - 2 * PAGE, r, 0, msg));
	gm_edits_commit(m);
	REFUSED(e, gm_edit_add(m, root(e, 0), 0, r, 0, msg), -EBUSY, "'ram' is in 'box' already");
	put(r);
	put(other);
	put(box);
	put(odd);
}

static void add_refuses_cycles(void **state)
{
	struct env *e = *state;
	struct gm_map *m = &e->map;
	struct gm_msg *msg = &e->msg;
	struct gpamap_region *a = container(e, "a"), *b = container(e, "b"), *c = container(e, "c");
	struct gpamap_region *show_a =
		MAKE(e, .kind = GPAMAP_ALIAS, .name = "show", .size = PAGE, .target = a);
	struct gpamap_region *show_root =
		MAKE(e, .kind = GPAMAP_ALIAS, .name = "all", .size = PAGE, .target = root(e, 0));

	REFUSED(e, gm_edit_add(m, a, 0, a, 0, msg), -ELOOP, "'a' would lie within itself");
	ok(e, gm_edit_add(m, a, 0, b, 0, msg));
	ok(e, gm_edit_add(m, b, 0, c, 0, msg));
	/* Neither being disabled nor being out of sight is a reason to let it pass. */
	ok(e, gm_edit_enabled(m, b, false, msg));
	gm_edits_commit(m);
	REFUSED(e, gm_edit_add(m, c, 0, a, 0, msg), -ELOOP, "'c' is below it");
	REFUSED(e, gm_edit_add(m, c, 0, show_a, 0, msg), -ELOOP, "'show' would lie within itself");
	REFUSED(e, gm_edit_add(m, a, 5 * PAGE, show_a, 0, msg), -ELOOP, "within itself");
	REFUSED(e, gm_edit_add(m, root(e, 0), 0, show_root, 0, msg), -ELOOP, "'all'");
	ok(e, gm_edit_add(m, root(e, 1), 0, show_root, 0, msg));
	ok(e, gm_edit_add(m, root(e, 0), 0, show_a, 0, msg));
	ok(e, gm_edit_add(m, root(e, 0), PAGE, a, 0, msg));
	gm_edits_commit(m);
	/* What is taken out may be put on top, in one transaction. */
	ok(e, gm_edit_remove(m, c, msg));
	ok(e, gm_edit_remove(m, a, msg));
	ok(e, gm_edit_add(m, c, 0, a, 0, msg));
	gm_edits_commit(m);
	assert_ptr_equal(a->now.parent, c);
	put(a);
	put(b);
	put(c);
	put(show_a);
	put(show_root);
}

static void place_verbs_refuse(void **state)
{
	struct env *e = *state;
	struct gm_map *m = &e->map;
	struct gm_msg *msg = &e->msg;
	struct gpamap_region *r = ram(e, "ram"), *box = container(e, "box");

	REFUSED(e, gm_edit_remove(m, r, msg), -ENOENT, "'ram' is in no container");
	REFUSED(e, gm_edit_move(m, r, 0, msg), -ENOENT, "'ram' is in no container");
	REFUSED(e, gm_edit_priority(m, r, 0, msg), -ENOENT, "'ram' is in no container");
	REFUSED(e, gm_edit_remove(m, root(e, 0), msg), -ENOENT, "'root' is in no container");
	ok(e, gm_edit_add(m, box, PAGE, r, 7, msg));
	gm_edits_commit(m);
	REFUSED(e, gm_edit_move(m, r, 1, msg), -EINVAL, "offset 0x1 of 'ram'");
	REFUSED(e, gm_edit_move(m, r, 0 - PAGE, msg), -EOVERFLOW, "beyond 2^64");
	assert_int_equal(r->now.offset, PAGE);
	assert_int_equal(r->now.priority, 7);
	put(r);
	put(box);
}

static void resize_refuses(void **state)
{
	struct env *e = *state;
	struct gm_map *m = &e->map;
	struct gm_msg *msg = &e->msg;
	struct gpamap_region *r = ram(e, "ram"), *box = container(e, "box");
	struct gpamap_region *alias =
		MAKE(e, .kind = GPAMAP_ALIAS, .name = "alias", .size = PAGE,
		     .max_size = GPAMAP_SIZE_MAX, .target = box, .target_offset = PAGE);

	REFUSED(e, gm_edit_resize(m, box, PAGE, msg), -EPERM, "'box' was made without a max_size");
	REFUSED(e, gm_edit_resize(m, r, 0, msg), -ERANGE, "size 0x0 is not in 1 to 0x4000");
	REFUSED(e, gm_edit_resize(m, r, 5 * PAGE, msg), -ERANGE, "0x5000");
	REFUSED(e, gm_edit_resize(m, r, 0x1001, msg), -EINVAL, "0x1001");
	REFUSED(e, gm_edit_resize(m, alias, GPAMAP_SIZE_MAX, msg), -EOVERFLOW, "window");
	ok(e, gm_edit_add(m, box, 0 - 3 * PAGE, r, 0, msg));
	gm_edits_commit(m);
	REFUSED(e, gm_edit_resize(m, r, 4 * PAGE, msg), -EOVERFLOW, "beyond 2^64");
	ok(e, gm_edit_resize(m, r, 3 * PAGE, msg));
	assert_int_equal(r->now.size, 3 * PAGE);
	gm_edits_abort(m);
	assert_int_equal(r->now.size, 2 * PAGE);
	put(r);
	put(box);
	put(alias);
}

static void state_verbs_refuse(void **state)
{
	struct env *e = *state;
	struct gm_map *m = &e->map;
	struct gm_msg *msg = &e->msg;
	struct gpamap_region *r = ram(e, "ram"), *box = container(e, "box");
	struct gpamap_region *gmem = MAKE(e, .kind = GPAMAP_RAM, .name = "gmem", .size = PAGE,
					  .hva = hva, .flags = GPAMAP_GUEST_MEMFD);
	struct gpamap_region *alias =
		MAKE(e, .kind = GPAMAP_ALIAS, .name = "alias", .size = 2 * PAGE, .target = box);

	REFUSED(e, gm_edit_readonly(m, gmem, true, msg), -EPERM, "'gmem'");
	REFUSED(e, gm_edit_reback(m, box, hva, msg), -ENOTSUP, "'box' is of kind container");
	REFUSED(e, gm_edit_reback(m, gmem, hva, msg), -ENOTSUP, "RAM with guest_memfd");
	REFUSED(e, gm_edit_reback(m, r, NULL, msg), -EINVAL, "NULL");
	REFUSED(e, gm_edit_reback(m, r, (char *)hva + 8, msg), -EINVAL, "0x10000008");
	/* There must be room for the greatest size, not only for that of now. */
	REFUSED(e, gm_edit_reback(m, r, (void *)(uintptr_t)(0 - 2 * PAGE), msg), -EOVERFLOW,
		"0x4000 bytes");
	REFUSED(e, gm_edit_target_offset(m, r, 0, msg), -ENOTSUP, "'ram' is no alias");
	REFUSED(e, gm_edit_target_offset(m, alias, 9, msg), -EINVAL, "0x9");
	REFUSED(e, gm_edit_target_offset(m, alias, 0 - PAGE, msg), -EOVERFLOW, "beyond 2^64");
	REFUSED(e, gm_edit_rom_mode(m, r, true, msg), -ENOTSUP, "'ram' is no ROM device");
	REFUSED(e, gm_edit_log(m, box, true, msg), -ENOTSUP, "'box' is of kind container");
	REFUSED(e, gm_edit_log(m, gmem, true, msg), -ENOTSUP, "RAM with guest_memfd");
	put(r);
	put(box);
	put(gmem);
	put(alias);
}

static void regions_of_other_maps_are_refused(void **state)
{
	struct env *e = *state;
	struct gm_map *m = &e->map;
	struct gm_msg *msg = &e->msg;
	struct env other;
	struct gpamap_region *f, *box = container(e, "box");

	env_init(&other);
	f = ram(&other, "foreign");
#define FOREIGN(call) REFUSED(e, call, -EXDEV, "belongs to another map")
	FOREIGN(gm_edit_add(m, box, 0, f, 0, msg));
	FOREIGN(gm_edit_add(m, root(&other, 0), 0, box, 0, msg));
	FOREIGN(gm_edit_remove(m, f, msg));
	FOREIGN(gm_edit_move(m, f, 0, msg));
	FOREIGN(gm_edit_priority(m, f, 0, msg));
	FOREIGN(gm_edit_resize(m, f, PAGE, msg));
	FOREIGN(gm_edit_enabled(m, f, false, msg));
	FOREIGN(gm_edit_readonly(m, f, true, msg));
	FOREIGN(gm_edit_reback(m, f, hva, msg));
	FOREIGN(gm_edit_target_offset(m, f, 0, msg));
	FOREIGN(gm_edit_rom_mode(m, f, true, msg));
	FOREIGN(gm_edit_log(m, f, true, msg));
	FOREIGN(gm_ranges_map_region(m, 0, 0, PAGE, f, 0, GPAMAP_RW, msg));
	put(f);
	put(box);
	env_destroy(&other);
}

static void edits_without_effect_touch_nothing(void **state)
{
	struct env *e = *state;
	struct gm_map *m = &e->map;
	struct gpamap_region *r = ram(e, "ram");
	uint64_t seq;

	ok(e, gm_edit_enabled(m, r, true, NULL));
	ok(e, gm_edit_readonly(m, r, false, NULL));
	ok(e, gm_edit_resize(m, r, 2 * PAGE, NULL));
	ok(e, gm_edit_reback(m, r, hva, NULL));
	ok(e, gm_edit_log(m, r, false, NULL));
	ok(e, gm_edit_add(m, root(e, 0), PAGE, r, 3, NULL));
	gm_edits_commit(m);
	seq = r->now.seq;
	ok(e, gm_edit_move(m, r, PAGE, NULL));
	assert_int_equal(r->now.seq, seq);
	assert_int_equal(m->spaces[0].windows.n, 0);
	assert_null(m->touched);
	assert_null(r->dirty);
	put(r);
}

static void dirty_bits_are_made_once(void **state)
{
	struct env *e = *state;
	struct gpamap_region *r =
		MAKE(e, .kind = GPAMAP_RAM, .size = PAGE, .max_size = 65 * PAGE, .hva = hva);
	void *bits;

	ok(e, gm_edit_log(&e->map, r, true, NULL));
	bits = (void *)r->dirty;
	assert_non_null(bits);
	assert_int_equal(r->dirty[0], 0);
	assert_int_equal(r->dirty[1], 0);
	gm_edits_abort(&e->map);
	assert_false(r->now.log);
	ok(e, gm_edit_log(&e->map, r, true, NULL));
	gm_edits_commit(&e->map);
	assert_true(r->now.log);
	assert_ptr_equal((void *)r->dirty, bits);
	put(r);
}

/* A way up with as many forks as there are: the edit that marks it fails at each allocation. */
static void lack_of_memory_changes_nothing(void **state)
{
	struct env *e = *state;
	struct gm_map *m = &e->map;
	struct gpamap_region *box = container(e, "box"), *r = ram(e, "ram"), *alias[12];
	unsigned failures = 0;

	ok(e, gm_edit_add(m, root(e, 0), 0, box, 0, &e->msg));
	for (unsigned i = 0; i < 12; i++) {
		alias[i] = MAKE(e, .kind = GPAMAP_ALIAS, .size = 8 * PAGE, .target = box);
		ok(e, gm_edit_add(m, root(e, 0), (i + 1) * 0x100 * PAGE, alias[i], 0, &e->msg));
	}
	commit(e);
	/* For good: arrays that can't double make do with less. */
	e->mem.for_good = true;
	for (size_t n = 1;; n++) {
		int err;

		fail_nth(e, n);
		err = gm_edit_add(m, box, 0, r, 0, &e->msg);
		if (e->mem.calls < n)
			break;
		fail_nth(e, 0);
		if (err) {
			failures++;
			assert_int_equal(err, -ENOMEM);
			assert_string_equal(e->msg.text, "no memory to add 'ram'");
			assert_null(r->now.parent);
			assert_null(m->touched);
			expect(e, 0, "");
		}
		gm_edits_abort(m);
		gm_tree_abort(&e->view[0]);
	}
	fail_nth(e, 0);
	assert_true(failures >= 3);
	ok(e, flatten_windows(e, 0));
	assert_int_equal(e->view[0].count, 13);
	gm_edits_abort(m);
	for (unsigned i = 0; i < 12; i++)
		put(alias[i]);
	put(box);
	put(r);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(add_refuses),
		TEST(add_refuses_cycles),
		TEST(place_verbs_refuse),
		TEST(resize_refuses),
		TEST(state_verbs_refuse),
		TEST(regions_of_other_maps_are_refused),
		TEST(edits_without_effect_touch_nothing),
		TEST(dirty_bits_are_made_once),
		TEST(lack_of_memory_changes_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
