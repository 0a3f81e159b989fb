/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What running guests meet while slots change under them: the gaps that KVM has are there, on each sort of
 * machine just those, and nothing of the kind when the guest is held meanwhile.
 */
#include "runner.h"

#define PATIENCE_MS 20000 /* on a loaded machine a race may take long to be hit */

static void naive(struct gap_test *t)
{
	assert_int_equal(delete_slot(t->sim, 0), 0);
	assert_int_equal(set_slot(t->sim, 0, 0, GPA, PAGES, t->memory), 0);
}

/* Up by a page, and down again: all pages but the first are there before and after. */
static void move(struct gap_test *t)
{
	assert_int_equal(set_slot(t->sim, 0, 0, GPA + 1, PAGES, t->memory), 0);
	assert_int_equal(set_slot(t->sim, 0, 0, GPA, PAGES, t->memory), 0);
}

static void toggle_log(struct gap_test *t)
{
	assert_int_equal(set_slot(t->sim, 0, LOG, GPA, PAGES, t->memory), 0);
	assert_int_equal(set_slot(t->sim, 0, 0, GPA, PAGES, t->memory), 0);
}

/* Change until the guest has met @want exits. */
static void change_until(struct gap_test *t, struct runner *g, void (*change)(struct gap_test *),
			 uint64_t want)
{
	uint64_t end = now_ms() + PATIENCE_MS;

	while (exits(g) < want && now_ms() < end) {
		change(t);
		progress(g);
	}
	assert_true(exits(g) >= want);
}

static void change_often(struct gap_test *t, struct runner *g, void (*change)(struct gap_test *),
			 unsigned n)
{
	while (n--) {
		change(t);
		if (n % 16 == 0)
			progress(g);
	}
}

static void test_naive_emulated(void **state)
{
	struct gap_test *t = *state;
	struct runner g;

	start(&g, t->sim, 0, GPAMAP_SIM_EMULATED, DATA, (GPA + 2) * page_size);
	change_until(t, &g, naive, 200);
	stop(&g);
	assert_true(atomic_load(&g.mmio) >= 200);
	assert_true(atomic_load(&g.wrong) > 0); /* stores were lost */
}

/* Between the delete and the create only, so it is stretched. */
static void test_naive_hardware(void **state)
{
	struct gap_test *t = *state;
	struct runner g;

	start(&g, t->sim, 0, 0, DATA, (GPA + 2) * page_size);
	gpamap_sim_stretch(t->sim, GPAMAP_SIM_AFTER_DELETE, 200);
	change_until(t, &g, naive, 50);
	stop(&g);
	assert_true(atomic_load(&g.mmio) >= 50);
	assert_true(atomic_load(&g.wrong) > 0);
}

static void held(struct gap_test *t, unsigned flags, enum what what)
{
	struct runner g;

	start(&g, t->sim, 0, flags, what, (GPA + 2) * page_size);
	gpamap_sim_stretch(t->sim, GPAMAP_SIM_WHILE_INVALID, 100);
	gpamap_sim_stretch(t->sim, GPAMAP_SIM_AFTER_DELETE, 100);
	for (unsigned i = 0; i < 100; i++) {
		hold(&g);
		naive(t);
		let_go(&g);
		progress(&g);
	}
	stop(&g);
	assert_int_equal(exits(&g), 0);
	assert_int_equal(atomic_load(&g.wrong), 0);
}

static void test_held(void **state)
{
	held(*state, 0, DATA);
	held(*state, GPAMAP_SIM_EMULATED, DATA);
	held(*state, GPAMAP_SIM_EMULATED, FETCH);
	held(*state, GPAMAP_SIM_EMULATED, WALK);
}

/* What an emulated guest's fetches and walks meet at once, and a hardware one's after the delete. */
static void test_naive_fetch_walk(void **state)
{
	struct gap_test *t = *state;
	struct runner g;

	gpamap_sim_stretch(t->sim, GPAMAP_SIM_AFTER_DELETE, 200);
	for (unsigned flags = 0; flags <= GPAMAP_SIM_EMULATED; flags++) {
		start(&g, t->sim, 0, flags, FETCH, (GPA + 2) * page_size);
		change_until(t, &g, naive, 20);
		stop(&g);
		assert_int_equal(atomic_load(&g.internal), exits(&g));
		start(&g, t->sim, 0, flags, WALK, (GPA + 2) * page_size);
		change_until(t, &g, naive, 20);
		stop(&g);
		assert_int_equal(atomic_load(&g.shutdown), exits(&g));
	}
}

/* A hardware fault waits while the slot is INVALID, so a move is atomic for it. */
static void test_move_hardware(void **state)
{
	struct gap_test *t = *state;
	struct runner g;

	gpamap_sim_stretch(t->sim, GPAMAP_SIM_WHILE_INVALID, 100);
	for (enum what what = DATA; what <= WALK; what++) {
		start(&g, t->sim, 0, 0, what, (GPA + 2) * page_size);
		change_often(t, &g, move, 200);
		stop(&g);
		assert_int_equal(exits(&g), 0);
	}
}

static void test_move_emulated(void **state)
{
	struct gap_test *t = *state;
	struct runner g;

	gpamap_sim_stretch(t->sim, GPAMAP_SIM_WHILE_INVALID, 100);
	for (enum what what = DATA; what <= WALK; what++) {
		start(&g, t->sim, 0, GPAMAP_SIM_EMULATED, what, (GPA + 2) * page_size);
		change_until(t, &g, move, 20);
		stop(&g);
	}
}

static void test_log_toggle(void **state)
{
	struct gap_test *t = *state;
	struct runner g;

	for (unsigned flags = 0; flags <= GPAMAP_SIM_EMULATED; flags++) {
		start(&g, t->sim, 0, flags, DATA, (GPA + 2) * page_size);
		change_often(t, &g, toggle_log, 2000);
		stop(&g);
		assert_int_equal(exits(&g), 0);
		assert_int_equal(atomic_load(&g.wrong), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_naive_emulated),   TEST(test_naive_hardware), TEST(test_held),
		TEST(test_naive_fetch_walk), TEST(test_move_hardware),	TEST(test_move_emulated),
		TEST(test_log_toggle),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
