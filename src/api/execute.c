/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The part of a commit that touches the kernel: early, critical, late, and the way back (P1, P2, P3).
 *
 *     running --early--> running --shut, quiesce, harvest--> held --critical, publish--> held
 *        ^                                                                                | resume, open
 *        +---------------------------------- done <---------------------------- late --- running
 *
 *     any failure: take back what is done, newest first; what was done while held is taken back while held
 *     an undo that fails: held, broken
 *
 * Invariants:
 *  X1  Operations [0, done) of the plan have been done, the others have not.
 *  X2  A critical operation is done or undone only while the gate is shut.
 *  X3  The published views are the old ones until all critical operations are done, and the new ones
 *      from before the gate opens again until this commit ends or begins to undo.
 *  X4  Once an undo has failed, every operation that stays done is accounted for: its old slot is
 *      marked missing in the table, its new one is a stray. A later commit starts from there.
 *  X5  As X2, with every listener quiesced: a critical operation is done or undone only while none of
 *      them uses guest memory.
 *  X6  Listeners are resumed with the gate still shut, and with those views published that they are told
 *      to use. Those of a broken map stay quiesced; who is not is quiesced by the repair.
 */
#include <errno.h>
#include <string.h>

#include "api/impl.h"
#include "base/trace.h"
#include "ops/dirty.h"

static int slot_op(struct gm_commit *c, const struct gm_op *op)
{
	struct gpamap *m = c->m;

	atomic_fetch_add_explicit(&m->counters.slot_ioctls, 1, memory_order_relaxed);
	gm_trace3(slot_op, op->kind, op->kind == GM_OP_DELETE ? op->from.id : op->to.id, op->phase);
	return m->backend->ops->slot(m->backend, op);
}

static int failed_op(struct gm_commit *c, const struct gm_op *op, int err)
{
	const struct gm_slot *s = op->kind == GM_OP_DELETE ? &op->from : &op->to;

	const char *hint = gm_rules_explain(op->kind, err);

	return gm_fail(c->msg, err, "can't %s slot %u of space %u at 0x%llx, size 0x%llx: %s%s%s",
		       gm_rule_of(op->kind)->name, s->id, s->space,
		       (unsigned long long)s->gpa.first, (unsigned long long)gm_range_size(s->gpa),
		       strerror(-err), *hint ? "; " : "", hint);
}

static int do_until(struct gm_commit *c, size_t end)
{
	for (; c->done < end; c->done++) {
		const struct gm_op *op = &c->plan.ops[c->done];
		int err = slot_op(c, op);

		if (err)
			return failed_op(c, op, err);
	}
	return 0;
}

static int name_stuck(struct gm_commit *c)
{
	if (c->stuck.is_vcpu)
		return gm_fail(c->msg, -ETIMEDOUT,
			       "vCPU %u (thread %d) did not come out of the gate within %u ms",
			       c->stuck.id, (int)c->stuck.tid, c->timeout_ms);
	return gm_fail(c->msg, -ETIMEDOUT,
		       "an ioctl of thread %d did not come out of the gate within %u ms",
		       (int)c->stuck.tid, c->timeout_ms);
}

void gm_commit_set_deadline(struct gm_commit *c)
{
	c->deadline_ns = gm_now_ns() + c->timeout_ms * UINT64_C(1000000);
}

static int shut(struct gm_commit *c)
{
	struct gpamap *m = c->m;
	uint64_t start = 0;
	unsigned kicked = 0;
	int err = gm_gate_shut(&m->gate, c->deadline_ns, &kicked, &start, &c->stuck);

	c->report.kicked += kicked;
	if (err == -ETIMEDOUT) {
		atomic_fetch_add(&m->counters.timeouts, 1);
		return name_stuck(c);
	}
	if (err)
		return gm_fail(c->msg, err, "the gate can't be shut: %s", strerror(-err));
	c->shut = true;
	if (!c->report.gate_shut) {
		c->report.gate_shut = true;
		c->blackout_start = start;
	}
	gm_trace1(gate_shut, kicked);
	return 0;
}

/* Nobody uses guest memory from here on until open() (X2, X5). After a failure the gate may be shut, and listeners
 * be quiesced, for the undo to let them go. */
