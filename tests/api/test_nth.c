/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Every nth failure of a commit: all old or all new (P3).
 *
 * A script of transactions. For each of them, for each thing that can fail (an allocation, each sort of slot
 * ioctl, reading a dirty log), for n = 1, 2, ... until nothing fails any more, once and for good: a VM is
 * brought to where the transaction begins, the nth such thing fails in it, and then
 *  - all that can be seen of the VM is as before, and a retry, or a transaction after an abort, succeeds; or
 *  - the undo failed, too: runs are refused, until a later commit repairs the map, to the old or the new one.
 */
#include "common.h"

#include <linux/kvm.h>
#include <pthread.h>
#include <sys/mman.h>

enum { A = 1, B, C };

static uint8_t *mem_a, *mem_b, *mem_c, *mem_c_again;

struct script {
	struct vm vm;
	struct gpamap_region *ram;    /* resizable, A, first at page 0 */
	struct gpamap_region *logged; /* C, at page 40 */
	struct gpamap_region *window; /* onto logged, read-only, not there at first */
	struct gpamap_region *gmem;
	struct gpamap_region *small; /* C, at page 30 */
	struct gpamap_sim_vcpu *sim_vcpu;
	struct gpamap_vcpu *vcpu;
	bool again; /* an edit that fails is done once more */
};

/* An edit that fails changes nothing, so it can be done again. */
#define EDIT(edit)                     \
	do {                           \
		int err_ = (edit);     \
		if (err_ && s->again)  \
			err_ = (edit); \
		if (err_)              \
			return err_;   \
	} while (0)

static int build(struct script *s, struct gpamap_txn *txn)
{
	struct gpamap_region *root = gpamap_root(s->vm.map, 0);

	EDIT(gpamap_add(txn, root, 0, s->ram, 0));
	EDIT(gpamap_add(txn, root, 40 * PAGE, s->logged, 0));
	EDIT(gpamap_set_log(txn, s->logged, true));
	EDIT(gpamap_add(txn, root, 90 * PAGE, s->gmem, 0));
	EDIT(gpamap_add(txn, root, 30 * PAGE, s->small, 0));
	EDIT(gpamap_map_pages(txn, 0, 64 * PAGE, 16 * PAGE, mem_b, GPAMAP_RW));
	EDIT(gpamap_map_region(txn, 1, 0, 8 * PAGE, s->ram, 0, GPAMAP_RO));
	return 0;
}

static int split(struct script *s, struct gpamap_txn *txn)
{
	EDIT(gpamap_protect_pages(txn, 0, 68 * PAGE, 2 * PAGE, GPAMAP_RO));
	return 0;
}

static int split_logged(struct script *s, struct gpamap_txn *txn)
{
	EDIT(gpamap_add(txn, gpamap_root(s->vm.map, 0), 44 * PAGE, s->window, 1));
	return 0;
}

static int grow(struct script *s, struct gpamap_txn *txn)
{
	EDIT(gpamap_resize(txn, s->ram, 24 * PAGE));
	EDIT(gpamap_set_log(txn, s->ram, true));
	return 0;
}

/* Each onto its old place, and the two slots of ram onto each other's. */
static int move(struct script *s, struct gpamap_txn *txn)
{
	EDIT(gpamap_move(txn, s->small, 32 * PAGE));
	EDIT(gpamap_move(txn, s->ram, 4 * PAGE));
	return 0;
}

static int reback(struct script *s, struct gpamap_txn *txn)
{
	EDIT(gpamap_reback(txn, s->ram, mem_b + 32 * PAGE));
	EDIT(gpamap_reback(txn, s->logged, mem_c_again));
	return 0;
}

static int shrink(struct script *s, struct gpamap_txn *txn)
{
	EDIT(gpamap_resize(txn, s->ram, 6 * PAGE));
	EDIT(gpamap_unmap_pages(txn, 1, 2 * PAGE, 2 * PAGE));
	return 0;
}

static int ranges(struct script *s, struct gpamap_txn *txn)
{
	EDIT(gpamap_unmap_pages(txn, 0, 66 * PAGE, PAGE));
	EDIT(gpamap_protect_pages(txn, 0, 70 * PAGE, 4 * PAGE, GPAMAP_NONE));
	EDIT(gpamap_map_pages(txn, 0, 72 * PAGE, 8 * PAGE, mem_a + 8 * PAGE, GPAMAP_RW));
	EDIT(gpamap_map_pages(txn, 1, 80 * PAGE, 4 * PAGE, mem_b, GPAMAP_RW));
	EDIT(gpamap_map_region(txn, 1, 84 * PAGE, 2 * PAGE, s->logged, PAGE, GPAMAP_RW));
	return 0;
}

static int logs(struct script *s, struct gpamap_txn *txn)
{
	EDIT(gpamap_set_log(txn, s->ram, false));
	EDIT(gpamap_set_log(txn, s->logged, false));
	EDIT(gpamap_map_pages(txn, 0, 85 * PAGE, PAGE, mem_b, GPAMAP_RO));
	EDIT(gpamap_remove(txn, s->gmem));
	return 0;
}

