/* SPDX-License-Identifier: BSD-3-Clause */
/* Ranges at both ends of the address space, and against counting over a small one. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/range.h"

static void make(void **state)
{
	struct gm_range r = {7, 9};

	(void)state;
	assert_false(gm_range_make(0, 0, &r));
	assert_false(gm_range_make(UINT64_MAX, 0, &r));
	assert_false(gm_range_make(UINT64_MAX, 2, &r));
	assert_false(gm_range_make(1, UINT64_MAX, &r));
	assert_false(gm_range_make(UINT64_MAX - 4095, 4097, &r));
	assert_int_equal(r.first, 7); /* untouched */
	assert_int_equal(r.last, 9);
	assert_true(gm_range_make(UINT64_MAX, 1, &r));
	assert_int_equal(r.first, UINT64_MAX);
	assert_int_equal(r.last, UINT64_MAX);
	assert_true(gm_range_make(UINT64_MAX - 4095, 4096, &r));
	assert_int_equal(r.last, UINT64_MAX);
	assert_true(gm_range_make(0, UINT64_MAX, &r));
	assert_int_equal(r.first, 0);
	assert_int_equal(r.last, UINT64_MAX);
	assert_true(gm_range_make(5, 3, &r));
	assert_int_equal(r.first, 5);
	assert_int_equal(r.last, 7);
}

static void size(void **state)
{
	(void)state;
	assert_int_equal(gm_range_size((struct gm_range){0, 0}), 1);
	assert_int_equal(gm_range_size((struct gm_range){10, 19}), 10);
	assert_int_equal(gm_range_size((struct gm_range){UINT64_MAX, UINT64_MAX}), 1);
	assert_int_equal(gm_range_size((struct gm_range){0, UINT64_MAX}), UINT64_MAX);
	assert_int_equal(gm_range_size((struct gm_range){2, UINT64_MAX}), UINT64_MAX - 1);
}

/* Points 0 to 5, moved to @base. */
static void pairs_at(uint64_t base)
{
	for (unsigned i = 0; i < 6 * 6 * 6 * 6; i++) {
		struct gm_range a = {base + i % 6, base + i / 6 % 6};
		struct gm_range b = {base + i / 36 % 6, base + i / 216};
		struct gm_range both = {77, 78};
		unsigned common = 0, in_a = 0;
		bool met;

		if (a.last < a.first || b.last < b.first)
			continue;
		for (unsigned p = 0; p < 6; p++) {
			bool has_a = a.first - base <= p && p <= a.last - base;
			bool has_b = b.first - base <= p && p <= b.last - base;

			assert_int_equal(gm_range_has(a, base + p), has_a);
			common += has_a && has_b;
			in_a += has_a;
		}
		met = gm_range_intersect(a, b, &both);
		assert_int_equal(met, common > 0);
		assert_int_equal(gm_range_overlap(a, b), common > 0);
		assert_int_equal(gm_range_within(a, b), common == in_a);
		if (met) {
			assert_int_equal(gm_range_size(both), common);
			assert_true(gm_range_within(both, a) && gm_range_within(both, b));
		} else {
			assert_int_equal(both.first, 77);
		}
	}
}

static void pairs(void **state)
{
	(void)state;
	pairs_at(0);
	pairs_at(UINT64_MAX - 5);
	pairs_at(UINT64_C(1) << 63);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(make),
		cmocka_unit_test(size),
		cmocka_unit_test(pairs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
