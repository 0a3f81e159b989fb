/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Faults that were found by others, each as a case of its own: commits under load, held against the one legal order
 * (order.h). And what follows from them for memory that its owner frees when the commit has returned (P5).
 */
#include "order.h"

#define AND(a) (1u << (a))
#define LONG_PAGES UINT64_C(256) /* 16 times what an accessor copies in one go */

static struct order o;

static const struct order_fault none = {.kind = NO_FAULT};

static struct order_fault nth(enum gpamap_sim_call call, unsigned n)
{
	return (struct order_fault){.kind = CALL, .call = call, .nth = n};
}

/* All watchers together, at all places of an area. */
static uint64_t met(unsigned area, int side)
{
	uint64_t n = 0;

	for (unsigned p = 0; p < o.nr_places; p++) {
		if (o.place[p].gpa / PAGE / AREA_PAGES != area)
			continue;
		for (unsigned i = 0; i < WATCHERS; i++)
			n += o.watcher[i].met[p].n[side];
	}
	return n;
}

static uint64_t stores(unsigned area)
{
	uint64_t n = 0;

	for (unsigned p = 0; p < o.nr_places; p++) {
		if (o.place[p].gpa / PAGE / AREA_PAGES != area)
			continue;
		for (unsigned i = 0; i < WATCHERS; i++)
			n += o.watcher[i].met[p].stored;
	}
	return n;
}

/* ------------------------------------------------------------------ a late delete is refused --- */

/* Guests have lived on the new map since the gate opened: what they have stored there stays. */
static void late_delete_is_refused(void **state)
{
	(void)state;
	for (unsigned n = 2; n <= 4; n++) {
		struct order_fault f = nth(GPAMAP_SIM_DELETE, n);

		order_run(&o, AND(REBACK) | AND(REMOVE) | AND(MOVE) | AND(HAND_OVER_GMEM), &f, 0);
		/* The first two are behind the gate, the others after it. */
		assert_int_equal(o.err, n == 2 ? -ENOMEM : 0);
		if (n == 2)
			continue;
		assert_int_equal(o.report.late, 2);
		assert_int_equal(o.pending, 1);
		assert_true(met(REBACK, NEW) > 0 && stores(REBACK) > 0);
	}
}

/* Three go, and the third can't: the first two have not been away for a while, they are gone. */
static void third_of_three(void **state)
{
	struct order_fault f = nth(GPAMAP_SIM_DELETE, 3);

	(void)state;
	order_run(&o, AND(REMOVE) | AND(MOVE) | AND(BARS), &f, 0);
	assert_int_equal(o.err, 0);
	assert_int_equal(o.pending, 1);
	/* Without a release callback they can't be left over, and so go behind the gate. */
	order_run(&o, AND(REMOVE_BARE) | AND(UNMAP) | AND(TO_NONE), &f, 0);
	assert_int_equal(o.err, -ENOMEM);
}

/* --------------------------------------------------------- memory over what can be noticed --- */

static void nothing_gets_past(unsigned area)
{
	static const enum fault_kind waits[] = {HELD, LEAVES_SLOWLY, NO_QUIESCE};
	uint32_t which = AND(area) | AND(ADD) | AND(PROTECT);

	for (size_t i = 0; i < ARRAY_SIZE(waits); i++) {
		struct order_fault f = {.kind = waits[i]};

		order_run(&o, which, &f, 0);
		/* A vCPU that was out when the gate shut does not leave slowly. */
		if (waits[i] == LEAVES_SLOWLY && !o.err)
			continue;
		assert_int_equal(o.err, waits[i] == NO_QUIESCE ? -EIO : -ETIMEDOUT);
		assert_int_equal(met(area, NEW), 0);
	}
	for (unsigned n = 1; n <= 4; n++) {
		struct order_fault f = nth(GPAMAP_SIM_CREATE, n);

		order_run(&o, which, &f, 0);
		assert_int_equal(o.err, -ENOMEM);
		assert_int_equal(met(area, NEW), 0);
	}
}

/* Each store that a guest makes meanwhile is the device's. */
static void device_keeps_its_stores(void **state)
{
	(void)state;
	nothing_gets_past(RAM_OVER_MMIO);
	assert_true(stores(RAM_OVER_MMIO) > 0);
	nothing_gets_past(TRAP_TO_ROM);
	assert_true(stores(TRAP_TO_ROM) > 0);
	nothing_gets_past(FROM_NONE);
}

