/* SPDX-License-Identifier: BSD-3-Clause */
/* When a region's release callback runs (P5), and devices whose callbacks change the map. */
#include "common.h"

#include <linux/kvm.h>
#include <pthread.h>
#include <semaphore.h>

enum { A = 1, B };

static uint8_t *mem_a, *mem_b;
/* The VM of the test; a struct vm can't be copied. */
static struct vm vms[2];
static struct vm *now = &vms[0];
#define vm (*now)

static int setup(void **state)
{
	(void)state;
	vm_open(&vm, NULL, NULL);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	vm_close(&vm);
	return 0;
}

/* What a release callback found. */
struct owner {
	atomic_int released;
	atomic_int tid;
	bool look; /* in the callback: is the page at @gpa reachable? */
	uint64_t gpa;
	bool reached;
	bool edits;
};

static void on_release(void *opaque)
{
	struct owner *o = opaque;
	struct gpamap_segment s;
	struct gpamap_txn *txn;

	if (o->look) {
		int err = gpamap_lookup(vm.map, 0, o->gpa, &s);

		o->reached = vm_load(&vm, o->gpa) != HOLE || err != -ENOENT;
	}
	/* The commit is over: the next may begin. */
	if (o->edits && !gpamap_begin(vm.map, &txn)) {
		o->edits = gpamap_map_pages(txn, 0, 90 * PAGE, PAGE, mem_b, GPAMAP_RW) != 0 ||
			   gpamap_commit(txn, NULL, NULL) != 0;
		if (o->edits)
			gpamap_abort(txn);
	}
	atomic_store(&o->tid, thread_id());
	atomic_fetch_add(&o->released, 1);
}

static struct gpamap_region *owned(struct owner *o, enum gpamap_kind kind,
				   const struct gpamap_mmio_ops *ops)
{
	struct gpamap_region_desc desc = {
		.kind = kind,
		.name = "owned",
		.size = 4 * PAGE,
		.hva = kind == GPAMAP_RAM ? mem_a : NULL,
		.ops = ops,
		.opaque = o,
		.release = on_release,
	};

	return vm_region(&vm, &desc);
}

static struct gpamap_region *owned_ram(struct owner *o)
{
	return owned(o, GPAMAP_RAM, NULL);
}

static void add_at(struct gpamap_region *r, uint64_t page)
{
	struct gpamap_txn *txn = vm_begin(&vm);

	ok_txn(txn, gpamap_add(txn, gpamap_root(vm.map, 0), page * PAGE, r, 0));
	vm_commit(&vm, txn);
}

static void by_put(void **state)
{
	struct owner o = {0};
	struct gpamap_region *r = owned_ram(&o);

	(void)state;
	assert_ptr_equal(gpamap_region_get(r), r);
	gpamap_region_put(r);
	assert_int_equal(o.released, 0);
	gpamap_region_put(r);
	assert_int_equal(o.released, 1);
	gpamap_region_put(NULL);
}

static void by_commit(void **state)
{
	struct owner o = {.look = true, .gpa = 8 * PAGE, .edits = true};
	struct gpamap_region *r = owned_ram(&o);
	struct gpamap_txn *txn;

	(void)state;
	add_at(r, 8);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_remove(txn, r));
	gpamap_region_put(r);
	assert_int_equal(o.released, 0);
	vm_commit(&vm, txn);
	assert_int_equal(o.released, 1);
	assert_int_equal(o.tid, thread_id());
	assert_false(o.reached);
	assert_false(o.edits);
	vm_check_pages(&vm, 90, 1, B, 0, true);
}

static void by_abort(void **state)
{
	struct owner o = {0};
	struct gpamap_region *r = owned_ram(&o);
	struct gpamap_txn *txn = vm_begin(&vm);

	(void)state;
	ok_txn(txn, gpamap_add(txn, gpamap_root(vm.map, 0), 0, r, 0));
	gpamap_region_put(r);
	assert_int_equal(o.released, 0);
	gpamap_abort(txn);
	assert_int_equal(o.released, 1);
}

