/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An undo that fails itself (P3): where an id has gone from one slot to another by then, the kernel could take
 * the one for a change of the other. What a guest finds after the repair is what the map says, dirty bits that
 * lie in slots without a place are not lost (P4), and their ids are not given away.
 */
#include "plays.h"
#include "script.h"

enum { COVER = MEMORY + 1 };

/* How far the sweeps go. */
#define MOST (SLOW ? 3 : 4)

static uint8_t *cover;

/* ---------------------------------------------------------------------------------- faults --- */

struct fault {
	enum gpamap_sim_call call;
	unsigned nth;
	bool forever;
};

struct faults {
	struct fault f[2];
	uint64_t before[2]; /* calls until they were armed */
	unsigned in_repair; /* which ioctl of the first repair fails; 0: none */
};

static struct {
	unsigned undone;
	unsigned pending; /* had happened */
	unsigned broken;
	unsigned again; /* a repair failed */
} seen;

static void arm(struct vm *vm, struct faults *f)
{
	for (int i = 0; i < 2; i++) {
		f->before[i] = gpamap_sim_calls(vm->sim, f->f[i].call);
		gpamap_sim_fail(vm->sim, f->f[i].call, f->f[i].nth, ENOMEM, f->f[i].forever);
	}
}

static void disarm(struct vm *vm, const struct faults *f)
{
	for (int i = 0; i < 2; i++)
		gpamap_sim_fail(vm->sim, f->f[i].call, 0, 0, false);
}

static bool hit(struct vm *vm, const struct faults *f, int i)
{
	return gpamap_sim_calls(vm->sim, f->f[i].call) >= f->before[i] + f->f[i].nth;
}

static void check_gate(struct vm *vm, bool broken)
{
	assert_int_equal(gpamap_enter(vm->map), broken ? -ENOTRECOVERABLE : 0);
	if (!broken)
		gpamap_leave(vm->map);
}

/* The commit of @txn has just given @err: the map is as before to its readers, and nobody runs if it broke. */
static void check_failed(struct vm *vm, const struct world *old, int err)
{
	bool broken = vm_stats(vm).broken;
	struct world now = *old;

	world_take_views(vm, &now);
	assert_true(world_same(&now, old));
	assert_int_equal(err, broken ? -ENOTRECOVERABLE : -ENOMEM);
	check_gate(vm, broken);
	if (!broken && !vm_stats(vm).pending)
		world_check(vm, old);
	seen.broken += broken;
	seen.undone += !broken;
}

/* A repair that fails at its @nth ioctl, or, if it has not that many, does not. */
static bool repair_fails(struct vm *vm, struct gpamap_txn *txn, unsigned nth)
{
	uint64_t before = gpamap_sim_calls(vm->sim, GPAMAP_SIM_ANY);
	bool fails;
	int err;

	gpamap_sim_fail(vm->sim, GPAMAP_SIM_ANY, nth, ENOMEM, false);
	err = gpamap_commit(txn, NULL, NULL);
	gpamap_sim_fail(vm->sim, GPAMAP_SIM_ANY, 0, 0, false);
	fails = gpamap_sim_calls(vm->sim, GPAMAP_SIM_ANY) >= before + nth;
	assert_int_equal(err, fails ? -ENOTRECOVERABLE : 0);
	assert_true(vm_stats(vm).broken == fails);
	check_gate(vm, fails);
	seen.again += fails;
	return fails;
}

/* The commit has happened, and what it could not clear away can be cleared now. Without a failure there's nothing. */
static void clear(struct vm *vm, bool failed)
{
	assert_int_equal(vm_stats(vm).pending != 0, failed);
	check_gate(vm, false);
	ok(gpamap_clear_pending(vm->map));
	assert_int_equal(vm_stats(vm).pending, 0);
	seen.pending += failed;
}

