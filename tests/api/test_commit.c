/* SPDX-License-Identifier: BSD-3-Clause */
/* Commit, verb by verb: what the guest finds then, which operations it took, and whether the gate shut
 * (P2, P7). */
#include "common.h"

#include <sys/mman.h>
#include <time.h>

#include "gpamap-listener.h"

#define STRETCH_US 20000u
#define STRETCH_NS (STRETCH_US * UINT64_C(1000))

static void expect(struct gpamap_commit_report r, unsigned early, unsigned critical, unsigned late)
{
	assert_int_equal(r.early, early);
	assert_int_equal(r.critical, critical);
	assert_int_equal(r.late, late);
	assert_int_equal(r.gate_shut, critical != 0);
	assert_int_equal(r.kicked, 0);
	assert_int_equal(r.blackout_ns != 0, critical != 0);
}

/* The region at a page of space 0, committed. The caller's reference is given up. */
static struct gpamap_region *ram_at(uint8_t *hva, uint64_t page, uint64_t pages, uint64_t max_pages)
{
	struct gpamap_region *r = vm_ram(&vm, hva, pages, max_pages);

	expect(vm_add(&vm, r, page), (unsigned)1, 0, 0);
	gpamap_region_put(r);
	return r;
}

/* One edit, committed. */
#define CHANGE(edit)                 \
	({                           \
		txn = vm_begin(&vm); \
		ok_txn(txn, (edit)); \
		vm_commit(&vm, txn); \
	})

static void empty_transaction(void **state)
{
	struct gpamap_txn *txn = vm_begin(&vm);

	(void)state;
	expect(vm_commit(&vm, txn), 0, 0, 0);
	txn = vm_begin(&vm);
	expect(vm_commit_flags(&vm, txn, GPAMAP_COMMIT_ONE_INSTANT), 0, 0, 0);
	txn = vm_begin(&vm);
	ok(gpamap_commit(txn, NULL, NULL));
	assert_int_equal(vm_stats(&vm).commits, 3);
	assert_int_equal(vm_stats(&vm).slot_ioctls, 0);
	assert_int_equal(vm_stats(&vm).gate_shut, 0);
}

static void add_and_remove(void **state)
{
	struct gpamap_region *r = ram_at(mem_a, 4, 8, 0);
	struct gpamap_txn *txn;

	(void)state;
	vm_check_pages(&vm, 4, 8, A, 0, true);
	vm_check_hole(&vm, 0, 4);
	vm_check_hole(&vm, 12, 4);
	assert_int_equal(vm_stats(&vm).slots, 1);
	expect(CHANGE(gpamap_remove(txn, r)), 0, 0, 1);
	vm_check_hole(&vm, 0, 16);
	assert_int_equal(vm_stats(&vm).slots, 0);
	assert_int_equal(vm_stats(&vm).gate_shut, 0);
}

static void grow_and_shrink(void **state)
{
	struct gpamap_region *r = ram_at(mem_a, 0, 8, 32);
	struct gpamap_txn *txn;

	(void)state;
	expect(CHANGE(gpamap_resize(txn, r, 16 * PAGE)), 1, 0, 0);
	expect(CHANGE(gpamap_resize(txn, r, 32 * PAGE)), 1, 0, 0);
	vm_check_pages(&vm, 0, 32, A, 0, true);
	assert_int_equal(vm_stats(&vm).gate_shut, 0);
	/* Where a slot ends that needs nothing but a delete. */
	expect(CHANGE(gpamap_resize(txn, r, 16 * PAGE)), 0, 0, 1);
	assert_int_equal(vm_stats(&vm).gate_shut, 0);
	/* Within one. */
	expect(CHANGE(gpamap_resize(txn, r, 12 * PAGE)), 0, 2, 0);
	vm_check_pages(&vm, 0, 12, A, 0, true);
	vm_check_hole(&vm, 12, 20);
	assert_int_equal(vm_stats(&vm).gate_shut, 1);
}