/* A preview flattens, too, and lets go again. */
static void by_abort_after_preview(void **state)
{
	struct owner o = {0};
	struct gpamap_region *r = owned_ram(&o);
	struct gpamap_txn *txn = vm_begin(&vm);
	struct gpamap_plan *plan;

	(void)state;
	ok_txn(txn, gpamap_add(txn, gpamap_root(vm.map, 0), 0, r, 0));
	gpamap_region_put(r);
	ok_txn(txn, gpamap_preview(txn, 0, &plan));
	gpamap_plan_free(plan);
	assert_int_equal(o.released, 0);
	gpamap_abort(txn);
	assert_int_equal(o.released, 1);
}

static void not_by_a_failed_commit(void **state)
{
	struct owner o = {0};
	struct gpamap_region *r = owned_ram(&o);
	struct gpamap_txn *txn;

	(void)state;
	add_at(r, 0);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_remove(txn, r));
	gpamap_region_put(r);
	gpamap_sim_fail(vm.sim, GPAMAP_SIM_DELETE, 1, ENOMEM, false);
	refused(txn, gpamap_commit(txn, NULL, NULL), -ENOMEM);
	assert_int_equal(o.released, 0);
	vm_check_pages(&vm, 0, 4, A, 0, true);
	vm_commit(&vm, txn);
	assert_int_equal(o.released, 1);
}

static void by_free(void **state)
{
	struct owner o = {0};
	struct gpamap_region *r;

	(void)state;
	now = &vms[1];
	vm_open(&vm, NULL, NULL);
	r = owned_ram(&o);
	add_at(r, 0);
	gpamap_region_put(r);
	assert_int_equal(o.released, 0);
	vm_close(&vm);
	assert_int_equal(o.released, 1);
	now = &vms[0];
}

/* Handles may be put after the map has ended. */
static void after_free(void **state)
{
	struct owner in_map = {0}, outside = {0}, shown = {0};
	struct gpamap_region *a, *b, *c, *alias;
	struct gpamap_region_desc desc = {.kind = GPAMAP_ALIAS, .size = PAGE};
	struct gpamap_txn *txn;

	(void)state;
	now = &vms[1];
	vm_open(&vm, NULL, NULL);
	a = owned_ram(&in_map);
	add_at(a, 0);
	b = owned_ram(&outside);
	desc.target = c = owned_ram(&shown);
	alias = vm_region(&vm, &desc);
	add_at(alias, 20);
	gpamap_region_put(c);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_map_region(txn, 0, 40 * PAGE, PAGE, b, 0, GPAMAP_RW));
	vm_commit(&vm, txn);
	vm_close_map(&vm);
	assert_int_equal(in_map.released + outside.released + shown.released, 0);
	gpamap_region_put(b);
	assert_int_equal(outside.released, 1);
	gpamap_region_put(alias);
	assert_int_equal(shown.released, 1);
	assert_int_equal(in_map.released, 0);
	gpamap_region_put(a);
	assert_int_equal(in_map.released, 1);
	vm_close_sim(&vm);
	now = &vms[0];
}

static void through_alias_and_mapping(void **state)
{
	struct owner o = {0};
	struct gpamap_region *r = owned_ram(&o), *alias;
	struct gpamap_region_desc desc = {.kind = GPAMAP_ALIAS, .size = 4 * PAGE, .target = r};
	struct gpamap_txn *txn;

	(void)state;
	alias = vm_region(&vm, &desc);
	add_at(alias, 0);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_map_region(txn, 0, 20 * PAGE, 4 * PAGE, r, 0, GPAMAP_RW));
	vm_commit(&vm, txn);
	gpamap_region_put(r);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_remove(txn, alias));
	vm_commit(&vm, txn);
	gpamap_region_put(alias);
	assert_int_equal(o.released, 0);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_unmap_pages(txn, 0, 21 * PAGE, PAGE));
	vm_commit(&vm, txn);
	assert_int_equal(o.released, 0);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_unmap_pages(txn, 0, 0, 64 * PAGE));
	vm_commit(&vm, txn);
	assert_int_equal(o.released, 1);
}

