/* SPDX-License-Identifier: BSD-3-Clause */
/* The arm64 machine: where everything is, and what its parts know of each other. */
#ifndef PC_ARM64_H
#define PC_ARM64_H

#include <stdint.h>

#include "pc.h"

/*
 * Below 128 MiB is room for a firmware's flash, and between the redistributors and RAM for PCI. RAM begins at 1 GiB,
 * where firmware that is built for virtual machines of this architecture looks for it.
 */
#define ARM64_GICD 0x08000000u
#define ARM64_GICD_SIZE 0x10000u
#define ARM64_ITS 0x08080000u
#define ARM64_ITS_SIZE 0x20000u
#define ARM64_UART 0x09000000u
#define ARM64_GICR 0x0a000000u
#define ARM64_GICR_SIZE 0x20000u /* of each vCPU */
#define ARM64_RAM 0x40000000u

/* As many as there is room for their redistributors; no KVM has more. */
#define ARM64_MAX_CPUS 512u

/* Shared interrupts are counted from 0 in a device tree, and from 32 in the GIC. */
#define ARM64_UART_IRQ 1u
#define ARM64_FIRST_SHARED_IRQ 32u

/* Of the processor's registers. */
#define ARM64_CORE(name) \
	(KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | KVM_REG_ARM_CORE_REG(regs.name))
#define ARM64_MPIDR ARM64_SYS_REG(3, 0, 0, 0, 5)
#define ARM64_MMFR0 ARM64_SYS_REG(3, 0, 0, 7, 0)

struct pc_arm64 {
	int gic, its; /* KVM's devices; its is -1 where KVM has none */
};

/* gic_arm64.c: made before the vCPUs, ready after them. */
int pc_gic_new(struct pc *pc);
int pc_gic_init(struct pc *pc);
/* The level of a shared interrupt. */
void pc_gic_line(struct pc *pc, unsigned irq, bool level);

/* cpu_arm64.c: one register. @vcpu is known to the map. */
int pc_cpu_get(struct pc_vcpu *vcpu, uint64_t id, uint64_t *ret);
int pc_cpu_set(struct pc_vcpu *vcpu, uint64_t id, uint64_t value);

#endif
