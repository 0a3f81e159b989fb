/* SPDX-License-Identifier: BSD-3-Clause */
/* Kicks: whom they reach, what they leave behind, and what they leave alone (G5). */
#include "gate_actors.h"

#include <signal.h>
#include <sys/resource.h>

#define APP 1 /* the value of immediate_exit that is the application's */

struct fix {
	struct gm_gate gate;
	struct gm_pass pass;
	_Atomic(uint8_t) immediate_exit;
};

static _Atomic(pid_t) signalled; /* the last thread that got the kick signal */
static _Atomic(int) signals;

static void on_kick(int signo)
{
	(void)signo;
	signalled = (pid_t)syscall(SYS_gettid);
	signals++;
}

static int setup(void **state)
{
	static struct fix f;
	struct sigaction act = {.sa_handler = on_kick};

	sigaction(SIGUSR1, &act, NULL);
	signalled = 0;
	signals = 0;
	f.immediate_exit = 0;
	assert_int_equal(gm_gate_init(&f.gate, SIGUSR1, false), 0);
	gm_pass_init(&f.pass, &f.gate, 3, (uint8_t *)&f.immediate_exit);
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;

	assert_int_equal(f->gate.shut, 0);
	gm_pass_destroy(&f->pass);
	gm_gate_destroy(&f->gate);
	return 0;
}

static void reaches_the_thread_inside(void **state)
{
	struct fix *f = *state;
	struct insider a;
	struct shutter s;

	insider_start(&a, &f->gate, &f->pass);
	assert_soon(a.state == INSIDE);
	shutter_start(&s, &f->gate, 60000);
	assert_soon(signals == 1);
	assert_int_equal(signalled, a.tid);
	assert_int_equal(f->immediate_exit, GM_KICKED);
	assert_for_now(signals == 1);
	insider_end(&a);
	assert_true(a.kicked);
	assert_int_equal(f->immediate_exit, 0);
	shutter_end(&s);
	assert_int_equal(s.kicked, 1);
	assert_int_equal(f->gate.kicks, 1);
}

static void spares_who_is_outside(void **state)
{
	struct fix *f = *state;
	struct insider a;

	insider_start(&a, &f->gate, &f->pass);
	insider_end(&a);
	assert_int_equal(shut_now(&f->gate), 0);
	gm_gate_open(&f->gate);
	assert_int_equal(signals, 0);
	assert_int_equal(f->immediate_exit, 0);
}

/* Threads that follow each other get the same pthread_t: the pass must not take the new one for the old. */
static void follows_the_pass_to_another_thread(void **state)
{
	struct fix *f = *state;
	pid_t last = 0;

	for (int i = 1; i <= 5; i++) {
		struct insider a;
		struct shutter s;

		insider_start(&a, &f->gate, &f->pass);
		assert_soon(a.state == INSIDE);
		assert_int_not_equal(a.tid, last);
		last = a.tid;
		shutter_start(&s, &f->gate, 60000);
		assert_soon(signals == i);
		assert_int_equal(signalled, a.tid);
		insider_end(&a);
		shutter_end(&s);
		assert_int_equal(s.state, OUT);
	}
}

static void leaves_the_application_its_value(void **state)
{
	struct fix *f = *state;
	struct insider a;
	struct shutter s;

	insider_start(&a, &f->gate, &f->pass);
	assert_soon(a.state == INSIDE);
	f->immediate_exit = APP;
	shutter_start(&s, &f->gate, 60000);
	assert_soon(signals == 1);
	assert_int_equal(f->immediate_exit, APP);
	insider_end(&a);
	assert_true(a.kicked);
	assert_int_equal(f->immediate_exit, APP);
	shutter_end(&s);

	/* Set over ours. */
	f->immediate_exit = 0;
	insider_start(&a, &f->gate, &f->pass);
	assert_soon(a.state == INSIDE);
	shutter_start(&s, &f->gate, 60000);
	assert_soon(f->immediate_exit == GM_KICKED);
	f->immediate_exit = APP;
	insider_end(&a);
	assert_int_equal(f->immediate_exit, APP);
	shutter_end(&s);
}

