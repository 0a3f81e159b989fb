/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The edit `instant`: how a guest finds out whether everything changes at one instant. The code is shared by
 * the guest in KVM and the simulated one.
 *
 * SHOW_PAGES pages of memory stand far apart, one in each of as many windows of SHOW_PLACES places. In
 * generation g all of them stand at place g % SHOW_PLACES of their window, and the other places are empty. A
 * commit brings them all to the next place. So nothing that goes overlaps anything that comes: without
 * GPAMAP_COMMIT_ONE_INSTANT the gate has no reason to shut, pages come early and go late, and for a while some
 * stand where the new map has them and others where the old one has.
 *
 *  - Even pages are numbered: each place has memory of its own, in which the host writes the generation before it
 *    is mapped. They come by creates and go by deletes.
 *  - Odd pages are the same memory at each place, so a program may move their slots.
 *
 * An empty place is no memory: a load there is an exit, and the host answers ones (ABSENT). Such exits are
 * expected; whether a page should have been there is for the guest to say:
 *
 *  LK1 Generations only grow, and each is on show once, for one stretch of time. So if a numbered page shows the same
 *     number twice, the map is of this generation all the time between.
 *  LK2 So what is read between is known: each other page stands at the same place, and none at the next one. Anything
 *     else is a mix of two generations. If the number is not the same twice, nothing can be said.
 *  LK3 Once a vCPU has seen a generation no vCPU sees an older one. If one does that itself has seen the newer one, or
 *     knows of another vCPU that has, this is a mix, too.
 *  LK4 Nor does any vCPU see an older one than the host has told after a commit (P2). This counts as a mix, too.
 *
 * An exit in the midst does no harm to this: its answer tells of a moment between the two reads, too.
 */
#ifndef TORTURE_LOOK_H
#define TORTURE_LOOK_H

#include "guest.h"
#include "guest_arch.h"

/* Of so many looks one is at the next place. It is an exit, which other looks are not as long as nothing changes. */
#define LOOK_AHEAD 13u

GUEST_INLINE int show_numbered(uint32_t page)
{
	return page % 2 == 0;
}

/* Begin: which page is read twice, and which one between. */
GUEST_INLINE void look_begin(struct guest_ctl *c)
{
	struct look *l = &c->look;
	uint64_t n = l->count++, own = c->seen, peer, told;

	peer = __atomic_load_n((uint64_t *)((uintptr_t)&c->seen + c->peer), __ATOMIC_ACQUIRE);
	told = __atomic_load_n(&c->told.generation, __ATOMIC_ACQUIRE);
	l->floor = peer > own ? peer : own;
	if (told > l->floor)
		l->floor = told;
	l->page = (uint32_t)(n % (SHOW_PAGES / 2)) * 2;
	l->other = (l->page + 1 + (uint32_t)(n / (SHOW_PAGES / 2) % (SHOW_PAGES - 1))) % SHOW_PAGES;
	l->ahead = n % LOOK_AHEAD == 0;
	l->stage = LOOK_FIRST;
}

/* The address that must be loaded from next. */
GUEST_INLINE uint64_t look_at(const struct guest_ctl *c)
{
	const struct look *l = &c->look;
	int between = l->stage == LOOK_BETWEEN;
	uint64_t place = l->generation + (between && l->ahead);

	return c->show[between ? l->other : l->page] + place % SHOW_PLACES * GUEST_PAGE;
}

/* Is @got what never stood in @page? */
GUEST_INLINE int look_nonsense(struct guest_ctl *c, uint32_t page, uint64_t got)
{
	if (got == ABSENT ||
	    (show_numbered(page) ? got >> 48 == SHOW_NUMBER >> 48 : got == SHOW_MOVED))
		return 0;
	c->wrong++;
	c->bad_read = got;
	c->bad_page = WINDOW_PAGES + page;
	return 1;
}

/* The number that the page shows, if it is where it was looked for. 0: look elsewhere the next time. */
GUEST_INLINE int look_first(struct guest_ctl *c, uint64_t got)
{
	struct look *l = &c->look;

	if (got == ABSENT) {
		l->generation++;
		return 0;
	}
	l->generation = got - SHOW_NUMBER;
	if (l->generation < l->floor)
		c->mixes++; /* LK3, LK4 */
	else
		__atomic_store_n(&c->seen, l->generation, __ATOMIC_RELEASE);
	l->stage = LOOK_BETWEEN;
	return 1;
}

/* What was loaded from look_at(). 0: the look is done; else go on. */
GUEST_INLINE int look_take(struct guest_ctl *c, uint64_t got)
{
	struct look *l = &c->look;
	uint64_t number = SHOW_NUMBER + l->generation, want;

	if (look_nonsense(c, l->stage == LOOK_BETWEEN ? l->other : l->page, got))
		return 0;
	if (l->stage == LOOK_FIRST)
		return look_first(c, got);
	if (l->stage == LOOK_BETWEEN) {
		l->between = got;
		l->stage = LOOK_AGAIN;
		return 1;
	}
	if (got != number)
		return 0;
	want = l->ahead ? ABSENT : show_numbered(l->other) ? number : SHOW_MOVED;
	c->looks++;
	if (l->between != want)
		c->mixes++; /* LK2 */
	return 0;
}

#endif
