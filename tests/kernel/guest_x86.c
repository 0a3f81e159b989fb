/* SPDX-License-Identifier: BSD-3-Clause */
/* The guest on x86-64, see kvm.h; and what there is of it on a processor that has none. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvm.h"

#ifdef __x86_64__

#include <cpuid.h>

#include "../boot/x86.h"

/* Its value is where the hypervisor is to store the time of day, which it does at once. */
#define MSR_WALL_CLOCK 0x4b564d00u

#define CR4_OSFXSR 0x200u
#define CR4_OSXSAVE 0x40000u
#define XCR0_X87_SSE_AVX 7u

#define CODE_SIZE 0x80u

/* r8: own page, r9: watched page, r10: door, r11: where the code begins */
static const uint8_t code[][32] = {
	[LOOP] =
		{
			0x49, 0x83, 0x00, 0x01, /* again: addq $1, (r8) */
			0x49, 0x8b, 0x00,	/* movq (r8), rax */
			0x49, 0x8b, 0x09,	/* movq (r9), rcx */
			0x49, 0x89, 0x48, 0x08, /* movq rcx, 8(r8) */
			0x49, 0x89, 0x41, 0x08, /* movq rax, 8(r9) */
			0x49, 0x89, 0x02,	/* movq rax, (r10) */
			0xeb, 0xe9,		/* jmp again */
		},
	[FETCH] =
		{
			0x49, 0x83, 0x00, 0x01, /* addq $1, (r8) */
			0x41, 0xff, 0xe1,	/* jmp *r9 */
		},
	[LOAD] =
		{
			0x49, 0x8b, 0x02, /* again: movq (r10), rax */
			0x49, 0x89, 0x00, /* movq rax, (r8) */
			0xeb, 0xf8,	  /* jmp again */
		},
	[COPY] =
		{
			0x4c, 0x89, 0xd6, /* again: movq r10, rsi */
			0x4c, 0x89, 0xcf, /* movq r9, rdi */
			0x48, 0xa5,	  /* movsq */
			0xeb, 0xf6,	  /* jmp again */
		},
	[STORE_16] =
		{
			0x41, 0x0f, 0x10, 0x00, /* movups (r8), xmm0 */
			0x41, 0x0f, 0x11, 0x01, /* movups xmm0, (r9) */
			0x49, 0x89, 0x02,	/* movq rax, (r10) */
		},
	[STORE_32] =
		{
			0xc4, 0xc1, 0x7c, 0x10, 0x00, /* vmovups (r8), ymm0 */
			0xc4, 0xc1, 0x7c, 0x11, 0x01, /* vmovups ymm0, (r9) */
			0x49, 0x89, 0x02,	      /* movq rax, (r10) */
		},
	[LOCKED_ADD] =
		{
			0xb8, 0x01, 0x00, 0x00, 0x00, /* movl $1, eax */
			0xf0, 0x49, 0x0f, 0xc1, 0x01, /* lock xaddq rax, (r9) */
			0x49, 0x89, 0x02,	      /* movq rax, (r10) */
		},
	[LOCKED_SWAP] =
		{
			0xb8, 0x64, 0x00, 0x00, 0x00, /* movl $100, eax */
			0xb9, 0x65, 0x00, 0x00, 0x00, /* movl $101, ecx */
			0xf0, 0x49, 0x0f, 0xb1, 0x09, /* lock cmpxchgq rcx, (r9) */
			0x49, 0x89, 0x02,	      /* movq rax, (r10) */
		},
	[LOCKED_SWAP_16] =
		{
			0xb8, 0x64, 0x00, 0x00, 0x00, /* movl $100, eax */
			0x31, 0xd2,		      /* xorl edx, edx */
			0xbb, 0x65, 0x00, 0x00, 0x00, /* movl $101, ebx */
			0xb9, 0x65, 0x00, 0x00, 0x00, /* movl $101, ecx */
			0xf0, 0x49, 0x0f, 0xc7, 0x09, /* lock cmpxchg16b (r9) */
			0x49, 0x89, 0x02,	      /* movq rax, (r10) */
		},
	[EXCLUSIVE_ADD] = {0},
};
static const uint8_t back_code[] = {0x41, 0xff, 0xe3}; /* jmp *r11 */
/* Where in the watched page it stands. */
#define BACK_AT 0x100u

const char *const guest_missing = NULL;
const bool guest_has_copy = true;

const char *guest_lacks(enum program program)
{
	unsigned eax, ebx, ecx, edx;

	if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx))
		ecx = 0;
	if (program == STORE_32 && (ecx & (bit_AVX | bit_OSXSAVE)) != (bit_AVX | bit_OSXSAVE))
		return "the processor has no AVX";
	if (program == LOCKED_SWAP_16 && !(ecx & bit_CMPXCHG16B))
		return "the processor has no cmpxchg16b";
	return program == EXCLUSIVE_ADD ? "the processor has no such pair" : NULL;
}