/*
 * The inhibitor has marked immediate_exit, the thread sees it and is out, and only then comes the other mark; the gate
 * is open again when it comes back. KVM_RUN must not return at once for a kick that has been obeyed.
 */
static void stale_kick_is_taken_back_on_the_way_in(void **state)
{
	struct fix *f = *state;

	for (int i = 0; i < 3; i++) {
		assert_int_equal(gm_pass_enter(&f->pass), 0);
		f->immediate_exit = GM_KICKED;
		assert_false(leave_kicked(&f->pass));
		f->pass.kicked = true;
		assert_int_equal(gm_pass_enter(&f->pass), 0);
		assert_int_equal(f->immediate_exit, 0);
		assert_false(leave_kicked(&f->pass));
	}
	/* What the application has set meanwhile is left alone. */
	f->immediate_exit = APP;
	f->pass.kicked = true;
	assert_int_equal(gm_pass_enter(&f->pass), 0);
	assert_int_equal(f->immediate_exit, APP);
	assert_false(leave_kicked(&f->pass));
	assert_int_equal(f->immediate_exit, APP);
}

/* A thread that is inside by it, and nests, keeps what has come for it. */
static void nested_enter_keeps_the_kick(void **state)
{
	struct fix *f = *state;

	assert_int_equal(gm_pass_enter(&f->pass), 0);
	f->immediate_exit = GM_KICKED;
	f->pass.kicked = true;
	assert_int_equal(gm_pass_enter(&f->pass), 0);
	assert_int_equal(f->immediate_exit, GM_KICKED);
	gm_pass_leave(&f->pass);
	assert_int_equal(f->immediate_exit, GM_KICKED);
	assert_true(leave_kicked(&f->pass));
	assert_int_equal(f->immediate_exit, 0);
}

/* G7: the application's signals may have come meanwhile, so KVM_RUN is to return once. */
static void who_has_waited_is_kicked_once(void **state)
{
	struct fix *f = *state;

	for (int i = 0; i < 2; i++) {
		uint8_t application = i ? APP : 0;
		struct insider a;

		f->immediate_exit = application;
		assert_int_equal(shut_now(&f->gate), 0);
		insider_start(&a, &f->gate, &f->pass);
		assert_soon(f->gate.waiting == 1);
		gm_gate_open(&f->gate);
		assert_soon(a.state == INSIDE);
		assert_int_equal(f->immediate_exit, i ? APP : GM_KICKED);
		insider_end(&a);
		assert_true(a.kicked);
		assert_int_equal(f->immediate_exit, application);
		insider_start(&a, &f->gate, &f->pass);
		assert_soon(a.state == INSIDE);
		assert_int_equal(f->immediate_exit, application);
		insider_end(&a);
		assert_false(a.kicked);
	}
	assert_int_equal(signals, 0);
}

/* A pass that has been in and out; then a kick comes that was decided while it was in, and the pass ends.
 * Returns the immediate_exit that is left. */
static uint8_t kick_before_end(struct gm_gate *gate, uint8_t value)
{
	_Atomic(uint8_t) immediate_exit = 0;
	struct gm_pass pass;

	gm_pass_init(&pass, gate, 4, (uint8_t *)&immediate_exit);
	assert_int_equal(gm_pass_enter(&pass), 0);
	assert_false(leave_kicked(&pass));
	immediate_exit = value;
	pass.kicked = true;
	gm_pass_destroy(&pass);
	return immediate_exit;
}

/* Where nobody would take it back any more: the next who runs the vCPU would never get into the guest. */
static void late_kick_ends_with_the_pass(void **state)
{
	struct fix *f = *state;

	assert_int_equal(kick_before_end(&f->gate, GM_KICKED), 0);
	assert_int_equal(kick_before_end(&f->gate, APP), APP);
	assert_int_equal(kick_before_end(&f->gate, 0), 0);
}

/* Only the last hold takes a kick back: until then every KVM_RUN is to return. */
static void nested_leave_keeps_the_kick(void **state)
{
	struct fix *f = *state;
	struct shutter s;

	gm_pass_enter(&f->pass);
	shutter_start(&s, &f->gate, 60000);
	assert_soon(f->immediate_exit == GM_KICKED);
	assert_int_equal(gm_pass_enter(&f->pass), 0);
	assert_false(leave_kicked(&f->pass));
	assert_int_equal(f->immediate_exit, GM_KICKED);
	assert_true(leave_kicked(&f->pass));
	assert_int_equal(f->immediate_exit, 0);
	assert_soon(s.state == INSIDE);
	shutter_end(&s);
}

