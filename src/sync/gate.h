/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The gate: what every ioctl that could touch guest memory passes through. Passing is cheap, shutting
 * pays.
 *
 *     enter   busy = 1; light barrier; if shut: busy = 0, wake the inhibitor, sleep until open, again
 *     leave   busy = 0 (release); light barrier; if shut: wake the inhibitor
 *     shut    shut = 1; kick every busy vCPU; sleep until all are out, or the deadline; heavy barrier, and
 *             look again
 *     open    shut = 0; wake all
 *
 * With membarrier(2) the light barrier is a compiler barrier only and the heavy one is the system call;
 * without it both are full fences.
 *
 * Invariants:
 *  G1  Between a successful gm_gate_shut() and gm_gate_open() no pass is busy, but for one whose owner has
 *      set it on the way in and not yet looked at `shut`; it goes back before it does anything.
 *  G2  A pass is written by the thread that owns it; by others only its `kicked` mark and its token.
 *  G3  A thread that sleeps at the gate is not busy; one that is busy is never made to wait for the gate
 *      (holds nest).
 *  G4  Whoever leaves while the gate is shut, and is awaited, gives the inhibitor its token back after it has
 *      cleared busy; who gives the last one back wakes him. A holder always wakes him.
 *  G5  immediate_exit is set to GM_KICKED by the inhibitor, and taken back by the pass's owner only after
 *      KVM_RUN has returned and before busy is cleared, or before busy is set on the next way in. The value
 *      1 is the application's, and is never overwritten nor cleared.
 *  G6  A thread may be inside by several passes and holds, and give them back in any order. One that is
 *      added while the gate is shut is either seen by the inhibitor's next look at all of them, or was
 *      added after that look, which then saw the ones that the thread had before.
 *  G7  Who had to wait at the gate is kicked when it is in: its next KVM_RUN returns at once. A signal of the
 *      application's may have had its handler run meanwhile, and the application is to learn of it.
 *  G8  One thread at a time may be in gm_gate_shut(), or have shut or be breaking a gate: the caller sees to that.
 */
#ifndef GM_SYNC_GATE_H
#define GM_SYNC_GATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/alloc.h"

/* What two processors should not write to at once. arm64 has lines of 64 and of 128 bytes. */
#ifdef __aarch64__
#define GM_CACHE_LINE 128
#else
#define GM_CACHE_LINE 64
#endif
#define GM_KICKED 2 /* the value of immediate_exit that is ours */
#define GM_HOLDERS 64

struct gm_gate;

/* One vCPU at the gate. First line: written by its owner. */
struct gm_pass {
	_Alignas(GM_CACHE_LINE) _Atomic(uint32_t) busy; /* depth of holds */
	_Atomic(bool) kicked;
	_Atomic(bool) fenced;		  /* its owner is known to use full fences */
	_Atomic(bool) awaited;		  /* the token: the inhibitor waits for it to come out */
	_Atomic(pid_t) owner;		  /* kernel's id of the thread bound to it; 0: none yet */
	struct gm_gate *gate;		  /* constant, as are the next two */
	_Atomic(uint8_t) *immediate_exit; /* in kvm_run; NULL: nothing to set */
	unsigned id;
	/* Second line: under gate->lock. */
	_Alignas(GM_CACHE_LINE) struct gm_pass *next;
	struct gm_pass *prev;
	uint64_t round; /* when it was last kicked */
	bool owed;	/* a signal that could not be sent */
};

/* A thread inside the gate that is no vCPU. `depth` and `next` are its owner's. */
struct gm_holder {
	_Alignas(GM_CACHE_LINE) _Atomic(pid_t) owner; /* it is inside; 0: the record is free */
	uint32_t depth;
	const struct gm_gate *gate; /* constant */
	struct gm_holder *next;	    /* that the same thread has, in another gate: gm_thread.held */
};

