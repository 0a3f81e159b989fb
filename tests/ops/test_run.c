/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * gpamap_vcpu_run() and what may end KVM_RUN, on a vCPU whose KVM_RUN is played by the test: kicks, signals of the
 * application's, its immediate_exit, and each of them together with others. What may have been the application's must
 * come back as -EINTR, and kvm_run must then not name the exit before.
 */
#include "../sync/gate_actors.h"

#include <linux/kvm.h>
#include <signal.h>

#include "ops/vcpu.h"

#define KICK SIGUSR1
#define APP_SIGNAL SIGUSR2

struct fix {
	struct gm_gate gate;
	struct kvm_run run;
	struct gm_engine engine;
	struct gpamap_vcpu *vcpu;
	/* What the next KVM_RUN does, before it ends; it ends with ends[0], the one after with ends[1], ... */
	void (*within)(struct fix *f);
	int ends[4];
	_Atomic(unsigned) runs;
	_Atomic(int) result; /* of a run in another thread; 1: not yet */
};

static struct fix f;
static _Atomic(unsigned) handled;

static void on_signal(int signo)
{
	handled += signo == APP_SIGNAL;
}

/* As KVM does it: the exit that was left is completed, then immediate_exit is looked at. */
static int play(struct gm_engine *e)
{
	void (*within)(struct fix *) = f.within;
	int end = f.ends[f.runs++ % 4];

	if (atomic_load((_Atomic(uint8_t) *)&e->kvm_run->immediate_exit))
		return -EINTR;
	f.within = NULL;
	if (within)
		within(&f);
	if (!end)
		e->kvm_run->exit_reason = KVM_EXIT_MMIO;
	return end;
}

static int setup(void **state)
{
	/* As signal() installs it, and kvmtool uses it: what sleeps in the kernel is begun anew. */
	struct sigaction app = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
	struct sigaction kick = {.sa_handler = on_signal};

	sigaction(APP_SIGNAL, &app, NULL);
	sigaction(KICK, &kick, NULL);
	handled = 0;
	f = (struct fix){.engine = {.run = play, .kvm_run = &f.run}};
	assert_int_equal(gm_gate_init(&f.gate, KICK, false), 0);
	assert_int_equal(gm_vcpu_new(NULL, &f.gate, &f.engine, 1, &gm_alloc_default, NULL, &f.vcpu),
			 0);
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	assert_int_equal(f.gate.shut, 0);
	assert_int_equal(f.gate.waiting, 0);
	gm_vcpu_free(f.vcpu);
	gm_gate_destroy(&f.gate);
	return 0;
}

/* It has an exit, which the application has answered. */
static void have_an_exit(void)
{
	assert_int_equal(gpamap_vcpu_run(f.vcpu), 0);
	assert_int_equal(f.run.exit_reason, KVM_EXIT_MMIO);
}

static void check_interrupted(void)
{
	assert_int_equal(gpamap_vcpu_run(f.vcpu), -EINTR);
	assert_int_equal(f.run.exit_reason, KVM_EXIT_INTR);
	assert_int_equal(f.vcpu->pass.busy, 0);
}

static void mark(struct fix *x)
{
	x->run.immediate_exit = GM_KICKED;
	x->vcpu->pass.kicked = true;
}

static void mark_half(struct fix *x)
{
	x->run.immediate_exit = GM_KICKED;
}

static void request(struct fix *x)
{
	x->run.immediate_exit = 1;
}

static void request_and_mark(struct fix *x)
{
	request(x);
	x->vcpu->pass.kicked = true;
}

/* A kick, and a signal whose handler leaves no trace, look the same from here: told, whichever it was. */
static void whatever_ends_it_is_told(void **state)
{
	void (*const ways[])(struct fix *) = {NULL, mark, mark_half, request, request_and_mark};

	(void)state;
	for (unsigned i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		bool asked = i >= 3;

		f.runs = 0;
		f.ends[1] = -EINTR;
		have_an_exit();
		f.within = ways[i];
		check_interrupted();
		assert_int_equal(f.runs, 2);
		assert_int_equal(f.run.immediate_exit == 1, asked);
		if (asked)
			f.run.immediate_exit = 0;
		if (ways[i] == mark_half)
			f.vcpu->pass.kicked = true;
		/* And what was the library's is gone the next time. */
		assert_int_equal(gpamap_vcpu_run(f.vcpu), 0);
		assert_int_equal(f.run.immediate_exit, 0);
		assert_int_equal(f.run.exit_reason, KVM_EXIT_MMIO);
	}
}