static void log_whole_slots(void **state)
{
	struct gpamap_region *r = ram_at(mem_a, 0, 8, 16);
	struct gpamap_segment s;
	struct gpamap_txn *txn;
	uint64_t bits[1];

	(void)state;
	expect(CHANGE(gpamap_resize(txn, r, 16 * PAGE)), 1, 0, 0);
	expect(CHANGE(gpamap_set_log(txn, r, true)), 2, 0, 0);
	ok(gpamap_lookup(vm.map, 0, 0, &s));
	assert_true(s.log);
	ok(gpamap_dirty_fetch(vm.map, r, 0, 16 * PAGE, bits));
	expect(CHANGE(gpamap_set_log(txn, r, false)), 0, 0, 2);
	ok(gpamap_lookup(vm.map, 0, 0, &s));
	assert_false(s.log);
	assert_int_equal(gpamap_dirty_fetch(vm.map, r, 0, 16 * PAGE, bits), -ENODATA);
	assert_int_equal(vm_stats(&vm).gate_shut, 0);
	/* A slot with a log that is deleted has bits that only a shut gate saves (P4). */
	expect(CHANGE(gpamap_set_log(txn, r, true)), 2, 0, 0);
	expect(CHANGE(gpamap_remove(txn, r)), 0, 2, 0);
	assert_int_equal(vm_stats(&vm).gate_shut, 1);
}

static void protect_a_part(void **state)
{
	struct gpamap_txn *txn;

	(void)state;
	expect(CHANGE(gpamap_map_pages(txn, 0, 0, 16 * PAGE, mem_a, GPAMAP_RW)), 1, 0, 0);
	expect(CHANGE(gpamap_protect_pages(txn, 0, 4 * PAGE, 4 * PAGE, GPAMAP_RO)), 0, 4, 0);
	vm_check_pages(&vm, 0, 4, A, 0, true);
	vm_check_pages(&vm, 4, 4, A, 4, false);
	vm_check_pages(&vm, 8, 8, A, 8, true);
	/* The pieces stay: from now on only the small one is touched. */
	expect(CHANGE(gpamap_protect_pages(txn, 0, 4 * PAGE, 4 * PAGE, GPAMAP_RW)), 0, 2, 0);
	vm_check_pages(&vm, 0, 16, A, 0, true);
	assert_int_equal(vm_stats(&vm).slots, 3);
	/* One slot that goes or comes, and all is decided: no gate. */
	expect(CHANGE(gpamap_protect_pages(txn, 0, 4 * PAGE, 4 * PAGE, GPAMAP_NONE)), 1, 0, 0);
	vm_check_hole(&vm, 4, 4);
	expect(CHANGE(gpamap_protect_pages(txn, 0, 4 * PAGE, 4 * PAGE, GPAMAP_RO)), 1, 0, 0);
	vm_check_pages(&vm, 4, 4, A, 4, false);
	assert_int_equal(vm_stats(&vm).gate_shut, 2);
}

static void reback(void **state)
{
	struct gpamap_region *r = ram_at(mem_a, 0, 8, 0);
	struct gpamap_txn *txn;

	(void)state;
	expect(CHANGE(gpamap_reback(txn, r, mem_b)), 0, 2, 0);
	vm_check_pages(&vm, 0, 8, B, 0, true);
	expect(CHANGE(gpamap_reback(txn, r, mem_b)), 0, 0, 0);
	assert_int_equal(vm_stats(&vm).gate_shut, 1);
}

static void move(void **state)
{
	struct gpamap_region *r = ram_at(mem_a, 0, 8, 0);
	struct gpamap_txn *txn;

	(void)state;
	/* To a free place: a create there, a delete here. KVM makes a slot invalid before it refuses to move it. */
	expect(CHANGE(gpamap_move(txn, r, 16 * PAGE)), 1, 0, 1);
	vm_check_pages(&vm, 16, 8, A, 0, true);
	vm_check_hole(&vm, 0, 16);
	assert_int_equal(vm_stats(&vm).gate_shut, 0);
	expect(CHANGE(gpamap_move(txn, r, 20 * PAGE)), 0, 1, 0);
	vm_check_pages(&vm, 20, 8, A, 0, true);
	vm_check_hole(&vm, 16, 4);
	assert_int_equal(vm_stats(&vm).gate_shut, 1);
	assert_int_equal(gpamap_sim_calls(vm.sim, GPAMAP_SIM_MOVE), 1);
}

