/* SPDX-License-Identifier: BSD-3-Clause */
/* A map whose undo failed, too: nobody runs on it, and a later commit repairs it (P3). */
#include "script.h"

#include <pthread.h>

struct sleeper {
	struct script *s;
	atomic_bool stop;
	atomic_ulong rounds;
	atomic_int result;
};

static void *run_vcpu(void *opaque)
{
	struct sleeper *sl = opaque;
	int err = 0;

	while (!err && !atomic_load(&sl->stop)) {
		err = run_on(sl->s->vcpu);
		atomic_fetch_add(&sl->rounds, 1);
	}
	atomic_store(&sl->result, err);
	return NULL;
}

static void *enter_and_leave(void *opaque)
{
	struct sleeper *sl = opaque;
	int err = 0;

	while (!err && !atomic_load(&sl->stop)) {
		err = gpamap_enter(sl->s->vm.map);
		atomic_fetch_add(&sl->rounds, 1);
		if (!err)
			gpamap_leave(sl->s->vm.map);
	}
	atomic_store(&sl->result, err);
	return NULL;
}

static void begin_sleeper(struct script *s, struct sleeper *sl, void *(*body)(void *),
			  pthread_t *ret)
{
	memset(sl, 0, sizeof(*sl));
	sl->s = s;
	ok(pthread_create(ret, NULL, body, sl));
	while (atomic_load(&sl->rounds) < 10)
		sleep_ms(1);
}

/* Who sleeps at the gate is woken when it breaks. */
static void broken_wakes_sleepers(void **state)
{
	struct script s;
	struct sleeper vcpu, other;
	pthread_t thread[2];
	struct gpamap_txn *txn;

	(void)state;
	script_open(&s, 1);
	begin_sleeper(&s, &vcpu, run_vcpu, &thread[0]);
	begin_sleeper(&s, &other, enter_and_leave, &thread[1]);
	/* Long enough for both to be asleep. */
	gpamap_sim_stretch(s.vm.sim, GPAMAP_SIM_AFTER_DELETE, 20000);
	gpamap_sim_fail(s.vm.sim, GPAMAP_SIM_CREATE, 1, ENOMEM, true);
	txn = vm_begin(&s.vm);
	ok_txn(txn, steps[1].edits(&s, txn));
	refused(txn, gpamap_commit(txn, NULL, NULL), -ENOTRECOVERABLE);
	ok(pthread_join(thread[0], NULL));
	ok(pthread_join(thread[1], NULL));
	assert_int_equal(atomic_load(&vcpu.result), -ENOTRECOVERABLE);
	assert_int_equal(atomic_load(&other.result), -ENOTRECOVERABLE);
	assert_true(vm_stats(&s.vm).broken);
	assert_int_equal(vm_stats(&s.vm).failed, 1);
	gpamap_sim_stretch(s.vm.sim, GPAMAP_SIM_AFTER_DELETE, 0);
	gpamap_sim_fail(s.vm.sim, GPAMAP_SIM_CREATE, 0, 0, false);
	gpamap_abort(txn);
	script_empty_commit(&s);
	world_check(&s.vm, &worlds[1]);
	script_check_runs(&s, false);
	script_close(&s);
}

/* A broken map can be freed, and edited to something else altogether. */
static void broken_then_other(void **state)
{
	struct script s;
	struct gpamap_txn *txn;
	struct gpamap_plan *plan;

	(void)state;
	for (int repair = 0; repair < 2; repair++) {
		script_open(&s, 2);
		gpamap_sim_fail(s.vm.sim, GPAMAP_SIM_CREATE, 2, ENOMEM, true);
		txn = vm_begin(&s.vm);
		ok_txn(txn, gpamap_protect_pages(txn, 0, 64 * PAGE, 8 * PAGE, GPAMAP_RO));
		refused(txn, gpamap_commit(txn, NULL, NULL), -ENOTRECOVERABLE);
		gpamap_abort(txn);
		gpamap_sim_fail(s.vm.sim, GPAMAP_SIM_CREATE, 0, 0, false);
		if (repair) {
			txn = vm_begin(&s.vm);
			ok_txn(txn, gpamap_unmap_pages(txn, 0, 64 * PAGE, 16 * PAGE));
			ok_txn(txn, gpamap_map_pages(txn, 0, 66 * PAGE, PAGE, s.b, GPAMAP_RO));
			ok_txn(txn, gpamap_preview(txn, 0, &plan));
			assert_true(gpamap_plan_count(plan) > 0);
			gpamap_plan_free(plan);
			vm_commit(&s.vm, txn);
			vm_check_pages(&s.vm, 66, 1, B, 0, false);
			vm_check_settled(&s.vm);
		}
		script_close(&s);
	}
}

/* Break the map at the @first ioctl of @step, and let the @second of its repair fail. False: it was not
 * reached. */