/* As long as the kernel has a slot of it that could not be taken back, its memory must stay. */
static void not_while_broken(void **state)
{
	struct owner o = {0};
	struct gpamap_region *r = owned_ram(&o);
	struct gpamap_txn *txn = vm_begin(&vm);

	(void)state;
	ok_txn(txn, gpamap_add(txn, gpamap_root(vm.map, 0), 0, r, 0));
	ok_txn(txn, gpamap_map_pages(txn, 0, 20 * PAGE, PAGE, mem_b, GPAMAP_RW));
	gpamap_region_put(r);
	gpamap_sim_fail(vm.sim, GPAMAP_SIM_ANY, 2, ENOMEM, true);
	refused(txn, gpamap_commit(txn, NULL, NULL), -ENOTRECOVERABLE);
	assert_true(vm_stats(&vm).broken);
	gpamap_abort(txn);
	assert_int_equal(vm_load(&vm, 0), mem_tag(A, 0));
	assert_int_equal(o.released, 0);
	gpamap_sim_fail(vm.sim, GPAMAP_SIM_ANY, 0, 0, false);
	txn = vm_begin(&vm);
	vm_commit(&vm, txn);
	assert_false(vm_stats(&vm).broken);
	assert_int_equal(o.released, 1);
	vm_check_hole(&vm, 0, 24);
}

/* ---------------------------------------------------------------------------------- devices --- */

struct device {
	struct owner owner; /* first: the opaque is one for both */
	struct gpamap_region *region;
	int (*on_access)(struct device *dev, uint64_t offset);
	sem_t entered;
	sem_t go_on;
	unsigned reads;
	unsigned writes;
	uint64_t offset[8];
	unsigned len[8];
	uint64_t value;
	int released_inside;
};

static int device_access(struct device *dev, uint64_t offset, unsigned len)
{
	unsigned i = (dev->reads + dev->writes - 1) % 8;
	int err = 0;

	dev->offset[i] = offset;
	dev->len[i] = len;
	if (dev->on_access)
		err = dev->on_access(dev, offset);
	dev->released_inside = atomic_load(&dev->owner.released);
	return err;
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

static const struct gpamap_mmio_ops device_ops = {device_read, device_write};

static void device_new(struct device *dev, uint64_t page)
{
	memset(dev, 0, sizeof(*dev));
	sem_init(&dev->entered, 0, 0);
	sem_init(&dev->go_on, 0, 0);
	dev->region = owned(&dev->owner, GPAMAP_MMIO, &device_ops);
	add_at(dev->region, page);
}

static int remove_self(struct device *dev, uint64_t offset)
{
	struct gpamap_txn *txn;
	int err = gpamap_begin(vm.map, &txn);

	(void)offset;
	if (!err)
		err = gpamap_remove(txn, dev->region);
	if (!err)
		err = gpamap_commit(txn, NULL, NULL);
	gpamap_region_put(dev->region);
	return err;
}

/* Its last reference is the accessor's: it is released when that has come out of it. */
static void device_that_removes_itself(void **state)
{
	struct device dev;
	uint64_t value = 0;

	(void)state;
	device_new(&dev, 2);
	dev.on_access = remove_self;
	dev.released_inside = -1;
	ok(gpamap_read(vm.map, 0, 2 * PAGE, &value, 8));
	assert_int_equal(value, UINT64_C(0x4242424242424242));
	assert_int_equal(dev.reads, 1);
	assert_int_equal(dev.released_inside, 0);
	assert_int_equal(dev.owner.released, 1);
	assert_int_equal(gpamap_read(vm.map, 0, 2 * PAGE, &value, 8), -ENXIO);
}

static int wait_inside(struct device *dev, uint64_t offset)
{
	(void)offset;
	sem_post(&dev->entered);
	sem_wait(&dev->go_on);
	return 0;
}

static void *read_device(void *opaque)
{
	atomic_int *tid = opaque;
	uint32_t value;

	atomic_store(tid, thread_id());
	return (void *)(intptr_t)gpamap_read(vm.map, 0, 2 * PAGE + 4, &value, 4);
}

/* The same, with a reader on another thread. */
static void by_the_last_reader(void **state)
{
	struct device dev;
	struct gpamap_txn *txn;
	pthread_t thread;
	atomic_int tid = 0;
	void *result;

	(void)state;
	device_new(&dev, 2);
	dev.on_access = wait_inside;
	ok(pthread_create(&thread, NULL, read_device, &tid));
	sem_wait(&dev.entered);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_remove(txn, dev.region));
	gpamap_region_put(dev.region);
	vm_commit(&vm, txn);
	assert_int_equal(dev.owner.released, 0);
	sem_post(&dev.go_on);
	ok(pthread_join(thread, &result));
	assert_null(result);
	assert_int_equal(dev.owner.released, 1);
	assert_int_equal(dev.owner.tid, atomic_load(&tid));
}

