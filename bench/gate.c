/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The cost of passing the gate when nobody shuts it, and of what others do there: a locked counter, a
 * reader-writer lock.
 */
#include <gpamap-sim.h>
#include <gpamap.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include "bench.h"

enum { BATCH = 20000 };

struct gate_rig {
	struct gpamap_sim *sim;
	struct gpamap *map;
	struct gpamap_sim_vcpu *sim_vcpu;
	struct gpamap_vcpu *vcpu;
};

static int no_guest(struct gpamap_sim_vcpu *vcpu, void *opaque)
{
	(void)opaque;
	return gpamap_sim_halt(vcpu);
}

static void rig_init(struct gate_rig *r, unsigned flags)
{
	struct gpamap_options options = {.flags = flags, .kick_signal = SIGUSR1};

	check(gpamap_sim_new(NULL, &r->sim), "sim");
	check(gpamap_new_sim(r->sim, &options, &r->map), "map");
	check(gpamap_sim_vcpu_new(r->sim, 0, 0, no_guest, NULL, &r->sim_vcpu), "sim vCPU");
	check(gpamap_sim_vcpu_attach(r->map, r->sim_vcpu, &r->vcpu), "attach");
}

static void rig_destroy(struct gate_rig *r)
{
	gpamap_vcpu_detach(r->vcpu);
	gpamap_sim_vcpu_free(r->sim_vcpu);
	gpamap_free(r->map);
	gpamap_sim_free(r->sim);
}

static void pass_vcpu(void *opaque)
{
	struct gate_rig *r = opaque;

	for (int i = 0; i < BATCH; i++) {
		check(gpamap_vcpu_enter(r->vcpu), "enter");
		gpamap_vcpu_leave(r->vcpu);
	}
}

static void pass_other(void *opaque)
{
	struct gate_rig *r = opaque;

	for (int i = 0; i < BATCH; i++) {
		check(gpamap_enter(r->map), "enter");
		gpamap_leave(r->map);
	}
}

static void pass_counter(void *opaque)
{
	atomic_uint *counter = opaque;

	for (int i = 0; i < BATCH; i++) {
		atomic_fetch_add(counter, 1);
		atomic_fetch_sub(counter, 1);
	}
}

static void pass_rwlock(void *opaque)
{
	pthread_rwlock_t *lock = opaque;

	for (int i = 0; i < BATCH; i++) {
		pthread_rwlock_rdlock(lock);
		pthread_rwlock_unlock(lock);
	}
}

struct rival {
	const char *name;
	void (*pass)(void *opaque);
	void *opaque;
	struct series ns;
};

static void measure(struct rival *rivals, int n, int rounds)
{
	for (int round = 0; round < rounds; round++) {
		for (int i = 0; i < n; i++) {
			double start = now_us();

			rivals[i].pass(rivals[i].opaque);
			series_add(&rivals[i].ns, (now_us() - start) * 1e3 / BATCH);
		}
	}
}

void bench_gate(struct bench *b)
{
	enum { VCPU, FENCED, OTHER, COUNTER, RWLOCK, NR };
	pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
	struct gpamap_stats stats;
	struct gate_rig light, fenced;
	atomic_uint counter = 0;
	struct rival rivals[NR] = {
		[VCPU] = {"vCPU", pass_vcpu, &light, {0}},
		[FENCED] = {"vCPU, without membarrier", pass_vcpu, &fenced, {0}},
		[OTHER] = {"other thread", pass_other, &light, {0}},
		[COUNTER] = {"locked counter", pass_counter, &counter, {0}},
		[RWLOCK] = {"reader-writer lock", pass_rwlock, &lock, {0}},
	};
	double median[NR];

	rig_init(&light, 0);
	rig_init(&fenced, GPAMAP_NO_MEMBARRIER);
	gpamap_get_stats(light.map, &stats);
	measure(rivals, NR, b->quick ? 40 : 400);
	for (int i = 0; i < NR; i++) {
		median[i] = result_row(b, "gate", rivals[i].name, 0, "ns", &rivals[i].ns);
		series_free(&rivals[i].ns);
	}
	/* Without membarrier it has a fence, and promises nothing. */
	result_ratio(b, "gate", "vCPU / locked counter", median[VCPU] / median[COUNTER],
		     stats.membarrier ? 1.0 : 0);
	result_ratio(b, "gate", "vCPU / reader-writer lock", median[VCPU] / median[RWLOCK], 0);
	if (!stats.membarrier)
		result_note(b, "gate", "this kernel has no membarrier(2) for us: full fences");
	rig_destroy(&light);
	rig_destroy(&fenced);
}
