/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What is passed in and out in the benchmark of the gate. Each is as a program would have it: gpamap's
 * functions and those of the locked counter are calls into another object file, the lock is libc's,
 * liburcu-bp is called in its library (as gpamap itself does), and liburcu-memb is inlined by its header.
 */
#ifndef BENCH_GATE_RIVALS_H
#define BENCH_GATE_RIVALS_H

#include <gpamap-sim.h>
#include <gpamap.h>
#include <pthread.h>

#include "inhibit_gate.h"

enum { GATE_THREADS = 2 };

enum gate_rival {
	GATE_NOTHING,
	GATE_CALLS,
	GATE_VCPU,
	GATE_FENCED,
	GATE_OTHER,
	GATE_RWLOCK,
	GATE_COUNTER,
	GATE_URCU_BP,
	GATE_URCU_MEMB,
	NR_GATE_RIVALS
};

/* A map on the simulated VM, with a vCPU for each thread. No guest runs. */
struct gate_map {
	struct gpamap_sim *sim;
	struct gpamap *map;
	struct gpamap_sim_vcpu *sim_vcpu[GATE_THREADS];
	struct gpamap_vcpu *vcpu[GATE_THREADS];
};

struct gate_rig {
	struct gate_map light;
	struct gate_map fenced;
	_Alignas(64) pthread_rwlock_t lock;
	struct inhibit_gate inhibit;
	struct inhibit_counter counter[GATE_THREADS];
};

void gate_rig_init(struct gate_rig *r);
void gate_rig_destroy(struct gate_rig *r);

/* Around what a thread does: liburcu wants to know its readers. */
void gate_thread_begin(void);
void gate_thread_end(void);

const char *gate_rival_name(enum gate_rival rival);
/* Thread @thread passes in and out, @n times. */
void gate_pass(struct gate_rig *r, enum gate_rival rival, int thread, unsigned n);

/* Of gate_memb.c: one program can't include both flavours of liburcu. */
void memb_thread_begin(void);
void memb_thread_end(void);
void memb_pass(unsigned n);

#endif
