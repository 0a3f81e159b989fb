/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The gate, as vCPUs pass it.
 *
 * Why nobody is inside when gm_gate_shut() has returned (G1)
 *
 *     owner    O1 busy = 1    O2 light barrier    O3 read shut
 *     shutter  S1 shut = 1    S2 heavy barrier    S3 read busy
 *
 *   Were O3 to read 0 and S3 to read 0, an owner would be inside unseen. With membarrier(2), S2 puts a full
 *   barrier into every running thread of the process, at some point of its program. If that point is
 *   before O3, then O3 comes after S1 and reads 1. If it is after O3, it is after O1 too, since the light
 *   barrier keeps the compiler from swapping them, and S3 comes after it and reads 1. A thread that is not
 *   running has had its barrier when it was switched out. Without membarrier O1, O3, S1 and S3 are
 *   sequentially consistent, and of two threads that each write and then read, one sees the other's write.
 *
 *   Out again: busy = 0 is a release, S3 an acquire; and shut = 0 is a release, O3 an acquire. So whatever
 *   one side did inside is seen by the other (this is also what ThreadSanitizer checks).
 *
 * No wake-up is lost (G4)
 *
 *     owner    L1 busy = 0     L2 light barrier    L3 read shut
 *              L4 if 1: take the token; if it was out: tokens--; if that was the last: left++, wake
 *     shutter  W1 read left    W2 read busy; if 1: put a token out, tokens++; read busy again, and if 0, take it back
 *              W3 if one was busy: if tokens is 0, look again; else sleep while left is what W1 read
 *
 *   If L3 reads 0, then by the argument above W2 reads 0, if the heavy barrier comes before it; if not yet,
 *   then W3 sleeps for a short time only. If L3 reads 1, then of "busy = 0, take the token" and "put it out,
 *   read busy" one sees the other, both exchanges being full barriers: so nobody who is out leaves a token
 *   behind without somebody to take it. Each token that is put out is counted once and subtracted once, by
 *   whoever takes it. So when all are out, somebody has brought the count to 0. If that is an owner, who does
 *   L4, then either W1 sees the new `left`, and with it busy = 0, or W3 does not sleep, or the wake comes after
 *   it. It may be the shutter, who wakes nobody: of two that he waits for, one gave his token back first, and
 *   the other's he took back himself. Or one gave it back and came anew, and W2 saw him busy on the way in.
 *   But the shutter takes none between W3's read of tokens and the next look: if that is not 0, it is an owner
 *   who brings it to 0, after W1. All others go out without a system call, and without taking the processor
 *   from those who are still to come out.
 *
 *   A token that stays out, since its owner did not see the gate shut, is taken back by the next look that finds
 *   him out, or when the shutter gives up.
 *
 * No kick is lost (G5)
 *
 *     shutter  K1 immediate_exit: 0 -> GM_KICKED   K2 kicked = true   K3 signal
 *     owner    R  KVM_RUN (reads immediate_exit, then watches for signals)
 *              T1 kicked: true -> false    T2 immediate_exit: GM_KICKED -> 0
 *
 *   A kick is sent to whom S3 finds busy. If he has yet to start KVM_RUN, either the signal finds him in it,
 *   or it came before, and then so did K1, which R reads. T1 and T2 run only in the last leave before busy
 *   is cleared, so KVM_RUN does not follow them unless he passes in anew; or at the gate, when not busy.
 *   If he passes in anew and is not made to wait while the gate is still shut, he is inside by another hold:
 *   then he does K1 and K2 himself, before KVM_RUN, since the shutter may have had his last look.
 *
 * Stale kicks do no harm: one that arrives after T1 leaves its mark until the next leave, and costs one
 * KVM_RUN that returns at once. No mark is forgotten: since K1 comes before K2, and T1 before T2, there is no
 * order of the four that leaves immediate_exit at GM_KICKED and kicked false when both sides are through.
 * The opposite, kicked and an immediate_exit of 0, is one spurious `true` from a later leave.
 */
#include "sync/gate_impl.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <signal.h>

GM_FAST_TLS _Thread_local struct gm_thread gm_thread = {.tid = -1, .passing = -1};

pid_t gm_thread_learn(void)
{
	gm_thread.tid = (pid_t)syscall(SYS_gettid);
	return gm_thread.tid;
}

