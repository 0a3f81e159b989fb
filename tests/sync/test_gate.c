/* SPDX-License-Identifier: BSD-3-Clause */
/* The gate, one rule at a time: who waits for whom, who gets which error. In both modes. */
#include "gate_actors.h"

static bool no_membarrier;

struct fix {
	struct gm_gate gate;
	struct gm_pass pass[2];
	_Atomic(uint8_t) immediate_exit[2];
};

static int setup(void **state)
{
	static struct fix f;

	assert_int_equal(gm_gate_init(&f.gate, 0, no_membarrier), 0);
	for (unsigned i = 0; i < 2; i++) {
		f.immediate_exit[i] = 0;
		gm_pass_init(&f.pass[i], &f.gate, 10 + i, (uint8_t *)&f.immediate_exit[i]);
	}
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;

	/* Every test ends with an open and empty gate. */
	assert_int_equal(f->gate.shut, 0);
	assert_int_equal(f->gate.waiting, 0);
	assert_int_equal(f->gate.crowd, 0);
	assert_int_equal(f->gate.inhibitor, 0);
	for (int i = 0; i < GM_HOLDERS; i++)
		assert_int_equal(f->gate.holders[i].owner, 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(f->pass[i].busy, 0);
		gm_pass_destroy(&f->pass[i]);
	}
	assert_null(f->gate.passes);
	gm_gate_destroy(&f->gate);
	return 0;
}

static void passes_when_open(void **state)
{
	struct fix *f = *state;

	assert_false(gm_gate_inside(&f->gate));
	for (int i = 0; i < 3; i++)
		assert_int_equal(gm_pass_enter(&f->pass[0]), 0);
	assert_true(gm_gate_inside(&f->gate));
	for (int i = 0; i < 3; i++) {
		assert_true(gm_gate_inside(&f->gate));
		assert_false(leave_kicked(&f->pass[0]));
	}
	assert_false(gm_gate_inside(&f->gate));
	for (int i = 0; i < 3; i++)
		assert_int_equal(gm_gate_enter(&f->gate), 0);
	for (int i = 0; i < 3; i++) {
		assert_true(gm_gate_inside(&f->gate));
		gm_gate_leave(&f->gate);
	}
	assert_false(gm_gate_inside(&f->gate));
}

static void leave_too_often(void **state)
{
	struct fix *f = *state;

	assert_false(leave_kicked(&f->pass[0]));
	gm_gate_leave(&f->gate);
	assert_int_equal(shut_now(&f->gate), 0);
	gm_gate_open(&f->gate);
}

static void keeps_newcomers_out(void **state)
{
	struct fix *f = *state;
	struct insider vcpu, holder;

	assert_int_equal(shut_now(&f->gate), 0);
	insider_start(&vcpu, &f->gate, &f->pass[0]);
	insider_start(&holder, &f->gate, NULL);
	assert_soon(f->gate.waiting == 2);
	assert_for_now(vcpu.state == ON_THE_WAY && holder.state == ON_THE_WAY);
	assert_int_equal(f->pass[0].busy, 0);
	gm_gate_open(&f->gate);
	assert_soon(vcpu.state == INSIDE && holder.state == INSIDE);
	insider_end(&vcpu);
	insider_end(&holder);
}

static void waits_for_insiders(void **state)
{
	struct fix *f = *state;
	struct insider a, b, holder;
	struct shutter s;

	insider_start(&a, &f->gate, &f->pass[0]);
	insider_start(&b, &f->gate, &f->pass[1]);
	insider_start(&holder, &f->gate, NULL);
	assert_soon(a.state == INSIDE && b.state == INSIDE && holder.state == INSIDE);
	shutter_start(&s, &f->gate, 60000);
	/* All are kicked before any is waited for. */
	assert_soon(f->immediate_exit[0] == GM_KICKED && f->immediate_exit[1] == GM_KICKED);
	assert_for_now(s.state == ON_THE_WAY);
	insider_end(&a);
	assert_true(a.kicked);
	assert_int_equal(f->immediate_exit[0], 0);
	assert_for_now(s.state == ON_THE_WAY);
	insider_end(&holder);
	assert_for_now(s.state == ON_THE_WAY);
	insider_end(&b);
	assert_soon(s.state == INSIDE);
	shutter_end(&s);
	assert_int_equal(s.kicked, 2);
}

