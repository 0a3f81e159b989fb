/* SPDX-License-Identifier: BSD-3-Clause */
/* Transactions and maps: options, limits, slot ids, preview, abort, who may not wait for whom. */
#include "common.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---------------------------------------------------------------------------------- options --- */

static void bad_options(void **state)
{
	static const struct {
		struct gpamap_options opt;
		int err;
	} bad[] = {
		{{.flags = 1u << 7}, -EINVAL},	     {{.spaces = 2}, -ENOTSUP},
		{{.max_slot_size = 2048}, -EINVAL},  {{.max_slot_size = 3 * PAGE}, -EINVAL},
		{{.kick_signal = -1}, -EINVAL},	     {{.kick_signal = 65}, -EINVAL},
		{{.kick_signal = SIGKILL}, -EINVAL}, {{.kick_signal = SIGSTOP}, -EINVAL},
	};
	struct gpamap *const untouched = (struct gpamap *)&bad, *map = untouched;
	struct gpamap_sim *sim;

	(void)state;
	ok(gpamap_sim_new(NULL, &sim));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct gpamap_options opt = bad[i].opt;
		char message[64] = "", tiny[4] = "xyz";

		opt.message = message;
		opt.message_size = sizeof(message);
		assert_int_equal(gpamap_new_sim(sim, &opt, &map), bad[i].err);
		assert_true(message[0] != '\0');
		opt.message = tiny;
		opt.message_size = sizeof(tiny);
		assert_int_equal(gpamap_new_sim(sim, &opt, &map), bad[i].err);
		assert_int_equal(tiny[3], '\0');
		opt.message = NULL;
		assert_int_equal(gpamap_new_sim(sim, &opt, &map), bad[i].err);
		assert_ptr_equal(map, untouched);
	}
	ok(gpamap_new_sim(sim, NULL, &map));
	gpamap_free(map);
	gpamap_free(NULL);
	gpamap_sim_free(sim);
}

static void no_kvm_fd(void **state)
{
	char message[64] = "";
	struct gpamap_options opt = {.message = message, .message_size = sizeof(message)};
	struct gpamap *map = NULL;
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	(void)state;
	assert_int_equal(gpamap_new_kvm(-1, NULL, &map), -EINVAL);
	assert_int_equal(gpamap_new_kvm(fd, &opt, &map), -EINVAL);
	assert_true(message[0] != '\0');
	assert_null(map);
	close(fd);
}

/* Making a map, with each allocation failing in turn. */
static void new_without_memory(void **state)
{
	struct vm vm;

	(void)state;
	vm_open(&vm, NULL, NULL);
	for (unsigned long n = 1;; n++) {
		struct gpamap_options opt = {.spaces = 1};
		struct gpamap *map = NULL;
		long before = atomic_load(&vm.alloc.live);
		int err;

		vm_alloc_options(&vm, &opt);
		counting_fail(&vm.alloc, n, false);
		err = gpamap_new_sim(vm.sim, &opt, &map);
		counting_fail(&vm.alloc, 0, false);
		if (!err) {
			gpamap_free(map);
			assert_true(n > 5);
			break;
		}
		assert_int_equal(err, -ENOMEM);
		assert_int_equal(atomic_load(&vm.alloc.live), before);
	}
	vm_close(&vm);
}

/* ------------------------------------------------------------------------------- slot ids --- */