int gm_gate_init(struct gm_gate *g, int kick_signal, bool no_membarrier)
{
	int err = pthread_mutex_init(&g->lock, NULL);

	if (err)
		return -err;
	atomic_init(&g->shut, GM_OPEN);
	atomic_init(&g->membarrier,
		    !no_membarrier && !syscall(SYS_membarrier,
					       MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0));
	g->kick_signal = kick_signal;
	atomic_init(&g->crowd, 0);
	atomic_init(&g->left, 0);
	atomic_init(&g->tokens, 0);
	atomic_init(&g->waiting, 0);
	atomic_init(&g->freed, 0);
	g->passes = NULL;
	atomic_init(&g->inhibitor, 0);
	atomic_init(&g->inhibitors_waiting, 0);
	g->round = 0;
	atomic_init(&g->kicks, 0);
	for (int i = 0; i < GM_HOLDERS; i++) {
		atomic_init(&g->holders[i].owner, 0);
		g->holders[i].depth = 0;
	}
	gm_thread_learn(); /* we may be the child of a fork */
	return 0;
}

void gm_gate_destroy(struct gm_gate *g)
{
	pthread_mutex_destroy(&g->lock);
}

void gm_pass_init(struct gm_pass *p, struct gm_gate *g, unsigned id, uint8_t *immediate_exit)
{
	atomic_init(&p->busy, 0);
	atomic_init(&p->kicked, false);
	atomic_init(&p->fenced, false);
	atomic_init(&p->awaited, false);
	atomic_init(&p->owner, 0);
	p->gate = g;
	p->immediate_exit = (_Atomic(uint8_t) *)immediate_exit;
	p->id = id;
	p->prev = NULL;
	p->round = 0;
	p->owed = false;
	pthread_mutex_lock(&g->lock);
	p->next = g->passes;
	if (p->next)
		p->next->prev = p;
	g->passes = p;
	pthread_mutex_unlock(&g->lock);
}

/* T1, T2. */
static void take_back_marked(struct gm_pass *p)
{
	uint8_t ours = GM_KICKED;

	atomic_exchange(&p->kicked, false);
	if (p->immediate_exit)
		atomic_compare_exchange_strong(p->immediate_exit, &ours, 0);
}

void gm_pass_destroy(struct gm_pass *p)
{
	struct gm_gate *g = p->gate;

	/* Kicks are sent with the lock held: none is on its way when we have it. */
	pthread_mutex_lock(&g->lock);
	if (p->next)
		p->next->prev = p->prev;
	if (p->prev)
		p->prev->next = p->next;
	else
		g->passes = p->next;
	/* One whose owner left without seeing the gate shut. */
	gm_pass_give_token(p);
	pthread_mutex_unlock(&g->lock);
	/* One that came after the last leave has marked what is the caller's from now on. */
	take_back_marked(p);
}

/* O1 and O2, or L1 and L2, in either mode. */
static void set_busy(struct gm_pass *p, uint32_t depth)
{
	if (gm_likely(gm_pass_light(p))) {
		gm_pass_set_light(p, depth);
		return;
	}
	/* Before busy: who sees this may believe what he then sees of busy. */
	if (gm_unlikely(!atomic_load_explicit(&p->fenced, memory_order_relaxed)))
		atomic_store(&p->fenced, true);
	atomic_store(&p->busy, depth);
}

static inline bool take_back(struct gm_pass *p)
{
	if (gm_likely(!atomic_load_explicit(&p->kicked, memory_order_acquire)))
		return false;
	take_back_marked(p);
	return true;
}

/*
 * The kernel gives the id of a thread that has ended to a new one. To that one the passes of the old one would
 * look as though they were its own, and gm_gate_inside_but() counts on knowing which those are.
 */
static void disown_stale(struct gm_pass *but, pid_t self)
{
	struct gm_gate *g = but->gate;

	pthread_mutex_lock(&g->lock);
	for (struct gm_pass *p = g->passes; p; p = p->next) {
		pid_t stale = self;

		atomic_compare_exchange_strong(&p->owner, &stale, 0);
	}
	pthread_mutex_unlock(&g->lock);
}

