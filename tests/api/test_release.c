/* SPDX-License-Identifier: BSD-3-Clause */
/* When a region's release callback runs (P5). */
#include "common.h"

#include <pthread.h>
#include <semaphore.h>

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
	vm_add(&vm, r, 8);
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
	vm_add(&vm, r, 0);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_remove(txn, r));
	gpamap_region_put(r);
	gpamap_sim_fail(vm.sim, GPAMAP_SIM_DELETE, 1, ENOMEM, false);
	refused(txn,
		gpamap_commit(txn,
			      &(struct gpamap_commit_options){.flags = GPAMAP_COMMIT_ONE_INSTANT},
			      NULL),
		-ENOMEM);
	assert_int_equal(o.released, 0);
	vm_check_pages(&vm, 0, 4, A, 0, true);
	vm_commit(&vm, txn);
	assert_int_equal(o.released, 1);
}

/* The commit has happened, and KVM keeps the slot: so the memory must stay (P5). */
static void not_while_pending(void **state)
{
	struct owner o = {0};
	struct gpamap_region *r = owned_ram(&o);
	struct gpamap_commit_report report;
	struct gpamap_segment s;
	struct gpamap_txn *txn;

	(void)state;
	vm_add(&vm, r, 0);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_remove(txn, r));
	gpamap_region_put(r);
	gpamap_sim_fail(vm.sim, GPAMAP_SIM_DELETE, 1, ENOMEM, true);
	ok_txn(txn, gpamap_commit(txn, NULL, &report));
	assert_int_equal(report.pending, 1);
	assert_int_equal(vm_stats(&vm).pending, 1);
	assert_int_equal(gpamap_lookup(vm.map, 0, 0, &s), -ENOENT);
	assert_int_equal(vm_load(&vm, 0), mem_tag(A, 0));
	assert_int_equal(o.released, 0);
	assert_int_equal(gpamap_clear_pending(vm.map), -EAGAIN);
	assert_int_equal(o.released, 0);
	gpamap_sim_fail(vm.sim, GPAMAP_SIM_DELETE, 0, 0, false);
	ok(gpamap_clear_pending(vm.map));
	assert_int_equal(o.released, 1);
	assert_int_equal(vm_stats(&vm).pending, 0);
	vm_check_hole(&vm, 0, 4);
}

/* A slot of a commit that has failed, which KVM keeps: it is there, and counted. */
static void not_while_left_by_a_failure(void **state)
{
	struct owner o = {0};
	struct gpamap_region *r = owned_ram(&o);
	struct gpamap_txn *txn = vm_begin(&vm);

	(void)state;
	ok_txn(txn, gpamap_add(txn, gpamap_root(vm.map, 0), 0, r, 0));
	gpamap_region_put(r);
	ok_txn(txn, gpamap_map_pages(txn, 0, 16 * PAGE, PAGE, mem_b, GPAMAP_RW));
	gpamap_sim_fail(vm.sim, GPAMAP_SIM_CREATE, 2, ENOMEM, false);
	gpamap_sim_fail(vm.sim, GPAMAP_SIM_DELETE, 1, ENOMEM, false);
	refused(txn, gpamap_commit(txn, NULL, NULL), -ENOMEM);
	gpamap_abort(txn);
	assert_int_equal(vm_stats(&vm).pending, 1);
	assert_int_equal(vm_stats(&vm).slots, 1);
	assert_int_equal(o.released, 0);
	ok(gpamap_clear_pending(vm.map));
	assert_int_equal(vm_stats(&vm).slots, 0);
	assert_int_equal(o.released, 1);
}

/* Memory that the caller frees when the commit has returned: it fails, and has changed nothing. */
static void not_without_release(void **state)
{
	struct gpamap_txn *txn = vm_begin(&vm);

	(void)state;
	ok_txn(txn, gpamap_map_pages(txn, 0, 0, PAGE, mem_a, GPAMAP_RW));
	ok_txn(txn, gpamap_map_pages(txn, 0, 4 * PAGE, PAGE, mem_a, GPAMAP_RW));
	vm_commit(&vm, txn);
	for (unsigned n = 1; n <= 2; n++) {
		txn = vm_begin(&vm);
		ok_txn(txn, gpamap_unmap_pages(txn, 0, 0, n * 4 * PAGE));
		gpamap_sim_fail(vm.sim, GPAMAP_SIM_DELETE, n, ENOMEM, false);
		refused(txn, gpamap_commit(txn, NULL, NULL), -ENOMEM);
		gpamap_abort(txn);
		vm_check_pages(&vm, 0, 1, A, 0, true);
		vm_check_pages(&vm, 4, 1, A, 0, true);
	}
	assert_int_equal(vm_stats(&vm).pending, 0);
}

static void by_free(void **state)
{
	struct owner o = {0};
	struct gpamap_region *r;

	(void)state;
	vm_open(&vm, NULL, NULL);
	r = owned_ram(&o);
	vm_add(&vm, r, 0);
	gpamap_region_put(r);
	assert_int_equal(o.released, 0);
	vm_close(&vm);
	assert_int_equal(o.released, 1);
}

/* Handles may be put after the map has ended. */
static void after_free(void **state)
{
	struct owner in_map = {0}, outside = {0}, shown = {0};
	struct gpamap_region *a, *b, *c, *alias;
	struct gpamap_region_desc desc = {.kind = GPAMAP_ALIAS, .size = PAGE};
	struct gpamap_txn *txn;

	(void)state;
	vm_open(&vm, NULL, NULL);
	a = owned_ram(&in_map);
	vm_add(&vm, a, 0);
	b = owned_ram(&outside);
	desc.target = c = owned_ram(&shown);
	alias = vm_region(&vm, &desc);
	vm_add(&vm, alias, 20);
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
}

