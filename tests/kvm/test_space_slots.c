/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Slots of two address spaces, changed in one step (P3), with no vCPU: where a slot is KVM takes no other, so each place
 * can be probed.
 */
#include "spaces.h"

/* Is there a slot? KVM refuses another one. */
static bool taken(unsigned space, unsigned page)
{
	int err = set_probe(space, page, vm.page);

	if (err == -EEXIST)
		return true;
	assert_int_equal(err, 0);
	ok(set_probe(space, page, 0));
	return false;
}

static void check_taken(unsigned page, bool in_0, bool in_1)
{
	assert_int_equal(taken(0, page), in_0);
	assert_int_equal(taken(1, page), in_1);
}

static void *shown(unsigned space, unsigned page)
{
	struct gpamap_segment s;

	if (gpamap_lookup(vm.map, space, vm_gpa(&vm, page), &s) || s.gpa > vm_gpa(&vm, page))
		return NULL;
	return (uint8_t *)s.hva + (vm_gpa(&vm, page) - s.gpa);
}

static void slots_are_where_the_map_says(void **state)
{
	struct gpamap_txn *txn;

	(void)state;
	reserve_probes();
	check_taken(PAGE_TEST, true, false);
	check_taken(ELSEWHERE, false, false);

	txn = vm_begin(&vm);
	map_page(txn, 1, ELSEWHERE, spare(1));
	vm_commit(txn, 0, NULL);
	check_taken(ELSEWHERE, false, true);

	/* It goes in one and comes in the other, and the same place is cut out of another slot in one of them. */
	txn = vm_begin(&vm);
	unmap_page(txn, 1, ELSEWHERE);
	map_page(txn, 0, ELSEWHERE, spare(1));
	unmap_page(txn, 0, PAGE_TEST);
	map_page(txn, 1, PAGE_TEST, spare(2));
	vm_commit(txn, GPAMAP_COMMIT_ONE_INSTANT, NULL);
	check_taken(ELSEWHERE, true, false);
	check_taken(PAGE_TEST, false, true);
	check_taken(PAGE_TEST - 1, true, false);
	check_taken(PAGE_TEST + 1, true, false);

	/* Other memory in both: the same places are taken. */
	txn = vm_begin(&vm);
	map_page(txn, 0, ELSEWHERE, spare(3));
	map_page(txn, 1, PAGE_TEST, spare(4));
	vm_commit(txn, 0, NULL);
	check_taken(ELSEWHERE, true, false);
	check_taken(PAGE_TEST, false, true);
	assert_ptr_equal(shown(0, ELSEWHERE), spare(3));
	assert_ptr_equal(shown(1, PAGE_TEST), spare(4));
}

/* The step in one space fails in KVM, so what was done in the other is undone (P3). */
static void all_or_nothing(void **state)
{
	struct gpamap_txn *txn;

	(void)state;
	reserve_probes();
	for (unsigned blocked = 0; blocked < 2; blocked++) {
		ok(set_probe(blocked, ELSEWHERE, vm.page));
		for (unsigned flags = 0; flags < 2; flags++) {
			struct gpamap_commit_options opt = {
				.flags = flags ? GPAMAP_COMMIT_ONE_INSTANT : 0,
				.timeout_ms = LONG_MS,
			};
			struct gpamap_stats before = vm_stats(&vm);

			txn = vm_begin(&vm);
			for (unsigned space = 0; space < 2; space++) {
				map_page(txn, space, ELSEWHERE - 2, spare(1));
				map_page(txn, space, ELSEWHERE, spare(2));
				map_page(txn, space, ELSEWHERE + 2, spare(3));
			}
			assert_int_equal(gpamap_commit(txn, &opt, NULL), -EEXIST);
			gpamap_abort(txn);
			assert_true(vm_stats(&vm).undone > before.undone);
			assert_int_equal(vm_stats(&vm).slots, before.slots);
			assert_null(shown(0, ELSEWHERE));
			assert_null(shown(1, ELSEWHERE));
		}
		ok(set_probe(blocked, ELSEWHERE, 0));
		check_taken(ELSEWHERE - 2, false, false);
		check_taken(ELSEWHERE, false, false);
		check_taken(ELSEWHERE + 2, false, false);
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_vm, close_vm)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(slots_are_where_the_map_says),
		TEST(all_or_nothing),
	};

	if (!spaces_available())
		return 77;
	watchdog(100);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
