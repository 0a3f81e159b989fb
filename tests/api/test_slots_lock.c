/* SPDX-License-Identifier: BSD-3-Clause */
/* The lock that keeps slot operations apart: handed on in the order of coming, and not waited for beyond a deadline. */
#include "common.h"

#include <pthread.h>

#include "api/impl.h"

enum { WAITERS = 6 };

static atomic_int served;

struct waiter {
	pthread_t thread;
	uint64_t timeout_ms; /* 0: none */
	int err;
	pid_t holder;
	int place;
};

static void *wait_for_lock(void *opaque)
{
	struct waiter *w = opaque;

	if (w->timeout_ms)
		w->err = gm_slots_lock_until(
			vm.map, gm_now_ns() + w->timeout_ms * UINT64_C(1000000), &w->holder);
	else
		gm_slots_lock(vm.map);
	if (!w->err) {
		w->place = atomic_fetch_add(&served, 1);
		gm_slots_unlock(vm.map);
	}
	return NULL;
}

/* How many wait? */
static int queued(void)
{
	struct gm_turn *l = &vm.map->slots_lock;
	int n = 0;

	pthread_mutex_lock(&l->mutex);
	for (struct gm_turn_waiter *w = l->first; w; w = w->next)
		n++;
	pthread_mutex_unlock(&l->mutex);
	return n;
}

static void start(struct waiter *w, uint64_t timeout_ms)
{
	int before = queued();

	*w = (struct waiter){.timeout_ms = timeout_ms, .place = -1};
	ok(pthread_create(&w->thread, NULL, wait_for_lock, w));
	while (queued() == before)
		sleep_ms(1);
}

static int setup(void **state)
{
	(void)state;
	vm_open(&vm, NULL, NULL);
	atomic_store(&served, 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	assert_int_equal(queued(), 0);
	assert_int_equal(vm.map->slots_lock.holder, 0);
	vm_close(&vm);
	return 0;
}

static void in_the_order_of_coming(void **state)
{
	struct waiter w[WAITERS];

	(void)state;
	gm_slots_lock(vm.map);
	for (int i = 0; i < WAITERS; i++)
		start(&w[i], i % 2 ? 60000 : 0);
	gm_slots_unlock(vm.map);
	for (int i = 0; i < WAITERS; i++) {
		ok(pthread_join(w[i].thread, NULL));
		assert_int_equal(w[i].err, 0);
		assert_int_equal(w[i].place, i);
	}
}

/* Whoever gives up leaves the queue as it is without him: at its begin, in the middle, at its end. */
static void who_gives_up(void **state)
{
	struct waiter w[5];

	(void)state;
	gm_slots_lock(vm.map);
	/* None of them may give up before all are there. */
	for (int i = 0; i < 5; i++)
		start(&w[i], i % 2 ? 0 : 1500);
	for (int i = 0; i < 5; i += 2) {
		ok(pthread_join(w[i].thread, NULL));
		assert_int_equal(w[i].err, -ETIMEDOUT);
		assert_int_equal(w[i].holder, thread_id());
	}
	assert_int_equal(queued(), 2);
	start(&w[0], 60000);
	gm_slots_unlock(vm.map);
	for (int i = 1; i < 5; i += 2)
		ok(pthread_join(w[i].thread, NULL));
	ok(pthread_join(w[0].thread, NULL));
	assert_int_equal(w[1].place, 0);
	assert_int_equal(w[3].place, 1);
	assert_int_equal(w[0].place, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(in_the_order_of_coming, setup, teardown),
		cmocka_unit_test_setup_teardown(who_gives_up, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
