/* SPDX-License-Identifier: BSD-3-Clause */
/* Protect a page under vCPUs by hand, and the floor. */
#include <err.h>
#include <errno.h>

#include "rival.h"

static void wait_for(sem_t *s)
{
	while (sem_wait(s) < 0 && errno == EINTR)
		;
}

static void enter(void *opaque, int vcpu)
{
	(void)opaque;
	(void)vcpu;
}

static void leave(void *opaque, int vcpu)
{
	struct hand *h = opaque;

	__atomic_store_n(&h->guest.vcpu[vcpu].run->immediate_exit, 0, __ATOMIC_SEQ_CST);
	if (atomic_load(&h->crew.stop) || h->crew.state == CREW_OUTSIDE)
		return;
	sem_post(&h->out[vcpu]);
	wait_for(&h->go[vcpu]);
}

static void hold(struct hand *h)
{
	for (int i = 0; i < h->guest.nr_vcpus; i++)
		crew_kick(&h->crew, i);
	for (int i = 0; i < h->guest.nr_vcpus; i++)
		wait_for(&h->out[i]);
}

static void let_go(struct hand *h)
{
	for (int i = 0; i < h->guest.nr_vcpus; i++)
		sem_post(&h->go[i]);
}

void hand_init(struct hand *h, int kvm, const struct layout *l, int vcpus)
{
	static const struct crew_gate gate = {enter, leave};

	guest_init(&h->guest, kvm, layout_size(l), vcpus);
	crew_init(&h->crew, &h->guest, &gate, h);
	for (int i = 0; i < vcpus; i++) {
		if (sem_init(&h->out[i], 0, 0) || sem_init(&h->go[i], 0, 0))
			err(1, "sem_init");
	}
}

void hand_destroy(struct hand *h)
{
	for (int i = 0; i < h->guest.nr_vcpus; i++) {
		sem_destroy(&h->out[i]);
		sem_destroy(&h->go[i]);
	}
	crew_destroy(&h->crew);
	guest_destroy(&h->guest);
}

static void replay_op(struct hand *h, const struct tape *t, const struct gpamap_op *op)
{
	bool create = op->kind == GPAMAP_OP_CREATE;

	check(guest_slot_of(&h->guest, op->slot, op->readonly ? KVM_MEM_READONLY : 0, op->gpa,
			    create ? op->size : 0,
			    create ? (uint64_t)((char *)op->hva - t->memory) : 0),
	      "replay");
}

struct took hand_replay(struct hand *h, const struct tape *t, size_t i, bool held)
{
	const struct gpamap_op *op = t->op + (i ? t->end[i - 1] : 0);
	const struct gpamap_op *end = t->op + t->end[i];
	struct took took = {0};
	double start = now_us(), shut;
	bool critical;

	if (held)
		crew_mark(&h->crew);
	for (; op < end && op->phase == GPAMAP_EARLY; op++)
		replay_op(h, t, op);
	critical = op < end && op->phase == GPAMAP_CRITICAL;
	if (critical) {
		shut = now_us();
		if (held)
			hold(h);
		for (; op < end && op->phase == GPAMAP_CRITICAL; op++)
			replay_op(h, t, op);
		took.blackout = now_us() - shut;
		if (held)
			let_go(h);
	}
	for (; op < end; op++)
		replay_op(h, t, op);
	if (held && critical)
		took.back = crew_back(&h->crew) - start;
	return took;
}
