/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Signals: a kick signal that is blocked where it must not be; signals of the application's own on a vCPU's thread,
 * and immediate_exit used by the application itself, under a stream of commits that use both, too (P6).
 */
#include "vm.h"

#include <sys/ioctl.h>

#define FLIPPED PAGE_TEST
#define WATCHED (PAGE_TEST + 8)
#define REQUESTS 60
#define SHORT_REQUESTS 200

static struct vm vm;
static struct vcpu *vcpu;
static atomic_ulong handled; /* signals of the application's own */
static atomic_ulong told;    /* of them, known to the run loop */
static _Thread_local struct vcpu *running_here;

static int setup(void **state)
{
	(void)state;
	vm_open(&vm, 0);
	atomic_store(&handled, 0);
	atomic_store(&told, 0);
	return 0;
}

static int teardown(void **state)
{
	sigset_t kick;

	(void)state;
	sigemptyset(&kick);
	sigaddset(&kick, KICK_SIGNAL);
	pthread_sigmask(SIG_UNBLOCK, &kick, NULL);
	vm_close(&vm);
	return 0;
}

/* ------------------------------------------------------------------------- the application --- */

static uint8_t immediate_exit(const struct vcpu *v)
{
	return __atomic_load_n(&v->run->immediate_exit, __ATOMIC_SEQ_CST);
}

static void set_immediate_exit(struct vcpu *v, uint8_t value)
{
	__atomic_store_n(&v->run->immediate_exit, value, __ATOMIC_SEQ_CST);
}

/* As the header asks for: a signal that must not be missed sets immediate_exit. */
static void app_handler(int signo)
{
	(void)signo;
	if (running_here)
		set_immediate_exit(running_here, 1);
	atomic_fetch_add(&handled, 1);
}

static int run_wrapper(struct vcpu *v)
{
	running_here = v;
	return gpamap_vcpu_run(v->gate);
}

/* A run loop of the application's own: kicks of the library's are nothing to it. */
static int run_own_loop(struct vcpu *v)
{
	running_here = v;
	for (;;) {
		int err = gpamap_vcpu_enter(v->gate);

		if (err)
			return err;
		err = ioctl(v->fd, KVM_RUN, 0) < 0 ? -errno : 0;
		gpamap_vcpu_leave(v->gate);
		if (err != -EINTR || immediate_exit(v) == 1)
			return err;
	}
}

static void start(int (*once)(struct vcpu *), void (*on_eintr)(struct vcpu *), enum mode mode)
{
	vcpu = vcpu_new(&vm, 0);
	vcpu->once = once;
	vcpu->on_eintr = on_eintr;
	vcpu_set(vcpu, mode, LOOP, WATCHED, false);
	vcpu_start(vcpu);
	vcpu_await(vcpu, 1);
}

static void send_signal(struct vcpu *v)
{
	ok(pthread_kill(v->thread, APP_SIGNAL));
}

static void set_flag_only(struct vcpu *v)
{
	set_immediate_exit(v, 1);
}

/* Each request ends a run with immediate_exit as it was set, once; and commits go on all the time. */
static void requests(int (*once)(struct vcpu *), enum mode mode, void (*ask)(struct vcpu *))
{
	start(once, NULL, mode);
	stream_start(&vm, FLIPPED);
	step("requests of the application under a stream of commits");
	for (unsigned long i = 1; i <= REQUESTS; i++) {
		ask(vcpu);
		wait_until(atomic_load(&vcpu->eintrs) >= i || atomic_load(&vcpu->err) ||
			   atomic_load(&vcpu->bad_exit));
		assert_int_equal(atomic_load(&vcpu->eintrs), i);
	}
	assert_int_equal(atomic_load(&handled), ask == send_signal ? REQUESTS : 0);
	step("kicks after the last request");
	stream_await(&vm, 20);
	stream_stop(&vm);
	assert_true(vm_stats(&vm).kicks > 0);
	assert_int_equal(atomic_load(&vcpu->eintrs), REQUESTS);
	vcpu_await(vcpu, 3);
	vcpu_stop(vcpu);
}

static void own_signals(void **state)
{
	(void)state;
	requests(run_wrapper, USER, send_signal);
}

static void own_signals_in_supervisor_code(void **state)
{
	(void)state;
	requests(run_wrapper, SUPERVISOR, send_signal);
}

static void own_signals_in_own_loop(void **state)
{
	(void)state;
	requests(run_own_loop, USER, send_signal);
}

/* No signal of the application's: it's the next kick that brings the vCPU out, and the request is still there. */
static void flag_set_by_another_thread(void **state)
{
	(void)state;
	requests(run_wrapper, USER, set_flag_only);
}

static void flag_set_by_another_thread_in_own_loop(void **state)
{
	(void)state;
	requests(run_own_loop, USER, set_flag_only);
}

/* A handler that leaves immediate_exit alone: the loop looks at what it has counted, after each -EINTR. */
static int run_and_look(struct vcpu *v)
{
	int err = gpamap_vcpu_run(v->gate);

	if (err != -EINTR)
		return err;
	if (v->run->exit_reason != KVM_EXIT_INTR)
		return -EPROTO;
	atomic_store(&told, atomic_load(&handled));
	return err;
}

/* None is taken for a kick that comes at the same time, nor lost while the thread waits at the gate. */
static void signals_without_a_request(void **state)
{
	(void)state;
	start(run_and_look, NULL, USER);
	stream_start(&vm, FLIPPED);
	step("signals whose handler only counts, under a stream of commits");
	for (unsigned long i = 1; i <= REQUESTS; i++) {
		send_signal(vcpu);
		wait_until(atomic_load(&told) >= i || atomic_load(&vcpu->err) ||
			   atomic_load(&vcpu->bad_exit));
		assert_int_equal(atomic_load(&told), i);
	}
	stream_await(&vm, 20);
	stream_stop(&vm);
	vcpu_await(vcpu, 3);
	vcpu_stop(vcpu);
}

