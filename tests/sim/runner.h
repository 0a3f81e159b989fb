/* SPDX-License-Identifier: BSD-3-Clause */
/* For tests of the simulated VM in which guests run on threads while slots change. */
#ifndef TEST_SIM_RUNNER_H
#define TEST_SIM_RUNNER_H

#include "guest.h"

#include <pthread.h>

#define LOG GPAMAP_SIM_LOG_DIRTY
#define GPA 16 /* in pages: where the slot is */
#define PAGES 8

enum what { DATA, FETCH, WALK };

/* A vCPU on a thread. */
struct runner {
	struct gpamap_sim *sim;
	struct gpamap_sim_vcpu *vcpu;
	pthread_t thread;
	enum what what;
	uint64_t gpa; /* in bytes, of what it accesses */
	uint64_t value;
	bool stored; /* @value is in memory: load it next */
	_Atomic(bool) stop;
	_Atomic(bool) hold;
	_Atomic(bool) held;
	_Atomic(uint64_t) steps;
	_Atomic(uint64_t) mmio;
	_Atomic(uint64_t) internal;
	_Atomic(uint64_t) shutdown;
	_Atomic(uint64_t) wrong; /* loads that did not give what was stored */
	_Atomic(uint64_t) errors;
};

static inline int data_step(struct runner *g)
{
	uint64_t v = g->value + 1;
	int r;

	if (!g->stored) {
		r = gpamap_sim_store(g->vcpu, g->gpa, &v, 8);
		if (r)
			return r;
		g->value = v;
	} else {
		r = gpamap_sim_load(g->vcpu, g->gpa, &v, 8);
		if (r)
			return r;
		if (v != g->value)
			atomic_fetch_add(&g->wrong, 1);
	}
	g->stored = !g->stored;
	return 0;
}

static inline int guest(struct gpamap_sim_vcpu *v, void *opaque)
{
	struct runner *g = opaque;
	uint64_t word;
	int r;

	if (g->what == DATA)
		r = data_step(g);
	else if (g->what == FETCH)
		r = gpamap_sim_fetch(v, g->gpa, &word, 8);
	else
		r = gpamap_sim_walk(v, g->gpa, &word);
	if (!r)
		atomic_fetch_add_explicit(&g->steps, 1, memory_order_relaxed);
	return r;
}

static inline void count_exit(struct runner *g)
{
	struct kvm_run *run = gpamap_sim_vcpu_kvm_run(g->vcpu);

	switch (run->exit_reason) {
	case KVM_EXIT_MMIO:
		memset(run->mmio.data, 0xff, 8);
		atomic_fetch_add(&g->mmio, 1);
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		atomic_fetch_add(&g->internal, 1);
		break;
	case KVM_EXIT_SHUTDOWN:
		atomic_fetch_add(&g->shutdown, 1);
		break;
	default:
		atomic_fetch_add(&g->errors, 1);
	}
}

static inline void *run_thread(void *opaque)
{
	struct runner *g = opaque;
	int r;

	while (!atomic_load(&g->stop)) {
		r = gpamap_sim_vcpu_run(g->vcpu);
		if (!r) {
			count_exit(g);
			continue;
		}
		if (r != -EINTR)
			atomic_fetch_add(&g->errors, 1);
		atomic_store(&g->held, true);
		while (atomic_load(&g->hold))
			sleep_us(20);
		set_immediate_exit(g->vcpu, 0);
		atomic_store(&g->held, false);
	}
	return NULL;
}

static inline void hold(struct runner *g)
{
	atomic_store(&g->hold, true);
	set_immediate_exit(g->vcpu, 1);
	while (!atomic_load(&g->held))
		sleep_us(20);
}

static inline void let_go(struct runner *g)
{
	atomic_store(&g->hold, false);
	while (atomic_load(&g->held))
		sleep_us(20);
}

/* Wait until it has done something more. */
static inline void progress(struct runner *g)
{
	uint64_t steps = atomic_load(&g->steps);

	while (atomic_load(&g->steps) == steps)
		sleep_us(20);
}

static inline void start(struct runner *g, struct gpamap_sim *sim, unsigned id, unsigned flags,
			 enum what what, uint64_t gpa)
{
	memset(g, 0, sizeof(*g));
	g->sim = sim;
	g->what = what;
	g->gpa = gpa;
	g->vcpu = new_vcpu(sim, id, flags, guest, g);
	assert_int_equal(pthread_create(&g->thread, NULL, run_thread, g), 0);
}

static inline void stop(struct runner *g)
{
	atomic_store(&g->stop, true);
	set_immediate_exit(g->vcpu, 1);
	assert_int_equal(pthread_join(g->thread, NULL), 0);
	gpamap_sim_vcpu_free(g->vcpu);
	assert_int_equal(atomic_load(&g->errors), 0);
}

static inline uint64_t exits(struct runner *g)
{
	return atomic_load(&g->mmio) + atomic_load(&g->internal) + atomic_load(&g->shutdown);
}

struct gap_test {
	struct gpamap_sim *sim;
	uint8_t *memory;
};

static inline int setup(void **state)
{
	struct gap_test *t = calloc(1, sizeof(*t));

	t->sim = new_sim(NULL);
	t->memory = new_memory(PAGES);
	assert_int_equal(set_slot(t->sim, 0, 0, GPA, PAGES, t->memory), 0);
	*state = t;
	return 0;
}

static inline int teardown(void **state)
{
	struct gap_test *t = *state;

	gpamap_sim_free(t->sim);
	free_memory(t->memory, PAGES);
	free(t);
	return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

#endif
