/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Three ways to protect a page under running vCPUs, each with a VM of its own:
 *  - gpamap;
 *  - the floor: the very slot operations that gpamap did, replayed by hand, with one kick and one wake per
 *    vCPU and nothing else;
 *  - inhibit: as QEMU does it, the whole slots that overlap are deleted and made anew, and a locked counter
 *    per vCPU says who is inside.
 * vCPUs run only while their rival has its turn.
 */
#ifndef BENCH_RIVAL_H
#define BENCH_RIVAL_H

#include <gpamap.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "guest.h"

/* Slot operations of one commit after another. */
struct tape {
	struct gpamap_op *op;
	size_t n;
	size_t room;
	size_t *end; /* of each commit: index in op */
	size_t nr_ends;
	size_t ends_room;
};

/* A vCPU that is held by hand. */
struct hand_vcpu {
	struct hand *hand;
	int index;
	pthread_t thread;
	sem_t out;
	sem_t go;
	atomic_uint inside;
};

/* The floor and inhibit. */
struct hand {
	struct guest guest;
	bool locked; /* with a locked counter around KVM_RUN */
	atomic_bool stop;
	struct hand_vcpu vcpu[NR_VCPUS];
};

struct ours_vcpu {
	struct ours *ours;
	int index;
	pthread_t thread;
	struct gpamap_vcpu *vcpu;
};

/* gpamap. */
struct ours {
	struct guest guest;
	struct gpamap *map;
	atomic_bool stop;
	struct tape tape; /* what its commits have done since the last round began */
	struct ours_vcpu vcpu[NR_VCPUS];
};

/* The page that is protected: in the middle of memory, at no boundary. */
uint64_t rival_page(uint64_t size);
/* Vcpus have the time between two changes. */
void rival_pause(void);

void tape_clear(struct tape *t);
void tape_free(struct tape *t);

/* Maps the memory; the tape then has that commit. */
void ours_init(struct ours *o, int kvm, uint64_t size);
void ours_destroy(struct ours *o);
void ours_start(struct ours *o);
void ours_stop(struct ours *o);
/* Protect the page, or not. Returns the blackout in us; records what it did. */
double ours_change(struct ours *o, bool readonly);

void hand_init(struct hand *h, int kvm, uint64_t size, bool locked);
void hand_destroy(struct hand *h);
void hand_start(struct hand *h);
void hand_stop(struct hand *h);
/* Do commit @i of the tape. Returns the blackout in us, 0 if nobody was held. */
double hand_replay(struct hand *h, const struct tape *t, size_t i);
/* Protect the page, or not, with whole slots. Returns the blackout in us. */
double hand_whole_slots(struct hand *h, bool readonly);

#endif