/* Both are inside already, so both may nest, in any way, while somebody waits for them. */
static void holds_nest_while_shutting(void **state)
{
	struct fix *f = *state;
	struct shutter s;

	assert_int_equal(gm_pass_enter(&f->pass[0]), 0);
	shutter_start(&s, &f->gate, 60000);
	assert_soon(f->gate.shut == 1);
	assert_int_equal(gm_pass_enter(&f->pass[0]), 0);
	assert_int_equal(gm_gate_enter(&f->gate), 0);
	assert_int_equal(gm_gate_enter(&f->gate), 0);
	assert_int_equal(gm_pass_enter(&f->pass[1]), 0);
	/* Given back in another order than taken. */
	gm_pass_leave(&f->pass[0]);
	gm_pass_leave(&f->pass[0]);
	assert_for_now(s.state == ON_THE_WAY);
	gm_gate_leave(&f->gate);
	gm_gate_leave(&f->gate);
	assert_for_now(s.state == ON_THE_WAY);
	/* By the last one, all are taken again. */
	assert_int_equal(gm_pass_enter(&f->pass[0]), 0);
	assert_int_equal(gm_gate_enter(&f->gate), 0);
	gm_pass_leave(&f->pass[1]);
	gm_pass_leave(&f->pass[0]);
	assert_for_now(s.state == ON_THE_WAY);
	assert_int_equal(gm_gate_enter(&f->gate), 0);
	gm_gate_leave(&f->gate);
	gm_gate_leave(&f->gate);
	assert_soon(s.state == INSIDE);
	shutter_end(&s);
}

struct crosser {
	struct gm_gate *first, *second;
	_Atomic(int) state;
};

static void *cross(void *arg)
{
	struct crosser *c = arg;

	gm_gate_enter(c->first);
	c->state = INSIDE;
	gm_gate_enter(c->second);
	c->state = OUT;
	gm_gate_leave(c->second);
	gm_gate_leave(c->first);
	return NULL;
}

/* Being inside one gate is no ticket for another. */
static void holder_of_another_gate_waits(void **state)
{
	static struct gm_gate other;
	struct fix *f = *state;
	struct crosser c = {.first = &other, .second = &f->gate};
	pthread_t thread;

	assert_int_equal(gm_gate_init(&other, 0, no_membarrier), 0);
	assert_int_equal(shut_now(&f->gate), 0);
	assert_int_equal(pthread_create(&thread, NULL, cross, &c), 0);
	assert_soon(f->gate.waiting == 1);
	assert_for_now(c.state == INSIDE);
	gm_gate_open(&f->gate);
	pthread_join(thread, NULL);
	assert_int_equal(c.state, OUT);
	gm_gate_destroy(&other);
}

/* A hold that is never given back ends with its gate: what comes where the gate was is not taken for it. */
static void hold_ends_with_the_gate(void **state)
{
	static struct gm_gate other;
	struct fix *f = *state;

	for (int i = 0; i < 2; i++) {
		assert_int_equal(gm_gate_init(&other, 0, no_membarrier), 0);
		assert_false(gm_gate_inside(&other));
		assert_int_equal(gm_gate_enter(&other), 0);
		assert_int_equal(gm_gate_enter(&f->gate), 0);
		gm_gate_destroy(&other);
		gm_gate_leave(&f->gate);
	}
	assert_null(gm_thread.held);
}

/* Holds in several gates, given back in any order. */
static void holds_in_two_gates(void **state)
{
	static struct gm_gate other;
	struct fix *f = *state;
	struct gm_gate *gates[] = {&f->gate, &other};

	assert_int_equal(gm_gate_init(&other, 0, true), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(gm_gate_enter(&f->gate), 0);
		assert_int_equal(gm_gate_enter(&other), 0);
		assert_int_equal(gm_gate_enter(gates[i]), 0);
		gm_gate_leave(gates[!i]);
		assert_false(gm_gate_inside(gates[!i]));
		assert_true(gm_gate_inside(gates[i]));
		/* The one that is empty can be shut by who is inside the other. */
		assert_int_equal(shut_now(gates[!i]), 0);
		assert_int_equal(gm_gate_enter(gates[!i]), -EDEADLK);
		gm_gate_open(gates[!i]);
		gm_gate_leave(gates[i]);
		assert_true(gm_gate_inside(gates[i]));
		gm_gate_leave(gates[i]);
		assert_false(gm_gate_inside(gates[i]));
	}
	gm_gate_destroy(&other);
}

