/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The verifier: replays a plan, and proves what verify.h says of it.
 *
 * V1 is kept by the model of the kernel, V3 compared at the end. V2 needs more than the state after each
 * operation, since a guest also sees what is in between, and what a commit leaves that ends half-way:
 *  - Outside of the critical part nothing goes from a page that is backed before and after. Then what comes
 *    early does not meet one either, as the old slot is still there.
 *  - When the gate opens, every such page shows what it did or what it will.
 *  - What is early can be taken back unnoticed: a create where the view before has nothing, LOG on. But the last one
 *    may be decisive if nothing is critical: what comes after it can't fail.
 *  - What is late can stay undone: a delete where the view after has nothing, of memory with a release callback,
 *    LOG off.
 *  - Moves are critical. Unread bits of a slot that logs are lost nowhere but on purpose.
 */
#include <errno.h>
#include <stdlib.h>

#include "map/region.h"
#include "model.h"

struct verify {
	struct gm_model model;
	const struct gm_plan *plan;
	const struct gm_verify_input *in;
	struct gm_msg *msg;
	struct gm_slot *old; /* sorted by space and GPA */
};

/* Pages that are backed before and after. */
struct shared {
	struct gm_range range;
	const struct gm_slot *before;
	struct gm_stretch after;
};

static int by_place(const void *a, const void *b)
{
	const struct gm_slot *sa = a, *sb = b;

	if (sa->space != sb->space)
		return sa->space < sb->space ? -1 : 1;
	return (sa->gpa.first > sb->gpa.first) - (sa->gpa.first < sb->gpa.first);
}

static int sort_old(struct verify *v)
{
	v->old = gm_calloc(v->in->alloc, v->in->nr_old, sizeof(*v->old));
	if (!v->old)
		return -ENOMEM;
	for (size_t i = 0; i < v->in->nr_old; i++)
		v->old[i] = v->in->old[i];
	if (v->in->nr_old)
		qsort(v->old, v->in->nr_old, sizeof(*v->old), by_place);
	return 0;
}

/* The first old slot of @space that ends at @gpa or above. */
static const struct gm_slot *old_from(const struct verify *v, uint32_t space, uint64_t gpa)
{
	size_t low = 0, high = v->in->nr_old;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		const struct gm_slot *s = &v->old[mid];

		if (s->space < space || (s->space == space && s->gpa.last < gpa))
			low = mid + 1;
		else
			high = mid;
	}
	return low < v->in->nr_old && v->old[low].space == space ? &v->old[low] : NULL;
}

/* The first pages in @within that are backed by one slot before and by one stretch after. */
static bool find_shared(const struct verify *v, uint32_t space, struct gm_range within,
			struct shared *ret)
{
	for (;;) {
		const struct gm_slot *s = old_from(v, space, within.first);
		struct gm_range r;

		if (!s || !gm_range_intersect(s->gpa, within, &r))
			return false;
		if (gm_stretch_find(v->in->views[space], v->in->page_size, r, &ret->after)) {
			ret->range = ret->after.range;
			ret->before = s;
			return true;
		}
		if (r.last == within.last)
			return false;
		within.first = r.last + 1;
	}
}

/* Go on after @sh in @within; false: at the end. */
static bool go_on(struct gm_range *within, const struct shared *sh)
{
	if (sh->range.last == within->last)
		return false;
	within->first = sh->range.last + 1;
	return true;
}

/* Is what @s shows in @sh->range what is seen there before, or what is seen after? */
static bool is_before_or_after(const struct gm_slot *s, const struct shared *sh)
{
	struct gm_sight has = gm_sight_of_slot(s, sh->range.first);
	struct gm_sight before = gm_sight_of_slot(sh->before, sh->range.first);
	struct gm_sight after = gm_stretch_at(&sh->after, sh->range.first);

	return gm_sight_same(&has, &before) || gm_sight_same(&has, &after);
}

static int refuse(const struct verify *v, size_t i, uint64_t gpa, const char *why)
{
	return gm_fail(v->msg, -EINVAL, "V2: operation %zu, 0x%llx: %s", i, (unsigned long long)gpa,
		       why);
}

static int check_goes(const struct verify *v, size_t i, const struct gm_slot *s)
{
	struct shared sh;

	if (find_shared(v, s->space, s->gpa, &sh))
		return refuse(v, i, sh.range.first, "a page that stays backed loses its slot");
	return 0;
}

static bool has_any(const struct gm_node *view, struct gm_range r)
{
	return gm_tree_first(view, r);
}

/* May operation @i be taken back, or is it the one after which nothing is? */
static int check_early(const struct verify *v, size_t i)
{
	const struct gm_op *op = &v->plan->ops[i];

	if (v->plan->decisive && i + 1 == v->plan->nr_early)
		return op->kind == GM_OP_CREATE || op->kind == GM_OP_DELETE
			       ? 0
			       : refuse(v, i, op->to.gpa.first, "it can't be decisive");
	if (op->kind == GM_OP_FLAGS && (op->to.flags & GM_SLOT_LOG))
		return 0;
	if (op->kind != GM_OP_CREATE)
		return refuse(v, i, op->from.gpa.first, "it is not for this phase");
	if (has_any(v->in->old_views[op->to.space], op->to.gpa))
		return refuse(v, i, op->to.gpa.first,
			      "early over something that guests may notice");
	return 0;
}

