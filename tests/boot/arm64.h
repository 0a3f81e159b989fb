/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How a vCPU of arm64 is brought to EL1 or EL0 with MMU and caches on, for guests of tests: raw ioctls. 0 or a positive
 * errno.
 */
#ifndef TEST_BOOT_ARM64_H
#define TEST_BOOT_ARM64_H

#include <errno.h>
#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>

/* Descriptors of 1 GiB: normal memory, shareable, accessed. What EL0 may write can't be executed at EL1. */
#define BLOCK 0x701u
#define BLOCK_EL0 0x040u
#define BLOCK_READONLY 0x080u
#define GIB UINT64_C(0x40000000)

/* Addresses of 39 bits in pages of 4 KiB; MMU, caches, no checks of alignment. */
#define MAIR 0xffu
#define TCR 0x803519u
#define SCTLR 0x30d01805u
#define PSTATE_EL1 0x3c5u
#define PSTATE_EL0 0x3c0u

#define CORE(name) \
	(KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | KVM_REG_ARM_CORE_REG(regs.name))
#define SYSREG_SCTLR ARM64_SYS_REG(3, 0, 1, 0, 0)
#define SYSREG_TTBR0 ARM64_SYS_REG(3, 0, 2, 0, 0)
#define SYSREG_TCR ARM64_SYS_REG(3, 0, 2, 0, 2)
#define SYSREG_MAIR ARM64_SYS_REG(3, 0, 10, 2, 0)
#define SYSREG_VBAR ARM64_SYS_REG(3, 0, 12, 0, 0)

/* From the begin of the code's page. */
#define VECTORS_AT 0x800u
#define VECTORS 16
#define VECTOR_SIZE 0x80u

/* Each exception becomes an exit: a store at 2 GiB. */
static inline void boot_vectors(uint8_t *code)
{
	static const uint32_t vector[] = {
		0xd2b00003, /* movz x3, #0x8000, lsl #16 */
		0xf9000063, /* again: str x3, [x3] */
		0x17ffffff, /* b again */
	};

	for (unsigned i = 0; i < VECTORS; i++)
		memcpy(code + VECTORS_AT + i * VECTOR_SIZE, vector, sizeof(vector));
	__builtin___clear_cache((char *)code, (char *)code + VECTORS_AT + VECTORS * VECTOR_SIZE);
}

/* What EL0 may write stands at its own addresses, then once more for the vectors, then no memory. */
static inline void boot_table(uint8_t *at, bool user)
{
	const uint64_t table[] = {
		BLOCK | (user ? BLOCK_EL0 : 0),
		BLOCK | BLOCK_READONLY,
		2 * GIB | BLOCK,
	};

	memcpy(at, table, sizeof(table));
}

static inline int boot_init(int vm_fd, int vcpu_fd)
{
	struct kvm_vcpu_init init;

	return ioctl(vm_fd, KVM_ARM_PREFERRED_TARGET, &init) ||
			       ioctl(vcpu_fd, KVM_ARM_VCPU_INIT, &init)
		       ? errno
		       : 0;
}

static inline int boot_set(int vcpu_fd, uint64_t id, uint64_t value)
{
	struct kvm_one_reg r = {.id = id, .addr = (uintptr_t)&value};

	return ioctl(vcpu_fd, KVM_SET_ONE_REG, &r) ? errno : 0;
}

static inline int boot_set_all(int vcpu_fd, const uint64_t regs[][2], size_t n)
{
	int err = 0;

	for (size_t i = 0; !err && i < n; i++)
		err = boot_set(vcpu_fd, regs[i][0], regs[i][1]);
	return err;
}

/* At EL0 if @user, else at EL1, with a table at @table and the code's page at @code, for the vectors. */
static inline int boot_system(int vcpu_fd, bool user, uint64_t table, uint64_t code)
{
	const uint64_t regs[][2] = {
		{CORE(pstate), user ? PSTATE_EL0 : PSTATE_EL1},
		{SYSREG_MAIR, MAIR},
		{SYSREG_TCR, TCR},
		{SYSREG_TTBR0, table},
		{SYSREG_VBAR, GIB + code + VECTORS_AT},
		{SYSREG_SCTLR, SCTLR},
	};

	return boot_set_all(vcpu_fd, regs, sizeof(regs) / sizeof(regs[0]));
}

#endif
