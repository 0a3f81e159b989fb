/* SPDX-License-Identifier: BSD-3-Clause */
/* The guest on arm64, see kvm.h: at EL1 or EL0, with MMU and caches on. */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "kvm.h"

#ifdef __aarch64__

#include <sys/auxv.h>

#include "../boot/arm64.h"

#define CODE_SIZE 0x80u

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
	[STORE_16] =
		{
			0xa9401003, /* ldp x3, x4, [x0] */
			0xa9001023, /* stp x3, x4, [x1] */
			0xf9000043, /* str x3, [x2] */
		},
	[LOCKED_ADD] =
		{
			0xd2800023, /* mov x3, #1 */
			0xf8230024, /* ldadd x3, x4, [x1] */
			0xf9000044, /* str x4, [x2] */
		},
	[LOCKED_SWAP] =
		{
			0xd2800c83, /* mov x3, #100 */
			0xd2800ca4, /* mov x4, #101 */
			0xc8a37c24, /* cas x3, x4, [x1] */
			0xf9000043, /* str x3, [x2] */
		},
	[LOCKED_SWAP_16] =
		{
			0xd2800c86, /* mov x6, #100 */
			0xd2800007, /* mov x7, #0 */
			0xd2800ca8, /* mov x8, #101 */
			0xd2800ca9, /* mov x9, #101 */
			0x48267c28, /* casp x6, x7, x8, x9, [x1] */
			0xf9000046, /* str x6, [x2] */
		},
	[EXCLUSIVE_ADD] =
		{
			0xc85f7c23, /* ldxr x3, [x1] */
			0x91000464, /* add x4, x3, #1 */
			0xc8067c24, /* stxr w6, x4, [x1] */
			0xf9000043, /* str x3, [x2] */
		},
};
static const uint32_t back_code[] = {0xd61f00a0}; /* br x5 */
/* Where in the watched page it stands. */
#define BACK_AT 0x100u

const char *const guest_missing = NULL;
/* None of which the processor tells KVM what it does. */
const bool guest_has_copy = false;

const char *guest_lacks(enum program program)
{
	if (program == STORE_32)
		return "the processor has no such store";
	if (program >= LOCKED_ADD && program <= LOCKED_SWAP_16 &&
	    !(getauxval(AT_HWCAP) & HWCAP_ATOMICS))
		return "the processor has no such instruction: it is older than Armv8.1";
	return NULL;
}

static uint8_t *at(const struct kvm *k, unsigned page)
{
	return page < LOW_PAGES ? k->memory + page * k->page
				: k->memory + (page - TEST + MEMORY_TEST) * k->page;
}

void guest_write(struct kvm *k, enum mode mode, unsigned tables, unsigned watched)
{
	uint8_t *begin = at(k, PAGE_CODE), *watch = at(k, watched);

	for (unsigned i = 0; i < sizeof(code) / sizeof(code[0]); i++)
		memcpy(begin + i * CODE_SIZE, code[i], sizeof(code[i]));
	boot_vectors(begin);
	memcpy(watch + BACK_AT, back_code, sizeof(back_code));
	boot_table(at(k, tables), mode == USER);
	__builtin___clear_cache((char *)watch, (char *)watch + k->page);
}

int guest_init(struct vcpu *v)
{
	return boot_init(v->k->fd, v->fd);
}

int guest_set(struct vcpu *v, enum mode mode, enum program program, unsigned watched,
	      unsigned tables, bool rings)
{
	const uint64_t page = v->k->page, begin = PAGE_CODE * page + program * CODE_SIZE;
	const uint64_t regs[][2] = {
		{CORE(pc), begin},
		{CORE(regs[0]), PAGE_OWN * page},
		{CORE(regs[1]), watched * page + (program == FETCH ? BACK_AT : 0)},
		{CORE(regs[2]), rings ? DOOR * page : PAGE_OWN * page + 2 * sizeof(uint64_t)},
		{CORE(regs[5]), begin},
	};
	int err = boot_system(v->fd, mode == USER, tables * page, PAGE_CODE * page);

	return err ? err : boot_set_all(v->fd, regs, sizeof(regs) / sizeof(regs[0]));
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