static void reserved_ids(void **state)
{
	struct gpamap_plan *plan;
	struct gpamap_txn *txn;
	char message[64];
	struct vm vm;

	(void)state;
	vm_open(&vm, NULL, NULL);
	gpamap_last_message(vm.map, message, sizeof(message));
	assert_string_equal(message, "");
	ok(gpamap_reserve_slots(vm.map, 0, 0, 3));
	ok(gpamap_reserve_slots(vm.map, 0, 4, 2));
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_map_pages(txn, 0, 0, PAGE, mem_a, GPAMAP_RW));
	ok_txn(txn, gpamap_map_pages(txn, 0, 2 * PAGE, PAGE, mem_a, GPAMAP_RW));
	ok_txn(txn, gpamap_preview(txn, 0, &plan));
	assert_int_equal(gpamap_plan_count(plan), 2);
	assert_int_equal(gpamap_plan_op(plan, 0)->slot, 3);
	assert_int_equal(gpamap_plan_op(plan, 1)->slot, 6);
	gpamap_plan_free(plan);
	vm_commit(&vm, txn);
	assert_int_equal(gpamap_reserve_slots(vm.map, 0, 6, 1), -EBUSY);
	gpamap_last_message(vm.map, message, sizeof(message));
	assert_true(message[0] != '\0');
	assert_int_equal(gpamap_reserve_slots(vm.map, 0, 7, 1000000), -ERANGE);
	assert_int_equal(gpamap_reserve_slots(vm.map, 0, UINT32_MAX, 2), -ERANGE);
	assert_int_equal(gpamap_reserve_slots(vm.map, 1, 0, 1), -ERANGE);
	vm_close(&vm);
}

static void too_few_slots(void **state)
{
	struct gpamap_options opt = {.max_slots = 4};
	struct world before;
	struct gpamap_txn *txn;
	struct vm vm;

	(void)state;
	vm_open(&vm, NULL, &opt);
	txn = vm_begin(&vm);
	for (uint64_t i = 0; i < 4; i++)
		ok_txn(txn,
		       gpamap_map_pages(txn, 0, 2 * i * PAGE, PAGE, mem_a + i * PAGE, GPAMAP_RW));
	vm_commit(&vm, txn);
	world_take(&vm, &before);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_map_pages(txn, 0, 20 * PAGE, PAGE, mem_b, GPAMAP_RW));
	refused(txn, gpamap_commit(txn, NULL, NULL), -ENOSPC);
	world_check(&vm, &before);
	assert_int_equal(vm_stats(&vm).slot_ioctls, 4);
	assert_int_equal(vm_stats(&vm).failed, 1);
	/* It may go on. */
	ok_txn(txn, gpamap_unmap_pages(txn, 0, 0, PAGE));
	vm_commit(&vm, txn);
	vm_check_pages(&vm, 20, 1, B, 0, true);
	vm_close(&vm);
}

/* The pieces of splits that are over become one slot again when slots run short. */
static void merged_when_short(void **state)
{
	struct gpamap_options opt = {.max_slots = 6};
	struct gpamap_txn *txn;
	struct vm vm;

	(void)state;
	vm_open(&vm, NULL, &opt);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_map_pages(txn, 0, 0, 32 * PAGE, mem_a, GPAMAP_RW));
	vm_commit(&vm, txn);
	for (uint64_t page = 8; page <= 16; page += 8) {
		txn = vm_begin(&vm);
		ok_txn(txn, gpamap_protect_pages(txn, 0, page * PAGE, PAGE, GPAMAP_RO));
		vm_commit(&vm, txn);
		txn = vm_begin(&vm);
		ok_txn(txn, gpamap_protect_pages(txn, 0, page * PAGE, PAGE, GPAMAP_RW));
		vm_commit(&vm, txn);
	}
	assert_int_equal(vm_stats(&vm).slots, 5);
	assert_int_equal(vm_stats(&vm).merges, 0);
	txn = vm_begin(&vm);
	for (uint64_t i = 0; i < 4; i++)
		ok_txn(txn, gpamap_map_pages(txn, 0, (40 + 2 * i) * PAGE, PAGE, mem_b, GPAMAP_RW));
	vm_commit(&vm, txn);
	vm_check_pages(&vm, 0, 32, A, 0, true);
	assert_true(vm_stats(&vm).merges > 0);
	assert_true(vm_stats(&vm).slots <= 6);
	vm_close(&vm);
}

