/* SPDX-License-Identifier: BSD-3-Clause */
/* The run wrapper, on a real vCPU that never exits by itself: it counts in memory. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

#include "../backend/real_vm.h"
#include "ops/vcpu.h"

#define KICK SIGUSR1
#define APP_SIGNAL SIGUSR2
#define MS UINT64_C(1000000)

static bool no_membarrier;

struct fix {
	struct real_vm vm;
	struct gm_backend *b;
	struct gm_engine engine;
	struct gm_gate gate;
	struct gpamap_vcpu *vcpu;
	pthread_t thread;
	_Atomic(pthread_t) running;
	_Atomic(int) ended; /* what run returned, or 1: not yet */
};

static void sleep_us(long us)
{
	struct timespec t = {.tv_nsec = us * 1000};

	nanosleep(&t, NULL);
}

#define assert_soon(cond)                                                 \
	do {                                                              \
		for (int waited = 0; !(cond) && waited < 50000; waited++) \
			sleep_us(200);                                    \
		assert_true(cond);                                        \
	} while (0)

static _Atomic(bool) app_signalled;

static void on_app_signal(int signo)
{
	(void)signo;
	app_signalled = true;
}

/* The guest's counter; the guest is the only one to write it. */
static uint32_t count(struct fix *f)
{
	return atomic_load((_Atomic(uint32_t) *)(f->vm.mem + DATA));
}

#ifdef __x86_64__
/* again: incl DATA; jmp again */
static const uint8_t code[] = {0x66, 0xff, 0x06, DATA & 0xff, DATA >> 8, 0xeb, 0xf9};
#elif defined(__aarch64__)
/* again: ldr w1, [x0]; add w1, w1, #1; str w1, [x0]; b again */
static const uint32_t code[] = {0xb9400001, 0x11000421, 0xb9000001, 0x17fffffd};
#else
static const uint8_t code[] = {0};
#define NO_GUEST "no guest code for this processor"
#endif

static void setup_vm(struct fix *f)
{
	struct gm_op op = {.kind = GM_OP_CREATE, .to = {.gpa = {0, MEM_SIZE - 1}}};

	assert_true(real_vm_open(&f->vm));
	assert_int_equal(gm_kvm_new(f->vm.vm, &gm_alloc_default, NULL, &f->b), 0);
	op.to.hva = (uintptr_t)f->vm.mem;
	assert_int_equal(f->b->ops->slot(f->b, &op), 0);
	assert_true(real_vm_add_vcpu(&f->vm, code, sizeof(code)));
	assert_int_equal(gm_kvm_engine(f->b, f->vm.vcpu, f->vm.run, &f->engine), 0);
}

static int setup(void **state)
{
	static struct fix f;
	struct sigaction app = {.sa_handler = on_app_signal};

	sigaction(APP_SIGNAL, &app, NULL);
	signal(KICK, SIG_DFL);
	assert_int_equal(gpamap_kick_install(KICK), 0);
	setup_vm(&f);
	assert_int_equal(gm_gate_init(&f.gate, KICK, no_membarrier), 0);
	assert_int_equal(gm_vcpu_new(NULL, &f.gate, &f.engine, 4, &gm_alloc_default, NULL, &f.vcpu),
			 0);
	assert_int_equal((uintptr_t)f.vcpu % GM_CACHE_LINE, 0);
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;

	assert_int_equal(f->gate.shut, 0);
	gm_vcpu_free(f->vcpu);
	assert_null(f->gate.passes);
	gm_gate_destroy(&f->gate);
	f->b->ops->destroy(f->b);
	real_vm_close(&f->vm);
	return 0;
}

/* As a program's run loop: -EINTR without anything of its own is a kick, and the guest goes on. */
static void *run_main(void *arg)
{
	struct fix *f = arg;
	int err;

	do {
		err = gpamap_vcpu_run(f->vcpu);
		if (err == -EINTR && f->vm.run->exit_reason != KVM_EXIT_INTR)
			err = -EPROTO;
	} while (err == -EINTR && atomic_load(f->vcpu->pass.immediate_exit) != 1 && !app_signalled);
	f->ended = err;
	return NULL;
}

