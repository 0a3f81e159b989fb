/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The part of a commit that touches the kernel. It is one state machine:
 *
 *     PREPARED   everything is allocated and checked, nothing has been done
 *        |  early operations
 *     EARLY      vCPUs, accessors and listeners go on, by the old map
 *        |  if there is something critical: see that accessors come out at all, and shut the gate (hold.c)
 *     SHUT       no vCPU runs, no ioctl is inside
 *        |  listeners quiesce; then accessors are kept out, if memory goes or changes
 *     HELD       nobody uses what is about to change; but vCPUs and listeners go on if only one operation is left to decide
 *        |  read dirty bits; critical operations, or the decisive one; publish the next views
 *     PUBLISHED  the commit has happened: from here on nothing is taken back, and nothing can fail
 *        |  let accessors in, resume listeners, open the gate
 *     LATE       all go on, by the new map
 *        |  late operations; what KVM refuses is left over (leftover.c)
 *     DONE
 *
 *     EARLY, SHUT, HELD  -- a failure: take back what is done (undo.c) -->  UNDONE, or BROKEN
 *
 * The state goes forward only. gm_commit_enter() (state.c) has what holds in each, and checks it in builds that check.
 *
 *  EX1  Operations [0, done) of the plan have been done, the others have not; but after publication a late one
 *       that is done may have been refused.
 *  EX2  A critical operation is done or undone only while this thread holds the gate, with every listener quiesced that
 *       can see the change.
 *  EX3  The published views are the old ones until all early and critical operations are done, and the new ones
 *       afterwards, for good.
 *  EX4  While views are replaced of which the old ones have memory that the new ones have not, or not in the same
 *       way, no accessor is in memory. So none acts by the old map when the commit has returned (P2, P5).
 *  EX5  Listeners are resumed with the gate still shut and accessors let in, and with those views published that they
 *       are told to use. Those of a broken map stay quiesced; who is not is quiesced by the repair.
 */
#include <errno.h>
#include <string.h>

#include "api/impl.h"
#include "base/trace.h"
#include "ops/dirty.h"

static int failed_op(struct gm_commit *c, const struct gm_op *op, int err)
{
	const struct gm_slot *s = op->kind == GM_OP_DELETE ? &op->from : &op->to;
	const char *hint = gm_rules_explain(op->kind, err);

	return gm_fail(c->msg, err, "can't %s slot %u of space %u at 0x%llx, size 0x%llx: %s%s%s",
		       gm_rule_of(op->kind)->name, s->id, s->space,
		       (unsigned long long)s->gpa.first, (unsigned long long)gm_range_size(s->gpa),
		       strerror(-err), *hint ? "; " : "", hint);
}

/* ----------------------------------------------------------------------------- operations --- */

static int do_until(struct gm_commit *c, size_t end)
{
	for (; c->done < end; c->done++) {
		const struct gm_op *op = &c->plan.ops[c->done];
		int err = gm_commit_slot_op(c, op);

		if (err)
			return failed_op(c, op, err);
	}
	return 0;
}

static int early(struct gm_commit *c)
{
	gm_commit_enter(c, GM_COMMIT_EARLY);
	return do_until(c, c->plan.nr_early - c->plan.decisive);
}

/* Read the last dirty bits of the logs that go, now that no vCPU writes (P4). Bits are kept by region: should this be
 * undone, they will be reported from there. */
static int harvest(struct gm_commit *c)
{
	size_t first = c->plan.nr_early;

	for (size_t i = first; i < first + c->plan.nr_critical; i++) {
		const struct gm_op *op = &c->plan.ops[i];
		int err;

		if (!gm_op_ends_log(op))
			continue;
		err = gm_dirty_harvest(c->m->backend, &op->from, c->scratch);
		if (err)
			return gm_fail(c->msg, err, "can't read the dirty log of slot %u: %s",
				       op->from.id, strerror(-err));
	}
	return 0;
}

static int critical(struct gm_commit *c)
{
	int err = c->plan.nr_critical ? gm_commit_check_ids(c, GM_CRITICAL) : 0;

	if (!err)
		err = harvest(c);
	return err ? err : do_until(c, c->plan.nr_early + c->plan.nr_critical);
}

/* KVM has refused @op, and the commit has happened: the slot stays as it is (leftover.c). */
static void leave_over(struct gm_commit *c, const struct gm_op *op)
{
	if (op->kind == GM_OP_FLAGS) {
		struct gm_tree *t = &c->m->slots[op->to.space].tree;

		/* The next table has it, in a node that this commit has made. */
		gm_slot_of(gm_tree_find(t->root, op->to.gpa.first, 0))->flags = op->from.flags;
		gm_leftover_note(c, GM_SETTLED, &op->from);
	} else {
		gm_leftover_note(c, GM_STRAY, &op->from);
	}
	c->report.pending++;
}

static void late(struct gm_commit *c)
{
	gm_commit_enter(c, GM_COMMIT_LATE);
	for (; c->done < c->plan.n; c->done++) {
		const struct gm_op *op = &c->plan.ops[c->done];

		if (gm_commit_slot_op(c, op))
			leave_over(c, op);
	}
	gm_commit_enter(c, GM_COMMIT_DONE);
}

static void publish(struct gm_commit *c)
{
	c->old = gm_views_set(&c->m->publish, c->next);
	c->next = NULL;
	gm_commit_enter(c, GM_COMMIT_PUBLISHED);
}

int gm_commit_execute(struct gm_commit *c)
{
	int err;

	gm_commit_enter(c, GM_COMMIT_PREPARED);
	err = early(c);
	if (!err)
		err = gm_commit_hold(c);
	if (!err)
		err = critical(c);
	if (err)
		return gm_commit_undo(c, err);
	publish(c);
	gm_commit_open_accessors(c);
	if (c->holds_gate)
		gm_commit_open(c, true);
	late(c);
	return 0;
}
