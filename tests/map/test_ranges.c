/* SPDX-License-Identifier: BSD-3-Clause */
/* The plain way: map, unmap, protect; the newest wins; and that each verb costs little among many mappings. */
#include <float.h>
#include <stdlib.h>
#include <time.h>

#include "fixture.h"

static void *const hva = (void *)(uintptr_t)0x10000000;

static struct gpamap_region *ram(struct env *e, const char *name, unsigned flags)
{
	return MAKE(e, .kind = GPAMAP_RAM, .name = name, .size = 16 * PAGE, .max_size = 32 * PAGE,
		    .hva = hva, .flags = flags);
}

static int map(struct env *e, uint64_t page, uint64_t n, enum gpamap_prot prot)
{
	return gm_ranges_map(&e->map, 0, page * PAGE, n * PAGE, hva, prot, &e->msg);
}

static int show(struct env *e, uint64_t page, uint64_t n, struct gpamap_region *r, uint64_t from,
		enum gpamap_prot prot)
{
	return gm_ranges_map_region(&e->map, 0, page * PAGE, n * PAGE, r, from * PAGE, prot,
				    &e->msg);
}

static int unmap(struct env *e, uint64_t page, uint64_t n)
{
	return gm_ranges_unmap(&e->map, 0, page * PAGE, n * PAGE, &e->msg);
}

static int protect(struct env *e, uint64_t page, uint64_t n, enum gpamap_prot prot)
{
	return gm_ranges_protect(&e->map, 0, page * PAGE, n * PAGE, prot, &e->msg);
}

static size_t pieces(struct env *e)
{
	return e->map.spaces[0].ranges.count;
}

/* ------------------------------------------------------------------------------ refusals --- */

static void refused(struct env *e, int got, int err, const char *words)
{
	if (got != err || !strstr(e->msg.text, words))
		fail_msg("%d, '%s': not %d, '%s'", got, e->msg.text, err, words);
	assert_null(e->map.touched);
	assert_int_equal(e->map.spaces[0].windows.n, 0);
	assert_false(gm_tree_edited(&e->map.spaces[0].ranges));
	e->msg.text[0] = '\0';
}

#define REFUSED(e, call, err, words)          \
	do {                                  \
		int got_ = (call);            \
                                              \
		refused(e, got_, err, words); \
	} while (0)

static void bad_ranges_are_refused(void **state)
{
	struct env *e = *state;
	struct gm_map *m = &e->map;
	struct gm_msg *msg = &e->msg;

	REFUSED(e, gm_ranges_unmap(m, 2, 0, PAGE, msg), -ENXIO, "no address space 2");
	REFUSED(e, gm_ranges_map(m, 9, 0, PAGE, hva, GPAMAP_RW, msg), -ENXIO, "space 9");
	REFUSED(e, gm_ranges_protect(m, 2, 0, PAGE, GPAMAP_RW, msg), -ENXIO, "space 2");
	REFUSED(e, gm_ranges_unmap(m, 0, PAGE, 0, msg), -EINVAL, "size at GPA 0x1000 is 0");
	REFUSED(e, gm_ranges_unmap(m, 0, 0x10, PAGE, msg), -EINVAL, "GPA 0x10");
	REFUSED(e, gm_ranges_unmap(m, 0, 0, 0x1010, msg), -EINVAL, "size 0x1010");
	REFUSED(e, gm_ranges_unmap(m, 0, 0 - PAGE, 2 * PAGE, msg), -EOVERFLOW, "beyond 2^64");
	REFUSED(e, gm_ranges_protect(m, 0, PAGE, GPAMAP_SIZE_MAX, GPAMAP_RW, msg), -EOVERFLOW,
		"beyond 2^64");
	REFUSED(e, gm_ranges_map(m, 0, 0, PAGE, NULL, GPAMAP_RW, msg), -EINVAL, "NULL");
	REFUSED(e, gm_ranges_map(m, 0, 0, PAGE, (char *)hva + 1, GPAMAP_RW, msg), -EINVAL,
		"0x10000001");
	REFUSED(e, gm_ranges_map(m, 0, 0, GPAMAP_SIZE_MAX, hva, GPAMAP_RW, msg), -EOVERFLOW,
		"hva 0x10000000");
	REFUSED(e, map(e, 0, 1, (enum gpamap_prot)0), -EINVAL, "no protection 0");
	REFUSED(e, map(e, 0, 1, (enum gpamap_prot)4), -EINVAL, "no protection 4");
	REFUSED(e, protect(e, 0, 1, (enum gpamap_prot)4), -EINVAL, "no protection 4");
}

