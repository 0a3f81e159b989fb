/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the library needs of a hypervisor: a few primitives, for a VM and for a vCPU. kvm.c
 * provides them, and what stands outside of the library by way of api/private.h. Callers hold what the comments say; a primitive holds no lock of the library.
 */
#ifndef GM_BACKEND_BACKEND_H
#define GM_BACKEND_BACKEND_H

#include <stdbool.h>
#include <stdint.h>

#include "base/alloc.h"
#include "base/msg.h"
#include "plan/kvm_rules.h"
#include "plan/plan.h"

struct kvm_run;
struct gm_backend;

/* Found once, when the map is made; but for limits.log, which has_log() finds. */
struct gm_caps {
	struct gm_kvm_limits limits;
	bool region2;	    /* KVM_SET_USER_MEMORY_REGION2 */
	bool zap_slot_only; /* zap_slot_only() can be had, or is true anyway */
};

struct gm_backend_ops {
	/*
	 * Do @op: one slot ioctl. 0 or -errno of the kernel; after a failure the slot is as before.
	 * pre: one caller at a time; a critical one: no vCPU runs.
	 * post: after a delete or move no vCPU reaches the old memory through the slot any more.
	 */
	int (*slot)(struct gm_backend *b, const struct gm_op *op);
	/*
	 * Is none of @n ids of @space in use? 0: none, as far as the hypervisor can tell. -EBUSY: *@taken is. Else
	 * -errno: it could not be found out. Nothing has changed afterwards. @ours: a slot of @space that the map
	 * has made and the hypervisor has; NULL: there's none. pre: no id is that of a slot that the map has made;
	 * not at the same time as slot.
	 */
	int (*ids_free)(struct gm_backend *b, unsigned space, const uint32_t *ids, size_t n,
			const struct gm_slot *ours, uint32_t *taken);
	/* Can the dirty bits of a slot be read by dirty(), and are they all there? To be asked before the first
	 * slot logs: it may change until the VM has vCPUs. pre: not at the same time as slot. */
	bool (*has_log)(struct gm_backend *b);
	/* Read and clear the dirty bits of a slot that logs, 1 per page, bit 0 the slot's first; @bitmap
	 * has room for its pages rounded up to 64. pre: not at the same time as slot. */
	int (*dirty)(struct gm_backend *b, const struct gm_slot *slot, uint64_t *bitmap);
	/*
	 * Any ioctl of the VM, or of a device that it has made, as the caller of the library wants it. The ioctl's
	 * own value, 0 or more, or -errno; -EINTR is passed on. -ENOTSUP: no ioctls here. -EINVAL: the fd is the
	 * VM's. pre: whatever its class asks for (kvm_ioctls.h).
	 */
	int (*vm_ioctl)(struct gm_backend *b, unsigned long request, void *arg);
	int (*device_ioctl)(struct gm_backend *b, int fd, unsigned long request, void *arg);
	/* From here on a delete or move lets vCPUs keep what they have mapped of other slots. 0 or -errno, nothing
	 * changed. pre: caps.zap_slot_only; not at the same time as slot. */
	int (*zap_slot_only)(struct gm_backend *b);
	/* Can't fail. pre: no vCPU is left. Slots stay. */
	void (*destroy)(struct gm_backend *b);
};

struct gm_backend {
	const struct gm_backend_ops *ops;
	const struct gm_alloc *alloc;
	struct gm_caps caps;
};

/* A vCPU of a backend. */
struct gm_engine {
	/* KVM_RUN: 0 on an exit, or -errno; -EINTR for a signal or immediate_exit. pre: inside the gate. */
	int (*run)(struct gm_engine *e);
	/* Any other ioctl of the vCPU, as those of the VM. It may wait for a run of another thread to end. */
	int (*vcpu_ioctl)(struct gm_engine *e, unsigned long request, void *arg);
	struct kvm_run *kvm_run;
	union {
		int fd;
		void *vcpu;
	};
};

/* -EINVAL: no VM fd. -ENOTSUP: KVM has no immediate_exit. -ENOMEM. */
int gm_kvm_new(int vm_fd, const struct gm_alloc *alloc, struct gm_msg *msg,
	       struct gm_backend **ret);
/* Of the VM behind @b: -ENOTSUP if @b is not of that sort. */
int gm_kvm_engine(struct gm_backend *b, int vcpu_fd, struct kvm_run *run, struct gm_engine *ret);

/* The byte that makes KVM_RUN return at once. The layout of kvm_run is known to the backends alone. */
uint8_t *gm_engine_immediate_exit(struct gm_engine *e);

/*
 * To be called when run() has ended with -EINTR: KVM then may leave the exit_reason of the exit before. pre: run() has
 * been called since that exit. Without that KVM may still need it: some architectures complete an MMIO by it.
 */
void gm_engine_interrupted(struct gm_engine *e);

/* The KVM_EXIT_MMIO in @e's kvm_run. -EINVAL: another exit. *@data points into kvm_run. */
struct gm_mmio {
	uint64_t gpa;
	uint32_t len;
	bool is_write;
	uint8_t *data;
};
int gm_engine_mmio(struct gm_engine *e, struct gm_mmio *ret);

#endif
