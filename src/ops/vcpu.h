/* SPDX-License-Identifier: BSD-3-Clause */
/* A vCPU under the gate: the run wrapper. */
#ifndef GM_OPS_VCPU_H
#define GM_OPS_VCPU_H

#include "backend/backend.h"
#include "gpamap.h"
#include "sync/gate.h"

struct gpamap_vcpu {
	struct gm_pass pass;
	struct gm_engine engine;
	struct gpamap *map; /* for gpamap_vcpu_mmio() */
	const struct gm_alloc *alloc;
	void *raw; /* as allocated; the struct is aligned for the pass */
};

/* Allocate one (aligned to cache lines), and let it take its place at the gate. -ENOMEM, -EINVAL: the gate
 * has no kick signal, or the signal has no handler, or one that restarts system calls. */
int gm_vcpu_new(struct gpamap *map, struct gm_gate *gate, const struct gm_engine *engine,
		unsigned id, const struct gm_alloc *alloc, struct gm_msg *msg,
		struct gpamap_vcpu **ret);
void gm_vcpu_free(struct gpamap_vcpu *vcpu);

#endif
