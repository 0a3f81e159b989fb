/* SPDX-License-Identifier: BSD-3-Clause */
/* The threads that run vCPUs: exits, kicks, pause and stop. See run.h. */
#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "run.h"

/* How long a guest may take to ring after it is told to. It counts as a violation if it doesn't, so this is
 * long, for machines with many more vCPUs than processors. */
#define RING_SECONDS 60
/* A thread gives up after so many failures of KVM_RUN itself in a row. */
#define MAX_FAILURES 1000u

uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static struct kvm_run *kvm_run_of(struct runner *u)
{
	return u->run->port->kvm_run(u->run->vm, u->index);
}

/* Bring the thread out of KVM_RUN, or keep it from getting in. The flag that it will look at then is
 * set already. */
static void kick(struct runner *u)
{
	__atomic_store_n(&kvm_run_of(u)->immediate_exit, 1, __ATOMIC_SEQ_CST);
	pthread_kill(u->thread, KICK_SIGNAL);
}

static void finish(struct runner *u, bool rang, int error)
{
	struct crew *c = &u->run->crew;

	pthread_mutex_lock(&c->lock);
	u->done = true;
	u->rang = rang;
	u->error = error;
	pthread_cond_broadcast(&c->change);
	pthread_mutex_unlock(&c->lock);
}

/* Stay here while there's a pause. */
static void park(struct runner *u)
{
	struct crew *c = &u->run->crew;

	pthread_mutex_lock(&c->lock);
	while (c->pauses) {
		if (!u->parked) {
			u->parked = true;
			pthread_cond_broadcast(&c->change);
		}
		pthread_cond_wait(&c->change, &c->lock);
	}
	u->parked = false;
	pthread_mutex_unlock(&c->lock);
}

/* Is this a place of a page on show? Some of them are empty at any time. */
static bool is_show(const struct runner *u, uint64_t gpa)
{
	return arena_ctl(&u->run->arena, u->index)->shows && gpa >= SHOW_GPA &&
	       gpa < SHOW_GPA + SHOW_PAGES * SHOW_DISTANCE &&
	       (gpa - SHOW_GPA) % SHOW_DISTANCE < SHOW_PLACES * PAGE;
}

/* An access to memory that is not there. Only the doorbell, places on show and pages that are asked should be met
 * here; for the rest do what a simple VMM does: reads give ones, writes go nowhere. Returns true if the guest rang. */
static bool handle_mmio(struct runner *u, struct kvm_run *k)
{
	uint64_t gpa = k->mmio.phys_addr;
	bool store = k->mmio.is_write;

	if (gpa == DOORBELL_GPA && store)
		return true;
	if (its_serve(u->run, u->index, k))
		return false;
	if ((!store && is_show(u, gpa)) || tell_expects(u->run, u->index, gpa, store))
		u->expected++;
	else
		u->spurious++;
	if (!store)
		memset(k->mmio.data, 0xff, sizeof(k->mmio.data));
	return false;
}

/* The vCPU died: note it, and let it begin anew. */
static int handle_death(struct runner *u, bool shutdown)
{
	u->errors++;
	u->shutdowns += shutdown;
	judge_reset(u->run, u->index);
	return u->run->port->reset(u->run->vm, u->index);
}

/* Is it the end of a guest that can't go on, as its processor or its own handler of faults says? */
static bool is_shutdown(const struct kvm_run *k)
{
	return k->exit_reason == KVM_EXIT_SHUTDOWN ||
	       (k->exit_reason == KVM_EXIT_MMIO && k->mmio.phys_addr == DEATH_GPA &&
		k->mmio.is_write);
}

/* KVM_RUN has returned 0. 1: the guest rang. */
static int handle_exit(struct runner *u)
{
	struct kvm_run *k = kvm_run_of(u);

	if (k->exit_reason == KVM_EXIT_MMIO && !is_shutdown(k))
		return handle_mmio(u, k);
	return handle_death(u, is_shutdown(k));
}