static int hold(struct gm_commit *c)
{
	int err = shut(c);

	if (err)
		return err;
	err = gm_listen_quiesce(c);
	if (err && c->m->broken) {
		/* As after a shut that failed: not open, but no longer this thread's. */
		gm_gate_break(&c->m->gate);
		c->shut = false;
	}
	return err;
}

/* All go on, with the map that is published. */
static void open(struct gm_commit *c, bool changed)
{
	struct gpamap *m = c->m;

	gm_listen_resume(c, changed);
	/* Taken before the wake: that may cost this thread its processor, to a vCPU that runs again already. */
	c->report.blackout_ns = gm_now_ns() - c->blackout_start;
	c->shut = false;
	gm_gate_open(&m->gate);
	gm_trace1(gate_open, c->report.blackout_ns);
}

/* No access of memory that was found in the old views is under way when the next ones are published, and none goes by
 * the old ones from then on (P2, P5). A broken map has this gate open. */
static int publish(struct gm_commit *c)
{
	struct gpamap *m = c->m;
	unsigned kicked;
	uint64_t start;
	int err = gm_gate_shut(&m->accessors, c->deadline_ns, &kicked, &start, &c->stuck);

	if (err == -ETIMEDOUT) {
		atomic_fetch_add(&m->counters.timeouts, 1);
		return gm_fail(c->msg, err,
			       "thread %d did not end its access to guest memory within %u ms",
			       (int)c->stuck.tid, c->timeout_ms);
	}
	if (err)
		return gm_fail(c->msg, err, "the accessors' gate can't be shut: %s",
			       strerror(-err));
	c->old = gm_views_set(&m->publish, c->next);
	c->next = NULL;
	gm_gate_open(&m->accessors);
	return 0;
}

static void unpublish(struct gm_commit *c)
{
	if (!c->old)
		return;
	c->next = gm_views_set(&c->m->publish, c->old);
	c->old = NULL;
	/* Nobody may be reading the next view when it is thrown away. */
	gm_synchronize();
}

/* Read the last dirty bits of the slots that go, now that no vCPU writes (P4). An undo that brings such a
 * slot back needs nothing: its bits are kept by region, and will be reported from there. */
