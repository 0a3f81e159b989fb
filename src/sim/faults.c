/* SPDX-License-Identifier: BSD-3-Clause */
/* The simulated VM's fault plan: calls that fail, steps that take long, and the counts of calls. */
#include <errno.h>
#include <time.h>

#include "sim/impl.h"

int sim_faults_init(struct gpamap_sim *sim)
{
	return -pthread_mutex_init(&sim->plan_lock, NULL);
}

void sim_faults_destroy(struct gpamap_sim *sim)
{
	pthread_mutex_destroy(&sim->plan_lock);
}

static bool known_call(enum gpamap_sim_call call)
{
	return (unsigned)call < SIM_NR_CALLS;
}

void gpamap_sim_fail(struct gpamap_sim *sim, enum gpamap_sim_call call, unsigned nth, int error,
		     bool forever)
{
	struct sim_rule rule = {0};

	if (!known_call(call))
		return;
	pthread_mutex_lock(&sim->plan_lock);
	if (nth && error > 0) {
		rule.at = sim->calls[call] + nth;
		rule.error = error;
		rule.forever = forever;
	}
	sim->rule[call] = rule;
	pthread_mutex_unlock(&sim->plan_lock);
}

uint64_t gpamap_sim_calls(struct gpamap_sim *sim, enum gpamap_sim_call call)
{
	uint64_t n;

	if (!known_call(call))
		return 0;
	pthread_mutex_lock(&sim->plan_lock);
	n = sim->calls[call];
	pthread_mutex_unlock(&sim->plan_lock);
	return n;
}

/* Count one call; 0 or the error of the rule that it meets. */
static int count_one(struct gpamap_sim *sim, enum gpamap_sim_call call)
{
	const struct sim_rule *rule = &sim->rule[call];
	uint64_t n = ++sim->calls[call];

	if (!rule->at)
		return 0;
	return n == rule->at || (n > rule->at && rule->forever) ? rule->error : 0;
}

int sim_count(struct gpamap_sim *sim, enum gpamap_sim_call kind)
{
	int error, special = 0;

	pthread_mutex_lock(&sim->plan_lock);
	error = count_one(sim, GPAMAP_SIM_ANY);
	if (kind != GPAMAP_SIM_ANY)
		special = count_one(sim, kind);
	pthread_mutex_unlock(&sim->plan_lock);
	return -(special ? special : error);
}

void gpamap_sim_stretch(struct gpamap_sim *sim, enum gpamap_sim_step step, unsigned usec)
{
	if ((unsigned)step < SIM_NR_STEPS)
		atomic_store_explicit(&sim->stretch[step], usec, memory_order_relaxed);
}

/* Sleeps the whole time: what is stretched can't be hurried by a signal, as a fault in the kernel. */
void sim_stretch_slow(unsigned usec)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += usec / 1000000;
	until.tv_nsec += (long)(usec % 1000000) * 1000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
		;
}
