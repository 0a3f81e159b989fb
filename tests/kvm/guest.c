/* SPDX-License-Identifier: BSD-3-Clause */
/* See guest.h. For x86-64; arm64 has guest_arm64.c; elsewhere there is none yet, and the tests are skipped. */
#include "guest.h"

#include <errno.h>
#include <string.h>

#ifdef __x86_64__

#include "../boot/x86.h"

/* r8: own page, r9: watched word, r10: door */
static const uint8_t loop_code[] = {
	0x49, 0x83, 0x00, 0x01, /* again: addq $1, (r8) */
	0x49, 0x8b, 0x00,	/* movq (r8), rax */
	0x49, 0x8b, 0x09,	/* movq (r9), rcx */
	0x49, 0x89, 0x48, 0x08, /* movq rcx, 8(r8) */
	0x49, 0x89, 0x02,	/* movq rax, (r10) */
	0xeb, 0xed,		/* jmp again */
};

static const uint8_t copy_code[] = {
	0x4c, 0x89, 0xd6,	/* again: movq r10, rsi */
	0x4c, 0x89, 0xcf,	/* movq r9, rdi */
	0x48, 0xa5,		/* movsq */
	0x49, 0x83, 0x00, 0x01, /* addq $1, (r8) */
	0xeb, 0xf2,		/* jmp again */
};

#define COPY_AT 0x100

const char *const guest_missing = NULL;
const bool guest_has_copy = true;

static void write_table(struct vm *vm, unsigned i, uint64_t entry)
{
	memcpy(vm->memory + vm_gpa(vm, PAGE_TABLES + i), &entry, sizeof(entry));
}

/* The first 2 MiB stand at their own addresses, for user code, too. */
void guest_write(struct vm *vm)
{
	uint8_t *code = vm->memory + vm_gpa(vm, PAGE_CODE);

	memcpy(code, loop_code, sizeof(loop_code));
	memcpy(code + COPY_AT, copy_code, sizeof(copy_code));
	write_table(vm, 0, vm_gpa(vm, PAGE_TABLES + 1) | PTE_TABLE);
	write_table(vm, 1, vm_gpa(vm, PAGE_TABLES + 2) | PTE_TABLE);
	write_table(vm, 2, PTE_LARGE);
}

int guest_init(struct vcpu *v)
{
	return boot_cpuid(v->vm->kvm, v->fd);
}

int guest_set(struct vcpu *v, enum mode mode, enum program program, uint64_t own, uint64_t watched,
	      uint64_t door)
{
	struct kvm_regs regs = {
		.rip = vm_gpa(v->vm, PAGE_CODE) + (program == COPY ? COPY_AT : 0),
		.rflags = 2,
		.r8 = own,
		.r9 = watched,
		.r10 = door,
	};

	return boot_registers(v->fd, mode == USER, vm_gpa(v->vm, PAGE_TABLES), &regs);
}

#elif !defined(__aarch64__)

const char *const guest_missing = "these tests have no guest code for this processor";
const bool guest_has_copy = false;

void guest_write(struct vm *vm)
{
	(void)vm;
}

int guest_init(struct vcpu *v)
{
	(void)v;
	return ENOTSUP;
}

int guest_set(struct vcpu *v, enum mode mode, enum program program, uint64_t own, uint64_t watched,
	      uint64_t door)
{
	(void)v;
	(void)mode;
	(void)program;
	(void)own;
	(void)watched;
	(void)door;
	return ENOTSUP;
}

#endif