/* The same transaction again, or none. In a broken map, the @in_repair-th ioctl fails before it goes well. */
static void repair(struct vm *vm, struct gpamap_txn *txn, unsigned flags, bool again,
		   unsigned in_repair)
{
	struct gpamap_commit_options opt = {.flags = flags};

	if (!again) {
		gpamap_abort(txn);
		txn = vm_begin(vm);
	}
	if (!in_repair || !vm_stats(vm).broken || repair_fails(vm, txn, in_repair))
		ok_txn(txn, gpamap_commit(txn, &opt, NULL));
	assert_false(vm_stats(vm).broken);
	check_gate(vm, false);
}

/* Other memory over all pages, and away again: no slot stays that nobody knows of. */
static void check_follow_up(struct vm *vm)
{
	struct gpamap_txn *txn = vm_begin(vm);
	uint64_t half = WORLD_PAGES / 2;

	for (unsigned i = 0; i < vm->spaces; i++) {
		ok_txn(txn, gpamap_map_pages(txn, i, 0, half * PAGE, cover, GPAMAP_RW));
		ok_txn(txn, gpamap_map_pages(txn, i, half * PAGE, half * PAGE, cover, GPAMAP_RW));
	}
	vm_commit(vm, txn);
	vm_check_pages(vm, half, half, COVER, 0, true);
	txn = vm_begin(vm);
	for (unsigned i = 0; i < vm->spaces; i++)
		ok_txn(txn, gpamap_unmap_pages(txn, i, 0, WORLD_PAGES * PAGE));
	vm_commit(vm, txn);
	vm_check_settled(vm);
}

/* --------------------------------------------------------------------------------- one play --- */

/* @s as before the commit of @p; what a guest wrote to r[0] is not fetched yet. */
static void play_open(struct scene *s, const struct play *p, struct world *old)
{
	struct gpamap_txn *txn;

	scene_open(s);
	txn = vm_begin(&s->vm);
	p->first(s, txn);
	vm_commit(&s->vm, txn);
	world_take(&s->vm, old);
}

static void world_after(const struct play *p, struct world *ret)
{
	struct scene s;
	struct gpamap_txn *txn;

	play_open(&s, p, ret);
	txn = vm_begin(&s.vm);
	p->edits(&s, txn);
	vm_commit_flags(&s.vm, txn, p->flags);
	world_take(&s.vm, ret);
	scene_close(&s);
}

/* The commit of @p with faults, and its repair. The scene stays open. Returns what the commit did. */
static int play_fault(struct scene *s, const struct play *p, struct faults *f, bool again,
		      struct world *old)
{
	struct gpamap_commit_options opt = {.flags = p->flags};
	struct gpamap_txn *txn;
	int err;

	play_open(s, p, old);
	txn = vm_begin(&s->vm);
	p->edits(s, txn);
	arm(&s->vm, f);
	err = gpamap_commit(txn, &opt, NULL);
	disarm(&s->vm, f);
	assert_true(!err || hit(&s->vm, f, 0) || hit(&s->vm, f, 1));
	if (err) {
		check_failed(&s->vm, old, err);
		repair(&s->vm, txn, p->flags, again, f->in_repair);
	} else {
		clear(&s->vm, hit(&s->vm, f, 0) || hit(&s->vm, f, 1));
	}
	/* All pages of r[0] have been written since they are logged, and never fetched. */
	if (p->logs)
		assert_int_equal(scene_fetch(s, 0), (1u << EACH) - 1);
	vm_check_slots(&s->vm, WORLD_PAGES);
	return err;
}

/* The twin can't be made, nor the first again. */
static void relabel_repaired(void **state)
{
	(void)state;
	for (int again = 0; again < 2; again++) {
		struct faults f = {
			.f = {{GPAMAP_SIM_CREATE, 1, true}, {GPAMAP_SIM_MOVE, 1000, false}}};
		struct scene s;
		struct world old;

		assert_int_equal(play_fault(&s, &plays[RELABEL], &f, again, &old),
				 -ENOTRECOVERABLE);
		scene_check_region(&s, 0, AT(0));
		vm_check_hole(&s.vm, EACH, 4 * EACH);
		if (again) {
			vm_check_hole(&s.vm, 5 * EACH, EACH);
		} else {
			scene_check_region(&s, 1, AT(5));
			world_check(&s.vm, &old);
			/* It logs again. */
			scene_fetch(&s, 0);
			vm_see(&s.vm, AT(0) + PAGE);
			assert_int_equal(scene_fetch(&s, 0), 1u << 1);
		}
		vm_check_settled(&s.vm);
		check_follow_up(&s.vm);
		scene_close(&s);
	}
}

