/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * From the drafts of all address spaces to one plan, and to the next tables.
 *
 * Between gm_plan_make() and accept or reject:
 *  PL1  The working version of each table is the next one; its base is what the kernel has.
 *  PL2  Ids are taken for both.
 *  PL3  plan->ids says which of them only one of the two needs.
 */
#include <errno.h>

#include "plan/draft.h"

void gm_plan_init(struct gm_plan *plan, const struct gm_alloc *alloc)
{
	*plan = (struct gm_plan){.alloc = alloc};
}

void gm_plan_destroy(struct gm_plan *plan)
{
	gm_free(plan->alloc, plan->ops);
	gm_free(plan->alloc, plan->ids);
	gm_plan_init(plan, plan->alloc);
}

static void forget_ops(struct gm_plan *plan)
{
	plan->n = plan->nr_early = plan->nr_critical = plan->nr_late = 0;
	plan->merged = 0;
	plan->decisive = false;
}

/* ------------------------------------------------------------------------ operations --- */

/* Room was reserved. */
static void add_op(struct gm_plan *plan, enum gm_phase phase, enum gm_op_kind kind,
		   const struct gm_slot *from, const struct gm_slot *to)
{
	struct gm_op *op = &plan->ops[plan->n++];

	*op = (struct gm_op){.phase = phase, .kind = kind};
	if (from)
		op->from = *from;
	if (to)
		op->to = *to;
}

static void add_deletes(struct gm_plan *plan, const struct gm_draft *d, enum gm_phase phase)
{
	for (size_t i = 0; i < d->gone.n; i++) {
		const struct gm_piece *p = &d->gone.p[i];

		if (p->phase == phase && p->mate == GM_NO_MATE && !p->last)
			add_op(plan, phase, GM_OP_DELETE, &p->slot, NULL);
	}
}

static void add_moves(struct gm_plan *plan, const struct gm_draft *d, enum gm_phase phase)
{
	for (size_t i = 0; i < d->come.n; i++) {
		const struct gm_piece *p = &d->come.p[i];

		if (p->phase == phase && p->mate != GM_NO_MATE)
			add_op(plan, phase, GM_OP_MOVE, &d->gone.p[p->mate].slot, &p->slot);
	}
}

static void add_creates(struct gm_plan *plan, const struct gm_draft *d, enum gm_phase phase)
{
	for (size_t i = 0; i < d->come.n; i++) {
		const struct gm_piece *p = &d->come.p[i];

		if (p->phase == phase && p->mate == GM_NO_MATE && !p->last)
			add_op(plan, phase, GM_OP_CREATE, NULL, &p->slot);
	}
}

static void add_flags(struct gm_plan *plan, const struct gm_draft *d, enum gm_phase phase)
{
	for (size_t i = 0; i < d->nr_kept; i++) {
		const struct gm_kept *k = &d->kept[i];

		if (k->phase == phase && k->flags)
			add_op(plan, phase, GM_OP_FLAGS, &k->from, &k->to);
	}
}

static void add_last(struct gm_plan *plan, const struct gm_draft *d, enum gm_phase phase)
{
	for (size_t i = 0; i < d->gone.n; i++) {
		if (d->gone.p[i].last)
			add_op(plan, phase, GM_OP_DELETE, &d->gone.p[i].slot, NULL);
	}
	for (size_t i = 0; i < d->come.n; i++) {
		if (d->come.p[i].last)
			add_op(plan, phase, GM_OP_CREATE, NULL, &d->come.p[i].slot);
	}
}

/* Critical: deletes first, as what comes may need their ranges and ids. Then moves, whose targets overlap deleted
 * slots at most, and creates, which may overlap the sources of moves. */
static size_t add_phase(struct gm_plan *plan, const struct gm_plan_input *in,
			const struct gm_draft *drafts, enum gm_phase phase)
{
	typedef void (*adder)(struct gm_plan *, const struct gm_draft *, enum gm_phase);
	static const adder orders[][4] = {
		[GM_EARLY] = {add_creates, add_flags, add_last},
		[GM_CRITICAL] = {add_deletes, add_moves, add_creates, add_flags},
		[GM_LATE] = {add_deletes, add_flags},
	};
	size_t before = plan->n;

	for (int k = 0; k < 4 && orders[phase][k]; k++) {
		for (unsigned i = 0; i < in->nr_spaces; i++)
			orders[phase][k](plan, &drafts[i], phase);
	}
	return plan->n - before;
}

static int add_ops(struct gm_plan *plan, const struct gm_plan_input *in,
		   const struct gm_draft *drafts)
{
	size_t most = 0;
	int err;

	for (unsigned i = 0; i < in->nr_spaces; i++) {
		most += drafts[i].gone.n + drafts[i].come.n + drafts[i].nr_kept;
		plan->merged += drafts[i].merged;
	}
	if (!most)
		return 0;
	err = gm_array_reserve(plan->alloc, (void **)&plan->ops, &plan->room, most,
			       sizeof(*plan->ops));
	if (err)
		return err;
	plan->nr_early = add_phase(plan, in, drafts, GM_EARLY);
	plan->nr_critical = add_phase(plan, in, drafts, GM_CRITICAL);
	plan->nr_late = add_phase(plan, in, drafts, GM_LATE);
	return 0;
}

