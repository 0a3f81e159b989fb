/* SPDX-License-Identifier: BSD-3-Clause */
/* The benchmark of the gate: who is passed. */
#include "gate_rivals.h"

#include <err.h>
#include <signal.h>
#include <urcu/urcu-bp.h>

#include "bench.h"

static int no_guest(struct gpamap_sim_vcpu *vcpu, void *opaque)
{
	(void)opaque;
	return gpamap_sim_halt(vcpu);
}

static void map_init(struct gate_map *m, unsigned flags)
{
	struct gpamap_options options = {.flags = flags, .kick_signal = SIGUSR1};

	check(gpamap_sim_new(NULL, &m->sim), "sim");
	check(gpamap_new_sim(m->sim, &options, &m->map), "map");
	for (unsigned i = 0; i < GATE_THREADS; i++) {
		check(gpamap_sim_vcpu_new(m->sim, i, 0, no_guest, NULL, &m->sim_vcpu[i]),
		      "sim vCPU");
		check(gpamap_sim_vcpu_attach(m->map, m->sim_vcpu[i], &m->vcpu[i]), "attach");
	}
}

static void map_destroy(struct gate_map *m)
{
	for (int i = 0; i < GATE_THREADS; i++) {
		gpamap_vcpu_detach(m->vcpu[i]);
		gpamap_sim_vcpu_free(m->sim_vcpu[i]);
	}
	gpamap_free(m->map);
	gpamap_sim_free(m->sim);
}

void gate_rig_init(struct gate_rig *r)
{
	map_init(&r->light, 0);
	map_init(&r->fenced, GPAMAP_NO_MEMBARRIER);
	if (pthread_rwlock_init(&r->lock, NULL))
		errx(1, "rwlock");
	inhibit_gate_init(&r->inhibit);
	for (int i = 0; i < GATE_THREADS; i++)
		atomic_init(&r->counter[i].inside, 0);
}

void gate_rig_destroy(struct gate_rig *r)
{
	map_destroy(&r->light);
	map_destroy(&r->fenced);
	pthread_rwlock_destroy(&r->lock);
}

/* liburcu-bp registers readers by itself, at their first lock. */
void gate_thread_begin(void)
{
	memb_thread_begin();
}

void gate_thread_end(void)
{
	memb_thread_end();
}

static void pass_nothing(unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		__asm__ volatile("" : : : "memory");
}

static void pass_calls(struct gate_rig *r, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (empty_enter(r))
			errx(1, "enter");
		empty_leave(r);
	}
}

static void pass_vcpu(struct gpamap_vcpu *vcpu, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (gpamap_vcpu_enter(vcpu))
			errx(1, "enter");
		gpamap_vcpu_leave(vcpu);
	}
}

static void pass_other(struct gpamap *map, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (gpamap_enter(map))
			errx(1, "enter");
		gpamap_leave(map);
	}
}

static void pass_rwlock(pthread_rwlock_t *lock, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		pthread_rwlock_rdlock(lock);
		pthread_rwlock_unlock(lock);
	}
}

static void pass_counter(struct inhibit_gate *g, struct inhibit_counter *c, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		inhibit_enter(g, c);
		inhibit_leave(g, c);
	}
}

static void pass_urcu_bp(unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		urcu_bp_read_lock();
		urcu_bp_read_unlock();
	}
}

const char *gate_rival_name(enum gate_rival rival)
{
	static const char *const names[NR_GATE_RIVALS] = {
		[GATE_NOTHING] = "nothing",
		[GATE_CALLS] = "two empty calls",
		[GATE_VCPU] = "gpamap, vCPU",
		[GATE_FENCED] = "gpamap, vCPU, fences",
		[GATE_OTHER] = "gpamap, other thread",
		[GATE_RWLOCK] = "pthread rwlock",
		[GATE_COUNTER] = "locked counter",
		[GATE_URCU_BP] = "liburcu-bp, called",
		[GATE_URCU_MEMB] = "liburcu-memb, inlined",
	};
	return names[rival];
}

void gate_pass(struct gate_rig *r, enum gate_rival rival, int thread, unsigned n)
{
	switch (rival) {
	case GATE_NOTHING:
		return pass_nothing(n);
	case GATE_CALLS:
		return pass_calls(r, n);
	case GATE_VCPU:
		return pass_vcpu(r->light.vcpu[thread], n);
	case GATE_FENCED:
		return pass_vcpu(r->fenced.vcpu[thread], n);
	case GATE_OTHER:
		return pass_other(r->light.map, n);
	case GATE_RWLOCK:
		return pass_rwlock(&r->lock, n);
	case GATE_COUNTER:
		return pass_counter(&r->inhibit, &r->counter[thread], n);
	case GATE_URCU_BP:
		return pass_urcu_bp(n);
	case GATE_URCU_MEMB:
		return memb_pass(n);
	case NR_GATE_RIVALS:
		break;
	}
	errx(1, "no such rival");
}
