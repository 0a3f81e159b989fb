/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Read-only memory and ROM devices: a guest's store traps and leaves memory as it is, its loads come from memory, and
 * both change over under a running vCPU. Without a test on real KVM, one that never asks KVM for READONLY slots would
 * pass for one that does.
 *
 * The guest loads the first word of a page and stores its count to the second. The count tells one store from the next:
 * whether it reaches memory or traps, each must arrive once, and in order (P2).
 */
#include <sys/ioctl.h>

#include "../base/part.h"
#include "vm.h"

/* Where the page stands: nothing else is mapped there. */
#define PLACE 160
/* What a load gets that traps. */
#define NOT_MEMORY UINT64_C(0x5a5a5a5a5a5a5a5a)

#define ROUNDS 20
#define TOGGLES 40

static struct vm vm;
static struct gpamap_region *region;

/* What has trapped. The vCPU's thread alone writes it. */
static struct {
	atomic_ulong stores;
	atomic_ulong loads;
	uint64_t last; /* the last store that did */
	uint64_t copied;
	bool rom; /* of a device that switches itself: loads don't trap */
} trapped;

static atomic_bool loads_may_trap;

/* The page's memory. */
static uint64_t *words(void)
{
	return (uint64_t *)(vm.other + vm_gpa(&vm, PAGE_TEST));
}

static uint64_t word(unsigned i)
{
	return __atomic_load_n(&words()[i], __ATOMIC_ACQUIRE);
}

static uint64_t place(void)
{
	return vm_gpa(&vm, PLACE);
}

static uint64_t stored_at(void)
{
	return place() + sizeof(uint64_t);
}

static int teardown(void **state)
{
	(void)state;
	/* A handle must go before the map; the region goes with it. */
	gpamap_region_put(region);
	region = NULL;
	vm_close(&vm);
	return 0;
}

/* ------------------------------------------------------------------------------ what traps --- */

/* The vCPU is outside of the guest, so its memory holds still. */
static bool is_next(uint64_t value)
{
	uint64_t in_memory = word(1);

	return value == (in_memory > trapped.last ? in_memory : trapped.last) + 1;
}

static void note_store(uint64_t value)
{
	trapped.last = value;
	atomic_fetch_add(&trapped.stores, 1);
}

/* A commit may have made it memory since the exit, and then the store goes there. */
static bool answer_store(struct vcpu *v)
{
	uint64_t value;
	int err;

	memcpy(&value, v->run->mmio.data, sizeof(value));
	if (v->run->mmio.phys_addr != stored_at() || !is_next(value))
		return false;
	err = gpamap_vcpu_mmio(v->gate, 0);
	if (err == -EROFS || err == -EACCES)
		note_store(value);
	else if (err)
		return false;
	return true;
}

static bool answer_load(struct vcpu *v)
{
	const uint64_t value = NOT_MEMORY;
	int err;

	if (v->run->mmio.phys_addr != place() || !atomic_load(&loads_may_trap))
		return false;
	err = gpamap_vcpu_mmio(v->gate, 0);
	if (err == -EACCES) {
		memcpy(v->run->mmio.data, &value, sizeof(value));
		atomic_fetch_add(&trapped.loads, 1);
	} else if (err) {
		return false;
	}
	return true;
}

static bool answer_memory(struct vcpu *v)
{
	if (v->run->mmio.len != sizeof(uint64_t))
		return false;
	return v->run->mmio.is_write ? answer_store(v) : answer_load(v);
}

static bool answer_device(struct vcpu *v)
{
	return !gpamap_vcpu_mmio(v->gate, 0);
}

/* ---------------------------------------------------------------------------------- the VM --- */

static void open_vm(void)
{
	memset(&trapped, 0, sizeof(trapped));
	atomic_store(&loads_may_trap, false);
	vm_open(&vm, 0);
}

static struct vcpu *start(enum mode mode, enum program program, bool (*on_mmio)(struct vcpu *))
{
	struct vcpu *v = vcpu_new(&vm, 0);

	v->on_mmio = on_mmio;
	if (program == COPY)
		vcpu_set_at(v, mode, COPY, stored_at(), vm_gpa(&vm, PAGE_DOOR));
	else
		vcpu_set_at(v, mode, LOOP, place(), stored_at());
	vcpu_start(v);
	return v;
}

static void add_region(enum gpamap_kind kind, unsigned flags, const struct gpamap_mmio_ops *ops)
{
	const struct gpamap_region_desc desc = {
		.kind = kind,
		.flags = flags,
		.size = vm.page,
		.hva = words(),
		.ops = ops,
	};
	struct gpamap_txn *txn;

	ok(gpamap_region_new(vm.map, &desc, &region));
	txn = vm_begin(&vm);
	ok(gpamap_add(txn, gpamap_root(vm.map, 0), place(), region, 0));
	vm_commit(txn, 0, NULL);
}

static void set_readonly(bool on)
{
	struct gpamap_txn *txn = vm_begin(&vm);

	step(on ? "making memory read-only" : "making memory writable");
	ok(gpamap_set_readonly(txn, region, on));
	vm_commit(txn, 0, NULL);
}

