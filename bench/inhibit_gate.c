/* SPDX-License-Identifier: BSD-3-Clause */
/* The rival's gate; in a file of its own, so that passing it is a call, as passing gpamap's is. */
#include "inhibit_gate.h"

#include <limits.h>
#include <linux/futex.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

static void futex_wait(_Atomic(uint32_t) *word, uint32_t value)
{
	syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void futex_wake(_Atomic(uint32_t) *word, int n)
{
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, n, NULL, NULL, 0);
}

void inhibit_gate_init(struct inhibit_gate *g)
{
	atomic_init(&g->shut, 0);
	atomic_init(&g->event, 1);
}

static __attribute__((noinline)) void set_event(struct inhibit_gate *g)
{
	if (!atomic_exchange(&g->event, 1))
		futex_wake(&g->event, 1);
}

void inhibit_leave(struct inhibit_gate *g, struct inhibit_counter *c)
{
	atomic_fetch_sub(&c->inside, 1);
	atomic_thread_fence(memory_order_seq_cst);
	if (__builtin_expect(!atomic_load_explicit(&g->event, memory_order_relaxed), 0))
		set_event(g);
}

void inhibit_enter(struct inhibit_gate *g, struct inhibit_counter *c)
{
	for (;;) {
		while (__builtin_expect(atomic_load(&g->shut), 0))
			futex_wait(&g->shut, 1);
		atomic_fetch_add(&c->inside, 1);
		if (__builtin_expect(!atomic_load(&g->shut), 1))
			return;
		inhibit_leave(g, c);
	}
}

void inhibit_shut(struct inhibit_gate *g, struct inhibit_counter *c, int n,
		  void (*kick)(void *opaque, int i), void *opaque)
{
	bool first = true, inside;

	atomic_store(&g->shut, 1);
	for (;; first = false) {
		atomic_store(&g->event, 0);
		inside = false;
		for (int i = 0; i < n; i++) {
			if (!atomic_load(&c[i].inside))
				continue;
			inside = true;
			if (first)
				kick(opaque, i);
		}
		if (!inside)
			break;
		futex_wait(&g->event, 0);
	}
	atomic_store(&g->event, 1);
}

void inhibit_open(struct inhibit_gate *g)
{
	atomic_store(&g->shut, 0);
	futex_wake(&g->shut, INT_MAX);
}

__attribute__((noinline)) int empty_enter(void *opaque)
{
	__asm__ volatile("" : : "r"(opaque) : "memory");
	return 0;
}

__attribute__((noinline)) void empty_leave(void *opaque)
{
	__asm__ volatile("" : : "r"(opaque) : "memory");
}
