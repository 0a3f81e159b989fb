/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * See sim_guest.h. Each hazard's function does the access of its phase; only when that succeeded does it
 * change any state, so that a step which met an exit can be done again.
 */
#include "sim_guest.h"

#include <string.h>

#include "arena.h"
#include "ask.h"
#include "guest_image.h"
#include "look.h"

/* How deep the stack hazard pushes. */
#define STACK_WORDS 11u

void sim_guest_init(struct sim_guest *g, struct guest_ctl *ctl)
{
	*g = (struct sim_guest){.ctl = ctl};
}

static uint64_t word_gpa(const struct sim_guest *g, uint64_t page, uint64_t word)
{
	return g->ctl->window + page * PAGE + word * 8;
}

static uint64_t next_value(const struct guest_ctl *c)
{
	return c->tag | (c->gen + 1);
}

static void wrong(struct sim_guest *g, uint64_t got)
{
	g->ctl->wrong++;
	g->ctl->bad_read = got;
	g->ctl->bad_page = g->page;
}

static void mismatch(struct sim_guest *g, uint64_t got, uint64_t want)
{
	if (got >> 48 == want >> 48 && got < want)
		g->ctl->lost++;
	else
		wrong(g, got);
}

/* The hazard is done with its page. */
static void finish(struct sim_guest *g)
{
	g->phase = 0;
	__atomic_store_n(&g->ctl->ops, g->ctl->ops + 1, __ATOMIC_RELAXED);
	g->asking = ask_begin(g->ctl);
	if (!g->ctl->shows)
		return;
	look_begin(g->ctl);
	g->looking = true;
}

static void next_phase(struct sim_guest *g)
{
	g->phase++;
	g->word = 0;
}

static int data_step(struct gpamap_sim_vcpu *v, struct sim_guest *g)
{
	struct guest_ctl *c = g->ctl;
	uint64_t *last = &c->count[c->id[g->page]];
	uint64_t gpa = word_gpa(g, g->page, COUNT_WORD), got, value = next_value(c);
	int ret;

	if (g->phase == 2) {
		ret = gpamap_sim_store(v, gpa, &value, sizeof(value));
		if (ret)
			return ret;
		g->value = *last;
		*last = value;
		c->gen++;
		next_phase(g);
		return 0;
	}
	ret = gpamap_sim_load(v, gpa, &got, sizeof(got));
	if (ret)
		return ret;
	if (g->phase == 1) {
		if (got != *last)
			mismatch(g, got, *last);
		next_phase(g);
		return 0;
	}
	/* If it is the one before, the store is lost, which the next visit finds and counts. */
	if (got != *last && got != g->value)
		wrong(g, got);
	finish(g);
	return 0;
}

/* Store g->value to, or compare it with, one word. 0 or an exit. */
static int touch_word(struct gpamap_sim_vcpu *v, struct sim_guest *g, uint64_t gpa, bool store)
{
	uint64_t value = next_value(g->ctl), got;
	int ret = store ? gpamap_sim_store(v, gpa, &value, sizeof(value))
			: gpamap_sim_load(v, gpa, &got, sizeof(got));

	if (ret)
		return ret;
	if (!store && got != value)
		mismatch(g, got, value);
	g->word++;
	return 0;
}

/* Phases 1 and 3 store @count words, 2 and 4 read them back; the last phase is @phases. */
static int boundary_step(struct gpamap_sim_vcpu *v, struct sim_guest *g, uint64_t gpa,
			 unsigned count, unsigned phases)
{
	struct guest_ctl *c = g->ctl;
	bool store = g->phase % 2;
	int ret = touch_word(v, g, gpa, store);

	if (ret || g->word < count)
		return ret;
	if (store) {
		c->tail[c->id[g->page]] = next_value(c);
		if (c->kind[g->page + 1] == PAGE_RW)
			c->head[c->id[g->page + 1]] = next_value(c);
	} else {
		c->gen++;
	}
	if (g->phase == phases)
		finish(g);
	else
		next_phase(g);
	return 0;
}

static int string_step(struct gpamap_sim_vcpu *v, struct sim_guest *g)
{
	bool cross = g->ctl->kind[g->page + 1] == PAGE_RW;
	uint64_t gpa = word_gpa(g, g->page, WORDS - HEAD_WORDS + g->word);

	return boundary_step(v, g, gpa, cross ? 2 * HEAD_WORDS : HEAD_WORDS, 4);
}

/* Pushes go down, pops go up again. */
static int stack_step(struct gpamap_sim_vcpu *v, struct sim_guest *g)
{
	unsigned cross = g->ctl->kind[g->page + 1] == PAGE_RW ? HEAD_WORD + 1 : 0;
	unsigned down = g->phase == 1 ? g->word + 1 : STACK_WORDS - g->word;

	return boundary_step(v, g, word_gpa(g, g->page, WORDS + cross - down), STACK_WORDS, 2);
}