static void bad_regions_are_refused(void **state)
{
	struct env *e = *state;
	struct gm_map *m = &e->map;
	struct gm_msg *msg = &e->msg;
	struct gpamap_region *r = ram(e, "ram", 0), *g = ram(e, "g", GPAMAP_GUEST_MEMFD);

	REFUSED(e, show(e, 0, 1, root(e, 1), 0, GPAMAP_RW), -ENOTSUP, "'root' is no RAM");
	REFUSED(e, show(e, 0, 17, r, 0, GPAMAP_RW), -ERANGE, "not within 'ram' of 0x10000 bytes");
	REFUSED(e, show(e, 0, 1, r, 16, GPAMAP_RW), -ERANGE, "0x1000 bytes from offset 0x10000");
	REFUSED(e, gm_ranges_map_region(m, 0, 0, PAGE, r, 8, GPAMAP_RW, msg), -EINVAL,
		"offset 0x8 in 'ram'");
	REFUSED(e, gm_ranges_map_region(m, 0, 0, 2 * PAGE, r, 0 - PAGE, GPAMAP_RW, msg), -EOVERFLOW,
		"beyond 2^64");
	REFUSED(e, gm_ranges_map_region(m, 3, 0, PAGE, r, 0, GPAMAP_RW, msg), -ENXIO, "space 3");
	REFUSED(e, show(e, 0, 1, g, 0, GPAMAP_RO), -EPERM, "'g': guest_memfd");
	ok(e, show(e, 0, 1, g, 0, GPAMAP_RW));
	commit(e);
	REFUSED(e, protect(e, 0, 1, GPAMAP_RO), -EPERM, "'g': guest_memfd");
	ok(e, protect(e, 0, 1, GPAMAP_NONE));
	put(r);
	put(g);
}

static void protect_wants_all_of_it_mapped(void **state)
{
	struct env *e = *state;

	REFUSED(e, protect(e, 0, 1, GPAMAP_RO), -ENOENT, "nothing is mapped at GPA 0x0");
	ok(e, map(e, 1, 2, GPAMAP_RW));
	ok(e, map(e, 4, 1, GPAMAP_RW));
	ok(e, gm_ranges_map(&e->map, 0, 0 - PAGE, PAGE, hva, GPAMAP_RW, &e->msg));
	commit(e);
	REFUSED(e, protect(e, 0, 2, GPAMAP_RO), -ENOENT, "at GPA 0x0, within 0x0-0x1fff");
	REFUSED(e, protect(e, 1, 4, GPAMAP_RO), -ENOENT, "at GPA 0x3000");
	REFUSED(e, protect(e, 4, 2, GPAMAP_RO), -ENOENT, "at GPA 0x5000");
	REFUSED(e, protect(e, 3, 1, GPAMAP_RO), -ENOENT, "at GPA 0x3000");
	ok(e, protect(e, 2, 1, GPAMAP_RO));
	ok(e, gm_ranges_protect(&e->map, 0, 0 - PAGE, PAGE, GPAMAP_RO, &e->msg));
	expect(e, 0,
	       "1000-1fff pages+10000000 RAM | 2000-2fff pages+10001000 RAM,ro | "
	       "4000-4fff pages+10000000 RAM | "
	       "fffffffffffff000-ffffffffffffffff pages+10000000 RAM,ro");
}

/* --------------------------------------------------------------------------------- cases --- */

