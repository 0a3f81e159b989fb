/* SPDX-License-Identifier: BSD-3-Clause */
/* For the verifier's tests: good plans with operations of every kind, and copies of them to be spoilt. */
#ifndef GM_TESTS_SPOIL_H
#define GM_TESTS_SPOIL_H

#include "show.h"

struct copy {
	struct gm_plan plan;
	struct gm_op ops[256];
};

static inline void copy_plan(struct copy *to, const struct gm_plan *from)
{
	assert_true(from->n < 255);
	to->plan = *from;
	if (from->n)
		memcpy(to->ops, from->ops, from->n * sizeof(to->ops[0]));
	to->plan.ops = to->ops;
}

static inline size_t *counter(struct gm_plan *plan, enum gm_phase phase)
{
	return phase == GM_EARLY      ? &plan->nr_early
	       : phase == GM_CRITICAL ? &plan->nr_critical
				      : &plan->nr_late;
}

static inline void take_op(struct gm_plan *plan, size_t i)
{
	--*counter(plan, plan->ops[i].phase);
	plan->n--;
	memmove(&plan->ops[i], &plan->ops[i + 1], (plan->n - i) * sizeof(plan->ops[0]));
}

static inline void put_op(struct gm_plan *plan, size_t i, struct gm_op op)
{
	memmove(&plan->ops[i + 1], &plan->ops[i], (plan->n - i) * sizeof(plan->ops[0]));
	plan->ops[i] = op;
	plan->n++;
	++*counter(plan, op.phase);
}

/* Where phase @phase begins, or, with @end, ends. */
static inline size_t bound(struct gm_plan *plan, enum gm_phase phase, bool end)
{
	size_t at = 0;

	for (enum gm_phase p = GM_EARLY; p < phase + end; p++)
		at += *counter(plan, p);
	return at;
}

static inline void change_phase(struct gm_plan *plan, size_t i, enum gm_phase phase)
{
	struct gm_op op = plan->ops[i];
	bool later = phase > op.phase;

	take_op(plan, i);
	op.phase = phase;
	put_op(plan, bound(plan, phase, !later), op);
}

static inline int verify_copy(struct world *w, const struct gm_plan *plan)
{
	struct gm_plan good = w->plan;
	int err;

	w->plan = *plan;
	w->msg.text[0] = '\0';
	err = world_verify(w);
	w->plan = good;
	return err;
}

/* A plan with every kind of operation in every phase where it may be. */
static inline void make_all_kinds(struct world *w)
{
	map_pages(w, 0, 10, 0, 0, 0);
	map_pages(w, 20, 4, 1, 0, 0);
	map_pages(w, 30, 4, 2, 0, 0);
	map_pages(w, 40, 4, 3, 0, GM_SEG_LOG);
	map_pages(w, 50, 4, 4, 0, 0);
	map_pages(w, 70, 4, 5, 0, GM_SEG_GUEST_MEMFD);
	map_pages(w, 80, 4, 0, 80, GM_SEG_LOG);
	map_pages(w, 90, 4, 1, 90, 0);
	map_pages(w, 100, 4, 1, 200, 0);
	map_pages(w, 120, 4, 2, 120, GM_SEG_LOG);
	map_kind(w, 130, 4, GM_SEG_MMIO);
	map_pages(w, 140, 4, 3, 140, 0);
	world_commit(w);
	map_pages(w, 3, 2, 0, 3, GM_SEG_READONLY);
	unmap_pages(w, 20, 4);
	map_pages(w, 30, 4, 2, 0, GM_SEG_LOG);
	map_pages(w, 40, 4, 3, 0, 0);
	unmap_pages(w, 50, 4);
	map_pages(w, 60, 4, 4, 0, 0);
	unmap_pages(w, 70, 4);
	map_pages(w, 76, 4, 5, 0, GM_SEG_GUEST_MEMFD);
	unmap_pages(w, 80, 4);
	unmap_pages(w, 90, 4);
	map_pages(w, 92, 4, 1, 90, 0);
	map_pages(w, 100, 4, 1, 300, 0);
	map_pages(w, 110, 4, 3, 110, 0);
	unmap_pages(w, 120, 4);
	map_pages(w, 122, 4, 2, 120, GM_SEG_LOG);
	map_pages(w, 130, 4, 3, 130, 0);
	map_kind(w, 143, 1, GM_SEG_NONE);
	unmap_pages(w, 140, 3);
	expect_plan(w, "E+60:4#11 E+110:4#12 E~30:4l#2 "
		       "C-0:10#0 C-50:4#4 C-70:4g#5 C-80:4l#6 C-100:4#8 C-140:4#10 "
		       "C90>92:4#7 C120>122:4l#9 "
		       "C+0:3#0 C+3:2r#4 C+5:5#5 C+76:4g#6 C+100:4#8 C+130:4#10 "
		       "L-20:4#1 L~40:4#3");
}

/* And one with an operation that is decisive. */
static inline void make_decisive(struct world *w)
{
	map_pages(w, 0, 4, 0, 0, 0);
	map_pages(w, 20, 4, 1, 0, 0);
	map_pages(w, 30, 4, 2, 0, 0);
	world_commit(w);
	unmap_pages(w, 0, 2);
	unmap_pages(w, 3, 1);
	map_kind(w, 2, 1, GM_SEG_MMIO);
	unmap_pages(w, 20, 4);
	map_pages(w, 30, 4, 2, 0, GM_SEG_LOG);
	map_pages(w, 40, 4, 3, 0, 0);
	expect_plan(w, "E+40:4#3 E~30:4l#2 D-0:4#0 L-20:4#1");
}

/* The operation of @plan that is shown as @text. */
static inline size_t op_of(const struct gm_plan *plan, const char *text)
{
	char buf[128];

	for (size_t i = 0; i < plan->n; i++) {
		show_op(&plan->ops[i], false, buf, sizeof(buf));
		if (!strcmp(buf, text))
			return i;
	}
	fail_msg("no operation %s", text);
	return 0;
}

#endif