/*
 * Inside by a hold, a thread may give a pass back, and its kick with it, and pass in anew. KVM_RUN must not
 * run the guest then, although the inhibitor may not look again.
 */
static void kicks_itself_within_a_hold(void **state)
{
	struct fix *f = *state;
	struct shutter s;

	gm_gate_enter(&f->gate);
	gm_pass_enter(&f->pass);
	shutter_start(&s, &f->gate, 60000);
	assert_soon(f->immediate_exit == GM_KICKED && signals == 1);
	for (int i = 0; i < 3; i++) {
		assert_true(leave_kicked(&f->pass));
		assert_int_equal(f->immediate_exit, 0);
		assert_int_equal(gm_pass_enter(&f->pass), 0);
		assert_int_equal(f->immediate_exit, GM_KICKED);
	}
	assert_true(leave_kicked(&f->pass));
	gm_gate_leave(&f->gate);
	assert_soon(s.state == INSIDE);
	shutter_end(&s);
	assert_int_equal(s.kicked, 1);
	assert_int_equal(f->immediate_exit, 0);
}

static void *enter_blocked(void *arg)
{
	struct fix *f = arg;
	static int ret;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	ret = gm_pass_enter(&f->pass);
	if (!ret)
		gm_pass_leave(&f->pass);
	return &ret;
}

static void blocked_signal_is_refused(void **state)
{
	struct fix *f = *state;
	pthread_t thread;
	void *ret;

	pthread_create(&thread, NULL, enter_blocked, f);
	pthread_join(thread, &ret);
	assert_int_equal(*(int *)ret, -EINVAL);
	assert_int_equal(f->pass.busy, 0);
	/* And doesn't hinder others. */
	assert_int_equal(gm_pass_enter(&f->pass), 0);
	gm_pass_leave(&f->pass);
}

/* A real-time signal needs room in a queue; without it the kick is owed, and sent later. */
static void signal_queue_is_full(void **state)
{
	static struct gm_gate gate;
	static struct gm_pass pass;
	_Atomic(uint8_t) immediate_exit = 0;
	struct sigaction act = {.sa_handler = on_kick};
	struct rlimit before, none;
	struct insider a;
	struct shutter s;

	(void)state;
	sigaction(SIGRTMIN, &act, NULL);
	assert_int_equal(gm_gate_init(&gate, SIGRTMIN, false), 0);
	gm_pass_init(&pass, &gate, 1, (uint8_t *)&immediate_exit);
	insider_start(&a, &gate, &pass);
	assert_soon(a.state == INSIDE);
	getrlimit(RLIMIT_SIGPENDING, &before);
	none = before;
	none.rlim_cur = 0;
	setrlimit(RLIMIT_SIGPENDING, &none);
	shutter_start(&s, &gate, 60000);
	assert_soon(immediate_exit == GM_KICKED);
	assert_for_now(signals == 0);
	setrlimit(RLIMIT_SIGPENDING, &before);
	assert_soon(signals == 1);
	assert_for_now(signals == 1);
	insider_end(&a);
	shutter_end(&s);
	assert_int_equal(s.kicked, 1);
	gm_pass_destroy(&pass);
	gm_gate_destroy(&gate);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(reaches_the_thread_inside),
		TEST(spares_who_is_outside),
		TEST(follows_the_pass_to_another_thread),
		TEST(leaves_the_application_its_value),
		TEST(stale_kick_is_taken_back_on_the_way_in),
		TEST(nested_enter_keeps_the_kick),
		TEST(who_has_waited_is_kicked_once),
		TEST(late_kick_ends_with_the_pass),
		TEST(nested_leave_keeps_the_kick),
		TEST(kicks_itself_within_a_hold),
		TEST(blocked_signal_is_refused),
		TEST(signal_queue_is_full),
	};

	return cmocka_run_group_tests_name("kicks", tests, NULL, NULL);
}
