/* SPDX-License-Identifier: BSD-3-Clause */
/* Memory that is mapped page by page: what goes on in the guest and in the host is one slot, whichever call mapped it. */
#include "common.h"

/* Beyond the memory of common.h; addresses only, which nobody touches. */
#define FIRST (UINT64_C(1) << 40)
#define HOST (UINT64_C(1) << 44)
#define GIB (UINT64_C(1) << 30)
#define MANY (SLOW ? 30000u : 300000u)

enum order { ASCENDING, DESCENDING, SHUFFLED, NR_ORDERS };

/* All of 0 to @n - 1, in this order. */
static void put_in_order(unsigned *page, unsigned n, enum order order)
{
	uint64_t random = 12345;

	for (unsigned i = 0; i < n; i++)
		page[i] = order == DESCENDING ? n - 1 - i : i;
	for (unsigned i = n; order == SHUFFLED && i-- > 1;) {
		unsigned other, kept = page[i];

		random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
		other = (unsigned)((random >> 33) % (i + 1));
		page[i] = page[other];
		page[other] = kept;
	}
}

static void map_page(struct gpamap_txn *txn, unsigned page)
{
	ok_txn(txn, gpamap_map_pages(txn, 0, FIRST + page * PAGE, PAGE,
				     (void *)(uintptr_t)(HOST + page * PAGE), GPAMAP_RW));
}

static void commit(struct gpamap_txn *txn)
{
	ok_txn(txn, gpamap_commit(txn, NULL, NULL));
}

/* Those slots, one for each GiB that is touched, and one segment. */
static void check_joined(struct vm *vm, unsigned n)
{
	struct gpamap_segment s;

	ok(gpamap_lookup(vm->map, 0, FIRST, &s));
	assert_int_equal(s.gpa, FIRST);
	assert_int_equal(s.size, n * PAGE);
	assert_int_equal((uintptr_t)s.hva, HOST);
	assert_int_equal(s.offset, HOST);
	assert_int_equal(vm_stats(vm).slots, (n * PAGE + GIB - 1) / GIB);
}

static void in_one_commit(void **state)
{
	unsigned *page = calloc(MANY, sizeof(*page));

	(void)state;
	assert_non_null(page);
	for (unsigned order = 0; order < NR_ORDERS; order++) {
		struct gpamap_txn *txn;
		struct vm vm;

		vm_open(&vm, NULL, NULL);
		txn = vm_begin(&vm);
		put_in_order(page, MANY, (enum order)order);
		for (unsigned i = 0; i < MANY; i++)
			map_page(txn, page[i]);
		commit(txn);
		check_joined(&vm, MANY);
		vm_close(&vm);
	}
	free(page);
}

/* One by one, with so few slots that they have to be merged again and again. */
static void one_by_one(void **state)
{
	unsigned page[3000];

	(void)state;
	for (unsigned order = ASCENDING; order <= DESCENDING; order++) {
		struct gpamap_sim_options sim = {.slots = 20};
		struct vm vm;

		vm_open(&vm, &sim, NULL);
		put_in_order(page, ARRAY_SIZE(page), (enum order)order);
		for (unsigned i = 0; i < ARRAY_SIZE(page); i++) {
			struct gpamap_txn *txn = vm_begin(&vm);

			map_page(txn, page[i]);
			commit(txn);
		}
		assert_in_range(vm_stats(&vm).slots, 1, 20);
		vm_close(&vm);
	}
}

/* Host addresses that don't go on, and another protection, are another slot. */
static void what_is_not_one(void **state)
{
	struct gpamap_txn *txn;
	struct vm vm;

	(void)state;
	vm_open(&vm, NULL, NULL);
	txn = vm_begin(&vm);
	map_page(txn, 0);
	ok_txn(txn,
	       gpamap_map_pages(txn, 0, FIRST + PAGE, PAGE, (void *)(uintptr_t)HOST, GPAMAP_RW));
	map_page(txn, 2);
	map_page(txn, 3);
	ok_txn(txn, gpamap_protect_pages(txn, 0, FIRST + 3 * PAGE, PAGE, GPAMAP_RO));
	commit(txn);
	assert_int_equal(vm_stats(&vm).slots, 4);
	/* Mapped as it was: no operation. */
	txn = vm_begin(&vm);
	map_page(txn, 2);
	commit(txn);
	assert_int_equal(vm_stats(&vm).slot_ioctls, 4);
	vm_close(&vm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(in_one_commit),
		cmocka_unit_test(one_by_one),
		cmocka_unit_test(what_is_not_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
