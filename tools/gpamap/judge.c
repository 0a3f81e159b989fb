/* SPDX-License-Identifier: BSD-3-Clause */
/* Compares what the guests counted with what memory says. See run.h. */
#include "run.h"

/* Memory has @got where a guest stored @want last: an older value is a lost store. */
static void compare(uint64_t got, uint64_t want, uint64_t *lost, uint64_t *wrong)
{
	if (got == want)
		return;
	if (got >> 48 == want >> 48 && got < want)
		(*lost)++;
	else
		(*wrong)++;
}

/* The words before the end of a page, and at its begin, that the guest keeps track of. */
static bool tracked(enum hazard hazard, unsigned i)
{
	return hazard == HAZARD_STRING || i == HEAD_WORD;
}

static void judge_page(const struct run *r, const struct guest_ctl *c, unsigned id,
		       const uint64_t *page, struct tally *t)
{
	if (r->hazard == HAZARD_DATA)
		compare(page[COUNT_WORD], c->count[id], &t->lost_stores, &t->wrong_reads);
	if (r->hazard != HAZARD_STRING && r->hazard != HAZARD_STACK)
		return;
	for (unsigned i = 0; i < HEAD_WORDS; i++) {
		if (!tracked(r->hazard, i))
			continue;
		compare(page[i], c->head[id], &t->lost_stores, &t->wrong_reads);
		/* The stack's last word of the page is what is kept track of there. */
		compare(page[r->hazard == HAZARD_STACK ? WORDS - 1 : WORDS - 1 - i], c->tail[id],
			&t->lost_stores, &t->wrong_reads);
	}
}

/* All vCPUs add to the same words. */
static void judge_locked(const struct run *r, struct tally *t)
{
	for (unsigned i = 0; i < WINDOW_PAGES; i++) {
		uint64_t sum = 0, got = arena_page(&r->arena, 0, i)[COUNT_WORD];

		if (arena_page_kind(i) != PAGE_RW || arena_page_id(i) != i)
			continue;
		for (unsigned v = 0; v < r->vcpus; v++)
			sum += arena_ctl(&r->arena, v)->count[i];
		if (got >> 48)
			t->wrong_reads++;
		else if (got < sum)
			t->lost_stores += sum - got;
	}
}

static void judge_vcpu(const struct run *r, const struct runner *u, struct tally *t)
{
	const struct guest_ctl *c = arena_ctl(&r->arena, u->index);

	t->guest_ops += c->ops;
	t->wrong_reads += c->wrong;
	t->lost_stores += c->lost;
	t->asks += c->asks;
	t->looks += c->looks;
	t->mixes += c->mixes;
	t->spurious_exits += u->spurious;
	t->expected_exits += u->expected;
	t->internal_errors += u->errors;
	t->shutdowns += u->shutdowns;
	if (!u->rang) {
		/* It did not come to the end of a step: it hangs, or can't be run any more. */
		t->internal_errors++;
		return;
	}
	for (unsigned i = 0; i < WINDOW_PAGES && r->hazard != HAZARD_LOCKED; i++) {
		if (arena_page_kind(i) == PAGE_RW && arena_page_id(i) == i)
			judge_page(r, c, i, arena_page(&r->arena, u->index, i), t);
	}
}

void judge_run(struct run *r, struct tally *t)
{
	for (unsigned i = 0; i < r->vcpus; i++)
		judge_vcpu(r, &r->crew.runner[i], t);
	if (r->hazard == HAZARD_LOCKED)
		judge_locked(r, t);
	if (r->hazard == HAZARD_ITS)
		its_judge(r, t);
	t->lost_dirty += r->dirty.lost;
}

void judge_reset(struct run *r, unsigned vcpu)
{
	struct guest_ctl *c = arena_ctl(&r->arena, vcpu);
	struct tally t = {0};

	if (r->hazard == HAZARD_LOCKED || r->hazard == HAZARD_ITS)
		return;
	for (unsigned i = 0; i < WINDOW_PAGES; i++) {
		uint64_t *page = arena_page(&r->arena, vcpu, i);

		if (arena_page_kind(i) != PAGE_RW || arena_page_id(i) != i)
			continue;
		judge_page(r, c, i, page, &t);
		c->count[i] = page[COUNT_WORD];
		c->head[i] = page[HEAD_WORD];
		c->tail[i] = page[WORDS - 1];
		for (unsigned k = 0; r->hazard == HAZARD_STRING && k < HEAD_WORDS; k++) {
			page[k] = c->head[i];
			page[WORDS - 1 - k] = c->tail[i];
		}
	}
	c->lost += t.lost_stores;
}

bool tally_violated(const struct tally *t)
{
	return t->failed || t->spurious_exits || t->internal_errors || t->lost_stores ||
	       t->wrong_reads || t->lost_dirty || t->mixes || t->lost_interrupts ||
	       t->stray_interrupts || t->lost_saves;
}

void tally_add(struct tally *to, const struct tally *t)
{
	to->commits += t->commits;
	to->failed += t->failed;
	to->guest_ops += t->guest_ops;
	to->spurious_exits += t->spurious_exits;
	to->expected_exits += t->expected_exits;
	to->internal_errors += t->internal_errors;
	to->shutdowns += t->shutdowns;
	to->lost_stores += t->lost_stores;
	to->wrong_reads += t->wrong_reads;
	to->lost_dirty += t->lost_dirty;
	to->asks += t->asks;
	to->looks += t->looks;
	to->mixes += t->mixes;
	to->messages += t->messages;
	to->lost_interrupts += t->lost_interrupts;
	to->stray_interrupts += t->stray_interrupts;
	to->saves += t->saves;
	to->lost_saves += t->lost_saves;
	to->gate_shut += t->gate_shut;
	to->slot_ioctls += t->slot_ioctls;
	to->seconds += t->seconds;
}