/* Alone it needs no gate: it is the decisive operation. */
static void device_alone(void **state)
{
	static const unsigned alone[] = {RAM_OVER_MMIO, TRAP_TO_ROM, RAM_FROM_MMIO, ROM_TO_TRAP};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(alone); i++) {
		struct order_fault f = nth(GPAMAP_SIM_ANY, 1);

		order_run(&o, AND(alone[i]), &none, 0);
		assert_int_equal(o.err, 0);
		assert_false(o.report.gate_shut);
		assert_true(met(alone[i], OLD) > 0 && met(alone[i], NEW) > 0);
		f.call = i < 2 ? GPAMAP_SIM_CREATE : GPAMAP_SIM_DELETE;
		order_run(&o, AND(alone[i]), &f, 0);
		assert_int_equal(o.err, -ENOMEM);
	}
}

/* ------------------------------------------------------------------------- accesses outlive --- */

struct writer {
	pthread_t thread;
	struct vm *vm;
	atomic_bool stop;
	atomic_ulong times;
	uint64_t failed;
};

static void *write_all(void *opaque)
{
	static uint8_t buf[LONG_PAGES * PAGE];
	struct writer *w = opaque;

	memset(buf, 0x5a, sizeof(buf));
	while (!atomic_load(&w->stop)) {
		w->failed += gpamap_write(w->vm->map, 0, 0, buf, sizeof(buf)) != 0;
		atomic_fetch_add(&w->times, 1);
	}
	return NULL;
}

static bool is_clean(const uint8_t *mem)
{
	for (uint64_t i = 0; i < LONG_PAGES * PAGE; i += PAGE / 2) {
		if (__atomic_load_n(mem + i, __ATOMIC_RELAXED))
			return false;
	}
	return true;
}

static void wait_for_writer(struct writer *w, unsigned long n)
{
	unsigned long from = atomic_load(&w->times);

	while (atomic_load(&w->times) < from + n)
		sleep_ms(1);
}

/* An access of 1 MiB meets a commit that gives other memory to what it writes to. The memory that is not the map's when
 * the commit has returned, be it the old or the new, is left alone from then on. */
static void long_access(void **state)
{
	static uint8_t mem[2][LONG_PAGES * PAGE] __attribute__((aligned(4096)));
	struct writer w = {.vm = &vm};
	struct gpamap_region *r;
	unsigned failed = 0;
	int now = 0;

	(void)state;
	vm_open(&vm, NULL, NULL);
	r = vm_ram(&vm, mem[0], LONG_PAGES, 0);
	vm_add(&vm, r, 0);
	ok(pthread_create(&w.thread, NULL, write_all, &w));
	for (unsigned i = 0; i < 60; i++) {
		struct gpamap_txn *txn = vm_begin(&vm);
		int err;

		memset(mem[!now], 0, sizeof(mem[0]));
		ok_txn(txn, gpamap_reback(txn, r, mem[!now]));
		if (i % 3)
			gpamap_sim_fail(vm.sim, i % 3 == 1 ? GPAMAP_SIM_CREATE : GPAMAP_SIM_DELETE,
					1, ENOMEM, false);
		err = gpamap_commit(txn, NULL, NULL);
		assert_int_equal(err, i % 3 ? -ENOMEM : 0);
		now = err ? now : !now;
		if (err)
			gpamap_abort(txn);
		else
			memset(mem[!now], 0, sizeof(mem[0]));
		failed += err != 0;
		if (i % 4 == 0)
			wait_for_writer(&w, 2);
		assert_true(is_clean(mem[!now]));
	}
	atomic_store(&w.stop, true);
	ok(pthread_join(w.thread, NULL));
	assert_int_equal(w.failed, 0);
	assert_int_equal(failed, 40);
	gpamap_region_put(r);
	vm_close(&vm);
}

/* ------------------------------------------------------------------- a move that is refused --- */

/* The move of an area's region to where KVM has no addresses. */
static void too_high(unsigned area, uint64_t gpa)
{
	struct gpamap_txn *txn;
	uint64_t moves;

	for (unsigned flags = 0; flags <= GPAMAP_COMMIT_ONE_INSTANT; flags++) {
		order_open(&o, AND(area), 40);
		moves = gpamap_sim_calls(o.vm.sim, GPAMAP_SIM_ANY);
		txn = vm_begin(&o.vm);
		ok_txn(txn, gpamap_move(txn, o.region[area], gpa));
		order_commit(&o, txn, &none, flags);
		assert_int_equal(o.err, -ERANGE);
		assert_int_equal(gpamap_sim_calls(o.vm.sim, GPAMAP_SIM_ANY), moves);
		order_close(&o);
	}
}

