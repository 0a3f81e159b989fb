/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What KVM would refuse is refused before the first slot operation, in words (P3); and so is what KVM would do to
 * somebody else's slots. Sees the inside of a map, for a VM that has no dirty log.
 */
#include "common.h"

#include "api/impl.h"
#include "backend/backend.h"

#define MEM 1

/* Nothing was asked of KVM that could have changed something. */
static void nothing_done(struct vm *vm, const struct gpamap_stats *before)
{
	struct gpamap_stats now = vm_stats(vm);

	assert_int_equal(now.slot_ioctls, before->slot_ioctls);
	assert_int_equal(now.gate_shut, before->gate_shut);
	assert_int_equal(now.failed, before->failed + 1);
}

static void says(const struct gpamap_txn *txn, const char *word)
{
	if (!strstr(gpamap_message(txn), word))
		fail_msg("\"%s\" does not say \"%s\"", gpamap_message(txn), word);
}

/* The commit of @txn fails with @err and says @word; so does its preview. @txn is aborted. */
static void commit_refused(struct vm *vm, struct gpamap_txn *txn, int err, const char *word)
{
	struct gpamap_stats before = vm_stats(vm);
	struct gpamap_plan *plan = NULL;

	refused(txn, gpamap_preview(txn, 0, &plan), err);
	says(txn, word);
	assert_null(plan);
	refused(txn, gpamap_commit(txn, NULL, NULL), err);
	says(txn, word);
	nothing_done(vm, &before);
	gpamap_abort(txn);
}

static void map_refused(struct vm *vm, uint64_t gpa, uint64_t pages, void *hva, int err,
			const char *word)
{
	struct gpamap_txn *txn = vm_begin(vm);

	ok_txn(txn, gpamap_map_pages(txn, 0, gpa, pages * PAGE, hva, GPAMAP_RW));
	commit_refused(vm, txn, err, word);
}

static void map_and_unmap(struct vm *vm, uint64_t gpa, uint64_t pages, void *hva)
{
	struct gpamap_txn *txn = vm_begin(vm);

	ok_txn(txn, gpamap_map_pages(txn, 0, gpa, pages * PAGE, hva, GPAMAP_RW));
	vm_commit(vm, txn);
	txn = vm_begin(vm);
	ok_txn(txn, gpamap_unmap_pages(txn, 0, gpa, pages * PAGE));
	vm_commit(vm, txn);
}

static void greatest_gpa(void **state)
{
	struct gpamap_sim_options sim = {.gpa_bits = 40};
	uint64_t end = UINT64_C(1) << 40;
	uint8_t *mem = mem_new(MEM, 4);
	struct vm vm;

	(void)state;
	vm_open(&vm, &sim, NULL);
	map_and_unmap(&vm, end - 4 * PAGE, 4, mem);
	map_refused(&vm, end - 3 * PAGE, 4, mem, -ERANGE, "greatest address is 0xffffffffff");
	map_refused(&vm, end, 4, mem, -ERANGE, "greatest address");
	vm_close(&vm);
}

/* One of 64 bits may end at its last page but one. */
static void last_page(void **state)
{
	struct gpamap_sim_options sim = {.gpa_bits = 64};
	uint8_t *mem = mem_new(MEM, 4);
	struct vm vm;

	(void)state;
	vm_open(&vm, &sim, NULL);
	map_and_unmap(&vm, -5 * PAGE, 4, mem);
	map_refused(&vm, -4 * PAGE, 4, mem, -ERANGE, "2^64");
	vm_close(&vm);
}

static void host_memory(void **state)
{
	struct vm vm;

	(void)state;
	vm_open(&vm, NULL, NULL);
	map_refused(&vm, 0, 4, (void *)(uintptr_t)(UINT64_MAX - 4 * PAGE + 1), -ERANGE,
		    "beyond user space");
	map_refused(&vm, 0, 4, (void *)(uintptr_t)(UINT64_C(1) << 60), -ERANGE,
		    "beyond user space");
	vm_close(&vm);
}

/* A guest may ask for it, by programming a BAR: what it has stays where it is, without a gap (item 4 of the round). */
static void move_too_high(void **state)
{
	struct gpamap_sim_options sim = {.gpa_bits = 40};
	struct gpamap_region *ram;
	struct gpamap_txn *txn;
	struct vm vm;
	uint64_t moves;

	(void)state;
	vm_open(&vm, &sim, NULL);
	ram = vm_ram(&vm, mem_new(MEM, 4), 4, 0);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_add(txn, gpamap_root(vm.map, 0), 8 * PAGE, ram, 0));
	vm_commit(&vm, txn);
	moves = gpamap_sim_calls(vm.sim, GPAMAP_SIM_ANY);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_move(txn, ram, UINT64_C(1) << 40));
	commit_refused(&vm, txn, -ERANGE, "greatest address");
	assert_int_equal(gpamap_sim_calls(vm.sim, GPAMAP_SIM_ANY), moves);
	vm_check_pages(&vm, 8, 4, MEM, 0, true);
	gpamap_region_put(ram);
	vm_close(&vm);
}