static void through_alias_and_mapping(void **state)
{
	struct owner o = {0};
	struct gpamap_region *r = owned_ram(&o), *alias;
	struct gpamap_region_desc desc = {.kind = GPAMAP_ALIAS, .size = 4 * PAGE, .target = r};
	struct gpamap_txn *txn;

	(void)state;
	alias = vm_region(&vm, &desc);
	vm_add(&vm, alias, 0);
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

/* An early slot that could not be taken back: as long as the kernel has it, its memory must stay. */
static void not_after_a_failed_undo(void **state)
{
	struct owner o = {0};
	struct gpamap_region *r = owned_ram(&o);
	struct gpamap_txn *txn = vm_begin(&vm);

	(void)state;
	ok_txn(txn, gpamap_add(txn, gpamap_root(vm.map, 0), 0, r, 0));
	ok_txn(txn, gpamap_map_pages(txn, 0, 20 * PAGE, PAGE, mem_b, GPAMAP_RW));
	gpamap_region_put(r);
	gpamap_sim_fail(vm.sim, GPAMAP_SIM_ANY, 2, ENOMEM, true);
	refused(txn, gpamap_commit(txn, NULL, NULL), -ENOMEM);
	assert_false(vm_stats(&vm).broken);
	assert_int_equal(vm_stats(&vm).pending, 1);
	gpamap_abort(txn);
	assert_int_equal(vm_load(&vm, 0), mem_tag(A, 0));
	assert_int_equal(o.released, 0);
	gpamap_sim_fail(vm.sim, GPAMAP_SIM_ANY, 0, 0, false);
	txn = vm_begin(&vm);
	vm_commit(&vm, txn);
	assert_int_equal(o.released, 1);
	vm_check_hole(&vm, 0, 24);
}

/* The same of memory that may be freed at once: no guest runs with it (P5). */
static void broken_without_release(void **state)
{
	struct gpamap_txn *txn = vm_begin(&vm);

	(void)state;
	ok_txn(txn, gpamap_map_pages(txn, 0, 0, PAGE, mem_a, GPAMAP_RW));
	ok_txn(txn, gpamap_map_pages(txn, 0, 20 * PAGE, PAGE, mem_b, GPAMAP_RW));
	gpamap_sim_fail(vm.sim, GPAMAP_SIM_ANY, 2, ENOMEM, true);
	refused(txn, gpamap_commit(txn, NULL, NULL), -ENOTRECOVERABLE);
	assert_true(vm_stats(&vm).broken);
	gpamap_abort(txn);
	gpamap_sim_fail(vm.sim, GPAMAP_SIM_ANY, 0, 0, false);
	txn = vm_begin(&vm);
	vm_commit(&vm, txn);
	assert_false(vm_stats(&vm).broken);
	vm_check_hole(&vm, 0, 24);
}

/* ---------------------------------------------------------------------------------- devices --- */

struct device {
	struct owner owner; /* first: the opaque is one for both */
	struct gpamap_region *region;
	int (*on_read)(struct device *dev);
	sem_t entered;
	sem_t go_on;
	unsigned reads;
	int released_inside;
};

static int device_read(void *opaque, uint64_t offset, void *data, unsigned len)
{
	struct device *dev = opaque;
	int err;

	(void)offset;
	dev->reads++;
	memset(data, 0x42, len);
	err = dev->on_read(dev);
	dev->released_inside = atomic_load(&dev->owner.released);
	return err;
}

static const struct gpamap_mmio_ops device_ops = {.read = device_read};

static void device_new(struct device *dev, uint64_t page)
{
	memset(dev, 0, sizeof(*dev));
	sem_init(&dev->entered, 0, 0);
	sem_init(&dev->go_on, 0, 0);
	dev->region = owned(&dev->owner, GPAMAP_MMIO, &device_ops);
	vm_add(&vm, dev->region, page);
}

static int remove_self(struct device *dev)
{
	struct gpamap_txn *txn;
	int err = gpamap_begin(vm.map, &txn);

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
	dev.on_read = remove_self;
	dev.released_inside = -1;
	ok(gpamap_read(vm.map, 0, 2 * PAGE, &value, 8));
	assert_int_equal(value, UINT64_C(0x4242424242424242));
	assert_int_equal(dev.reads, 1);
	assert_int_equal(dev.released_inside, 0);
	assert_int_equal(dev.owner.released, 1);
	assert_int_equal(gpamap_read(vm.map, 0, 2 * PAGE, &value, 8), -ENXIO);
}

static int wait_inside(struct device *dev)
{
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
	dev.on_read = wait_inside;
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		vm_test(by_put),
		vm_test(by_commit),
		vm_test(by_abort),
		vm_test(by_abort_after_preview),
		vm_test(not_by_a_failed_commit),
		cmocka_unit_test(by_free),
		cmocka_unit_test(after_free),
		vm_test(through_alias_and_mapping),
		vm_test(not_while_pending),
		vm_test(not_while_left_by_a_failure),
		vm_test(not_without_release),
		vm_test(not_after_a_failed_undo),
		vm_test(broken_without_release),
		vm_test(device_that_removes_itself),
		vm_test(by_the_last_reader),
	};

	mems_new(64);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
