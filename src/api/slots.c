/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The lock that keeps slot operations apart. Not a mutex alone: it must be possible to wait for it until a
 * deadline on CLOCK_MONOTONIC, and to say then who has it (P6); and it is handed on in the order of coming.
 */
#include <errno.h>
#include <time.h>

#include "api/impl.h"

void gm_slots_lock_init(struct gpamap *m)
{
	struct gm_slots_lock *l = &m->slots_lock;

	pthread_mutex_init(&l->mutex, NULL);
	l->end = &l->first;
}

void gm_slots_lock_destroy(struct gpamap *m)
{
	pthread_mutex_destroy(&m->slots_lock.mutex);
}

static void waiter_init(struct gm_slots_waiter *w)
{
	pthread_condattr_t attr;

	*w = (struct gm_slots_waiter){.tid = gm_thread_id()};
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&w->turn, &attr);
	pthread_condattr_destroy(&attr);
}

static void unlink_waiter(struct gm_slots_lock *l, struct gm_slots_waiter *w)
{
	struct gm_slots_waiter **p = &l->first;

	while (*p != w)
		p = &(*p)->next;
	*p = w->next;
	if (l->end == &w->next)
		l->end = p;
}

/* pre: mutex is held, somebody has the lock. @deadline NULL: none. */
static int wait_for_turn(struct gm_slots_lock *l, const struct timespec *deadline)
{
	struct gm_slots_waiter w;
	int err = 0;

	waiter_init(&w);
	*l->end = &w;
	l->end = &w.next;
	while (!w.granted && !err) {
		if (deadline)
			err = pthread_cond_timedwait(&w.turn, &l->mutex, deadline);
		else
			pthread_cond_wait(&w.turn, &l->mutex);
	}
	if (!w.granted)
		unlink_waiter(l, &w);
	pthread_cond_destroy(&w.turn);
	return w.granted ? 0 : -err;
}

static int lock(struct gm_slots_lock *l, const struct timespec *deadline, pid_t *holder)
{
	int cancel, err = 0;

	/* Waiting for a condition is a point at which a thread can be cancelled, and would be with the mutex. */
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	pthread_mutex_lock(&l->mutex);
	if (l->holder)
		err = wait_for_turn(l, deadline);
	else
		l->holder = gm_thread_id();
	if (err)
		*holder = l->holder;
	pthread_mutex_unlock(&l->mutex);
	pthread_setcancelstate(cancel, NULL);
	return err;
}

void gm_slots_lock(struct gpamap *m)
{
	lock(&m->slots_lock, NULL, NULL);
}

int gm_slots_lock_until(struct gpamap *m, uint64_t deadline_ns, pid_t *holder)
{
	struct timespec deadline = {
		.tv_sec = (time_t)(deadline_ns / 1000000000),
		.tv_nsec = (long)(deadline_ns % 1000000000),
	};

	return lock(&m->slots_lock, &deadline, holder);
}

void gm_slots_unlock(struct gpamap *m)
{
	struct gm_slots_lock *l = &m->slots_lock;
	struct gm_slots_waiter *w;

	pthread_mutex_lock(&l->mutex);
	w = l->first;
	l->holder = w ? w->tid : 0;
	if (w) {
		unlink_waiter(l, w);
		w->granted = true;
		pthread_cond_signal(&w->turn);
	}
	pthread_mutex_unlock(&l->mutex);
}
