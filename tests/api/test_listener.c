/* SPDX-License-Identifier: BSD-3-Clause */
/* Listeners: what they are called for, in which order, in commits that succeed and that fail (P3, P6). */
#include "listening.h"

#include <pthread.h>

/* ----------------------------------------------------------------------------- success --- */

static void gate_shuts(void **state)
{
	struct gpamap_commit_report report;

	(void)state;
	report = vm_commit(&vm, begin_split());
	assert_true(report.early && report.critical && report.late);
	expect_heard("pa pb pc qa qb qc +c +b +a ac ab aa");
	check_split();
}

static void nothing_critical(void **state)
{
	struct gpamap_txn *txn = vm_begin(&vm);

	(void)state;
	ok_txn(txn, gpamap_map_pages(txn, 0, 30 * PAGE, PAGE, mem_b, GPAMAP_RW));
	vm_commit(&vm, txn);
	expect_heard("pa pb pc ac ab aa");
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_unmap_pages(txn, 0, 30 * PAGE, PAGE));
	vm_commit(&vm, txn);
	expect_heard("pa pb pc ac ab aa");
}

static void one_instant(void **state)
{
	struct gpamap_txn *txn = vm_begin(&vm);

	(void)state;
	ok_txn(txn, gpamap_map_pages(txn, 0, 30 * PAGE, PAGE, mem_b, GPAMAP_RW));
	vm_commit_flags(&vm, txn, GPAMAP_COMMIT_ONE_INSTANT);
	expect_heard("pa pb pc qa qb qc +c +b +a ac ab aa");
}

/* Who sees no difference is not called. */
static void no_difference(void **state)
{
	struct gpamap_plan *plan;
	struct gpamap_txn *txn = vm_begin(&vm);

	(void)state;
	vm_commit(&vm, txn);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_protect_pages(txn, 0, 8 * PAGE, PAGE, GPAMAP_RO));
	ok_txn(txn, gpamap_protect_pages(txn, 0, 8 * PAGE, PAGE, GPAMAP_RW));
	vm_commit(&vm, txn);
	/* The same memory by another call. */
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_map_pages(txn, 0, 0, 16 * PAGE, mem_a, GPAMAP_RW));
	vm_commit(&vm, txn);
	/* Nor for a preview, nor for an abort. */
	txn = begin_split();
	ok_txn(txn, gpamap_preview(txn, 0, &plan));
	gpamap_plan_free(plan);
	gpamap_abort(txn);
	expect_heard("");
}

/* ----------------------------------------------------------------------------- failure --- */

static void veto(void **state)
{
	static const char *const calls[] = {"pa", "pa pb ca", "pa pb pc cb ca"};
	static const char *const named[] = {"ear a", "ear b", "ear c"};
	struct gpamap_stuck_info info;

	(void)state;
	for (unsigned i = 0; i < EARS; i++) {
		/* With -ETIMEDOUT nobody is stuck. */
		int err = i == 1 ? -ETIMEDOUT : -EPERM;
		struct gpamap_txn *txn = begin_split();
		struct gpamap_stats before = vm_stats(&vm), after;

		ears[i].refuses = err;
		refused(txn, gpamap_commit(txn, NULL, NULL), err);
		expect_heard(calls[i]);
		assert_non_null(strstr(gpamap_message(txn), named[i]));
		assert_int_equal(gpamap_stuck(txn, &info), -ENOENT);
		after = vm_stats(&vm);
		assert_int_equal(after.slot_ioctls, before.slot_ioctls);
		assert_int_equal(after.failed, before.failed + 1);
		assert_int_equal(after.timeouts, before.timeouts);
		vm_check_slots(&vm, WORLD_PAGES);
		ears_reset();
		gpamap_abort(txn);
		vm_check_settled(&vm);
	}
}

/* What was refused may be committed again. */
static void veto_then_again(void **state)
{
	struct gpamap_txn *txn = begin_split();

	(void)state;
	ears[2].refuses = -EBUSY;
	refused(txn, gpamap_commit(txn, NULL, NULL), -EBUSY);
	expect_heard("pa pb pc cb ca");
	ears_reset();
	vm_commit(&vm, txn);
	expect_heard("pa pb pc qa qb qc +c +b +a ac ab aa");
	check_split();
}

