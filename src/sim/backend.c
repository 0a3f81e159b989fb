/* SPDX-License-Identifier: BSD-3-Clause */
/* The simulated VM as a backend: operations of a plan become its ioctls. And a map over it. */
#include <errno.h>

#include "api/private.h"
#include "backend/backend.h"
#include "sim/backend.h"
#include "sim/impl.h"

struct sim_backend {
	struct gm_backend b;
	struct gpamap_sim *sim;
};

static struct gpamap_sim *sim_of(struct gm_backend *b)
{
	return ((struct sim_backend *)b)->sim;
}

static uint32_t ioctl_id(const struct gm_slot *s)
{
	return s->space << 16 | s->id;
}

static uint32_t ioctl_flags(const struct gm_slot *s)
{
	uint32_t flags = 0;

	if (s->flags & GM_SLOT_LOG)
		flags |= GPAMAP_SIM_LOG_DIRTY;
	if (s->flags & GM_SLOT_READONLY)
		flags |= GPAMAP_SIM_READONLY;
	if (s->flags & GM_SLOT_GUEST_MEMFD)
		flags |= GPAMAP_SIM_GUEST_MEMFD;
	return flags;
}

static int sim_slot(struct gm_backend *b, const struct gm_op *op)
{
	struct gpamap_sim_slot req = {0};

	if (op->kind == GM_OP_DELETE) {
		req.slot = ioctl_id(&op->from);
		return gpamap_sim_set_slot(sim_of(b), &req);
	}
	req.slot = ioctl_id(&op->to);
	req.flags = ioctl_flags(&op->to);
	req.gpa = op->to.gpa.first;
	req.size = gm_range_size(op->to.gpa);
	req.hva = op->to.hva;
	if (req.flags & GPAMAP_SIM_GUEST_MEMFD) {
		req.guest_memfd = (uint32_t)op->to.gmem_fd;
		req.guest_memfd_offset = op->to.gmem_offset;
	}
	return gpamap_sim_set_slot(sim_of(b), &req);
}

/* It can be asked at once, where KVM has to be asked for slots (backend/probe.h). */
static int sim_ids_free(struct gm_backend *b, unsigned space, const uint32_t *ids, size_t n,
			const struct gm_slot *ours, uint32_t *taken)
{
	(void)ours;
	for (size_t i = 0; i < n; i++) {
		if (!sim_has_slot(sim_of(b), space << 16 | ids[i]))
			continue;
		*taken = ids[i];
		return -EBUSY;
	}
	return 0;
}

static bool sim_has_log(struct gm_backend *b)
{
	return !(sim_of(b)->flags & GPAMAP_SIM_DIRTY_RING);
}

static int sim_dirty(struct gm_backend *b, const struct gm_slot *slot, uint64_t *bitmap)
{
	return gpamap_sim_get_dirty_log(sim_of(b), ioctl_id(slot), bitmap);
}

/* It has calls of its own for what it can do; see gpamap-sim.h. */
static int sim_vm_ioctl(struct gm_backend *b, unsigned long request, void *arg)
{
	(void)b;
	(void)request;
	(void)arg;
	return -ENOTSUP;
}

static int sim_device_ioctl(struct gm_backend *b, int fd, unsigned long request, void *arg)
{
	(void)fd;
	return sim_vm_ioctl(b, request, arg);
}

/* Its vCPUs look at the slots with each access: there is nothing to drop. */
static int sim_zap_slot_only(struct gm_backend *b)
{
	(void)b;
	return 0;
}

static void sim_destroy(struct gm_backend *b)
{
	gm_free(b->alloc, b);
}

static const struct gm_backend_ops sim_ops = {
	.slot = sim_slot,
	.ids_free = sim_ids_free,
	.has_log = sim_has_log,
	.dirty = sim_dirty,
	.vm_ioctl = sim_vm_ioctl,
	.device_ioctl = sim_device_ioctl,
	.zap_slot_only = sim_zap_slot_only,
	.destroy = sim_destroy,
};

int gm_sim_new(void *vm, const struct gm_alloc *alloc, struct gm_msg *msg, struct gm_backend **ret)
{
	struct gpamap_sim *sim = vm;
	struct sim_backend *sb = gm_calloc(alloc, 1, sizeof(*sb));

	if (!sb)
		return gm_fail(msg, -ENOMEM, "no memory for the backend");
	sb->sim = sim;
	sb->b.ops = &sim_ops;
	sb->b.alloc = alloc;
	sb->b.caps.region2 = !(sim->flags & GPAMAP_SIM_NO_REGION2);
	sb->b.caps.limits = (struct gm_kvm_limits){
		.page_size = sim->page_size,
		.last_gpa = sim->last_gpa,
		.last_hva = SIM_USER_END - 1,
		.max_slot_pages = GM_KVM_MAX_SLOT_PAGES,
		.nr_slots = sim->nr_slots,
		.nr_spaces = sim->nr_spaces,
		.readonly_mem = !(sim->flags & GPAMAP_SIM_NO_READONLY),
		.guest_memfd = sb->b.caps.region2,
		.log = true,
	};
	sb->b.caps.zap_slot_only = true;
	*ret = &sb->b;
	return 0;
}

static int run_engine(struct gm_engine *e)
{
	return gpamap_sim_vcpu_run(e->vcpu);
}

static int sim_vcpu_ioctl(struct gm_engine *e, unsigned long request, void *arg)
{
	(void)e;
	(void)request;
	(void)arg;
	return -ENOTSUP;
}

int gm_sim_engine(struct gm_backend *b, void *vcpu, struct gm_engine *ret)
{
	struct gpamap_sim_vcpu *v = vcpu;

	if (b->ops != &sim_ops)
		return -ENOTSUP;
	if (v->sim != sim_of(b))
		return -EINVAL;
	*ret = (struct gm_engine){
		.run = run_engine,
		.vcpu_ioctl = sim_vcpu_ioctl,
		.kvm_run = v->run,
		.vcpu = v,
	};
	return 0;
}

int gpamap_new_sim(struct gpamap_sim *sim, const struct gpamap_options *opt, struct gpamap **ret)
{
	return gm_private_map_new(gm_sim_new, sim, opt, ret);
}

int gpamap_sim_vcpu_attach(struct gpamap *m, struct gpamap_sim_vcpu *vcpu, struct gpamap_vcpu **ret)
{
	return gm_private_vcpu_attach(m, gm_sim_engine, vcpu, gpamap_sim_vcpu_id(vcpu), ret);
}
