/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The inhibitor's side of the gate. gate.c has the arguments about order; here is what they need of it:
 *
 *  - `shut` is written before anything of the passes is read, and the look that is the last one, which finds
 *    nobody inside, comes after the heavy barrier (GS1, GS2, GS3).
 *  - `left` is read before a look at the passes, and slept on after it (GW1, GW2, GW3); for a short time only
 *    if the heavy barrier has not come between GS1 and GW2.
 *  - One look at all passes and holders is one critical section of g->lock (G6).
 *  - All who are inside are kicked before any is waited for.
 *  - Who is seen inside has a token, and is looked at once more after he got it (GW2). Nobody sleeps when the
 *    look was through and no token was out (GW3).
 *
 * When the heavy barrier fails
 *
 *   membarrier(2) works when the gate is made, but a seccomp filter may forbid it later, perhaps to one
 *   thread only, or memory may run out. Then the gate changes to full fences for good. But threads may have
 *   passed without one and be inside unseen, until they have shown, by pass->fenced, that they know. Such a
 *   pass counts as inside, whatever its busy says, and is kicked, and looked at every millisecond since it
 *   may not wake us. vCPUs that run or sleep at the gate show it at once. One that does neither, and doesn't
 *   come near the gate, costs -ETIMEDOUT: that is better than a hole.
 */
#include "sync/gate_impl.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <signal.h>

#include "base/trace.h"

/* How long a commit lets those in first who waited for the one before. Without it, a stream of commits
 * would starve the vCPUs: they need longer to wake than the next commit to shut. More than a scheduler
 * needs to wake a thread; and if it takes longer, the commit goes on. */
#define LET_IN_NS 1000000

/* Between two looks at somebody who may come out without waking us. */
#define POLL_NS 1000000

/* One time that the gate is shut. */
struct round {
	struct gm_gate *gate;
	pid_t self;
	bool barrier_done; /* or not needed */
	bool poll;	   /* the last look found a reason to look again soon */
	bool awaits;	   /* the last look saw a vCPU inside */
	unsigned kicked;
};

uint64_t gm_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* ------------------------------------------------------------------------- heavy barrier --- */

/*
 * Is a pass bound to another thread? If not, no heavy barrier is needed: ours are in program order, and
 * whoever binds one from now on writes owner and then reads shut, while we have written shut and then read
 * owner, all sequentially consistent: since we did not see him, he sees us.
 */
static bool bound_elsewhere(const struct round *r, struct gm_pass *p)
{
	pid_t owner = atomic_load(&p->owner);

	return owner && owner != r->self;
}

/* GS2. pre: g->lock is held, and the gate uses membarrier. */
static void heavy_barrier(struct round *r)
{
	struct gm_gate *g = r->gate;
	bool needed = false;

	for (struct gm_pass *p = g->passes; p && !needed; p = p->next)
		needed = bound_elsewhere(r, p);
	r->barrier_done =
		!needed || !syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
	if (!r->barrier_done)
		atomic_store(&g->membarrier, false);
}

/* Is the barrier still to come? */
static bool barrier_ahead(const struct round *r)
{
	return !r->barrier_done && atomic_load_explicit(&r->gate->membarrier, memory_order_relaxed);
}

/* May what busy says be believed, at least until the barrier? To be asked before busy is read. */
static bool credible(const struct round *r, struct gm_pass *p)
{
	return r->barrier_done || barrier_ahead(r) || atomic_load(&p->fenced) ||
	       !bound_elsewhere(r, p);
}

/* ---------------------------------------------------------------------------- kick, drain --- */

/* GK1 to GK3; once each time that the gate is shut, and the signal again if it could not be sent. */
static void kick(struct round *r, struct gm_pass *p)
{
	struct gm_gate *g = r->gate;
	pid_t owner = atomic_load(&p->owner);
	bool first = p->round != g->round;

	if (!first && !p->owed)
		return;
	p->round = g->round;
	p->owed = false;
	r->kicked += first;
	gm_mark_kicked(p);
	if (!g->kick_signal)
		return;
	/* EAGAIN: a real-time signal, and the queue for them is full. */
	p->owed = syscall(SYS_tgkill, getpid(), owner, g->kick_signal) && errno == EAGAIN;
	atomic_fetch_add_explicit(&g->kicks, 1, memory_order_relaxed);
	gm_trace2(gate_kick, p->id, owner);
}

static void take_token(struct gm_pass *p)
{
	/* Nobody else puts one out. So most are not written to, which would take the line from the owner. */
	if (atomic_load(&p->awaited) && gm_take_token(p))
		atomic_fetch_sub(&p->gate->tokens, 1);
}

/* GW2: is it inside? Then it has a token from here on. */
static bool await_pass(struct gm_pass *p, bool sure)
{
	if (sure && !atomic_load(&p->busy)) {
		take_token(p);
		return false;
	}
	if (!atomic_exchange(&p->awaited, true))
		atomic_fetch_add(&p->gate->tokens, 1);
	if (!sure || atomic_load(&p->busy))
		return true;
	take_token(p);
	return false;
}