/* Pages of a file in reverse order: no two can share a slot. */
static void many_pages(void **state)
{
	enum { N = 32000 };
	struct gpamap_commit_report report;
	struct gpamap_segment s;
	struct gpamap_txn *txn;
	struct vm vm;
	uint8_t *mem = mmap(NULL, N * PAGE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	(void)state;
	assert_true(mem != MAP_FAILED);
	vm_open(&vm, NULL, NULL);
	txn = vm_begin(&vm);
	for (uint64_t i = 0; i < N; i++)
		ok(gpamap_map_pages(txn, 0, i * PAGE, PAGE, mem + (N - 1 - i) * PAGE, GPAMAP_RW));
	ok_txn(txn, gpamap_commit(txn, NULL, &report));
	assert_int_equal(report.early, N);
	assert_int_equal(report.critical + report.late, 0);
	for (uint64_t i = 0; i < 1000; i++) {
		uint64_t page = i * 7919 % N;

		txn = vm_begin(&vm);
		ok_txn(txn, gpamap_protect_pages(txn, 0, page * PAGE, PAGE, GPAMAP_RO));
		ok_txn(txn, gpamap_commit(txn, NULL, &report));
		assert_int_equal(report.critical, 2);
		ok(gpamap_lookup(vm.map, 0, page * PAGE, &s));
		assert_int_equal(s.prot, GPAMAP_RO);
		assert_ptr_equal(s.hva, mem + (N - 1 - page) * PAGE);
		assert_int_equal(s.size, PAGE);
	}
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_unmap_pages(txn, 0, 0, N * PAGE));
	ok_txn(txn, gpamap_commit(txn, NULL, &report));
	/* Memory without a release callback is gone when the commit has returned. */
	assert_int_equal(report.critical, N);
	assert_int_equal(gpamap_lookup(vm.map, 0, 0, &s), -ENOENT);
	assert_int_equal(vm_stats(&vm).slots, 0);
	vm_close(&vm);
	munmap(mem, N * PAGE);
}

/* -------------------------------------------------------------------------- preview, abort --- */

struct model {
	uint64_t gpa[32];
	uint64_t size[32];
};

/* Do the operations of a plan to a model of the slots of space 0. */
static void replay(struct model *m, const struct gpamap_plan *plan)
{
	for (size_t i = 0; i < gpamap_plan_count(plan); i++) {
		const struct gpamap_op *op = gpamap_plan_op(plan, i);

		assert_true(op->slot < 32 && op->space == 0);
		switch (op->kind) {
		case GPAMAP_OP_CREATE:
			assert_int_equal(m->size[op->slot], 0);
			break;
		case GPAMAP_OP_DELETE:
			assert_int_equal(m->size[op->slot], op->size);
			assert_int_equal(m->gpa[op->slot], op->gpa);
			m->size[op->slot] = 0;
			continue;
		case GPAMAP_OP_MOVE:
			assert_int_equal(m->gpa[op->slot], op->old_gpa);
			break;
		case GPAMAP_OP_FLAGS:
			assert_int_equal(m->gpa[op->slot], op->gpa);
			break;
		}
		m->gpa[op->slot] = op->gpa;
		m->size[op->slot] = op->size;
	}
	assert_null(gpamap_plan_op(plan, gpamap_plan_count(plan)));
}

/* Is there a slot in the model? */
static bool model_has(const struct model *m, uint64_t gpa)
{
	for (int i = 0; i < 32; i++) {
		if (m->size[i] && gpa >= m->gpa[i] && gpa - m->gpa[i] < m->size[i])
			return true;
	}
	return false;
}