static bool break_twice(size_t step, unsigned first, unsigned second, bool forever, bool *broke)
{
	struct script s;
	struct gpamap_txn *txn;
	uint64_t before;
	bool hit;
	int err;

	script_open(&s, step);
	txn = vm_begin(&s.vm);
	ok_txn(txn, steps[step].edits(&s, txn));
	gpamap_sim_fail(s.vm.sim, GPAMAP_SIM_ANY, first, EIO, true);
	err = gpamap_commit(txn, NULL, NULL);
	*broke = err == -ENOTRECOVERABLE;
	/* To the new map, or back to the old one. */
	if (second % 2 && err) {
		gpamap_abort(txn);
		txn = vm_begin(&s.vm);
	}
	before = gpamap_sim_calls(s.vm.sim, GPAMAP_SIM_ANY);
	gpamap_sim_fail(s.vm.sim, GPAMAP_SIM_ANY, second, EIO, forever);
	if (*broke)
		err = gpamap_commit(txn, NULL, NULL);
	hit = *broke && gpamap_sim_calls(s.vm.sim, GPAMAP_SIM_ANY) >= before + second;
	if (*broke) {
		assert_int_equal(err, hit ? -ENOTRECOVERABLE : 0);
		script_check_runs(&s, hit);
	}
	gpamap_sim_fail(s.vm.sim, GPAMAP_SIM_ANY, 0, 0, false);
	if (err)
		gpamap_abort(txn);
	if (hit)
		script_empty_commit(&s);
	if (!*broke)
		ok(gpamap_clear_pending(s.vm.map));
	if (*broke)
		world_check(&s.vm, &worlds[!hit && second % 2 == 0 ? step + 1 : step]);
	vm_check_settled(&s.vm);
	script_check_runs(&s, false);
	script_close(&s);
	return hit;
}

static void broken_twice(void **state)
{
	unsigned n = 0;

	(void)state;
	for (size_t step = 1; step < STEPS - 1; step++) {
		for (unsigned first = 1; first < 12; first++) {
			bool broke = true;

			for (unsigned second = 1;
			     broke &&
			     (break_twice(step, first, second, true, &broke) || second % 2);
			     second++)
				n += broke;
			for (unsigned second = 1;
			     broke &&
			     (break_twice(step, first, second, false, &broke) || second % 2);
			     second++)
				n += broke;
		}
	}
	printf("broken twice: %u\n", n);
	assert_true(n > 100);
}

/* Each move that can't be taken back leaves two things to be remembered: where the slot is, and where it is not. */
static void broken_by_moves(void **state)
{
	enum { N = 24 };
	struct gpamap_region *r[N];
	struct gpamap_txn *txn;

	(void)state;
	vm_open(&vm, NULL, NULL);
	for (unsigned i = 0; i < N; i++) {
		r[i] = vm_ram(&vm, mem_a + 2 * i * PAGE, 2, 0);
		vm_add(&vm, r[i], 4 * i);
	}
	txn = vm_begin(&vm);
	for (unsigned i = 0; i < N; i++)
		ok_txn(txn, gpamap_move(txn, r[i], (4 * i + 1) * PAGE));
	gpamap_sim_fail(vm.sim, GPAMAP_SIM_MOVE, N, ENOMEM, true);
	refused(txn, gpamap_commit(txn, NULL, NULL), -ENOTRECOVERABLE);
	gpamap_sim_fail(vm.sim, GPAMAP_SIM_MOVE, 0, 0, false);
	vm_commit(&vm, txn);
	for (unsigned i = 0; i < N; i++) {
		vm_check_pages(&vm, 4 * i + 1, 2, A, 2 * i, true);
		gpamap_region_put(r[i]);
	}
	vm_check_settled(&vm);
	vm_close(&vm);
}

/* A slot that could not be made again has lost its id. Who has reserved that since keeps his own slot. */
static void broken_and_reserved(void **state)
{
	struct gpamap_sim_slot own = {
		.gpa = 80 * PAGE, .size = PAGE, .hva = (uint64_t)(uintptr_t)mem_c};
	struct gpamap_txn *txn;

	(void)state;
	vm_open(&vm, NULL, NULL);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_map_pages(txn, 0, 0, 4 * PAGE, mem_a, GPAMAP_RW));
	vm_commit(&vm, txn);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_map_pages(txn, 0, 0, 4 * PAGE, mem_b, GPAMAP_RW));
	gpamap_sim_fail(vm.sim, GPAMAP_SIM_CREATE, 1, ENOMEM, true);
	refused(txn, gpamap_commit(txn, NULL, NULL), -ENOTRECOVERABLE);
	gpamap_sim_fail(vm.sim, GPAMAP_SIM_CREATE, 0, 0, false);
	gpamap_abort(txn);
	ok(gpamap_reserve_slots(vm.map, 0, 0, 1));
	ok(gpamap_sim_set_slot(vm.sim, &own));
	vm_close_map(&vm);
	own.size = 0;
	ok(gpamap_sim_set_slot(vm.sim, &own));
	vm_close_sim(&vm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(broken_wakes_sleepers), cmocka_unit_test(broken_then_other),
		cmocka_unit_test(broken_twice),		 cmocka_unit_test(broken_by_moves),
		cmocka_unit_test(broken_and_reserved),
	};

	mems_new(48);
	return cmocka_run_group_tests(tests, script_record, NULL);
}
