/* SPDX-License-Identifier: BSD-3-Clause */
/* The states of a commit, what holds in each, and its slot operations. The diagram is in execute.c. */
#include "api/impl.h"
#include "base/trace.h"

#ifdef GM_CHECKS
static void check(bool holds)
{
	if (!holds)
		__builtin_trap();
}

static void check_state(const struct gm_commit *c)
{
	size_t early = c->plan.nr_early, all = early + c->plan.nr_critical;
	bool published = c->state >= GM_COMMIT_PUBLISHED && c->state <= GM_COMMIT_DONE;

	check(published ? c->done >= all : c->done <= all);
	check((c->old != NULL) == published);
	switch (c->state) {
	case GM_COMMIT_PREPARED:
		check(c->done == 0 && !c->holds_gate && !c->holds_accessors);
		break;
	case GM_COMMIT_EARLY:
		check(!c->holds_gate && !c->holds_accessors);
		break;
	case GM_COMMIT_SHUT:
		check(c->holds_gate && !c->holds_accessors && c->done == early);
		break;
	case GM_COMMIT_HELD:
	case GM_COMMIT_PUBLISHED:
		check(c->holds_gate == c->needs_gate && c->holds_accessors == c->takes_memory);
		break;
	default:
		check(!c->holds_gate && !c->holds_accessors);
	}
}
#else
static void check(bool holds)
{
	(void)holds;
}

static void check_state(const struct gm_commit *c)
{
	(void)c;
}
#endif

void gm_commit_enter(struct gm_commit *c, enum gm_commit_state state)
{
	check(state > c->state);
	c->state = state;
	check_state(c);
}

int gm_commit_slot_op(struct gm_commit *c, const struct gm_op *op)
{
	struct gpamap *m = c->m;

	atomic_fetch_add_explicit(&m->counters.slot_ioctls, 1, memory_order_relaxed);
	gm_trace3(slot_op, op->kind, op->kind == GM_OP_DELETE ? op->from.id : op->to.id, op->phase);
	return m->backend->ops->slot(m->backend, op);
}
