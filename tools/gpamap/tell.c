/* SPDX-License-Identifier: BSD-3-Clause */
/* The host's side of ask.h: what guests are told before and after a commit. */
#include "run.h"

/* A page that the change has altered, as in struct told. */
static unsigned changed_page(const struct change *c, uint64_t turn)
{
	switch (c->kind) {
	case CHANGE_GAP:
		return gap_pages[c->index];
	case CHANGE_READONLY:
		return ro_pages[c->index];
	case CHANGE_BACK:
		return BACK_SIGN;
	case CHANGE_SHIFT:
		/* In turns where the sign has come to, and where it is not. */
		return MOVE_SIGN + (unsigned)((c->value + turn) % MOVE_SHIFTS);
	case CHANGE_SHOW:
		return WINDOW_PAGES + (unsigned)(turn % SHOW_PAGES);
	default:
		return ASK_NONE;
	}
}

/* One of those that a vCPU with that window can ask. */
static unsigned choose_page(const struct change *changes, unsigned n, unsigned window,
			    uint64_t turn)
{
	unsigned page = ASK_NONE;

	for (unsigned i = 0; i < n && page == ASK_NONE; i++) {
		const struct change *c = &changes[(i + turn) % n];

		if (c->window == window || c->kind == CHANGE_SHOW)
			page = changed_page(c, turn);
	}
	return page;
}

void tell_begin(struct run *r)
{
	for (unsigned i = 0; i < r->vcpus; i++) {
		struct told *t = &arena_ctl(&r->arena, i)->told;

		__atomic_store_n(&t->count, t->count + 1, __ATOMIC_SEQ_CST);
	}
}

/* Released one by one: none may be seen before the count is odd. */
static void put(uint64_t *to, uint64_t value)
{
	__atomic_store_n(to, value, __ATOMIC_RELEASE);
}

static void tell_page(const struct arena *a, unsigned window, unsigned page, struct told *t)
{
	uint32_t generation = a->state.generation;
	struct seg s = {0};
	const uint64_t *word = NULL;

	if (page < WINDOW_PAGES && arena_at(a, window, page, &s))
		word = (uint64_t *)s.hva + CONST_WORD;
	else if (page >= WINDOW_PAGES && page < ASK_NONE)
		word = (uint64_t *)arena_show_hva(a, page - WINDOW_PAGES, generation);
	put(&t->page, page);
	put(&t->memory, word ? *word : ABSENT);
	put(&t->writable, word && !s.readonly);
	put(&t->generation, generation);
}

void tell_end(struct run *r, const struct change *changes, unsigned n)
{
	const struct arena *a = &r->arena;

	for (unsigned i = 0; i < r->vcpus; i++) {
		struct told *t = &arena_ctl(a, i)->told;
		unsigned window = i % a->windows;

		tell_page(a, window, choose_page(changes, n, window, t->count / 2), t);
		put(&t->count, t->count + 1);
	}
}

bool tell_expects(const struct run *r, unsigned vcpu, uint64_t gpa, bool store)
{
	uint64_t at = gpa - arena_window_gpa(&r->arena, vcpu % r->arena.windows);
	uint64_t page = at / PAGE, word = at % PAGE / 8;
	bool own = word == arena_ctl(&r->arena, vcpu)->own_word;

	if (page >= WINDOW_PAGES || at % 8)
		return false;
	switch (arena_page_kind((unsigned)page)) {
	case PAGE_GAP:
		return own || (!store && word == CONST_WORD);
	case PAGE_RO:
		return own && store;
	default:
		return false;
	}
}
