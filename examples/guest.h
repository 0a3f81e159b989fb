/* SPDX-License-Identifier: BSD-3-Clause */
/* What a VMM has of its own before gpamap comes: a VM with one vCPU, memory, and in it a guest that counts. */
#ifndef EXAMPLE_GUEST_H
#define EXAMPLE_GUEST_H

#include <err.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

/* The guest's memory: two pieces, each a page or some on any host. In the first one are its code and what it
 * counts; it reads from the second one. */
enum { PIECE = 0x10000, CODE = 0x1000, TABLE = 0x2000, COUNTER = 0x3000, WATCHED = PIECE };

struct guest {
	int vm, vcpu;
	struct kvm_run *run;
	char *memory; /* 2 * PIECE bytes, to be mapped at guest-physical address 0 */
	volatile unsigned *counter;
};

#if defined(__x86_64__)

/* 16-bit: again: mov eax, es:[0]; inc dword [COUNTER]; jmp again */
static const unsigned char guest_code[] = "\x26\x66\xa1\x00\x00\x66\xff\x06\x00\x30\xeb\xf4";

static inline int guest_boot(const struct guest *g)
{
	struct kvm_regs regs = {.rip = CODE, .rflags = 2};
	struct kvm_sregs sregs;

	if (ioctl(g->vcpu, KVM_GET_SREGS, &sregs) < 0)
		return -1;
	sregs.cs.base = sregs.cs.selector = 0;
	sregs.es.base = WATCHED;
	sregs.es.selector = WATCHED >> 4;
	return ioctl(g->vcpu, KVM_SET_SREGS, &sregs) < 0 ? -1 : ioctl(g->vcpu, KVM_SET_REGS, &regs);
}

#elif defined(__aarch64__)

/* again: ldr w2, [x0]; ldr w2, [x1]; add w2, w2, #1; str w2, [x1]; b again */
static const uint32_t guest_code[] = {0xb9400002, 0xb9400022, 0x11000442, 0xb9000022, 0x17fffffc};

#define CORE(name) \
	(KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | KVM_REG_ARM_CORE_REG(regs.name))

/* With its caches off it might not see the same memory as we, so it needs a page table. */
static inline int guest_boot(const struct guest *g)
{
	const uint64_t first_gib = 0x701; /* a block of normal memory, shareable, accessed */
	const uint64_t registers[][2] = {
		{CORE(pc), CODE},
		{CORE(regs[0]), WATCHED},
		{CORE(regs[1]), COUNTER},
		{ARM64_SYS_REG(3, 0, 10, 2, 0), 0xff},	   /* MAIR_EL1: write-back */
		{ARM64_SYS_REG(3, 0, 2, 0, 2), 0x803519},  /* TCR_EL1: 39 bits, 4 KiB */
		{ARM64_SYS_REG(3, 0, 2, 0, 0), TABLE},	   /* TTBR0_EL1 */
		{ARM64_SYS_REG(3, 0, 1, 0, 0), 0x30d01805} /* SCTLR_EL1: MMU and caches */
	};
	struct kvm_vcpu_init init;
	int r = ioctl(g->vm, KVM_ARM_PREFERRED_TARGET, &init);

	memcpy(g->memory + TABLE, &first_gib, sizeof(first_gib));
	r = r < 0 ? r : ioctl(g->vcpu, KVM_ARM_VCPU_INIT, &init);
	for (unsigned i = 0; r == 0 && i < sizeof(registers) / sizeof(registers[0]); i++) {
		struct kvm_one_reg one = {registers[i][0], (uint64_t)&registers[i][1]};

		r = ioctl(g->vcpu, KVM_SET_ONE_REG, &one);
	}
	return r;
}

#else

static const unsigned char guest_code[] = "";

static inline int guest_boot(const struct guest *g)
{
	(void)g;
	puts("SKIP: no guest code for this processor");
	exit(77);
}

#endif

/* Ends the program where there is no KVM. */
static inline struct guest guest_new(void)
{
	const char *device = getenv("GPAMAP_KVM_DEVICE");
	int kvm = open(device ? device : "/dev/kvm", O_RDWR | O_CLOEXEC);
	struct guest g;

	if (kvm < 0) {
		puts("SKIP: no KVM");
		exit(77);
	}
	g.vm = ioctl(kvm, KVM_CREATE_VM, 0);
	g.vcpu = ioctl(g.vm, KVM_CREATE_VCPU, 0);
	g.run = mmap(NULL, (size_t)ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE,
		     MAP_SHARED, g.vcpu, 0);
	g.memory = mmap(NULL, 2 * PIECE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	close(kvm);
	if (g.run == MAP_FAILED || g.memory == MAP_FAILED)
		err(1, "no VM");
	memcpy(g.memory + CODE, guest_code, sizeof(guest_code));
	if (guest_boot(&g) < 0)
		err(1, "the guest can't begin");
	g.counter = (unsigned *)(g.memory + COUNTER);
	return g;
}

#endif