static void *runner_main(void *arg)
{
	struct runner *u = arg;
	struct run *r = u->run;
	unsigned failures = 0;
	int ret = 0;

	while (!atomic_load(&r->crew.quit)) {
		ret = r->strategy->run_vcpu(r, u->index);
		/* Cleared before the flags are looked at, so that a kick after this is not lost. */
		__atomic_store_n(&kvm_run_of(u)->immediate_exit, 0, __ATOMIC_SEQ_CST);
		park(u);
		if (ret == -EINTR)
			continue;
		failures = ret < 0 ? failures + 1 : 0;
		if (ret == -ENOTRECOVERABLE || failures > MAX_FAILURES)
			break;
		ret = ret < 0 ? handle_death(u, false) : handle_exit(u);
		if (ret)
			break;
	}
	finish(u, ret == 1, ret < 0 && ret != -EINTR ? ret : 0);
	return NULL;
}

int crew_start(struct run *r)
{
	struct crew *c = &r->crew;
	pthread_condattr_t attr;
	int ret = 0;

	c->runner = calloc(r->vcpus, sizeof(*c->runner));
	if (!c->runner)
		return -ENOMEM;
	pthread_mutex_init(&c->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&c->change, &attr);
	pthread_condattr_destroy(&attr);
	atomic_init(&c->quit, false);
	c->pauses = 0;
	for (unsigned i = 0; !ret && i < r->vcpus; i++) {
		struct runner *u = &c->runner[i];

		u->run = r;
		u->index = i;
		ret = -pthread_create(&u->thread, NULL, runner_main, u);
		u->started = !ret;
	}
	if (ret)
		crew_stop(r);
	return ret;
}

/* pre: crew.lock. False: @until (CLOCK_MONOTONIC; NULL is never) has passed. */
static bool wait_all(struct run *r, bool parked_will_do, const struct timespec *until)
{
	struct crew *c = &r->crew;
	unsigned i = 0;

	while (i < r->vcpus) {
		const struct runner *u = &c->runner[i];

		if (!u->started || u->done || (parked_will_do && u->parked)) {
			i++;
			continue;
		}
		if (!until)
			pthread_cond_wait(&c->change, &c->lock);
		else if (pthread_cond_timedwait(&c->change, &c->lock, until))
			return false;
	}
	return true;
}

/* pre: crew.lock, which keeps the threads from ending. */
static void kick_all(struct run *r)
{
	for (unsigned i = 0; i < r->vcpus; i++) {
		struct runner *u = &r->crew.runner[i];

		if (u->started && !u->done && !u->parked)
			kick(u);
	}
}

void crew_pause(struct run *r)
{
	pthread_mutex_lock(&r->crew.lock);
	r->crew.pauses++;
	kick_all(r);
	wait_all(r, true, NULL);
	pthread_mutex_unlock(&r->crew.lock);
}

void crew_resume(struct run *r)
{
	pthread_mutex_lock(&r->crew.lock);
	r->crew.pauses--;
	pthread_cond_broadcast(&r->crew.change);
	pthread_mutex_unlock(&r->crew.lock);
}

void crew_stop(struct run *r)
{
	struct crew *c = &r->crew;
	struct timespec until;

	for (unsigned i = 0; i < r->vcpus; i++)
		__atomic_store_n(&arena_ctl(&r->arena, i)->stop, 1, __ATOMIC_RELEASE);
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += RING_SECONDS;
	pthread_mutex_lock(&c->lock);
	if (!wait_all(r, false, &until)) {
		atomic_store(&c->quit, true);
		kick_all(r);
	}
	pthread_mutex_unlock(&c->lock);
	for (unsigned i = 0; i < r->vcpus; i++) {
		if (c->runner[i].started)
			pthread_join(c->runner[i].thread, NULL);
	}
	pthread_cond_destroy(&c->change);
	pthread_mutex_destroy(&c->lock);
}
