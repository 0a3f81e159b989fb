/* SPDX-License-Identifier: BSD-3-Clause */
/* The application's own ioctls, by the library: what they return, who waits for whom, and what is refused. */
#include "uffd.h"

#include <semaphore.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FLIPPED PAGE_TEST
#define WATCHED (PAGE_TEST + 8)
#define MISSING (PAGE_TEST + 16)
#define RESERVED_SLOT 3
#define RESERVED_AT (VM_PAGES + 64)
#define CALLS 50

static struct vm vm;
static struct uffd uffd;

static int setup(void **state)
{
	(void)state;
	vm_open(&vm, 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	uffd_close(&uffd);
	vm_close(&vm);
	return 0;
}

/* -------------------------------------------------------------------------------- one by one --- */

static int get_reserved_log(void)
{
	static uint64_t bitmap;
	struct kvm_dirty_log log = {.slot = RESERVED_SLOT, .dirty_bitmap = &bitmap};

	return gpamap_vm_ioctl(vm.map, KVM_GET_DIRTY_LOG, &log);
}

static void slots(void **state)
{
	struct kvm_userspace_memory_region region = vm_own_region(&vm, RESERVED_SLOT, RESERVED_AT);
	struct kvm_dirty_log log = {.slot = 0};

	(void)state;
	assert_int_equal(gpamap_vm_ioctl(vm.map, KVM_SET_USER_MEMORY_REGION, &region), -EPERM);
	assert_int_equal(get_reserved_log(), -EPERM);
	ok(gpamap_reserve_slots(vm.map, 0, RESERVED_SLOT, 1));
	assert_int_equal(get_reserved_log(), -ENOENT);
	ok(gpamap_vm_ioctl(vm.map, KVM_SET_USER_MEMORY_REGION, &region));
	ok(get_reserved_log());
	assert_int_equal(gpamap_vm_ioctl(vm.map, KVM_GET_DIRTY_LOG, &log), -EPERM);
	assert_int_equal(gpamap_vm_ioctl(vm.map, KVM_SET_USER_MEMORY_REGION, NULL), -EFAULT);
}

/* Of each processor: ioctls for where the vCPU is; and one that is free and one that is gated, which give 0. */
#if defined(__x86_64__)

static int set_pc(struct vcpu *v, uint64_t pc)
{
	struct kvm_regs regs = {.rflags = 2, .rip = pc};

	return gpamap_vcpu_ioctl(v->gate, KVM_SET_REGS, &regs);
}

static int get_pc(struct vcpu *v, uint64_t *ret)
{
	struct kvm_regs regs;
	int err = gpamap_vcpu_ioctl(v->gate, KVM_GET_REGS, &regs);

	*ret = regs.rip;
	return err;
}

static int ungated(struct vcpu *v)
{
	uint64_t pc;

	return get_pc(v, &pc);
}

/* The guest's addresses are its physical ones. */
static int gated(struct vcpu *v)
{
	struct kvm_translation tr = {.linear_address = vm_gpa(v->vm, WATCHED)};
	int err = gpamap_vcpu_ioctl(v->gate, KVM_TRANSLATE, &tr);

	if (err)
		return err;
	return tr.valid && tr.physical_address == vm_gpa(v->vm, WATCHED) ? 0 : -EIO;
}

#elif defined(__aarch64__)

static int pc_ioctl(struct vcpu *v, unsigned long request, uint64_t *pc)
{
	struct kvm_one_reg r = {.id = KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE |
				      KVM_REG_ARM_CORE_REG(regs.pc),
				.addr = (uintptr_t)pc};

	return gpamap_vcpu_ioctl(v->gate, request, &r);
}

static int set_pc(struct vcpu *v, uint64_t pc)
{
	return pc_ioctl(v, KVM_SET_ONE_REG, &pc);
}

static int get_pc(struct vcpu *v, uint64_t *ret)
{
	return pc_ioctl(v, KVM_GET_ONE_REG, ret);
}

static int ungated(struct vcpu *v)
{
	struct kvm_vcpu_events events;

	return gpamap_vcpu_ioctl(v->gate, KVM_GET_VCPU_EVENTS, &events);
}

static int gated(struct vcpu *v)
{
	struct kvm_mp_state state = {.mp_state = KVM_MP_STATE_RUNNABLE};

	return gpamap_vcpu_ioctl(v->gate, KVM_SET_MP_STATE, &state);
}

#else

/* There are no guests: see guest.h. */
static int set_pc(struct vcpu *v, uint64_t pc)
{
	(void)v;
	(void)pc;
	return -ENOTSUP;
}

static int get_pc(struct vcpu *v, uint64_t *ret)
{
	*ret = 0;
	return set_pc(v, 0);
}

static int ungated(struct vcpu *v)
{
	return set_pc(v, 0);
}

static int gated(struct vcpu *v)
{
	return set_pc(v, 0);
}

#endif

static void values_and_errors(void **state)
{
	struct vcpu *v = vcpu_new(&vm, 0);
	struct kvm_create_device create = {.type = 0xffff};
	uint64_t pc;
	int fd;

	(void)state;
	assert_int_equal(gpamap_vm_ioctl(vm.map, KVM_CHECK_EXTENSION, (void *)KVM_CAP_NR_MEMSLOTS),
			 ioctl(vm.fd, KVM_CHECK_EXTENSION, KVM_CAP_NR_MEMSLOTS));
	fd = gpamap_vm_ioctl(vm.map, KVM_CREATE_VCPU, (void *)1);
	assert_true(fd >= 0);
	ok(close(fd));
	assert_int_equal(gpamap_vm_ioctl(vm.map, KVM_CREATE_VCPU, (void *)1), -EEXIST);
	assert_int_equal(gpamap_vm_ioctl(vm.map, KVM_CREATE_DEVICE, &create), -ENODEV);
	assert_int_equal(gpamap_device_ioctl(vm.map, -1, KVM_SET_DEVICE_ATTR, NULL), -EBADF);
	/* Not around what is refused. */
	assert_int_equal(gpamap_device_ioctl(vm.map, vm.fd, KVM_GET_DIRTY_LOG, NULL), -EINVAL);
	ok(set_pc(v, 0x1234));
	ok(get_pc(v, &pc));
	assert_int_equal(pc, 0x1234);
	assert_int_equal(gpamap_vcpu_ioctl(v->gate, KVM_SET_MP_STATE, NULL), -EFAULT);
}

static void signal_masks(void **state)
{
	struct vcpu *v = vcpu_new(&vm, 0);
	struct {
		uint32_t len;
		uint8_t set[8];
	} mask = {.len = 8};
	sigset_t set;

	(void)state;
	sigfillset(&set);
	memcpy(mask.set, &set, sizeof(mask.set));
	assert_int_equal(gpamap_vcpu_ioctl(v->gate, KVM_SET_SIGNAL_MASK, &mask), -EPERM);
	sigdelset(&set, KICK_SIGNAL);
	memcpy(mask.set, &set, sizeof(mask.set));
	ok(gpamap_vcpu_ioctl(v->gate, KVM_SET_SIGNAL_MASK, &mask));
	/* So it can still be kicked. */
	vcpu_set(v, USER, LOOP, WATCHED, false);
	vcpu_start(v);
	vcpu_await(v, 1);
	ok(vm_flip_page(&vm, FLIPPED, NULL));
	vcpu_stop(v);
	ok(gpamap_vcpu_ioctl(v->gate, KVM_SET_SIGNAL_MASK, NULL));
}

/* ------------------------------------------------------------------------------- vCPU ioctls --- */

static int run_by_ioctl(struct vcpu *v)
{
	return gpamap_vcpu_ioctl(v->gate, KVM_RUN, NULL);
}

static void run_is_run(void **state)
{
	struct vcpu *v = vcpu_new(&vm, 0);

	(void)state;
	step("running by KVM_RUN");
	v->once = run_by_ioctl;
	vcpu_set(v, USER, LOOP, WATCHED, false);
	vcpu_start(v);
	stream_start(&vm, FLIPPED);
	stream_await(&vm, CALLS);
	vcpu_await(v, CALLS);
	stream_stop(&vm);
	vcpu_stop(v);
}

/* A free one and a gated one. 0 if both were right. */
static int look_at_vcpu(struct vcpu *v)
{
	int err = ungated(v);

	return err ? err : gated(v);
}

static void look_in_handler(struct vcpu *v)
{
	int err = look_at_vcpu(v);

	/* Serialised, in a handler. */
	if (!err)
		err = get_reserved_log();
	if (err)
		atomic_store(&v->err, err);
}

/* In exit handlers, while a commit kicks this vCPU, or waits for it. */
static void by_own_thread(void **state)
{
	struct kvm_userspace_memory_region region = vm_own_region(&vm, RESERVED_SLOT, RESERVED_AT);
	struct vcpu *v = vcpu_new(&vm, 0);

	(void)state;
	step("ioctls in exit handlers");
	ok(gpamap_reserve_slots(vm.map, 0, RESERVED_SLOT, 1));
	ok(gpamap_vm_ioctl(vm.map, KVM_SET_USER_MEMORY_REGION, &region));
	v->on_ring = look_in_handler;
	vcpu_set(v, USER, LOOP, WATCHED, true);
	vcpu_start(v);
	stream_start(&vm, FLIPPED);
	stream_await(&vm, CALLS);
	vcpu_await(v, CALLS);
	stream_stop(&vm);
	vcpu_stop(v);
}

/* While it runs, and never leaves but for kicks: in the kernel they wait for its mutex, the gated one inside the
 * gate. Each commit kicks it, and lets them through. */
static void by_another_thread(void **state)
{
	struct vcpu *v = vcpu_new(&vm, 0);
	uint64_t pc;

	(void)state;
	step("ioctls of another thread");
	vcpu_set(v, USER, LOOP, WATCHED, false);
	vcpu_start(v);
	vcpu_await(v, 1);
	stream_start(&vm, FLIPPED);
	for (int i = 0; i < CALLS; i++)
		ok(look_at_vcpu(v));
	stream_await(&vm, 1);
	ok(get_pc(v, &pc));
	assert_in_range(pc, vm_gpa(&vm, PAGE_CODE), vm_gpa(&vm, PAGE_CODE + 1) - 1);
	vcpu_await(v, 1);
	stream_stop(&vm);
	vcpu_stop(v);
}

/* ----------------------------------------------------------------------------- the gate shut --- */

static struct vcpu *holding, *asked;

static int vm_free(void)
{
	return gpamap_vm_ioctl(vm.map, KVM_CHECK_EXTENSION, (void *)KVM_CAP_USER_MEMORY) > 0 ? 0
											     : -EIO;
}

static int vcpu_is_free(void)
{
	return ungated(asked);
}

static int vcpu_is_gated(void)
{
	return gated(asked);
}

/* The VM has no interrupt controller. */
static int vm_gated(void)
{
	struct kvm_irq_level level = {.irq = 1};
	int err = gpamap_vm_ioctl(vm.map, KVM_IRQ_LINE, &level);

	return err == -ENXIO ? 0 : err;
}

struct caller {
	const char *name;
	int (*call)(void);
	bool waits;
	pthread_t thread;
	atomic_int tid;
	atomic_bool done;
	atomic_bool too_early;
	atomic_int err;
};

static atomic_bool leaving;
static sem_t is_inside, leave;

static void *call(void *opaque)
{
	struct caller *c = opaque;

	atomic_store(&c->tid, (int)syscall(SYS_gettid));
	atomic_store(&c->err, c->call());
	atomic_store(&c->too_early, !atomic_load(&leaving));
	atomic_store(&c->done, true);
	return NULL;
}

static void *hold(void *opaque)
{
	int err = gpamap_vcpu_enter(holding->gate);

	sem_post(&is_inside);
	wait_sem(&leave);
	atomic_store(&leaving, true);
	gpamap_vcpu_leave(holding->gate);
	return err ? opaque : NULL;
}

static void *commit(void *opaque)
{
	return vm_flip_page(&vm, FLIPPED, NULL) ? opaque : NULL;
}

static void join_well(pthread_t thread)
{
	void *failed;

	ok(pthread_join(thread, &failed));
	assert_null(failed);
}

/* A commit has shut the gate, and waits for a vCPU that stays inside: some wait with it, some don't. */
static void gate_shut(void **state)
{
	struct kvm_userspace_memory_region region = vm_own_region(&vm, RESERVED_SLOT, RESERVED_AT);
	struct caller callers[] = {
		{.name = "a free one of the VM", .call = vm_free},
		{.name = "a free one of a vCPU", .call = vcpu_is_free},
		{.name = "a gated one of the VM", .call = vm_gated, .waits = true},
		{.name = "a gated one of a vCPU", .call = vcpu_is_gated, .waits = true},
		{.name = "a serialised one", .call = get_reserved_log, .waits = true},
	};
	const size_t n = sizeof(callers) / sizeof(callers[0]);
	pthread_t holder, committer;

	(void)state;
	step("waiting at a gate that is shut");
	holding = vcpu_new(&vm, 0);
	asked = vcpu_new(&vm, 1);
	vcpu_set(asked, USER, LOOP, WATCHED, false);
	ok(gpamap_reserve_slots(vm.map, 0, RESERVED_SLOT, 1));
	ok(gpamap_vm_ioctl(vm.map, KVM_SET_USER_MEMORY_REGION, &region));
	sem_init(&is_inside, 0, 0);
	sem_init(&leave, 0, 0);
	atomic_store(&leaving, false);
	ok(pthread_create(&holder, NULL, hold, &vm));
	wait_sem(&is_inside);
	ok(pthread_create(&committer, NULL, commit, &vm));
	wait_until(vm_stats(&vm).kicks > 0);
	for (size_t i = 0; i < n; i++)
		ok(pthread_create(&callers[i].thread, NULL, call, &callers[i]));
	for (size_t i = 0; i < n; i++) {
		struct caller *c = &callers[i];

		/* Its first sleep may be another one; but then it is not too early in the end, either. */
		wait_until(atomic_load(&c->done) ||
			   (c->waits && thread_state(atomic_load(&c->tid)) == 'S'));
	}
	sem_post(&leave);
	for (size_t i = 0; i < n; i++) {
		ok(pthread_join(callers[i].thread, NULL));
		if (atomic_load(&callers[i].err))
			fail_msg("%s: %d", callers[i].name, atomic_load(&callers[i].err));
		if (atomic_load(&callers[i].too_early) == callers[i].waits)
			fail_msg("%s: did%s wait", callers[i].name, callers[i].waits ? " not" : "");
	}
	join_well(holder);
	join_well(committer);
}

/* ------------------------------------------------------------------------------- in a fault --- */

#ifdef __x86_64__
static void *translate(void *opaque)
{
	struct caller *c = opaque;

	/* Whether it's the vCPU's thread. */
	if (c->waits && !gpamap_vcpu_enter(asked->gate))
		gpamap_vcpu_leave(asked->gate);
	return call(c);
}

/* An ioctl that touches guest memory does it inside the gate: a commit has to wait for it, and names who it is. */
static void in_a_fault(bool own)
{
	const struct gpamap_commit_options soon = {.timeout_ms = SHORT_MS};
	struct caller c = {.call = vcpu_is_gated, .waits = own};
	struct gpamap_stuck_info info;
	struct gpamap_txn *txn;
	struct kvm_sregs sregs;

	step("waiting for an ioctl's fault");
	asked = vcpu_new(&vm, 1);
	vcpu_set(asked, USER, LOOP, WATCHED, false);
	ok(gpamap_vcpu_ioctl(asked->gate, KVM_GET_SREGS, &sregs));
	uffd_open(&uffd, vm.memory + vm_gpa(&vm, MISSING), vm.page, vm.memory + sregs.cr3, 8);
	sregs.cr3 = vm_gpa(&vm, MISSING);
	ok(gpamap_vcpu_ioctl(asked->gate, KVM_SET_SREGS, &sregs));
	ok(pthread_create(&c.thread, NULL, translate, &c));
	uffd_await_fault(&uffd);
	txn = vm_begin(&vm);
	vm_flip(&vm, txn, FLIPPED);
	step("waiting for the commit's deadline");
	assert_int_equal(gpamap_commit(txn, &soon, NULL), -ETIMEDOUT);
	ok(gpamap_stuck(txn, &info));
	assert_int_equal(info.is_vcpu, own);
	assert_int_equal(info.tid, atomic_load(&c.tid));
	if (own)
		assert_int_equal(info.vcpu_id, 1);
	step("placing the page");
	uffd_place(&uffd);
	ok(pthread_join(c.thread, NULL));
	ok(atomic_load(&c.err));
	vm_commit(txn, 0, NULL);
}

static void fault_of_own_thread(void **state)
{
	(void)state;
	in_a_fault(true);
}

static void fault_of_another_thread(void **state)
{
	(void)state;
	in_a_fault(false);
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(slots, setup, teardown),
		cmocka_unit_test_setup_teardown(values_and_errors, setup, teardown),
		cmocka_unit_test_setup_teardown(signal_masks, setup, teardown),
		cmocka_unit_test_setup_teardown(run_is_run, setup, teardown),
		cmocka_unit_test_setup_teardown(by_own_thread, setup, teardown),
		cmocka_unit_test_setup_teardown(by_another_thread, setup, teardown),
		cmocka_unit_test_setup_teardown(gate_shut, setup, teardown),
	};
#ifdef __x86_64__
	const struct CMUnitTest faults[] = {
		cmocka_unit_test_setup_teardown(fault_of_own_thread, setup, teardown),
		cmocka_unit_test_setup_teardown(fault_of_another_thread, setup, teardown),
	};
#endif
	int failed;

	if (!vm_available())
		return 77;
	watchdog(100);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
#ifdef __x86_64__
	if (uffd_available())
		failed += cmocka_run_group_tests(faults, NULL, NULL);
#endif
	return failed;
}
