/* SPDX-License-Identifier: BSD-3-Clause */
/* Commit: from a transaction to the new map, or to an error and the old one. And the preview of it. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>

#include "api/impl.h"
#include "base/trace.h"
#include "ops/change.h"
#include "ops/dirty.h"

struct gpamap_plan {
	struct gm_alloc alloc;
	size_t n;
	struct gpamap_op op[];
};

/* Logging that ends forgets what was not fetched. */
static void forget_unlogged(struct gpamap *m)
{
	for (struct gpamap_region *r = m->map.touched; r; r = r->next_touched) {
		if (r->was.log && !r->now.log)
			gm_dirty_clear(r, m->map.page_size);
	}
}

/* All is done in the kernel that had to be: let the map follow. Can't fail. */
static void accept(struct gm_commit *c)
{
	struct gpamap *m = c->m;

	if (!c->nothing_to_do)
		gm_plan_accept(&c->plan, &c->in);
	gm_leftovers_adopt(c, true);
	for (unsigned i = 0; i < m->nr_spaces; i++)
		gm_tree_commit(&m->views[i], &m->stale[i]);
	m->stamp++;
	m->broken = false;
	atomic_store(&m->counters.broken, false);
	atomic_fetch_add(&m->counters.commits, 1);
	atomic_fetch_add(&m->counters.merges, c->plan.merged);
	if (c->report.gate_shut)
		atomic_fetch_add(&m->counters.gate_shut, 1);
	pthread_mutex_lock(&m->edit);
	forget_unlogged(m);
	gm_edits_commit(&m->map);
	pthread_mutex_unlock(&m->edit);
}

/* Free what the old map held, when no reader can be there any more (P5). */
static void retire(struct gm_commit *c)
{
	struct gpamap *m = c->m;

	if (c->old)
		gm_synchronize();
	for (unsigned i = 0; i < m->nr_spaces; i++)
		gm_stale_free(&m->stale[i]);
	gm_free(&m->alloc, c->old);
	gm_commit_free(c);
}

static int start(struct gpamap_txn *txn)
{
	txn->msg.text[0] = '\0';
	return gm_may_wait(txn->map, "commit", &txn->msg);
}

/* A slot ioctl or a listener's veto may fail with -ETIMEDOUT as well, and then nobody is stuck. */
static void keep_stuck(struct gpamap_txn *txn, const struct gm_commit *c, int err)
{
	if (err != -ETIMEDOUT || !(c->stuck.tid || c->stuck_listener))
		return;
	txn->is_stuck = true;
	txn->stuck = c->stuck;
	snprintf(txn->stuck_listener, sizeof(txn->stuck_listener), "%s",
		 c->stuck_listener ? c->stuck_listener->name : "");
}

static void commit_init(struct gm_commit *c, struct gpamap_txn *txn,
			const struct gpamap_commit_options *opt)
{
	struct gpamap *m = txn->map;

	*c = (struct gm_commit){.m = m, .msg = &txn->msg};
	c->timeout_ms = opt && opt->timeout_ms ? opt->timeout_ms : m->timeout_ms;
	c->deadline_ns = gm_now_ns() + c->timeout_ms * UINT64_C(1000000);
}

/* Who has the slots is in an ioctl of the caller's, reads a dirty log, or adds a listener. */
static int lock_slots(struct gpamap_txn *txn, const struct gm_commit *c)
{
	struct gpamap *m = c->m;
	pid_t holder;
	int err = gm_slots_lock_until(m, c->deadline_ns, &holder);

	if (!err)
		return 0;
	atomic_fetch_add(&m->counters.timeouts, 1);
	atomic_fetch_add(&m->counters.failed, 1);
	txn->is_stuck = true;
	txn->stuck = (struct gm_stuck){.tid = holder};
	txn->stuck_listener[0] = '\0';
	return gm_fail(&txn->msg, err,
		       "the slots were not to be had within %u ms: thread %d has them",
		       c->timeout_ms, (int)holder);
}

static int commit(struct gpamap_txn *txn, const struct gpamap_commit_options *opt,
		  struct gm_commit *c)
{
	struct gpamap *m = txn->map;
	int err = gm_commit_prepare(c, opt ? opt->flags : 0);

	if (!err && !c->nothing_to_do)
		err = gm_listen_prepare(c);
	if (!err && !c->nothing_to_do)
		err = gm_commit_execute(c);
	if (err) {
		gm_listen_cancelled(c);
		gm_commit_cancel(c);
		atomic_fetch_add(&m->counters.failed, 1);
		keep_stuck(txn, c, err);
		return err;
	}
	c->report.early = (uint32_t)c->plan.nr_early;
	c->report.critical = (uint32_t)c->plan.nr_critical;
	c->report.late = (uint32_t)c->plan.nr_late;
	accept(c);
	gm_listen_applied(c);
	retire(c);
	return 0;
}