/* The new region can't be made, and the one that got the first id can't be removed. */
static void chain_repaired(void **state)
{
	(void)state;
	for (int again = 0; again < 2; again++) {
		struct faults f = {
			.f = {{GPAMAP_SIM_CREATE, 2, false}, {GPAMAP_SIM_DELETE, 2, false}}};
		struct scene s;
		struct world old;

		assert_int_equal(play_fault(&s, &plays[CHAIN], &f, again, &old), -ENOTRECOVERABLE);
		scene_check_region(&s, 0, AT(again));
		scene_check_region(&s, 1, AT(again + 1));
		if (again) {
			vm_check_hole(&s.vm, 0, EACH);
			vm_check_hole(&s.vm, 3 * EACH, 2 * EACH);
			scene_check_region(&s, 2, AT(5));
		} else {
			vm_check_hole(&s.vm, 2 * EACH, 4 * EACH);
			world_check(&s.vm, &old);
		}
		vm_check_settled(&s.vm);
		check_follow_up(&s.vm);
		scene_close(&s);
	}
}

/* ----------------------------------------------------------------------------------- sweeps --- */

/* A subject of a sweep: lets its commit fail by @f, and repairs it. */
typedef void (*try_fn)(const void *what, struct faults *f, bool again, bool reached[2]);

static void try_play(const void *what, struct faults *f, bool again, bool reached[2])
{
	static struct world old, now, new;
	static const struct play *of; /* what new is of */
	const struct play *p = what;
	struct scene s;
	int err;

	if (of != p)
		world_after(p, &new);
	of = p;
	err = play_fault(&s, p, f, again, &old);
	reached[0] = hit(&s.vm, f, 0);
	reached[1] = hit(&s.vm, f, 1);
	world_take(&s.vm, &now);
	assert_true(world_same(&now, err && !again ? &old : &new));
	vm_check_settled(&s.vm);
	check_follow_up(&s.vm);
	scene_close(&s);
}

static void try_step(const void *what, struct faults *f, bool again, bool reached[2])
{
	size_t step = (size_t)((const struct step *)what - steps);
	struct gpamap_commit_options opt = {.flags = steps[step].flags};
	struct gpamap_txn *txn;
	struct script s;
	int err;

	script_open(&s, step);
	txn = vm_begin(&s.vm);
	ok_txn(txn, steps[step].edits(&s, txn));
	arm(&s.vm, f);
	err = gpamap_commit(txn, &opt, NULL);
	disarm(&s.vm, f);
	for (int i = 0; i < 2; i++)
		reached[i] = hit(&s.vm, f, i);
	assert_true(!err || reached[0] || reached[1]);
	if (err) {
		check_failed(&s.vm, &worlds[step], err);
		repair(&s.vm, txn, opt.flags, again, f->in_repair);
	} else {
		clear(&s.vm, reached[0] || reached[1]);
	}
	world_check(&s.vm, &worlds[err && !again ? step : step + 1]);
	vm_check_settled(&s.vm);
	script_check_runs(&s, false);
	if (err && !again)
		script_commit(&s, step);
	world_check(&s.vm, &worlds[step + 1]);
	check_follow_up(&s.vm);
	script_close(&s);
}

/* The nth of @f.f[0]'s kind, and each of @f.f[1]'s that is reached then. False: the nth never was. */
static bool sweep_second(try_fn try, const void *what, struct faults f, unsigned most)
{
	bool reached[2], ever = false;

	for (f.f[1].nth = 1; f.f[1].nth <= most; f.f[1].nth++) {
		try(what, &f, false, reached);
		try(what, &f, true, reached);
		ever |= reached[0];
		if (!reached[1])
			break;
	}
	return ever;
}