static void start(struct fix *f)
{
	uint32_t before = count(f);

	f->ended = 1;
	app_signalled = false;
	assert_int_equal(pthread_create(&f->thread, NULL, run_main, f), 0);
	assert_soon(count(f) != before);
}

/* As a program does it: immediate_exit, then a signal. */
static void stop(struct fix *f)
{
	atomic_store(f->vcpu->pass.immediate_exit, 1);
	pthread_kill(f->thread, APP_SIGNAL);
	pthread_join(f->thread, NULL);
	assert_int_equal(f->ended, -EINTR);
	/* The program's, and so still there. */
	assert_int_equal(f->vm.run->immediate_exit, 1);
	f->vm.run->immediate_exit = 0;
}

static int shut(struct fix *f, unsigned *kicked)
{
	struct gm_stuck stuck;
	uint64_t begun;

	return gm_gate_shut(&f->gate, gm_now_ns() + 10000 * MS, kicked, &begun, &stuck);
}

static void shut_while_it_runs(void **state)
{
	struct fix *f = *state;
	unsigned kicks = 0;

	start(f);
	for (int i = 0; i < 400; i++) {
		uint32_t before;
		unsigned kicked;

		assert_int_equal(shut(f, &kicked), 0);
		kicks += kicked;
		before = count(f);
		if (i % 8 == 0)
			sleep_us(300);
		assert_int_equal(count(f), before);
		gm_gate_open(&f->gate);
		/* Sometimes at once again: then it is on its way in. */
		if (i % 4)
			assert_soon(count(f) != before);
	}
	assert_int_equal(f->ended, 1);
	printf("%u kicks\n", kicks);
	assert_true(kicks >= 300);
	stop(f);
}

static void application_may_interrupt(void **state)
{
	struct fix *f = *state;

	f->vm.run->immediate_exit = 1;
	assert_int_equal(gpamap_vcpu_run(f->vcpu), -EINTR);
	assert_int_equal(f->vm.run->immediate_exit, 1);
	f->vm.run->immediate_exit = 0;

	/* A signal alone. */
	start(f);
	pthread_kill(f->thread, APP_SIGNAL);
	pthread_join(f->thread, NULL);
	assert_int_equal(f->ended, -EINTR);

	/* While kicks come, too: the program's is not taken for one of them. */
	for (int i = 0; i < 50; i++) {
		unsigned kicked;

		start(f);
		assert_int_equal(shut(f, &kicked), 0);
		if (i % 2) {
			gm_gate_open(&f->gate);
			stop(f);
			continue;
		}
		atomic_store(f->vcpu->pass.immediate_exit, 1);
		gm_gate_open(&f->gate);
		pthread_join(f->thread, NULL);
		assert_int_equal(f->ended, -EINTR);
		assert_int_equal(f->vm.run->immediate_exit, 1);
		f->vm.run->immediate_exit = 0;
	}
}

/* The program wants it back, and a kick brings it out: it is told at once, not when the gate opens. */
static void application_before_the_gate(void **state)
{
	struct fix *f = *state;
	unsigned kicked;

	start(f);
	atomic_store(f->vcpu->pass.immediate_exit, 1);
	assert_int_equal(shut(f, &kicked), 0);
	assert_int_equal(kicked, 1);
	assert_soon(f->ended == -EINTR);
	gm_gate_open(&f->gate);
	pthread_join(f->thread, NULL);
	assert_int_equal(f->vm.run->immediate_exit, 1);
	f->vm.run->immediate_exit = 0;
}

/* Who is inside by another hold could not come out for a commit. */
static void refused_within_an_outer_hold(void **state)
{
	struct fix *f = *state;
	uint32_t before = count(f);
	unsigned kicked;

	assert_int_equal(gpamap_vcpu_enter(f->vcpu), 0);
	assert_int_equal(gpamap_vcpu_run(f->vcpu), -EDEADLK);
	gpamap_vcpu_leave(f->vcpu);
	assert_int_equal(gm_gate_enter(&f->gate), 0);
	assert_int_equal(gpamap_vcpu_run(f->vcpu), -EDEADLK);
	gm_gate_leave(&f->gate);
	assert_int_equal(count(f), before);
	assert_int_equal(shut(f, &kicked), 0);
	assert_int_equal(kicked, 0);
	gm_gate_open(&f->gate);
	start(f);
	stop(f);
}

