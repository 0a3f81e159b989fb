/* SPDX-License-Identifier: BSD-3-Clause */
/* The guest on arm64, see kvm.h: at EL1 or EL0, with MMU and caches on. */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "kvm.h"

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

#define CODE_SIZE 0x100u

/* x0: own page, x1: watched page, x2: door, x5: where the code begins */
static const uint32_t code[][16] = {
	[LOOP] =
		{
			0xf9400003, /* again: ldr x3, [x0] */
			0x91000463, /* add x3, x3, #1 */
			0xf9400024, /* ldr x4, [x1] */
			0xf9000404, /* str x4, [x0, #8] */
			0xf9000423, /* str x3, [x1, #8] */
			0xd5033bbf, /* dmb ish */
			0xf9000003, /* str x3, [x0] */
			0xf9000043, /* str x3, [x2] */
			0x17fffff8, /* b again */
		},
	[FETCH] =
		{
			0xf9400003, /* ldr x3, [x0] */
			0x91000463, /* add x3, x3, #1 */
			0xf9000003, /* str x3, [x0] */
			0xd61f0020, /* br x1 */
		},
	[LOAD] =
		{
			0xf9400043, /* again: ldr x3, [x2] */
			0xf9000003, /* str x3, [x0] */
			0x17fffffe, /* b again */
		},
};
static const uint32_t back_code[] = {0xd61f00a0}; /* br x5 */
/* Where in the watched page it stands. */
#define BACK_AT 0x100u

/* Each exception becomes a store at 2 GiB. */
static const uint32_t vector_code[] = {
	0xd2b00003, /* movz x3, #0x8000, lsl #16 */
	0xf9000063, /* again: str x3, [x3] */
	0x17ffffff, /* b again */
};
#define VECTORS_AT 0x800u
#define VECTORS 16
#define VECTOR_SIZE 0x80u

const char *const guest_missing = NULL;
/* None of which the processor tells KVM what it does. */
const bool guest_has_copy = false;

static uint8_t *at(const struct kvm *k, unsigned page)
{
	return page < LOW_PAGES ? k->memory + page * k->page
				: k->memory + (page - TEST + MEMORY_TEST) * k->page;
}

/* What EL0 may write stands at its own addresses, then once more for the vectors, then no memory. */
void guest_write(struct kvm *k, enum mode mode, unsigned tables, unsigned watched)
{
	const uint64_t table[] = {
		BLOCK | (mode == USER ? BLOCK_EL0 : 0),
		BLOCK | BLOCK_READONLY,
		2 * GIB | BLOCK,
	};
	uint8_t *begin = at(k, PAGE_CODE), *watch = at(k, watched);

	for (unsigned i = 0; i < sizeof(code) / sizeof(code[0]); i++)
		memcpy(begin + i * CODE_SIZE, code[i], sizeof(code[i]));
	for (unsigned i = 0; i < VECTORS; i++)
		memcpy(begin + VECTORS_AT + i * VECTOR_SIZE, vector_code, sizeof(vector_code));
	memcpy(watch + BACK_AT, back_code, sizeof(back_code));
	memcpy(at(k, tables), table, sizeof(table));
	__builtin___clear_cache((char *)begin, (char *)begin + VECTORS_AT + VECTORS * VECTOR_SIZE);
	__builtin___clear_cache((char *)watch, (char *)watch + k->page);
}

int guest_init(struct vcpu *v)
{
	struct kvm_vcpu_init init;
	int err = kvm_ioctl(v->k->fd, KVM_ARM_PREFERRED_TARGET, &init);

	return err ? err : kvm_ioctl(v->fd, KVM_ARM_VCPU_INIT, &init);
}

int guest_set(struct vcpu *v, enum mode mode, enum program program, unsigned watched,
	      unsigned tables, bool rings)
{
	const uint64_t page = v->k->page, begin = PAGE_CODE * page + program * CODE_SIZE;
	const struct {
		uint64_t id, value;
	} regs[] = {
		{CORE(pc), begin},
		{CORE(regs[0]), PAGE_OWN * page},
		{CORE(regs[1]), watched * page + (program == FETCH ? BACK_AT : 0)},
		{CORE(regs[2]), rings ? DOOR * page : PAGE_OWN * page + 2 * sizeof(uint64_t)},
		{CORE(regs[5]), begin},
		{CORE(pstate), mode == USER ? PSTATE_EL0 : PSTATE_EL1},
		{SYSREG_MAIR, MAIR},
		{SYSREG_TCR, TCR},
		{SYSREG_TTBR0, tables * page},
		{SYSREG_VBAR, GIB + PAGE_CODE * page + VECTORS_AT},
		{SYSREG_SCTLR, SCTLR},
	};

	for (unsigned i = 0; i < sizeof(regs) / sizeof(regs[0]); i++) {
		struct kvm_one_reg r = {.id = regs[i].id, .addr = (uint64_t)&regs[i].value};
		int err = kvm_ioctl(v->fd, KVM_SET_ONE_REG, &r);

		if (err)
			return err;
	}
	return 0;
}

static int get(struct vcpu *v, uint64_t id, uint64_t *ret)
{
	struct kvm_one_reg r = {.id = id, .addr = (uint64_t)ret};

	return kvm_ioctl(v->fd, KVM_GET_ONE_REG, &r);
}

uint64_t guest_got(struct vcpu *v)
{
	uint64_t value = 0;

	return get(v, CORE(regs[3]), &value) ? 0 : value;
}

/* The time that the guest was kept waiting, which is stored when it runs. Refused where no memory is. */
int guest_kernel_write(struct vcpu *v, unsigned page)
{
	uint64_t gpa = page * v->k->page;
	struct kvm_device_attr attr = {
		.group = KVM_ARM_VCPU_PVTIME_CTRL,
		.attr = KVM_ARM_VCPU_PVTIME_IPA,
		.addr = (uintptr_t)&gpa,
	};

	if (kvm_ioctl(v->fd, KVM_SET_DEVICE_ATTR, &attr))
		return ENOTSUP;
	return vcpu_round(v) ? 0 : EIO;
}

bool guest_is_exception(const struct kvm_run *run)
{
	return run->mmio.phys_addr == 2 * GIB;
}

int guest_vcpu_ioctl(struct vcpu *v)
{
	uint64_t value;

	return get(v, CORE(regs[3]), &value);
}

#endif