static uint8_t *at(const struct kvm *k, unsigned page)
{
	return page < LOW_PAGES ? k->memory + page * k->page
				: k->memory + (page - TEST + MEMORY_TEST) * k->page;
}

/* The first 2 MiB stand at their own addresses, for user code, too. */
void guest_write(struct kvm *k, enum mode mode, unsigned tables, unsigned watched)
{
	uint64_t entry[] = {
		(tables + 1) * k->page | PTE_TABLE,
		(tables + 2) * k->page | PTE_TABLE,
		PTE_LARGE,
	};

	(void)mode;
	for (unsigned i = 0; i < sizeof(code) / sizeof(code[0]); i++)
		memcpy(at(k, PAGE_CODE) + i * CODE_SIZE, code[i], sizeof(code[i]));
	for (unsigned i = 0; i < 3; i++)
		memcpy(at(k, tables + i), &entry[i], sizeof(entry[i]));
	memcpy(at(k, watched) + BACK_AT, back_code, sizeof(back_code));
}

int guest_init(struct vcpu *v)
{
	return boot_cpuid(v->k->sys, v->fd);
}

/* What an operating system does before its programs may use the wide registers. */
static int let_use_vectors(struct vcpu *v, bool avx)
{
	struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs = {{.xcr = 0, .value = XCR0_X87_SSE_AVX}}};
	struct kvm_sregs s;
	int err = kvm_ioctl(v->fd, KVM_GET_SREGS, &s);

	s.cr4 |= CR4_OSFXSR | (avx ? CR4_OSXSAVE : 0);
	err = err ? err : kvm_ioctl(v->fd, KVM_SET_SREGS, &s);
	return err || !avx ? err : kvm_ioctl(v->fd, KVM_SET_XCRS, &xcrs);
}

int guest_set(struct vcpu *v, enum mode mode, enum program program, unsigned watched,
	      unsigned tables, bool rings)
{
	uint64_t page = v->k->page, begin = PAGE_CODE * page + program * CODE_SIZE;
	struct kvm_regs regs = {
		.rip = begin,
		.rflags = 2,
		.r8 = PAGE_OWN * page,
		.r9 = watched * page + (program == FETCH ? BACK_AT : 0),
		.r10 = rings ? DOOR * page : PAGE_OWN * page + 2 * sizeof(uint64_t),
		.r11 = begin,
	};
	int err = boot_registers(v->fd, mode == USER, tables * page, &regs);

	if (err || (program != STORE_16 && program != STORE_32))
		return err;
	return let_use_vectors(v, program == STORE_32);
}

uint64_t guest_got(struct vcpu *v)
{
	struct kvm_regs regs;

	return kvm_ioctl(v->fd, KVM_GET_REGS, &regs) ? 0 : regs.rax;
}

int guest_kernel_write(struct vcpu *v, unsigned page)
{
	/* As struct kvm_msrs, whose entries are of no fixed number. */
	struct {
		uint32_t nmsrs, pad;
		struct kvm_msr_entry entry;
	} msrs = {
		.nmsrs = 1,
		.entry = {.index = MSR_WALL_CLOCK, .data = page * v->k->page},
	};

	return kvm_ioctl(v->fd, KVM_SET_MSRS, &msrs);
}

/* There are no tables of interrupts: it shuts down. */
bool guest_is_exception(const struct kvm_run *run)
{
	(void)run;
	return false;
}

int guest_vcpu_ioctl(struct vcpu *v)
{
	struct kvm_regs regs;

	return kvm_ioctl(v->fd, KVM_GET_REGS, &regs);
}

#elif !defined(__aarch64__)

const char *const guest_missing = "there is no guest code for this processor";
const bool guest_has_copy = false;

const char *guest_lacks(enum program program)
{
	(void)program;
	return guest_missing;
}

void guest_write(struct kvm *k, enum mode mode, unsigned tables, unsigned watched)
{
	(void)k;
	(void)mode;
	(void)tables;
	(void)watched;
}

int guest_init(struct vcpu *v)
{
	(void)v;
	return ENOTSUP;
}

int guest_set(struct vcpu *v, enum mode mode, enum program program, unsigned watched,
	      unsigned tables, bool rings)
{
	(void)v;
	(void)mode;
	(void)program;
	(void)watched;
	(void)tables;
	(void)rings;
	return ENOTSUP;
}

uint64_t guest_got(struct vcpu *v)
{
	(void)v;
	return 0;
}

int guest_kernel_write(struct vcpu *v, unsigned page)
{
	(void)v;
	(void)page;
	return ENOTSUP;
}

bool guest_is_exception(const struct kvm_run *run)
{
	(void)run;
	return false;
}

int guest_vcpu_ioctl(struct vcpu *v)
{
	(void)v;
	return ENOTSUP;
}

#endif