/* Each pair of kinds. ANY with a kind gives two failures of the same kind, too. */
static void sweep(try_fn try, const void *what, unsigned most, unsigned in_repair)
{
	static const enum gpamap_sim_call kind[] = {GPAMAP_SIM_DELETE, GPAMAP_SIM_CREATE,
						    GPAMAP_SIM_MOVE, GPAMAP_SIM_FLAGS,
						    GPAMAP_SIM_ANY};

	for (size_t i = 0; i < ARRAY_SIZE(kind); i++) {
		for (size_t j = i + 1; j < ARRAY_SIZE(kind); j++) {
			struct faults f = {.f = {{.call = kind[i]}, {.call = kind[j]}},
					   .in_repair = in_repair};
			bool more = true;

			for (f.f[0].nth = 1; more && f.f[0].nth <= most; f.f[0].nth++)
				more = sweep_second(try, what, f, kind[j] ? most : 2 * most);
		}
	}
}

static void every_pair_of_plays(void **state)
{
	(void)state;
	for (size_t i = 0; i < PLAYS; i++) {
		memset(&seen, 0, sizeof(seen));
		for (unsigned in_repair = 0; in_repair < (SLOW ? 2 : 4); in_repair++)
			sweep(try_play, &plays[i], MOST, in_repair);
		printf("%s: %u undone, %u pending, %u broken and repaired, %u at the second try\n",
		       plays[i].name, seen.undone, seen.pending, seen.broken, seen.again);
		assert_true(seen.undone > 0 && seen.broken > 0 && seen.again > 0);
	}
}

static void every_pair_of_steps(void **state)
{
	(void)state;
	memset(&seen, 0, sizeof(seen));
	for (size_t i = 0; i < STEPS; i++)
		sweep(try_step, &steps[i], MOST, i % 4);
	printf("script: %u undone, %u pending, %u broken and repaired, %u at the second try\n",
	       seen.undone, seen.pending, seen.broken, seen.again);
	assert_true(seen.undone > 0 && seen.pending > 0 && seen.broken > 0 && seen.again > 0);
}

/* -------------------------------------------------------------------------------- in between --- */

/* A logged region moves, and can neither move back nor leave the new place: its log is where nobody is to be. */
static struct gpamap_txn *break_moved(struct scene *s)
{
	struct gpamap_txn *txn;

	scene_open(s);
	txn = vm_begin(&s->vm);
	scene_log(s, txn, 0);
	scene_add(s, txn, 0, AT(0));
	scene_add(s, txn, 1, AT(8));
	vm_commit(&s->vm, txn);
	scene_fetch(s, 0);
	vm_see(&s->vm, AT(0) + PAGE);
	txn = vm_begin(&s->vm);
	scene_move(s, txn, 0, AT(4));
	ok_txn(txn, gpamap_set_readonly(txn, s->r[1], true));
	/* The first of each go well: the new place early, the old one behind the gate. */
	gpamap_sim_fail(s->vm.sim, GPAMAP_SIM_CREATE, 2, ENOMEM, true);
	gpamap_sim_fail(s->vm.sim, GPAMAP_SIM_DELETE, 3, ENOMEM, true);
	refused(txn, gpamap_commit(txn, NULL, NULL), -ENOTRECOVERABLE);
	gpamap_sim_fail(s->vm.sim, GPAMAP_SIM_CREATE, 0, 0, false);
	gpamap_sim_fail(s->vm.sim, GPAMAP_SIM_DELETE, 0, 0, false);
	assert_true(vm_stats(&s->vm).broken);
	return txn;
}