/* ---------------------------------------------------------------------------- tables --- */

static bool changes_entry(const struct gm_kept *k)
{
	return k->relabel || k->flags;
}

/* All that leaves first, then all that comes: an entry may begin where an old one did. */
static int edit_table(const struct gm_draft *d)
{
	struct gm_tree *t = &d->slots->tree;
	int err = 0;

	for (size_t i = 0; !err && i < d->gone.n; i++)
		err = gm_tree_remove(t, d->gone.p[i].slot.gpa.first, 0);
	for (size_t i = 0; !err && i < d->nr_kept; i++) {
		const struct gm_kept *k = &d->kept[i];

		if (!changes_entry(k))
			continue;
		err = gm_tree_remove(t, k->from.gpa.first, 0);
		if (!err)
			err = gm_tree_insert(t, k->to.gpa, 0, &k->to);
	}
	for (size_t i = 0; !err && i < d->come.n; i++)
		err = gm_tree_insert(t, d->come.p[i].slot.gpa, 0, &d->come.p[i].slot);
	return err;
}

/* -------------------------------------------------------------------------- the plan --- */

/* Steps of all drafts, in turn: each needs the one before in all spaces, since a guest_memfd is not of one. */

static int bind_and_phase(struct gm_draft *drafts, unsigned n)
{
	int err = gm_drafts_bind(drafts, n);

	for (unsigned i = 0; !err && i < n; i++)
		gm_draft_phase(&drafts[i]);
	return err;
}

/* Each time round a draft has fewer pieces, or larger ones: so it ends. */
static int relieve(struct gm_draft *drafts, unsigned n)
{
	bool again = true;
	int err = 0;

	while (!err && again) {
		again = false;
		for (unsigned i = 0; !err && i < n; i++)
			err = gm_draft_relieve(&drafts[i], &again);
		if (!err && again)
			err = bind_and_phase(drafts, n);
	}
	return err;
}

static int judge(struct gm_draft *drafts, unsigned n)
{
	int err = 0;

	for (unsigned i = 0; !err && i < n; i++) {
		err = gm_draft_classify(&drafts[i]);
		if (!err)
			err = gm_draft_pair(&drafts[i]);
	}
	if (!err)
		err = bind_and_phase(drafts, n);
	if (!err)
		err = relieve(drafts, n);
	for (unsigned i = 0; !err && i < n; i++)
		err = gm_draft_fit(&drafts[i]);
	return err;
}

static int fill(struct gm_plan *plan, struct gm_draft *drafts, unsigned n)
{
	int err = judge(drafts, n);

	if (err)
		return err;
	plan->decisive = gm_drafts_decide(drafts, n);
	for (unsigned i = 0; !err && i < n; i++) {
		err = gm_draft_number(&drafts[i], plan);
		if (!err)
			err = edit_table(&drafts[i]);
	}
	return err;
}

static struct gm_draft empty_draft(const struct gm_plan_input *in, unsigned space,
				   struct gm_msg *msg)
{
	struct gm_draft d = {
		.in = in,
		.alloc = in->alloc,
		.msg = msg,
		.space = space,
		.slots = &in->slots[space],
		.old_view = in->old_views[space],
		.view = in->views[space],
		.block = in->max_slot_size,
	};

	gm_windows_init(&d.touched, in->alloc);
	gm_windows_init(&d.area, in->alloc);
	return d;
}

int gm_plan_make(struct gm_plan *plan, const struct gm_plan_input *in, struct gm_msg *msg)
{
	struct gm_draft *drafts = gm_calloc(in->alloc, in->nr_spaces, sizeof(*drafts));
	int err;

	forget_ops(plan);
	plan->nr_ids = 0;
	if (!drafts)
		return -ENOMEM;
	for (unsigned i = 0; i < in->nr_spaces; i++)
		drafts[i] = empty_draft(in, i, msg);
	err = fill(plan, drafts, in->nr_spaces);
	if (!err)
		err = add_ops(plan, in, drafts);
	if (err) {
		gm_plan_reject(plan, in);
		forget_ops(plan);
	}
	for (unsigned i = 0; i < in->nr_spaces; i++)
		gm_draft_destroy(&drafts[i]);
	gm_free(in->alloc, drafts);
	return err;
}

static void put_ids(struct gm_plan *plan, const struct gm_plan_input *in, bool fresh)
{
	for (size_t i = 0; i < plan->nr_ids; i++) {
		if (plan->ids[i].fresh == fresh)
			gm_ids_put(&in->slots[plan->ids[i].space].ids, plan->ids[i].id);
	}
	plan->nr_ids = 0;
}

void gm_plan_accept(struct gm_plan *plan, const struct gm_plan_input *in)
{
	put_ids(plan, in, false);
	for (unsigned i = 0; i < in->nr_spaces; i++) {
		struct gm_stale stale;

		/* The tables have no readers but the committer. */
		gm_tree_commit(&in->slots[i].tree, &stale);
		gm_stale_free(&stale);
	}
}

void gm_plan_reject(struct gm_plan *plan, const struct gm_plan_input *in)
{
	put_ids(plan, in, true);
	for (unsigned i = 0; i < in->nr_spaces; i++)
		gm_tree_abort(&in->slots[i].tree);
}