/* Natural pieces of up to 8 bytes; memory beside a device in one access. */
static void access_in_pieces(void **state)
{
	struct device dev;
	struct gpamap_txn *txn;
	uint8_t buf[16];

	(void)state;
	device_new(&dev, 4);
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
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_remove(txn, dev.region));
	vm_commit(&vm, txn);
	gpamap_region_put(dev.region);
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
	device_new(&dev, 0);
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
	ok_txn(txn, gpamap_remove(txn, dev.region));
	vm_commit(&vm, txn);
	assert_int_equal(access_by_vcpu(&g, NULL, -EROFS), 1);
	gpamap_region_put(dev.region);
}

/* A register whose writes switch a page between two memories, as a PAM register does. */
static int switch_page(struct device *dev, uint64_t offset)
{
	struct gpamap_txn *txn;
	int err = gpamap_begin(vm.map, &txn);

	(void)offset;
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
	device_new(&dev, 0);
	dev.on_access = switch_page;
	assert_int_equal(access_by_vcpu(&g, NULL, 0), 1);
	vm_check_pages(&vm, 8, 1, B, 0, true);
	g.value = 0;
	assert_int_equal(access_by_vcpu(&g, NULL, 0), 1);
	vm_check_pages(&vm, 8, 1, A, 0, true);
	value = 1;
	ok(gpamap_write(vm.map, 0, 0, &value, 8));
	vm_check_pages(&vm, 8, 1, B, 0, true);
	dev.on_access = remove_self;
	ok(gpamap_write(vm.map, 0, 0, &value, 8));
	assert_int_equal(dev.owner.released, 1);
	assert_int_equal(dev.released_inside, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(by_put, setup, teardown),
		cmocka_unit_test_setup_teardown(by_commit, setup, teardown),
		cmocka_unit_test_setup_teardown(by_abort, setup, teardown),
		cmocka_unit_test_setup_teardown(by_abort_after_preview, setup, teardown),
		cmocka_unit_test_setup_teardown(not_by_a_failed_commit, setup, teardown),
		cmocka_unit_test_setup_teardown(by_free, setup, teardown),
		cmocka_unit_test_setup_teardown(after_free, setup, teardown),
		cmocka_unit_test_setup_teardown(through_alias_and_mapping, setup, teardown),
		cmocka_unit_test_setup_teardown(not_while_broken, setup, teardown),
		cmocka_unit_test_setup_teardown(device_that_removes_itself, setup, teardown),
		cmocka_unit_test_setup_teardown(by_the_last_reader, setup, teardown),
		cmocka_unit_test_setup_teardown(access_in_pieces, setup, teardown),
		cmocka_unit_test_setup_teardown(vcpu_mmio, setup, teardown),
		cmocka_unit_test_setup_teardown(device_that_commits, setup, teardown),
	};

	mem_a = mem_new(A, 64);
	mem_b = mem_new(B, 64);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