/* A loop of the program's own: KVM_RUN by its own hand, between enter and leave. */
static void *own_loop(void *arg)
{
	struct fix *f = arg;
	int err = 0;

	while (atomic_load(f->vcpu->pass.immediate_exit) != 1) {
		err = gpamap_vcpu_enter(f->vcpu);
		if (err)
			break;
		err = ioctl(f->vm.vcpu, KVM_RUN, 0) ? -errno : 0;
		gpamap_vcpu_leave(f->vcpu);
		if (err != -EINTR)
			break;
	}
	f->ended = err;
	return NULL;
}

static void own_run_loop(void **state)
{
	struct fix *f = *state;
	uint32_t before = count(f);

	f->ended = 1;
	assert_int_equal(pthread_create(&f->thread, NULL, own_loop, f), 0);
	assert_soon(count(f) != before);
	for (int i = 0; i < 100; i++) {
		unsigned kicked;

		assert_int_equal(shut(f, &kicked), 0);
		before = count(f);
		assert_int_equal(count(f), before);
		gm_gate_open(&f->gate);
		assert_soon(count(f) != before);
	}
	assert_int_equal(f->ended, 1);
	stop(f);
}

static void *run_blocked(void *arg)
{
	struct fix *f = arg;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, KICK);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	f->ended = gpamap_vcpu_run(f->vcpu);
	return NULL;
}

static void blocked_signal_is_refused(void **state)
{
	struct fix *f = *state;

	assert_int_equal(pthread_create(&f->thread, NULL, run_blocked, f), 0);
	pthread_join(f->thread, NULL);
	assert_int_equal(f->ended, -EINVAL);
	start(f);
	stop(f);
}

/* A thread that attaches with the signal blocked will hardly run the vCPU without. */
static void attach_with_blocked_signal_is_refused(void **state)
{
	struct fix *f = *state;
	struct gpamap_vcpu *vcpu = NULL;
	struct gm_msg msg = {""};
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, KICK);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	assert_int_equal(gm_vcpu_new(NULL, &f->gate, &f->engine, 5, &gm_alloc_default, &msg, &vcpu),
			 -EINVAL);
	assert_non_null(strstr(msg.text, "blocked in this thread"));
	assert_null(vcpu);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	assert_int_equal(gm_vcpu_new(NULL, &f->gate, &f->engine, 5, &gm_alloc_default, &msg, &vcpu),
			 0);
	gm_vcpu_free(vcpu);
}

static void broken_gate(void **state)
{
	struct fix *f = *state;
	unsigned kicked;

	start(f);
	assert_int_equal(shut(f, &kicked), 0);
	gm_gate_break(&f->gate);
	pthread_join(f->thread, NULL);
	assert_int_equal(f->ended, -ENOTRECOVERABLE);
	assert_int_equal(gpamap_vcpu_run(f->vcpu), -ENOTRECOVERABLE);
	assert_int_equal(gpamap_vcpu_enter(f->vcpu), -ENOTRECOVERABLE);
	assert_int_equal(shut(f, &kicked), 0);
	gm_gate_open(&f->gate);
	start(f);
	stop(f);
}

static void *shut_often(void *arg)
{
	struct fix *f = arg;

	while (f->ended == 1) {
		unsigned kicked;

		if (shut(f, &kicked))
			f->ended = -ETIMEDOUT;
		else
			gm_gate_open(&f->gate);
	}
	return NULL;
}

