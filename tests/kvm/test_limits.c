/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The size of a slot: KVM refuses one of 2^31 pages with -EINVAL, so the library must not ask for it (P3). To make one
 * that is nearly as large would take gigabytes for what KVM keeps of each page. But KVM looks at the size before it
 * looks for overlaps, and does both before it allocates: so a slot of the test's own stands in the way, and the errno
 * says how far KVM got. Where a VM has no addresses for that many pages the question does not come up.
 */
#include "../base/part.h"
#include "spaces.h"

/* Beyond the memory of vm.h, and in the way. */
#define BEGIN 256
#define IN_THE_WAY 300
#define SLOT_PAGES (UINT64_C(1) << 31)

/* Twice what KVM takes, of addresses only. */
static int map_too_much(void)
{
	const struct gpamap_commit_options opt = {.timeout_ms = LONG_MS};
	struct gpamap_txn *txn = vm_begin(&vm);
	int err;

	ok(gpamap_map_pages(txn, 0, vm_gpa(&vm, BEGIN), 2 * SLOT_PAGES * vm.page, (void *)vm.page,
			    GPAMAP_RW));
	err = gpamap_commit(txn, &opt, NULL);
	gpamap_abort(txn);
	return err;
}

static void no_slot_is_too_large(void **state)
{
	struct gpamap_stats before, after;
	int err;

	(void)state;
	vm_open_options(&vm, (struct gpamap_options){.max_slot_size = UINT64_C(1) << 62});
	ok(gpamap_reserve_slots(vm.map, 0, PROBE, 1));
	ok(set_probe(0, IN_THE_WAY, vm.page));
	before = vm_stats(&vm);
	err = map_too_much();
	after = vm_stats(&vm);
	if (err == -ERANGE) {
		assert_int_equal(after.slot_ioctls, before.slot_ioctls);
		part_skip("the VM's addresses don't go so far");
	}
	assert_int_equal(err, -EEXIST);
	assert_int_equal(after.slot_ioctls, before.slot_ioctls + 1);
	assert_int_equal(after.slots, before.slots);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(no_slot_is_too_large, close_vm),
	};

	if (!part_choose(tests, sizeof(tests) / sizeof(tests[0]), argc, argv))
		return 64;
	if (!vm_available())
		return 77;
	watchdog(100);
	return part_status(cmocka_run_group_tests(tests, NULL, NULL));
}