/* --------------------------------------------------------------------------- others' slots --- */

static int set(struct vm *vm, uint32_t id, uint64_t gpa, uint64_t pages, void *hva)
{
	struct gpamap_sim_slot s = {
		.slot = id, .gpa = gpa, .size = pages * PAGE, .hva = (uintptr_t)hva};

	return gpamap_sim_set_slot(vm->sim, &s);
}

/* Where they are: beyond the pages that vm_commit() compares with the map. */
#define OTHERS UINT64_C(200)

/* KVM would take the first map's slot, which shows the same memory, for the one that is to be created, and move it. */
static void second_map(void **state)
{
	uint8_t *mem = mem_new(MEM, 4);
	struct gpamap *first;
	struct gpamap_txn *txn;
	struct vm vm;

	(void)state;
	vm_open(&vm, NULL, NULL);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_map_pages(txn, 0, OTHERS * PAGE, 4 * PAGE, mem, GPAMAP_RW));
	vm_commit(&vm, txn);
	first = vm.map;
	ok(gpamap_new_sim(vm.sim, NULL, &vm.map));
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_map_pages(txn, 0, 16 * PAGE, 4 * PAGE, mem, GPAMAP_RW));
	commit_refused(&vm, txn, -EBUSY, "slot 0 of address space 0");
	vm_check_pages(&vm, OTHERS, 4, MEM, 0, true);
	assert_false(vm_slot_at(&vm, 0, 16 * PAGE));

	/* With ids apart both can live on one VM. */
	ok(gpamap_reserve_slots(vm.map, 0, 0, 100));
	ok(gpamap_reserve_slots(first, 0, 100, 1000));
	map_and_unmap(&vm, 16 * PAGE, 4, mem);
	vm_check_pages(&vm, OTHERS, 4, MEM, 0, true);
	gpamap_free(vm.map);
	vm.map = first;
	vm_close(&vm);
}

/* A VMM that made slots before the map: those with the ids that the library would use are refused, whatever they show. */
static void slots_made_before(void **state)
{
	struct gpamap_options two = {.spaces = 2};
	struct gpamap_sim_options sim = {.spaces = 2};
	uint8_t *mem = mem_new(MEM, 16);
	struct gpamap_txn *txn;
	struct vm vm;

	(void)state;
	vm_open(&vm, &sim, &two);
	ok(set(&vm, 1, OTHERS * PAGE, 4, mem));
	ok(set(&vm, 1u << 16, OTHERS * PAGE, 4, mem));
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_map_pages(txn, 1, 8 * PAGE, 4 * PAGE, mem, GPAMAP_RW));
	commit_refused(&vm, txn, -EBUSY, "slot 0 of address space 1");
	/* Id 0 is free in space 0, and id 1 isn't. */
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_map_pages(txn, 0, 0, 4 * PAGE, mem, GPAMAP_RW));
	vm_commit(&vm, txn);
	map_refused(&vm, 8 * PAGE, 4, mem, -EBUSY, "slot 1 of address space 0");
	vm_check_pages(&vm, OTHERS, 4, MEM, 0, true);
	ok(gpamap_reserve_slots(vm.map, 0, 1, 1));
	map_and_unmap(&vm, 8 * PAGE, 4, mem);
	vm_check_pages(&vm, OTHERS, 4, MEM, 0, true);
	vm_close(&vm);
}

static uint64_t asked;

static int (*true_ids_free)(struct gm_backend *b, unsigned space, const uint32_t *ids, size_t n,
			    const struct gm_slot *ours, uint32_t *taken);

static int ids_free(struct gm_backend *b, unsigned space, const uint32_t *ids, size_t n,
		    const struct gm_slot *ours, uint32_t *taken)
{
	asked += n;
	/* The first time there are none of the map's. */
	assert_int_equal(ours != NULL, asked > 1);
	return true_ids_free(b, space, ids, n, ours, taken);
}

static bool log_is_there;

static bool has_log(struct gm_backend *b)
{
	(void)b;
	asked++;
	return log_is_there;
}

