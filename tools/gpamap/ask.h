/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How a guest finds out whether a change has arrived when the commit returns (P2). The code is shared by the guest in
 * KVM and the simulated one.
 *
 * The CONST_WORD of a page says which of two memories it is, and no store of a guest changes it. After each commit
 * the host tells a vCPU of one page of its window that was changed: which memory it is now, if any, and whether a
 * store arrives there. The vCPU then asks the page: it loads that word; stores to a word that is its own, unless
 * the page is a PAGE_SIGN; and loads it before and after. What has no memory, and a store to what is read-only, are
 * exits: a store goes nowhere, and a load gives ones (ABSENT). Such exits are expected; whether the access should have
 * been one is for the guest to say. A page on show (look.h) is asked for what it shows, at its new place.
 *
 *  AS1 While a commit is under way, told.count is odd: the host makes it so before, and even again when the commit has
 *     returned and all else is told. So if a vCPU reads the same even number before and after its accesses, all of them
 *     met the map that it was told of.
 *  AS2 So each must have found what was told, or the change has not arrived. If the number is not the same, nothing
 *     can be said.
 */
#ifndef TORTURE_ASK_H
#define TORTURE_ASK_H

#include "guest.h"
#include "guest_arch.h"

/* Begin to ask for what was told last, once. 0: there's nothing to ask. */
GUEST_INLINE int ask_begin(struct guest_ctl *c)
{
	const struct told *t = &c->told;
	struct ask *a = &c->ask;
	uint64_t count = __atomic_load_n(&t->count, __ATOMIC_ACQUIRE);

	if (count % 2 || count == a->count)
		return 0;
	a->count = count;
	a->page = __atomic_load_n(&t->page, __ATOMIC_RELAXED);
	a->generation = __atomic_load_n(&t->generation, __ATOMIC_RELAXED);
	a->memory = __atomic_load_n(&t->memory, __ATOMIC_RELAXED);
	a->writable = __atomic_load_n(&t->writable, __ATOMIC_RELAXED);
	a->value = c->tag | ++c->gen;
	a->stage = ASK_MEMORY;
	return a->page < ASK_NONE;
}

/* The address of the next access. */
GUEST_INLINE uint64_t ask_at(const struct guest_ctl *c)
{
	const struct ask *a = &c->ask;
	uint64_t word = a->stage == ASK_MEMORY ? CONST_WORD : c->own_word;

	if (a->page >= WINDOW_PAGES)
		return c->show[a->page - WINDOW_PAGES] + a->generation % SHOW_PLACES * GUEST_PAGE;
	return c->window + a->page * GUEST_PAGE + word * 8;
}

/* The access that is the last one. */
GUEST_INLINE uint32_t ask_last(const struct guest_ctl *c)
{
	uint64_t page = c->ask.page;

	return page >= WINDOW_PAGES || c->kind[page] == PAGE_SIGN ? ASK_MEMORY : ASK_AFTER;
}

/* Is it a store, of ask.value? */
GUEST_INLINE int ask_stores(const struct guest_ctl *c)
{
	return c->ask.stage == ASK_STORE;
}

/* AS2. */
GUEST_INLINE void ask_judge(struct guest_ctl *c)
{
	const struct ask *a = &c->ask;
	uint64_t before = a->got[ASK_BEFORE], after = a->got[ASK_AFTER];
	uint64_t want = a->writable ? a->value : before;

	if (__atomic_load_n(&c->told.count, __ATOMIC_ACQUIRE) != a->count)
		return;
	c->asks++;
	if (a->got[ASK_MEMORY] != a->memory) {
		c->wrong++;
		c->bad_read = a->got[ASK_MEMORY];
		c->bad_page = a->page;
	}
	if (ask_last(c) == ASK_MEMORY || after == want)
		return;
	if (after == before) {
		c->lost++;
		return;
	}
	c->wrong++;
	c->bad_read = after;
	c->bad_page = a->page;
}

/* What was loaded from ask_at(), or that a store is done. 0: that's all; else go on. */
GUEST_INLINE int ask_take(struct guest_ctl *c, uint64_t got)
{
	struct ask *a = &c->ask;

	a->got[a->stage] = got;
	if (a->stage++ != ask_last(c))
		return 1;
	ask_judge(c);
	return 0;
}

#endif
