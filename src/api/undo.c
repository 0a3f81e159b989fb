/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The way back of a commit that failed before its views were published: what is done is taken back, newest first
 * (P3). After publication there is none.
 *
 * What was done behind the gate is taken back behind it, so nobody has noticed. What was done early can be taken
 * back while vCPUs run, for nobody was using it (plan/plan.h). If taking back fails:
 *
 *   early       a slot is left over where no view has anything (leftover.c). But if its memory may be freed as soon as
 *               the commit has returned, the guest must not run with it: the map is broken.
 *   critical    the map is broken.
 *
 * Broken means: the gate stays shut, for whoever tries to come in. What the kernel has is still known exactly, by table
 * and leftovers, and the next commit begins with that, and with everything behind the gate.
 */
#include <errno.h>

#include "api/impl.h"
#include "ops/dirty.h"

static struct gm_op inverse(const struct gm_op *op)
{
	static const enum gm_op_kind kinds[] = {
		[GM_OP_CREATE] = GM_OP_DELETE,
		[GM_OP_DELETE] = GM_OP_CREATE,
		[GM_OP_MOVE] = GM_OP_MOVE,
		[GM_OP_FLAGS] = GM_OP_FLAGS,
	};

	return (struct gm_op){
		.phase = op->phase, .kind = kinds[op->kind], .from = op->to, .to = op->from};
}

/* The word and bit of an id in c->kept_ids, which has a row for each space. */
static uint64_t *kept_id(const struct gm_commit *c, const struct gm_slot *s, uint64_t *bit)
{
	uint32_t id = s->space * c->m->slots[0].ids.limit + s->id;

	*bit = UINT64_C(1) << id % 64;
	return &c->kept_ids[id / 64];
}

/* Has the id of @s, which this commit deleted, gone to a slot that could not be removed again? KVM would take the
 * creation of @s for a change of that one, and perhaps do it. */
static bool lost_its_id(const struct gm_commit *c, const struct gm_slot *s)
{
	uint64_t bit;

	return c->kept_ids && (*kept_id(c, s, &bit) & bit);
}

static void keep_id(struct gm_commit *c, const struct gm_slot *s)
{
	uint64_t bit;

	if (c->kept_ids)
		*kept_id(c, s, &bit) |= bit;
}

/* The table has what is to be, the kernel what @has says: let the table say so, too. */
static void flags_are(struct gm_commit *c, const struct gm_slot *has)
{
	struct gm_tree *t = &c->m->slots[has->space].tree;
	const struct gm_node *n = gm_tree_find(t->base, has->gpa.first, 0);

	if (n)
		gm_slot_of(n)->flags = has->flags;
	gm_leftover_note(c, GM_REFLAGGED, has);
}

/* Account for an operation that is done and can't be undone. False: the map is broken by it. */
static bool leave_behind(struct gm_commit *c, const struct gm_op *op)
{
	if (op->kind == GM_OP_FLAGS) {
		flags_are(c, &op->to);
		return op->phase == GM_EARLY;
	}
	if (op->kind != GM_OP_CREATE)
		gm_leftover_note(c, GM_MISSING, &op->from);
	if (op->kind != GM_OP_DELETE) {
		gm_leftover_note(c, GM_STRAY, &op->to);
		keep_id(c, &op->to);
	}
	return op->phase == GM_EARLY && gm_slot_kept_alive(&op->to);
}

/* Memory that logs was there early, and goes again. A guest may have written to it. Behind the gate its log can be
 * read; while vCPUs run, which pages can't be told, so all are reported (P4). */
static void keep_dirty(struct gm_commit *c, const struct gm_op *op)
{
	const struct gm_slot *s = &op->to;

	if (op->kind != GM_OP_CREATE || op->phase != GM_EARLY || !(s->flags & GM_SLOT_LOG))
		return;
	if (c->holds_gate && !gm_dirty_harvest(c->m->backend, s, c->scratch))
		return;
	gm_dirty_mark(s->region, c->m->map.page_size, s->offset, gm_range_size(s->gpa));
}

/* Returns false if the map is broken by what could not be taken back. */
static bool undo_ops(struct gm_commit *c)
{
	bool sound = true;

	while (c->done > 0) {
		const struct gm_op *op = &c->plan.ops[--c->done];
		struct gm_op back = inverse(op);

		if (!(op->kind == GM_OP_DELETE && lost_its_id(c, &op->from))) {
			int err;

			keep_dirty(c, op);
			err = gm_commit_slot_op(c, &back);
			atomic_fetch_add(&c->m->counters.undone, 1);
			if (!err)
				continue;
		}
		sound &= leave_behind(c, op);
	}
	return sound;
}

/* Nobody comes in any more, and who is inside, if early operations could not be undone, is asked to come out. */
static int wreck(struct gm_commit *c, const struct gm_msg *first)
{
	struct gpamap *m = c->m;

	gm_gate_break(&m->gate);
	c->holds_gate = false;
	m->broken = true;
	atomic_store(&m->counters.broken, true);
	gm_commit_enter(c, GM_COMMIT_BROKEN);
	return gm_fail(c->msg, -ENOTRECOVERABLE, "%.170s; and undoing failed: the gate stays shut",
		       first->text);
}

int gm_commit_undo(struct gm_commit *c, int err)
{
	struct gpamap *m = c->m;
	const struct gm_msg first = *c->msg;
	bool sound = undo_ops(c);

	*c->msg = first;
	gm_commit_open_accessors(c);
	if (!sound)
		return wreck(c, &first);
	if (m->broken && c->holds_gate) {
		/* Not open, but no longer this thread's: the next commit must be able to shut it. */
		gm_gate_break(&m->gate);
		c->holds_gate = false;
		err = gm_fail(c->msg, -ENOTRECOVERABLE, "the map is still broken: %.200s",
			      first.text);
	}
	if (c->holds_gate)
		gm_commit_open(c, false);
	gm_commit_enter(c, GM_COMMIT_UNDONE);
	return err;
}
