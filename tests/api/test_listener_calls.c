/* SPDX-License-Identifier: BSD-3-Clause */
/* Listeners: coming and going, without memory, and what they may call in their callbacks. */
#include "listening.h"

#include <pthread.h>

/* -------------------------------------------------------------------------- no memory --- */

static void no_memory_for(bool forever)
{
	struct world world;
	unsigned n = 0;
	int err;

	world_take(&vm, &world);
	do {
		struct gpamap_txn *txn = begin_split();

		counting_fail(&vm.alloc, ++n, forever);
		err = gpamap_commit(txn, NULL, NULL);
		counting_fail(&vm.alloc, 0, false);
		if (err) {
			assert_int_equal(err, -ENOMEM);
			expect_heard("");
			gpamap_abort(txn);
			world_check(&vm, &world);
		}
	} while (err);
	assert_true(n > 4);
	expect_heard("pa pb pc qa qb qc +c +b +a ac ab aa");
	check_split();
}

static void no_memory(void **state)
{
	no_memory_for(false);
	ears_teardown(state);
	ears_setup(state);
	no_memory_for(true);
}

static void no_memory_to_add(void **state)
{
	struct gpamap_listener_desc desc = {.name = "late"};
	struct gpamap_listener *l = NULL;
	char message[256];
	unsigned n = 0;

	(void)state;
	for (;;) {
		int err;

		counting_fail(&vm.alloc, ++n, true);
		err = gpamap_listener_add(vm.map, &desc, &l);
		counting_fail(&vm.alloc, 0, false);
		if (!err)
			break;
		assert_int_equal(err, -ENOMEM);
		assert_null(l);
		gpamap_last_message(vm.map, message, sizeof(message));
		assert_true(message[0] != '\0');
	}
	/* The listener, the change, and its ranges. */
	assert_int_equal(n, 4);
	gpamap_listener_remove(l);
}

/* ---------------------------------------------------------------------- coming and going --- */

static void add_and_remove(void **state)
{
	struct gpamap_txn *txn = begin_split();

	(void)state;
	/* Also with a transaction open. */
	gpamap_listener_remove(ears[1].l);
	vm_commit(&vm, txn);
	expect_heard("pa pc qa qc +c +a ac aa");
	ear_add(&vm, &ears[1], 'b', 100);
	expect_heard("pb ab");
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_protect_pages(txn, 0, 0, 2 * PAGE, GPAMAP_RO));
	vm_commit(&vm, txn);
	expect_heard("pa pc pb qa qc qb +b +c +a ab ac aa");
	gpamap_listener_remove(NULL);
}

static int refuse(void *opaque, const struct gpamap_change *change)
{
	(void)change;
	return *(int *)opaque;
}

static void add_refused(void **state)
{
	int answer = -EPERM;
	struct gpamap_listener_desc desc = {.opaque = &answer, .prepare = refuse};
	struct gpamap_listener *l = NULL;
	char message[256];

	(void)state;
	assert_int_equal(gpamap_listener_add(vm.map, &desc, &l), -EINVAL);
	desc.name = "";
	assert_int_equal(gpamap_listener_add(vm.map, &desc, &l), -EINVAL);
	desc.name = "proud";
	assert_int_equal(gpamap_listener_add(vm.map, &desc, &l), -EPERM);
	gpamap_last_message(vm.map, message, sizeof(message));
	assert_non_null(strstr(message, "proud"));
	ok(gpamap_enter(vm.map));
	assert_int_equal(gpamap_listener_add(vm.map, &desc, &l), -EDEADLK);
	gpamap_leave(vm.map);
	assert_null(l);
	expect_heard("");
}

static void left_at_the_end(void **state)
{
	struct vm other;
	struct ear e;

	(void)state;
	vm_open(&other, NULL, NULL);
	ear_add(&other, &e, 'x', 0);
	expect_heard("px ax");
	/* Looks whether something leaks. */
	vm_close(&other);
	expect_heard("");
}

static void remove_two(struct ear *e, char at)
{
	if (at != 'q')
		return;
	gpamap_listener_remove(e->l);
	gpamap_listener_remove(ears[2].l);
	e->l = ears[2].l = NULL;
}

/* From a callback it takes effect when the commit has ended, however it ends. */
static void remove_in_callback(void **state)
{
	for (int fails = 0; fails < 2; fails++) {
		struct gpamap_txn *txn = begin_split();

		ears[1].also = remove_two;
		if (fails)
			gpamap_sim_fail(vm.sim, GPAMAP_SIM_CREATE, 3, EIO, false);
		assert_int_equal(gpamap_commit(txn, NULL, NULL), fails ? -EIO : 0);
		if (fails) {
			expect_heard("pa pb pc qa qb qc -c -b -a cc cb ca");
			vm_commit(&vm, txn);
		} else {
			expect_heard("pa pb pc qa qb qc +c +b +a ac ab aa");
			txn = vm_begin(&vm);
			ok_txn(txn, gpamap_protect_pages(txn, 0, 0, PAGE, GPAMAP_RO));
			vm_commit(&vm, txn);
		}
		expect_heard("pa qa +a aa");
		ears_teardown(state);
		ears_setup(state);
	}
}

struct remover {
	pthread_t thread;
	atomic_bool gone;
};

static struct remover remover;

static void *remove_c(void *opaque)
{
	(void)opaque;
	gpamap_listener_remove(ears[2].l);
	ears[2].l = NULL;
	atomic_store(&remover.gone, true);
	return NULL;
}