static void preview_then_commit(struct vm *vm, struct gpamap_txn *txn, struct model *m,
				unsigned flags)
{
	static const enum gpamap_sim_call calls[] = {0, GPAMAP_SIM_CREATE, GPAMAP_SIM_DELETE,
						     GPAMAP_SIM_MOVE, GPAMAP_SIM_FLAGS};
	unsigned phases[4] = {0}, last = GPAMAP_EARLY;
	uint64_t kinds[5] = {0};
	struct gpamap_commit_options opt = {.flags = flags};
	struct gpamap_commit_report report;
	struct gpamap_plan *plan;
	uint64_t commits = vm_stats(vm).commits;

	ok_txn(txn, gpamap_preview(txn, flags, &plan));
	assert_int_equal(vm_stats(vm).commits, commits);
	for (size_t i = 0; i < gpamap_plan_count(plan); i++) {
		const struct gpamap_op *op = gpamap_plan_op(plan, i);

		assert_true(op->phase >= last);
		last = op->phase;
		phases[op->phase]++;
		kinds[op->kind]++;
	}
	for (int k = GPAMAP_OP_CREATE; k <= GPAMAP_OP_FLAGS; k++)
		kinds[k] += gpamap_sim_calls(vm->sim, calls[k]);
	ok_txn(txn, gpamap_commit(txn, &opt, &report));
	for (int k = GPAMAP_OP_CREATE; k <= GPAMAP_OP_FLAGS; k++)
		assert_int_equal(kinds[k], gpamap_sim_calls(vm->sim, calls[k]));
	assert_int_equal(report.early, phases[GPAMAP_EARLY]);
	assert_int_equal(report.critical, phases[GPAMAP_CRITICAL]);
	assert_int_equal(report.late, phases[GPAMAP_LATE]);
	replay(m, plan);
	gpamap_plan_free(plan);
	for (uint64_t gpa = 0; gpa < WORLD_PAGES * PAGE; gpa += PAGE)
		assert_int_equal(vm_slot_at(vm, 0, gpa), model_has(m, gpa));
}

static void preview(void **state)
{
	struct model m = {0};
	struct gpamap_region *ram;
	struct gpamap_txn *txn;
	struct vm vm;

	(void)state;
	vm_open(&vm, NULL, NULL);
	ram = vm_ram(&vm, mem_b, 8, 24);
	gpamap_plan_free(NULL);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_map_pages(txn, 0, 0, 32 * PAGE, mem_a, GPAMAP_RW));
	ok_txn(txn, gpamap_add(txn, gpamap_root(vm.map, 0), 40 * PAGE, ram, 0));
	preview_then_commit(&vm, txn, &m, 0);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_protect_pages(txn, 0, 4 * PAGE, 4 * PAGE, GPAMAP_RO));
	ok_txn(txn, gpamap_unmap_pages(txn, 0, 12 * PAGE, 4 * PAGE));
	ok_txn(txn, gpamap_resize(txn, ram, 24 * PAGE));
	preview_then_commit(&vm, txn, &m, 0);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_move(txn, ram, 44 * PAGE));
	ok_txn(txn, gpamap_set_log(txn, ram, true));
	ok_txn(txn, gpamap_map_pages(txn, 0, 80 * PAGE, PAGE, mem_a, GPAMAP_RO));
	preview_then_commit(&vm, txn, &m, GPAMAP_COMMIT_ONE_INSTANT);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_unmap_pages(txn, 0, 0, 200 * PAGE));
	ok_txn(txn, gpamap_set_log(txn, ram, false));
	preview_then_commit(&vm, txn, &m, 0);
	gpamap_region_put(ram);
	vm_close(&vm);
}

