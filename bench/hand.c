/* SPDX-License-Identifier: BSD-3-Clause */
/* Protect a page under running vCPUs by hand: the floor, and inhibit. */
#include <err.h>
#include <errno.h>
#include <signal.h>
#include <sys/ioctl.h>

#include "rival.h"

uint64_t rival_page(uint64_t size)
{
	return size / 2 + 16 * PAGE;
}

void rival_pause(void)
{
	sleep_us(200);
}

static void wait_for(sem_t *s)
{
	while (sem_wait(s) < 0 && errno == EINTR)
		;
}

static void *run_vcpu(void *opaque)
{
	struct hand_vcpu *v = opaque;
	struct guest_vcpu *g = &v->hand->guest.vcpu[v->index];

	for (;;) {
		int r;

		if (v->hand->locked)
			atomic_fetch_add(&v->inside, 1);
		r = ioctl(g->fd, KVM_RUN, 0);
		if (v->hand->locked)
			atomic_fetch_sub(&v->inside, 1);
		if (r == 0 || errno != EINTR)
			errx(1, "by hand: vCPU %d left by itself: exit %u", v->index,
			     g->run->exit_reason);
		__atomic_store_n(&g->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
		if (atomic_load(&v->hand->stop))
			return NULL;
		sem_post(&v->out);
		wait_for(&v->go);
	}
}

static void kick(struct hand *h)
{
	for (int i = 0; i < NR_VCPUS; i++) {
		__atomic_store_n(&h->guest.vcpu[i].run->immediate_exit, 1, __ATOMIC_SEQ_CST);
		pthread_kill(h->vcpu[i].thread, SIGUSR1);
	}
}

static void hold(struct hand *h)
{
	kick(h);
	for (int i = 0; i < NR_VCPUS; i++)
		wait_for(&h->vcpu[i].out);
}

static void let_go(struct hand *h)
{
	for (int i = 0; i < NR_VCPUS; i++)
		sem_post(&h->vcpu[i].go);
}

void hand_init(struct hand *h, int kvm, uint64_t size, bool locked)
{
	*h = (struct hand){.locked = locked};
	guest_init(&h->guest, kvm, size, true);
	for (int i = 0; i < NR_VCPUS; i++) {
		h->vcpu[i].hand = h;
		h->vcpu[i].index = i;
		if (sem_init(&h->vcpu[i].out, 0, 0) || sem_init(&h->vcpu[i].go, 0, 0))
			err(1, "sem_init");
	}
}

void hand_destroy(struct hand *h)
{
	guest_destroy(&h->guest);
	for (int i = 0; i < NR_VCPUS; i++) {
		sem_destroy(&h->vcpu[i].out);
		sem_destroy(&h->vcpu[i].go);
	}
}

void hand_start(struct hand *h)
{
	atomic_store(&h->stop, false);
	for (int i = 0; i < NR_VCPUS; i++) {
		if (pthread_create(&h->vcpu[i].thread, NULL, run_vcpu, &h->vcpu[i]))
			errx(1, "no thread");
	}
}

void hand_stop(struct hand *h)
{
	atomic_store(&h->stop, true);
	kick(h);
	for (int i = 0; i < NR_VCPUS; i++)
		pthread_join(h->vcpu[i].thread, NULL);
}

static void replay_op(struct hand *h, const struct gpamap_op *op)
{
	bool create = op->kind == GPAMAP_OP_CREATE;

	check(guest_slot(&h->guest, op->slot, op->readonly ? KVM_MEM_READONLY : 0, op->gpa,
			 create ? op->size : 0),
	      "replay");
}

/* Blackouts end, here and in the library, before those who were held are woken: the waker may lose its
 * processor to one of them, and would count that. */
double hand_replay(struct hand *h, const struct tape *t, size_t i)
{
	const struct gpamap_op *op = t->op + (i ? t->end[i - 1] : 0);
	const struct gpamap_op *end = t->op + t->end[i];
	double start, blackout = 0;

	for (; op < end && op->phase == GPAMAP_EARLY; op++)
		replay_op(h, op);
	if (op < end && op->phase == GPAMAP_CRITICAL) {
		start = now_us();
		hold(h);
		for (; op < end && op->phase == GPAMAP_CRITICAL; op++)
			replay_op(h, op);
		blackout = now_us() - start;
		let_go(h);
	}
	for (; op < end; op++)
		replay_op(h, op);
	return blackout;
}

double hand_whole_slots(struct hand *h, bool readonly)
{
	uint64_t size = h->guest.size, page = rival_page(size);
	double start = now_us(), blackout;

	hold(h);
	if (readonly) {
		check(guest_slot(&h->guest, 0, 0, 0, 0), "delete");
		check(guest_slot(&h->guest, 0, 0, 0, page), "create");
		check(guest_slot(&h->guest, 1, KVM_MEM_READONLY, page, PAGE), "create");
		check(guest_slot(&h->guest, 2, 0, page + PAGE, size - page - PAGE), "create");
	} else {
		for (uint32_t slot = 0; slot < 3; slot++)
			check(guest_slot(&h->guest, slot, 0, 0, 0), "delete");
		check(guest_slot(&h->guest, 0, 0, 0, size), "create");
	}
	blackout = now_us() - start;
	let_go(h);
	return blackout;
}
