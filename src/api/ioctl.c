/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The caller's own ioctls, each done as its class asks for (backend/kvm_ioctls.h), and those
 * refused that would spoil what the library has made.
 */
#include <errno.h>

#include "api/impl.h"
#include "backend/kvm_ioctls.h"

/* One ioctl. */
struct call {
	struct gpamap *m;
	enum gm_fd_kind kind;
	struct gpamap_vcpu *vcpu; /* of GM_FD_VCPU; else NULL */
	int device;		  /* the fd of GM_FD_DEVICE */
	unsigned long request;
	void *arg;
	struct gm_msg *msg; /* why it was refused */
};

static int issue(const struct call *c)
{
	struct gm_backend *b = c->m->backend;

	switch (c->kind) {
	case GM_FD_VCPU:
		return c->vcpu->engine.vcpu_ioctl(&c->vcpu->engine, c->request, c->arg);
	case GM_FD_DEVICE:
		return b->ops->device_ioctl(b, c->device, c->request, c->arg);
	default:
		return b->ops->vm_ioctl(b, c->request, c->arg);
	}
}

static const char *name_of(const struct call *c)
{
	const struct gm_kvm_ioctl *row = gm_kvm_ioctl_find(c->kind, c->request);

	return row ? row->name : "an unknown ioctl";
}

static int by_hold(const struct call *c)
{
	int ret = gm_gate_enter(&c->m->gate);

	if (ret)
		return ret;
	ret = issue(c);
	gm_gate_leave(&c->m->gate);
	return ret;
}

static int by_pass(const struct call *c)
{
	int ret = gm_pass_enter(&c->vcpu->pass);

	if (ret)
		return ret;
	ret = issue(c);
	gm_pass_leave(&c->vcpu->pass);
	return ret;
}

/*
 * A pass is for one thread at a time (G2), and another one may be in KVM_RUN by it: so only the
 * thread that it is bound to goes in by it. As the inhibitor kicks passes, and no holds, a kick
 * then ends what would take long and can be interrupted.
 *
 * Any other thread goes in by a hold. If the vCPU runs, the kernel lets it wait in there for the
 * vCPU's mutex, and no signal gets it out: but the inhibitor has kicked the runner, who leaves the
 * mutex with KVM_RUN.
 */
static bool is_bound_to_me(struct gpamap_vcpu *vcpu)
{
	return atomic_load_explicit(&vcpu->pass.owner, memory_order_relaxed) == gm_thread.passing;
}

static int through_gate(const struct call *c)
{
	if (!(gm_kvm_ioctl_how(c->kind, c->request) & GM_IOCTL_GATE))
		return issue(c);
	return c->vcpu && is_bound_to_me(c->vcpu) ? by_pass(c) : by_hold(c);
}

/* ---------------------------------------------------------------------------- serialised --- */

/* Slots belong to the library, but for those whose ids the caller has reserved. pre: slots_lock. */
static int check_slot(const struct call *c)
{
	struct gpamap *m = c->m;
	uint32_t full = 0, space, id;

	if (!gm_kvm_ioctl_slot(c->request, c->arg, &full))
		return 0;
	space = full >> 16;
	id = full & 0xffff;
	/* An address space that the map was not made with is the caller's. */
	if (space >= m->nr_spaces || gm_ids_reserved(&m->slots[space].ids, id))
		return 0;
	return gm_fail(c->msg, -EPERM,
		       "%s of slot %u in address space %u: see gpamap_reserve_slots()", name_of(c),
		       id, space);
}

/*
 * With slots_lock, so no commit is on its way. Whoever is to pass the gate as well finds it open,
 * or broken.
 */
static int with_slots(const struct call *c)
{
	struct gpamap *m = c->m;
	int ret = gm_may_wait(m, name_of(c), c->msg);

	if (ret)
		return ret;
	gm_slots_lock(m);
	ret = check_slot(c);
	if (!ret)
		ret = through_gate(c);
	gm_slots_unlock(m);
	return ret;
}

/* -------------------------------------------------------------------------------- public --- */

int gpamap_vm_ioctl(struct gpamap *m, unsigned long request, void *arg)
{
	struct gm_msg msg = {""};
	struct call c = {.m = m, .kind = GM_FD_VM, .request = request, .arg = arg, .msg = &msg};
	int ret;

	if (gm_kvm_ioctl_how(GM_FD_VM, request) & GM_IOCTL_SLOTS)
		ret = with_slots(&c);
	else
		ret = through_gate(&c);
	return ret < 0 ? gm_map_fail(m, ret, &msg) : ret;
}

int gpamap_device_ioctl(struct gpamap *m, int device_fd, unsigned long request, void *arg)
{
	struct call c = {
		.m = m, .kind = GM_FD_DEVICE, .device = device_fd, .request = request, .arg = arg};
	int ret = through_gate(&c);

	return ret < 0 ? gm_map_fail(m, ret, NULL) : ret;
}

int gpamap_vcpu_ioctl(struct gpamap_vcpu *vcpu, unsigned long request, void *arg)
{
	struct gpamap *m = vcpu->map;
	struct call c = {.m = m, .vcpu = vcpu, .kind = GM_FD_VCPU, .request = request, .arg = arg};
	int signo = m->gate.kick_signal, ret;

	if (gm_kvm_ioctl_is_run(request) && !arg)
		return gpamap_vcpu_run(vcpu);
	if (gm_kvm_ioctl_is_run(request))
		return gm_map_fail(m, -EINVAL, &(struct gm_msg){"KVM_RUN with an argument"});
	if (gm_kvm_ioctl_blocks(request, arg, signo)) {
		struct gm_msg msg;

		gm_fail(&msg, 0, "KVM_SET_SIGNAL_MASK would block kick signal %d", signo);
		return gm_map_fail(m, -EPERM, &msg);
	}
	ret = through_gate(&c);
	return ret < 0 ? gm_map_fail(m, ret, NULL) : ret;
}
