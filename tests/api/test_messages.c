/* SPDX-License-Identifier: BSD-3-Clause */
/* gpamap_last_message() is about the last call of this thread that failed, on this map, and about no other. */
#include "common.h"

#include <linux/kvm.h>
#include <pthread.h>

static uint8_t *mem;

static int setup(void **state)
{
	struct gpamap_txn *txn;

	(void)state;
	vm_open(&vm, NULL, NULL);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_map_pages(txn, 0, PAGE, PAGE, mem, GPAMAP_RO));
	ok_txn(txn, gpamap_map_pages(txn, 0, 2 * PAGE, PAGE, mem, GPAMAP_NONE));
	vm_commit(&vm, txn);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	vm_close(&vm);
	return 0;
}

static const char *last(struct gpamap *map)
{
	static _Thread_local char text[256];

	gpamap_last_message(map, text, sizeof(text));
	return text;
}

/* @call fails with @err, and the message of before gives way to one with @words. */
#define says(call, err, words)                                                      \
	do {                                                                        \
		assert_int_equal(gpamap_reserve_slots(vm.map, 9, 0, 1), -ERANGE);   \
		assert_non_null(strstr(last(vm.map), "no address space 9"));        \
		assert_int_equal((call), (err));                                    \
		if (!strstr(last(vm.map), (words)))                                 \
			fail_msg("\"%s\" is not in \"%s\"", (words), last(vm.map)); \
	} while (0)

static int halt(struct gpamap_sim_vcpu *vcpu, void *opaque)
{
	(void)opaque;
	return gpamap_sim_halt(vcpu);
}

static void each_failure_has_its_own(void **state)
{
	struct gpamap_region_desc desc = {.kind = GPAMAP_RAM, .hva = mem, .name = "odd", .size = 1};
	struct gpamap_region *ram = vm_ram(&vm, mem, 1, 0), *none;
	struct gpamap_sim_vcpu *sim_vcpu;
	struct gpamap_vcpu *vcpu;
	struct gpamap_segment s;
	struct gpamap_txn *txn;
	uint64_t buf = 0;

	(void)state;
	says(gpamap_read(vm.map, 0, 0x123450, &buf, 8), -ENXIO, "nothing is at 0x123450");
	says(gpamap_read(vm.map, 3, 0, &buf, 8), -ENXIO, "address space 3");
	says(gpamap_write(vm.map, 0, PAGE, &buf, 8), -EROFS, "read-only");
	says(gpamap_read(vm.map, 0, 2 * PAGE, &buf, 8), -EACCES, "GPAMAP_NONE");
	says(gpamap_read(vm.map, 0, UINT64_MAX, &buf, 8), -EOVERFLOW, "beyond 2^64");
	says(gpamap_lookup(vm.map, 0, 3 * PAGE, &s), -ENOENT, strerror(ENOENT));
	says(gpamap_region_new(vm.map, &desc, &none), -EINVAL, "odd");
	says(gpamap_dirty_fetch(vm.map, ram, 0, PAGE, &buf), -ENODATA, "is not logged");
	says(gpamap_vm_ioctl(vm.map, KVM_CREATE_VCPU, NULL), -ENOTSUP, strerror(ENOTSUP));
	says(gpamap_device_ioctl(vm.map, 0, KVM_SET_DEVICE_ATTR, NULL), -ENOTSUP,
	     strerror(ENOTSUP));
	says(gpamap_vcpu_attach(vm.map, 0, NULL, 4, &vcpu), -ENOTSUP, "vCPU 4");
	ok(gpamap_sim_vcpu_new(vm.sim, 1, 0, halt, NULL, &sim_vcpu));
	ok(gpamap_sim_vcpu_attach(vm.map, sim_vcpu, &vcpu));
	says(gpamap_vcpu_mmio(vcpu, 0), -EINVAL, "KVM_EXIT_MMIO");
	says(gpamap_vcpu_ioctl(vcpu, KVM_RUN, &buf), -EINVAL, "KVM_RUN");
	gpamap_vcpu_detach(vcpu);
	gpamap_sim_vcpu_free(sim_vcpu);
	txn = vm_begin(&vm);
	says(gpamap_begin(vm.map, &txn), -EDEADLK, "open already");
	gpamap_abort(txn);
	gpamap_region_put(ram);
}