static void edit_everything(struct vm *vm, struct gpamap_txn *txn, struct gpamap_region *ram,
			    struct gpamap_region *other)
{
	ok_txn(txn, gpamap_resize(txn, ram, 4 * PAGE));
	ok_txn(txn, gpamap_move(txn, ram, 50 * PAGE));
	ok_txn(txn, gpamap_reback(txn, ram, mem_b));
	ok_txn(txn, gpamap_set_log(txn, ram, true));
	ok_txn(txn, gpamap_set_readonly(txn, ram, true));
	ok_txn(txn, gpamap_set_priority(txn, ram, 7));
	ok_txn(txn, gpamap_add(txn, gpamap_root(vm->map, 0), 60 * PAGE, other, 0));
	ok_txn(txn, gpamap_remove(txn, ram));
	ok_txn(txn, gpamap_add(txn, gpamap_root(vm->map, 0), 70 * PAGE, ram, 0));
	ok_txn(txn, gpamap_set_enabled(txn, ram, false));
	ok_txn(txn, gpamap_unmap_pages(txn, 0, 2 * PAGE, 4 * PAGE));
	ok_txn(txn, gpamap_protect_pages(txn, 0, 6 * PAGE, 2 * PAGE, GPAMAP_NONE));
	ok_txn(txn, gpamap_map_pages(txn, 0, 0, PAGE, mem_b + PAGE, GPAMAP_RO));
}

static void abort_restores(void **state)
{
	struct gpamap_region *ram, *other;
	struct world before;
	struct gpamap_plan *plan;
	struct gpamap_txn *txn;
	uint64_t calls;
	struct vm vm;

	(void)state;
	vm_open(&vm, NULL, NULL);
	ram = vm_ram(&vm, mem_a, 16, 32);
	other = vm_ram(&vm, mem_b, 4, 0);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_add(txn, gpamap_root(vm.map, 0), 40 * PAGE, ram, 0));
	ok_txn(txn, gpamap_map_pages(txn, 0, 0, 16 * PAGE, mem_a, GPAMAP_RW));
	vm_commit(&vm, txn);
	world_take(&vm, &before);
	calls = vm_stats(&vm).slot_ioctls;
	for (int with_preview = 0; with_preview < 2; with_preview++) {
		txn = vm_begin(&vm);
		edit_everything(&vm, txn, ram, other);
		if (with_preview) {
			ok_txn(txn, gpamap_preview(txn, 0, &plan));
			assert_true(gpamap_plan_count(plan) > 3);
			gpamap_plan_free(plan);
		}
		/* What's not committed is seen by nobody. */
		world_check(&vm, &before);
		gpamap_abort(txn);
		world_check(&vm, &before);
		vm_check_settled(&vm);
	}
	assert_int_equal(vm_stats(&vm).slot_ioctls, calls);
	gpamap_abort(NULL);
	/* The regions are as before: the resize is, for instance. */
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_resize(txn, ram, 17 * PAGE));
	refused(txn, gpamap_remove(txn, other), -ENOENT);
	vm_commit(&vm, txn);
	vm_check_pages(&vm, 40, 17, A, 0, true);
	gpamap_region_put(ram);
	gpamap_region_put(other);
	vm_close(&vm);
}

/* --------------------------------------------------------------------------------- refusals --- */

