/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Passing the gate as a vCPU, where nothing stands against it: inlined into whoever passes. gate.c has the
 * argument and everything else. Included by gate.h, not by itself.
 *
 * A nanosecond is a handful of loads and stores, so:
 *  - No value is read from memory, changed and written back: where busy is 0 it becomes 1, and where it is 1
 *    it becomes 0. The processor predicts that, and need not wait for its own last store.
 *  - Everything rare is one call away: another thread, nested holds, kicks, full fences, a gate that is shut.
 */
#ifndef GM_SYNC_GATE_PASS_H
#define GM_SYNC_GATE_PASS_H

#define gm_likely(x) __builtin_expect(!!(x), 1)
#define gm_unlikely(x) __builtin_expect(!!(x), 0)

/*
 * What a thread knows of itself. Threads are told apart by the kernel's id: pthread_self() of a thread that
 * has ended is given to a new one at once, which would then be taken for the old one and its kicks sent to
 * nobody.
 */
struct gm_thread {
	pid_t tid;		     /* -1: not asked yet; never equal to an owner of 0 */
	pid_t passing;		     /* as tid, but -1 until a pass is bound to it */
	uint32_t bound;		     /* how often a pass was bound to it; 2: or more often */
	const struct gm_pass *first; /* that was; for comparisons only, it may be gone */
	struct gm_holder
		*held; /* the records that it has, one in each gate that it is inside by one */
};

/* One load from the thread's own block, no call. */
#define GM_FAST_TLS __attribute__((tls_model("initial-exec"), visibility("hidden")))
extern GM_FAST_TLS _Thread_local struct gm_thread gm_thread;

/* Ask the kernel; needed once per thread. */
pid_t gm_thread_learn(void);

enum { GM_OPEN = 0, GM_SHUT = 1, GM_BROKEN = 2 }; /* values of gate->shut */

static inline bool gm_gate_broken(struct gm_gate *g)
{
	return atomic_load(&g->shut) == GM_BROKEN;
}

static inline pid_t gm_thread_id(void)
{
	return gm_likely(gm_thread.tid > 0) ? gm_thread.tid : gm_thread_learn();
}

/* Any thread, any depth, any mode, and with a kick that came too late. */
int gm_pass_enter_rare(struct gm_pass *p);
void gm_pass_leave_rare(struct gm_pass *p);
/* @p has become busy, by @depth + 1 holds, and has found the gate shut. */
int gm_pass_enter_shut(struct gm_pass *p, uint32_t depth);
/* G4: called after busy has been cleared. */
void gm_pass_give_token(struct gm_pass *p);

/* Is its thread inside by it? pre: that is the calling thread. */
static inline bool gm_pass_busy(const struct gm_pass *p)
{
	return atomic_load_explicit(&p->busy, memory_order_relaxed) != 0;
}

/* May it be written without a fence? */
static inline bool gm_pass_light(const struct gm_pass *p)
{
	return atomic_load_explicit(&p->gate->membarrier, memory_order_relaxed);
}

static inline bool gm_pass_shut(const struct gm_pass *p)
{
	return gm_unlikely(atomic_load(&p->gate->shut) != 0);
}

/* GO1 and GO2, or GL1 and GL2: the light barrier is for the compiler. A release in both directions: whoever sees
 * us busy sees the owner, too. */
static inline void gm_pass_set_light(struct gm_pass *p, uint32_t depth)
{
	atomic_store_explicit(&p->busy, depth, memory_order_release);
	atomic_signal_fence(memory_order_seq_cst);
}

static inline int gm_pass_enter(struct gm_pass *p)
{
	if (gm_unlikely(atomic_load_explicit(&p->owner, memory_order_relaxed) !=
				gm_thread.passing ||
			gm_pass_busy(p) || atomic_load_explicit(&p->kicked, memory_order_relaxed) ||
			!gm_pass_light(p)))
		return gm_pass_enter_rare(p);
	gm_pass_set_light(p, 1);
	return gm_pass_shut(p) ? gm_pass_enter_shut(p, 0) : 0;
}

static inline void gm_pass_leave(struct gm_pass *p)
{
	if (gm_unlikely(atomic_load_explicit(&p->busy, memory_order_relaxed) != 1 ||
			atomic_load_explicit(&p->kicked, memory_order_relaxed) ||
			!gm_pass_light(p))) {
		gm_pass_leave_rare(p);
		return;
	}
	gm_pass_set_light(p, 0);
	if (gm_pass_shut(p))
		gm_pass_give_token(p);
}

/* The record of the calling thread in @g; NULL: it has none. */
static inline struct gm_holder *gm_holder_find(const struct gm_gate *g)
{
	struct gm_holder *h = gm_thread.held;

	while (h && h->gate != g)
		h = h->next;
	return h;
}

static inline bool gm_gate_inside_plainly(struct gm_gate *g, const struct gm_pass *p)
{
	return gm_unlikely(gm_pass_busy(p) || gm_holder_find(g));
}

#endif
