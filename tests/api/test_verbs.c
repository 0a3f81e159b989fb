/* SPDX-License-Identifier: BSD-3-Clause */
/* What the comments of the edits say of cases at the edge: which edits reach windows that gpamap_map_region() has made,
 * moves to nowhere, writes to a ROM device below something read-only, and maps that show too much. */
#include "common.h"

#define CHANGE(call)                                    \
	do {                                            \
		struct gpamap_txn *txn = vm_begin(&vm); \
                                                        \
		ok_txn(txn, call);                      \
		vm_commit(&vm, txn);                    \
	} while (0)

/* ---------------------------------------------------------------------------- mappings --- */

/* In the tree at page 0, and by a plain mapping of its last two pages at page 16. */
static struct gpamap_region *shown_twice(void)
{
	struct gpamap_region *r = vm_ram(&vm, mem_a, 4, 8);
	struct gpamap_txn *txn = vm_begin(&vm);

	ok_txn(txn, gpamap_add(txn, gpamap_root(vm.map, 0), 0, r, 0));
	ok_txn(txn, gpamap_map_region(txn, 0, 16 * PAGE, 2 * PAGE, r, 2 * PAGE, GPAMAP_RW));
	vm_commit(&vm, txn);
	return r;
}

static void what_a_region_is_reaches_its_mappings(void **state)
{
	struct gpamap_region *r = shown_twice();

	(void)state;
	vm_check_pages(&vm, 0, 4, A, 0, true);
	vm_check_pages(&vm, 16, 2, A, 2, true);
	CHANGE(gpamap_set_readonly(txn, r, true));
	vm_check_pages(&vm, 0, 4, A, 0, false);
	vm_check_pages(&vm, 16, 2, A, 2, false);
	CHANGE(gpamap_reback(txn, r, mem_b));
	vm_check_pages(&vm, 0, 4, B, 0, false);
	vm_check_pages(&vm, 16, 2, B, 2, false);
	CHANGE(gpamap_set_readonly(txn, r, false));
	vm_check_pages(&vm, 16, 2, B, 2, true);
	gpamap_region_put(r);
}

static void whether_it_is_there_does_not(void **state)
{
	struct gpamap_region *r = shown_twice();

	(void)state;
	CHANGE(gpamap_set_enabled(txn, r, false));
	vm_check_hole(&vm, 0, 4);
	vm_check_pages(&vm, 16, 2, A, 2, true);
	CHANGE(gpamap_resize(txn, r, PAGE));
	vm_check_pages(&vm, 16, 2, A, 2, true);
	CHANGE(gpamap_set_enabled(txn, r, true));
	CHANGE(gpamap_remove(txn, r));
	vm_check_hole(&vm, 0, 4);
	vm_check_pages(&vm, 16, 2, A, 2, true);
	gpamap_region_put(r);
}

/* ------------------------------------------------------------------------------- places --- */

static void a_move_to_nowhere_changes_nothing(void **state)
{
	struct gpamap_region *a = vm_ram(&vm, mem_a, 4, 4), *b = vm_ram(&vm, mem_b, 4, 4);
	struct gpamap_txn *t = vm_begin(&vm);
	uint64_t ioctls;

	(void)state;
	ok_txn(t, gpamap_add(t, gpamap_root(vm.map, 0), 0, a, 0));
	ok_txn(t, gpamap_add(t, gpamap_root(vm.map, 0), 0, b, 0));
	vm_commit(&vm, t);
	vm_check_pages(&vm, 0, 4, B, 0, true);
	ioctls = vm_stats(&vm).slot_ioctls;
	CHANGE(gpamap_move(txn, a, 0));
	vm_check_pages(&vm, 0, 4, B, 0, true);
	assert_int_equal(vm_stats(&vm).slot_ioctls, ioctls);
	/* There and back it is another matter: each move makes it the newest. */
	t = vm_begin(&vm);
	ok_txn(t, gpamap_move(t, a, PAGE));
	ok_txn(t, gpamap_move(t, a, 0));
	vm_commit(&vm, t);
	vm_check_pages(&vm, 0, 4, A, 0, true);
	/* And so does a priority, also the same. */
	CHANGE(gpamap_set_priority(txn, b, 0));
	vm_check_pages(&vm, 0, 4, B, 0, true);
	gpamap_region_put(a);
	gpamap_region_put(b);
}

/* -------------------------------------------------------------------------- ROM devices --- */

struct rom {
	unsigned writes;
	uint64_t offset;
	uint64_t value;
};

