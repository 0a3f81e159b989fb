/* SPDX-License-Identifier: BSD-3-Clause */
/* What a fetch of dirty pages costs, and what its range may be. */
#include "common.h"

#include <sys/mman.h>

#define SLOT_PAGES 4
#define NR_SLOTS 512
#define PAGES ((uint64_t)NR_SLOTS * SLOT_PAGES)

static uint8_t *mem;

static int setup(void **state)
{
	struct gpamap_sim_options sim = {.spaces = 2};
	struct gpamap_options opt = {.spaces = 2, .max_slot_size = SLOT_PAGES * PAGE};

	(void)state;
	vm_open(&vm, &sim, &opt);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	vm_close(&vm);
	return 0;
}

/* Not vm_commit(): that looks at all pages, and so writes to them. */
static void commit(struct gpamap_txn *txn)
{
	ok_txn(txn, gpamap_commit(txn, NULL, NULL));
}

/* In the map at 0, and logged. */
static struct gpamap_region *logged_ram(uint64_t pages, uint64_t max_pages)
{
	struct gpamap_region *ram = vm_ram(&vm, mem, pages, max_pages);
	struct gpamap_txn *txn = vm_begin(&vm);

	ok_txn(txn, gpamap_add(txn, gpamap_root(vm.map, 0), 0, ram, 0));
	ok_txn(txn, gpamap_set_log(txn, ram, true));
	commit(txn);
	return ram;
}

/* How many logs the fetch of a part reads. */
static uint64_t logs_read(struct gpamap_region *ram, uint64_t first, uint64_t n)
{
	static uint64_t bits[PAGES / 64];
	uint64_t before = gpamap_sim_calls(vm.sim, GPAMAP_SIM_GET_DIRTY);

	ok(gpamap_dirty_fetch(vm.map, ram, first * PAGE, n * PAGE, bits));
	return gpamap_sim_calls(vm.sim, GPAMAP_SIM_GET_DIRTY) - before;
}

static void a_part_costs_a_part(void **state)
{
	struct gpamap_region *ram = logged_ram(PAGES, 0);
	struct gpamap_txn *txn;
	uint64_t all = 0;

	(void)state;
	assert_int_equal(vm_stats(&vm).slots, NR_SLOTS);
	assert_int_equal(logs_read(ram, 0, 1), 1);
	assert_int_equal(logs_read(ram, SLOT_PAGES - 1, 1), 1);
	assert_int_equal(logs_read(ram, SLOT_PAGES - 1, 2), 2);
	assert_int_equal(logs_read(ram, PAGES - 1, 1), 1);
	assert_int_equal(logs_read(ram, 0, PAGES), NR_SLOTS);
	for (uint64_t i = 0; i < NR_SLOTS; i++)
		all += logs_read(ram, i * SLOT_PAGES, SLOT_PAGES);
	assert_int_equal(all, NR_SLOTS);
	/* Pages 8 to 15 in the other space, too, and page 9 a third time. The slots are others after that. */
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_map_region(txn, 1, 0, 8 * PAGE, ram, 8 * PAGE, GPAMAP_RW));
	ok_txn(txn, gpamap_map_region(txn, 1, 64 * PAGE, PAGE, ram, 9 * PAGE, GPAMAP_RW));
	commit(txn);
	assert_int_equal(logs_read(ram, 7, 1), 1);
	assert_int_equal(logs_read(ram, 8, 1), 2);
	assert_int_equal(logs_read(ram, 9, 1), 3);
	assert_int_equal(logs_read(ram, 15, 2), 3);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_unmap_pages(txn, 1, 0, 8 * PAGE));
	commit(txn);
	assert_int_equal(logs_read(ram, 9, 1), 2);
	assert_int_equal(logs_read(ram, 15, 2), 2);
	gpamap_region_put(ram);
}

/* What a log gives beyond the range is kept for the next fetch. */
static void neighbours_are_kept(void **state)
{
	struct gpamap_region *ram = logged_ram(16, 0);
	uint64_t bits;

	(void)state;
	for (uint64_t page = 0; page < 8; page++)
		vm_see(&vm, page * PAGE);
	ok(gpamap_dirty_fetch(vm.map, ram, PAGE, PAGE, &bits));
	assert_int_equal(bits, 1);
	ok(gpamap_dirty_fetch(vm.map, ram, 0, 16 * PAGE, &bits));
	assert_int_equal(bits, 0xfd);
	gpamap_region_put(ram);
}

/* What was written before a region shrank is still to be had (P4): so the range may reach up to max_size. */
static void beyond_the_present_size(void **state)
{
	struct gpamap_region *ram = logged_ram(16, 32);
	struct gpamap_txn *txn;
	uint64_t bits;

	(void)state;
	vm_see(&vm, 9 * PAGE);
	ok(gpamap_write(vm.map, 0, 10 * PAGE, "x", 1));
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_resize(txn, ram, 8 * PAGE));
	commit(txn);
	ok(gpamap_dirty_fetch(vm.map, ram, 8 * PAGE, 24 * PAGE, &bits));
	assert_int_equal(bits, 1 << 1 | 1 << 2);
	assert_int_equal(gpamap_dirty_fetch(vm.map, ram, 0, 33 * PAGE, &bits), -ERANGE);
	assert_int_equal(gpamap_dirty_fetch(vm.map, ram, 32 * PAGE, PAGE, &bits), -ERANGE);
	gpamap_region_put(ram);
}

/* A transaction is one change: off and on again in one is none. */
static void off_and_on_is_nothing(void **state)
{
	struct gpamap_region *ram = logged_ram(16, 0);
	struct gpamap_txn *txn;
	uint64_t bits;

	(void)state;
	for (int apart = 0; apart < 2; apart++) {
		vm_see(&vm, 3 * PAGE);
		ok(gpamap_write(vm.map, 0, 5 * PAGE, "x", 1));
		txn = vm_begin(&vm);
		ok_txn(txn, gpamap_set_log(txn, ram, false));
		if (apart) {
			commit(txn);
			txn = vm_begin(&vm);
		}
		ok_txn(txn, gpamap_set_log(txn, ram, true));
		commit(txn);
		ok(gpamap_dirty_fetch(vm.map, ram, 0, 16 * PAGE, &bits));
		assert_int_equal(bits, apart ? 0 : 1 << 3 | 1 << 5);
	}
	gpamap_region_put(ram);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_part_costs_a_part, setup, teardown),
		cmocka_unit_test_setup_teardown(neighbours_are_kept, setup, teardown),
		cmocka_unit_test_setup_teardown(beyond_the_present_size, setup, teardown),
		cmocka_unit_test_setup_teardown(off_and_on_is_nothing, setup, teardown),
	};

	mem = mem_new(1, PAGES);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
