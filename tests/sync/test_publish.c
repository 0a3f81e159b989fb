/* SPDX-License-Identifier: BSD-3-Clause */
/* Publication: readers see one whole set of views or another, and none that has been freed. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sync/publish.h"

#define READERS 3
#define SPACES 2
#define ROUNDS 200

static struct gm_publish pub;
static _Atomic(bool) stop;
static _Atomic(long) reads, wrong;

/* The roots are never followed here: both hold the number of the version. */
static struct gm_views *make_views(uintptr_t version)
{
	struct gm_views *v = malloc(sizeof(*v) + SPACES * sizeof(v->root[0]));

	v->nr_spaces = SPACES;
	for (int i = 0; i < SPACES; i++)
		v->root[i] = (const struct gm_node *)version;
	return v;
}

static void free_views(struct gm_views *v)
{
	/* A reader that still has it sees the difference. */
	memset(v, 0xff, sizeof(*v));
	v->root[0] = NULL;
	free(v);
}

static void set_and_get(void **state)
{
	struct gm_views *a = make_views(1), *b = make_views(2);

	(void)state;
	atomic_init(&pub.current, NULL);
	assert_null(gm_views_set(&pub, a));
	gm_read_lock();
	assert_ptr_equal(gm_views_get(&pub), a);
	assert_ptr_equal(gm_views_set(&pub, b), a);
	assert_ptr_equal(gm_views_get(&pub), b);
	/* Sections nest. */
	gm_read_lock();
	gm_read_unlock();
	gm_read_unlock();
	gm_synchronize();
	free_views(a);
	assert_ptr_equal(gm_views_set(&pub, NULL), b);
	gm_synchronize();
	free_views(b);
}

static void *read_often(void *arg)
{
	uintptr_t last = 0;

	(void)arg;
	while (!stop) {
		const struct gm_views *v;
		uintptr_t first;

		gm_read_lock();
		v = gm_views_get(&pub);
		first = (uintptr_t)v->root[0];
		if (reads++ % 8 == 0)
			sched_yield();
		if (v->nr_spaces != SPACES || first < last || (uintptr_t)v->root[1] != first)
			wrong++;
		gm_read_unlock();
		last = first;
	}
	return NULL;
}

/* Readers that come and go: nobody registers them. */
static void *read_once(void *arg)
{
	gm_read_lock();
	if (gm_views_get(&pub)->nr_spaces != SPACES)
		wrong++;
	gm_read_unlock();
	return arg;
}

static void readers_and_a_writer(void **state)
{
	pthread_t readers[READERS];

	(void)state;
	gm_views_set(&pub, make_views(1));
	for (int i = 0; i < READERS; i++)
		pthread_create(&readers[i], NULL, read_often, NULL);
	for (uintptr_t version = 2; version < ROUNDS; version++) {
		struct gm_views *old = gm_views_set(&pub, make_views(version));

		if (version % 16 == 0) {
			pthread_t passing;

			pthread_create(&passing, NULL, read_once, NULL);
			pthread_join(passing, NULL);
		}
		gm_synchronize();
		free_views(old);
	}
	stop = true;
	for (int i = 0; i < READERS; i++)
		pthread_join(readers[i], NULL);
	free_views(gm_views_set(&pub, NULL));
	assert_int_equal(wrong, 0);
	assert_true(reads > 0);
}

struct section {
	_Atomic(int) step;
};

static void *stay_inside(void *arg)
{
	struct section *s = arg;

	gm_read_lock();
	s->step = 1;
	while (s->step != 2)
		sched_yield();
	gm_read_unlock();
	return NULL;
}

static void *wait_grace(void *arg)
{
	struct section *s = arg;

	gm_synchronize();
	s->step = 3;
	return NULL;
}

static void grace_waits_for_a_section(void **state)
{
	struct section s = {0};
	struct timespec ten_ms = {.tv_nsec = 10000000};
	pthread_t reader, writer;

	(void)state;
	pthread_create(&reader, NULL, stay_inside, &s);
	while (s.step != 1)
		sched_yield();
	pthread_create(&writer, NULL, wait_grace, &s);
	nanosleep(&ten_ms, NULL);
	assert_int_equal(s.step, 1);
	s.step = 2;
	pthread_join(reader, NULL);
	pthread_join(writer, NULL);
	assert_int_equal(s.step, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(set_and_get),
		cmocka_unit_test(readers_and_a_writer),
		cmocka_unit_test(grace_waits_for_a_section),
	};

	return cmocka_run_group_tests_name("publication", tests, NULL, NULL);
}
