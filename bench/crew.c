/* SPDX-License-Identifier: BSD-3-Clause */
/* The threads that run a rival's vCPUs. */
#include "crew.h"

#include <err.h>
#include <errno.h>
#include <signal.h>
#include <sys/ioctl.h>

/* A vCPU that is not back by then is lost; a busy machine is not that slow. */
#define LOST_US 30e6

const char *crew_state_name(enum crew_state state)
{
	static const char *const names[NR_CREW_STATES] = {"running", "halted", "outside"};

	return names[state];
}

void crew_init(struct crew *c, struct guest *guest, const struct crew_gate *gate, void *opaque)
{
	*c = (struct crew){.guest = guest, .gate = gate, .opaque = opaque};
	if (sem_init(&c->end, 0, 0))
		err(1, "sem_init");
	for (int i = 0; i < guest->nr_vcpus; i++) {
		c->member[i].crew = c;
		c->member[i].index = i;
	}
}

void crew_destroy(struct crew *c)
{
	sem_destroy(&c->end);
}

static void count_lap(struct crew_member *m)
{
	atomic_store(&m->back, now_us());
	atomic_fetch_add(&m->laps, 1);
}

static void stay_outside(struct crew_member *m)
{
	struct crew *c = m->crew;

	c->gate->enter(c->opaque, m->index);
	c->gate->leave(c->opaque, m->index);
	count_lap(m);
	while (sem_wait(&c->end) < 0 && errno == EINTR)
		;
}

static void *run_member(void *opaque)
{
	struct crew_member *m = opaque;
	struct crew *c = m->crew;
	struct guest_vcpu *v = &c->guest->vcpu[m->index];

	if (c->state == CREW_OUTSIDE) {
		stay_outside(m);
		return NULL;
	}
	/* What leave takes back may be the kick that is to stop us: so look at stop after it. */
	while (!atomic_load(&c->stop)) {
		c->gate->enter(c->opaque, m->index);
		count_lap(m);
		if (ioctl(v->fd, KVM_RUN, 0) == 0 || errno != EINTR)
			errx(1, "vCPU %d left by itself: exit %u", m->index, v->run->exit_reason);
		c->gate->leave(c->opaque, m->index);
	}
	return NULL;
}

void crew_start(struct crew *c, enum crew_state state)
{
	if (c->guest->can_halt)
		guest_halt(c->guest, state == CREW_HALTED);
	c->state = state;
	atomic_store(&c->stop, false);
	crew_mark(c);
	for (int i = 0; i < c->guest->nr_vcpus; i++)
		pin_free_thread(&c->member[i].thread, run_member, &c->member[i]);
	crew_back(c);
}

void crew_stop(struct crew *c)
{
	atomic_store(&c->stop, true);
	for (int i = 0; i < c->guest->nr_vcpus; i++) {
		if (c->state == CREW_OUTSIDE)
			sem_post(&c->end);
		else
			crew_kick(c, i);
	}
	for (int i = 0; i < c->guest->nr_vcpus; i++) {
		pthread_join(c->member[i].thread, NULL);
		c->guest->vcpu[i].run->immediate_exit = 0;
	}
	if (c->state == CREW_HALTED && !guest_is_halted(c->guest))
		errx(1, "a halted vCPU has woken up");
}

void crew_kick(struct crew *c, int i)
{
	__atomic_store_n(&c->guest->vcpu[i].run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	pthread_kill(c->member[i].thread, SIGUSR1);
}

void crew_mark(struct crew *c)
{
	for (int i = 0; i < c->guest->nr_vcpus; i++)
		c->member[i].mark = atomic_load(&c->member[i].laps);
}

double crew_back(struct crew *c)
{
	double end = now_us() + LOST_US, last = 0;

	for (int i = 0; i < c->guest->nr_vcpus; i++) {
		struct crew_member *m = &c->member[i];

		while (atomic_load(&m->laps) == m->mark) {
			if (now_us() > end)
				errx(1, "vCPU %d did not come back", i);
			sleep_us(50);
		}
		if (atomic_load(&m->back) > last)
			last = atomic_load(&m->back);
	}
	return last;
}