static void set_rom_mode(bool on)
{
	struct gpamap_txn *txn = vm_begin(&vm);

	step(on ? "letting loads read memory" : "letting loads trap");
	ok(gpamap_set_rom_mode(txn, region, on));
	vm_commit(txn, 0, NULL);
}

static void protect(enum gpamap_prot prot)
{
	struct gpamap_txn *txn = vm_begin(&vm);

	step("protecting a page");
	ok(gpamap_protect_pages(txn, 0, place(), vm.page, prot));
	vm_commit(txn, 0, NULL);
}

/* ---------------------------------------------------------------------------- what is seen --- */

/* Let ROUNDS loads and stores happen that began after the last commit. How many of them trapped, or more by one: the
 * guest may be between its count and its store. */
static void go_round(struct vcpu *v, unsigned long *stores, unsigned long *loads, uint64_t *grown)
{
	uint64_t before;

	/* What was on its way when the commit returned is over then. */
	vcpu_await(v, 2);
	*stores = atomic_load(&trapped.stores);
	*loads = atomic_load(&trapped.loads);
	before = word(1);
	vcpu_await(v, ROUNDS);
	*stores = atomic_load(&trapped.stores) - *stores;
	*loads = atomic_load(&trapped.loads) - *loads;
	*grown = word(1) - before;
}

static void check(struct vcpu *v, bool stores_trap, bool loads_trap)
{
	unsigned long stores, loads;
	uint64_t grown;

	step("letting the guest go round");
	go_round(v, &stores, &loads, &grown);
	if (stores_trap) {
		assert_true(stores >= ROUNDS - 1);
		assert_int_equal(grown, 0);
	} else {
		assert_int_equal(stores, 0);
		assert_true(grown >= ROUNDS - 1);
	}
	if (loads_trap)
		assert_true(loads >= ROUNDS - 1);
	else
		assert_int_equal(loads, 0);
	assert_int_equal(vcpu_saw(v), loads_trap ? NOT_MEMORY : word(0));
}

static void finish(struct vcpu *v)
{
	uint64_t in_memory, count;

	vcpu_stop(v);
	in_memory = word(1);
	count = vcpu_count(v);
	/* It may be between its count and its store. */
	assert_in_range(count - (in_memory > trapped.last ? in_memory : trapped.last), 0, 1);
	assert_int_equal(word(0), UINT64_C(2) << 32 | PAGE_TEST);
	assert_int_equal(vm_stats(&vm).failed, 0);
}

/* --------------------------------------------------------------------------- read-only RAM --- */

/* To and fro, and it ends as it began: loads read memory, stores trap. */
static void toggle(struct vcpu *v, void (*set)(bool on))
{
	for (unsigned i = 0; i < TOGGLES; i++) {
		set(i % 2);
		vcpu_await(v, 1);
	}
	check(v, true, false);
}

static void readonly_ram(enum mode mode)
{
	struct vcpu *v;

	open_vm();
	add_region(GPAMAP_RAM, GPAMAP_READONLY, NULL);
	v = start(mode, LOOP, answer_memory);
	check(v, true, false);
	set_readonly(false);
	check(v, false, false);
	set_readonly(true);
	check(v, true, false);
	toggle(v, set_readonly);
	finish(v);
}

static void protected_pages(enum mode mode)
{
	struct gpamap_txn *txn;
	struct vcpu *v;

	open_vm();
	txn = vm_begin(&vm);
	ok(gpamap_map_pages(txn, 0, place(), vm.page, words(), GPAMAP_RO));
	vm_commit(txn, 0, NULL);
	v = start(mode, LOOP, answer_memory);
	check(v, true, false);
	protect(GPAMAP_RW);
	check(v, false, false);
	protect(GPAMAP_RO);
	check(v, true, false);
	atomic_store(&loads_may_trap, true);
	protect(GPAMAP_NONE);
	check(v, true, true);
	protect(GPAMAP_RO);
	check(v, true, false);
	protect(GPAMAP_RW);
	check(v, false, false);
	finish(v);
}

/* KVM itself stores there, to end the guest's instruction. */
static bool answer_copy(struct vcpu *v)
{
	uint64_t value;

	if (v->run->mmio.len != sizeof(value))
		return false;
	if (!v->run->mmio.is_write) {
		trapped.copied++;
		memcpy(v->run->mmio.data, &trapped.copied, sizeof(trapped.copied));
		return v->run->mmio.phys_addr == vm_gpa(&vm, PAGE_DOOR);
	}
	memcpy(&value, v->run->mmio.data, sizeof(value));
	if (v->run->mmio.phys_addr != stored_at() || value != trapped.copied ||
	    gpamap_vcpu_mmio(v->gate, 0) != -EROFS)
		return false;
	note_store(value);
	return true;
}