static int locked_step(struct gpamap_sim_vcpu *v, struct sim_guest *g)
{
	struct guest_ctl *c = g->ctl;
	uint64_t *last = &c->last[c->id[g->page]], old;
	int ret = gpamap_sim_xadd(v, word_gpa(g, g->page, COUNT_WORD), 1, &old);

	if (ret)
		return ret;
	c->count[c->id[g->page]]++;
	if (old < *last || old >> 48)
		wrong(g, old);
	else
		*last = old + 1;
	finish(g);
	return 0;
}

/* Phase 1 fetches the code within the page, 2 that across its end, in pieces of 8 bytes. */
static int fetch_step(struct gpamap_sim_vcpu *v, struct sim_guest *g)
{
	unsigned size = guest_blob_size, at = g->word * 8;
	unsigned len = size - at < 8 ? size - at : 8;
	uint64_t start = g->phase == 1 ? CODE_WORD * 8 : PAGE - GUEST_BLOB_BEFORE;
	uint8_t got[8];
	int ret = gpamap_sim_fetch(v, word_gpa(g, g->page, 0) + start + at, got, len);

	if (ret)
		return ret;
	if (memcmp(got, guest_blob + at, len))
		wrong(g, got[0]);
	g->word++;
	if (at + len < size)
		return 0;
	if (g->phase == 1 && g->ctl->kind[g->page + 1] != PAGE_GAP)
		next_phase(g);
	else
		finish(g);
	return 0;
}

/* Odd phases read a page-table entry, even ones what it points to. */
static int pagetable_step(struct gpamap_sim_vcpu *v, struct sim_guest *g)
{
	uint64_t entry = g->ctl->entry % WORDS, want = TARGET_VALUE + entry % TARGET_PAGES, got;
	int ret;

	if (g->phase % 2) {
		ret = gpamap_sim_walk(v, word_gpa(g, g->page, entry), &g->value);
		if (!ret)
			next_phase(g);
		return ret;
	}
	if (entry != CONST_WORD) {
		ret = gpamap_sim_load(v, g->value & ~(PAGE - 1), &got, sizeof(got));
		if (ret)
			return ret;
		if (got != want)
			wrong(g, got);
	}
	g->ctl->entry += 37;
	if (g->phase == 2 * WALKS_PER_STEP)
		finish(g);
	else
		next_phase(g);
	return 0;
}

/* Phase 0: ring if it is told to; else look at the constant of the next page. */
static int begin_step(struct gpamap_sim_vcpu *v, struct sim_guest *g)
{
	struct guest_ctl *c = g->ctl;
	uint64_t page = c->page % WINDOW_PAGES, got;
	const uint64_t ring = 1;
	uint32_t kind;
	int ret;

	if (__atomic_load_n(&c->stop, __ATOMIC_ACQUIRE))
		return gpamap_sim_store(v, c->doorbell, &ring, sizeof(ring));
	while (c->kind[page] == PAGE_GAP)
		page = (page + 1) % WINDOW_PAGES;
	ret = gpamap_sim_load(v, word_gpa(g, page, CONST_WORD), &got, sizeof(got));
	if (ret)
		return ret;
	kind = c->kind[page];
	g->page = page;
	c->page = page + 1;
	if (got != CONST_VALUE && (kind != PAGE_SIGN || got != OTHER_VALUE))
		wrong(g, got);
	if (kind == PAGE_RO && c->hazard != HAZARD_FETCH)
		finish(g);
	else if (kind == PAGE_SIGN && c->hazard != HAZARD_FETCH && c->hazard != HAZARD_PAGETABLE)
		finish(g);
	else
		next_phase(g);
	return 0;
}

static int ask_step(struct gpamap_sim_vcpu *v, struct sim_guest *g)
{
	struct guest_ctl *c = g->ctl;
	uint64_t at = ask_at(c), got = 0;
	int ret = ask_stores(c) ? gpamap_sim_store(v, at, &c->ask.value, sizeof(c->ask.value))
				: gpamap_sim_load(v, at, &got, sizeof(got));

	if (!ret)
		g->asking = ask_take(c, got);
	return ret;
}

static int look_step(struct gpamap_sim_vcpu *v, struct sim_guest *g)
{
	uint64_t got;
	int ret = gpamap_sim_load(v, look_at(g->ctl), &got, sizeof(got));

	if (!ret)
		g->looking = look_take(g->ctl, got);
	return ret;
}

int sim_guest_step(struct gpamap_sim_vcpu *v, void *opaque)
{
	static int (*const steps[])(struct gpamap_sim_vcpu *, struct sim_guest *) = {
		[HAZARD_DATA] = data_step,     [HAZARD_STRING] = string_step,
		[HAZARD_LOCKED] = locked_step, [HAZARD_STACK] = stack_step,
		[HAZARD_FETCH] = fetch_step,   [HAZARD_PAGETABLE] = pagetable_step,
	};
	struct sim_guest *g = opaque;

	if (g->asking)
		return ask_step(v, g);
	if (g->looking)
		return look_step(v, g);
	return g->phase ? steps[g->ctl->hazard](v, g) : begin_step(v, g);
}
