/* SPDX-License-Identifier: BSD-3-Clause */
/* Who does not come out of the gate: a commit ends in time, says who it was, and has changed nothing (P6). */
#include "common.h"
#include "gpamap-listener.h"

#include <pthread.h>
#include <semaphore.h>

#define VCPU_ID 7
#define TIMEOUT_MS 30

/* A thread that is inside and does not come out until it's told to. */
struct stuck {
	pthread_t thread;
	sem_t inside;
	sem_t go_on;
	atomic_int tid;
	atomic_int result;
	atomic_bool stuck;     /* the guest's next step is to block */
	atomic_bool in_access; /* not in a step of its own, but in a load */
	struct gpamap_sim_vcpu *sim_vcpu;
	struct gpamap_vcpu *vcpu;
	atomic_ulong steps;
	uint64_t word;
};

static void wait_for(sem_t *sem)
{
	while (sem_wait(sem) && errno == EINTR)
		;
}

/* Runs on and on; when it's told to, it blocks in a step, as in a fault that nobody resolves. */
static int guest_step(struct gpamap_sim_vcpu *vcpu, void *opaque)
{
	struct stuck *s = opaque;

	atomic_fetch_add(&s->steps, 1);
	if (atomic_exchange(&s->stuck, false)) {
		sem_post(&s->inside);
		if (!atomic_load(&s->in_access))
			wait_for(&s->go_on);
	}
	return gpamap_sim_load(vcpu, 0, &s->word, 8);
}

static void *run_vcpu(void *opaque)
{
	struct stuck *s = opaque;
	int err;

	atomic_store(&s->tid, thread_id());
	err = run_on(s->vcpu);
	atomic_store(&s->result, err);
	return NULL;
}

static void *hold_gate(void *opaque)
{
	struct stuck *s = opaque;
	int err = gpamap_enter(vm.map);

	atomic_store(&s->tid, thread_id());
	sem_post(&s->inside);
	wait_for(&s->go_on);
	gpamap_leave(vm.map);
	atomic_store(&s->result, err);
	return NULL;
}

static void begin(struct stuck *s, void *(*body)(void *))
{
	memset(s, 0, sizeof(*s));
	sem_init(&s->inside, 0, 0);
	sem_init(&s->go_on, 0, 0);
	atomic_store(&s->result, 1);
	if (body == run_vcpu) {
		ok(gpamap_sim_vcpu_new(vm.sim, VCPU_ID, 0, guest_step, s, &s->sim_vcpu));
		ok(gpamap_sim_vcpu_attach(vm.map, s->sim_vcpu, &s->vcpu));
	}
	ok(pthread_create(&s->thread, NULL, body, s));
}

static void get_stuck(struct stuck *s)
{
	atomic_store(&s->stuck, true);
	wait_for(&s->inside);
}

static void join(struct stuck *s)
{
	ok(pthread_join(s->thread, NULL));
	gpamap_vcpu_detach(s->vcpu);
	gpamap_sim_vcpu_free(s->sim_vcpu);
}

/* Let its KVM_RUN end: a store where there's nothing would do as well. */
static void end_run(struct stuck *s)
{
	struct gpamap_txn *txn = vm_begin(&vm);

	ok_txn(txn, gpamap_unmap_pages(txn, 0, 0, 64 * PAGE));
	ok_txn(txn, gpamap_commit(txn, NULL, NULL));
	join(s);
	assert_int_equal(atomic_load(&s->result), 0);
}

static int setup(void **state)
{
	struct gpamap_txn *txn;

	(void)state;
	vm_open(&vm, NULL, NULL);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_map_pages(txn, 0, 0, 16 * PAGE, mem_a, GPAMAP_RW));
	vm_commit(&vm, txn);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	vm_close(&vm);
	return 0;
}

static const struct gpamap_commit_options soon = {.timeout_ms = TIMEOUT_MS};
/* Long enough for a guest that is not stuck, on a machine that is busy. */

/* A split that does not get through, with something early before it. */
static struct gpamap_txn *commit_in_vain(const struct stuck *s)
{
	struct gpamap_txn *txn = vm_begin(&vm);
	struct gpamap_stats before = vm_stats(&vm), after;
	struct gpamap_stuck_info info;
	struct world world;

