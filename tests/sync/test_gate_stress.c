/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The gate under load. Data that nothing but the gate protects is read inside and changed while it is shut;
 * ThreadSanitizer sees any mistake as a race, and without it the two halves of the data differ.
 */
#include "gate_actors.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VCPUS 3
#define INHIBITORS 2
#define HOLDERS 2
#define RUN_MS 700

static bool no_membarrier;
static uint64_t seed;

static struct world {
	struct gm_gate gate;
	pthread_mutex_t shutters; /* one at a time, as the map's lock makes it (G8) */
	struct gm_pass pass[VCPUS];
	_Atomic(uint8_t) immediate_exit[VCPUS];
	_Atomic(bool) stop;
	/* Not atomic, on purpose; volatile, so that each look is one. */
	volatile long half[2];
	unsigned gap_ns; /* between changing one and the other */
	_Atomic(long) changes;
	_Atomic(long) wrong;
	_Atomic(long) errors;
	_Atomic(long) passed;
	_Atomic(uint64_t) seeds;
} w;

static uint64_t new_seed(void)
{
	return atomic_fetch_add(&w.seeds, UINT64_C(0x9e3779b97f4a7c15)) | 1;
}

static uint32_t rnd(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return (uint32_t)(*s >> 16);
}

static void look(void)
{
	if (w.half[0] != w.half[1])
		w.wrong++;
}

static void spin(uint64_t ns)
{
	uint64_t end = gm_now_ns() + ns;

	while (gm_now_ns() < end)
		;
}

/* True if it worked. */
static bool change(uint64_t *s)
{
	unsigned kicked;
	uint64_t start;
	struct gm_stuck stuck;
	int err;

	pthread_mutex_lock(&w.shutters);
	err = gm_gate_shut(&w.gate, in_ms(60000), &kicked, &start, &stuck);
	if (err) {
		pthread_mutex_unlock(&w.shutters);
		w.errors++;
		return false;
	}
	look();
	w.half[0]++;
	if (w.gap_ns)
		spin(w.gap_ns);
	else if (rnd(s) % 4 == 0)
		sched_yield();
	w.half[1]++;
	w.changes++;
	gm_gate_open(&w.gate);
	pthread_mutex_unlock(&w.shutters);
	return true;
}

/* As KVM_RUN: until an exit, or until immediate_exit is set. Were a kick lost, it would not end. */
static void run_guest(_Atomic(uint8_t) *immediate_exit, uint64_t *s)
{
	unsigned steps = rnd(s) % 4 ? rnd(s) % 64 : UINT32_MAX;

	while (steps-- && !*immediate_exit && !w.stop) {
		look();
		if (rnd(s) % 16 == 0)
			sched_yield();
	}
}

static void *vcpu_main(void *arg)
{
	int i = (int)(intptr_t)arg;
	struct gm_pass *p = &w.pass[i];
	uint64_t s = new_seed();

	while (!w.stop) {
		bool outer = rnd(&s) % 8 == 0;

		if (outer && gm_gate_enter(&w.gate))
			w.errors++;
		if (gm_pass_enter(p))
			w.errors++;
		if (outer && rnd(&s) % 2) { /* not in the order in which they were taken */
			gm_gate_leave(&w.gate);
			outer = false;
		}
		run_guest(&w.immediate_exit[i], &s);
		gm_pass_leave(p);
		if (outer) {
			look();
			gm_gate_leave(&w.gate);
		}
		w.passed++;
		if (rnd(&s) % 16 == 0) /* from the exit handler */
			change(&s);
	}
	return NULL;
}

static void *holder_main(void *arg)
{
	uint64_t s = new_seed();

	(void)arg;
	while (!w.stop) {
		unsigned depth = 1 + rnd(&s) % 3;

		for (unsigned i = 0; i < depth; i++) {
			if (gm_gate_enter(&w.gate))
				w.errors++;
			look();
		}
		if (rnd(&s) % 8 == 0)
			sched_yield();
		for (unsigned i = 0; i < depth; i++) {
			look();
			gm_gate_leave(&w.gate);
		}
	}
	return NULL;
}

static void *inhibitor_main(void *arg)
{
	uint64_t s = new_seed();

	(void)arg;
	while (!w.stop && change(&s)) {
		for (unsigned n = rnd(&s) % 4; n; n--)
			sched_yield();
	}
	return NULL;
}

/* vCPUs that come and go. */
static void *churn_main(void *arg)
{
	uint64_t s = new_seed();

	(void)arg;
	while (!w.stop) {
		struct gm_pass *p = aligned_alloc(GM_CACHE_LINE, sizeof(*p));
		_Atomic(uint8_t) immediate_exit = 0;

		gm_pass_init(p, &w.gate, 99, (uint8_t *)&immediate_exit);
		for (unsigned n = rnd(&s) % 8; n; n--) {
			if (gm_pass_enter(p))
				w.errors++;
			run_guest(&immediate_exit, &s);
			gm_pass_leave(p);
		}
		gm_pass_destroy(p);
		free(p);
	}
	return NULL;
}

