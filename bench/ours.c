/* SPDX-License-Identifier: BSD-3-Clause */
/* Protect a page under running vCPUs with gpamap, and record what it did. */
#include <err.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>

#include "rival.h"

void tape_clear(struct tape *t)
{
	t->n = 0;
	t->nr_ends = 0;
}

void tape_free(struct tape *t)
{
	free(t->op);
	free(t->end);
	*t = (struct tape){0};
}

static void tape_add(struct tape *t, const struct gpamap_op *op)
{
	if (t->n == t->room) {
		t->room = t->room ? 2 * t->room : 64;
		t->op = realloc(t->op, t->room * sizeof(*t->op));
		if (!t->op)
			err(1, "tape");
	}
	t->op[t->n++] = *op;
}

static void tape_end(struct tape *t)
{
	if (t->nr_ends == t->ends_room) {
		t->ends_room = t->ends_room ? 2 * t->ends_room : 64;
		t->end = realloc(t->end, t->ends_room * sizeof(*t->end));
		if (!t->end)
			err(1, "tape");
	}
	t->end[t->nr_ends++] = t->n;
}

static void record(struct ours *o, struct gpamap_txn *txn)
{
	struct gpamap_plan *plan;

	check(gpamap_preview(txn, 0, &plan), "preview");
	for (size_t i = 0; i < gpamap_plan_count(plan); i++) {
		const struct gpamap_op *op = gpamap_plan_op(plan, i);

		if (op->kind != GPAMAP_OP_CREATE && op->kind != GPAMAP_OP_DELETE)
			errx(1, "a plan with other operations than create and delete");
		tape_add(&o->tape, op);
	}
	tape_end(&o->tape);
	gpamap_plan_free(plan);
}

static double commit(struct ours *o, struct gpamap_txn *txn)
{
	struct gpamap_commit_report report;

	record(o, txn);
	check(gpamap_commit(txn, NULL, &report), "commit");
	return (double)report.blackout_ns / 1e3;
}

void ours_init(struct ours *o, int kvm, uint64_t size)
{
	struct gpamap_options options = {.kick_signal = SIGUSR1};
	struct gpamap_txn *txn;

	*o = (struct ours){0};
	guest_init(&o->guest, kvm, size, true);
	check(gpamap_new_kvm(o->guest.fd, &options, &o->map), "map");
	check(gpamap_begin(o->map, &txn), "begin");
	check(gpamap_map_pages(txn, 0, 0, size, o->guest.memory, GPAMAP_RW), "map pages");
	commit(o, txn);
	guest_reset(&o->guest);
	for (int i = 0; i < NR_VCPUS; i++) {
		struct guest_vcpu *v = &o->guest.vcpu[i];

		o->vcpu[i].ours = o;
		o->vcpu[i].index = i;
		check(gpamap_vcpu_attach(o->map, v->fd, v->run, (unsigned)i, &o->vcpu[i].vcpu),
		      "attach");
	}
}

void ours_destroy(struct ours *o)
{
	for (int i = 0; i < NR_VCPUS; i++)
		gpamap_vcpu_detach(o->vcpu[i].vcpu);
	gpamap_free(o->map);
	guest_destroy(&o->guest);
	tape_free(&o->tape);
}

static void *run_vcpu(void *opaque)
{
	struct ours_vcpu *v = opaque;
	int r;

	do
		r = gpamap_vcpu_run(v->vcpu);
	while (r == -EINTR && !atomic_load(&v->ours->stop));
	if (r != -EINTR)
		errx(1, "gpamap: vCPU %d left by itself: %d, exit %u", v->index, r,
		     v->ours->guest.vcpu[v->index].run->exit_reason);
	return NULL;
}

void ours_start(struct ours *o)
{
	atomic_store(&o->stop, false);
	for (int i = 0; i < NR_VCPUS; i++) {
		if (pthread_create(&o->vcpu[i].thread, NULL, run_vcpu, &o->vcpu[i]))
			errx(1, "no thread");
	}
}

void ours_stop(struct ours *o)
{
	atomic_store(&o->stop, true);
	for (int i = 0; i < NR_VCPUS; i++) {
		__atomic_store_n(&o->guest.vcpu[i].run->immediate_exit, 1, __ATOMIC_SEQ_CST);
		pthread_kill(o->vcpu[i].thread, SIGUSR1);
	}
	for (int i = 0; i < NR_VCPUS; i++) {
		pthread_join(o->vcpu[i].thread, NULL);
		o->guest.vcpu[i].run->immediate_exit = 0;
	}
}

double ours_change(struct ours *o, bool readonly)
{
	struct gpamap_txn *txn;

	check(gpamap_begin(o->map, &txn), "begin");
	check(gpamap_protect_pages(txn, 0, rival_page(o->guest.size), PAGE,
				   readonly ? GPAMAP_RO : GPAMAP_RW),
	      "protect");
	return commit(o, txn);
}
