/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The gate, as vCPUs pass it.
 *
 * Why nobody is inside when gm_gate_shut() has returned (G1)
 *
 *     owner    GO1 busy = 1    GO2 light barrier    GO3 read shut
 *     shutter  GS1 shut = 1    GS2 heavy barrier    GS3 read busy
 *
 *   Were GO3 to read 0 and GS3 to read 0, an owner would be inside unseen. With membarrier(2), GS2 puts a full
 *   barrier into every running thread of the process, at some point of its program. If that point is
 *   before GO3, then GO3 comes after GS1 and reads 1. If it is after GO3, it is after GO1 too, since the light
 *   barrier keeps the compiler from swapping them, and GS3 comes after it and reads 1. A thread that is not
 *   running has had its barrier when it was switched out. Without membarrier GO1, GO3, GS1 and GS3 are
 *   sequentially consistent, and of two threads that each write and then read, one sees the other's write.
 *
 *   Out again: busy = 0 is a release, GS3 an acquire; and shut = 0 is a release, GO3 an acquire. So whatever
 *   one side did inside is seen by the other (this is also what ThreadSanitizer checks).
 *
 * No wake-up is lost (G4)
 *
 *     owner    GL1 busy = 0     GL2 light barrier    GL3 read shut
 *              GL4 if 1: take the token; if it was out: tokens--; if that was the last: left++, wake
 *     shutter  GW1 read left    GW2 read busy; if 1: put a token out, tokens++; read busy again, and if 0, take it back
 *              GW3 if one was busy: if tokens is 0, look again; else sleep while left is what GW1 read
 *
 *   If GL3 reads 0, then by the argument above GW2 reads 0, if the heavy barrier comes before it; if not yet,
 *   then GW3 sleeps for a short time only. If GL3 reads 1, then of "busy = 0, take the token" and "put it out,
 *   read busy" one sees the other, both exchanges being full barriers: so nobody who is out leaves a token
 *   behind without somebody to take it. Each token that is put out is counted once and subtracted once, by
 *   whoever takes it. So when all are out, somebody has brought the count to 0. If that is an owner, who does
 *   GL4, then either GW1 sees the new `left`, and with it busy = 0, or GW3 does not sleep, or the wake comes after
 *   it. It may be the shutter, who wakes nobody: of two that he waits for, one gave his token back first, and
 *   the other's he took back himself. Or one gave it back and came anew, and GW2 saw him busy on the way in.
 *   But the shutter takes none between GW3's read of tokens and the next look: if that is not 0, it is an owner
 *   who brings it to 0, after GW1. All others go out without a system call, and without taking the processor
 *   from those who are still to come out.
 *
 *   A token that stays out, since its owner did not see the gate shut, is taken back by the next look that finds
 *   him out, or when the shutter gives up.
 *
 * No kick is lost (G5)
 *
 *     shutter  GK1 immediate_exit: 0 -> GM_KICKED   GK2 kicked = true   GK3 signal
 *     owner    GR1 KVM_RUN (reads immediate_exit, then watches for signals)
 *              GT1 kicked: true -> false    GT2 immediate_exit: GM_KICKED -> 0
 *
 *   A kick is sent to whom GS3 finds busy. If he has yet to start KVM_RUN, either the signal finds him in it,
 *   or it came before, and then so did GK1, which GR1 reads. GT1 and GT2 run only in the last leave before busy
 *   is cleared, so KVM_RUN does not follow them unless he passes in anew; or at the gate, when not busy.
 *   If he passes in anew and is not made to wait while the gate is still shut, he is inside by another hold:
 *   then he does GK1 and GK2 himself, before KVM_RUN, since the shutter may have had his last look.
 *
 * Stale kicks do no harm. One that arrives after GT1 (KVM_RUN has seen GK1 and returned before GK2, say) is taken back
 * on the next way in, before GO1: had it been meant for what comes now, it would have been sent after GO1. Only one
 * that comes between that and GO1, while the gate shuts and opens there, too, stays until the next leave, and costs
 * a KVM_RUN that returns at once. No mark is forgotten: since GK1 comes before GK2, and GT1 before GT2, there is no
 * order of the four that leaves immediate_exit at GM_KICKED and kicked false when both sides are through.
 */
#include "sync/gate_impl.h"

#include <errno.h>
#include <signal.h>

GM_FAST_TLS _Thread_local struct gm_thread gm_thread = GM_THREAD_UNKNOWN;

pid_t gm_thread_learn(void)
{
	gm_thread.tid = (pid_t)syscall(SYS_gettid);
	return gm_thread.tid;
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

/* GT1, GT2. */
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

/* GO1 and GO2, or GL1 and GL2, in either mode. */
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

static inline void take_back(struct gm_pass *p)
{
	if (gm_unlikely(atomic_load_explicit(&p->kicked, memory_order_acquire)))
		take_back_marked(p);
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
	/* The first time. */
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
		gm_mark_kicked(p); /* the inhibitor may have had his last look */
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
	if (!err)
		gm_mark_kicked(p); /* G7 */
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
	if (!depth)
		take_back(p);
	set_busy(p, depth + 1);
	return gm_pass_shut(p) ? gm_pass_enter_shut(p, depth) : 0;
}

void gm_pass_leave_rare(struct gm_pass *p)
{
	uint32_t depth = atomic_load_explicit(&p->busy, memory_order_relaxed);

	if (depth-- == 0)
		return; /* after an enter that failed */
	if (depth == 0)
		take_back(p);
	set_busy(p, depth);
	if (gm_pass_shut(p) && depth == 0)
		gm_pass_give_token(p);
}

bool gm_gate_inside_but(struct gm_gate *g, const struct gm_pass *but)
{
	pid_t self = gm_thread_id();
	bool inside;

	/* Nearly all who come to a shut gate: they are not to queue for the lock, the inhibitor needs it. */
	if (!gm_thread.held &&
	    (!gm_thread.bound || (gm_thread.bound == 1 && gm_thread.first == but)))
		return false;
	/*
	 * With the lock held (G6): a hold that is added while the gate is shut is added wholly before or
	 * wholly after a look of the inhibitor. Without it he could look at the new one before it is
	 * taken, and at the old one after it is given back.
	 */
	pthread_mutex_lock(&g->lock);
	inside = gm_holder_find(g);
	for (struct gm_pass *p = g->passes; p && !inside; p = p->next)
		inside = p != but && atomic_load(&p->owner) == self && atomic_load(&p->busy);
	pthread_mutex_unlock(&g->lock);
	return inside;
}

bool gm_gate_inside(struct gm_gate *g)
{
	return gm_gate_inside_but(g, NULL);
}
