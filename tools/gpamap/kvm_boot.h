/* SPDX-License-Identifier: BSD-3-Clause */
/* From nothing to long mode: what stands in stable memory, and the registers of a vCPU. x86-64 only. */
#ifndef TORTURE_KVM_BOOT_H
#define TORTURE_KVM_BOOT_H

#include "port.h"

/* Where a guest finds things, by its own addresses. Stable memory has the same as in GPA. */
#define GVA_ARENA UINT64_C(0x40000000)
#define GVA_DOORBELL UINT64_C(0x80000000)
#define GVA_WALK UINT64_C(0xc0000000)

/* Write code, descriptor table and trap page; once for a VM. -EFBIG: the code has no room. */
int kvm_boot_memory(const struct arena *a);
/* Write page tables and addresses of a vCPU; once. */
void kvm_boot_tables(const struct arena *a, unsigned vcpu);
/* Set the registers: to the first instruction of guest code. 0 or -errno. */
int kvm_boot_registers(int vcpu_fd, unsigned vcpu, enum mode mode);

#endif
