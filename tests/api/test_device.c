/* SPDX-License-Identifier: BSD-3-Clause */
/* Access to devices and memory by GPA, the answers to MMIO exits, and devices whose callbacks change the map. */
#include "common.h"

#include <linux/kvm.h>
#include <pthread.h>

struct device {
	struct gpamap_region *region;
	int (*on_access)(struct device *dev);
	unsigned reads;
	unsigned writes;
	uint64_t offset[8];
	unsigned len[8];
	uint64_t value;
};

static int device_access(struct device *dev, uint64_t offset, unsigned len)
{
	unsigned i = (dev->reads + dev->writes - 1) % 8;

	dev->offset[i] = offset;
	dev->len[i] = len;
	return dev->on_access ? dev->on_access(dev) : 0;
}

static int device_read(void *opaque, uint64_t offset, void *data, unsigned len)
{
	struct device *dev = opaque;

	dev->reads++;
	memset(data, 0x42, len);
	return device_access(dev, offset, len);
}

static int device_write(void *opaque, uint64_t offset, const void *data, unsigned len)
{
	struct device *dev = opaque;

	dev->writes++;
	memcpy(&dev->value, data, len);
	return device_access(dev, offset, len);
}

/* Of 4 pages, in the map. */
static void device_new(struct device *dev, const struct gpamap_mmio_ops *ops, uint64_t page)
{
	struct gpamap_region_desc desc = {
		.kind = GPAMAP_MMIO, .name = "device", .size = 4 * PAGE, .ops = ops, .opaque = dev};

	memset(dev, 0, sizeof(*dev));
	dev->region = vm_region(&vm, &desc);
	vm_add(&vm, dev->region, page);
	gpamap_region_put(dev->region);
}

static const struct gpamap_mmio_ops device_ops = {device_read, device_write};

/* Natural pieces of up to 8 bytes; memory beside a device in one access. */
static void access_in_pieces(void **state)
{
	struct device dev;
	struct gpamap_txn *txn;
	uint8_t buf[16];

	(void)state;
	device_new(&dev, &device_ops, 4);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_map_pages(txn, 0, 3 * PAGE, PAGE, mem_b, GPAMAP_RW));
	ok_txn(txn, gpamap_map_pages(txn, 0, 2 * PAGE, PAGE, mem_b + PAGE, GPAMAP_RO));
	ok_txn(txn, gpamap_map_pages(txn, 0, PAGE, PAGE, mem_b + PAGE, GPAMAP_NONE));
	vm_commit(&vm, txn);
	ok(gpamap_read(vm.map, 0, 4 * PAGE + 1, buf, 15));
	assert_int_equal(dev.reads, 4);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(dev.offset[i], 1 << i);
		assert_int_equal(dev.len[i], 1 << i);
	}
	memset(buf, 7, sizeof(buf));
	ok(gpamap_write(vm.map, 0, 4 * PAGE - 8, buf, 16));
	assert_int_equal(dev.writes, 1);
	assert_int_equal(dev.value, UINT64_C(0x0707070707070707));
	assert_memory_equal(mem_b + PAGE - 8, buf, 8);
	assert_int_equal(gpamap_write(vm.map, 0, 2 * PAGE, buf, 8), -EROFS);
	ok(gpamap_read(vm.map, 0, 2 * PAGE, buf, 8));
	assert_int_equal(gpamap_read(vm.map, 0, PAGE, buf, 8), -EACCES);
	assert_int_equal(gpamap_read(vm.map, 0, 0, buf, 8), -ENXIO);
	assert_int_equal(gpamap_read(vm.map, 0, -UINT64_C(4), buf, 8), -EOVERFLOW);
	assert_int_equal(gpamap_read(vm.map, 1, 0, buf, 8), -ENXIO);
	ok(gpamap_read(vm.map, 0, 0, buf, 0));
}

/* ------------------------------------------------------------------------------ exit handlers --- */

struct guest {
	uint64_t gpa;
	uint64_t value;
	bool is_write;
	bool done;
};

static int one_access(struct gpamap_sim_vcpu *vcpu, void *opaque)
{
	struct guest *g = opaque;
	int r;

	if (g->done)
		return gpamap_sim_halt(vcpu);
	r = g->is_write ? gpamap_sim_store(vcpu, g->gpa, &g->value, 8)
			: gpamap_sim_load(vcpu, g->gpa, &g->value, 8);
	if (!r)
		g->done = true;
	return r;
}