static int setup(void **state)
{
	(void)state;
	memset(&w, 0, sizeof(w));
	w.seeds = seed;
	assert_int_equal(pthread_mutex_init(&w.shutters, NULL), 0);
	assert_int_equal(gm_gate_init(&w.gate, 0, no_membarrier), 0);
	for (unsigned i = 0; i < VCPUS; i++)
		gm_pass_init(&w.pass[i], &w.gate, i, (uint8_t *)&w.immediate_exit[i]);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	assert_int_equal(w.gate.shut, 0);
	assert_int_equal(w.gate.waiting, 0);
	for (unsigned i = 0; i < VCPUS; i++)
		gm_pass_destroy(&w.pass[i]);
	assert_null(w.gate.passes);
	gm_gate_destroy(&w.gate);
	return 0;
}

static int start(pthread_t *threads, int n, void *(*body)(void *), int count)
{
	for (int i = 0; i < count; i++, n++)
		assert_int_equal(pthread_create(&threads[n], NULL, body, (void *)(intptr_t)i), 0);
	return n;
}

static void stop(pthread_t *threads, int n)
{
	w.stop = true;
	while (n--)
		pthread_join(threads[n], NULL);
}

static void nobody_is_inside(void **state)
{
	pthread_t t[VCPUS + HOLDERS + INHIBITORS + 1];
	int n = 0;

	(void)state;
	n = start(t, n, vcpu_main, VCPUS);
	n = start(t, n, holder_main, HOLDERS);
	n = start(t, n, inhibitor_main, INHIBITORS);
	n = start(t, n, churn_main, 1);
	sleep_ms(RUN_MS);
	stop(t, n);
	printf("%ld changes, %ld passes\n", w.changes, w.passed);
	assert_int_equal(w.errors, 0);
	assert_int_equal(w.wrong, 0);
	assert_int_equal(w.half[0], w.changes);
	assert_true(w.changes > 20 && w.passed > 20);
}

/* Holders that hardly ever leave the gate empty don't starve the one who wants to shut it. */
static void inhibitor_is_not_starved(void **state)
{
	pthread_t t[4];
	uint64_t s = new_seed();
	int n = start(t, 0, holder_main, 4);

	(void)state;
	for (int i = 0; i < 100; i++)
		assert_true(change(&s));
	stop(t, n);
	assert_int_equal(w.wrong, 0);
}

/*
 * The heavy barrier: the processor reads `shut` while its write of `busy` still waits behind others, which
 * here all miss the cache. Without the barrier the inhibitor takes that vCPU for outside.
 */
#define COLD_LINES ((size_t)1 << 18)

static void *late_writer_main(void *arg)
{
	uint64_t s = new_seed();
	_Atomic(char) *cold = arg;

	while (!w.stop) {
		for (int i = 0; i < 24; i++)
			atomic_store_explicit(&cold[rnd(&s) % COLD_LINES * GM_CACHE_LINE], 1,
					      memory_order_relaxed);
		if (gm_pass_enter(&w.pass[0]))
			w.errors++;
		for (int i = 0; i < 1000; i++)
			look();
		gm_pass_leave(&w.pass[0]);
		w.passed++;
	}
	return NULL;
}

static void writes_in_flight(void **state)
{
	char *cold = calloc(COLD_LINES, GM_CACHE_LINE);
	uint64_t s = new_seed(), end = in_ms(RUN_MS);
	pthread_t t;

	(void)state;
	assert_non_null(cold);
	w.gap_ns = 4000;
	pthread_create(&t, NULL, late_writer_main, cold);
	while (gm_now_ns() < end) {
		assert_true(change(&s));
		spin(rnd(&s) % 8192);
	}
	stop(&t, 1);
	free(cold);
	printf("%ld changes, %ld passes\n", w.changes, w.passed);
	assert_int_equal(w.wrong, 0);
}

static void *until_kicked_main(void *arg)
{
	(void)arg;
	while (!w.stop) {
		if (gm_pass_enter(&w.pass[0]))
			w.errors++;
		w.passed++;
		while (!w.immediate_exit[0] && !w.stop)
			sched_yield();
		gm_pass_leave(&w.pass[0]);
	}
	return NULL;
}

/*
 * Nor does a stream of commits starve the vCPUs: who had to wait gets in before the gate is shut again, if he
 * wakes in time, which depends on how busy the machine is.
 */
static void vcpus_are_not_starved(void **state)
{
	enum { TIMES = 100 };
	pthread_t t;
	int got_in = 0;

	(void)state;
	start(&t, 0, until_kicked_main, 1);
	shut_now(&w.gate);
	for (int i = 0; i < TIMES; i++) {
		long before = w.passed;

		assert_soon(w.gate.waiting == 1);
		gm_gate_open(&w.gate);
		shut_now(&w.gate);
		got_in += w.passed != before;
	}
	w.stop = true;
	gm_gate_open(&w.gate);
	pthread_join(t, NULL);
	printf("in before the next one: %d of %d\n", got_in, TIMES);
	assert_true(got_in >= TIMES / 5);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(nobody_is_inside),
		TEST(writes_in_flight),
		TEST(inhibitor_is_not_starved),
		TEST(vcpus_are_not_starved),
	};
	const char *env = getenv("GPAMAP_TEST_SEED");
	int failed;

	seed = env ? strtoull(env, NULL, 0) : gm_now_ns();
	printf("GPAMAP_TEST_SEED=%llu\n", (unsigned long long)seed);
	failed = cmocka_run_group_tests_name("load, membarrier", tests, NULL, NULL);
	no_membarrier = true;
	return failed + cmocka_run_group_tests_name("load, full fences", tests, NULL, NULL);
}
