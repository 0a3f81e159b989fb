/* SPDX-License-Identifier: BSD-3-Clause */
/* Change a page under running vCPUs with gpamap, and record what it did. */
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

static void map_all(struct ours *o, struct gpamap_txn *txn)
{
	const struct layout *l = &o->layout;
	uint64_t first = l->pages ? layout_page(l, 0) : l->size;

	check(gpamap_map_pages(txn, 0, 0, first, o->guest.memory, GPAMAP_RW), "map");
	for (unsigned i = 0; i < l->pages; i++) {
		uint64_t page = layout_page(l, i);

		check(gpamap_map_pages(txn, 0, page, PAGE, o->guest.memory + page, GPAMAP_RW),
		      "map");
	}
}

static void enter(void *opaque, int vcpu)
{
	struct ours *o = opaque;

	check(gpamap_vcpu_enter(o->vcpu[vcpu]), "enter");
}

static void leave(void *opaque, int vcpu)
{
	struct ours *o = opaque;

	gpamap_vcpu_leave(o->vcpu[vcpu]);
}

void ours_init(struct ours *o, int kvm, const struct layout *l, int vcpus)
{
	static const struct crew_gate gate = {enter, leave};
	struct gpamap_options options = {
		.kick_signal = SIGUSR1,
		.flags = l->zap_slot_only ? GPAMAP_ZAP_SLOT_ONLY : 0,
	};
	struct gpamap_txn *txn;

	o->layout = *l;
	guest_init(&o->guest, kvm, layout_size(l), vcpus);
	o->tape.memory = o->guest.memory;
	crew_init(&o->crew, &o->guest, &gate, o);
	check(gpamap_new_kvm(o->guest.fd, &options, &o->map), "map");
	check(gpamap_begin(o->map, &txn), "begin");
	map_all(o, txn);
	record(o, txn);
	check(gpamap_commit(txn, NULL, NULL), "commit");
	guest_reset(&o->guest);
	for (int i = 0; i < vcpus; i++) {
		struct guest_vcpu *v = &o->guest.vcpu[i];

		check(gpamap_vcpu_attach(o->map, v->fd, v->run, (unsigned)i, &o->vcpu[i]),
		      "attach");
	}
}

void ours_destroy(struct ours *o)
{
	if (o->kicked < o->inside - o->inside / 10)
		errx(1, "of %lu vCPUs inside %lu were kicked", o->inside, o->kicked);
	for (int i = 0; i < o->guest.nr_vcpus; i++)
		gpamap_vcpu_detach(o->vcpu[i]);
	gpamap_free(o->map);
	crew_destroy(&o->crew);
	guest_destroy(&o->guest);
	tape_free(&o->tape);
}

/* The benchmark stands and falls with it that the gate did shut, and that those were held who should be. A
 * vCPU that is just between two KVM_RUNs is held and not kicked. */
static void check_report(struct ours *o, const struct gpamap_commit_report *report)
{
	unsigned inside = o->crew.state == CREW_OUTSIDE ? 0 : (unsigned)o->guest.nr_vcpus;

	if (!report->gate_shut || report->blackout_ns == 0)
		errx(1, "the page was changed, and the gate did not shut");
	if (report->kicked > inside)
		errx(1, "%u vCPUs were kicked, and %u were inside", report->kicked, inside);
	o->kicked += report->kicked;
	o->inside += inside;
}

struct took ours_change(struct ours *o, unsigned i, enum page_as as)
{
	struct gpamap_commit_report report;
	struct took took = {0};
	struct gpamap_txn *txn;
	double start;

	check(gpamap_begin(o->map, &txn), "begin");
	check(gpamap_map_pages(txn, 0, layout_page(&o->layout, i), PAGE,
			       o->guest.memory + layout_backing(&o->layout, i, as),
			       as == PAGE_READONLY ? GPAMAP_RO : GPAMAP_RW),
	      "map the page");
	record(o, txn);
	crew_mark(&o->crew);
	start = now_us();
	check(gpamap_commit(txn, NULL, &report), "commit");
	if (o->crew.state != CREW_OUTSIDE)
		took.back = crew_back(&o->crew) - start;
	check_report(o, &report);
	took.blackout = (double)report.blackout_ns / 1e3;
	return took;
}
