/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * From nothing to a vCPU before the first instruction of guest code, with its page tables on. What is the same
 * for all architectures is in kvm_boot.c and kvm_where.c; kvm_boot_NAME.c has the rest.
 */
#ifndef TORTURE_KVM_BOOT_H
#define TORTURE_KVM_BOOT_H

#include "port.h"

/* Where a guest finds things, by its own addresses. Stable memory has the same as in GPA. Each has a table of
 * WORDS blocks. */
#define GVA_ARENA UINT64_C(0x40000000)
#define GVA_DOORBELL UINT64_C(0x80000000)
#define GVA_DEATH (GVA_DOORBELL + DEATH_GPA - DOORBELL_GPA)
#define GVA_WALK UINT64_C(0xc0000000)

/* In the table of the doorbell, by block: the pages on show stand behind it, and what an architecture wants
 * for itself behind them. */
#define BLOCK_SHOW 1u
#define BLOCK_ARCH 16u
#define BLOCK_GIC (BLOCK_ARCH + 1u) /* the frames of the hazard its, see its.h */
#define GVA_ARCH (GVA_DOORBELL + BLOCK_ARCH * ARENA_ALIGN)
#define GVA_GIC (GVA_DOORBELL + BLOCK_GIC * ARENA_ALIGN)

/* A vCPU's page tables, by number: the middle one points to the last 4, with blocks in them. An architecture
 * whose addresses are longer has a top one, which points to the middle one. */
#define TABLE_TOP 0u
#define TABLE_MIDDLE 1u
#define TABLE_BLOCKS 2u
#define TABLE_DOORBELL (TABLE_BLOCKS + 2u)

/* A vCPU and its VM. */
struct boot_vcpu {
	int kvm_fd;
	int vm_fd;
	int fd;
	struct kvm_run *run;
	unsigned index;
	enum mode mode;
};

/* Write the guest's code and what belongs to it; once for a VM. -EFBIG: the code has no room. */
int kvm_boot_memory(const struct arena *a);
/* Write page tables and addresses of a vCPU; once. */
void kvm_boot_tables(const struct arena *a, unsigned vcpu, enum mode mode);

/* kvm_where.c, also for architectures: a vCPU's memory, the address of one of its tables, and that of the first instruction. */
uint64_t boot_vcpu_gpa(unsigned vcpu);
uint64_t boot_table_gpa(unsigned vcpu, unsigned table);
uint64_t boot_entry(void);

/* --------------------------------------------------------------- of each architecture --- */

/* Make a VM. Its fd or -errno. */
int arch_vm_new(int kvm_fd);
/* Write what all vCPUs need in stable memory. */
void arch_memory(const struct arena *a);

/* How a page is mapped. */
enum boot_memory { BOOT_RAM, BOOT_DOORBELL };
/* A table's entry that points to a table, and one for a block. For @mode, and never written by a processor:
 * all that it would set is set. */
uint64_t arch_table(uint64_t gpa);
uint64_t arch_block(uint64_t gpa, enum mode mode, enum boot_memory memory);
/* Complete a vCPU's @tables with what is the architecture's own. */
void arch_tables(uint64_t *tables, unsigned vcpu);

/* Bring a new vCPU, or one that has died, to the first instruction. 0 or -errno. */
int arch_vcpu_new(const struct boot_vcpu *v);
int arch_vcpu_again(const struct boot_vcpu *v);

/* Can a VM have an ITS? 0 or -errno. And make its interrupt controller with one, when the vCPUs are there: the fd of the
 * ITS, or -errno. */
int arch_its_probe(int vm_fd);
int arch_its_new(const struct arena *a, int vm_fd);

#endif