static void deadlocks_are_refused(void **state)
{
	struct fix *f = *state;
	unsigned kicked = 99;
	uint64_t start = 99;
	struct gm_stuck stuck;

	gm_pass_enter(&f->pass[0]);
	assert_int_equal(gm_gate_shut(&f->gate, in_ms(9), &kicked, &start, &stuck), -EDEADLK);
	gm_pass_leave(&f->pass[0]);
	gm_gate_enter(&f->gate);
	assert_int_equal(gm_gate_shut(&f->gate, in_ms(9), &kicked, &start, &stuck), -EDEADLK);
	gm_gate_leave(&f->gate);
	shut_now(&f->gate);
	assert_int_equal(gm_gate_shut(&f->gate, in_ms(9), &kicked, &start, &stuck), -EDEADLK);
	assert_int_equal(gm_pass_enter(&f->pass[0]), -EDEADLK);
	assert_int_equal(gm_gate_enter(&f->gate), -EDEADLK);
	assert_int_equal(kicked, 99);
	assert_int_equal(start, 99);
	gm_gate_open(&f->gate);
}

static void check_timeout(struct gm_gate *g, bool is_vcpu, unsigned id, pid_t tid)
{
	struct gm_stuck stuck;
	unsigned kicked;
	uint64_t start, before = gm_now_ns();

	assert_int_equal(gm_gate_shut(g, before + 20 * MS, &kicked, &start, &stuck), -ETIMEDOUT);
	assert_true(gm_now_ns() >= before + 20 * MS);
	assert_int_equal(stuck.is_vcpu, is_vcpu);
	assert_int_equal(stuck.tid, tid);
	if (is_vcpu)
		assert_int_equal(stuck.id, id);
	assert_int_equal(g->shut, 0);
}

static void deadline_names_the_stuck(void **state)
{
	struct fix *f = *state;
	struct insider a;

	insider_start(&a, &f->gate, &f->pass[1]);
	assert_soon(a.state == INSIDE);
	check_timeout(&f->gate, true, 11, a.tid);
	/* It is open again. */
	assert_int_equal(gm_pass_enter(&f->pass[0]), 0);
	gm_pass_leave(&f->pass[0]);
	insider_end(&a);

	insider_start(&a, &f->gate, NULL);
	assert_soon(a.state == INSIDE);
	check_timeout(&f->gate, false, 0, a.tid);
	insider_end(&a);
	assert_int_equal(shut_now(&f->gate), 0);
	gm_gate_open(&f->gate);
}

static void broken_until_repaired(void **state)
{
	struct fix *f = *state;
	struct insider sleeper, sleeping_holder, again;
	struct shutter s;

	shutter_start(&s, &f->gate, 1000);
	s.breaks = true;
	assert_soon(s.state == INSIDE);
	insider_start(&sleeper, &f->gate, &f->pass[0]);
	insider_start(&sleeping_holder, &f->gate, NULL);
	assert_soon(f->gate.waiting == 2);
	assert_false(gm_gate_broken(&f->gate));
	shutter_end(&s);
	assert_soon(sleeper.state == -ENOTRECOVERABLE);
	assert_soon(sleeping_holder.state == -ENOTRECOVERABLE);
	insider_end(&sleeper);
	insider_end(&sleeping_holder);
	assert_true(gm_gate_broken(&f->gate));
	assert_int_equal(gm_pass_enter(&f->pass[0]), -ENOTRECOVERABLE);
	assert_int_equal(gm_gate_enter(&f->gate), -ENOTRECOVERABLE);
	assert_false(gm_gate_inside(&f->gate));

	/* A repair that fails, too, and one that doesn't. */
	assert_int_equal(shut_now(&f->gate), 0);
	assert_true(gm_gate_broken(&f->gate));
	gm_gate_break(&f->gate);
	assert_int_equal(gm_pass_enter(&f->pass[0]), -ENOTRECOVERABLE);
	assert_int_equal(shut_now(&f->gate), 0);
	gm_gate_open(&f->gate);
	assert_false(gm_gate_broken(&f->gate));
	insider_start(&again, &f->gate, &f->pass[0]);
	assert_soon(again.state == INSIDE);
	insider_end(&again);
}