/* Set before the run, by the thread itself. Between two such runs the guest rings once. */
static void flag_set_before_run(void **state)
{
	(void)state;
	vcpu = vcpu_new(&vm, 0);
	vcpu_set(vcpu, USER, LOOP, WATCHED, true);
	stream_start(&vm, FLIPPED);
	step("runs with immediate_exit set, under a stream of commits");
	for (unsigned long i = 1; i <= SHORT_REQUESTS; i++) {
		set_immediate_exit(vcpu, 1);
		assert_int_equal(gpamap_vcpu_run(vcpu->gate), -EINTR);
		assert_int_equal(immediate_exit(vcpu), 1);
		set_immediate_exit(vcpu, 0);
		while (atomic_load(&vcpu->rings) < i)
			assert_true(vcpu_step(vcpu));
		assert_int_equal(atomic_load(&vcpu->rings), i);
	}
	stream_await(&vm, 3);
	stream_stop(&vm);
}

/* ------------------------------------------------------------------------ a blocked kick --- */

static void block_kick(int how)
{
	sigset_t kick;

	sigemptyset(&kick);
	sigaddset(&kick, KICK_SIGNAL);
	ok(pthread_sigmask(how, &kick, NULL));
}

static void blocked_at_attach(void **state)
{
	struct gpamap_vcpu *untouched = (void *)&vm;
	char message[256];

	(void)state;
	vcpu = vcpu_new_raw(&vm, 0);
	block_kick(SIG_BLOCK);
	vcpu->gate = untouched;
	assert_int_equal(gpamap_vcpu_attach(vm.map, vcpu->fd, vcpu->run, 0, &vcpu->gate), -EINVAL);
	assert_ptr_equal(vcpu->gate, untouched);
	vcpu->gate = NULL;
	gpamap_last_message(vm.map, message, sizeof(message));
	assert_non_null(strstr(message, "blocked"));
	block_kick(SIG_UNBLOCK);
	ok(gpamap_vcpu_attach(vm.map, vcpu->fd, vcpu->run, 0, &vcpu->gate));
}

static int block_and_run(struct vcpu *v)
{
	block_kick(SIG_BLOCK);
	return gpamap_vcpu_run(v->gate);
}

/* Attached by a thread that has it open, run by one that has not. */
static void blocked_at_first_run(void **state)
{
	(void)state;
	vcpu = vcpu_new(&vm, 0);
	vcpu->once = block_and_run;
	vcpu_set(vcpu, USER, LOOP, WATCHED, false);
	vcpu_start(vcpu);
	step("waiting for the run to be refused");
	wait_until(atomic_load(&vcpu->err) || atomic_load(&vcpu->bad_exit));
	assert_int_equal(atomic_load(&vcpu->err), -EINVAL);
	assert_int_equal(vcpu_count(vcpu), 0);
	/* And commits don't wait for it. */
	ok(vm_flip_page(&vm, FLIPPED, NULL));
}

static void block_then_unblock(struct vcpu *v)
{
	block_kick(atomic_load(&v->eintrs) == 0 ? SIG_BLOCK : SIG_UNBLOCK);
}

/* Too late to be refused: but a commit does not hang for it, and names it. */
static void blocked_later(void **state)
{
	const struct gpamap_commit_options soon = {.timeout_ms = SHORT_MS};
	struct gpamap_stuck_info info;
	struct gpamap_txn *txn;

	(void)state;
	start(run_wrapper, block_then_unblock, USER);
	step("letting the vCPU's thread block its kicks");
	send_signal(vcpu);
	wait_until(atomic_load(&vcpu->eintrs) == 1);
	vcpu_await(vcpu, 3);
	txn = vm_begin(&vm);
	vm_flip(&vm, txn, FLIPPED);
	step("committing with a short deadline");
	assert_int_equal(gpamap_commit(txn, &soon, NULL), -ETIMEDOUT);
	ok(gpamap_stuck(txn, &info));
	assert_true(info.is_vcpu);
	assert_int_equal(info.tid, atomic_load(&vcpu->tid));
	vcpu_await(vcpu, 3);
	step("letting it take its kicks again");
	send_signal(vcpu);
	wait_until(atomic_load(&vcpu->eintrs) == 2);
	vm_commit(txn, 0, NULL);
	vcpu_await(vcpu, 3);
	vcpu_stop(vcpu);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(own_signals, setup, teardown),
		cmocka_unit_test_setup_teardown(own_signals_in_supervisor_code, setup, teardown),
		cmocka_unit_test_setup_teardown(own_signals_in_own_loop, setup, teardown),
		cmocka_unit_test_setup_teardown(flag_set_by_another_thread, setup, teardown),
		cmocka_unit_test_setup_teardown(flag_set_by_another_thread_in_own_loop, setup,
						teardown),
		cmocka_unit_test_setup_teardown(signals_without_a_request, setup, teardown),
		cmocka_unit_test_setup_teardown(flag_set_before_run, setup, teardown),
		cmocka_unit_test_setup_teardown(blocked_at_attach, setup, teardown),
		cmocka_unit_test_setup_teardown(blocked_at_first_run, setup, teardown),
		cmocka_unit_test_setup_teardown(blocked_later, setup, teardown),
	};
	struct sigaction act = {.sa_handler = app_handler};

	if (!vm_available())
		return 77;
	if (sigaction(APP_SIGNAL, &act, NULL))
		return 1;
	watchdog(100);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