static int commit_used(struct gpamap_txn *txn, const struct gpamap_commit_options *opt,
		       struct gpamap_commit_report *ret)
{
	struct gpamap *m = txn->map;
	struct gm_commit c;
	int err = start(txn);

	txn->is_stuck = false;
	if (err)
		return err;
	gm_trace1(commit_begin, m);
	commit_init(&c, txn, opt);
	err = lock_slots(txn, &c);
	if (err)
		return err;
	err = commit(txn, opt, &c);
	gm_listen_sweep(m);
	gm_slots_unlock(m);
	gm_trace2(commit_end, m, err);
	if (err)
		return gm_explain(&txn->msg, err);
	if (ret)
		*ret = c.report;
	return 0;
}

int gpamap_commit(struct gpamap_txn *txn, const struct gpamap_commit_options *opt,
		  struct gpamap_commit_report *ret)
{
	int cancel, err;

	/* A thread that were cancelled between two slot operations would leave the gate shut for good. */
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	err = gm_txn_use(&txn);
	if (!err) {
		err = commit_used(txn, opt, ret);
		if (err)
			gm_txn_unuse(txn);
		else
			gm_txn_end(txn);
		/* A release callback may begin a transaction, or go on with this one. */
		gm_reap(txn->map);
	}
	pthread_setcancelstate(cancel, NULL);
	return err;
}

int gpamap_clear_pending(struct gpamap *m)
{
	struct gpamap_commit_report report;
	struct gpamap_txn *txn;
	int err = gpamap_begin(m, &txn);

	if (err)
		return err;
	err = gpamap_commit(txn, NULL, &report);
	if (err) {
		struct gm_msg msg;

		/* @txn is a number: nothing can be read through it. */
		gm_fail(&msg, err, "%s", gpamap_message(txn));
		gpamap_abort(txn);
		return gm_map_fail(m, err, &msg);
	}
	return report.pending ? -EAGAIN : 0;
}

static struct gpamap_op op_as_data(const struct gm_op *op)
{
	const struct gm_slot *s = op->kind == GM_OP_DELETE ? &op->from : &op->to;

	return (struct gpamap_op){
		.phase = (enum gpamap_phase)op->phase,
		.kind = (enum gpamap_op_kind)op->kind,
		.space = s->space,
		.slot = s->id,
		.gpa = s->gpa.first,
		.size = gm_range_size(s->gpa),
		.old_gpa = op->kind == GM_OP_MOVE ? op->from.gpa.first : s->gpa.first,
		.hva = (void *)(uintptr_t)s->hva,
		.readonly = s->flags & GM_SLOT_READONLY,
		.log = s->flags & GM_SLOT_LOG,
	};
}

static int plan_as_data(struct gpamap *m, const struct gm_plan *plan, struct gpamap_plan **ret)
{
	struct gpamap_plan *p =
		gm_calloc(&m->alloc, 1, sizeof(*p) + plan->n * sizeof(struct gpamap_op));

	if (!p)
		return -ENOMEM;
	p->alloc = m->alloc;
	p->n = plan->n;
	for (size_t i = 0; i < plan->n; i++)
		p->op[i] = op_as_data(&plan->ops[i]);
	*ret = p;
	return 0;
}

static int preview_used(struct gpamap_txn *txn, unsigned commit_flags, struct gpamap_plan **ret)
{
	struct gpamap *m = txn->map;
	struct gm_commit c;
	int err = start(txn);

	if (err)
		return err;
	commit_init(&c, txn, NULL);
	c.deadline_ns = 0;
	gm_slots_lock(m);
	err = gm_commit_prepare(&c, commit_flags);
	if (!err)
		err = plan_as_data(m, &c.plan, ret);
	gm_commit_cancel(&c);
	gm_slots_unlock(m);
	return err ? gm_explain(&txn->msg, err) : 0;
}

int gpamap_preview(struct gpamap_txn *txn, unsigned commit_flags, struct gpamap_plan **ret)
{
	int err = gm_txn_use(&txn);

	if (err)
		return err;
	err = preview_used(txn, commit_flags, ret);
	gm_txn_unuse(txn);
	gm_reap(txn->map);
	return err;
}

size_t gpamap_plan_count(const struct gpamap_plan *plan)
{
	return plan->n;
}

const struct gpamap_op *gpamap_plan_op(const struct gpamap_plan *plan, size_t i)
{
	return i < plan->n ? &plan->op[i] : NULL;
}

void gpamap_plan_free(struct gpamap_plan *plan)
{
	if (plan) {
		struct gm_alloc alloc = plan->alloc;

		gm_free(&alloc, plan);
	}
}
