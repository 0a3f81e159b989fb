/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The way that QEMU took: whenever a slot that goes overlaps one that comes, all vCPUs are kicked out and
 * held while all operations are done. Each vCPU has a counter, changed with a locked instruction on
 * every way in and out. Blackout: from the first kick until the vCPUs may run again.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>

#include "engine.h"

struct inhibit_vcpu {
	_Alignas(64) atomic_uint inside;
	pthread_t thread; /* valid once known is set */
	atomic_bool known;
};

struct inhibit {
	struct engine engine;
	atomic_bool shut;
	pthread_mutex_t lock; /* for sleeping; the flags above are read without it */
	pthread_cond_t left;
	pthread_cond_t opened;
	struct inhibit_vcpu *vcpu;
};

static int inhibit_start(struct run *r)
{
	struct inhibit *h = calloc(1, sizeof(*h));
	int ret = -ENOMEM;

	if (!h)
		return ret;
	h->vcpu = aligned_alloc(_Alignof(struct inhibit_vcpu), r->vcpus * sizeof(*h->vcpu));
	if (h->vcpu)
		ret = engine_init(&h->engine, r);
	if (ret) {
		free(h->vcpu);
		free(h);
		return ret;
	}
	for (unsigned i = 0; i < r->vcpus; i++) {
		atomic_init(&h->vcpu[i].inside, 0);
		atomic_init(&h->vcpu[i].known, false);
	}
	atomic_init(&h->shut, false);
	pthread_mutex_init(&h->lock, NULL);
	pthread_cond_init(&h->left, NULL);
	pthread_cond_init(&h->opened, NULL);
	r->state = h;
	return 0;
}

static void inhibit_stop(struct run *r)
{
	struct inhibit *h = r->state;

	engine_destroy(&h->engine);
	pthread_cond_destroy(&h->opened);
	pthread_cond_destroy(&h->left);
	pthread_mutex_destroy(&h->lock);
	free(h->vcpu);
	free(h);
	r->state = NULL;
}

static void leave(struct inhibit *h, struct inhibit_vcpu *v)
{
	atomic_fetch_sub(&v->inside, 1);
	if (!atomic_load(&h->shut))
		return;
	pthread_mutex_lock(&h->lock);
	pthread_cond_signal(&h->left);
	pthread_mutex_unlock(&h->lock);
}

static void enter(struct inhibit *h, struct inhibit_vcpu *v)
{
	for (;;) {
		atomic_fetch_add(&v->inside, 1);
		if (!atomic_load(&h->shut))
			return;
		leave(h, v);
		pthread_mutex_lock(&h->lock);
		while (atomic_load(&h->shut))
			pthread_cond_wait(&h->opened, &h->lock);
		pthread_mutex_unlock(&h->lock);
	}
}

static int inhibit_run_vcpu(struct run *r, unsigned vcpu)
{
	struct inhibit *h = r->state;
	struct inhibit_vcpu *v = &h->vcpu[vcpu];
	int ret;

	if (!atomic_load_explicit(&v->known, memory_order_relaxed)) {
		v->thread = pthread_self();
		atomic_store(&v->known, true);
	}
	enter(h, v);
	ret = r->port->run(r->vm, vcpu);
	leave(h, v);
	return ret;
}

/* The counter can count more than its vCPU. */
static int inhibit_ioctl(struct run *r, unsigned vcpu, int device, unsigned long request, void *arg)
{
	struct inhibit *h = r->state;
	struct inhibit_vcpu *v = &h->vcpu[vcpu];
	int ret;

	enter(h, v);
	ret = r->port->ioctl(r->vm, device, request, arg);
	leave(h, v);
	return ret;
}

static void shut_gate(struct run *r, struct inhibit *h)
{
	atomic_store(&h->shut, true);
	for (unsigned i = 0; i < r->vcpus; i++) {
		if (!atomic_load(&h->vcpu[i].inside) || !atomic_load(&h->vcpu[i].known))
			continue;
		__atomic_store_n(&r->port->kvm_run(r->vm, i)->immediate_exit, 1, __ATOMIC_SEQ_CST);
		pthread_kill(h->vcpu[i].thread, KICK_SIGNAL);
	}
	pthread_mutex_lock(&h->lock);
	for (unsigned i = 0; i < r->vcpus; i++) {
		while (atomic_load(&h->vcpu[i].inside))
			pthread_cond_wait(&h->left, &h->lock);
	}
	pthread_mutex_unlock(&h->lock);
}

static void open_gate(struct inhibit *h)
{
	pthread_mutex_lock(&h->lock);
	atomic_store(&h->shut, false);
	pthread_cond_broadcast(&h->opened);
	pthread_mutex_unlock(&h->lock);
}

static int inhibit_apply(struct run *r, const struct change *changes, unsigned count,
			 struct applied *ret)
{
	struct inhibit *h = r->state;
	uint64_t begin, ns;
	bool hold;
	int err;

	for (unsigned i = 0; i < count; i++)
		change_apply(&r->arena.state, &changes[i]);
	engine_plan(&h->engine);
	hold = engine_overlaps(&h->engine);
	begin = now_ns();
	if (hold)
		shut_gate(r, h);
	err = engine_do(&h->engine, true, &ns);
	*ret = (struct applied){.gate_shut = hold,
				.blackout = hold,
				.blackout_us = (double)(now_ns() - begin) / 1000};
	if (hold)
		open_gate(h);
	return err;
}

static int inhibit_fetch_dirty(struct run *r, uint64_t *bitmap)
{
	return engine_fetch_dirty(&((struct inhibit *)r->state)->engine, bitmap);
}

static uint64_t inhibit_slot_ioctls(struct run *r)
{
	return ((struct inhibit *)r->state)->engine.ioctls;
}

const struct strategy strategy_inhibit = {
	.name = "inhibit",
	.start = inhibit_start,
	.stop = inhibit_stop,
	.apply = inhibit_apply,
	.fetch_dirty = inhibit_fetch_dirty,
	.run_vcpu = inhibit_run_vcpu,
	.ioctl = inhibit_ioctl,
	.slot_ioctls = inhibit_slot_ioctls,
};