static void move_too_high(void **state)
{
	(void)state;
	too_high(MOVE, UINT64_C(1) << 40);
	too_high(MOVE, (UINT64_C(1) << 40) - PAGE);
	/* The third BAR alone is. */
	too_high(BARS, (UINT64_C(1) << 40) - 4 * PAGE);
}

/* The simulated VM refuses, as KVM may for want of memory, and leaves a trace: behind the gate, where nobody sees. */
static void move_is_refused(void **state)
{
	struct order_fault f = nth(GPAMAP_SIM_MOVE, 1);

	(void)state;
	order_open(&o, AND(MOVE_ONTO_ITSELF), 0);
	for (int i = 0; i < 2; i++) {
		struct gpamap_txn *txn = vm_begin(&o.vm);

		areas[MOVE_ONTO_ITSELF].change(&o, txn, MOVE_ONTO_ITSELF);
		order_commit(&o, txn, &f, i ? GPAMAP_COMMIT_ONE_INSTANT : 0);
		assert_int_equal(o.err, -ENOMEM);
		atomic_store(&o.phase, BEFORE);
	}
	assert_int_equal(gpamap_sim_traces(o.vm.sim, false), 2);
	assert_int_equal(gpamap_sim_traces(o.vm.sim, true), 0);
	order_close(&o);
}

static void bars_are_refused(void **state)
{
	(void)state;
	for (unsigned n = 1; n <= 3; n++) {
		struct order_fault f = nth(GPAMAP_SIM_CREATE, n);

		for (unsigned flags = 0; flags <= GPAMAP_COMMIT_ONE_INSTANT; flags++) {
			f.call = flags ? GPAMAP_SIM_MOVE : GPAMAP_SIM_CREATE;
			order_run(&o, AND(BARS), &f, flags);
			assert_int_equal(o.err, -ENOMEM);
		}
		f.call = GPAMAP_SIM_DELETE;
		order_run(&o, AND(BARS), &f, 0);
		assert_int_equal(o.err, 0);
		assert_int_equal(o.pending, 1);
	}
}

/* --------------------------------------------------- memory that may be freed at once (P5) --- */

static void fail_deletes(bool on)
{
	gpamap_sim_fail(vm.sim, GPAMAP_SIM_DELETE, on, ENOMEM, true);
}

/* A region with a release callback gets other memory, and goes, in one transaction: its old memory is the caller's when
 * that has been committed, so its slot can't be left over. */
static void reback_and_go(bool mapped)
{
	struct gpamap_region *r = vm_ram(&vm, mem_a, 2, 0);
	struct gpamap_txn *txn = vm_begin(&vm);
	static struct world before;

	if (mapped)
		ok_txn(txn, gpamap_map_region(txn, 0, 4 * PAGE, 2 * PAGE, r, 0, GPAMAP_RW));
	else
		ok_txn(txn, gpamap_add(txn, gpamap_root(vm.map, 0), 4 * PAGE, r, 0));
	vm_commit(&vm, txn);
	world_take(&vm, &before);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_reback(txn, r, mem_b));
	if (mapped)
		ok_txn(txn, gpamap_unmap_pages(txn, 0, 4 * PAGE, 2 * PAGE));
	else
		ok_txn(txn, gpamap_remove(txn, r));
	fail_deletes(true);
	refused(txn, gpamap_commit(txn, NULL, NULL), -ENOMEM);
	assert_int_equal(vm_stats(&vm).pending, 0);
	fail_deletes(false);
	world_check(&vm, &before);
	ok_txn(txn, gpamap_commit(txn, NULL, NULL));
	vm_check_hole(&vm, 4, 2);
	assert_int_equal(vm_stats(&vm).slots, 0);
	gpamap_region_put(r);
}

static void reback_and_remove(void **state)
{
	(void)state;
	reback_and_go(false);
}

static void reback_and_unmap(void **state)
{
	(void)state;
	reback_and_go(true);
}

/* Its slot is left over when the region gets other memory: that commit must not succeed with the slot still there. */
static void reback_what_is_left_over(void **state)
{
	struct gpamap_region *r = vm_ram(&vm, mem_a, 2, 0);
	struct gpamap_txn *txn;

	(void)state;
	vm_add(&vm, r, 4);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_remove(txn, r));
	fail_deletes(true);
	ok_txn(txn, gpamap_commit(txn, NULL, NULL));
	assert_int_equal(vm_stats(&vm).pending, 1);
	for (int back = 0; back < 2; back++) {
		txn = vm_begin(&vm);
		ok_txn(txn, gpamap_reback(txn, r, mem_b));
		if (back)
			ok_txn(txn, gpamap_add(txn, gpamap_root(vm.map, 0), 4 * PAGE, r, 0));
		refused(txn, gpamap_commit(txn, NULL, NULL), -ENOMEM);
		assert_int_equal(vm_stats(&vm).pending, 1);
		assert_int_equal(vm_load(&vm, 4 * PAGE), mem_tag(A, 0));
		if (!back)
			gpamap_abort(txn);
	}
	fail_deletes(false);
	ok_txn(txn, gpamap_commit(txn, NULL, NULL));
	vm_check_pages(&vm, 4, 2, B, 0, true);
	assert_int_equal(vm_stats(&vm).pending, 0);
	assert_int_equal(vm_stats(&vm).slots, 1);
	gpamap_region_put(r);
}

