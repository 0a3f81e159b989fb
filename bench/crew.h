/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The threads that run a rival's vCPUs, the same for all rivals: they pass the rival's gate, note the time, and
 * do KVM_RUN until something brings them out. They run only while their rival has its turn.
 */
#ifndef BENCH_CREW_H
#define BENCH_CREW_H

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "guest.h"

/* What the vCPUs do. */
enum crew_state {
	CREW_RUNNING, /* guest code, at every moment that the host gives them */
	CREW_HALTED,  /* they sleep inside KVM_RUN */
	CREW_OUTSIDE, /* their threads have passed the gate before, and sleep outside */
	NR_CREW_STATES
};

const char *crew_state_name(enum crew_state state);

/* How a rival holds its vCPUs. enter waits while they are held; leave comes after each KVM_RUN, and takes back
 * what the rival has done to immediate_exit. */
struct crew_gate {
	void (*enter)(void *opaque, int vcpu);
	void (*leave)(void *opaque, int vcpu);
};

struct crew_member {
	_Alignas(64) struct crew *crew;
	int index;
	pthread_t thread;
	_Atomic(double) back; /* when it was last about to do KVM_RUN */
	atomic_uint laps;     /* how often it was */
	unsigned mark;	      /* what laps was at crew_mark() */
};

struct crew {
	struct guest *guest;
	const struct crew_gate *gate;
	void *opaque;
	enum crew_state state;
	atomic_bool stop;
	sem_t end;
	struct crew_member member[MAX_VCPUS];
};

void crew_init(struct crew *c, struct guest *guest, const struct crew_gate *gate, void *opaque);
void crew_destroy(struct crew *c);
/* Returns when all vCPUs do what @state says. */
void crew_start(struct crew *c, enum crew_state state);
void crew_stop(struct crew *c);

/* Make vCPU @i leave KVM_RUN. */
void crew_kick(struct crew *c, int i);

/* Before a change; and after it: wait until every vCPU has been brought out and is about to do KVM_RUN again.
 * Returns when the last one was, as of now_us(). */
void crew_mark(struct crew *c);
double crew_back(struct crew *c);

#endif
