/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A thread that commits is cancelled: it ends outside the library, and the map is as settled as ever. Alone, it is
 * most likely to be met in a commit; beside another that commits all the time, waiting for its turn to begin.
 */
#include "vm.h"

#include <time.h>

#define FLIPPED PAGE_TEST
#define ALSO_FLIPPED (PAGE_TEST + 8)
#define ROUNDS_ALONE 60
#define ROUNDS_BESIDE 5

static struct vm vm;

struct victim {
	pthread_t thread;
	atomic_ulong commits;
	atomic_int err;
};

static int teardown(void **state)
{
	(void)state;
	vm_close(&vm);
	return 0;
}

static void *commit_until_cancelled(void *opaque)
{
	struct victim *v = opaque;

	for (;;) {
		int err = vm_flip_page(&vm, ALSO_FLIPPED, NULL);

		if (err)
			atomic_store(&v->err, err);
		else
			atomic_fetch_add(&v->commits, 1);
		/* With no transaction open, as the header asks for. */
		pthread_testcancel();
	}
	return NULL;
}

/* As it comes: anywhere from before its first transaction to within its third or so. */
static void let_time_pass(unsigned round)
{
	struct timespec t = {0, (long)(round * 7919 % 1000) * 1000};

	nanosleep(&t, NULL);
}

static unsigned long cancel_one(unsigned round)
{
	struct victim v = {.err = 0};
	void *how;

	ok(pthread_create(&v.thread, NULL, commit_until_cancelled, &v));
	let_time_pass(round);
	ok(pthread_cancel(v.thread));
	step("waiting for the thread that was cancelled");
	ok(pthread_join(v.thread, &how));
	assert_ptr_equal(how, PTHREAD_CANCELED);
	assert_int_equal(atomic_load(&v.err), 0);
	return atomic_load(&v.commits);
}

/* Nothing is left of the ones that were cancelled: not a transaction, not a shut gate, nor a commit half done. */
static void check_settled(struct vcpu *guest, unsigned long commits)
{
	struct gpamap_txn *txn;
	struct gpamap_stats s;
	uint64_t word;

	step("the last commit");
	txn = vm_begin(&vm);
	word = vm_flip(&vm, txn, ALSO_FLIPPED);
	vm_commit(txn, 0, NULL);
	vcpu_await(guest, 2);
	assert_int_equal(vcpu_saw(guest), word);
	ok(gpamap_enter(vm.map));
	gpamap_leave(vm.map);
	s = vm_stats(&vm);
	assert_int_equal(s.commits, commits + 1);
	assert_int_equal(s.failed, 0);
	vcpu_stop(guest);
}

static struct vcpu *start_guest(void)
{
	struct vcpu *guest;

	vm_open(&vm, 0);
	guest = vcpu_new(&vm, 0);
	vcpu_set(guest, SUPERVISOR, LOOP, ALSO_FLIPPED, false);
	vcpu_start(guest);
	return guest;
}

static void alone(void **state)
{
	struct vcpu *guest = start_guest();
	unsigned long commits = 1; /* vm_open() has done one */

	(void)state;
	for (unsigned i = 0; i < ROUNDS_ALONE; i++) {
		commits += cancel_one(i);
		step("a commit and the guest after a thread was cancelled");
		ok(vm_flip_page(&vm, FLIPPED, NULL));
		commits++;
		vcpu_await(guest, 1);
	}
	check_settled(guest, commits);
}

static void beside_another(void **state)
{
	struct vcpu *guest = start_guest();
	unsigned long commits = 1;

	(void)state;
	stream_start(&vm, FLIPPED);
	for (unsigned i = 0; i < ROUNDS_BESIDE; i++) {
		commits += cancel_one(i);
		step("the other's commits and the guest after a thread was cancelled");
		stream_await(&vm, 1);
		vcpu_await(guest, 1);
	}
	stream_stop(&vm);
	check_settled(guest, commits + atomic_load(&vm.stream.commits));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(alone, teardown),
		cmocka_unit_test_teardown(beside_another, teardown),
	};

	if (!vm_available())
		return 77;
	watchdog(100);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