static void the_newest_wins(void **state)
{
	struct env *e = *state;
	struct gpamap_region *r = ram(e, "r", 0);

	ok(e, map(e, 0, 4, GPAMAP_RW));
	ok(e, show(e, 1, 2, r, 5, GPAMAP_RW));
	expect(e, 0,
	       "0-fff pages+10000000 RAM | 1000-2fff r+5000 RAM | 3000-3fff pages+10003000 RAM");
	ok(e, map(e, 2, 8, GPAMAP_RO));
	expect(e, 0,
	       "0-fff pages+10000000 RAM | 1000-1fff r+5000 RAM | 2000-9fff pages+10000000 RAM,ro");
	ok(e, show(e, 0, 16, r, 0, GPAMAP_RW));
	expect(e, 0, "0-ffff r+0 RAM");
	put(r);
}

static void below_lies_the_tree(void **state)
{
	struct env *e = *state;
	struct gpamap_region *dev =
		MAKE(e, .kind = GPAMAP_MMIO, .name = "dev", .size = 8 * PAGE - 1);

	ok(e, gm_edit_add(&e->map, root(e, 0), 1, dev, 1000, &e->msg));
	ok(e, map(e, 2, 1, GPAMAP_RW));
	ok(e, map(e, 3, 1, GPAMAP_NONE));
	expect(e, 0,
	       "1-1fff dev+0 MMIO | 2000-2fff pages+10000000 RAM | 3000-3fff pages+10000000 NONE | "
	       "4000-7fff dev+3fff MMIO");
	ok(e, gm_ranges_unmap(&e->map, 0, 0, GPAMAP_SIZE_MAX, &e->msg));
	expect(e, 0, "1-7fff dev+0 MMIO");
	assert_int_equal(pieces(e), 0);
	put(dev);
}

static void unmap_cuts(void **state)
{
	struct env *e = *state;

	ok(e, unmap(e, 0, 100));
	assert_int_equal(e->map.spaces[0].windows.n, 0);
	ok(e, map(e, 0, 8, GPAMAP_RW));
	ok(e, unmap(e, 3, 2));
	expect(e, 0, "0-2fff pages+10000000 RAM | 5000-7fff pages+10005000 RAM");
	ok(e, unmap(e, 0, 1));
	ok(e, unmap(e, 7, 9));
	expect(e, 0, "1000-2fff pages+10001000 RAM | 5000-6fff pages+10005000 RAM");
	ok(e, unmap(e, 2, 4));
	expect(e, 0, "1000-1fff pages+10001000 RAM | 6000-6fff pages+10006000 RAM");
}

static void protect_cuts_and_joins(void **state)
{
	struct env *e = *state;

	ok(e, map(e, 0, 8, GPAMAP_RW));
	ok(e, protect(e, 2, 2, GPAMAP_RO));
	ok(e, protect(e, 3, 2, GPAMAP_NONE));
	expect(e, 0,
	       "0-1fff pages+10000000 RAM | 2000-2fff pages+10002000 RAM,ro | "
	       "3000-4fff pages+10003000 NONE | 5000-7fff pages+10005000 RAM");
	assert_int_equal(pieces(e), 4);
	ok(e, protect(e, 2, 1, GPAMAP_RW));
	assert_int_equal(pieces(e), 3);
	ok(e, protect(e, 3, 2, GPAMAP_RW));
	expect(e, 0, "0-7fff pages+10000000 RAM");
	assert_int_equal(pieces(e), 1);
	ok(e, protect(e, 0, 8, GPAMAP_RW));
	assert_int_equal(pieces(e), 1);
}

static void mappings_of_a_region_join(void **state)
{
	struct env *e = *state;
	struct gpamap_region *r = ram(e, "r", 0);

	ok(e, show(e, 0, 1, r, 0, GPAMAP_RW));
	ok(e, show(e, 2, 1, r, 2, GPAMAP_RW));
	ok(e, show(e, 3, 1, r, 4, GPAMAP_RW));
	assert_int_equal(pieces(e), 3);
	ok(e, show(e, 1, 1, r, 1, GPAMAP_RW));
	expect(e, 0, "0-2fff r+0 RAM | 3000-3fff r+4000 RAM");
	assert_int_equal(pieces(e), 2);
	assert_int_equal(r->shown.count, 2);
	gm_edits_abort(&e->map);
	assert_int_equal(r->shown.count, 0);
	put(r);
}

