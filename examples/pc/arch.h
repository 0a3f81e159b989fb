/* SPDX-License-Identifier: BSD-3-Clause */
/* What each architecture provides, in the order in which pc_new() calls it. 0 or a negative errno, and why in
 * pc->error. None of them calls vcpu.c or machine.c. */
#ifndef PC_ARCH_H
#define PC_ARCH_H

#include "pc.h"

/* What KVM_CREATE_VM takes: pc->kvm is open. */
int arch_vm_type(struct pc *pc, unsigned long *ret);
/* Where RAM is: fill pc->ram.range and .ranges for pc->options.memory. Refuses sizes that can't be. */
int arch_ram_ranges(struct pc *pc);
/* What must be there before vCPUs: interrupt controllers. The map and RAM are there. */
int arch_init_vm(struct pc *pc);
/* A new vCPU: vcpu->fd and vcpu->run are there, the map does not know it yet. */
int arch_init_vcpu(struct pc *pc, struct pc_vcpu *vcpu);
/* What can't be there before vCPUs, and all devices. Sets pc->serial. */
int arch_init_devices(struct pc *pc);
/* Kernel, initrd, command line and tables into RAM, and the first vCPU to where it begins. */
int arch_load(struct pc *pc);

/* An exit that not all architectures have. -ENOSYS: not that one, and nothing is said in pc->error. */
int arch_exit(struct pc *pc, struct pc_vcpu *vcpu);
/* The instruction at which a vCPU is, for messages; on its own thread. */
uint64_t arch_instruction(struct pc_vcpu *vcpu);

/* Free what pc->arch and pc->serial are. The map is still there, but no vCPU runs. */
void arch_free(struct pc *pc);

#endif
