/* SPDX-License-Identifier: BSD-3-Clause */
/* Which pages a benchmark's guest writes to: as many as were asked for, over all the guest, and the one that changes. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "../../bench/rival.h"

static void check_sweep(uint64_t size, uint64_t n)
{
	struct layout l = {.size = size};
	struct sweep s = layout_sweep(&l, n);
	uint64_t page = layout_page(&l, 0), last = s.at + (s.n - 1) * s.step;

	assert_int_equal(s.n, n);
	assert_int_equal(s.step % PAGE, 0);
	assert_true(s.step >= PAGE);
	assert_true(s.at >= 2 * MIB && s.at < 2 * MIB + s.step);
	assert_true(last + PAGE <= size);
	/* No more than one page in each step is left at the end, and what the rounding of all steps took. */
	assert_true(size - last <= 2 * s.step + n * PAGE);
	assert_int_equal((page - s.at) % s.step, 0);
	assert_true(page >= s.at && page <= last);
}

static void spread_over_all(void **state)
{
	static const uint64_t sizes[] = {64 * MIB, 256 * MIB, 2 * GIB, 64 * GIB};

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		check_sweep(sizes[i], 1024);
		check_sweep(sizes[i], 4096);
	}
}

static void other_memory(void **state)
{
	const struct layout whole = {.size = 64 * MIB}, pages = {.pages = 10};

	(void)state;
	assert_int_equal(layout_backing(&whole, 0, PAGE_PLAIN), layout_page(&whole, 0));
	assert_int_equal(layout_backing(&whole, 0, PAGE_READONLY), layout_page(&whole, 0));
	assert_int_equal(layout_backing(&whole, 0, PAGE_ELSEWHERE), 64 * MIB);
	assert_int_equal(layout_backing(&pages, 3, PAGE_PLAIN), layout_page(&pages, 3));
	assert_true(layout_backing(&pages, 3, PAGE_ELSEWHERE) > layout_page(&pages, 9));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(spread_over_all),
		cmocka_unit_test(other_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