/* KVM may need the reason of an exit that it has not completed: it stays unless KVM_RUN was called. */
static void exit_stays_where_nothing_ran(void **state)
{
	(void)state;
	have_an_exit();
	assert_int_equal(gm_gate_enter(&f.gate), 0);
	assert_int_equal(gpamap_vcpu_run(f.vcpu), -EDEADLK);
	gm_gate_leave(&f.gate);
	assert_int_equal(f.run.exit_reason, KVM_EXIT_MMIO);
	shut_now(&f.gate);
	assert_int_equal(gpamap_vcpu_run(f.vcpu), -EDEADLK);
	gm_gate_break(&f.gate);
	assert_int_equal(gpamap_vcpu_run(f.vcpu), -ENOTRECOVERABLE);
	assert_int_equal(f.run.exit_reason, KVM_EXIT_MMIO);
	assert_int_equal(f.runs, 1);
	shut_now(&f.gate);
	gm_gate_open(&f.gate);
}

static void *run_once(void *arg)
{
	(void)arg;
	f.result = gpamap_vcpu_run(f.vcpu);
	return NULL;
}

static pthread_t run_at_shut_gate(void)
{
	pthread_t thread;

	f.result = 1;
	shut_now(&f.gate);
	assert_int_equal(pthread_create(&thread, NULL, run_once, NULL), 0);
	assert_soon(f.gate.waiting == 1);
	return thread;
}

/* The handler has run while the thread slept at the gate, and the sleep went on. */
static void signal_at_the_gate_is_told(void **state)
{
	pthread_t thread;

	(void)state;
	have_an_exit();
	thread = run_at_shut_gate();
	sleep_ms(5);
	pthread_kill(thread, APP_SIGNAL);
#ifndef __SANITIZE_THREAD__ /* which puts handlers off until it sees a call that may sleep */
	assert_soon(handled == 1);
#endif
	gm_gate_open(&f.gate);
	pthread_join(thread, NULL);
	assert_int_equal(f.result, -EINTR);
	assert_int_equal(f.run.exit_reason, KVM_EXIT_INTR);
	/* KVM_RUN was called, so that it could complete the exit before. */
	assert_int_equal(f.runs, 2);
	assert_int_equal(f.run.immediate_exit, 0);
	have_an_exit();
}

/* What the application has set is told, and stays. */
static void request_at_the_gate_is_told(void **state)
{
	pthread_t thread;

	(void)state;
	thread = run_at_shut_gate();
	f.run.immediate_exit = 1;
	gm_gate_open(&f.gate);
	pthread_join(thread, NULL);
	assert_int_equal(f.result, -EINTR);
	assert_int_equal(f.run.immediate_exit, 1);
	f.run.immediate_exit = 0;
}

/* From inside, -EINTR would be told again and again, and a commit wait in vain. */
static void refused_from_inside(void **state)
{
	struct gm_pass other;

	(void)state;
	assert_int_equal(gm_gate_enter(&f.gate), 0);
	assert_int_equal(gpamap_vcpu_run(f.vcpu), -EDEADLK);
	gm_gate_leave(&f.gate);
	assert_int_equal(gpamap_vcpu_enter(f.vcpu), 0);
	assert_int_equal(gpamap_vcpu_run(f.vcpu), -EDEADLK);
	assert_true(gm_gate_inside(&f.gate));
	gpamap_vcpu_leave(f.vcpu);
	assert_int_equal(f.runs, 0);
	assert_false(gm_gate_inside(&f.gate));
	assert_int_equal(gpamap_vcpu_run(f.vcpu), 0);

	/* By another vCPU: from the kick on. */
	gm_pass_init(&other, &f.gate, 2, NULL);
	assert_int_equal(gm_pass_enter(&other), 0);
	assert_int_equal(gpamap_vcpu_run(f.vcpu), 0);
	f.within = mark;
	f.ends[2] = -EINTR;
	assert_int_equal(gpamap_vcpu_run(f.vcpu), -EDEADLK);
	gm_pass_leave(&other);
	assert_int_equal(gpamap_vcpu_run(f.vcpu), 0);
	gm_pass_destroy(&other);
}

/* Being inside another map's gate is nothing to this one. */
static void not_refused_from_inside_another(void **state)
{
	static struct gm_gate other;

	(void)state;
	assert_int_equal(gm_gate_init(&other, 0, true), 0);
	assert_int_equal(gm_gate_enter(&other), 0);
	assert_int_equal(gpamap_vcpu_run(f.vcpu), 0);
	gm_gate_leave(&other);
	gm_gate_destroy(&other);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(whatever_ends_it_is_told),	  TEST(exit_stays_where_nothing_ran),
		TEST(signal_at_the_gate_is_told), TEST(request_at_the_gate_is_told),
		TEST(refused_from_inside),	  TEST(not_refused_from_inside_another),
	};

	return cmocka_run_group_tests_name("run", tests, NULL, NULL);
}
