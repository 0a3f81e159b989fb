/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Logging, and a commit that fails: which slots log afterwards, as KVM has it (P3), and that each page written is
 * reported (P4).
 */
#include "common.h"

#define N 4 /* pages of the region, each in a slot of its own */
#define ALL ((UINT64_C(1) << N) - 1)

static struct gpamap_region *r, *other;

static int setup(void **state)
{
	const struct gpamap_options opt = {.max_slot_size = PAGE};
	struct gpamap_txn *txn;

	(void)state;
	vm_open(&vm, NULL, &opt);
	r = vm_ram(&vm, mem_a, N, 0);
	other = vm_ram(&vm, mem_b, 1, 0);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_add(txn, gpamap_root(vm.map, 0), 0, r, 0));
	ok_txn(txn, gpamap_add(txn, gpamap_root(vm.map, 0), 20 * PAGE, other, 0));
	vm_commit(&vm, txn);
	return 0;
}

static int teardown(void **state)
{
	gpamap_region_put(r);
	gpamap_region_put(other);
	return vm_teardown(state);
}

static void set_log(bool on)
{
	struct gpamap_txn *txn = vm_begin(&vm);

	ok_txn(txn, gpamap_set_log(txn, r, on));
	ok_txn(txn, gpamap_commit(txn, NULL, NULL));
}

/* How many slots log, as KVM has it. Their bits are lost. */
static unsigned slots_that_log(void)
{
	uint64_t bits;
	unsigned n = 0;

	for (uint32_t id = 0; id < 32; id++) {
		int err = gpamap_sim_get_dirty_log(vm.sim, id, &bits);

		assert_true(err == 0 || err == -ENOENT);
		n += !err;
	}
	return n;
}

static uint64_t fetch(void)
{
	uint64_t bits = 0;

	ok(gpamap_dirty_fetch(vm.map, r, 0, N * PAGE, &bits));
	return bits;
}

static void write_pages(uint64_t which)
{
	for (uint64_t i = 0; i < N; i++) {
		if (which >> i & 1)
			vm_see(&vm, i * PAGE);
	}
}

/* Let the commit of @txn fail, as it does in the @way-th of several ways; 0: no such way. */
static int fail_somewhere(struct gpamap_txn *txn, unsigned way, unsigned flags)
{
	const struct gpamap_commit_options opt = {.flags = flags, .timeout_ms = 5};
	bool held = way == N + 3;
	int err;

	if (way > N + 3)
		return 0;
	/* Something behind the gate. */
	ok_txn(txn, gpamap_set_readonly(txn, other, true));
	if (way <= N)
		gpamap_sim_fail(vm.sim, GPAMAP_SIM_FLAGS, way, ENOMEM, false);
	else if (way == N + 1)
		gpamap_sim_fail(vm.sim, GPAMAP_SIM_DELETE, 1, ENOMEM, false);
	else if (way == N + 2)
		gpamap_sim_fail(vm.sim, GPAMAP_SIM_CREATE, 1, ENOMEM, false);
	if (held) {
		/* By this thread: then the gate can't be shut at all. */
		ok(gpamap_enter(vm.map));
		err = gpamap_commit(txn, &opt, NULL);
		gpamap_leave(vm.map);
	} else {
		err = gpamap_commit(txn, &opt, NULL);
	}
	for (int call = GPAMAP_SIM_ANY; call <= GPAMAP_SIM_GET_DIRTY; call++)
		gpamap_sim_fail(vm.sim, (enum gpamap_sim_call)call, 0, 0, false);
	gpamap_abort(txn);
	assert_false(vm_stats(&vm).broken);
	return err;
}

/* A commit that would have turned logging on has failed: no slot logs, and the region doesn't. */
static void log_on_fails(void **state)
{
	uint64_t bits;
	unsigned way;

	(void)state;
	for (unsigned flags = 0; flags <= GPAMAP_COMMIT_ONE_INSTANT; flags++) {
		for (way = 1;; way++) {
			struct gpamap_txn *txn = vm_begin(&vm);
			int err;

			ok_txn(txn, gpamap_set_log(txn, r, true));
			err = fail_somewhere(txn, way, flags);
			if (!err) {
				gpamap_abort(txn);
				break;
			}
			assert_true(err == -ENOMEM || err == -EDEADLK);
			assert_int_equal(slots_that_log(), 0);
			assert_int_equal(gpamap_dirty_fetch(vm.map, r, 0, N * PAGE, &bits),
					 -ENODATA);
		}
		assert_int_equal(way, N + 4);
		vm_check_settled(&vm);
	}
	set_log(true);
	assert_int_equal(slots_that_log(), N);
}

/* One that would have turned it off: all of them log, what was written before is reported, and so is what is written
 * afterwards. All at one instant: else it goes late, and does not fail. */