static void neighbours_are_left_alone(void **state)
{
	struct env *e = *state;
	struct gpamap_region *r = ram(e, "r", 0), *other = ram(e, "other", 0);

	ok(e, show(e, 0, 2, r, 0, GPAMAP_RW));
	ok(e, show(e, 4, 2, r, 4, GPAMAP_RW));
	commit(e);
	ok(e, show(e, 2, 2, other, 2, GPAMAP_RW));
	assert_ptr_equal(e->map.touched, other);
	assert_null(other->next_touched);
	ok(e, unmap(e, 3, 1));
	assert_false(r->touched);
	assert_int_equal(e->map.spaces[0].windows.n, 1);
	assert_int_equal(e->map.spaces[0].windows.r[0].first, 2 * PAGE);
	assert_int_equal(e->map.spaces[0].windows.r[0].last, 4 * PAGE - 1);
	/* Mapped again as it is: nothing to do. */
	commit(e);
	ok(e, show(e, 0, 1, r, 0, GPAMAP_RW));
	assert_null(e->map.touched);
	assert_int_equal(e->map.spaces[0].windows.n, 0);
	put(r);
	put(other);
}

/* Edits of a region reach its mappings, wherever they are. (RG3) */
static void mappings_follow_their_region(void **state)
{
	struct env *e = *state;
	struct gpamap_region *r = ram(e, "r", 0);

	ok(e, show(e, 0, 2, r, 0, GPAMAP_RW));
	ok(e, show(e, 5, 1, r, 0, GPAMAP_NONE));
	ok(e, gm_ranges_map_region(&e->map, 1, 0, PAGE, r, 3 * PAGE, GPAMAP_RO, &e->msg));
	commit(e);
	ok(e, gm_edit_log(&e->map, r, true, &e->msg));
	expect(e, 0, "0-1fff r+0 RAM,log | 5000-5fff r+0 NONE,log");
	expect(e, 1, "0-fff r+3000 RAM,ro,log");
	ok(e, gm_edit_log(&e->map, r, false, &e->msg));
	ok(e, gm_edit_readonly(&e->map, r, true, &e->msg));
	expect(e, 0, "0-1fff r+0 RAM,ro | 5000-5fff r+0 NONE,ro");
	ok(e, protect(e, 0, 1, GPAMAP_RW));
	expect(e, 0, "0-1fff r+0 RAM,ro | 5000-5fff r+0 NONE,ro");
	ok(e, gm_edit_readonly(&e->map, r, false, &e->msg));
	/* The text is made with a check of each address. */
	ok(e, gm_edit_reback(&e->map, r, (char *)hva + 64 * PAGE, &e->msg));
	expect(e, 0, "0-1fff r+0 RAM | 5000-5fff r+0 NONE");
	expect(e, 1, "0-fff r+3000 RAM,ro");
	/* Neither its size nor its being enabled matters to them. */
	ok(e, gm_edit_resize(&e->map, r, PAGE, &e->msg));
	ok(e, gm_edit_enabled(&e->map, r, false, &e->msg));
	expect(e, 0, "0-1fff r+0 RAM | 5000-5fff r+0 NONE");
	put(r);
}

static void the_unmergeable_stay_apart(void **state)
{
	struct env *e = *state;
	struct gpamap_region *r = ram(e, "r", GPAMAP_UNMERGEABLE);
	struct gpamap_region *a =
		MAKE(e, .kind = GPAMAP_ALIAS, .size = PAGE, .target = r, .target_offset = PAGE);

	ok(e, gm_edit_add(&e->map, root(e, 0), PAGE, a, 0, &e->msg));
	ok(e, show(e, 0, 1, r, 0, GPAMAP_RW));
	/* The same group: one memory. */
	expect(e, 0, "0-1fff r+0 RAM,g");
	put(r);
	put(a);
}