static int rom_write(void *opaque, uint64_t offset, const void *data, unsigned len)
{
	struct rom *rom = opaque;

	rom->writes++;
	rom->offset = offset;
	memcpy(&rom->value, data, len);
	return 0;
}

static const struct gpamap_mmio_ops rom_ops = {.write = rom_write};

/* A write through a read-only alias traps, as each write to a ROM device, and reaches its callbacks. The same alias of
 * RAM has none that it could go to. */
static void writes_through_a_readonly_alias(void **state)
{
	struct rom rom = {0};
	struct gpamap_region *dev =
		vm_region(&vm, &(struct gpamap_region_desc){.kind = GPAMAP_ROM_DEVICE,
							    .size = 4 * PAGE,
							    .hva = mem_a,
							    .ops = &rom_ops,
							    .opaque = &rom});
	struct gpamap_region *ram = vm_ram(&vm, mem_b, 4, 4);
	struct gpamap_region *shown[] = {dev, ram};
	struct gpamap_txn *txn = vm_begin(&vm);
	uint64_t value = 0x1234, word;

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct gpamap_region *alias =
			vm_region(&vm, &(struct gpamap_region_desc){.kind = GPAMAP_ALIAS,
								    .size = 2 * PAGE,
								    .target = shown[i],
								    .target_offset = PAGE,
								    .flags = GPAMAP_READONLY});

		ok_txn(txn, gpamap_add(txn, gpamap_root(vm.map, 0), 8ull * i * PAGE, alias, 0));
		gpamap_region_put(alias);
	}
	vm_commit(&vm, txn);
	vm_check_pages(&vm, 0, 2, A, 1, false);
	vm_check_pages(&vm, 8, 2, B, 1, false);
	ok(gpamap_write(vm.map, 0, PAGE + 8, &value, sizeof(value)));
	assert_int_equal(rom.writes, 1);
	assert_int_equal(rom.offset, 2 * PAGE + 8);
	assert_int_equal(rom.value, value);
	ok(gpamap_read(vm.map, 0, PAGE, &word, sizeof(word)));
	assert_int_equal(word, mem_tag(A, 2));
	assert_true(gpamap_write(vm.map, 0, 9 * PAGE, &value, sizeof(value)) < 0);
	ok(gpamap_read(vm.map, 0, 9 * PAGE, &word, sizeof(word)));
	assert_int_equal(word, mem_tag(B, 2));
	gpamap_region_put(dev);
	gpamap_region_put(ram);
}

/* ----------------------------------------------------------------------------- too much --- */

/* Containers that show the one below twice, 24 levels: 2^24 pages. Refused in words, and nothing has changed. */
static void too_many_places_are_refused(void **state)
{
	struct gpamap_region *top = vm_ram(&vm, mem_a, 1, 1), *ram = top;
	struct gpamap_txn *txn = vm_begin(&vm);
	uint64_t size = PAGE;

	(void)state;
	ok_txn(txn, gpamap_map_pages(txn, 0, 0, 4 * PAGE, mem_b, GPAMAP_RW));
	vm_commit(&vm, txn);
	txn = vm_begin(&vm);
	gpamap_region_get(ram);
	for (int level = 0; level < 24; level++, size *= 2) {
		struct gpamap_region *box =
			vm_region(&vm, &(struct gpamap_region_desc){.kind = GPAMAP_CONTAINER,
								    .size = 2 * size});

		for (uint64_t i = 0; i < 2; i++) {
			struct gpamap_region *alias =
				vm_region(&vm, &(struct gpamap_region_desc){.kind = GPAMAP_ALIAS,
									    .size = size,
									    .target = top});

			ok_txn(txn, gpamap_add(txn, box, i * size, alias, 0));
			gpamap_region_put(alias);
		}
		gpamap_region_put(top);
		top = box;
	}
	ok_txn(txn, gpamap_add(txn, gpamap_root(vm.map, 0), 0, top, 0));
	refused(txn, gpamap_commit(txn, NULL, NULL), -E2BIG);
	assert_non_null(strstr(gpamap_message(txn), "show in too many places"));
	/* With nothing to see there, it is no matter. */
	ok_txn(txn, gpamap_set_enabled(txn, ram, false));
	vm_commit(&vm, txn);
	vm_check_pages(&vm, 0, 4, B, 0, true);
	gpamap_region_put(top);
	gpamap_region_put(ram);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		vm_test(what_a_region_is_reaches_its_mappings),
		vm_test(whether_it_is_there_does_not),
		vm_test(a_move_to_nowhere_changes_nothing),
		vm_test(writes_through_a_readonly_alias),
		vm_test(too_many_places_are_refused),
	};

	mems_new(8);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
