/* SPDX-License-Identifier: BSD-3-Clause */
/* The simulated VM's vCPUs, and their KVM_RUN. */
#include <errno.h>
#include <sys/mman.h>

#include "sim/impl.h"

_Static_assert(sizeof(struct kvm_run) <= 4096, "kvm_run is more than a page");

/* A vCPU is one mapping: the page of its kvm_run, then its own data. */
static size_t mapping_size(const struct gpamap_sim *sim)
{
	return sim->page_size + sizeof(struct gpamap_sim_vcpu);
}

static int list_add(struct gpamap_sim *sim, struct gpamap_sim_vcpu *v)
{
	int r = 0;

	pthread_mutex_lock(&sim->slot_lock);
	for (const struct gpamap_sim_vcpu *o = sim->vcpus; o; o = o->next) {
		if (o->id == v->id)
			r = -EEXIST;
	}
	if (!r) {
		v->next = sim->vcpus;
		sim->vcpus = v;
	}
	pthread_mutex_unlock(&sim->slot_lock);
	return r;
}

static void list_remove(struct gpamap_sim *sim, struct gpamap_sim_vcpu *v)
{
	struct gpamap_sim_vcpu **at = &sim->vcpus;

	pthread_mutex_lock(&sim->slot_lock);
	while (*at != v)
		at = &(*at)->next;
	*at = v->next;
	pthread_mutex_unlock(&sim->slot_lock);
}

int gpamap_sim_vcpu_new(struct gpamap_sim *sim, unsigned id, unsigned flags, gpamap_sim_guest guest,
			void *opaque, struct gpamap_sim_vcpu **ret)
{
	struct gpamap_sim_vcpu *v;
	uint8_t *page;
	int r;

	if (!guest || flags & ~GPAMAP_SIM_EMULATED)
		return -EINVAL;
	page = mmap(NULL, mapping_size(sim), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		    -1, 0);
	if (page == MAP_FAILED)
		return -ENOMEM;
	v = (struct gpamap_sim_vcpu *)(page + sim->page_size);
	v->sim = sim;
	v->run = (struct kvm_run *)page;
	v->guest = guest;
	v->opaque = opaque;
	v->id = id;
	v->emulated = flags & GPAMAP_SIM_EMULATED;
	r = list_add(sim, v);
	if (r) {
		munmap(page, mapping_size(sim));
		return r;
	}
	*ret = v;
	return 0;
}

void gpamap_sim_vcpu_free(struct gpamap_sim_vcpu *vcpu)
{
	if (!vcpu)
		return;
	list_remove(vcpu->sim, vcpu);
	munmap(vcpu->run, mapping_size(vcpu->sim));
}

unsigned gpamap_sim_vcpu_id(struct gpamap_sim_vcpu *vcpu)
{
	return vcpu->id;
}

struct kvm_run *gpamap_sim_vcpu_kvm_run(struct gpamap_sim_vcpu *vcpu)
{
	return vcpu->run;
}

/* As with KVM where immediate_exit ends it, exit_reason is still that of the last exit. */
static int interrupted(struct gpamap_sim_vcpu *v)
{
	sim_step(v->sim, GPAMAP_SIM_LEAVING_RUN);
	return -EINTR;
}

/* How run ends after a step that did not return 0. */
static int leave(struct gpamap_sim_vcpu *v, int r)
{
	if (r == -EINTR)
		return interrupted(v);
	if (r < 0)
		return r;
	v->run->exit_reason = (uint32_t)r;
	return 0;
}

static int step(struct gpamap_sim_vcpu *v)
{
	int r = v->guest(v, v->opaque);

	/* An answer is for the step that asked for it, and not for a later one. */
	if (r <= 0 || v->pending.answered)
		v->pending.kind = SIM_NOTHING;
	return r;
}

static int run(struct gpamap_sim_vcpu *vcpu)
{
	int r = 0;

	/* What the last exit broke off. As on x86 this comes first, even if immediate_exit is set; and it may
	 * touch memory, or exit again. */
	if (vcpu->pending.kind != SIM_NOTHING) {
		if (!sim_complete(vcpu))
			return 0;
		r = step(vcpu);
	}
	while (!r) {
		if (sim_interrupted(vcpu))
			return interrupted(vcpu);
		r = step(vcpu);
	}
	return leave(vcpu, r);
}

int gpamap_sim_vcpu_run(struct gpamap_sim_vcpu *vcpu)
{
	int r;

	atomic_store_explicit(&vcpu->running, true, memory_order_release);
	r = run(vcpu);
	atomic_store_explicit(&vcpu->running, false, memory_order_release);
	return r;
}