/* Early, critical and late operations in one. */
static int all_phases(struct script *s, struct gpamap_txn *txn)
{
	EDIT(gpamap_unmap_pages(txn, 0, 72 * PAGE, 2 * PAGE));
	EDIT(gpamap_unmap_pages(txn, 0, 85 * PAGE, PAGE));
	EDIT(gpamap_unmap_pages(txn, 1, 80 * PAGE, 16 * PAGE));
	EDIT(gpamap_map_pages(txn, 0, 87 * PAGE, PAGE, mem_b, GPAMAP_RO));
	EDIT(gpamap_set_log(txn, s->logged, true));
	EDIT(gpamap_map_pages(txn, 1, 88 * PAGE, PAGE, mem_b, GPAMAP_RO));
	return 0;
}

/* Memory over logged memory: what was written there is read and kept. */
static int cover(struct script *s, struct gpamap_txn *txn)
{
	EDIT(gpamap_set_enabled(txn, s->window, false));
	EDIT(gpamap_map_pages(txn, 0, 41 * PAGE, PAGE, mem_b, GPAMAP_RW));
	EDIT(gpamap_move(txn, s->logged, 39 * PAGE));
	return 0;
}

/* With GPAMAP_COMMIT_ONE_INSTANT. */
static int clear(struct script *s, struct gpamap_txn *txn)
{
	EDIT(gpamap_remove(txn, s->ram));
	EDIT(gpamap_unmap_pages(txn, 0, 60 * PAGE, 20 * PAGE));
	EDIT(gpamap_unmap_pages(txn, 1, 0, 60 * PAGE));
	EDIT(gpamap_map_region(txn, 1, PAGE, 4 * PAGE, s->ram, PAGE, GPAMAP_RW));
	EDIT(gpamap_add(txn, gpamap_root(s->vm.map, 0), 64 * PAGE, s->gmem, 0));
	return 0;
}

static const struct step {
	int (*edits)(struct script *s, struct gpamap_txn *txn);
	unsigned flags;
} steps[] = {
	{build, 0}, {split, 0},	     {split_logged, 0}, {grow, 0},
	{move, 0},  {reback, 0},     {shrink, 0},	{ranges, 0},
	{logs, 0},  {all_phases, 0}, {cover, 0},	{clear, GPAMAP_COMMIT_ONE_INSTANT},
};

#define STEPS ARRAY_SIZE(steps)

static struct world worlds[STEPS + 1]; /* before each step, and at the end */

/* ---------------------------------------------------------------------------------- script --- */

static int halt_step(struct gpamap_sim_vcpu *vcpu, void *opaque)
{
	(void)opaque;
	return gpamap_sim_halt(vcpu);
}

static void script_commit(struct script *s, size_t step)
{
	struct gpamap_commit_options opt = {.flags = steps[step].flags};
	struct gpamap_txn *txn = vm_begin(&s->vm);

	ok_txn(txn, steps[step].edits(s, txn));
	ok_txn(txn, gpamap_commit(txn, &opt, NULL));
}

/* A VM after the first @done steps. */
static void script_open(struct script *s, size_t done)
{
	struct gpamap_options opt = {.spaces = 2};
	struct gpamap_sim_options sim = {.spaces = 2};
	struct gpamap_region_desc desc = {.kind = GPAMAP_RAM, .name = "gmem"};

	memset(s, 0, sizeof(*s));
	vm_open(&s->vm, &sim, &opt);
	s->ram = vm_ram(&s->vm, mem_a, 16, 32);
	s->logged = vm_ram(&s->vm, mem_c, 16, 0);
	s->small = vm_ram(&s->vm, mem_c + 32 * PAGE, 4, 0);
	desc.flags = GPAMAP_GUEST_MEMFD;
	desc.size = 4 * PAGE;
	desc.hva = mem_b + 16 * PAGE;
	desc.guest_memfd = 100;
	s->gmem = vm_region(&s->vm, &desc);
	desc = (struct gpamap_region_desc){.kind = GPAMAP_ALIAS,
					   .flags = GPAMAP_READONLY,
					   .name = "window",
					   .size = 4 * PAGE,
					   .target = s->logged,
					   .target_offset = 4 * PAGE};
	s->window = vm_region(&s->vm, &desc);
	ok(gpamap_sim_vcpu_new(s->vm.sim, 1, 0, halt_step, NULL, &s->sim_vcpu));
	ok(gpamap_sim_vcpu_attach(s->vm.map, s->sim_vcpu, &s->vcpu));
	for (size_t i = 0; i < done; i++)
		script_commit(s, i);
}