/* The calling thread is another than the one that passed last: bind the pass to it. */
static int bind_pass(struct gm_pass *p)
{
	int signo = p->gate->kick_signal;
	pid_t self = gm_thread_learn();
	sigset_t blocked;

	if (signo) {
		pthread_sigmask(SIG_BLOCK, NULL, &blocked);
		if (sigismember(&blocked, signo) == 1)
			return -EINVAL;
	}
	/* The first time, or the first in the child of a fork. */
	if (gm_thread.passing != self) {
		gm_thread.passing = self;
		gm_thread.bound = 0;
		gm_thread.first = p;
		disown_stale(p, self);
	}
	/* More than one is all that matters, and it must not wrap. */
	if (gm_thread.bound < 2)
		gm_thread.bound++;
	/* Sequentially consistent, as the read of shut that follows: see bound_elsewhere(). */
	atomic_store(&p->owner, self);
	return 0;
}

void gm_wake_inhibitor(struct gm_gate *g)
{
	atomic_fetch_add(&g->left, 1);
	gm_futex_wake(&g->left, 1);
}

void gm_pass_give_token(struct gm_pass *p)
{
	struct gm_gate *g = p->gate;

	if (gm_take_token(p) && atomic_fetch_sub(&g->tokens, 1) == 1)
		gm_wake_inhibitor(g);
}

int gm_gate_sleep(struct gm_gate *g)
{
	if (atomic_load(&g->shut) == GM_SHUT)
		gm_futex_wait(&g->shut, GM_SHUT, GM_NO_DEADLINE);
	return gm_gate_broken(g) ? -ENOTRECOVERABLE : 0;
}

int gm_pass_enter_shut(struct gm_pass *p, uint32_t depth)
{
	struct gm_gate *g = p->gate;
	int err;

	if (depth > 0)
		return 0;
	if (gm_gate_inside_but(g, p)) {
		gm_mark_kicked(p);
		return 0;
	}
	if (gm_gate_mine(g)) {
		/* Nobody else looks, so there is no token to give. */
		set_busy(p, 0);
		return -EDEADLK;
	}
	gm_waiting_begin(g);
	do {
		set_busy(p, 0);
		gm_pass_give_token(p);
		err = gm_gate_sleep(g);
		take_back(p);
		if (err)
			break;
		set_busy(p, 1);
	} while (atomic_load(&g->shut));
	gm_waiting_end(g);
	return err;
}

int gm_pass_enter_rare(struct gm_pass *p)
{
	uint32_t depth;

	if (atomic_load_explicit(&p->owner, memory_order_relaxed) != gm_thread.passing) {
		int err = bind_pass(p);

		if (err)
			return err;
	}
	depth = atomic_load_explicit(&p->busy, memory_order_relaxed);
	set_busy(p, depth + 1);
	return gm_pass_shut(p) ? gm_pass_enter_shut(p, depth) : 0;
}

bool gm_pass_leave_rare(struct gm_pass *p)
{
	uint32_t depth = atomic_load_explicit(&p->busy, memory_order_relaxed);
	bool kicked;

	if (depth-- == 0)
		return false; /* after an enter that failed */
	kicked = depth == 0 && take_back(p);
	set_busy(p, depth);
	if (gm_pass_shut(p) && depth == 0)
		gm_pass_give_token(p);
	return kicked;
}

bool gm_gate_inside_but(struct gm_gate *g, const struct gm_pass *but)
{
	pid_t self = gm_thread_id();
	bool inside;

	/* Nearly all who come to a shut gate: they are not to queue for the lock, the inhibitor needs it. */
	if (!gm_thread.records &&
	    (!gm_thread.bound || (gm_thread.bound == 1 && gm_thread.first == but)))
		return false;
	/*
	 * With the lock held (G6): a hold that is added while the gate is shut is added wholly before or
	 * wholly after a look of the inhibitor. Without it he could look at the new one before it is
	 * taken, and at the old one after it is given back.
	 */
	pthread_mutex_lock(&g->lock);
	inside = gm_holder_find(g, self);
	for (struct gm_pass *p = g->passes; p && !inside; p = p->next)
		inside = p != but && atomic_load(&p->owner) == self && atomic_load(&p->busy);
	pthread_mutex_unlock(&g->lock);
	return inside;
}

bool gm_gate_inside(struct gm_gate *g)
{
	return gm_gate_inside_but(g, NULL);
}