/* A vCPU that makes one access; every exit of it is answered by gpamap_vcpu_mmio(). How many were there? */
static unsigned access_by_vcpu(struct guest *g, void (*before_answer)(void), int expect_err)
{
	struct gpamap_sim_vcpu *sim_vcpu;
	struct gpamap_vcpu *vcpu;
	struct kvm_run *run;
	unsigned exits = 0;

	ok(gpamap_sim_vcpu_new(vm.sim, 5, 0, one_access, g, &sim_vcpu));
	ok(gpamap_sim_vcpu_attach(vm.map, sim_vcpu, &vcpu));
	run = gpamap_sim_vcpu_kvm_run(sim_vcpu);
	g->done = false;
	for (;; exits++) {
		ok(gpamap_vcpu_run(vcpu));
		if (run->exit_reason == KVM_EXIT_HLT)
			break;
		if (before_answer)
			before_answer();
		assert_int_equal(gpamap_vcpu_mmio(vcpu, 0), expect_err);
	}
	assert_int_equal(gpamap_vcpu_mmio(vcpu, 0), -EINVAL);
	gpamap_vcpu_detach(vcpu);
	gpamap_sim_vcpu_free(sim_vcpu);
	return exits;
}

static void map_page_7(void)
{
	struct gpamap_txn *txn = vm_begin(&vm);

	ok_txn(txn, gpamap_map_pages(txn, 0, 7 * PAGE, PAGE, mem_b + 7 * PAGE, GPAMAP_RW));
	vm_commit(&vm, txn);
}

static void vcpu_mmio(void **state)
{
	struct guest g = {.gpa = 7 * PAGE};
	struct gpamap_txn *txn;
	struct device dev;

	(void)state;
	device_new(&dev, &device_ops, 0);
	g = (struct guest){.gpa = 0x10};
	assert_int_equal(access_by_vcpu(&g, NULL, 0), 1);
	assert_int_equal(g.value, UINT64_C(0x4242424242424242));
	g = (struct guest){.gpa = 0x20, .value = 99, .is_write = true};
	assert_int_equal(access_by_vcpu(&g, NULL, 0), 1);
	assert_int_equal(dev.value, 99);
	assert_int_equal(dev.offset[1], 0x20);
	g = (struct guest){.gpa = 7 * PAGE};
	assert_int_equal(access_by_vcpu(&g, NULL, -ENXIO), 1);
	/* Between the exit and its answer the page becomes memory. */
	assert_int_equal(access_by_vcpu(&g, map_page_7, 0), 1);
	assert_int_equal(g.value, mem_tag(B, 7));
	assert_int_equal(access_by_vcpu(&g, NULL, 0), 0);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_unmap_pages(txn, 0, 7 * PAGE, PAGE));
	vm_commit(&vm, txn);
	g = (struct guest){.gpa = 7 * PAGE + 16, .value = 1234, .is_write = true};
	assert_int_equal(access_by_vcpu(&g, map_page_7, 0), 1);
	assert_memory_equal(mem_b + 7 * PAGE + 16, &g.value, 8);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_protect_pages(txn, 0, 7 * PAGE, PAGE, GPAMAP_RO));
	vm_commit(&vm, txn);
	assert_int_equal(access_by_vcpu(&g, NULL, -EROFS), 1);
}

/* A register whose writes switch a page between two memories, as a PAM register does. */
static int switch_page(struct device *dev)
{
	struct gpamap_txn *txn;
	int err = gpamap_begin(vm.map, &txn);

	if (!err)
		err = gpamap_map_pages(txn, 0, 8 * PAGE, PAGE, dev->value ? mem_b : mem_a,
				       GPAMAP_RW);
	if (!err)
		err = gpamap_commit(txn, NULL, NULL);
	return err;
}

static void device_that_commits(void **state)
{
	struct guest g = {.gpa = 0, .value = 1, .is_write = true};
	struct device dev;
	uint64_t value = 0;

	(void)state;
	device_new(&dev, &device_ops, 0);
	dev.on_access = switch_page;
	assert_int_equal(access_by_vcpu(&g, NULL, 0), 1);
	vm_check_pages(&vm, 8, 1, B, 0, true);
	g.value = 0;
	assert_int_equal(access_by_vcpu(&g, NULL, 0), 1);
	vm_check_pages(&vm, 8, 1, A, 0, true);
	value = 1;
	ok(gpamap_write(vm.map, 0, 0, &value, 8));
	vm_check_pages(&vm, 8, 1, B, 0, true);
}

