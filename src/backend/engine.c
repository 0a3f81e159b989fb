/* SPDX-License-Identifier: BSD-3-Clause */
/* What the library reads and writes in a struct kvm_run, which all backends have. */
#include <errno.h>
#include <linux/kvm.h>

#include "backend/backend.h"

uint8_t *gm_engine_immediate_exit(struct gm_engine *e)
{
	return &e->kvm_run->immediate_exit;
}

void gm_engine_interrupted(struct gm_engine *e)
{
	e->kvm_run->exit_reason = KVM_EXIT_INTR;
}

int gm_engine_mmio(struct gm_engine *e, struct gm_mmio *ret)
{
	struct kvm_run *run = e->kvm_run;

	if (run->exit_reason != KVM_EXIT_MMIO)
		return -EINVAL;
	*ret = (struct gm_mmio){
		.gpa = run->mmio.phys_addr,
		.len = run->mmio.len,
		.is_write = run->mmio.is_write,
		.data = run->mmio.data,
	};
	return 0;
}