static void copies(enum mode mode)
{
	unsigned long stores, loads;
	uint64_t grown;
	struct vcpu *v;

	open_vm();
	if (!vm_can_copy())
		part_skip("this processor has no instruction that copies from MMIO to memory");
	add_region(GPAMAP_RAM, GPAMAP_READONLY, NULL);
	v = start(mode, COPY, answer_copy);
	step("copying to read-only memory");
	go_round(v, &stores, &loads, &grown);
	assert_true(stores >= ROUNDS - 1);
	assert_int_equal(grown, 0);
	vcpu_stop(v);
	assert_int_equal(word(1), 0);
}

/* ----------------------------------------------------------------------------- ROM devices --- */

static int rom_read(void *opaque, uint64_t offset, void *data, unsigned len)
{
	const uint64_t value = NOT_MEMORY;

	(void)opaque;
	if (offset || len != sizeof(value) || !atomic_load(&loads_may_trap))
		return -EINVAL;
	memcpy(data, &value, sizeof(value));
	atomic_fetch_add(&trapped.loads, 1);
	return 0;
}

/* Its memory is never written to, so the stores that trap are all there are. */
static int rom_write(void *opaque, uint64_t offset, const void *data, unsigned len)
{
	uint64_t value;

	(void)opaque;
	if (offset != sizeof(value) || len != sizeof(value))
		return -EINVAL;
	memcpy(&value, data, sizeof(value));
	if (value != trapped.last + 1)
		return -EINVAL;
	note_store(value);
	return 0;
}

static const struct gpamap_mmio_ops rom_ops = {rom_read, rom_write};

static void rom_device(enum mode mode)
{
	struct vcpu *v;

	open_vm();
	add_region(GPAMAP_ROM_DEVICE, 0, &rom_ops);
	v = start(mode, LOOP, answer_device);
	check(v, true, false);
	atomic_store(&loads_may_trap, true);
	set_rom_mode(false);
	check(v, true, true);
	set_rom_mode(true);
	check(v, true, false);
	toggle(v, set_rom_mode);
	assert_int_equal(word(1), 0);
	finish(v);
}

/* The guest stores after its load: so when the store arrives here, the load must have met the mode that the store
 * before it left. */
static int flash_write(void *opaque, uint64_t offset, const void *data, unsigned len)
{
	const struct gpamap_commit_options opt = {.timeout_ms = LONG_MS};
	struct gpamap_txn *txn;
	int err = rom_write(opaque, offset, data, len);

	if (err)
		return err;
	if (vcpu_saw(vm.vcpus[0]) != (trapped.rom ? word(0) : NOT_MEMORY))
		return -EILSEQ;
	err = gpamap_begin(vm.map, &txn);
	if (err)
		return err;
	err = gpamap_set_rom_mode(txn, region, !trapped.rom);
	if (!err)
		err = gpamap_commit(txn, &opt, NULL);
	if (err)
		gpamap_abort(txn);
	else
		trapped.rom = !trapped.rom;
	return err;
}

static int flash_read(void *opaque, uint64_t offset, void *data, unsigned len)
{
	return trapped.rom ? -EILSEQ : rom_read(opaque, offset, data, len);
}

static const struct gpamap_mmio_ops flash_ops = {flash_read, flash_write};

/* As flash chips do, it changes its mode by what is stored to it: here, by each store. */
static void flash(enum mode mode)
{
	struct vcpu *v;

	open_vm();
	trapped.rom = true;
	atomic_store(&loads_may_trap, true);
	add_region(GPAMAP_ROM_DEVICE, 0, &flash_ops);
	v = start(mode, LOOP, answer_device);
	step("changing the mode in the device's callback");
	vcpu_await(v, TOGGLES);
	assert_int_equal(word(1), 0);
	finish(v);
	assert_true(atomic_load(&trapped.loads) >= TOGGLES / 2 - 1);
	assert_true(vm_stats(&vm).commits >= TOGGLES);
}

/* ------------------------------------------------------------------------------------ main --- */

#define IN_BOTH_MODES(f)                         \
	static void f##_user(void **state)       \
	{                                        \
		(void)state;                     \
		f(USER);                         \
	}                                        \
	static void f##_supervisor(void **state) \
	{                                        \
		(void)state;                     \
		f(SUPERVISOR);                   \
	}

IN_BOTH_MODES(readonly_ram)
IN_BOTH_MODES(protected_pages)
IN_BOTH_MODES(copies)
IN_BOTH_MODES(rom_device)
IN_BOTH_MODES(flash)

#define TESTS(f)                                       \
	cmocka_unit_test_teardown(f##_user, teardown), \
		cmocka_unit_test_teardown(f##_supervisor, teardown)

static bool readonly_available(void)
{
	bool has;

	vm_open(&vm, 0);
	has = ioctl(vm.fd, KVM_CHECK_EXTENSION, KVM_CAP_READONLY_MEM) > 0;
	vm_close(&vm);
	if (!has)
		puts("SKIP: VMs have no read-only memory here");
	return has;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TESTS(readonly_ram), TESTS(protected_pages), TESTS(copies),
		TESTS(rom_device),   TESTS(flash),
	};

	if (!vm_available() || !readonly_available())
		return 77;
	watchdog(100);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