/* ----------------------------------------------------------------------------- re-entry --- */

/* A device whose register holds the address that the next write goes to: as a guest programs a DMA engine. */
struct engine {
	struct gpamap_region *region;
	uint64_t target; /* 0: none */
	atomic_uint calls;
	atomic_uint inside, most;
	atomic_uint *wait_for;
};

static int engine_write(void *opaque, uint64_t offset, const void *data, unsigned len)
{
	struct engine *e = opaque;
	unsigned inside = atomic_fetch_add(&e->inside, 1) + 1;
	int err;

	(void)offset;
	atomic_fetch_add(&e->calls, 1);
	if (inside > atomic_load(&e->most))
		atomic_store(&e->most, inside);
	if (e->wait_for) {
		atomic_fetch_add(e->wait_for, 1);
		while (atomic_load(e->wait_for) < 2)
			sleep_ms(1);
	}
	err = e->target ? gpamap_write(vm.map, 0, e->target, data, len) : 0;
	atomic_fetch_sub(&e->inside, 1);
	return err;
}

static void engine_new(struct engine *e, uint64_t page, uint64_t target, unsigned flags)
{
	static const struct gpamap_mmio_ops ops = {.write = engine_write};
	struct gpamap_region_desc desc = {.kind = GPAMAP_MMIO,
					  .flags = flags,
					  .name = "engine",
					  .size = PAGE,
					  .ops = &ops,
					  .opaque = e};
	struct gpamap_txn *txn = vm_begin(&vm);

	memset(e, 0, sizeof(*e));
	e->target = target;
	e->region = vm_region(&vm, &desc);
	ok_txn(txn, gpamap_add(txn, gpamap_root(vm.map, 0), page * PAGE, e->region, 0));
	vm_commit(&vm, txn);
	gpamap_region_put(e->region);
}

static int poke(uint64_t page)
{
	uint32_t value = 1;

	return gpamap_write(vm.map, 0, page * PAGE, &value, 4);
}

static void device_that_reaches_itself(void **state)
{
	static struct engine self, there, back, free_one;
	char message[256];

	(void)state;
	engine_new(&self, 1, PAGE + 8, 0);
	assert_int_equal(poke(1), -ELOOP);
	assert_int_equal(atomic_load(&self.calls), 1);
	/* Inside, the message said why; what the callback returned is what failed last. */
	gpamap_last_message(vm.map, message, sizeof(message));
	assert_non_null(strstr(message, "engine"));
	/* It is over with the call. */
	assert_int_equal(poke(1), -ELOOP);
	assert_int_equal(atomic_load(&self.calls), 2);
	self.target = 0;
	ok(poke(1));
	engine_new(&there, 2, 3 * PAGE, 0);
	engine_new(&back, 3, 2 * PAGE, 0);
	assert_int_equal(poke(2), -ELOOP);
	assert_int_equal(atomic_load(&there.calls), 1);
	assert_int_equal(atomic_load(&back.calls), 1);
	back.target = 0;
	ok(poke(2));
	/* One that says that it can bear it, up to the bound. */
	engine_new(&free_one, 4, 4 * PAGE, GPAMAP_REENTRANT);
	assert_int_equal(poke(4), -ELOOP);
	assert_int_equal(atomic_load(&free_one.calls), 16);
}

static void chain_of_devices(void **state)
{
	static struct engine chain[17];

	(void)state;
	for (unsigned i = 0; i < 17; i++)
		engine_new(&chain[i], i, i < 15 ? (i + 1) * PAGE : 0, 0);
	ok(poke(0));
	assert_int_equal(atomic_load(&chain[15].calls), 1);
	chain[15].target = 16 * PAGE;
	assert_int_equal(poke(0), -ELOOP);
	assert_int_equal(atomic_load(&chain[15].calls), 2);
	assert_int_equal(atomic_load(&chain[16].calls), 0);
	ok(poke(1));
	assert_int_equal(atomic_load(&chain[16].calls), 1);
}

static void *poke_thread(void *arg)
{
	return (void *)(intptr_t)poke((uintptr_t)arg);
}