static void start_remover(struct ear *e, char at)
{
	(void)e;
	if (at == 'p')
		ok(pthread_create(&remover.thread, NULL, remove_c, NULL));
	else
		sleep_ms(20); /* if it does not wait, it is through by now */
	assert_false(atomic_load(&remover.gone));
}

/* Another thread waits for the commit; then no callback runs any more. */
static void remove_waits(void **state)
{
	(void)state;
	ears[0].also = start_remover;
	vm_commit(&vm, begin_split());
	ok(pthread_join(remover.thread, NULL));
	expect_heard("pa pb pc qa qb qc +c +b +a ac ab aa");
	ears_reset();
	vm_commit(&vm, vm_begin(&vm));
}

/* ------------------------------------------------------------------------ from callbacks --- */

static struct gpamap_txn *current;
static struct gpamap_region *logged;
static unsigned tried;

/* Whatever would wait for this commit is refused. */
static void try_all(struct ear *e, char at)
{
	struct gpamap_listener_desc desc = {.name = "x"};
	struct gpamap_txn *txn = NULL;
	struct gpamap_listener *l;
	struct gpamap_plan *plan;
	struct gpamap_segment s;
	uint64_t bits, word;
	bool is_shut = at == 'q' || at == '+' || at == '-';
	int err;

	(void)e;
	assert_int_equal(gpamap_begin(vm.map, &txn), -EDEADLK);
	assert_null(txn);
	assert_int_equal(gpamap_commit(current, NULL, NULL), -EDEADLK);
	assert_int_equal(gpamap_preview(current, 0, &plan), -EDEADLK);
	assert_int_equal(gpamap_unmap_pages(current, 0, 0, PAGE), -EDEADLK);
	assert_int_equal(gpamap_set_log(current, logged, false), -EDEADLK);
	gpamap_abort(current);
	assert_int_equal(gpamap_dirty_fetch(vm.map, logged, 0, PAGE, &bits), -EDEADLK);
	assert_int_equal(gpamap_reserve_slots(vm.map, 0, 100, 1), -EDEADLK);
	assert_int_equal(gpamap_listener_add(vm.map, &desc, &l), -EDEADLK);
	err = gpamap_enter(vm.map);
	assert_int_equal(err, is_shut ? -EDEADLK : 0);
	if (!err)
		gpamap_leave(vm.map);
	/* The map may be looked at. */
	ok(gpamap_lookup(vm.map, 0, 0, &s));
	assert_ptr_equal(s.hva, mem_a);
	ok(gpamap_read(vm.map, 0, PAGE, &word, 8));
	assert_int_equal(word, mem_tag(A, 1));
	tried++;
}

static void *commit_there(void *opaque)
{
	return (void *)(intptr_t)gpamap_commit(current, opaque, NULL);
}

/* Also by a thread that has not begun the transaction. */
static int commit_with(bool elsewhere)
{
	pthread_t thread;
	void *ret;

	if (!elsewhere)
		return gpamap_commit(current, NULL, NULL);
	ok(pthread_create(&thread, NULL, commit_there, NULL));
	ok(pthread_join(thread, &ret));
	return (int)(intptr_t)ret;
}

static void calls_from_callbacks(void **state)
{
	struct gpamap_txn *txn = vm_begin(&vm);

	(void)state;
	logged = vm_ram(&vm, mem_b + 16 * PAGE, 1, 0);
	ok_txn(txn, gpamap_add(txn, gpamap_root(vm.map, 0), 60 * PAGE, logged, 0));
	ok_txn(txn, gpamap_set_log(txn, logged, true));
	vm_commit(&vm, txn);
	heard[0] = '\0';
	tried = 0;
	ears[1].also = try_all;
	current = begin_split();
	gpamap_sim_fail(vm.sim, GPAMAP_SIM_CREATE, 2, EIO, false);
	refused(current, commit_with(false), -EIO);
	assert_non_null(strstr(gpamap_message(current), "can't create slot"));
	assert_int_equal(tried, 4);
	ok(commit_with(true));
	assert_int_equal(tried, 8);
	check_split();
	vm_check_settled(&vm);
	gpamap_region_put(logged);
	heard[0] = '\0';
}

/* ---------------------------------------------------------------------------- release --- */

static void released(void *opaque)
{
	(void)opaque;
	strcat(heard, " released");
}

/* Memory goes when no listener uses it any more (P5). */
static void release_is_last(void **state)
{
	struct gpamap_region_desc desc = {
		.kind = GPAMAP_RAM, .size = PAGE, .hva = mem_b, .release = released};
	struct gpamap_region *r = vm_region(&vm, &desc);
	struct gpamap_txn *txn = vm_begin(&vm);

	(void)state;
	ok_txn(txn, gpamap_map_region(txn, 0, 8 * PAGE, PAGE, r, 0, GPAMAP_RW));
	vm_commit(&vm, txn);
	expect_heard("pa pb pc qa qb qc +c +b +a ac ab aa");
	gpamap_region_put(r);
	txn = vm_begin(&vm);
	ok_txn(txn, gpamap_map_pages(txn, 0, 8 * PAGE, PAGE, mem_a, GPAMAP_RW));
	vm_commit(&vm, txn);
	expect_heard("pa pb pc qa qb qc +c +b +a ac ab aa released");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		each(no_memory),    each(no_memory_to_add),	each(add_and_remove),
		each(add_refused),  each(left_at_the_end),	each(remove_in_callback),
		each(remove_waits), each(calls_from_callbacks), each(release_is_last),
	};

	return cmocka_run_group_tests(tests, ears_memory, NULL);
}
