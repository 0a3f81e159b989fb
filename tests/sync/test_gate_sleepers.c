/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vCPU threads that sleep in KVM_RUN, as those of processors that wait for their start, or in hlt: each gate kicks them
 * out, and waits for them. Prints what 63 of them cost a gate that is otherwise empty, against 63 that are outside. The
 * sleep is ppoll(2), which a signal ends, as it ends KVM's.
 */
#define _GNU_SOURCE
#include "gate_actors.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#define SLEEPERS 63
#define ROUNDS 200

static struct sleeper {
	struct gm_pass pass;
	_Atomic(uint8_t) immediate_exit;
	_Atomic(bool) asleep;
	pthread_t thread;
} sleepers[SLEEPERS];

static struct gm_gate gate;
static _Atomic(bool) stop;

static void on_kick(int signo)
{
	(void)signo;
}

/* The signal is let in while it sleeps only, so that none is missed; it has been open when the pass was bound. */
static void *sleep_inside(void *arg)
{
	struct sleeper *s = arg;
	sigset_t kick, none;

	gm_pass_enter(&s->pass);
	gm_pass_leave(&s->pass);
	sigemptyset(&none);
	sigemptyset(&kick);
	sigaddset(&kick, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &kick, NULL);
	while (!stop) {
		gm_pass_enter(&s->pass);
		while (!s->immediate_exit && !stop) {
			s->asleep = true;
			ppoll(NULL, 0, NULL, &none);
		}
		s->asleep = false;
		gm_pass_leave(&s->pass);
	}
	return NULL;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* Of gates that are shut and opened at once: how long it takes until all are out, in us. */
static double median_us(unsigned expect_kicked)
{
	static uint64_t ns[ROUNDS];

	for (int i = 0; i < ROUNDS; i++) {
		uint64_t begin;

		for (unsigned k = 0; k < expect_kicked; k++)
			assert_soon(sleepers[k].asleep);
		begin = gm_now_ns();
		assert_int_equal(shut_now(&gate), expect_kicked);
		ns[i] = gm_now_ns() - begin;
		gm_gate_open(&gate);
	}
	qsort(ns, ROUNDS, sizeof(ns[0]), by_value);
	return (double)ns[ROUNDS / 2] / 1e3;
}

static void cost_of_sleepers(void **state)
{
	struct sigaction act = {.sa_handler = on_kick};
	double outside, inside;

	(void)state;
	sigaction(SIGUSR1, &act, NULL);
	assert_int_equal(gm_gate_init(&gate, SIGUSR1, false), 0);
	for (unsigned i = 0; i < SLEEPERS; i++)
		gm_pass_init(&sleepers[i].pass, &gate, i, (uint8_t *)&sleepers[i].immediate_exit);
	outside = median_us(0);
	for (unsigned i = 0; i < SLEEPERS; i++)
		assert_int_equal(
			pthread_create(&sleepers[i].thread, NULL, sleep_inside, &sleepers[i]), 0);
	inside = median_us(SLEEPERS);
	printf("until all are out: %.1f us with %d vCPUs outside, %.1f us with them asleep "
	       "inside\n",
	       outside, SLEEPERS, inside);
	stop = true;
	for (unsigned i = 0; i < SLEEPERS; i++) {
		pthread_kill(sleepers[i].thread, SIGUSR1);
		pthread_join(sleepers[i].thread, NULL);
		gm_pass_destroy(&sleepers[i].pass);
	}
	gm_gate_destroy(&gate);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cost_of_sleepers),
	};

	return cmocka_run_group_tests_name("sleepers", tests, NULL, NULL);
}
