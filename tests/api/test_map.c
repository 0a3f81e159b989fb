/* SPDX-License-Identifier: BSD-3-Clause */
/* Options of a map: whose memory it lives in, and how large its slots may be. */
#include "common.h"

/* KVM has no slot that is larger. */
#define MAX_SLOT (((UINT64_C(1) << 31) - 1) * PAGE)
/* The greatest power of two below. */
#define BLOCK ((UINT64_C(1) << 30) * PAGE)

/* --------------------------------------------------------------------------- the allocator --- */

static unsigned calls;

static void *some_alloc(void *opaque, size_t size)
{
	(void)opaque;
	calls++;
	return malloc(size);
}

static void some_free(void *opaque, void *ptr)
{
	(void)opaque;
	calls++;
	free(ptr);
}

static void check_refused(int err, const char *message, const struct gpamap *map)
{
	assert_int_equal(err, -EINVAL);
	assert_non_null(strstr(message, "alloc"));
	assert_null(map);
	assert_int_equal(calls, 0);
}

/* One without the other is refused before either is called, and before the VM is looked at. */
static void half_an_allocator(void **state)
{
	struct gpamap_options half[] = {{.alloc = some_alloc}, {.free = some_free}};
	struct gpamap *map = NULL;
	struct gpamap_sim *sim;

	(void)state;
	ok(gpamap_sim_new(NULL, &sim));
	calls = 0;
	for (size_t i = 0; i < ARRAY_SIZE(half); i++) {
		char message[64] = "";

		half[i].message = message;
		half[i].message_size = sizeof(message);
		check_refused(gpamap_new_sim(sim, &half[i], &map), message, map);
		message[0] = '\0';
		check_refused(gpamap_new_kvm(-1, &half[i], &map), message, map);
	}
	gpamap_sim_free(sim);
}

static void whole_allocator(void **state)
{
	struct gpamap_options opt = {.alloc = some_alloc, .free = some_free};
	struct gpamap *map;
	struct gpamap_sim *sim;

	(void)state;
	ok(gpamap_sim_new(NULL, &sim));
	calls = 0;
	ok(gpamap_new_sim(sim, &opt, &map));
	gpamap_free(map);
	assert_true(calls > 0);
	gpamap_sim_free(sim);
}

/* ------------------------------------------------------------------------ the greatest slot --- */

/* All of the memory, in so many slots, each of which KVM can make. */
static void check_plan(struct gpamap_txn *txn, unsigned slots)
{
	struct gpamap_plan *plan;
	uint64_t next = BLOCK;

	ok_txn(txn, gpamap_preview(txn, 0, &plan));
	assert_int_equal(gpamap_plan_count(plan), slots);
	for (unsigned i = 0; i < slots; i++) {
		const struct gpamap_op *op = gpamap_plan_op(plan, i);

		assert_int_equal(op->kind, GPAMAP_OP_CREATE);
		assert_int_equal(op->gpa, next);
		assert_true(op->size <= MAX_SLOT);
		next += op->size;
	}
	assert_int_equal(next, 3 * BLOCK);
	gpamap_plan_free(plan);
}

/* Of addresses only: nobody touches them. */
static void map_two_blocks(uint64_t max_slot_size, unsigned slots)
{
	struct gpamap_options opt = {.max_slot_size = max_slot_size};
	struct gpamap_commit_report report;
	struct gpamap_txn *txn;
	struct vm vm;

	vm_open(&vm, NULL, &opt);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_map_pages(txn, 0, BLOCK, 2 * BLOCK, (void *)PAGE, GPAMAP_RW));
	check_plan(txn, slots);
	assert_int_equal(vm_stats(&vm).slot_ioctls, 0);
	report = vm_commit(&vm, txn);
	assert_int_equal(report.early, slots);
	assert_int_equal(vm_stats(&vm).slot_ioctls, slots);
	assert_int_equal(vm_stats(&vm).undone, 0);
	vm_close(&vm);
}

/* Whatever the options say, the plan keeps within what KVM can do (P3). */
static void greatest_slot(void **state)
{
	(void)state;
	map_two_blocks(BLOCK / 2, 4);
	map_two_blocks(BLOCK, 2);
	map_two_blocks(2 * BLOCK, 2);
	map_two_blocks(UINT64_C(1) << 50, 2);
	map_two_blocks(UINT64_C(1) << 63, 2);
}

/* @size bytes of memory, of addresses only, where there are so many slots; then a page of it changes. */
static void map_all(unsigned slots, uint64_t size, unsigned used)
{
	struct gpamap_sim_options sim = {.slots = slots};
	struct gpamap_txn *txn;
	struct vm vm;

	vm_open(&vm, &sim, NULL);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_map_pages(txn, 0, BLOCK, size, (void *)PAGE, GPAMAP_RW));
	vm_commit(&vm, txn);
	assert_int_equal(vm_stats(&vm).slots, used);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_protect_pages(txn, 0, BLOCK + size / 2, PAGE, GPAMAP_RO));
	vm_commit(&vm, txn);
	assert_in_range(vm_stats(&vm).slots, used / 2, slots);
	vm_close(&vm);
}

/* The default of 1 GiB gives way, and no more than it has to. */
static void greatest_slot_gives_way(void **state)
{
	const uint64_t gib = UINT64_C(1) << 30;
	const unsigned many = SLOW ? 2044 : 32764;

	(void)state;
	map_all(509, 500 * gib, 500);
	map_all(509, 512 * gib, 256);
	map_all(many, many * gib, many);
	map_all(many, 2 * (many + 4) * gib, (many + 4) / 2);
	map_all(24, 65536 * gib, 16);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(half_an_allocator),
		cmocka_unit_test(whole_allocator),
		cmocka_unit_test(greatest_slot),
		cmocka_unit_test(greatest_slot_gives_way),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