static void messages(void **state)
{
	struct gpamap_region_desc desc = {.kind = GPAMAP_RAM, .size = PAGE + 1, .hva = mem_a};
	struct gpamap_region *none = (struct gpamap_region *)&desc, *region = none;
	struct gpamap_region *ram, *foreign;
	struct gpamap_txn *txn;
	char message[256];
	struct vm vm, other;

	(void)state;
	vm_open(&vm, NULL, NULL);
	vm_open(&other, NULL, NULL);
	assert_int_equal(gpamap_region_new(vm.map, &desc, &region), -EINVAL);
	assert_ptr_equal(region, none);
	gpamap_last_message(vm.map, message, sizeof(message));
	assert_true(message[0] != '\0');
	gpamap_last_message(vm.map, message, 3);
	assert_int_equal(strlen(message), 2);
	ram = vm_ram(&vm, mem_a, 4, 0);
	foreign = vm_ram(&other, mem_a, 4, 0);
	txn = vm_begin(&vm);
	assert_string_equal(gpamap_message(txn), "");
	refused(txn, gpamap_add(txn, ram, 0, ram, 0), -ENOTDIR);
	refused(txn, gpamap_add(txn, gpamap_root(vm.map, 0), 1, ram, 0), -EINVAL);
	refused(txn, gpamap_add(txn, gpamap_root(vm.map, 0), 0, foreign, 0), -EXDEV);
	refused(txn, gpamap_add(txn, gpamap_root(vm.map, 0), -PAGE, ram, 0), -EOVERFLOW);
	refused(txn, gpamap_resize(txn, ram, PAGE), -EPERM);
	refused(txn, gpamap_move(txn, ram, PAGE), -ENOENT);
	refused(txn, gpamap_set_rom_mode(txn, ram, true), -ENOTSUP);
	refused(txn, gpamap_set_target_offset(txn, ram, 0), -ENOTSUP);
	refused(txn, gpamap_reback(txn, ram, mem_a + 1), -EINVAL);
	refused(txn, gpamap_map_region(txn, 0, 0, 5 * PAGE, ram, 0, GPAMAP_RW), -ERANGE);
	refused(txn, gpamap_map_pages(txn, 0, 0, 0, mem_a, GPAMAP_RW), -EINVAL);
	refused(txn, gpamap_map_pages(txn, 9, 0, PAGE, mem_a, GPAMAP_RW), -ENXIO);
	/* A success has none. */
	ok_txn(txn, gpamap_add(txn, gpamap_root(vm.map, 0), 0, ram, 0));
	assert_string_equal(gpamap_message(txn), "");
	refused(txn, gpamap_add(txn, gpamap_root(vm.map, 0), 0, ram, 0), -EBUSY);
	gpamap_sim_fail(vm.sim, GPAMAP_SIM_CREATE, 1, EFAULT, false);
	refused(txn, gpamap_commit(txn, NULL, NULL), -EFAULT);
	assert_non_null(strstr(gpamap_message(txn), "create"));
	ok_txn(txn, gpamap_commit(txn, NULL, NULL));
	gpamap_region_put(ram);
	gpamap_region_put(foreign);
	vm_close(&other);
	vm_close(&vm);
}

static void no_readonly_kvm(void **state)
{
	struct gpamap_sim_options sim = {.flags = GPAMAP_SIM_NO_READONLY};
	struct gpamap_txn *txn;
	struct vm vm;

	(void)state;
	vm_open(&vm, &sim, NULL);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_map_pages(txn, 0, 0, PAGE, mem_a, GPAMAP_RO));
	refused(txn, gpamap_commit(txn, NULL, NULL), -ENOTSUP);
	assert_int_equal(vm_stats(&vm).slot_ioctls, 0);
	gpamap_abort(txn);
	vm_close(&vm);
}

static int idle_step(struct gpamap_sim_vcpu *vcpu, void *opaque)
{
	(void)opaque;
	return gpamap_sim_halt(vcpu);
}

/* Whatever could wait for this very thread. (P6) */
static void expect_deadlock(struct vm *vm, struct gpamap_txn *txn, struct gpamap_region *ram)
{
	struct gpamap_txn *another;
	struct gpamap_plan *plan;
	uint64_t bits[1];

	assert_int_equal(gpamap_begin(vm->map, &another), -EDEADLK);
	refused(txn, gpamap_commit(txn, NULL, NULL), -EDEADLK);
	refused(txn, gpamap_preview(txn, 0, &plan), -EDEADLK);
	assert_int_equal(gpamap_dirty_fetch(vm->map, ram, 0, PAGE, bits), -EDEADLK);
	assert_int_equal(gpamap_reserve_slots(vm->map, 0, 100, 1), -EDEADLK);
}