static int harvest(struct gm_commit *c)
{
	size_t first = c->plan.nr_early;

	for (size_t i = first; i < first + c->plan.nr_critical; i++) {
		const struct gm_op *op = &c->plan.ops[i];
		int err;

		if (op->kind != GM_OP_DELETE || !(op->from.flags & GM_SLOT_LOG))
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
	int err = hold(c);

	if (!err)
		err = harvest(c);
	if (!err)
		err = do_until(c, c->plan.nr_early + c->plan.nr_critical);
	return err;
}

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

static bool same_slot(const struct gm_slot *a, const struct gm_slot *b)
{
	return a->space == b->space && a->id == b->id && a->gpa.first == b->gpa.first &&
	       a->gpa.last == b->gpa.last && a->region == b->region && a->hva == b->hva &&
	       a->flags == b->flags;
}

/* Is @s one of the strays that the map had before? Then it is forgotten. The id alone doesn't tell: this commit
 * may have given it to another slot since, which is a stray itself by now. */
static bool drop_stray(struct gm_commit *c, const struct gm_slot *s)
{
	for (size_t i = 0; i < c->nr_strays; i++) {
		if (!same_slot(&c->strays[i], s))
			continue;
		gm_region_unref(c->strays[i].region);
		c->strays[i] = c->strays[--c->nr_strays];
		return true;
	}
	return false;
}

/* Account for an operation that is done and can't be undone (X4). A stray keeps its memory from being
 * released, since the kernel still has it (P5). */
static void leave_behind(struct gm_commit *c, const struct gm_op *op)
{
	if (op->kind != GM_OP_CREATE && !drop_stray(c, &op->from)) {
		const struct gm_slots *slots = &c->m->slots[op->from.space];
		const struct gm_node *node = gm_tree_find(slots->tree.base, op->from.gpa.first, 0);

		if (node)
			gm_slot_of(node)->missing = true;
	}
	if (op->kind != GM_OP_DELETE) {
		gm_region_ref(op->to.region);
		c->strays[c->nr_strays++] = op->to;
	}
}

/* The guest may have written where a log was lost with @op or with its undo, after whatever was read from it.
 * Which pages can't be told any more, so all are reported (P4). */
static void keep_dirty(struct gm_commit *c, const struct gm_op *op)
{
	const struct gm_slot *s = op->kind == GM_OP_CREATE ? &op->to : &op->from;

	if ((op->kind == GM_OP_CREATE || op->kind == GM_OP_FLAGS) && (s->flags & GM_SLOT_LOG))
		gm_dirty_mark(s->region, c->m->map.page_size, s->offset, gm_range_size(s->gpa));
}

/* Has the id of @s, which this commit deleted, gone to a slot that could not be removed again? KVM would take the
 * re-creation of @s for a change of that one, and perhaps do it. */
static bool lost_its_id(const struct gm_commit *c, const struct gm_slot *s)
{
	const struct gpamap *m = c->m;
	size_t itself = 0, all = 0;

	for (size_t i = 0; i < m->nr_strays; i++)
		itself += same_slot(&m->strays[i], s);
	for (size_t i = 0; i < c->nr_strays; i++)
		all += c->strays[i].space == s->space && c->strays[i].id == s->id;
	return all > itself;
}

/* Take back all that is done, or, if vCPUs are inside and must not be, leave it all as it is. Returns false if
 * something had to be left behind. */
static bool undo_ops(struct gm_commit *c, bool may)
{
	bool clean = true;

	while (c->done > 0) {
		const struct gm_op *op = &c->plan.ops[--c->done];
		struct gm_op back = inverse(op);

		if (may && !(op->kind == GM_OP_DELETE && lost_its_id(c, &op->from))) {
			int err = slot_op(c, &back);

			atomic_fetch_add(&c->m->counters.undone, 1);
			keep_dirty(c, op);
			if (!err)
				continue;
		}
		leave_behind(c, op);
		clean = false;
	}
	return clean;
}

/* The map is broken from here on: what the kernel has is in the table and the strays. @first is why. */
static int wreck(struct gm_commit *c, const struct gm_msg *first, bool wait)
{
	struct gpamap *m = c->m;

	/* Nobody comes in any more; and if an early or late undo failed, with the gate open, those who are in are
	 * waited for. If they don't come out, the repair will wait for them. */
	gm_gate_break(&m->gate);
	gm_commit_set_deadline(c);
	if (wait && !c->shut && !shut(c))
		gm_gate_break(&m->gate);
	c->shut = false;
	gm_free(&m->alloc, m->strays);
	m->strays = c->strays;
	m->nr_strays = c->nr_strays;
	c->strays = NULL;
	m->broken = true;
	atomic_store(&m->counters.broken, true);
	return gm_fail(c->msg, -ENOTRECOVERABLE, "%.170s; and undoing failed: the gate stays shut",
		       first->text);
}

static int undo(struct gm_commit *c, int err)
{
	struct gpamap *m = c->m;
	const struct gm_msg first = *c->msg;
	bool clean, may = true;

	/* A late operation failed: the critical ones can be taken back only behind a shut gate (X2, X5). What is left of
	 * the deadline may be too little, and then the map would be broken: so there is another one for this. */
	if (!c->shut && c->done > c->plan.nr_early && c->plan.nr_critical) {
		gm_commit_set_deadline(c);
		may = hold(c) == 0;
	}
	*c->msg = first;
	for (c->nr_strays = 0; c->nr_strays < m->nr_strays; c->nr_strays++)
		c->strays[c->nr_strays] = m->strays[c->nr_strays];
	clean = undo_ops(c, may);
	unpublish(c);
	if (!clean)
		return wreck(c, &first, may);
	if (m->broken) {
		/* Somebody is still inside, from before it broke, or a listener did not quiesce. */
		if (!c->shut)
			return err;
		/* Not open, but no longer this thread's: the next commit must be able to shut it. */
		gm_gate_break(&m->gate);
		return gm_fail(c->msg, -ENOTRECOVERABLE, "the map is still broken: %.200s",
			       first.text);
	}
	if (c->shut)
		open(c, false);
	return err;
}

int gm_commit_execute(struct gm_commit *c)
{
	struct gpamap *m = c->m;
	int err = do_until(c, c->plan.nr_early);

	if (!err && (c->plan.nr_critical || m->broken))
		err = critical(c);
	if (!err)
		err = publish(c);
	if (!err) {
		if (c->shut && !m->broken)
			open(c, true);
		err = do_until(c, c->plan.n);
	}
	if (err)
		return undo(c, err);
	if (m->broken)
		open(c, true);
	return 0;
}
