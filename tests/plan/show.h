/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Plans as text, so that a test says in one line what it expects:
 *
 *     E+0:4#1     early: create, from page 0 on, 4 pages, slot id 1
 *     C-0:4#1     critical: delete
 *     L~0:4#1     late: flags
 *     C0>8:4#1    critical: move from page 0 to page 8
 *     D-0:4#1     early, and decisive: delete
 *
 * After the number of pages come flags (r READONLY, l LOG, g guest_memfd), and for space 1 an s.
 */
#ifndef GM_TESTS_SHOW_H
#define GM_TESTS_SHOW_H

#include "world.h"

static inline void show_op(const struct gm_op *op, bool decisive, char *buf, size_t size)
{
	const struct gm_slot *s = op->kind == GM_OP_DELETE ? &op->from : &op->to;
	char verb[32];

	if (op->kind == GM_OP_MOVE)
		snprintf(verb, sizeof(verb), "%llu>",
			 (unsigned long long)(op->from.gpa.first / PAGE));
	else
		snprintf(verb, sizeof(verb), "%c", "?+-?~"[op->kind]);
	snprintf(buf, size, "%c%s%llu:%llu%s%s%s%s#%u", decisive ? 'D' : "?ECL"[op->phase], verb,
		 (unsigned long long)(s->gpa.first / PAGE),
		 (unsigned long long)((s->gpa.last - s->gpa.first) / PAGE + 1),
		 s -> flags &GM_SLOT_READONLY ? "r" : "", s->flags &GM_SLOT_LOG ? "l" : "",
		 s->flags &GM_SLOT_GUEST_MEMFD ? "g" : "", s->space ? "s" : "", s->id);
}

static inline void show_plan(const struct gm_plan *plan, char *buf, size_t size)
{
	size_t used = 0;

	buf[0] = '\0';
	for (size_t i = 0; i < plan->n && used < size - 64; i++) {
		if (i)
			buf[used++] = ' ';
		show_op(&plan->ops[i], plan->decisive && i + 1 == plan->nr_early, buf + used,
			size - used);
		used += strlen(buf + used);
	}
}

/* Make a plan, and it is @expected. */
static inline void expect_plan(struct world *w, const char *expected)
{
	char text[2048];
	int err = world_make(w);

	if (err)
		fail_msg("%d: %s", err, w->msg.text);
	show_plan(&w->plan, text, sizeof(text));
	assert_string_equal(text, expected);
}

static inline void expect_commit(struct world *w, const char *expected)
{
	expect_plan(w, expected);
	world_accept(w);
}

#endif
