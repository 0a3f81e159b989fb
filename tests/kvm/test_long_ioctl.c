/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A thread that is in an ioctl of the VM for long: a page that the ioctl reads or writes in this process is missing.
 * A commit ends by its deadline, names the thread, and has changed nothing (P6).
 */
#include "uffd.h"

#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FLIPPED PAGE_TEST
#define WATCHED (PAGE_TEST + 8)
#define ADDED (VM_PAGES + 8)
#define RESERVED_SLOT 5
#define RESERVED_AT (VM_PAGES + 64)

static struct vm vm;
static struct uffd uffd;
static uint8_t *buffer; /* a page */

struct caller {
	pthread_t thread;
	atomic_int tid;
	atomic_int err;
	atomic_bool done;
	struct kvm_dirty_log *log; /* the argument of KVM_GET_DIRTY_LOG */
};

static struct caller caller;

static int setup(void **state)
{
	(void)state;
	vm_open(&vm, 0);
	vm_add_own_slot(&vm, RESERVED_SLOT, RESERVED_AT);
	buffer = mmap(NULL, vm.page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(buffer != MAP_FAILED);
	memset(&caller, 0, sizeof(caller));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	uffd_close(&uffd);
	vm_close(&vm);
	munmap(buffer, (size_t)sysconf(_SC_PAGESIZE));
	return 0;
}

static void *call(void *opaque)
{
	struct caller *c = opaque;
	int err;

	atomic_store(&c->tid, (int)syscall(SYS_gettid));
	err = gpamap_enter(vm.map);
	if (!err) {
		err = ioctl(vm.fd, KVM_GET_DIRTY_LOG, c->log) ? errno : 0;
		gpamap_leave(vm.map);
	}
	atomic_store(&c->err, err);
	atomic_store(&c->done, true);
	return NULL;
}

static void check_culprit(const struct gpamap_txn *txn)
{
	struct gpamap_stuck_info info;
	char tid[32];

	ok(gpamap_stuck(txn, &info));
	assert_false(info.is_vcpu);
	assert_int_equal(info.tid, atomic_load(&caller.tid));
	snprintf(tid, sizeof(tid), "thread %d", info.tid);
	assert_non_null(strstr(gpamap_message(txn), tid));
	assert_null(strstr(gpamap_message(txn), "vCPU"));
}

static void commit_in_vain(struct gpamap_txn *txn, unsigned flags)
{
	const struct gpamap_commit_options soon = {.flags = flags, .timeout_ms = SHORT_MS};
	struct gpamap_stats was = vm_stats(&vm), is;
	uint64_t word = vm_word(&vm, FLIPPED);

	assert_int_equal(gpamap_commit(txn, &soon, NULL), -ETIMEDOUT);
	check_culprit(txn);
	is = vm_stats(&vm);
	assert_int_equal(is.timeouts, was.timeouts + 1);
	assert_int_equal(is.slot_ioctls, was.slot_ioctls);
	assert_int_equal(is.gate_shut, was.gate_shut);
	assert_int_equal(is.slots, was.slots);
	assert_int_equal(vm_word(&vm, FLIPPED), word);
	assert_false(atomic_load(&caller.done));
}

/* The ioctl of @log waits for the page that is missing now. */
static void commit_during(struct kvm_dirty_log *log)
{
	struct vcpu *v = vcpu_new(&vm, 0);
	struct gpamap_commit_report report;
	struct gpamap_txn *txn;

	vcpu_set(v, USER, LOOP, WATCHED, false);
	vcpu_start(v);
	caller.log = log;
	ok(pthread_create(&caller.thread, NULL, call, &caller));
	step("waiting for the ioctl to touch its page");
	uffd_await_fault(&uffd);
	txn = vm_begin(&vm);
	vm_flip(&vm, txn, FLIPPED);
	step("committing with a short deadline");
	commit_in_vain(txn, 0);
	gpamap_abort(txn);
	txn = vm_begin(&vm);
	ok(gpamap_map_pages(txn, 0, vm_gpa(&vm, ADDED), vm.page, vm.other, GPAMAP_RW));
	step("committing with a short deadline what needs no gate");
	commit_in_vain(txn, GPAMAP_COMMIT_ONE_INSTANT);
	gpamap_abort(txn);
	vcpu_await(v, 100);
	step("placing the page");
	uffd_place(&uffd);
	ok(pthread_join(caller.thread, NULL));
	assert_int_equal(atomic_load(&caller.err), 0);
	step("committing after the ioctl");
	txn = vm_begin(&vm);
	vm_flip(&vm, txn, FLIPPED);
	vm_commit(txn, 0, &report);
	assert_true(report.gate_shut);
	vcpu_await(v, 100);
	vcpu_stop(v);
}

/* The ioctl can't read its argument: it has no lock in the kernel. */
static void argument_missing(void **state)
{
	uint64_t bitmap = 0;
	struct kvm_dirty_log log = {.slot = RESERVED_SLOT, .dirty_bitmap = &bitmap};

	(void)state;
	uffd_open(&uffd, buffer, vm.page, &log, sizeof(log));
	commit_during((void *)buffer);
}

/* It can't write its result: it has KVM's slot lock, for which a slot operation would wait without end. */
static void result_missing(void **state)
{
	struct kvm_dirty_log log = {.slot = RESERVED_SLOT, .dirty_bitmap = buffer};

	(void)state;
	uffd_open(&uffd, buffer, vm.page, NULL, 0);
	commit_during(&log);
}

/* ---------------------------------------------------------------- a commit that has time enough --- */

/* So much that one that is not woken fails the test. */
#define FOREVER_MS 3600000

static struct {
	pthread_t thread;
	atomic_int tid;
	atomic_int err;
} committer;

static void *commit_patiently(void *opaque)
{
	const struct gpamap_commit_options opt = {.timeout_ms = FOREVER_MS};
	struct gpamap_txn *txn;

	(void)opaque;
	atomic_store(&committer.tid, (int)syscall(SYS_gettid));
	atomic_store(&committer.err, gpamap_begin(vm.map, &txn));
	if (atomic_load(&committer.err))
		return NULL;
	vm_flip(&vm, txn, FLIPPED);
	atomic_store(&committer.err, gpamap_commit(txn, &opt, NULL));
	return NULL;
}

/* It sleeps, and goes on when the ioctl is through. */
static void wait_for_ioctl(unsigned flags)
{
	struct kvm_dirty_log log = {.slot = RESERVED_SLOT, .dirty_bitmap = buffer};

	vm_close(&vm);
	vm_open(&vm, flags);
	vm_add_own_slot(&vm, RESERVED_SLOT, RESERVED_AT);
	uffd_open(&uffd, buffer, vm.page, NULL, 0);
	caller.log = &log;
	ok(pthread_create(&caller.thread, NULL, call, &caller));
	uffd_await_fault(&uffd);
	atomic_store(&committer.tid, 0);
	ok(pthread_create(&committer.thread, NULL, commit_patiently, NULL));
	step("waiting for the commit to wait");
	wait_until(atomic_load(&committer.tid) && thread_state(committer.tid) == 'S');
	step("a commit that has to be woken by the ioctl's thread");
	uffd_place(&uffd);
	ok(pthread_join(caller.thread, NULL));
	ok(pthread_join(committer.thread, NULL));
	assert_int_equal(atomic_load(&caller.err), 0);
	assert_int_equal(atomic_load(&committer.err), 0);
}

static void patient_commit(void **state)
{
	(void)state;
	wait_for_ioctl(0);
}

static void patient_commit_with_fences(void **state)
{
	(void)state;
	wait_for_ioctl(GPAMAP_NO_MEMBARRIER);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(argument_missing, setup, teardown),
		cmocka_unit_test_setup_teardown(result_missing, setup, teardown),
		cmocka_unit_test_setup_teardown(patient_commit, setup, teardown),
		cmocka_unit_test_setup_teardown(patient_commit_with_fences, setup, teardown),
	};

	if (!vm_available() || !uffd_available())
		return 77;
	watchdog(100);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
