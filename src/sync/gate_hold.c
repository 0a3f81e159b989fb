/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The gate, as other threads pass it: those that do VM and device ioctls.
 *
 * They are many, come and go, and are not known beforehand. Each takes one of a few records, by
 * compare-and-swap of its id into `owner`, and gives it back when it is out. That is sequentially
 * consistent, as are the reads of `shut` after it and the inhibitor's accesses, so here G1 and G4 need no
 * membarrier: they hold by the argument in gate.c, with `owner` in the place of `busy`.
 *
 *  GH1  A thread has one record at most in a gate; `depth` counts its holds, and only it touches `depth`,
 *      which is 0 in a free record and in one whose owner has not yet looked at `shut`.
 *  GH2  The records that a thread has are in a list of its own, gm_thread.held, from when it is in. So it finds the
 *      one of a gate, or that there's none, without a look at others. It takes one by its id's place, or if that
 *      is taken the next that is free, to keep out of the way of others.
 *  GH3  Who waits for a free record has none, and so is not inside: the inhibitor doesn't wait for him.
 */
#include "sync/gate_impl.h"

#include <errno.h>

/* The @i-th record to look at. Ids of threads made one after the other are neighbours, so don't collide. */
static inline struct gm_holder *probe(struct gm_gate *g, pid_t self, unsigned i)
{
	return &g->holders[((unsigned)self + i) % GM_HOLDERS];
}

static void list_remove(const struct gm_holder *h)
{
	struct gm_holder **at = &gm_thread.held;

	while (*at != h)
		at = &(*at)->next;
	*at = h->next;
}

void gm_holder_forget(const struct gm_gate *g)
{
	const struct gm_holder *h = gm_holder_find(g);

	if (h)
		list_remove(h);
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
	struct gm_holder *h = gm_holder_find(g);

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
	h->next = gm_thread.held;
	gm_thread.held = h; /* from here on gm_holder_find() finds it */
	return 0;
}

void gm_gate_leave(struct gm_gate *g)
{
	struct gm_holder *h = gm_holder_find(g);

	if (!h || --h->depth > 0)
		return;
	list_remove(h);
	release(g, h);
	if (gm_unlikely(atomic_load(&g->shut)))
		gm_wake_inhibitor(g);
}