/* Is it the memory that its region has, and that a release callback tells when to free? */
static bool is_kept(const struct gm_slot *s)
{
	return s->region && s->region->release && s->hva - s->offset == s->region->now.hva;
}

/* May it stay undone? */
static int check_late(const struct verify *v, size_t i)
{
	const struct gm_op *op = &v->plan->ops[i];

	if (op->kind == GM_OP_FLAGS && !(op->to.flags & GM_SLOT_LOG))
		return 0;
	if (op->kind != GM_OP_DELETE)
		return refuse(v, i, op->from.gpa.first, "it is not for this phase");
	if (has_any(v->in->views[op->from.space], op->from.gpa))
		return refuse(v, i, op->from.gpa.first, "late, and covers what should be seen");
	if (!is_kept(&op->from))
		return refuse(v, i, op->from.gpa.first, "late, and its memory may be freed before");
	return 0;
}

/* Dirty bits are read where a slot is deleted in the critical part, and forgotten on purpose where LOG goes
 * off in place. A move keeps them. (P4) */
static int check_log(const struct verify *v, size_t i)
{
	const struct gm_op *op = &v->plan->ops[i];
	bool lost = false;

	if (op->kind == GM_OP_DELETE)
		lost = op->phase != GM_CRITICAL;
	if (op->kind == GM_OP_MOVE)
		lost = !(op->to.flags & GM_SLOT_LOG);
	if (lost && (op->from.flags & GM_SLOT_LOG))
		return refuse(v, i, op->from.gpa.first, "unread dirty bits are lost");
	return 0;
}

/* An operation that is done while vCPUs run. The model has done it already, so it is well-formed. */
static int check_running(const struct verify *v, size_t i)
{
	const struct gm_op *op = &v->plan->ops[i];
	int err = op->phase == GM_EARLY ? check_early(v, i) : check_late(v, i);

	if (!err && op->kind == GM_OP_DELETE)
		err = check_goes(v, i, &op->from);
	return err;
}

/* The slots that the model has in @sh->range now. */
static int check_shared(const struct verify *v, uint32_t space, struct shared sh)
{
	size_t i = v->plan->nr_early + v->plan->nr_critical;
	struct gm_range all = sh.range;

	for (;;) {
		const struct gm_slot *s = gm_model_at(&v->model, space, sh.range.first);

		if (!s)
			return refuse(v, i, sh.range.first, "unbacked when the gate opens");
		if (!is_before_or_after(s, &sh))
			return refuse(v, i, sh.range.first, "other memory when the gate opens");
		if (s->gpa.last >= all.last)
			return 0;
		sh.range.first = s->gpa.last + 1;
	}
}

static int check_open(const struct verify *v)
{
	for (unsigned space = 0; space < v->in->nr_spaces; space++) {
		struct gm_range within = {0, UINT64_MAX};
		struct shared sh;

		while (find_shared(v, space, within, &sh)) {
			int err = check_shared(v, space, sh);

			if (err)
				return err;
			if (!go_on(&within, &sh))
				break;
		}
	}
	return 0;
}

static int check_counts(const struct verify *v)
{
	const struct gm_plan *p = v->plan;

	if (p->nr_early + p->nr_critical + p->nr_late != p->n)
		return gm_fail(v->msg, -EINVAL, "the phases don't add up to %zu operations", p->n);
	if (p->decisive && (p->nr_critical || !p->nr_early))
		return gm_fail(v->msg, -EINVAL,
			       "decisive, with %zu early and %zu critical operations", p->nr_early,
			       p->nr_critical);
	for (size_t i = 0; i < p->n; i++) {
		enum gm_phase phase = i < p->nr_early			 ? GM_EARLY
				      : i < p->nr_early + p->nr_critical ? GM_CRITICAL
									 : GM_LATE;

		if (p->ops[i].phase != phase)
			return gm_fail(v->msg, -EINVAL, "operation %zu is out of phase", i);
	}
	return 0;
}

static int replay(struct verify *v)
{
	size_t opens = v->plan->nr_critical ? v->plan->nr_early + v->plan->nr_critical : 0;
	int err = check_counts(v);

	for (size_t i = 0; !err && i < v->plan->n; i++) {
		err = gm_model_do(&v->model, i);
		if (!err)
			err = check_log(v, i);
		if (!err && v->plan->ops[i].phase != GM_CRITICAL)
			err = check_running(v, i);
		if (!err && i + 1 == opens)
			err = check_open(v);
	}
	return err ? err : gm_model_compare(&v->model);
}

int gm_plan_verify(const struct gm_plan *plan, const struct gm_verify_input *in, struct gm_msg *msg)
{
	struct verify v = {.plan = plan, .in = in, .msg = msg};
	int err = gm_model_init(&v.model, plan, in, msg);

	if (err)
		return err;
	err = sort_old(&v);
	if (!err)
		err = replay(&v);
	gm_free(in->alloc, v.old);
	gm_model_destroy(&v.model);
	return err;
}
