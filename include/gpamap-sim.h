/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * gpamap-sim.h - a simulated VM, for tests of programs that use gpamap, and of gpamap itself.
 *
 * It models what KVM does with memory slots, in process: the rules and errnos of
 * KVM_SET_USER_MEMORY_REGION2, the gap between a delete and a create, slots that are INVALID for a
 * while, dirty bitmaps, slot limits. Its vCPUs are threads of the caller that load, store and fetch
 * through the slots. A fault plan lets the nth call fail, and stretches steps so that races are hit.
 *
 * A real struct kvm_run stands for each vCPU, so an exit handler is the same for both.
 */
#ifndef GPAMAP_SIM_H
#define GPAMAP_SIM_H

#include "gpamap.h"

#ifdef __cplusplus
extern "C" {
#endif

struct gpamap_sim;
struct gpamap_sim_vcpu;

enum {
	GPAMAP_SIM_NO_READONLY = 1u << 0, /* KVM without KVM_CAP_READONLY_MEM */
	GPAMAP_SIM_NO_REGION2 = 1u << 1,  /* KVM without KVM_SET_USER_MEMORY_REGION2 */
	GPAMAP_SIM_GMEM_EEXIST = 1u
				 << 2,	 /* Linux 7.2: pages of a guest_memfd bound twice: EEXIST */
	GPAMAP_SIM_DIRTY_RING = 1u << 3, /* a VM with a dirty ring, and so without bitmaps */
};

struct gpamap_sim_options {
	unsigned flags;
	unsigned spaces;   /* 1 to 16; 0: 1 */
	uint32_t slots;	   /* per address space, up to 65536; 0: 32764 */
	unsigned gpa_bits; /* of the greatest GPA, 16 to 64; 0: 52 */
	/* A range in which KVM has slots of its own, in all address spaces, as those for the TSS, the identity map and
	 * the APIC page: no other slot may overlap it. Whole pages; size 0: none. What guests find there is not
	 * simulated: nothing. */
	uint64_t hidden_gpa;
	uint64_t hidden_size;
};

/* Make a simulated VM; @opt may be NULL. -EINVAL: an option is out of range, or misaligned. -ENOMEM. */
int gpamap_sim_new(const struct gpamap_sim_options *opt, struct gpamap_sim **ret);
/* End it. Its map and vCPUs must be gone. NULL is fine. */
void gpamap_sim_free(struct gpamap_sim *sim);

/* A map over it; as gpamap_new_kvm(). */
int gpamap_new_sim(struct gpamap_sim *sim, const struct gpamap_options *opt, struct gpamap **ret);

/* The slot flags of KVM that it knows. */
enum {
	GPAMAP_SIM_LOG_DIRTY = 1u << 0,
	GPAMAP_SIM_READONLY = 1u << 1,
	GPAMAP_SIM_GUEST_MEMFD = 1u << 2,
};

/* KVM_SET_USER_MEMORY_REGION2: as the ioctl takes it. */
struct gpamap_sim_slot {
	uint32_t slot; /* bits 0-15 id, 16-31 address space */
	uint32_t flags;
	uint64_t gpa;
	uint64_t size; /* 0: delete */
	uint64_t hva;
	uint64_t guest_memfd_offset;
	/* No file is looked at: any number up to INT32_MAX stands for a guest_memfd of endless size. What
	 * vCPUs access is the memory at hva. */
	uint32_t guest_memfd;
};
/*
 * 0 or the ioctl's errno, negative. Serialised with its like; waits for the accesses under way, as KVM
 * does. Not from within an access. What it does is told by the slot that has the id now: create, delete
 * (size 0), move (another gpa), flags (another LOG_DIRTY), or nothing (all the same).
 *
 * -EINVAL: unknown or illegal flags, also of a delete; gpa, size, hva or guest_memfd_offset not a multiple
 * of the page size; hva beyond user memory; gpa wraps or is beyond gpa_bits; more than 2^31-1 pages; no such
 * id or space; a delete of nothing; another size, hva or READONLY; any change of a guest_memfd slot; pages
 * of a guest_memfd that another slot has. -EEXIST: overlaps another slot of its space, or the hidden range; with
 * GPAMAP_SIM_GMEM_EEXIST also: pages of a guest_memfd that another slot has. -EBADF: guest_memfd above INT32_MAX.
 * -ENOMEM. A failed call changes nothing, but a move that fails for its gpa, or by the fault plan, has had the slot
 * INVALID for a moment: see gpamap_sim_traces().
 */
int gpamap_sim_set_slot(struct gpamap_sim *sim, const struct gpamap_sim_slot *slot);
/* KVM_GET_DIRTY_LOG: read and clear. @bitmap: 1 bit per page, rounded up to 64. A log begins clean when
 * LOG_DIRTY goes on, lives through moves, and ends with LOG_DIRTY off or a delete.
 * -ENXIO: GPAMAP_SIM_DIRTY_RING; the slots take LOG_DIRTY all the same, and the ring is not simulated. -ENOENT: no
 * slot or no log. -EINVAL: no such id or space. -EFAULT: @bitmap is NULL. */
int gpamap_sim_get_dirty_log(struct gpamap_sim *sim, uint32_t slot, void *bitmap);

/* --------------------------------------------------------------------------------- guests --- */

enum {
	/* Accesses are emulated: an INVALID slot gives an exit or a fault at once. Without it they are
	 * hardware page faults, which KVM retries while a slot is INVALID. */
	GPAMAP_SIM_EMULATED = 1u << 0,
};

/*
 * One step of a guest: at most one access by the functions below, then changes of its own state.
 * 0: go on with the next step. Any other value, which an access gave: return it unchanged, with the
 * state as before, so that the step is done again: an MMIO read that the caller answered then succeeds.
 *
 * A step may also end the run by itself: with a positive KVM_EXIT_* of which it has filled in the rest
 * (exit_reason is set for it), or with a negative errno, which gpamap_sim_vcpu_run() then returns. Steps
 * run on the thread that runs the vCPU, with nothing held, so they may call anything but run.
 */
typedef int (*gpamap_sim_guest)(struct gpamap_sim_vcpu *vcpu, void *opaque);

/* Make a vCPU that runs @guest. @flags: GPAMAP_SIM_EMULATED. Waits for a change of slots on its way.
 * -EINVAL: other flags, or no guest. -EEXIST: the VM has a vCPU @id. -ENOMEM. */
int gpamap_sim_vcpu_new(struct gpamap_sim *sim, unsigned id, unsigned flags, gpamap_sim_guest guest,
			void *opaque, struct gpamap_sim_vcpu **ret);
/* End it; it must not run and not be attached to a map. */
void gpamap_sim_vcpu_free(struct gpamap_sim_vcpu *vcpu);
/* Its id, as given when it was made. */
unsigned gpamap_sim_vcpu_id(struct gpamap_sim_vcpu *vcpu);
/* Its kvm_run. */
struct kvm_run *gpamap_sim_vcpu_kvm_run(struct gpamap_sim_vcpu *vcpu);
/*
 * KVM_RUN: steps until an exit (0), or until immediate_exit is set (-EINTR). By one thread at a time.
 *
 * A signal alone does not end it, so a handler or whoever kicks has to set immediate_exit, too; a simulated
 * guest never sleeps but in a stretched step, so it is seen before the next step. As on x86, what the last
 * exit broke off is completed first, even if immediate_exit is set: that touches guest memory, and may be
 * another exit.
 */
int gpamap_sim_vcpu_run(struct gpamap_sim_vcpu *vcpu);
/* Bring it under the gate; as gpamap_vcpu_attach(). */
int gpamap_sim_vcpu_attach(struct gpamap *map, struct gpamap_sim_vcpu *vcpu,
			   struct gpamap_vcpu **ret);

/*
 * Accesses of a guest's step, in address space 0. 0, or a value for the step to return: an exit, with its
 * details in kvm_run, or -EINTR: immediate_exit was set while the access waited for a slot that is INVALID.
 * -EINVAL: misaligned, too long or across pages where that may not be; 0 bytes; beyond 2^64.
 *
 * What is not done by the hardware is done as KVM's emulator does it:
 *  - KVM_EXIT_MMIO carries up to 8 bytes; longer accesses take several, one for each run.
 *  - The answer to a read is what mmio.data holds at the next run. It is given to the access when the step
 *    is done again, also if there's memory at its GPA by then.
 *  - A write that has been an exit is not done again: it is the caller who did it, or did not.
 *  - Pages are done one by one: if a part of the access found memory, that part is done, and stays done.
 */

/* Data: up to 4096 bytes, at any GPA. KVM_EXIT_MMIO where there's no slot, and for a store to a READONLY
 * one. Aligned parts of 1, 2, 4 and 8 bytes are single-copy atomic. */
int gpamap_sim_load(struct gpamap_sim_vcpu *vcpu, uint64_t gpa, void *buf, unsigned len);
int gpamap_sim_store(struct gpamap_sim_vcpu *vcpu, uint64_t gpa, const void *buf, unsigned len);
/* lock xadd of 8 aligned bytes. Where there's no memory to write to, it is a read and a plain write: one
 * KVM_EXIT_MMIO each. */
int gpamap_sim_xadd(struct gpamap_sim_vcpu *vcpu, uint64_t gpa, uint64_t add, uint64_t *old);
/* Instructions, up to 4096 bytes within a page. No slot: KVM_EXIT_INTERNAL_ERROR (emulation failed). */
int gpamap_sim_fetch(struct gpamap_sim_vcpu *vcpu, uint64_t gpa, void *buf, unsigned len);
/* An entry of a page table, 8 aligned bytes. No slot: KVM_EXIT_SHUTDOWN. */
int gpamap_sim_walk(struct gpamap_sim_vcpu *vcpu, uint64_t gpa, uint64_t *entry);
/* hlt: KVM_EXIT_HLT; 0 when the step is done again. */
int gpamap_sim_halt(struct gpamap_sim_vcpu *vcpu);

/* ----------------------------------------------------------------------------- fault plans --- */

enum gpamap_sim_call {
	GPAMAP_SIM_ANY = 0, /* each of the following */
	GPAMAP_SIM_CREATE,
	GPAMAP_SIM_DELETE,
	GPAMAP_SIM_MOVE,
	GPAMAP_SIM_FLAGS,
	GPAMAP_SIM_GET_DIRTY,
};
/*
 * Let the @nth call (1: the next) of a kind fail with @error (positive errno), once or from then on.
 * A failing call changes nothing (a move: see gpamap_sim_set_slot()). @nth 0: no more. One rule per kind;
 * ANY is a kind of its own. Where two rules meet, that of the call's own kind gives the errno. Any thread may
 * call it, also while a call is under way.
 *
 * Calls that are refused before KVM can tell their kind, and those that change nothing, count as ANY alone.
 */
void gpamap_sim_fail(struct gpamap_sim *sim, enum gpamap_sim_call call, unsigned nth, int error,
		     bool forever);
/* How many calls of a kind there have been, failed ones included. */
uint64_t gpamap_sim_calls(struct gpamap_sim *sim, enum gpamap_sim_call call);
/* How many calls have been refused and left a trace all the same: moves whose slot was INVALID before they failed.
 * @running: only those of them during which a vCPU was in gpamap_sim_vcpu_run(), before or after; one that enters and
 * leaves in between may be missed. Any thread may call it. */
uint64_t gpamap_sim_traces(struct gpamap_sim *sim, bool running);

enum gpamap_sim_step {
	GPAMAP_SIM_WHILE_INVALID = 1, /* the slot is INVALID */
	GPAMAP_SIM_AFTER_DELETE,      /* the slot is gone, the call has not returned */
	GPAMAP_SIM_BEFORE_CREATE,
	GPAMAP_SIM_IN_ACCESS,	/* between the look-up of a slot and the access to its memory */
	GPAMAP_SIM_LEAVING_RUN, /* a guest was interrupted, run has not returned */
	GPAMAP_SIM_BEFORE_MARK, /* a guest's store is in memory, and not yet in the dirty log */
	GPAMAP_SIM_BEFORE_FLAGS,
	GPAMAP_SIM_IN_GET_DIRTY, /* the log is read and cleared, the call has not returned */
};
/* Sleep for @usec at every such step; 0: no more. Nothing cuts the sleep short. Any thread may call it. */
void gpamap_sim_stretch(struct gpamap_sim *sim, enum gpamap_sim_step step, unsigned usec);

#ifdef __cplusplus
}
#endif

#endif /* GPAMAP_SIM_H */