static void one_instant(void **state)
{
	struct gpamap_region *r = vm_ram(&vm, mem_a, 8, 0);
	struct gpamap_txn *txn = vm_begin(&vm);
	const unsigned flags = GPAMAP_COMMIT_ONE_INSTANT;

	(void)state;
	ok_txn(txn, gpamap_add(txn, gpamap_root(vm.map, 0), 0, r, 0));
	expect(vm_commit_flags(&vm, txn, flags), 0, 1, 0);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_set_log(txn, r, true));
	expect(vm_commit_flags(&vm, txn, flags), 0, 1, 0);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_set_log(txn, r, false));
	expect(vm_commit_flags(&vm, txn, flags), 0, 1, 0);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_move(txn, r, 32 * PAGE));
	expect(vm_commit_flags(&vm, txn, flags), 0, 1, 0);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_remove(txn, r));
	expect(vm_commit_flags(&vm, txn, flags), 0, 1, 0);
	assert_int_equal(vm_stats(&vm).gate_shut, 5);
	txn = vm_begin(&vm);
	refused(txn, gpamap_commit(txn, &(struct gpamap_commit_options){.flags = 8}, NULL),
		-EINVAL);
	gpamap_abort(txn);
	gpamap_region_put(r);
}

static void tree_verbs(void **state)
{
	struct gpamap_region *a = ram_at(mem_a, 0, 8, 0);
	struct gpamap_region *b = vm_ram(&vm, mem_b, 4, 0);
	struct gpamap_txn *txn;

	(void)state;
	CHANGE(gpamap_add(txn, gpamap_root(vm.map, 0), 2 * PAGE, b, 1));
	vm_check_pages(&vm, 2, 4, B, 0, true);
	CHANGE(gpamap_set_priority(txn, b, -1));
	vm_check_pages(&vm, 0, 8, A, 0, true);
	CHANGE(gpamap_set_priority(txn, b, 0));
	vm_check_pages(&vm, 2, 4, B, 0, true);
	CHANGE(gpamap_set_readonly(txn, b, true));
	vm_check_pages(&vm, 2, 4, B, 0, false);
	CHANGE(gpamap_set_enabled(txn, b, false));
	vm_check_pages(&vm, 0, 8, A, 0, true);
	CHANGE(gpamap_set_enabled(txn, b, true));
	CHANGE(gpamap_set_readonly(txn, gpamap_root(vm.map, 0), true));
	vm_check_pages(&vm, 0, 2, A, 0, false);
	CHANGE(gpamap_set_readonly(txn, gpamap_root(vm.map, 0), false));
	vm_check_pages(&vm, 6, 2, A, 6, true);
	vm_check_pages(&vm, 2, 4, B, 0, false);
	CHANGE(gpamap_remove(txn, a));
	vm_check_hole(&vm, 0, 2);
	gpamap_region_put(b);
}

