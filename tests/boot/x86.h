/* SPDX-License-Identifier: BSD-3-Clause */
/* How a vCPU of x86-64 is brought into long mode, for guests of tests: raw ioctls. 0 or a positive errno. */
#ifndef TEST_BOOT_X86_H
#define TEST_BOOT_X86_H

#include <errno.h>
#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/ioctl.h>

/* Page-table entries and control registers, as in the processor manuals. */
#define PTE_TABLE 0x27u /* present, writable, user, accessed */
#define PTE_LARGE 0xe7u /* dirty and large as well */
#define CR0_PE_ET_NE_WP_PG 0x80010031u
#define CR4_PAE 0x20u
#define EFER_LME_LMA 0x500u
#define MAX_CPUID 256

/* Long mode is refused by KVM to a processor that isn't said to have it. */
static inline int boot_cpuid(int sys_fd, int vcpu_fd)
{
	struct kvm_cpuid2 *cpuid =
		calloc(1, sizeof(*cpuid) + MAX_CPUID * sizeof(cpuid->entries[0]));
	int err = 0;

	if (!cpuid)
		return ENOMEM;
	cpuid->nent = MAX_CPUID;
	if (ioctl(sys_fd, KVM_GET_SUPPORTED_CPUID, cpuid) || ioctl(vcpu_fd, KVM_SET_CPUID2, cpuid))
		err = errno;
	free(cpuid);
	return err;
}

static inline struct kvm_segment boot_segment(bool user, bool is_code)
{
	return (struct kvm_segment){
		.limit = 0xffffffff,
		.selector = (uint16_t)((is_code ? 0x08 : 0x10) | (user ? 3 : 0)),
		.type = is_code ? 11 : 3,
		.present = 1,
		.dpl = user ? 3 : 0,
		.db = !is_code,
		.s = 1,
		.l = is_code,
		.g = 1,
	};
}

/* At CPL3 if @user, else at CPL0, with page tables at @tables. */
static inline int boot_registers(int vcpu_fd, bool user, uint64_t tables,
				 const struct kvm_regs *regs)
{
	struct kvm_sregs s;

	if (ioctl(vcpu_fd, KVM_GET_SREGS, &s))
		return errno;
	s.cs = boot_segment(user, true);
	s.ds = s.es = s.fs = s.gs = s.ss = boot_segment(user, false);
	s.cr0 = CR0_PE_ET_NE_WP_PG;
	s.cr3 = tables;
	s.cr4 = CR4_PAE;
	s.efer = EFER_LME_LMA;
	return ioctl(vcpu_fd, KVM_SET_SREGS, &s) || ioctl(vcpu_fd, KVM_SET_REGS, regs) ? errno : 0;
}

#endif