/* Who does not quiesce fails the commit, with everything undone. */
static void quiesce_fails(void **state)
{
	static const char *const calls[] = {
		"pa pb pc qa cc cb ca",
		"pa pb pc qa qb -a cc cb ca",
		"pa pb pc qa qb qc -b -a cc cb ca",
	};
	static const char *const named[] = {"ear a", "ear b", "ear c"};
	struct world world;

	(void)state;
	world_take(&vm, &world);
	for (unsigned i = 0; i < 2 * EARS; i++) {
		int err = i % 2 ? -EIO : -ETIMEDOUT;
		struct gpamap_txn *txn = begin_split();
		struct gpamap_stats before = vm_stats(&vm), after;
		struct gpamap_stuck_info info;

		ears[i / 2].fails = err;
		refused(txn, gpamap_commit(txn, NULL, NULL), err);
		expect_heard(calls[i / 2]);
		assert_non_null(strstr(gpamap_message(txn), named[i / 2]));
		assert_int_equal(gpamap_stuck(txn, &info), i % 2 ? -ENOENT : 0);
		if (err == -ETIMEDOUT) {
			assert_string_equal(info.listener, named[i / 2]);
			assert_false(info.is_vcpu);
			assert_int_equal(info.tid, 0);
		}
		after = vm_stats(&vm);
		assert_int_equal(after.timeouts, before.timeouts + (err == -ETIMEDOUT));
		assert_int_equal(after.failed, before.failed + 1);
		assert_int_equal(after.slot_ioctls, before.slot_ioctls + 2);
		assert_int_equal(after.undone, before.undone + 1);
		world_check(&vm, &world);
		/* The gate is open. */
		ok(gpamap_enter(vm.map));
		gpamap_leave(vm.map);
		ears_reset();
		gpamap_abort(txn);
	}
	vm_commit(&vm, begin_split());
	expect_heard("pa pb pc qa qb qc +c +b +a ac ab aa");
}

/* A name longer than there is room for. */
static int never(void *opaque, uint64_t deadline_ns)
{
	(void)opaque;
	(void)deadline_ns;
	return -ETIMEDOUT;
}

static void long_name(void **state)
{
	char name[300];
	struct gpamap_listener_desc desc = {.name = name, .quiesce = never};
	struct gpamap_listener *l;
	struct gpamap_stuck_info info;
	struct gpamap_txn *txn;

	(void)state;
	memset(name, 'x', sizeof(name));
	name[sizeof(name) - 1] = '\0';
	ok(gpamap_listener_add(vm.map, &desc, &l));
	txn = begin_split();
	refused(txn, gpamap_commit(txn, NULL, NULL), -ETIMEDOUT);
	ok(gpamap_stuck(txn, &info));
	assert_int_equal(strlen(info.listener), sizeof(info.listener) - 1);
	gpamap_abort(txn);
	gpamap_listener_remove(l);
	heard[0] = '\0';
}

/* A thread that does not come out: the listeners are not bothered. And it is not one of them that is named. */
static void *hold_gate(void *opaque)
{
	atomic_int *step = opaque;

	ok(gpamap_enter(vm.map));
	atomic_store(step, 1);
	while (atomic_load(step) != 2)
		sleep_ms(1);
	gpamap_leave(vm.map);
	return NULL;
}

static void gate_does_not_shut(void **state)
{
	static const struct gpamap_commit_options soon = {.timeout_ms = 30};
	struct gpamap_txn *txn = begin_split();
	struct gpamap_stuck_info info;
	atomic_int step = 0;
	pthread_t thread;

	(void)state;
	ears[0].fails = -ETIMEDOUT;
	refused(txn, gpamap_commit(txn, NULL, NULL), -ETIMEDOUT);
	expect_heard("pa pb pc qa cc cb ca");
	ears_reset();
	ok(pthread_create(&thread, NULL, hold_gate, &step));
	while (!atomic_load(&step))
		sleep_ms(1);
	refused(txn, gpamap_commit(txn, &soon, NULL), -ETIMEDOUT);
	expect_heard("pa pb pc cc cb ca");
	ok(gpamap_stuck(txn, &info));
	assert_string_equal(info.listener, "");
	assert_true(info.tid != 0);
	atomic_store(&step, 2);
	ok(pthread_join(thread, NULL));
	vm_commit(&vm, txn);
	expect_heard("pa pb pc qa qb qc +c +b +a ac ab aa");
}