static void alias_verbs(void **state)
{
	struct gpamap_region *ram = vm_ram(&vm, mem_c, 32, 0);
	struct gpamap_region_desc desc = {.kind = GPAMAP_ALIAS,
					  .name = "window",
					  .size = 4 * PAGE,
					  .max_size = 16 * PAGE,
					  .target = ram,
					  .target_offset = 8 * PAGE};
	struct gpamap_region *window = vm_region(&vm, &desc);
	struct gpamap_txn *txn;

	(void)state;
	gpamap_region_put(ram);
	CHANGE(gpamap_add(txn, gpamap_root(vm.map, 0), 10 * PAGE, window, 0));
	vm_check_pages(&vm, 10, 4, C, 8, true);
	CHANGE(gpamap_set_target_offset(txn, window, 9 * PAGE));
	vm_check_pages(&vm, 10, 4, C, 9, true);
	CHANGE(gpamap_resize(txn, window, 16 * PAGE));
	vm_check_pages(&vm, 10, 16, C, 9, true);
	/* Beyond its target there's nothing. */
	CHANGE(gpamap_set_target_offset(txn, window, 24 * PAGE));
	vm_check_pages(&vm, 10, 8, C, 24, true);
	vm_check_hole(&vm, 18, 8);
	CHANGE(gpamap_map_region(txn, 0, 60 * PAGE, 4 * PAGE, ram, PAGE, GPAMAP_RO));
	vm_check_pages(&vm, 60, 4, C, 1, false);
	CHANGE(gpamap_unmap_pages(txn, 0, 61 * PAGE, PAGE));
	vm_check_hole(&vm, 61, 1);
	vm_check_pages(&vm, 62, 2, C, 3, false);
	gpamap_region_put(window);
}

static int no_access(void *opaque, uint64_t offset, void *data, unsigned len)
{
	(void)opaque;
	(void)offset;
	memset(data, 0, len);
	return 0;
}

static void rom_device(void **state)
{
	static const struct gpamap_mmio_ops ops = {.read = no_access};
	struct gpamap_region_desc desc = {
		.kind = GPAMAP_ROM_DEVICE, .size = 4 * PAGE, .hva = mem_a, .ops = &ops};
	struct gpamap_region *rom = vm_region(&vm, &desc);
	struct gpamap_txn *txn;

	(void)state;
	expect(CHANGE(gpamap_add(txn, gpamap_root(vm.map, 0), 0, rom, 0)), 1, 0, 0);
	vm_check_pages(&vm, 0, 4, A, 0, false);
	expect(CHANGE(gpamap_set_rom_mode(txn, rom, false)), 1, 0, 0);
	vm_check_hole(&vm, 0, 4);
	expect(CHANGE(gpamap_set_rom_mode(txn, rom, true)), 1, 0, 0);
	vm_check_pages(&vm, 0, 4, A, 0, false);
	gpamap_region_put(rom);
}

static void mmio_hides_memory(void **state)
{
	static const struct gpamap_mmio_ops ops = {.read = no_access};
	struct gpamap_region_desc desc = {.kind = GPAMAP_MMIO, .size = 0x10, .ops = &ops};
	struct gpamap_region *dev = vm_region(&vm, &desc);
	struct gpamap_region *a = ram_at(mem_a, 0, 8, 0);
	struct gpamap_txn *txn;

	(void)state;
	/* A device of 16 bytes takes a page from the guest's direct sight. */
	expect(CHANGE(gpamap_add(txn, gpamap_root(vm.map, 0), 3 * PAGE + 0x20, dev, 1)), 0, 3, 0);
	vm_check_pages(&vm, 0, 3, A, 0, true);
	vm_check_hole(&vm, 3, 1);
	vm_check_pages(&vm, 4, 4, A, 4, true);
	expect(CHANGE(gpamap_remove(txn, dev)), 1, 0, 0);
	vm_check_pages(&vm, 0, 8, A, 0, true);
	CHANGE(gpamap_remove(txn, a));
	gpamap_region_put(dev);
}

static void plain_over_tree(void **state)
{
	struct gpamap_txn *txn;

	(void)state;
	ram_at(mem_a, 0, 8, 0);
	CHANGE(gpamap_map_pages(txn, 0, 2 * PAGE, 2 * PAGE, mem_b, GPAMAP_RO));
	vm_check_pages(&vm, 0, 2, A, 0, true);
	vm_check_pages(&vm, 2, 2, B, 0, false);
	CHANGE(gpamap_map_pages(txn, 0, 3 * PAGE, 2 * PAGE, mem_c, GPAMAP_RW));
	vm_check_pages(&vm, 2, 1, B, 0, false);
	vm_check_pages(&vm, 3, 2, C, 0, true);
	CHANGE(gpamap_unmap_pages(txn, 0, 0, 64 * PAGE));
	vm_check_pages(&vm, 0, 8, A, 0, true);
	CHANGE(gpamap_unmap_pages(txn, 0, 0, 64 * PAGE));
	txn = vm_begin(&vm);
	refused(txn, gpamap_protect_pages(txn, 0, 0, PAGE, GPAMAP_RO), -ENOENT);
	gpamap_abort(txn);
}