static void attach_while_shut(void **state)
{
	static struct gm_pass late;
	struct fix *f = *state;
	struct insider a;

	assert_int_equal(shut_now(&f->gate), 0);
	gm_pass_init(&late, &f->gate, 12, NULL);
	insider_start(&a, &f->gate, &late);
	assert_soon(f->gate.waiting == 1);
	assert_for_now(a.state == ON_THE_WAY);
	gm_gate_open(&f->gate);
	assert_soon(a.state == INSIDE);
	insider_end(&a);
	gm_pass_destroy(&late);
}

static void all_holders_taken(void **state)
{
	static struct insider in[GM_HOLDERS], extra[2];
	struct fix *f = *state;
	struct shutter s;

	for (int i = 0; i < GM_HOLDERS; i++)
		insider_start(&in[i], &f->gate, NULL);
	for (int i = 0; i < GM_HOLDERS; i++)
		assert_soon(in[i].state == INSIDE);
	for (int i = 0; i < 2; i++)
		insider_start(&extra[i], &f->gate, NULL);
	assert_soon(f->gate.crowd == 2);
	assert_for_now(extra[0].state == ON_THE_WAY && extra[1].state == ON_THE_WAY);
	/* One goes out, one of the crowd comes in. */
	insider_end(&in[0]);
	assert_soon(extra[0].state == INSIDE || extra[1].state == INSIDE);
	assert_soon(f->gate.crowd == 1);
	/* The other one is not waited for, and finds the gate shut when its turn comes. */
	shutter_start(&s, &f->gate, 60000);
	assert_soon(f->gate.shut == 1);
	for (int i = 1; i < GM_HOLDERS; i++)
		insider_end(&in[i]);
	for (int i = 0; i < 2; i++) {
		if (extra[i].state == INSIDE)
			insider_end(&extra[i]);
	}
	assert_soon(s.state == INSIDE);
	assert_soon(f->gate.waiting == 1 && f->gate.crowd == 0);
	shutter_end(&s);
	for (int i = 0; i < 2; i++) {
		if (extra[i].state == OUT)
			continue;
		assert_soon(extra[i].state == INSIDE);
		insider_end(&extra[i]);
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

/* The kernel gives the id of a thread that has ended, with its passes still bound to it, to a new thread. */
static void *begin_with_stale_passes(void *arg)
{
	struct fix *f = arg;
	unsigned kicked;
	uint64_t start;
	struct gm_stuck stuck;
	pid_t self = (pid_t)syscall(SYS_gettid);

	/* It learns its id by something else than a pass. */
	assert_int_equal(gm_gate_enter(&f->gate), 0);
	gm_gate_leave(&f->gate);
	f->pass[0].owner = self;
	f->pass[1].owner = self;
	assert_int_equal(gm_pass_enter(&f->pass[0]), 0);
	assert_int_equal(f->pass[1].owner, 0);
	assert_true(gm_gate_inside(&f->gate));
	assert_int_equal(gm_gate_shut(&f->gate, in_ms(60000), &kicked, &start, &stuck), -EDEADLK);
	gm_pass_leave(&f->pass[0]);
	assert_false(gm_gate_inside(&f->gate));
	return NULL;
}

static void thread_id_again(void **state)
{
	struct fix *f = *state;
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, begin_with_stale_passes, f), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(passes_when_open),
		TEST(leave_too_often),
		TEST(thread_id_again),
		TEST(keeps_newcomers_out),
		TEST(waits_for_insiders),
		TEST(holds_nest_while_shutting),
		TEST(holder_of_another_gate_waits),
		TEST(hold_ends_with_the_gate),
		TEST(holds_in_two_gates),
		TEST(deadlocks_are_refused),
		TEST(deadline_names_the_stuck),
		TEST(broken_until_repaired),
		TEST(attach_while_shut),
		TEST(all_holders_taken),
	};
	int failed = cmocka_run_group_tests_name("gate, membarrier", tests, NULL, NULL);

	no_membarrier = true;
	return failed + cmocka_run_group_tests_name("gate, full fences", tests, NULL, NULL);
}
