/* SPDX-License-Identifier: BSD-3-Clause */
/* Keep the thread that measures slot operations on one processor: see bench.h. */
#define _GNU_SOURCE
#include <err.h>
#include <pthread.h>
#include <sched.h>

#include "bench.h"

static cpu_set_t all;

void pin_begin(void)
{
	cpu_set_t one;
	int cpu = 0;

	if (sched_getaffinity(0, sizeof(all), &all))
		err(1, "sched_getaffinity");
	while (!CPU_ISSET(cpu, &all))
		cpu++;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	if (sched_setaffinity(0, sizeof(one), &one))
		err(1, "sched_setaffinity");
}

void pin_end(void)
{
	if (sched_setaffinity(0, sizeof(all), &all))
		err(1, "sched_setaffinity");
}

void pin_free_thread(pthread_t *thread, void *(*run)(void *), void *opaque)
{
	pthread_attr_t attr;

	if (pthread_attr_init(&attr) || pthread_attr_setaffinity_np(&attr, sizeof(all), &all) ||
	    pthread_create(thread, &attr, run, opaque))
		errx(1, "no thread");
	pthread_attr_destroy(&attr);
}
