/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A commit of very many operations that fails near its end, and whose undo fails half-way: it costs what so many
 * operations cost, and so does the repair. The gate is shut all that time (P7).
 */
#include "common.h"

#include <time.h>

#define MANY (SLOW ? 2000 : 16000)
/* Times what a commit costs that goes well; of which it does the half again, and something for each that is left. What
 * looks at all of these for each of them is 100 times as slow. */
#define MOST 10

struct cost {
	double goes_well;
	double fails;
	double repairs;
};

static uint8_t *memory;

/* Of this thread's processor: others want the machine, too. */
static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint64_t at(unsigned i)
{
	return 2 * (uint64_t)i * PAGE;
}

static void map_all(unsigned n)
{
	struct gpamap_txn *txn = vm_begin(&vm);

	for (unsigned i = 0; i < n; i++)
		ok_txn(txn,
		       gpamap_map_pages(txn, 0, at(i), PAGE, memory + i % 64 * PAGE, GPAMAP_RW));
	ok_txn(txn, gpamap_commit(txn, NULL, NULL));
}

static struct gpamap_txn *protect_all(unsigned n, enum gpamap_prot prot)
{
	struct gpamap_txn *txn = vm_begin(&vm);

	for (unsigned i = 0; i < n; i++)
		ok_txn(txn, gpamap_protect_pages(txn, 0, at(i), PAGE, prot));
	return txn;
}

/* All pages are at their places, and can be written to or not. */
static void check(unsigned n, bool writable)
{
	for (unsigned i = 0; i < n; i++) {
		struct seen s = vm_see(&vm, at(i));

		assert_int_equal(s.word, mem_tag(A, i % 64));
		assert_int_equal(s.writable, writable);
	}
	assert_int_equal(vm_stats(&vm).slots, n);
	assert_int_equal(vm_stats(&vm).pending, 0);
	vm_check_settled(&vm);
}

/* @again: the repair goes on to what was asked for; else back to what was. */
static struct cost wreck(unsigned n, bool again)
{
	struct gpamap_txn *txn;
	struct cost c;

	vm_open(&vm, NULL, NULL);
	map_all(n);
	txn = protect_all(n, GPAMAP_RO);
	c.goes_well = now();
	ok_txn(txn, gpamap_commit(txn, NULL, NULL));
	c.goes_well = now() - c.goes_well;
	txn = protect_all(n, GPAMAP_RW);
	/* All are deleted, and all but one created; then the deletion of half of these goes well. */
	gpamap_sim_fail(vm.sim, GPAMAP_SIM_CREATE, n, ENOMEM, false);
	gpamap_sim_fail(vm.sim, GPAMAP_SIM_DELETE, n + n / 2, ENOMEM, true);
	c.fails = now();
	refused(txn, gpamap_commit(txn, NULL, NULL), -ENOTRECOVERABLE);
	c.fails = now() - c.fails;
	gpamap_sim_fail(vm.sim, GPAMAP_SIM_DELETE, 0, 0, false);
	assert_true(vm_stats(&vm).broken);
	if (!again) {
		gpamap_abort(txn);
		txn = vm_begin(&vm);
	}
	c.repairs = now();
	ok_txn(txn, gpamap_commit(txn, NULL, NULL));
	c.repairs = now() - c.repairs;
	assert_false(vm_stats(&vm).broken);
	check(n, again);
	vm_close(&vm);
	return c;
}

/* Caches make some runs slow, and none fast. */
static double less(double a, double b)
{
	return a < b ? a : b;
}

static void cost_is_that_of_the_operations(void **state)
{
	(void)state;
	for (int again = 0; again < 2; again++) {
		struct cost least = wreck(MANY, again), c = wreck(MANY, again);

		least.goes_well = less(least.goes_well, c.goes_well);
		least.fails = less(least.fails, c.fails);
		least.repairs = less(least.repairs, c.repairs);
		printf("%u operations: go well in %.3f s, fail in %.3f s, %s in %.3f s\n", MANY * 2,
		       least.goes_well, least.fails, again ? "go on" : "go back", least.repairs);
		assert_true(least.fails < MOST * least.goes_well);
		assert_true(least.repairs < MOST * least.goes_well);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cost_is_that_of_the_operations),
	};

	memory = mem_new(A, 64);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