static void log_off_fails(void **state)
{
	unsigned way;

	(void)state;
	set_log(true);
	fetch();
	for (way = 1;; way++) {
		struct gpamap_txn *txn = vm_begin(&vm);
		uint64_t before = way % 3 ? ALL : 1u << way % N, after = 1u << (way + 1) % N;
		int err;

		write_pages(before);
		ok_txn(txn, gpamap_set_log(txn, r, false));
		err = fail_somewhere(txn, way, GPAMAP_COMMIT_ONE_INSTANT);
		if (!err) {
			gpamap_abort(txn);
			break;
		}
		assert_true(err == -ENOMEM || err == -EDEADLK);
		assert_int_equal(fetch(), before);
		write_pages(after);
		assert_int_equal(fetch(), after);
		assert_int_equal(slots_that_log(), N);
	}
	assert_int_equal(way, N + 4);
	vm_check_settled(&vm);
	set_log(false);
	assert_int_equal(slots_that_log(), 0);
}

/* Memory that logs, and is read-only in part: its slots go behind the gate, and come again when that fails. */
static void logged_goes_and_comes_again(void **state)
{
	static const enum gpamap_sim_call calls[] = {GPAMAP_SIM_DELETE, GPAMAP_SIM_CREATE,
						     GPAMAP_SIM_GET_DIRTY};

	(void)state;
	set_log(true);
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		for (unsigned n = 1; n <= N; n++) {
			struct gpamap_txn *txn;

			fetch();
			write_pages(ALL);
			txn = vm_begin(&vm);
			ok_txn(txn, gpamap_set_readonly(txn, r, true));
			gpamap_sim_fail(vm.sim, calls[i], n, ENOMEM, false);
			refused(txn, gpamap_commit(txn, NULL, NULL), -ENOMEM);
			gpamap_sim_fail(vm.sim, calls[i], 0, 0, false);
			gpamap_abort(txn);
			assert_int_equal(fetch(), ALL);
			assert_int_equal(fetch(), 0);
			write_pages(1u << n % N);
			assert_int_equal(fetch(), 1u << n % N);
			assert_int_equal(slots_that_log(), N);
		}
	}
}

/* What KVM won't turn off is pending, and goes on reporting nothing that the region has not asked for. */
static void log_off_is_refused(void **state)
{
	struct gpamap_txn *txn;

	(void)state;
	for (unsigned n = 1; n <= N; n++) {
		struct gpamap_commit_report report;

		set_log(true);
		txn = vm_begin(&vm);
		ok_txn(txn, gpamap_set_log(txn, r, false));
		gpamap_sim_fail(vm.sim, GPAMAP_SIM_FLAGS, n, ENOMEM, false);
		ok_txn(txn, gpamap_commit(txn, NULL, &report));
		assert_int_equal(report.pending, 1);
		assert_int_equal(slots_that_log(), 1);
		gpamap_sim_fail(vm.sim, GPAMAP_SIM_FLAGS, 1, ENOMEM, false);
		assert_int_equal(gpamap_clear_pending(vm.map), -EAGAIN);
		assert_int_equal(slots_that_log(), 1);
		if (n % 2) {
			ok(gpamap_clear_pending(vm.map));
		} else {
			/* Or by any other commit. */
			txn = vm_begin(&vm);
			ok_txn(txn, gpamap_map_pages(txn, 0, 40 * PAGE, PAGE, mem_c, GPAMAP_RW));
			vm_commit(&vm, txn);
		}
		assert_int_equal(vm_stats(&vm).pending, 0);
		assert_int_equal(slots_that_log(), 0);
	}
}

/* Turned on again while it is pending: nothing that a guest writes from then on is missed. */
static void log_on_again_while_pending(void **state)
{
	struct gpamap_txn *txn;

	(void)state;
	set_log(true);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_set_log(txn, r, false));
	gpamap_sim_fail(vm.sim, GPAMAP_SIM_FLAGS, 2, ENOMEM, true);
	ok_txn(txn, gpamap_commit(txn, NULL, NULL));
	gpamap_sim_fail(vm.sim, GPAMAP_SIM_FLAGS, 0, 0, false);
	assert_int_equal(vm_stats(&vm).pending, N - 1);
	set_log(true);
	assert_int_equal(vm_stats(&vm).pending, 0);
	fetch();
	write_pages(ALL);
	assert_int_equal(fetch(), ALL);
	assert_int_equal(slots_that_log(), N);
}

#define each(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		each(log_on_fails),
		each(log_off_fails),
		each(logged_goes_and_comes_again),
		each(log_off_is_refused),
		each(log_on_again_while_pending),
	};

	mems_new(16);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
