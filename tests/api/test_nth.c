/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Every nth failure of a commit: all old or all new (P3).
 *
 * A script of transactions. For each of them, for each thing that can fail (an allocation, each sort of slot
 * ioctl, reading a dirty log), for n = 1, 2, ... until nothing fails any more, once and for good: a VM is
 * brought to where the transaction begins, the nth such thing fails in it, and then
 *  - all that can be seen of the VM is as before, and a retry, or a transaction after an abort, succeeds; or
 *  - the undo failed, too: runs are refused, until a later commit repairs the map, to the old or the new one; or
 *  - the commit has succeeded, and what is left of the old map is pending; or something is pending that an undo of what
 *    was early could not take away. It is cleared when nothing fails any more.
 */
#include "script.h"

/* ---------------------------------------------------------------------------------- faults --- */

struct fault {
	bool is_alloc;
	enum gpamap_sim_call call;
	bool forever;
	int error;
};

static struct {
	unsigned hits;
	unsigned undone;
	unsigned broken;
	unsigned pending;  /* had happened, and left something */
	unsigned unharmed; /* went well in spite of it */
} seen;

static uint64_t fault_count(struct script *s, const struct fault *f)
{
	return f->is_alloc ? atomic_load(&s->vm.alloc.calls) : gpamap_sim_calls(s->vm.sim, f->call);
}

static void arm(struct script *s, const struct fault *f, unsigned nth)
{
	if (f->is_alloc)
		counting_fail(&s->vm.alloc, nth, f->forever);
	else
		gpamap_sim_fail(s->vm.sim, f->call, nth, f->error, f->forever);
}

/* The library's readers see the old map, broken or not. */
static void check_view(struct script *s, const struct world *want)
{
	struct world now = *want;

	world_take_views(&s->vm, &now);
	assert_true(world_same(&now, want));
}

/* The commit has failed, and the fault may still be armed. To the end by one of several ways. */
static void recover(struct script *s, struct gpamap_txn *txn, size_t step, const struct fault *f,
		    unsigned way, bool edited)
{
	struct gpamap_commit_options opt = {.flags = steps[step].flags};
	bool broken = vm_stats(&s->vm).broken;

	script_check_runs(s, broken);
	if (broken && way >= 2) {
		/* As long as the cause is there, nothing gets better, and nothing worse. */
		refused(txn, gpamap_commit(txn, NULL, NULL), -ENOTRECOVERABLE);
		script_check_runs(s, true);
	}
	if (edited && way % 2) {
		arm(s, f, 0);
		if (!broken && !vm_stats(&s->vm).pending)
			world_check(&s->vm, &worlds[step]);
		ok_txn(txn, gpamap_commit(txn, &opt, NULL));
	} else {
		gpamap_abort(txn);
		arm(s, f, 0);
		if (broken) {
			check_view(s, &worlds[step]);
			script_empty_commit(s);
		}
		ok(gpamap_clear_pending(s->vm.map));
		world_check(&s->vm, &worlds[step]);
		vm_check_settled(&s->vm);
		script_commit(s, step);
	}
	assert_false(vm_stats(&s->vm).broken);
	script_check_runs(s, false);
}

static void after_failure(struct script *s, struct gpamap_txn *txn, size_t step,
			  const struct fault *f, unsigned nth, int err, bool edited)
{
	bool broken = vm_stats(&s->vm).broken;

	assert_true(gpamap_message(txn)[0] != '\0');
	assert_int_equal(broken, err == -ENOTRECOVERABLE);
	if (broken) {
		seen.broken++;
		assert_true(f->forever && !f->is_alloc);
		check_view(s, &worlds[step]);
	} else {
		assert_int_equal(err, f->is_alloc ? -ENOMEM : -f->error);
		seen.undone++;
		check_view(s, &worlds[step]);
	}
	recover(s, txn, step, f, nth % 4, edited);
}

/* Let the @nth fail in @step. False: there are not that many. */
static bool attempt(size_t step, const struct fault *f, unsigned nth)
{
	struct gpamap_commit_options opt = {.flags = steps[step].flags};
	struct script s;
	struct gpamap_txn *txn;
	uint64_t before;
	bool hit, edited;
	int err;

	script_open(&s, step);
	/* Only a fault that comes once can be met by an edit that is repeated at once. */
	s.again = nth % 2 && !f->forever;
	txn = vm_begin(&s.vm);
	before = fault_count(&s, f);
	arm(&s, f, nth);
	err = steps[step].edits(&s, txn);
	edited = !err;
	if (!err)
		err = gpamap_commit(txn, &opt, NULL);
	hit = fault_count(&s, f) >= before + nth;
	assert_true(hit || !err);
	if (err)
		after_failure(&s, txn, step, f, nth, err, edited);
	else if (vm_stats(&s.vm).pending)
		seen.pending++;
	else
		seen.unharmed += hit;
	assert_true(hit || !vm_stats(&s.vm).pending);
	script_check_runs(&s, false);
	arm(&s, f, 0);
	ok(gpamap_clear_pending(s.vm.map));
	seen.hits += hit;
	world_check(&s.vm, &worlds[step + 1]);
	vm_check_settled(&s.vm);
	script_close(&s);
	return hit;
}

static void every_nth(const struct fault *f)
{
	for (size_t step = 0; step < STEPS; step++) {
		for (unsigned nth = 1; attempt(step, f, nth); nth++)
			assert_true(nth < 1000);
	}
}

static void report(const char *what)
{
	printf("%s: %u failures, %u undone, %u broken and repaired, %u pending, %u without harm\n",
	       what, seen.hits, seen.undone, seen.broken, seen.pending, seen.unharmed);
}

static void allocations(void **state)
{
	struct fault f = {.is_alloc = true};

	(void)state;
	memset(&seen, 0, sizeof(seen));
	every_nth(&f);
	f.forever = true;
	every_nth(&f);
	report("allocations");
	assert_true(seen.undone > 100);
	assert_int_equal(seen.broken, 0);
}

static void ioctls_once(void **state)
{
	(void)state;
	memset(&seen, 0, sizeof(seen));
	for (int call = GPAMAP_SIM_ANY; call <= GPAMAP_SIM_GET_DIRTY; call++) {
		struct fault f = {.call = (enum gpamap_sim_call)call, .error = ENOMEM};
		unsigned hits = seen.hits;

		every_nth(&f);
		/* The script has all sorts. */
		if (seen.hits == hits)
			fail_msg("call %d was never made", call);
	}
	report("ioctls, once");
	assert_int_equal(seen.broken, 0);
	assert_true(seen.pending > 0);
	assert_int_equal(seen.unharmed, 0);
}

static void ioctls_forever(void **state)
{
	(void)state;
	memset(&seen, 0, sizeof(seen));
	for (int call = GPAMAP_SIM_ANY; call <= GPAMAP_SIM_GET_DIRTY; call++) {
		struct fault f = {
			.call = (enum gpamap_sim_call)call, .error = EIO, .forever = true};

		every_nth(&f);
	}
	report("ioctls, for good");
	assert_true(seen.broken > 0 && seen.undone > 0 && seen.pending > 0);
	assert_int_equal(seen.unharmed, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(allocations),
		cmocka_unit_test(ioctls_once),
		cmocka_unit_test(ioctls_forever),
	};

	return cmocka_run_group_tests(tests, script_record, NULL);
}