/* New memory that a transaction gives to a region may be freed when it is aborted: its slot, made early, can't be left
 * over, for all that the region has a release callback. */
static void reback_that_fails(void **state)
{
	struct gpamap_region *r = vm_ram(&vm, mem_a, 2, 0), *other = vm_ram(&vm, mem_c, 1, 0);
	struct gpamap_txn *txn = vm_begin(&vm);

	(void)state;
	ok_txn(txn, gpamap_reback(txn, r, mem_b));
	ok_txn(txn, gpamap_add(txn, gpamap_root(vm.map, 0), 4 * PAGE, r, 0));
	ok_txn(txn, gpamap_add(txn, gpamap_root(vm.map, 0), 8 * PAGE, other, 0));
	gpamap_sim_fail(vm.sim, GPAMAP_SIM_CREATE, 2, ENOMEM, false);
	fail_deletes(true);
	refused(txn, gpamap_commit(txn, NULL, NULL), -ENOTRECOVERABLE);
	assert_int_equal(gpamap_enter(vm.map), -ENOTRECOVERABLE);
	fail_deletes(false);
	gpamap_abort(txn);
	txn = vm_begin(&vm);
	vm_commit(&vm, txn);
	ok(gpamap_enter(vm.map));
	gpamap_leave(vm.map);
	vm_check_hole(&vm, 0, 16);
	gpamap_region_put(r);
	gpamap_region_put(other);
}

/* The one slot is gone, and the repair asks for none: it has no operation to do, and opens the gate all the same. */
static void repair_with_nothing_to_do(void **state)
{
	struct gpamap_txn *txn = vm_begin(&vm);
	struct gpamap_plan *plan;

	(void)state;
	ok_txn(txn, gpamap_map_pages(txn, 0, 4 * PAGE, PAGE, mem_a, GPAMAP_RW));
	vm_commit(&vm, txn);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_protect_pages(txn, 0, 4 * PAGE, PAGE, GPAMAP_RO));
	gpamap_sim_fail(vm.sim, GPAMAP_SIM_CREATE, 1, ENOMEM, true);
	refused(txn, gpamap_commit(txn, NULL, NULL), -ENOTRECOVERABLE);
	assert_int_equal(gpamap_enter(vm.map), -ENOTRECOVERABLE);
	ok_txn(txn, gpamap_unmap_pages(txn, 0, 4 * PAGE, PAGE));
	ok_txn(txn, gpamap_preview(txn, 0, &plan));
	assert_int_equal(gpamap_plan_count(plan), 0);
	gpamap_plan_free(plan);
	vm_commit(&vm, txn);
	assert_false(vm_stats(&vm).broken);
	ok(gpamap_enter(vm.map));
	gpamap_leave(vm.map);
	gpamap_sim_fail(vm.sim, GPAMAP_SIM_CREATE, 0, 0, false);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_map_pages(txn, 0, 4 * PAGE, PAGE, mem_b, GPAMAP_RW));
	/* And what needs no gate goes without again. */
	assert_false(vm_commit(&vm, txn).gate_shut);
	vm_check_pages(&vm, 4, 1, B, 0, true);
}

static int group_setup(void **state)
{
	mems_new(16);
	return order_memory(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(late_delete_is_refused),
		cmocka_unit_test(third_of_three),
		cmocka_unit_test(device_keeps_its_stores),
		cmocka_unit_test(device_alone),
		cmocka_unit_test(long_access),
		cmocka_unit_test(move_too_high),
		cmocka_unit_test(move_is_refused),
		cmocka_unit_test(bars_are_refused),
		vm_test(reback_and_remove),
		vm_test(reback_and_unmap),
		vm_test(reback_what_is_left_over),
		vm_test(reback_that_fails),
		vm_test(repair_with_nothing_to_do),
	};

	return cmocka_run_group_tests(tests, group_setup, NULL);
}