/* vCPUs come, run and go while the gate is shut and opened. */
static void detach_under_kicks(void **state)
{
	struct fix *f = *state;
	pthread_t shutter;

	gm_vcpu_free(f->vcpu);
	f->ended = 1;
	assert_int_equal(pthread_create(&shutter, NULL, shut_often, f), 0);
	for (int i = 0; i < 200; i++) {
		assert_int_equal(gm_vcpu_new(NULL, &f->gate, &f->engine, 4, &gm_alloc_default, NULL,
					     &f->vcpu),
				 0);
		f->vm.run->immediate_exit = 1;
		assert_int_equal(gpamap_vcpu_run(f->vcpu), -EINTR);
		gm_vcpu_free(f->vcpu);
		f->vm.run->immediate_exit = 0;
	}
	assert_int_equal(f->ended, 1);
	f->ended = 0;
	pthread_join(shutter, NULL);
	assert_int_equal(
		gm_vcpu_new(NULL, &f->gate, &f->engine, 4, &gm_alloc_default, NULL, &f->vcpu), 0);
}

static void *no_memory(void *opaque, size_t size)
{
	(void)opaque;
	(void)size;
	return NULL;
}

static void refuse(struct fix *f, int signo, const struct gm_alloc *alloc, int err)
{
	static struct gm_gate gate;
	struct gpamap_vcpu *vcpu = NULL;
	struct gm_msg msg = {""};

	assert_int_equal(gm_gate_init(&gate, signo, false), 0);
	assert_int_equal(gm_vcpu_new(NULL, &gate, &f->engine, 1, alloc, &msg, &vcpu), err);
	assert_string_not_equal(msg.text, "");
	assert_null(vcpu);
	assert_null(gate.passes);
	gm_gate_destroy(&gate);
}

static void new_refuses(void **state)
{
	struct gm_alloc none = {.alloc = no_memory, .free = gm_alloc_default.free};
	struct sigaction restarts = {.sa_handler = on_app_signal, .sa_flags = SA_RESTART};
	struct fix *f = *state;

	refuse(f, 0, &gm_alloc_default, -EINVAL);
	refuse(f, 10000, &gm_alloc_default, -EINVAL);
	refuse(f, SIGWINCH, &gm_alloc_default, -EINVAL);
	signal(SIGWINCH, SIG_IGN);
	refuse(f, SIGWINCH, &gm_alloc_default, -EINVAL);
	sigaction(SIGWINCH, &restarts, NULL);
	refuse(f, SIGWINCH, &gm_alloc_default, -EINVAL);
	signal(SIGWINCH, SIG_DFL);
	refuse(f, KICK, &none, -ENOMEM);
	gm_vcpu_free(NULL);
}

static void install(void **state)
{
	struct sigaction act;

	(void)state;
	assert_int_equal(gpamap_kick_install(0), -EINVAL);
	assert_int_equal(gpamap_kick_install(10000), -EINVAL);
	assert_int_equal(gpamap_kick_install(SIGKILL), -EINVAL);
	assert_int_equal(gpamap_kick_install(KICK), -EBUSY);
	signal(SIGWINCH, SIG_IGN);
	assert_int_equal(gpamap_kick_install(SIGWINCH), 0);
	assert_int_equal(sigaction(SIGWINCH, NULL, &act), 0);
	assert_true(act.sa_handler != SIG_DFL && act.sa_handler != SIG_IGN);
	assert_int_equal(act.sa_flags & SA_RESTART, 0);
	assert_int_equal(raise(SIGWINCH), 0);
	signal(SIGWINCH, SIG_DFL);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(shut_while_it_runs),
		TEST(application_may_interrupt),
		TEST(application_before_the_gate),
		TEST(refused_within_an_outer_hold),
		TEST(own_run_loop),
		TEST(blocked_signal_is_refused),
		TEST(attach_with_blocked_signal_is_refused),
		TEST(broken_gate),
		TEST(detach_under_kicks),
		TEST(new_refuses),
		TEST(install),
	};
	struct real_vm probe;
	int failed;

#ifdef NO_GUEST
	puts("SKIP: " NO_GUEST);
	return 77;
#endif
	if (!real_vm_open(&probe))
		return 77;
	real_vm_close(&probe);
	failed = cmocka_run_group_tests_name("vcpu, membarrier", tests, NULL, NULL);
	no_membarrier = true;
	return failed + cmocka_run_group_tests_name("vcpu, full fences", tests, NULL, NULL);
}
