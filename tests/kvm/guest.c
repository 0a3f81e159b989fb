/* SPDX-License-Identifier: BSD-3-Clause */
/* See guest.h. For x86-64; arm64 has guest_arm64.c; elsewhere there is none yet, and the tests are skipped. */
#include "guest.h"

#include <stdlib.h>
#include <sys/ioctl.h>

#ifdef __x86_64__

/* Page-table entries and control registers, as in the processor manuals. */
#define PTE_TABLE 0x27u /* present, writable, user, accessed */
#define PTE_LARGE 0xe7u /* dirty and large as well */
#define CR0_PE_ET_NE_WP_PG 0x80010031u
#define CR4_PAE 0x20u
#define EFER_LME_LMA 0x500u

#define MAX_CPUID 256

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

/* Long mode is refused by KVM to a processor that isn't said to have it. */
int guest_init(struct vcpu *v)
{
	struct kvm_cpuid2 *cpuid =
		calloc(1, sizeof(*cpuid) + MAX_CPUID * sizeof(cpuid->entries[0]));
	int err = -1;

	if (!cpuid)
		return -1;
	cpuid->nent = MAX_CPUID;
	if (!ioctl(v->vm->kvm, KVM_GET_SUPPORTED_CPUID, cpuid))
		err = ioctl(v->fd, KVM_SET_CPUID2, cpuid);
	free(cpuid);
	return err;
}

static struct kvm_segment segment(enum mode mode, bool is_code)
{
	return (struct kvm_segment){
		.limit = 0xffffffff,
		.selector = (uint16_t)((is_code ? 0x08 : 0x10) | (mode == USER ? 3 : 0)),
		.type = is_code ? 11 : 3,
		.present = 1,
		.dpl = mode == USER ? 3 : 0,
		.db = !is_code,
		.s = 1,
		.l = is_code,
		.g = 1,
	};
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
	struct kvm_sregs s;

	if (ioctl(v->fd, KVM_GET_SREGS, &s))
		return -1;
	s.cs = segment(mode, true);
	s.ds = s.es = s.fs = s.gs = s.ss = segment(mode, false);
	s.cr0 = CR0_PE_ET_NE_WP_PG;
	s.cr3 = vm_gpa(v->vm, PAGE_TABLES);
	s.cr4 = CR4_PAE;
	s.efer = EFER_LME_LMA;
	return ioctl(v->fd, KVM_SET_SREGS, &s) || ioctl(v->fd, KVM_SET_REGS, &regs) ? -1 : 0;
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
	return -1;
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
	return -1;
}

#endif
