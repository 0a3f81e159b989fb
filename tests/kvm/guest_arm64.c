/* SPDX-License-Identifier: BSD-3-Clause */
/* See guest.h. For arm64: at EL1 or EL0, with MMU and caches on. */
#include "guest.h"

#include <sys/ioctl.h>

#ifdef __aarch64__

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

/* x0: own page, x1: watched word, x2: door */
static const uint32_t loop_code[] = {
	0xf9400003, /* again: ldr x3, [x0] */
	0x91000463, /* add x3, x3, #1 */
	0xf9400024, /* ldr x4, [x1] */
	0xf9000404, /* str x4, [x0, #8] */
	0xd5033bbf, /* dmb ish */
	0xf9000003, /* str x3, [x0] */
	0xf9000043, /* str x3, [x2] */
	0x17fffff9, /* b again */
};

/* No exception is expected. Each becomes an exit at 2 GiB, which is not the door. */
static const uint32_t vector_code[] = {
	0xd2b00003, /* movz x3, #0x8000, lsl #16 */
	0xf9000063, /* again: str x3, [x3] */
	0x17ffffff, /* b again */
};
#define VECTORS_AT 0x800
#define VECTORS 16
#define VECTOR_SIZE 0x80

const char *const guest_missing = NULL;
/* None of which the processor tells KVM what it does. */
const bool guest_has_copy = false;

/* What EL0 may write stands at its own addresses, then once more for the vectors, then no memory. */
static void write_table(struct vm *vm, enum mode mode)
{
	const uint64_t table[] = {
		BLOCK | (mode == USER ? BLOCK_EL0 : 0),
		BLOCK | BLOCK_READONLY,
		2 * GIB | BLOCK,
	};

	memcpy(vm->memory + vm_gpa(vm, PAGE_TABLES + mode), table, sizeof(table));
}

void guest_write(struct vm *vm)
{
	uint8_t *code = vm->memory + vm_gpa(vm, PAGE_CODE);

	memcpy(code, loop_code, sizeof(loop_code));
	for (unsigned i = 0; i < VECTORS; i++)
		memcpy(code + VECTORS_AT + i * VECTOR_SIZE, vector_code, sizeof(vector_code));
	__builtin___clear_cache((char *)code, (char *)code + VECTORS_AT + VECTORS * VECTOR_SIZE);
	write_table(vm, USER);
	write_table(vm, SUPERVISOR);
}

int guest_init(struct vcpu *v)
{
	struct kvm_vcpu_init init;

	return ioctl(v->vm->fd, KVM_ARM_PREFERRED_TARGET, &init) ||
			       ioctl(v->fd, KVM_ARM_VCPU_INIT, &init)
		       ? -1
		       : 0;
}

int guest_set(struct vcpu *v, enum mode mode, enum program program, uint64_t own, uint64_t watched,
	      uint64_t door)
{
	const uint64_t code = vm_gpa(v->vm, PAGE_CODE);
	const struct {
		uint64_t id, value;
	} regs[] = {
		{CORE(pc), code},
		{CORE(regs[0]), own},
		{CORE(regs[1]), watched},
		{CORE(regs[2]), door},
		{CORE(pstate), mode == USER ? PSTATE_EL0 : PSTATE_EL1},
		{SYSREG_MAIR, MAIR},
		{SYSREG_TCR, TCR},
		{SYSREG_TTBR0, vm_gpa(v->vm, PAGE_TABLES + mode)},
		{SYSREG_VBAR, GIB + code + VECTORS_AT},
		{SYSREG_SCTLR, SCTLR},
	};

	(void)program;
	for (unsigned i = 0; i < sizeof(regs) / sizeof(regs[0]); i++) {
		struct kvm_one_reg r = {.id = regs[i].id, .addr = (uint64_t)&regs[i].value};

		if (ioctl(v->fd, KVM_SET_ONE_REG, &r))
			return -1;
	}
	return 0;
}

#endif
