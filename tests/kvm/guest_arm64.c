/* SPDX-License-Identifier: BSD-3-Clause */
/* See guest.h. For arm64: at EL1 or EL0, with MMU and caches on. */
#include "guest.h"

#include <sys/ioctl.h>

#ifdef __aarch64__

#include "../boot/arm64.h"

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

const char *const guest_missing = NULL;
/* None of which the processor tells KVM what it does. */
const bool guest_has_copy = false;

void guest_write(struct vm *vm)
{
	uint8_t *code = vm->memory + vm_gpa(vm, PAGE_CODE);

	memcpy(code, loop_code, sizeof(loop_code));
	boot_vectors(code);
	boot_table(vm->memory + vm_gpa(vm, PAGE_TABLES + USER), true);
	boot_table(vm->memory + vm_gpa(vm, PAGE_TABLES + SUPERVISOR), false);
}

int guest_init(struct vcpu *v)
{
	return boot_init(v->vm->fd, v->fd);
}

int guest_set(struct vcpu *v, enum mode mode, enum program program, uint64_t own, uint64_t watched,
	      uint64_t door)
{
	const uint64_t code = vm_gpa(v->vm, PAGE_CODE);
	const uint64_t regs[][2] = {
		{CORE(pc), code},
		{CORE(regs[0]), own},
		{CORE(regs[1]), watched},
		{CORE(regs[2]), door},
	};
	int err = boot_system(v->fd, mode == USER, vm_gpa(v->vm, PAGE_TABLES + mode), code);

	(void)program;
	return err ? err : boot_set_all(v->fd, regs, sizeof(regs) / sizeof(regs[0]));
}

#endif