/* Two spaces, and both at one instant. */
static void two_spaces(void **state)
{
	struct gpamap_options opt = {.spaces = 2};
	struct gpamap_sim_options sim = {.spaces = 2};
	struct gpamap_commit_report report;
	struct gpamap_segment s;
	struct gpamap_txn *txn;
	struct vm two;

	(void)state;
	vm_open(&two, &sim, &opt);
	txn = vm_begin(&two);
	ok_txn(txn, gpamap_map_pages(txn, 0, 0, 4 * PAGE, mem_a, GPAMAP_RW));
	ok_txn(txn, gpamap_map_pages(txn, 1, 2 * PAGE, 4 * PAGE, mem_b, GPAMAP_RO));
	refused(txn, gpamap_map_pages(txn, 2, 0, PAGE, mem_a, GPAMAP_RW), -ENXIO);
	report = vm_commit_flags(&two, txn, GPAMAP_COMMIT_ONE_INSTANT);
	expect(report, 0, 2, 0);
	vm_check_pages(&two, 0, 4, A, 0, true);
	vm_check_hole(&two, 4, 4);
	assert_false(vm_slot_at(&two, 1, PAGE));
	assert_true(vm_slot_at(&two, 1, 5 * PAGE));
	ok(gpamap_lookup(two.map, 1, 0, &s));
	assert_int_equal(s.gpa, 2 * PAGE);
	assert_int_equal(s.prot, GPAMAP_RO);
	assert_int_equal(gpamap_lookup(two.map, 2, 0, &s), -ENXIO);
	assert_non_null(gpamap_root(two.map, 1));
	assert_null(gpamap_root(two.map, 2));
	assert_int_equal(vm_stats(&two).slots, 2);
	txn = vm_begin(&two);
	ok_txn(txn, gpamap_unmap_pages(txn, 1, 0, 64 * PAGE));
	expect(vm_commit(&two, txn), 1, 0, 0);
	vm_close(&two);
}

static void large_slots_are_cut(void **state)
{
	struct gpamap_options opt = {.max_slot_size = 8 * PAGE};
	struct gpamap_txn *txn;
	struct vm cut;

	(void)state;
	vm_open(&cut, NULL, &opt);
	txn = vm_begin(&cut);
	ok_txn(txn, gpamap_map_pages(txn, 0, 4 * PAGE, 24 * PAGE, mem_a, GPAMAP_RW));
	/* 4..7, 8..15, 16..23, 24..27 */
	expect(vm_commit(&cut, txn), 4, 0, 0);
	txn = vm_begin(&cut);
	ok_txn(txn, gpamap_protect_pages(txn, 0, 8 * PAGE, PAGE, GPAMAP_RO));
	expect(vm_commit(&cut, txn), 0, 3, 0);
	vm_check_pages(&cut, 9, 19, A, 5, true);
	vm_close(&cut);
}

/* --------------------------------------------------------------------------- the blackout --- */

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

/* Commit, with a step stretched. *@ret is how long it took in all. */
static struct gpamap_commit_report stretched(struct gpamap_txn *txn, enum gpamap_sim_step step,
					     uint64_t *ret)
{
	struct gpamap_commit_report report;
	uint64_t start;

	memset(&report, 0x5a, sizeof(report));
	gpamap_sim_stretch(vm.sim, step, STRETCH_US);
	start = now_ns();
	ok_txn(txn, gpamap_commit(txn, NULL, &report));
	*ret = now_ns() - start;
	gpamap_sim_stretch(vm.sim, step, 0);
	return report;
}