	world_take(&vm, &world);
	assert_int_equal(gpamap_stuck(txn, &info), -ENOENT);
	ok_txn(txn, gpamap_map_pages(txn, 0, 30 * PAGE, PAGE, mem_b, GPAMAP_RW));
	ok_txn(txn, gpamap_protect_pages(txn, 0, 8 * PAGE, PAGE, GPAMAP_RO));
	refused(txn, gpamap_commit(txn, &soon, NULL), -ETIMEDOUT);
	ok(gpamap_stuck(txn, &info));
	assert_int_equal(info.is_vcpu, s->vcpu != NULL);
	if (s->vcpu)
		assert_int_equal(info.vcpu_id, VCPU_ID);
	assert_int_equal(info.tid, atomic_load(&s->tid));
	/* Until the next commit, whatever is edited. */
	ok_txn(txn, gpamap_protect_pages(txn, 0, 8 * PAGE, PAGE, GPAMAP_RO));
	ok(gpamap_stuck(txn, &info));
	after = vm_stats(&vm);
	assert_int_equal(after.timeouts, before.timeouts + 1);
	assert_int_equal(after.undone, before.undone + 1);
	assert_int_equal(after.slot_ioctls, before.slot_ioctls + 2);
	assert_int_equal(after.gate_shut, before.gate_shut);
	world_check(&vm, &world);
	return txn;
}

static void stuck_vcpu(void **state)
{
	struct gpamap_stuck_info info;
	struct gpamap_txn *txn;
	struct stuck s;

	(void)state;
	begin(&s, run_vcpu);
	get_stuck(&s);
	txn = commit_in_vain(&s);
	/* Nobody else is held up by it. */
	ok(gpamap_enter(vm.map));
	gpamap_leave(vm.map);
	sem_post(&s.go_on);
	ok_txn(txn, gpamap_commit(txn, NULL, NULL));
	vm_check_pages(&vm, 8, 1, A, 8, false);
	vm_check_pages(&vm, 30, 1, B, 0, true);
	txn = vm_begin(&vm);
	assert_int_equal(gpamap_stuck(txn, &info), -ENOENT);
	gpamap_abort(txn);
	end_run(&s);
}

static void stuck_vcpu_then_abort(void **state)
{
	struct stuck s;

	(void)state;
	begin(&s, run_vcpu);
	get_stuck(&s);
	gpamap_abort(commit_in_vain(&s));
	vm_check_settled(&vm);
	sem_post(&s.go_on);
	end_run(&s);
}

/* In an access, as in a page fault that a userfaultfd handler sits on. Then a slot ioctl would wait, too, so
 * there must be none before the gate is shut. */
static void stuck_in_an_access(void **state)
{
	struct gpamap_stuck_info info;
	struct gpamap_txn *txn;
	struct world world;
	struct stuck s;

	(void)state;
	world_take(&vm, &world);
	begin(&s, run_vcpu);
	atomic_store(&s.in_access, true);
	gpamap_sim_stretch(vm.sim, GPAMAP_SIM_IN_ACCESS, 1500000);
	get_stuck(&s);
	sleep_ms(20);
	gpamap_sim_stretch(vm.sim, GPAMAP_SIM_IN_ACCESS, 0);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_protect_pages(txn, 0, 8 * PAGE, PAGE, GPAMAP_RO));
	refused(txn, gpamap_commit(txn, &soon, NULL), -ETIMEDOUT);
	ok(gpamap_stuck(txn, &info));
	assert_true(info.is_vcpu);
	assert_int_equal(info.vcpu_id, VCPU_ID);
	world_check(&vm, &world);
	assert_int_equal(vm_stats(&vm).slot_ioctls, 1);
	/* It has been kicked, and comes out when it can. */
	ok_txn(txn, gpamap_commit(txn, NULL, NULL));
	end_run(&s);
}

static void stuck_holder(void **state)
{
	struct gpamap_txn *txn;
	struct stuck s;

	(void)state;
	begin(&s, hold_gate);
	wait_for(&s.inside);
	txn = commit_in_vain(&s);
	sem_post(&s.go_on);
	ok_txn(txn, gpamap_commit(txn, NULL, NULL));
	vm_check_pages(&vm, 8, 1, A, 8, false);
	join(&s);
	assert_int_equal(atomic_load(&s.result), 0);
}

static int block_in_prepare(void *opaque, const struct gpamap_change *change)
{
	struct stuck *s = opaque;

	(void)change;
	sem_post(&s->inside);
	wait_for(&s->go_on);
	return 0;
}

/* Holds off commits, as an ioctl does that is serialised with them. */
static void *hold_slots(void *opaque)
{
	struct stuck *s = opaque;
	const struct gpamap_listener_desc desc = {
		.name = "slow", .opaque = s, .prepare = block_in_prepare};
	struct gpamap_listener *listener = NULL;

	atomic_store(&s->tid, thread_id());
	atomic_store(&s->result, gpamap_listener_add(vm.map, &desc, &listener));
	gpamap_listener_remove(listener);
	return NULL;
}

