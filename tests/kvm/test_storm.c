/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A storm of VM ioctls from four threads, of which one is inside nearly all the time: commits get their turn, and so
 * do the ioctls (P6).
 */
#include "vm.h"

#include <sched.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#define FLIPPED PAGE_TEST
#define WATCHED (PAGE_TEST + 8)
#define THREADS 4
#define COMMITS 100
#define ENTRIES 300
/* How many ioctls a thread does at most until it is relieved by another. */
#define PATIENCE 50
#define RESERVED_SLOT 3
#define RESERVED_AT (VM_PAGES + 64)

struct caller {
	pthread_t thread;
	atomic_ulong entries;
	atomic_int err;
};

static struct vm vm;
static struct caller callers[THREADS];
static atomic_bool stop;
static atomic_int inside;
static atomic_ulong empty; /* times that the last one left */

/* Ioctls until another thread is inside. Not without end: it can't come in while the gate is shut. */
static int call_until_relieved(void)
{
	uint64_t bitmap;
	struct kvm_dirty_log log = {.slot = RESERVED_SLOT, .dirty_bitmap = &bitmap};

	for (int i = 0; i < PATIENCE; i++) {
		if (ioctl(vm.fd, KVM_GET_DIRTY_LOG, &log))
			return errno;
		if (atomic_load(&inside) > 1)
			return 0;
		sched_yield();
	}
	return 0;
}

static void *storm(void *opaque)
{
	struct caller *c = opaque;

	while (!atomic_load(&stop) && !atomic_load(&c->err)) {
		int err = gpamap_enter(vm.map);

		if (err) {
			atomic_store(&c->err, err);
			break;
		}
		atomic_fetch_add(&inside, 1);
		atomic_store(&c->err, call_until_relieved());
		if (atomic_fetch_sub(&inside, 1) == 1)
			atomic_fetch_add(&empty, 1);
		gpamap_leave(vm.map);
		atomic_fetch_add(&c->entries, 1);
	}
	return NULL;
}

/* Of the thread that has come in least often; and nobody has failed. */
static unsigned long least_entries(void)
{
	unsigned long least = ~0ul;

	for (int i = 0; i < THREADS; i++) {
		unsigned long n = atomic_load(&callers[i].entries);

		assert_int_equal(atomic_load(&callers[i].err), 0);
		least = n < least ? n : least;
	}
	return least;
}

static unsigned long all_entries(void)
{
	unsigned long n = 0;

	for (int i = 0; i < THREADS; i++)
		n += atomic_load(&callers[i].entries);
	return n;
}

static void start_storm(void)
{
	atomic_store(&stop, false);
	atomic_store(&empty, 0);
	memset(callers, 0, sizeof(callers));
	for (int i = 0; i < THREADS; i++)
		ok(pthread_create(&callers[i].thread, NULL, storm, &callers[i]));
	step("waiting for all of the storm");
	wait_until(least_entries() > 0);
}

static int end_storm(void **state)
{
	(void)state;
	atomic_store(&stop, true);
	for (int i = 0; i < THREADS; i++)
		pthread_join(callers[i].thread, NULL);
	vm_close(&vm);
	return 0;
}

static void one_commit(void)
{
	struct gpamap_commit_report report;
	struct gpamap_txn *txn = vm_begin(&vm);
	uint64_t word = vm_flip(&vm, txn, FLIPPED);

	vm_commit(txn, 0, &report);
	assert_true(report.gate_shut);
	assert_int_equal(vm_word(&vm, FLIPPED), word);
}

/* Neither side waits for the other to end: commits go on until every thread has come in often enough. */
static void commits_in_a_storm(unsigned flags)
{
	unsigned commits = 0;
	struct vcpu *v;

	vm_open(&vm, flags);
	vm_add_own_slot(&vm, RESERVED_SLOT, RESERVED_AT);
	v = vcpu_new(&vm, 0);
	vcpu_set(v, USER, LOOP, WATCHED, false);
	vcpu_start(v);
	start_storm();
	step("commits, and ioctls at the same time");
	while (commits < COMMITS || least_entries() < ENTRIES) {
		one_commit();
		commits++;
	}
	printf("%u commits, %lu entries of %d threads; nobody was inside after %lu of them\n",
	       commits, all_entries(), THREADS, atomic_load(&empty));
	/* Else it was no storm. */
	assert_true(atomic_load(&empty) < all_entries() / 2);
	step("the guest after the storm");
	vcpu_await(v, 100);
	vcpu_stop(v);
}

static void storm_with_membarrier(void **state)
{
	(void)state;
	commits_in_a_storm(0);
}

/* Here a commit sleeps until it is woken by who leaves. */
static void storm_with_fences(void **state)
{
	(void)state;
	commits_in_a_storm(GPAMAP_NO_MEMBARRIER);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(storm_with_membarrier, end_storm),
		cmocka_unit_test_teardown(storm_with_fences, end_storm),
	};

	if (!vm_available())
		return 77;
	watchdog(100);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