/* A call that commits a transaction of its own says what that one says, whatever number its handle is. */
static void of_a_transaction_within(void **state)
{
	struct gpamap_commit_report report;
	struct gpamap_region *ram = vm_ram(&vm, mem, 1, 0);
	struct gpamap_txn *txn;

	(void)state;
	vm_add(&vm, ram, 8);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_set_log(txn, ram, true));
	vm_commit(&vm, txn);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_set_log(txn, ram, false));
	gpamap_sim_fail(vm.sim, GPAMAP_SIM_FLAGS, 1, ENOMEM, false);
	ok_txn(txn, gpamap_commit(txn, NULL, &report));
	assert_int_equal(report.pending, 1);
	for (unsigned i = 0; i < 65535; i += 4369) {
		counting_fail(&vm.alloc, 1, true);
		says(gpamap_clear_pending(vm.map), -ENOMEM, strerror(ENOMEM));
		counting_fail(&vm.alloc, 0, false);
		for (unsigned k = 1; k < 4369; k++)
			gpamap_abort(vm_begin(&vm));
	}
	ok(gpamap_clear_pending(vm.map));
	gpamap_region_put(ram);
}

/* What succeeds leaves it; another map has its own, also one that stands where this one stood. */
static void of_this_map(void **state)
{
	struct gpamap_sim *sim;
	struct gpamap *map;
	uint64_t buf;

	(void)state;
	ok(gpamap_sim_new(NULL, &sim));
	for (int i = 0; i < 20; i++) {
		ok(gpamap_new_sim(sim, NULL, &map));
		assert_string_equal(last(map), "");
		assert_int_equal(gpamap_read(map, 0, 4711, &buf, 1), -ENXIO);
		assert_non_null(strstr(last(map), "0x1267"));
		assert_string_equal(last(vm.map), "");
		gpamap_free(map);
	}
	gpamap_sim_free(sim);
	assert_int_equal(gpamap_read(vm.map, 0, 0, &buf, 1), -ENXIO);
	ok(gpamap_read(vm.map, 0, PAGE, &buf, 8));
	assert_non_null(strstr(last(vm.map), "nothing is at 0x0"));
}

struct user {
	pthread_t thread;
	uint64_t gpa;
	unsigned wrong;
};

static void *fail_often(void *arg)
{
	struct user *u = arg;
	char expect[32];
	uint64_t buf;

	u->wrong += last(vm.map)[0] != '\0';
	for (unsigned i = 0; i < 20000; i++) {
		snprintf(expect, sizeof(expect), "at 0x%llx ", (unsigned long long)u->gpa);
		u->wrong += gpamap_read(vm.map, 0, u->gpa, &buf, 8) != -ENXIO;
		u->wrong += !strstr(last(vm.map), expect);
		u->gpa += 16;
	}
	return NULL;
}

static void of_this_thread(void **state)
{
	struct user user[2] = {{.gpa = 0x10000000}, {.gpa = 0x20000000}};

	(void)state;
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&user[i].thread, NULL, fail_often, &user[i]), 0);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(user[i].thread, NULL);
	assert_int_equal(user[0].wrong + user[1].wrong, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(each_failure_has_its_own, setup, teardown),
		cmocka_unit_test_setup_teardown(of_a_transaction_within, setup, teardown),
		cmocka_unit_test_setup_teardown(of_this_map, setup, teardown),
		cmocka_unit_test_setup_teardown(of_this_thread, setup, teardown),
	};

	mem = mem_new(1, 4);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