/* One look at all: kick who is inside. False: nobody is. Else @who names one of them. */
static bool look(struct round *r, struct gm_stuck *who)
{
	struct gm_gate *g = r->gate;
	bool inside = false;

	r->poll = false;
	r->awaits = false;
	for (struct gm_pass *p = g->passes; p; p = p->next) {
		bool sure = credible(r, p);

		if (!await_pass(p, sure))
			continue;
		kick(r, p);
		/* He may sleep at the gate since before: let him try, and so show that he knows. */
		if (!sure)
			gm_futex_wake(&g->shut, GM_WAKE_ALL);
		r->poll |= !sure || p->owed;
		*who = (struct gm_stuck){
			.is_vcpu = true, .id = p->id, .tid = atomic_load(&p->owner)};
		r->awaits = true;
		inside = true;
	}
	for (int i = 0; i < GM_HOLDERS; i++) {
		pid_t owner = atomic_load(&g->holders[i].owner);

		if (!owner)
			continue;
		if (!inside)
			*who = (struct gm_stuck){.tid = owner};
		inside = true;
	}
	return inside;
}

/*
 * True: nobody is inside, and that is certain. The barrier comes when nobody is seen inside any more: it
 * interrupts every processor that runs a thread of ours, which is dear as long as they run the guest, and
 * cheap when they sleep at the gate. Until then a look may miss somebody, which only puts his kick off, and
 * whom it sees may leave without waking us (GL3 may read 0).
 */
static bool all_out(struct round *r, struct gm_stuck *who)
{
	struct gm_gate *g = r->gate;
	bool inside;

	pthread_mutex_lock(&g->lock);
	inside = look(r, who);
	if (!inside && barrier_ahead(r)) {
		heavy_barrier(r);
		inside = look(r, who);
	}
	r->poll |= barrier_ahead(r);
	pthread_mutex_unlock(&g->lock);
	return !inside;
}

static int drain(struct round *r, uint64_t deadline, struct gm_stuck *stuck)
{
	struct gm_gate *g = r->gate;
	struct gm_stuck who;

	for (;;) {
		uint32_t left = atomic_load(&g->left);
		uint64_t until = deadline, now;

		if (all_out(r, &who))
			return 0;
		now = gm_now_ns();
		if (now >= deadline) {
			*stuck = who;
			return -ETIMEDOUT;
		}
		/* The last token has come back without a wake, or who gives it back wakes us from here on. */
		if (r->awaits && !atomic_load(&g->tokens))
			continue;
		if (r->poll && deadline - now > POLL_NS)
			until = now + POLL_NS;
		gm_futex_wait(&g->left, left, until);
	}
}

/* Nobody is waited for any more. */
static void take_all_tokens(struct gm_gate *g)
{
	pthread_mutex_lock(&g->lock);
	for (struct gm_pass *p = g->passes; p; p = p->next)
		take_token(p);
	pthread_mutex_unlock(&g->lock);
}

void gm_gate_let_in(struct gm_gate *g, uint64_t deadline)
{
	uint32_t waiting = atomic_load(&g->waiting);
	uint64_t until;

	if (!waiting)
		return;
	until = gm_now_ns() + LET_IN_NS;
	if (until > deadline)
		until = deadline;
	while (waiting && gm_now_ns() < until) {
		gm_futex_wait(&g->waiting, waiting, until);
		waiting = atomic_load(&g->waiting);
	}
}

/* ------------------------------------------------------------------------------- the gate --- */

/* Who sleeps at the gate has counted himself before he looked at `shut` for the last time, and we write that
 * before we look at the count. So if it is 0 he comes too late to sleep. */
static void end_shut(struct gm_gate *g, uint32_t state)
{
	atomic_store(&g->inhibitor, 0);
	atomic_store(&g->shut, state);
	if (atomic_load(&g->waiting))
		gm_futex_wake(&g->shut, GM_WAKE_ALL);
}

int gm_gate_shut(struct gm_gate *g, uint64_t deadline_ns, unsigned *kicked, uint64_t *start,
		 struct gm_stuck *stuck)
{
	if (gm_gate_mine(g) || gm_gate_inside(g))
		return -EDEADLK;
	/* A broken one lets nobody in, but somebody may be inside who was when it broke. */
	if (!gm_gate_broken(g))
		gm_gate_let_in(g, deadline_ns);
	return gm_gate_shut_now(g, deadline_ns, kicked, start, stuck);
}

int gm_gate_shut_now(struct gm_gate *g, uint64_t deadline_ns, unsigned *kicked, uint64_t *start,
		     struct gm_stuck *stuck)
{
	struct round r = {.gate = g, .self = gm_thread_id()};
	uint64_t began;
	bool broken;
	int err;

	if (gm_gate_mine(g) || gm_gate_inside(g))
		return -EDEADLK;
	atomic_store(&g->inhibitor, r.self);
	broken = gm_gate_broken(g);
	g->round++;
	began = gm_now_ns();
	if (!broken)
		atomic_store(&g->shut, GM_SHUT);
	err = drain(&r, deadline_ns, stuck);
	if (err) {
		take_all_tokens(g);
		end_shut(g, broken ? GM_BROKEN : GM_OPEN);
		return err;
	}
	*kicked = r.kicked;
	*start = began;
	return 0;
}

void gm_gate_open(struct gm_gate *g)
{
	end_shut(g, GM_OPEN);
}

void gm_gate_break(struct gm_gate *g)
{
	struct round r = {.gate = g, .self = gm_thread_id()};
	struct gm_stuck who;

	atomic_store(&g->shut, GM_BROKEN);
	/* If it could not be shut, some are inside: they are asked to come out, and can't come back. */
	g->round++;
	pthread_mutex_lock(&g->lock);
	heavy_barrier(&r);
	look(&r, &who);
	pthread_mutex_unlock(&g->lock);
	end_shut(g, GM_BROKEN);
}