static void mappings_hold_their_regions(void **state)
{
	struct env *e = *state;
	struct gpamap_region *r = ram(e, "r", 0);

	ok(e, show(e, 0, 4, r, 0, GPAMAP_RW));
	ok(e, map(e, 8, 4, GPAMAP_RW));
	commit(e);
	put(r);
	ok(e, unmap(e, 1, 2));
	ok(e, unmap(e, 8, 2));
	commit(e);
	assert_int_equal(reap(e), 0);
	ok(e, unmap(e, 0, 4));
	ok(e, unmap(e, 10, 2));
	assert_int_equal(reap(e), 0);
	gm_edits_abort(&e->map);
	assert_int_equal(reap(e), 0);
	ok(e, unmap(e, 0, 12));
	ok(e, flatten_windows(e, 0));
	gm_edits_commit(&e->map);
	assert_int_equal(reap(e), 0);
	end_view(&e->view[0]);
	/* The other one is the map's. */
	assert_int_equal(reap(e), 1);
}

static void lack_of_memory_changes_nothing(void **state)
{
	struct env *e = *state;
	struct gpamap_region *r = ram(e, "r", 0);
	static const char was[] =
		"0-3fff r+0 RAM | 4000-7fff pages+10000000 RAM | 8000-9fff r+8000 RAM,ro";
	unsigned failures = 0;

	ok(e, show(e, 0, 4, r, 0, GPAMAP_RW));
	ok(e, map(e, 4, 4, GPAMAP_RW));
	ok(e, show(e, 8, 2, r, 8, GPAMAP_RO));
	commit(e);
	e->mem.for_good = true;
	for (unsigned verb = 0; verb < 4; verb++) {
		for (size_t n = 1;; n++, failures++) {
			int err;

			fail_nth(e, n);
			err = verb == 0	  ? map(e, 2, 7, GPAMAP_RW)
			      : verb == 1 ? show(e, 2, 7, r, 3, GPAMAP_RW)
			      : verb == 2 ? unmap(e, 2, 7)
					  : protect(e, 2, 7, GPAMAP_RO);
			fail_nth(e, 0);
			if (!err)
				break;
			assert_int_equal(err, -ENOMEM);
			assert_null(e->map.touched);
			assert_int_equal(r->pending, 0);
			expect(e, 0, was);
			gm_tree_abort(&e->view[0]);
			reap(e);
		}
		gm_edits_abort(&e->map);
	}
	assert_true(failures > 12);
	expect(e, 0, was);
	put(r);
}

/* Nodes that verbs allocate: in the tree of mappings they are the nodes copied on the way to a page. */
static void verbs_copy_little(void **state)
{
	static const uint64_t sizes[] = {1000, 32000};
	struct env *e = *state;
	size_t calls[2];

	for (unsigned i = 0; i < 2; i++) {
		for (uint64_t p = 0; p < sizes[i]; p++)
			ok(e, map(e, p, 1, GPAMAP_RW));
		commit(e);
		assert_int_equal(e->view[0].count, sizes[i]);
		e->mem.calls = 0;
		for (uint64_t p = 0; p < 100; p++) {
			ok(e, protect(e, p * 7, 1, GPAMAP_RO));
			commit(e);
			ok(e, unmap(e, p * 7, 1));
			commit(e);
			ok(e, map(e, p * 7, 1, GPAMAP_RW));
			commit(e);
		}
		calls[i] = e->mem.calls;
	}
	/* 32 times as many mappings are 5 levels more, of 10. */
	assert_true(calls[1] < 2 * calls[0]);
}

/* ---------------------------------------------------------------------------------- time --- */

enum { FEW = 1000, MANY = 32000, SAMPLES = 101, ATTEMPTS = 20, GROWTH_LIMIT = 6 };

