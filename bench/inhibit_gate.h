/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The rival's gate: a locked counter for each vCPU says how often it is inside, and one word that all share
 * is the event for which the inhibitor sleeps. This is the way of QEMU, written from what is known of it:
 *
 *     enter   look at the shared flag; locked increment of the own counter; look again
 *     leave   locked decrement; full barrier; look at the shared event, and set it if it is not
 *     shut    set the flag; clear the event; kick whose counter is not 0; sleep until the event is set; again
 *     open    clear the flag; wake all
 */
#ifndef BENCH_INHIBIT_GATE_H
#define BENCH_INHIBIT_GATE_H

#include <stdatomic.h>
#include <stdint.h>

struct inhibit_gate {
	_Alignas(64) _Atomic(uint32_t) shut;  /* a futex: 0 or 1 */
	_Alignas(64) _Atomic(uint32_t) event; /* a futex: 1 set, 0 clear */
};

struct inhibit_counter {
	_Alignas(64) _Atomic(uint32_t) inside;
};

void inhibit_gate_init(struct inhibit_gate *g);
void inhibit_enter(struct inhibit_gate *g, struct inhibit_counter *c);
void inhibit_leave(struct inhibit_gate *g, struct inhibit_counter *c);
/* Returns when all @n counters are 0. Calls @kick once for each that was not. */
void inhibit_shut(struct inhibit_gate *g, struct inhibit_counter *c, int n,
		  void (*kick)(void *opaque, int i), void *opaque);
void inhibit_open(struct inhibit_gate *g);

/* A call in, and a call out, that do nothing. */
int empty_enter(void *opaque);
void empty_leave(void *opaque);

#endif
