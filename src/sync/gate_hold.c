/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The gate, as other threads pass it: those that do VM and device ioctls.
 *
 * They are many, come and go, and are not known beforehand. Each takes one of a few records, by
 * compare-and-swap of its id into `owner`, and gives it back when it is out. That is sequentially
 * consistent, as are the reads of `shut` after it and the inhibitor's accesses, so here G1 and G4 need no
 * membarrier: they hold by the argument in gate.c, with `owner` in the place of `busy`.
 *
 *  H1  A thread has one record at most in a gate; `depth` counts its holds, and only it touches `depth`,
 *      which is 0 in a free record and in one whose owner has not yet looked at `shut`.
 *  H2  It looks for its record from the place that its id names, over all of them: since it took it, the
 *      ones before it may have become free.
 *  H3  Who waits for a free record has none, and so is not inside: the inhibitor doesn't wait for him.
 */
#include "sync/gate_impl.h"

#include <errno.h>

/* The @i-th record to look at. Ids of threads made one after the other are neighbours, so don't collide. */
static inline struct gm_holder *probe(struct gm_gate *g, pid_t self, unsigned i)
{
	return &g->holders[((unsigned)self + i) % GM_HOLDERS];
}

struct gm_holder *gm_holder_find(struct gm_gate *g, pid_t self)
{
	if (!gm_thread.records)
		return NULL;
	for (unsigned i = 0; i < GM_HOLDERS; i++) {
		struct gm_holder *h = probe(g, self, i);

		if (atomic_load_explicit(&h->owner, memory_order_relaxed) == self && h->depth)
			return h;
	}
	return NULL;
}

static struct gm_holder *try_claim(struct gm_gate *g, pid_t self)
{
	for (unsigned i = 0; i < GM_HOLDERS; i++) {
		struct gm_holder *h = probe(g, self, i);
		pid_t nobody = 0;

		if (!atomic_load(&h->owner) &&
		    atomic_compare_exchange_strong(&h->owner, &nobody, self))
			return h;
	}
	return NULL;
}

/*
 * Wait for a free record. Either our look comes after the release of the one that we missed, or that
 * thread finds us in the crowd; both write before they read. It then wakes one of us, and who is woken in
 * vain, since a newcomer was faster, looks again.
 */
static __attribute__((noinline)) struct gm_holder *claim_in_crowd(struct gm_gate *g, pid_t self)
{
	struct gm_holder *h;

	atomic_fetch_add(&g->crowd, 1);
	for (;;) {
		uint32_t freed = atomic_load(&g->freed);

		h = try_claim(g, self);
		if (h)
			break;
		gm_futex_wait(&g->freed, freed, GM_NO_DEADLINE);
	}
	atomic_fetch_sub(&g->crowd, 1);
	return h;
}

static inline struct gm_holder *claim(struct gm_gate *g, pid_t self)
{
	struct gm_holder *h = try_claim(g, self);

	return gm_likely(h) ? h : claim_in_crowd(g, self);
}

static void release(struct gm_gate *g, struct gm_holder *h)
{
	atomic_store(&h->owner, 0);
	if (gm_unlikely(atomic_load(&g->crowd))) {
		atomic_fetch_add(&g->freed, 1);
		gm_futex_wake(&g->freed, 1);
	}
}

/* The gate is shut, and @h is the calling thread's; the record with which it gets in goes to @h. */
static __attribute__((noinline)) int hold_shut(struct gm_gate *g, pid_t self, struct gm_holder **h)
{
	int err;

	if (gm_gate_inside(g))
		return 0;
	if (gm_gate_mine(g)) {
		release(g, *h);
		return -EDEADLK;
	}
	gm_waiting_begin(g);
	do {
		release(g, *h);
		gm_wake_inhibitor(g);
		err = gm_gate_sleep(g);
		if (err)
			break;
		*h = claim(g, self);
	} while (atomic_load(&g->shut));
	gm_waiting_end(g);
	return err;
}

int gm_gate_enter(struct gm_gate *g)
{
	pid_t self = gm_thread_id();
	struct gm_holder *h = gm_holder_find(g, self);

	if (h) {
		h->depth++;
		return 0;
	}
	h = claim(g, self);
	if (gm_unlikely(atomic_load(&g->shut))) {
		int err = hold_shut(g, self, &h);

		if (err)
			return err;
	}
	h->depth = 1;
	gm_thread.records++; /* from here on gm_holder_find() finds it */
	return 0;
}

void gm_gate_leave(struct gm_gate *g)
{
	struct gm_holder *h = gm_holder_find(g, gm_thread_id());

	if (!h || --h->depth > 0)
		return;
	gm_thread.records--;
	release(g, h);
	if (gm_unlikely(atomic_load(&g->shut)))
		gm_wake_inhibitor(g);
}
