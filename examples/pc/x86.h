/* SPDX-License-Identifier: BSD-3-Clause */
/* The parts of a PC, for machine_x86.c. 0 or a negative errno, and why in pc->error. */
#ifndef PC_X86_H
#define PC_X86_H

#include "pc.h"

/* cpu_x86.c: what a new vCPU says that it is, and its local APIC as firmware leaves it. */
int x86_init_cpu(struct pc *pc, struct pc_vcpu *vcpu);
/* Long mode at @entry, with what the boot protocol asks for. Writes GDT and page tables. */
int x86_start_at(struct pc *pc, uint64_t entry);

/* boot_x86.c: the kernel and all it is told; where it begins. */
int x86_load_linux(struct pc *pc, uint64_t *entry);

/* acpi_x86.c: tables for @cpus processors into RAM. Returns their size, or 0 if there is too little room. */
uint32_t x86_write_acpi(void *to, uint32_t room, unsigned cpus);

/* power_x86.c: the ports by which a guest powers off or resets. Their state is pc->arch. */
int x86_add_power(struct pc *pc);

#endif