/* Two vCPUs in one device at the same time, each of which goes on to memory. */
static void two_threads_in_one_device(void **state)
{
	static struct engine e;
	struct gpamap_txn *txn;
	atomic_uint met = 0;
	pthread_t thread[2];
	void *r;

	(void)state;
	engine_new(&e, 1, 2 * PAGE, 0);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_map_pages(txn, 0, 2 * PAGE, PAGE, mem_b, GPAMAP_RW));
	vm_commit(&vm, txn);
	e.wait_for = &met;
	for (int i = 0; i < 2; i++)
		ok(pthread_create(&thread[i], NULL, poke_thread, (void *)(uintptr_t)1));
	for (int i = 0; i < 2; i++) {
		ok(pthread_join(thread[i], &r));
		assert_null(r);
	}
	assert_int_equal(atomic_load(&e.most), 2);
	memcpy(mem_b, &(uint64_t){mem_tag(B, 0)}, 8);
}

static void reentrant_needs_callbacks(void **state)
{
	struct gpamap_region_desc desc = {
		.kind = GPAMAP_RAM, .flags = GPAMAP_REENTRANT, .size = PAGE, .hva = mem_a};
	struct gpamap_region *r;

	(void)state;
	assert_int_equal(gpamap_region_new(vm.map, &desc, &r), -EINVAL);
	desc.kind = GPAMAP_ROM_DEVICE;
	ok(gpamap_region_new(vm.map, &desc, &r));
	gpamap_region_put(r);
}

static int broken_pipe(struct device *dev)
{
	(void)dev;
	return -EPIPE;
}

/* What a callback returns is what the access does; and not all of it need be there. */
static void device_that_fails(void **state)
{
	static const struct gpamap_mmio_ops read_only = {.read = device_read};
	struct device dev, other;
	uint64_t value = 0;

	(void)state;
	device_new(&dev, &device_ops, 0);
	dev.on_access = broken_pipe;
	assert_int_equal(gpamap_read(vm.map, 0, 0, &value, 8), -EPIPE);
	assert_int_equal(gpamap_write(vm.map, 0, 0, &value, 8), -EPIPE);
	device_new(&other, &read_only, 8);
	ok(gpamap_read(vm.map, 0, 8 * PAGE, &value, 8));
	assert_int_equal(gpamap_write(vm.map, 0, 8 * PAGE, &value, 8), -ENXIO);
	assert_int_equal(other.writes, 0);
}

/* Reads from memory, writes to its callbacks; or both. */
static void rom_device(void **state)
{
	struct device dev = {0};
	struct gpamap_region_desc desc = {.kind = GPAMAP_ROM_DEVICE,
					  .size = PAGE,
					  .hva = mem_b,
					  .ops = &device_ops,
					  .opaque = &dev};
	struct gpamap_region *rom = vm_region(&vm, &desc);
	struct guest g = {.gpa = 8, .value = 5, .is_write = true};
	struct gpamap_txn *txn = vm_begin(&vm);
	uint64_t value = 0;

	(void)state;
	ok_txn(txn, gpamap_add(txn, gpamap_root(vm.map, 0), 0, rom, 0));
	vm_commit(&vm, txn);
	ok(gpamap_read(vm.map, 0, 0, &value, 8));
	assert_int_equal(value, mem_tag(B, 0));
	assert_int_equal(access_by_vcpu(&g, NULL, 0), 1);
	assert_int_equal(dev.writes, 1);
	assert_int_equal(dev.offset[0], 8);
	assert_int_equal(dev.value, 5);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_set_rom_mode(txn, rom, false));
	vm_commit(&vm, txn);
	g = (struct guest){.gpa = 8};
	assert_int_equal(access_by_vcpu(&g, NULL, 0), 1);
	assert_int_equal(dev.reads, 1);
	assert_int_equal(g.value, UINT64_C(0x4242424242424242));
	gpamap_region_put(rom);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		vm_test(access_in_pieces),
		vm_test(vcpu_mmio),
		vm_test(device_that_commits),
		vm_test(device_that_reaches_itself),
		vm_test(chain_of_devices),
		vm_test(two_threads_in_one_device),
		vm_test(reentrant_needs_callbacks),
		vm_test(device_that_fails),
		vm_test(rom_device),
	};

	mems_new(64);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