/* Each id is asked for once, and not again when its slot goes and another one comes. */
static void ids_are_asked_for_once(void **state)
{
	struct gm_backend_ops ops;
	uint8_t *mem = mem_new(MEM, 8);
	struct gpamap_txn *txn;
	struct vm vm;

	(void)state;
	vm_open(&vm, NULL, NULL);
	ops = *vm.map->backend->ops;
	true_ids_free = ops.ids_free;
	ops.ids_free = ids_free;
	vm.map->backend->ops = &ops;
	asked = 0;
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_map_pages(txn, 0, 0, 4 * PAGE, mem, GPAMAP_RW));
	vm_commit(&vm, txn);
	assert_int_equal(asked, 1);
	for (int i = 0; i < 3; i++)
		map_and_unmap(&vm, 8 * PAGE, 4, mem + 4 * PAGE);
	assert_int_equal(asked, 2);
	vm_close(&vm);
}

/* ------------------------------------------------------------------------------ dirty rings --- */

/* In a VM with a dirty ring the log would stay empty, or could not be read in the middle of a commit. */
static void no_dirty_log(void **state)
{
	struct gm_backend_ops ops;
	struct gpamap_region *ram;
	struct gpamap_txn *txn;
	struct vm vm;

	(void)state;
	vm_open(&vm, NULL, NULL);
	ops = *vm.map->backend->ops;
	ops.has_log = has_log;
	vm.map->backend->ops = &ops;
	log_is_there = false;
	asked = 0;
	ram = vm_ram(&vm, mem_new(MEM, 4), 4, 0);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_add(txn, gpamap_root(vm.map, 0), 0, ram, 0));
	vm_commit(&vm, txn);
	assert_int_equal(asked, 0);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_set_log(txn, ram, true));
	commit_refused(&vm, txn, -ENOTSUP, "dirty ring");
	/* A ring that came after the map was made is noticed, and so is a log that is there. */
	log_is_there = true;
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_set_log(txn, ram, true));
	vm_commit(&vm, txn);
	gpamap_region_put(ram);
	vm_close(&vm);
}

/* The same, told by the VM. */
static void dirty_ring(void **state)
{
	struct gpamap_sim_options sim = {.flags = GPAMAP_SIM_DIRTY_RING};
	struct gpamap_region *ram;
	struct gpamap_txn *txn;
	struct vm vm;

	(void)state;
	vm_open(&vm, &sim, NULL);
	ram = vm_ram(&vm, mem_new(MEM, 4), 4, 0);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_set_log(txn, ram, true));
	ok_txn(txn, gpamap_add(txn, gpamap_root(vm.map, 0), 0, ram, 0));
	commit_refused(&vm, txn, -ENOTSUP, "dirty ring");
	gpamap_region_put(ram);
	vm_close(&vm);
}

/* ------------------------------------------------------------------------------ KVM's own slots --- */

/* Where they are can't be asked either. What overlaps them fails in the middle, is undone, and says what it may be. */
static void hidden_slots(void **state)
{
	struct gpamap_sim_options sim = {.hidden_gpa = 20 * PAGE, .hidden_size = 3 * PAGE};
	struct gpamap_options opt = {.max_slot_size = 4 * PAGE};
	uint8_t *mem = mem_new(MEM, 32);
	struct gpamap_txn *txn;
	struct vm vm;

	(void)state;
	vm_open(&vm, &sim, &opt);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_map_pages(txn, 0, 0, 32 * PAGE, mem, GPAMAP_RW));
	refused(txn, gpamap_commit(txn, NULL, NULL), -EEXIST);
	says(txn, "0x14000");
	says(txn, "TSS");
	gpamap_abort(txn);
	vm_check_slots(&vm, WORLD_PAGES);
	vm_check_hole(&vm, 0, 32);
	/* Around them. */
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_map_pages(txn, 0, 0, 20 * PAGE, mem, GPAMAP_RW));
	ok_txn(txn, gpamap_map_pages(txn, 0, 23 * PAGE, 9 * PAGE, mem + 23 * PAGE, GPAMAP_RW));
	vm_commit(&vm, txn);
	vm_close(&vm);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(greatest_gpa),
		cmocka_unit_test(last_page),
		cmocka_unit_test(host_memory),
		cmocka_unit_test(move_too_high),
		cmocka_unit_test(second_map),
		cmocka_unit_test(slots_made_before),
		cmocka_unit_test(ids_are_asked_for_once),
		cmocka_unit_test(no_dirty_log),
		cmocka_unit_test(dirty_ring),
		cmocka_unit_test(hidden_slots),
	};

	return cmocka_run_group_tests_name("api/limits", tests, NULL, NULL);
}
