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
};

struct gpamap_sim_options {
	unsigned flags;
	unsigned spaces;   /* 0: 1 */
	uint32_t slots;	   /* per address space; 0: 32764 */
	unsigned gpa_bits; /* the greatest GPA; 0: 52 */
};

/* Make a simulated VM; @opt may be NULL. -EINVAL, -ENOMEM. */
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
	uint32_t guest_memfd;
};
/* 0 or the ioctl's errno, negative. Serialised with its like; waits for accesses under way. */
int gpamap_sim_set_slot(struct gpamap_sim *sim, const struct gpamap_sim_slot *slot);
/* KVM_GET_DIRTY_LOG: read and clear. @bitmap: 1 bit per page, rounded up to 64.
 * -ENOENT: no slot or no log. */
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
 */
typedef int (*gpamap_sim_guest)(struct gpamap_sim_vcpu *vcpu, void *opaque);

/* Make a vCPU that runs @guest. @flags: GPAMAP_SIM_EMULATED. */
int gpamap_sim_vcpu_new(struct gpamap_sim *sim, unsigned id, unsigned flags, gpamap_sim_guest guest,
			void *opaque, struct gpamap_sim_vcpu **ret);
/* End it; it must not run and not be attached to a map. */
void gpamap_sim_vcpu_free(struct gpamap_sim_vcpu *vcpu);
/* Its kvm_run. */
struct kvm_run *gpamap_sim_vcpu_kvm_run(struct gpamap_sim_vcpu *vcpu);
/* KVM_RUN: steps until an exit (0), or immediate_exit is set or a signal came (-EINTR). */
int gpamap_sim_vcpu_run(struct gpamap_sim_vcpu *vcpu);
/* Bring it under the gate; as gpamap_vcpu_attach(). */
int gpamap_sim_vcpu_attach(struct gpamap *map, struct gpamap_sim_vcpu *vcpu,
			   struct gpamap_vcpu **ret);

/* Accesses of a guest's step, in address space 0; not across pages, but for loads and stores, which
 * are then done page by page as the emulator does. 0, or a value for the step to return:
 * KVM_EXIT_MMIO for data where there's no slot; KVM_EXIT_INTERNAL_ERROR for a fetch; and
 * KVM_EXIT_SHUTDOWN for a page-table walk. kvm_run has the details. */
int gpamap_sim_load(struct gpamap_sim_vcpu *vcpu, uint64_t gpa, void *buf, unsigned len);
int gpamap_sim_store(struct gpamap_sim_vcpu *vcpu, uint64_t gpa, const void *buf, unsigned len);
/* lock xadd of 8 aligned bytes. A KVM that emulates it on MMIO does a load and a plain store. */
int gpamap_sim_xadd(struct gpamap_sim_vcpu *vcpu, uint64_t gpa, uint64_t add, uint64_t *old);
int gpamap_sim_fetch(struct gpamap_sim_vcpu *vcpu, uint64_t gpa, void *buf, unsigned len);
int gpamap_sim_walk(struct gpamap_sim_vcpu *vcpu, uint64_t gpa, uint64_t *entry);
/* hlt: an exit with KVM_EXIT_HLT. */
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
/* Let the @nth call (1: the next) of a kind fail with @error (positive errno), once or from then on.
 * A failing call changes nothing. @nth 0: no more. One rule per kind; ANY is a kind of its own. */
void gpamap_sim_fail(struct gpamap_sim *sim, enum gpamap_sim_call call, unsigned nth, int error,
		     bool forever);
/* How many calls of a kind there have been, failed ones included. */
uint64_t gpamap_sim_calls(struct gpamap_sim *sim, enum gpamap_sim_call call);

enum gpamap_sim_step {
	GPAMAP_SIM_WHILE_INVALID = 1, /* the slot is INVALID */
	GPAMAP_SIM_AFTER_DELETE,      /* the slot is gone, the call has not returned */
	GPAMAP_SIM_BEFORE_CREATE,
	GPAMAP_SIM_IN_ACCESS,	/* between the look-up of a slot and the access to its memory */
	GPAMAP_SIM_LEAVING_RUN, /* a guest was interrupted, run has not returned */
};
/* Sleep for @usec at every such step; 0: no more. */
void gpamap_sim_stretch(struct gpamap_sim *sim, enum gpamap_sim_step step, unsigned usec);

#ifdef __cplusplus
}
#endif

#endif /* GPAMAP_SIM_H */
