/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Turns: who may have a transaction, and who may touch the slots. Not a mutex alone: it must be possible to wait for a
 * turn until a deadline on CLOCK_MONOTONIC, and to say then who has it (P6); and it is handed on in the order of
 * coming.
 */
#include <errno.h>
#include <time.h>

#include "api/impl.h"

void gm_turn_init(struct gm_turn *t)
{
	pthread_mutex_init(&t->mutex, NULL);
	t->holder = 0;
	t->first = NULL;
	t->end = &t->first;
}

void gm_turn_destroy(struct gm_turn *t)
{
	pthread_mutex_destroy(&t->mutex);
}

static void waiter_init(struct gm_turn_waiter *w)
{
	pthread_condattr_t attr;

	*w = (struct gm_turn_waiter){.tid = gm_thread_id()};
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&w->turn, &attr);
	pthread_condattr_destroy(&attr);
}

static void unlink_waiter(struct gm_turn *t, struct gm_turn_waiter *w)
{
	struct gm_turn_waiter **p = &t->first;

	while (*p != w)
		p = &(*p)->next;
	*p = w->next;
	if (t->end == &w->next)
		t->end = p;
}

/* pre: mutex is held, somebody has the lock. @deadline NULL: none. */
static int wait_for_turn(struct gm_turn *t, const struct timespec *deadline)
{
	struct gm_turn_waiter w;
	int err = 0;

	waiter_init(&w);
	*t->end = &w;
	t->end = &w.next;
	while (!w.granted && !err) {
		if (deadline)
			err = pthread_cond_timedwait(&w.turn, &t->mutex, deadline);
		else
			pthread_cond_wait(&w.turn, &t->mutex);
	}
	if (!w.granted)
		unlink_waiter(t, &w);
	pthread_cond_destroy(&w.turn);
	return w.granted ? 0 : -err;
}

static int take(struct gm_turn *t, const struct timespec *deadline, pid_t *holder)
{
	int cancel, err = 0;

	/* Waiting for a condition is a point at which a thread can be cancelled, and would be with the mutex. */
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	pthread_mutex_lock(&t->mutex);
	if (t->holder)
		err = wait_for_turn(t, deadline);
	else
		t->holder = gm_thread_id();
	if (err)
		*holder = t->holder;
	pthread_mutex_unlock(&t->mutex);
	pthread_setcancelstate(cancel, NULL);
	return err;
}

void gm_turn_take(struct gm_turn *t)
{
	take(t, NULL, NULL);
}

int gm_turn_take_until(struct gm_turn *t, uint64_t deadline_ns, pid_t *holder)
{
	struct timespec deadline = {
		.tv_sec = (time_t)(deadline_ns / 1000000000),
		.tv_nsec = (long)(deadline_ns % 1000000000),
	};

	return take(t, &deadline, holder);
}

bool gm_turn_mine(struct gm_turn *t)
{
	bool mine;

	pthread_mutex_lock(&t->mutex);
	mine = t->holder == gm_thread_id();
	pthread_mutex_unlock(&t->mutex);
	return mine;
}

void gm_turn_pass(struct gm_turn *t)
{
	struct gm_turn_waiter *w;

	pthread_mutex_lock(&t->mutex);
	w = t->first;
	t->holder = w ? w->tid : 0;
	if (w) {
		unlink_waiter(t, w);
		w->granted = true;
		pthread_cond_signal(&w->turn);
	}
	pthread_mutex_unlock(&t->mutex);
}