/* In this order, each leaves a page as the next one needs it. */
enum verb { PROTECT, UNMAP, MAP, SHOW, NR_VERBS };

struct timed {
	struct env env;
	uint64_t size;
	struct gpamap_region *ram;
	double ns[NR_VERBS][SAMPLES];
};

static void timed_init(struct timed *t, uint64_t size)
{
	env_init(&t->env);
	t->size = size;
	t->ram = ram(&t->env, "shown", 0);
	for (uint64_t p = 0; p < size; p++)
		ok(&t->env, map(&t->env, p, 1, GPAMAP_RW));
	commit(&t->env);
	assert_int_equal(pieces(&t->env), size);
}

static void timed_destroy(struct timed *t)
{
	put(t->ram);
	env_destroy(&t->env);
}

static int do_verb(struct timed *t, enum verb verb, uint64_t page)
{
	switch (verb) {
	case PROTECT:
		return protect(&t->env, page, 1, GPAMAP_RO);
	case UNMAP:
		return unmap(&t->env, page, 1);
	case MAP:
		return map(&t->env, page, 1, GPAMAP_RW);
	default:
		return show(&t->env, page, 1, t->ram, 0, GPAMAP_RW);
	}
}

static double now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* Each verb once, in a transaction of its own, at one page of many. */
static void sample(struct timed *t, unsigned i)
{
	uint64_t page = (i + 1) * 7919 % t->size;

	for (enum verb verb = 0; verb < NR_VERBS; verb++) {
		double start = now_ns();
		int err = do_verb(t, verb, page);

		t->ns[verb][i] = now_ns() - start;
		ok(&t->env, err);
		commit(&t->env);
	}
	ok(&t->env, map(&t->env, page, 1, GPAMAP_RW));
	commit(&t->env);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *ns)
{
	qsort(ns, SAMPLES, sizeof(*ns), compare);
	return ns[SAMPLES / 2];
}

/* A look at each mapping would make a verb 32 times as dear; what it is made dearer by a tree that is half as high
 * again, and by what falls out of the caches, is less than the limit by far. Both maps are timed in turns, and
 * whatever else the machine does can spoil an attempt, but not all. */
static void verbs_do_not_slow_down(void **state)
{
	static struct timed few, many;
	double least[NR_VERBS];

	(void)state;
	timed_init(&few, FEW);
	timed_init(&many, MANY);
	for (unsigned verb = 0; verb < NR_VERBS; verb++)
		least[verb] = DBL_MAX;
	for (unsigned attempt = 0, missed = NR_VERBS; missed && attempt < ATTEMPTS; attempt++) {
		for (unsigned i = 0; i < SAMPLES; i++) {
			sample(&few, i);
			sample(&many, i);
		}
		missed = 0;
		for (unsigned verb = 0; verb < NR_VERBS; verb++) {
			double ratio = median(many.ns[verb]) / median(few.ns[verb]);

			if (ratio < least[verb])
				least[verb] = ratio;
			missed += least[verb] >= GROWTH_LIMIT;
		}
	}
	for (unsigned verb = 0; verb < NR_VERBS; verb++) {
		if (least[verb] >= GROWTH_LIMIT)
			fail_msg("verb %u: %.1f times as long among %d mappings as among %d", verb,
				 least[verb], MANY, FEW);
	}
	timed_destroy(&few);
	timed_destroy(&many);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(bad_ranges_are_refused),
		TEST(bad_regions_are_refused),
		TEST(protect_wants_all_of_it_mapped),
		TEST(the_newest_wins),
		TEST(below_lies_the_tree),
		TEST(unmap_cuts),
		TEST(protect_cuts_and_joins),
		TEST(mappings_of_a_region_join),
		TEST(neighbours_are_left_alone),
		TEST(mappings_follow_their_region),
		TEST(the_unmergeable_stay_apart),
		TEST(mappings_hold_their_regions),
		TEST(lack_of_memory_changes_nothing),
		TEST(verbs_copy_little),
		TEST(verbs_do_not_slow_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
