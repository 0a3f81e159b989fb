/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The guest: code that runs in the VM and judges what it meets there. It is copied into guest memory,
 * so it must not refer to anything outside its own section: no library call, no constant in memory.
 * The build gives it flags that see to that (general registers only, nothing instrumented).
 */
#include "ask.h"
#include "guest.h"
#include "guest_arch.h"
#include "guest_image.h"
#include "its.h"
#include "look.h"

#define GUEST __attribute__((section("guest_text")))

static GUEST volatile uint64_t *page_word(const struct guest_ctl *c, uint64_t page, uint64_t word)
{
	return (volatile uint64_t *)(c->window + page * GUEST_PAGE + word * 8);
}

static GUEST uint64_t next_value(struct guest_ctl *c)
{
	return c->tag | ++c->gen;
}

static GUEST void wrong(struct guest_ctl *c, uint64_t page, uint64_t got)
{
	c->wrong++;
	c->bad_read = got;
	c->bad_page = page;
}

/* @got was read where @want was stored last. */
static GUEST void mismatch(struct guest_ctl *c, uint64_t page, uint64_t got, uint64_t want)
{
	if (got >> 48 == want >> 48 && got < want)
		c->lost++;
	else
		wrong(c, page, got);
}

static GUEST void data_step(struct guest_ctl *c, uint64_t page)
{
	volatile uint64_t *word = page_word(c, page, COUNT_WORD);
	uint64_t *last = &c->count[c->id[page]];
	uint64_t old = *last, value, got;

	got = *word;
	if (got != old)
		mismatch(c, page, got, old);
	value = next_value(c);
	*word = value;
	*last = value;
	got = *word;
	/* If it is the old one the store is lost, which the next visit finds and counts. */
	if (got != value && got != old)
		wrong(c, page, got);
}

/* Copy @count words from the window and compare each with @want. */
static GUEST void string_check(struct guest_ctl *c, uint64_t page, const volatile uint64_t *from,
			       uint64_t count, uint64_t want)
{
	volatile uint64_t *bounce = c->bounce;

	guest_copy(bounce, from, count);
	for (uint64_t i = 0; i < count; i++) {
		uint64_t got = bounce[i];

		if (got != want)
			mismatch(c, page, got, want);
	}
}

/* Note which value the words before and, with @cross, after the end of a page have. */
static GUEST void note_boundary(struct guest_ctl *c, uint64_t page, int cross, uint64_t value)
{
	c->tail[c->id[page]] = value;
	if (cross)
		c->head[c->id[page + 1]] = value;
}

/* Fill and copy across the end of the page, if the next page is the guest's, too. */
static GUEST void string_step(struct guest_ctl *c, uint64_t page)
{
	int cross = c->kind[page + 1] == PAGE_RW;
	uint64_t count = cross ? 2 * HEAD_WORDS : HEAD_WORDS;
	volatile uint64_t *to = page_word(c, page, WORDS - HEAD_WORDS);
	uint64_t value = next_value(c);

	guest_fill(to, value, count);
	note_boundary(c, page, cross, value);
	string_check(c, page, to, count, value);

	value = next_value(c);
	guest_fill(c->bounce, value, count);
	guest_copy(to, c->bounce, count);
	note_boundary(c, page, cross, value);
	string_check(c, page, to, count, value);
}

static GUEST void locked_step(struct guest_ctl *c, uint64_t page)
{
	volatile uint64_t *word = page_word(c, page, COUNT_WORD);
	uint64_t *last = &c->last[c->id[page]];
	uint64_t old = guest_fetch_add(word);

	c->count[c->id[page]]++;
	/* Others add, too, but nobody ever takes away. */
	if (old < *last || old >> 48)
		wrong(c, page, old);
	else
		*last = old + 1;
}

