/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The lock that keeps slot operations apart. A mutex and a condition, since it must be possible to wait for
 * it until a deadline on CLOCK_MONOTONIC, and to say then who has it (P6).
 */
#define _GNU_SOURCE /* gettid() */
#include <errno.h>
#include <time.h>
#include <unistd.h>

#include "api/impl.h"

void gm_slots_lock_init(struct gpamap *m)
{
	struct gm_slots_lock *l = &m->slots_lock;
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_mutex_init(&l->mutex, NULL);
	pthread_cond_init(&l->freed, &attr);
	pthread_condattr_destroy(&attr);
}

void gm_slots_lock_destroy(struct gpamap *m)
{
	pthread_cond_destroy(&m->slots_lock.freed);
	pthread_mutex_destroy(&m->slots_lock.mutex);
}

/* @deadline NULL: none. */
static int lock(struct gm_slots_lock *l, const struct timespec *deadline, pid_t *holder)
{
	int cancel, err = 0;

	/* Waiting for a condition is a point at which a thread can be cancelled, and would be with the mutex. */
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	pthread_mutex_lock(&l->mutex);
	while (l->holder && !err) {
		if (deadline)
			err = pthread_cond_timedwait(&l->freed, &l->mutex, deadline);
		else
			pthread_cond_wait(&l->freed, &l->mutex);
	}
	if (!l->holder) {
		l->holder = gettid();
		err = 0;
	} else {
		*holder = l->holder;
	}
	pthread_mutex_unlock(&l->mutex);
	pthread_setcancelstate(cancel, NULL);
	return -err;
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

	pthread_mutex_lock(&l->mutex);
	l->holder = 0;
	pthread_cond_signal(&l->freed);
	pthread_mutex_unlock(&l->mutex);
}
