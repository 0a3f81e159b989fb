/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The lock that keeps slot operations apart, and the name of the thread that has it: a commit that
 * does not get it in time says whom it has waited for (P6).
 */
#define _GNU_SOURCE /* gettid(), pthread_mutex_clocklock() */
#include <errno.h>
#include <time.h>
#include <unistd.h>

#include "api/impl.h"

void gm_slots_lock(struct gpamap *m)
{
	pthread_mutex_lock(&m->slots_lock);
	atomic_store(&m->slots_holder, gettid());
}

int gm_slots_lock_until(struct gpamap *m, uint64_t deadline_ns, pid_t *holder)
{
	struct timespec deadline = {
		.tv_sec = (time_t)(deadline_ns / 1000000000),
		.tv_nsec = (long)(deadline_ns % 1000000000),
	};

	if (pthread_mutex_clocklock(&m->slots_lock, CLOCK_MONOTONIC, &deadline)) {
		*holder = atomic_load(&m->slots_holder);
		return -ETIMEDOUT;
	}
	atomic_store(&m->slots_holder, gettid());
	return 0;
}

void gm_slots_unlock(struct gpamap *m)
{
	atomic_store(&m->slots_holder, 0);
	pthread_mutex_unlock(&m->slots_lock);
}