static GUEST void stack_step(struct guest_ctl *c, uint64_t page)
{
	int cross = c->kind[page + 1] == PAGE_RW;
	uint64_t value = next_value(c);
	uint64_t got =
		guest_stack_op(page_word(c, page, WORDS + (cross ? HEAD_WORD + 1 : 0)), value);

	note_boundary(c, page, cross, value);
	if (got != value)
		mismatch(c, page, got, value);
}

static GUEST void call_blob(struct guest_ctl *c, uint64_t page, uint64_t offset)
{
	typedef uint64_t blob_fn(uint64_t);
	blob_fn *blob = (blob_fn *)(c->window + page * GUEST_PAGE + offset);
	uint64_t got = blob(c->gen);

	if (got != guest_blob_result(c->gen))
		wrong(c, page, got);
	c->gen++;
}

static GUEST void fetch_step(struct guest_ctl *c, uint64_t page)
{
	call_blob(c, page, CODE_WORD * 8);
	if (c->kind[page + 1] != PAGE_GAP)
		call_blob(c, page, GUEST_PAGE - GUEST_BLOB_BEFORE);
}

static GUEST void pagetable_step(struct guest_ctl *c, uint64_t page)
{
	for (unsigned i = 0; i < WALKS_PER_STEP; i++) {
		uint64_t entry = c->entry % WORDS, got;

		/* A stride that visits all entries and does not stay within one cache line. */
		c->entry += 37;
		if (entry == CONST_WORD)
			continue;
		got = *(volatile uint64_t *)(c->walk + page * WORDS * GUEST_PAGE +
					     entry * GUEST_PAGE);
		if (got != TARGET_VALUE + entry % TARGET_PAGES)
			wrong(c, page, got);
	}
}

static GUEST void step(struct guest_ctl *c, uint64_t page)
{
	uint32_t hazard = c->hazard, kind = c->kind[page];
	uint64_t got;

	if (GUEST_ITS && hazard == HAZARD_ITS) {
		guest_its_step(c);
		return;
	}
	got = *page_word(c, page, CONST_WORD);
	if (got != CONST_VALUE && (kind != PAGE_SIGN || got != OTHER_VALUE))
		wrong(c, page, got);
	if (hazard == HAZARD_FETCH)
		fetch_step(c, page);
	/* To a processor with nested paging a walk is a write: KVM then emulates the instruction, and may take
	 * the address of the table's entry for that of the operand. So no tables where they may be read-only. */
	else if (kind == PAGE_RO)
		return;
	else if (hazard == HAZARD_PAGETABLE)
		pagetable_step(c, page);
	else if (kind == PAGE_SIGN)
		return;
	else if (hazard == HAZARD_DATA)
		data_step(c, page);
	else if (hazard == HAZARD_STRING)
		string_step(c, page);
	else if (hazard == HAZARD_LOCKED)
		locked_step(c, page);
	else
		stack_step(c, page);
}

static GUEST void ask(struct guest_ctl *c)
{
	uint64_t got = 0;

	do {
		if (ask_stores(c))
			guest_store(ask_at(c), c->ask.value);
		else
			got = guest_load(ask_at(c));
	} while (ask_take(c, got));
}

static GUEST void look(struct guest_ctl *c)
{
	uint64_t got;

	look_begin(c);
	do
		got = guest_load(look_at(c));
	while (look_take(c, got));
}

GUEST void guest_entry(struct guest_ctl *c)
{
	if (GUEST_ITS && c->hazard == HAZARD_ITS)
		guest_its_begin(c);
	for (;;) {
		while (!*(volatile uint32_t *)&c->stop) {
			uint64_t page = c->page;

			if (ask_begin(c))
				ask(c);
			c->page = page + 1 < WINDOW_PAGES ? page + 1 : 0;
			if (c->kind[page] == PAGE_GAP)
				continue;
			step(c, page);
			if (c->shows)
				look(c);
			(*(volatile uint64_t *)&c->ops)++;
		}
		guest_store(c->doorbell, 1);
	}
}