static void script_close(struct script *s)
{
	gpamap_vcpu_detach(s->vcpu);
	gpamap_sim_vcpu_free(s->sim_vcpu);
	gpamap_region_put(s->ram);
	gpamap_region_put(s->logged);
	gpamap_region_put(s->window);
	gpamap_region_put(s->gmem);
	gpamap_region_put(s->small);
	vm_close(&s->vm);
}

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

static void check_runs(struct script *s, bool broken)
{
	int want = broken ? -ENOTRECOVERABLE : 0;

	assert_int_equal(gpamap_vcpu_run(s->vcpu), want);
	assert_int_equal(gpamap_vcpu_enter(s->vcpu), want);
	if (!broken)
		gpamap_vcpu_leave(s->vcpu);
	assert_int_equal(gpamap_enter(s->vm.map), want);
	if (!broken)
		gpamap_leave(s->vm.map);
}

/* The library's readers see the old map, broken or not. */
static void check_view(struct script *s, const struct world *want)
{
	struct world now = *want;

	world_take_views(&s->vm, &now);
	assert_true(world_same(&now, want));
}

static void empty_commit(struct script *s)
{
	struct gpamap_txn *txn = vm_begin(&s->vm);

	ok_txn(txn, gpamap_commit(txn, NULL, NULL));
}

/* The commit has failed, and the fault may still be armed. To the end by one of several ways. */
static void recover(struct script *s, struct gpamap_txn *txn, size_t step, const struct fault *f,
		    unsigned way, bool edited)
{
	struct gpamap_commit_options opt = {.flags = steps[step].flags};
	bool broken = vm_stats(&s->vm).broken;

	check_runs(s, broken);
	if (broken && way >= 2) {
		/* As long as the cause is there, nothing gets better, and nothing worse. */
		refused(txn, gpamap_commit(txn, NULL, NULL), -ENOTRECOVERABLE);
		check_runs(s, true);
	}
	if (edited && way % 2) {
		arm(s, f, 0);
		if (!broken)
			world_check(&s->vm, &worlds[step]);
		ok_txn(txn, gpamap_commit(txn, &opt, NULL));
	} else {
		gpamap_abort(txn);
		arm(s, f, 0);
		if (broken) {
			check_view(s, &worlds[step]);
			empty_commit(s);
		}
		world_check(&s->vm, &worlds[step]);
		vm_check_settled(&s->vm);
		script_commit(s, step);
	}
	assert_false(vm_stats(&s->vm).broken);
	check_runs(s, false);
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
	else
		seen.unharmed += hit;
	arm(&s, f, 0);
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
	printf("%s: %u failures, %u undone, %u broken and repaired, %u without harm\n", what,
	       seen.hits, seen.undone, seen.broken, seen.unharmed);
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
	assert_true(seen.broken > 0 && seen.undone > 0);
	assert_int_equal(seen.unharmed, 0);
}

/* --------------------------------------------------------------------------------- broken --- */

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
		err = gpamap_vcpu_run(sl->s->vcpu);
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
	ok_txn(txn, split(&s, txn));
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
	empty_commit(&s);
	world_check(&s.vm, &worlds[1]);
	check_runs(&s, false);
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
			ok_txn(txn, gpamap_map_pages(txn, 0, 66 * PAGE, PAGE, mem_b, GPAMAP_RO));
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
	const struct fault any = {.call = GPAMAP_SIM_ANY, .error = EIO};
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
	before = fault_count(&s, &any);
	gpamap_sim_fail(s.vm.sim, GPAMAP_SIM_ANY, second, EIO, forever);
	if (*broke)
		err = gpamap_commit(txn, NULL, NULL);
	hit = *broke && fault_count(&s, &any) >= before + second;
	if (*broke) {
		assert_int_equal(err, hit ? -ENOTRECOVERABLE : 0);
		check_runs(&s, hit);
	}
	gpamap_sim_fail(s.vm.sim, GPAMAP_SIM_ANY, 0, 0, false);
	if (err)
		gpamap_abort(txn);
	if (hit)
		empty_commit(&s);
	if (*broke)
		world_check(&s.vm, &worlds[!hit && second % 2 == 0 ? step + 1 : step]);
	vm_check_settled(&s.vm);
	check_runs(&s, false);
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

static int record_worlds(void **state)
{
	(void)state;
	for (size_t i = 0; i <= STEPS; i++) {
		struct script s;

		script_open(&s, i);
		world_take(&s.vm, &worlds[i]);
		vm_check_slots(&s.vm, WORLD_PAGES);
		script_close(&s);
	}
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(allocations),	     cmocka_unit_test(ioctls_once),
		cmocka_unit_test(ioctls_forever),    cmocka_unit_test(broken_wakes_sleepers),
		cmocka_unit_test(broken_then_other), cmocka_unit_test(broken_twice),
	};

	mem_a = mem_new(A, 64);
	mem_b = mem_new(B, 64);
	mem_c = mem_new(C, 64);
	mem_c_again = mem_again(C, 64);
	return cmocka_run_group_tests(tests, record_worlds, NULL);
}
