/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * membarrier(2) works when the gate is made, and is forbidden later, to the thread that shuts the gate. G1
 * must hold all the same. A seccomp filter forbids it.
 */
#include "gate_actors.h"

#include <endian.h>
#include <linux/filter.h>
#include <linux/membarrier.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <sys/prctl.h>

static bool forbid_membarrier(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_membarrier, 0, 3),
		/* The lower half of the first argument. */
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args) +
							   (__BYTE_ORDER == __BIG_ENDIAN ? 4 : 0)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = {.len = sizeof(code) / sizeof(code[0]), .filter = code};

	return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
	       !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) &&
	       syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == -1;
}

struct fix {
	struct gm_gate gate;
	struct gm_pass pass;
	_Atomic(uint8_t) immediate_exit;
	_Atomic(bool) stop;
	_Atomic(bool) in_guest; /* inside, and not kicked when it came in */
	long plain;		/* guarded by the gate alone */
};

static int setup(void **state)
{
	static struct fix f;

	f.stop = false;
	f.in_guest = false;
	assert_int_equal(gm_gate_init(&f.gate, 0, false), 0);
	assert_true(f.gate.membarrier);
	gm_pass_init(&f.pass, &f.gate, 5, (uint8_t *)&f.immediate_exit);
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;

	gm_pass_destroy(&f->pass);
	gm_gate_destroy(&f->gate);
	return 0;
}

/* Nobody else has a pass, so nobody needs the barrier. */
static void not_needed_alone(void **state)
{
	struct fix *f = *state;

	gm_pass_enter(&f->pass);
	gm_pass_leave(&f->pass);
	shut_now(&f->gate);
	gm_gate_open(&f->gate);
	assert_true(f->gate.membarrier);
}

static void *pass_often(void *arg)
{
	struct fix *f = arg;

	while (!f->stop) {
		gm_pass_enter(&f->pass);
		while (!f->immediate_exit && !f->stop) {
			f->in_guest = true;
			f->plain++;
		}
		f->in_guest = false;
		gm_pass_leave(&f->pass);
	}
	return NULL;
}

static void running_vcpus_show_that_they_know(void **state)
{
	struct fix *f = *state;
	pthread_t thread;

	pthread_create(&thread, NULL, pass_often, f);
	for (int i = 1; i <= 50; i++) {
		/* In, and doesn't leave but for a kick. When it was kicked before it may come in once for nothing (G7). */
		assert_soon(f->in_guest);
		assert_int_equal(shut_now(&f->gate), 1);
		assert_false(f->in_guest);
		f->plain++;
		gm_gate_open(&f->gate);
	}
	assert_false(f->gate.membarrier);
	assert_true(f->pass.fenced);
	f->stop = true;
	pthread_join(thread, NULL);
}

struct idler {
	struct fix *f;
	sem_t again;
	_Atomic(int) rounds;
	_Atomic(pid_t) tid;
};

static void *pass_when_told(void *arg)
{
	struct idler *idler = arg;

	idler->tid = (pid_t)syscall(SYS_gettid);
	for (int i = 0; i < 2; i++) {
		gm_pass_enter(&idler->f->pass);
		gm_pass_leave(&idler->f->pass);
		idler->rounds++;
		wait_sem(&idler->again);
	}
	return NULL;
}

static void idle_vcpu_is_not_believed(void **state)
{
	struct fix *f = *state;
	struct idler idler = {.f = f};
	struct gm_stuck stuck;
	pthread_t thread;
	unsigned kicked;
	uint64_t start;

	sem_init(&idler.again, 0, 0);
	pthread_create(&thread, NULL, pass_when_told, &idler);
	assert_soon(idler.rounds == 1);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(gm_gate_shut(&f->gate, in_ms(20), &kicked, &start, &stuck),
				 -ETIMEDOUT);
		assert_true(stuck.is_vcpu);
		assert_int_equal(stuck.id, 5);
		assert_int_equal(stuck.tid, idler.tid);
		assert_int_equal(f->gate.shut, 0);
	}
	sem_post(&idler.again);
	assert_soon(idler.rounds == 2);
	shut_now(&f->gate);
	gm_gate_open(&f->gate);
	sem_post(&idler.again);
	pthread_join(thread, NULL);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(not_needed_alone),
		TEST(running_vcpus_show_that_they_know),
		TEST(idle_vcpu_is_not_believed),
	};

	if (syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0)) {
		puts("SKIP: no membarrier(2) here");
		return 77;
	}
	if (!forbid_membarrier()) {
		puts("SKIP: no seccomp filters here");
		return 77;
	}
	return cmocka_run_group_tests_name("heavy barrier", tests, NULL, NULL);
}