struct gm_gate {
	/* First line: read by all, written when the gate moves. */
	_Alignas(GM_CACHE_LINE) _Atomic(uint32_t)
		shut; /* a futex: 0 open, 1 shut, 2 shut and broken */
	_Atomic(bool) membarrier;
	int kick_signal;
	_Atomic(uint32_t) crowd; /* threads that wait for a free holder */
	/* Second: what threads write that leave while it is shut, or had to wait. */
	_Alignas(GM_CACHE_LINE) _Atomic(uint32_t) left; /* a futex: counts wakes of the inhibitor */
	_Atomic(uint32_t) tokens;  /* out, or taken and about to be subtracted */
	_Atomic(uint32_t) waiting; /* a futex: threads that had to wait and are not in yet */
	_Atomic(uint32_t) freed;   /* a futex: counts holders that became free for the crowd */
	/* Third: the inhibitor's. */
	_Alignas(GM_CACHE_LINE) pthread_mutex_t lock; /* the list of passes; held for short */
	struct gm_pass *passes;
	_Atomic(pid_t) inhibitor; /* from shut to open: who has shut it; or 0 */
	uint64_t round;		  /* the inhibitor's: counts the times it was shut */
	_Atomic(uint64_t) kicks;
	struct gm_holder holders[GM_HOLDERS];
};

/* Who was still inside when the deadline came. */
struct gm_stuck {
	bool is_vcpu;
	unsigned id;
	pid_t tid;
};

/* @kick_signal 0: no signals are sent, as for a gate without passes. -ENOMEM, -EAGAIN. */
int gm_gate_init(struct gm_gate *g, int kick_signal, bool no_membarrier);
/* Nobody may be inside, but for holds of the calling thread, which end with it. */
void gm_gate_destroy(struct gm_gate *g);

void gm_pass_init(struct gm_pass *p, struct gm_gate *g, unsigned id, uint8_t *immediate_exit);
/* Waits for a kick on its way to it. The pass must not be busy. */
void gm_pass_destroy(struct gm_pass *p);

/* Pass in. Waits while the gate is shut, unless this thread is inside already. -ENOTRECOVERABLE: broken.
 * -EINVAL: the kick signal is blocked in this thread. -EDEADLK: this thread holds it shut. */
static inline int gm_pass_enter(struct gm_pass *p);
/* Pass out. Where that is the last hold of @p: takes back a kick of ours. A leave without an enter does
 * nothing. */
static inline void gm_pass_leave(struct gm_pass *p);

/* The same for a thread that is no vCPU. If all holders are taken, it waits for one; a leave without an
 * enter does nothing. Where nobody shuts, that is two locked instructions. */
int gm_gate_enter(struct gm_gate *g);
void gm_gate_leave(struct gm_gate *g);

/* Is the calling thread inside? */
bool gm_gate_inside(struct gm_gate *g);
/* Is it inside by @p, or as one that is no vCPU? Costs next to nothing, and knows nothing of other passes. */
static inline bool gm_gate_inside_plainly(struct gm_gate *g, const struct gm_pass *p);
/* Is it inside by something else than @but? pre: @but is bound to it. */
bool gm_gate_inside_but(struct gm_gate *g, const struct gm_pass *but);

/*
 * Shut the gate and wait until all are out. @deadline_ns is on CLOCK_MONOTONIC. *@kicked counts the vCPUs
 * that were kicked; *@start is the CLOCK_MONOTONIC time in ns just before the first could be held.
 * -ETIMEDOUT: it is open again, *@stuck says who. -EDEADLK: this thread is inside, or holds it shut. A gate that
 * is broken stays so, also after -ETIMEDOUT. No system call where nobody is inside or waits, and no pass is bound
 * to another thread. pre: G8.
 */
int gm_gate_shut(struct gm_gate *g, uint64_t deadline_ns, unsigned *kicked, uint64_t *start,
		 struct gm_stuck *stuck);
/* The same without letting those in first who wait since it was shut before: for a gate that is shut while another one
 * is held, so that nobody is made to wait for them. */
int gm_gate_shut_now(struct gm_gate *g, uint64_t deadline_ns, unsigned *kicked, uint64_t *start,
		     struct gm_stuck *stuck);
/* Let those in who still wait since the gate was shut before; waits for them for 1 ms at most. */
void gm_gate_let_in(struct gm_gate *g, uint64_t deadline_ns);
/* Open it, and wake all. */
void gm_gate_open(struct gm_gate *g);
/* Leave it shut: who waits, and who comes, gets -ENOTRECOVERABLE, until it is shut by a repair and opened. May
 * also be called where it could not be shut: who is inside is kicked, but not waited for. pre: G8. */
void gm_gate_break(struct gm_gate *g);
static inline bool gm_gate_broken(struct gm_gate *g);

/* CLOCK_MONOTONIC in ns. */
uint64_t gm_now_ns(void);

#include "sync/gate_pass.h"

#endif