static void critical_fails(void **state)
{
	struct gpamap_txn *txn = begin_split();

	(void)state;
	gpamap_sim_fail(vm.sim, GPAMAP_SIM_CREATE, 3, EIO, false);
	refused(txn, gpamap_commit(txn, NULL, NULL), -EIO);
	expect_heard("pa pb pc qa qb qc -c -b -a cc cb ca");
	gpamap_abort(txn);
	vm_check_settled(&vm);
}

/* It has happened by then: nothing is taken back, and nobody is told otherwise. */
static void late_fails(void **state)
{
	struct gpamap_txn *txn = begin_split();
	struct gpamap_commit_report report;

	(void)state;
	gpamap_sim_fail(vm.sim, GPAMAP_SIM_DELETE, 2, EIO, false);
	ok_txn(txn, gpamap_commit(txn, NULL, &report));
	assert_int_equal(report.pending, 1);
	expect_heard("pa pb pc qa qb qc +c +b +a ac ab aa");
	vm_check_pages(&vm, 8, 1, A, 8, false);
	vm_check_pages(&vm, 40, 1, B, 0, true);
	/* What is cleared makes no difference to a listener. */
	ok(gpamap_clear_pending(vm.map));
	expect_heard("");
	check_split();
}

/* ------------------------------------------------------------------------------ broken --- */

static void check_broken(bool broken)
{
	int err = gpamap_enter(vm.map);

	assert_int_equal(err, broken ? -ENOTRECOVERABLE : 0);
	if (!err)
		gpamap_leave(vm.map);
	assert_int_equal(vm_stats(&vm).broken, broken);
}

/* A commit whose undo fails, too, where all are quiesced. */
static struct gpamap_txn *break_map(void)
{
	struct gpamap_txn *txn = begin_split();

	gpamap_sim_fail(vm.sim, GPAMAP_SIM_CREATE, 2, EIO, true);
	refused(txn, gpamap_commit(txn, NULL, NULL), -ENOTRECOVERABLE);
	expect_heard("pa pb pc qa qb qc cc cb ca");
	check_broken(true);
	return txn;
}

/* They stay quiesced until the repair, to the old map or to the new one. */
static void broken_and_repaired(void **state)
{
	struct gpamap_txn *txn = break_map();

	(void)state;
	refused(txn, gpamap_commit(txn, NULL, NULL), -ENOTRECOVERABLE);
	expect_heard("pa pb pc cc cb ca");
	gpamap_sim_fail(vm.sim, GPAMAP_SIM_CREATE, 0, 0, false);
	vm_commit(&vm, txn);
	expect_heard("pa pb pc +c +b +a ac ab aa");
	check_broken(false);
	check_split();
}

static void broken_and_back(void **state)
{
	struct gpamap_txn *txn;

	(void)state;
	gpamap_abort(break_map());
	gpamap_sim_fail(vm.sim, GPAMAP_SIM_CREATE, 0, 0, false);
	txn = vm_begin(&vm);
	ears[1].refuses = -EPERM;
	refused(txn, gpamap_commit(txn, NULL, NULL), -EPERM);
	expect_heard("pa pb ca");
	check_broken(true);
	ears_reset();
	vm_commit(&vm, txn);
	expect_heard("pa pb pc +c +b +a ac ab aa");
	check_broken(false);
	vm_check_settled(&vm);
}

/* Who comes while it is broken is quiesced by the repair; who goes is not resumed. */
static void broken_with_others(void **state)
{
	struct gpamap_txn *txn = break_map();

	(void)state;
	gpamap_sim_fail(vm.sim, GPAMAP_SIM_CREATE, 0, 0, false);
	gpamap_listener_remove(ears[1].l);
	ears[1].l = NULL;
	gpamap_listener_remove(ears[0].l);
	ear_add(&vm, &ears[0], 'a', -7);
	expect_heard("pa aa");
	vm_commit(&vm, txn);
	expect_heard("pa pc qa +c +a ac aa");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		each(gate_shuts),
		each(nothing_critical),
		each(one_instant),
		each(no_difference),
		each(veto),
		each(veto_then_again),
		each(quiesce_fails),
		each(long_name),
		each(gate_does_not_shut),
		each(critical_fails),
		each(late_fails),
		each(broken_and_repaired),
		each(broken_and_back),
		each(broken_with_others),
	};

	return cmocka_run_group_tests(tests, ears_memory, NULL);
}