/* It is all of the time for which the gate is shut, and none before or after it. */
static void blackout(void **state)
{
	struct gpamap_region *r = ram_at(mem_b, 64, 8, 0);
	struct gpamap_region *late = vm_ram(&vm, mem_c, 1, 0);
	struct gpamap_commit_report report;
	struct gpamap_txn *txn;
	uint64_t took;

	(void)state;
	CHANGE(gpamap_map_pages(txn, 0, 0, 16 * PAGE, mem_a, GPAMAP_RW));
	CHANGE(gpamap_add(txn, gpamap_root(vm.map, 0), 40 * PAGE, late, 0));
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_protect_pages(txn, 0, 4 * PAGE, PAGE, GPAMAP_RO));
	report = stretched(txn, GPAMAP_SIM_AFTER_DELETE, &took);
	expect(report, 0, 4, 0);
	assert_in_range(report.blackout_ns, STRETCH_NS, took);

	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_map_pages(txn, 0, 42 * PAGE, PAGE, mem_c, GPAMAP_RW));
	ok_txn(txn, gpamap_move(txn, r, 66 * PAGE));
	report = stretched(txn, GPAMAP_SIM_BEFORE_CREATE, &took);
	expect(report, 1, 1, 0);
	assert_in_range(report.blackout_ns, 1, took - STRETCH_NS);

	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_remove(txn, late));
	ok_txn(txn, gpamap_move(txn, r, 64 * PAGE));
	report = stretched(txn, GPAMAP_SIM_AFTER_DELETE, &took);
	expect(report, 0, 1, 1);
	assert_in_range(report.blackout_ns, 1, took - STRETCH_NS);
	gpamap_region_put(late);
}

static void no_blackout(void **state)
{
	struct gpamap_txn *txn = vm_begin(&vm);
	uint64_t took;

	(void)state;
	ok_txn(txn, gpamap_map_pages(txn, 0, 0, PAGE, mem_a, GPAMAP_RW));
	expect(stretched(txn, GPAMAP_SIM_BEFORE_CREATE, &took), 1, 0, 0);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_unmap_pages(txn, 0, 0, PAGE));
	expect(stretched(txn, GPAMAP_SIM_AFTER_DELETE, &took), 1, 0, 0);
	txn = vm_begin(&vm);
	expect(stretched(txn, GPAMAP_SIM_AFTER_DELETE, &took), 0, 0, 0);
}

static int slow_quiesce(void *opaque, uint64_t deadline_ns)
{
	(void)opaque;
	(void)deadline_ns;
	sleep_ms(20);
	return 0;
}

static void slow_resume(void *opaque, bool changed)
{
	(void)opaque;
	(void)changed;
	sleep_ms(20);
}

/* vCPUs are held while listeners stop and go on. */
static void blackout_with_a_listener(void **state)
{
	const struct gpamap_listener_desc desc = {
		.name = "slow", .quiesce = slow_quiesce, .resume = slow_resume};
	struct gpamap_listener *listener;
	struct gpamap_txn *txn;

	(void)state;
	ok(gpamap_listener_add(vm.map, &desc, &listener));
	CHANGE(gpamap_map_pages(txn, 0, 0, 16 * PAGE, mem_a, GPAMAP_RW));
	assert_true(CHANGE(gpamap_protect_pages(txn, 0, 0, PAGE, GPAMAP_RO)).blackout_ns >=
		    2 * STRETCH_NS);
	gpamap_listener_remove(listener);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		vm_test(empty_transaction),
		vm_test(add_and_remove),
		vm_test(grow_and_shrink),
		vm_test(log_whole_slots),
		vm_test(protect_a_part),
		vm_test(reback),
		vm_test(move),
		vm_test(one_instant),
		vm_test(tree_verbs),
		vm_test(alias_verbs),
		vm_test(rom_device),
		vm_test(mmio_hides_memory),
		vm_test(plain_over_tree),
		vm_test(blackout),
		vm_test(no_blackout),
		vm_test(blackout_with_a_listener),
		cmocka_unit_test(two_spaces),
		cmocka_unit_test(large_slots_are_cut),
	};

	mems_new(64);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