static void fetch_while_broken(void **state)
{
	(void)state;
	for (int again = 0; again < 2; again++) {
		struct scene s;
		struct gpamap_txn *txn = break_moved(&s);

		assert_int_equal(scene_fetch(&s, 0), 1u << 1);
		/* Not a vCPU under the gate, so it gets there: as a write that was on its way. */
		vm_see(&s.vm, AT(4));
		assert_int_equal(scene_fetch(&s, 0), 1u << 0);
		vm_see(&s.vm, AT(4) + PAGE);
		repair(&s.vm, txn, 0, again, 0);
		assert_true(scene_fetch(&s, 0) & 1u << 1);
		vm_see(&s.vm, AT(again ? 4 : 0));
		assert_int_equal(scene_fetch(&s, 0), 1u << 0);
		vm_check_slots(&s.vm, WORLD_PAGES);
		vm_check_settled(&s.vm);
		scene_close(&s);
	}
}

/* Nobody asked while it was broken. */
static void fetch_after_repair(void **state)
{
	(void)state;
	for (int again = 0; again < 2; again++) {
		struct scene s;
		struct gpamap_txn *txn = break_moved(&s);

		repair(&s.vm, txn, 0, again, 0);
		assert_true(scene_fetch(&s, 0) & 1u << 1);
		vm_check_slots(&s.vm, WORLD_PAGES);
		scene_close(&s);
	}
}

/* The id of the first slot that the repair deletes. */
static uint32_t deleted_first(struct gpamap_txn *txn)
{
	struct gpamap_plan *plan;
	const struct gpamap_op *op;
	uint32_t id;

	ok_txn(txn, gpamap_preview(txn, 0, &plan));
	op = gpamap_plan_op(plan, 0);
	assert_non_null(op);
	assert_int_equal(op->kind, GPAMAP_OP_DELETE);
	id = op->slot;
	gpamap_plan_free(plan);
	return id;
}

static void id_of_a_stray_is_in_use(void **state)
{
	struct scene s;
	struct gpamap_txn *txn;
	uint32_t id;

	(void)state;
	scene_open(&s);
	txn = vm_begin(&s.vm);
	scene_add(&s, txn, 0, AT(0));
	vm_commit(&s.vm, txn);
	txn = vm_begin(&s.vm);
	scene_add(&s, txn, 1, AT(2));
	scene_add(&s, txn, 2, AT(4));
	gpamap_sim_fail(s.vm.sim, GPAMAP_SIM_CREATE, 2, ENOMEM, false);
	gpamap_sim_fail(s.vm.sim, GPAMAP_SIM_DELETE, 1, ENOMEM, false);
	refused(txn, gpamap_commit(txn, NULL, NULL), -ENOMEM);
	assert_int_equal(vm_stats(&s.vm).pending, 1);
	gpamap_abort(txn);
	txn = vm_begin(&s.vm);
	id = deleted_first(txn);
	assert_int_equal(gpamap_reserve_slots(s.vm.map, 0, id, 1), -EBUSY);
	assert_int_equal(gpamap_reserve_slots(s.vm.map, 0, id, 10), -EBUSY);
	ok(gpamap_reserve_slots(s.vm.map, 0, id + 1, 9));
	repair(&s.vm, txn, 0, false, 0);
	vm_check_slots(&s.vm, WORLD_PAGES);
	/* It is free now, and whoever keeps it has it to himself. */
	ok(gpamap_reserve_slots(s.vm.map, 0, id, 1));
	txn = vm_begin(&s.vm);
	scene_add(&s, txn, 1, AT(2));
	vm_commit(&s.vm, txn);
	scene_check_region(&s, 1, AT(2));
	scene_close(&s);
}

static int group_setup(void **state)
{
	plays_memory();
	cover = mem_new(COVER, WORLD_PAGES / 2);
	return script_record(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(relabel_repaired),	   cmocka_unit_test(chain_repaired),
		cmocka_unit_test(every_pair_of_plays),	   cmocka_unit_test(every_pair_of_steps),
		cmocka_unit_test(fetch_while_broken),	   cmocka_unit_test(fetch_after_repair),
		cmocka_unit_test(id_of_a_stray_is_in_use),
	};

	return cmocka_run_group_tests(tests, group_setup, NULL);
}