static void inside_the_gate(void **state)
{
	struct gpamap_sim_vcpu *sim_vcpu;
	struct gpamap_vcpu *vcpu;
	struct gpamap_region *ram;
	struct gpamap_txn *txn, *another = NULL;
	uint64_t bits[1];
	struct vm vm;

	(void)state;
	vm_open(&vm, NULL, NULL);
	ok(gpamap_sim_vcpu_new(vm.sim, 1, 0, idle_step, NULL, &sim_vcpu));
	ok(gpamap_sim_vcpu_attach(vm.map, sim_vcpu, &vcpu));
	ram = vm_ram(&vm, mem_a, 4, 0);
	txn = vm_begin(&vm);
	assert_int_equal(gpamap_begin(vm.map, &another), -EDEADLK);
	assert_null(another);
	ok_txn(txn, gpamap_add(txn, gpamap_root(vm.map, 0), 0, ram, 0));
	ok_txn(txn, gpamap_set_log(txn, ram, true));
	ok(gpamap_enter(vm.map));
	expect_deadlock(&vm, txn, ram);
	ok(gpamap_enter(vm.map));
	gpamap_leave(vm.map);
	expect_deadlock(&vm, txn, ram);
	gpamap_leave(vm.map);
	ok(gpamap_vcpu_enter(vcpu));
	expect_deadlock(&vm, txn, ram);
	ok(gpamap_enter(vm.map));
	gpamap_vcpu_leave(vcpu);
	expect_deadlock(&vm, txn, ram);
	gpamap_leave(vm.map);
	assert_int_equal(vm_stats(&vm).slot_ioctls, 0);
	vm_commit_flags(&vm, txn, GPAMAP_COMMIT_ONE_INSTANT);
	ok(gpamap_enter(vm.map));
	assert_int_equal(gpamap_dirty_fetch(vm.map, ram, 0, PAGE, bits), -EDEADLK);
	gpamap_leave(vm.map);
	ok(gpamap_dirty_fetch(vm.map, ram, 0, PAGE, bits));
	assert_int_equal(gpamap_dirty_fetch(vm.map, ram, 1, PAGE, bits), -EINVAL);
	assert_int_equal(gpamap_dirty_fetch(vm.map, ram, 4 * PAGE, PAGE, bits), -ERANGE);
	ok(gpamap_vcpu_run(vcpu));
	gpamap_vcpu_detach(vcpu);
	gpamap_vcpu_detach(NULL);
	gpamap_sim_vcpu_free(sim_vcpu);
	gpamap_region_put(ram);
	vm_close(&vm);
}

static void no_kick_signal(void **state)
{
	struct gpamap_options opt = {0};
	struct gpamap_sim_vcpu *sim_vcpu;
	struct gpamap_vcpu *vcpu;
	struct gpamap_sim *sim;
	struct gpamap *map;

	(void)state;
	ok(gpamap_sim_new(NULL, &sim));
	ok(gpamap_sim_vcpu_new(sim, 1, 0, idle_step, NULL, &sim_vcpu));
	ok(gpamap_new_sim(sim, &opt, &map));
	assert_int_equal(gpamap_sim_vcpu_attach(map, sim_vcpu, &vcpu), -EINVAL);
	gpamap_free(map);
	/* A signal without a handler would end the process. */
	opt.kick_signal = SIGUSR2;
	ok(gpamap_new_sim(sim, &opt, &map));
	assert_int_equal(gpamap_sim_vcpu_attach(map, sim_vcpu, &vcpu), -EINVAL);
	gpamap_free(map);
	gpamap_sim_vcpu_free(sim_vcpu);
	gpamap_sim_free(sim);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bad_options),	      cmocka_unit_test(no_kvm_fd),
		cmocka_unit_test(new_without_memory), cmocka_unit_test(reserved_ids),
		cmocka_unit_test(too_few_slots),      cmocka_unit_test(merged_when_short),
		cmocka_unit_test(many_pages),	      cmocka_unit_test(preview),
		cmocka_unit_test(abort_restores),     cmocka_unit_test(messages),
		cmocka_unit_test(no_readonly_kvm),    cmocka_unit_test(inside_the_gate),
		cmocka_unit_test(no_kick_signal),
	};

	mems_new(64);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