/* Whatever the commit does, it needs the slots for itself. */
static void stuck_with_the_slots(void **state)
{
	struct gpamap_stuck_info info;
	struct gpamap_txn *txn;
	struct world world;
	struct stuck s;

	(void)state;
	world_take(&vm, &world);
	begin(&s, hold_slots);
	wait_for(&s.inside);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_map_pages(txn, 0, 30 * PAGE, PAGE, mem_b, GPAMAP_RW));
	refused(txn, gpamap_commit(txn, &soon, NULL), -ETIMEDOUT);
	ok(gpamap_stuck(txn, &info));
	assert_false(info.is_vcpu);
	assert_int_equal(info.tid, atomic_load(&s.tid));
	assert_int_equal(vm_stats(&vm).timeouts, 1);
	assert_int_equal(vm_stats(&vm).failed, 1);
	assert_int_equal(vm_stats(&vm).slot_ioctls, 1);
	sem_post(&s.go_on);
	join(&s);
	assert_int_equal(atomic_load(&s.result), 0);
	world_check(&vm, &world);
	ok_txn(txn, gpamap_commit(txn, NULL, NULL));
	vm_check_pages(&vm, 30, 1, B, 0, true);
}

/* Nothing critical: it does not matter who is inside. */
static void stuck_does_not_matter(void **state)
{
	struct gpamap_commit_report report;
	struct gpamap_txn *txn;
	struct stuck s;

	(void)state;
	begin(&s, run_vcpu);
	get_stuck(&s);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_map_pages(txn, 0, 30 * PAGE, PAGE, mem_b, GPAMAP_RW));
	ok_txn(txn, gpamap_commit(txn, &soon, &report));
	assert_int_equal(report.early, 1);
	assert_int_equal(report.kicked, 0);
	sem_post(&s.go_on);
	end_run(&s);
}

/* A map whose faults may block (P6): what needs no gate is done behind it as well, so the stuck vCPU can't hold
 * it up in the kernel. */
static void stuck_and_nothing_critical(void **state)
{
	struct gpamap_options options = {.flags = GPAMAP_FAULTS_MAY_BLOCK};
	struct gpamap_commit_report report;
	struct gpamap_txn *txn;
	struct world world;
	struct stuck s;

	vm_close(&vm);
	vm_open(&vm, NULL, &options);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_map_pages(txn, 0, 0, 16 * PAGE, mem_a, GPAMAP_RW));
	vm_commit(&vm, txn);
	begin(&s, run_vcpu);
	get_stuck(&s);
	world_take(&vm, &world);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_map_pages(txn, 0, 30 * PAGE, PAGE, mem_b, GPAMAP_RW));
	refused(txn, gpamap_commit(txn, &soon, NULL), -ETIMEDOUT);
	assert_int_equal(vm_stats(&vm).slot_ioctls, 1);
	world_check(&vm, &world);
	sem_post(&s.go_on);
	ok_txn(txn, gpamap_commit(txn, NULL, &report));
	assert_int_equal(report.critical, 1);
	assert_int_equal(report.early + report.late, 0);
	vm_check_pages(&vm, 30, 1, B, 0, true);
	end_run(&s);
	(void)state;
}

/* --------------------------------------------------------------- stuck, and the undo fails --- */

/* An early operation can't be undone, while a vCPU runs: it is brought out. */
static void broken_early(void **state)
{
	struct gpamap_txn *txn = vm_begin(&vm);
	struct stuck s;

	(void)state;
	begin(&s, run_vcpu);
	while (!atomic_load(&s.steps))
		sleep_ms(1);
	ok_txn(txn, gpamap_map_pages(txn, 0, 40 * PAGE, PAGE, mem_b, GPAMAP_RW));
	ok_txn(txn, gpamap_map_pages(txn, 0, 42 * PAGE, PAGE, mem_b, GPAMAP_RW));
	gpamap_sim_fail(vm.sim, GPAMAP_SIM_ANY, 2, EIO, true);
	refused(txn, gpamap_commit(txn, NULL, NULL), -ENOTRECOVERABLE);
	join(&s);
	assert_int_equal(atomic_load(&s.result), -ENOTRECOVERABLE);
	gpamap_sim_fail(vm.sim, GPAMAP_SIM_ANY, 0, 0, false);
	vm_commit(&vm, txn);
	vm_check_pages(&vm, 42, 1, B, 0, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(stuck_vcpu, setup, teardown),
		cmocka_unit_test_setup_teardown(stuck_vcpu_then_abort, setup, teardown),
		cmocka_unit_test_setup_teardown(stuck_in_an_access, setup, teardown),
		cmocka_unit_test_setup_teardown(stuck_holder, setup, teardown),
		cmocka_unit_test_setup_teardown(stuck_with_the_slots, setup, teardown),
		cmocka_unit_test_setup_teardown(stuck_does_not_matter, setup, teardown),
		cmocka_unit_test_setup_teardown(stuck_and_nothing_critical, setup, teardown),
		cmocka_unit_test_setup_teardown(broken_early, setup, teardown),
	};

	mems_new(64);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
