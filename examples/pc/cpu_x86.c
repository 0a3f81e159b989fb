/* SPDX-License-Identifier: BSD-3-Clause */
/* Processors: what CPUID says, the local APIC, and the state in which Linux's 64-bit boot protocol begins. */
#include <asm/kvm_para.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "layout_x86.h"
#include "x86.h"

/* ------------------------------------------------------------------------------------ CPUID --- */

enum { CPUID_FIRST_TRY = 128, CPUID_MOST = 4096, LEVELS = 0xb, LEVELS_V2 = 0x1f };

#define TSC_DEADLINE (1u << 24)
#define HYPERVISOR (1u << 31)

/* Bits for numbers below @count. */
static unsigned bits_for(unsigned count)
{
	unsigned bits = 0;

	while (1u << bits < count)
		bits++;
	return bits;
}

/* One package of @cpus cores, of a thread each. */
static void set_topology(struct kvm_cpuid_entry2 *e, unsigned id, unsigned cpus)
{
	switch (e->function) {
	case 0x1: /* logical processors, and the APIC's id */
		e->ebx = (e->ebx & 0xffff) | cpus << 16 | id << 24;
		e->edx = cpus > 1 ? e->edx | 1u << 28 : e->edx & ~(1u << 28);
		break;
	case 0x4: /* no cache is shared */
		e->eax &= 0x3fff;
		break;
	case 0x80000008:
		e->ecx = (cpus - 1) | bits_for(cpus) << 12;
		break;
	case 0x8000001e:
		e->eax = id;
		e->ebx = id;
		e->ecx = 0;
		break;
	}
}

/* Threads of a core, cores of a package, and no more levels. What KVM says of them is the host's or nothing. */
static void set_levels(struct kvm_cpuid2 *cpuid, unsigned id, unsigned cpus)
{
	unsigned n = 0;
	bool has_levels = false;

	for (unsigned i = 0; i < cpuid->nent; i++) {
		uint32_t function = cpuid->entries[i].function;

		has_levels = has_levels || function == LEVELS;
		if (function != LEVELS && function != LEVELS_V2)
			cpuid->entries[n++] = cpuid->entries[i];
	}
	for (unsigned i = 0; has_levels && i < 2; i++)
		cpuid->entries[n++] = (struct kvm_cpuid_entry2){
			.function = LEVELS,
			.index = i,
			.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
			.eax = i ? bits_for(cpus) : 0,
			.ebx = i ? cpus : 1,
			.ecx = i | (i + 1) << 8,
			.edx = id,
		};
	cpuid->nent = n;
}

/* With room for what set_levels() may add. */
static struct kvm_cpuid2 *supported_cpuid(int kvm)
{
	for (unsigned n = CPUID_FIRST_TRY; n <= CPUID_MOST; n *= 2) {
		struct kvm_cpuid2 *cpuid =
			calloc(1, sizeof(*cpuid) + (n + 2) * sizeof(cpuid->entries[0]));
		int err;

		if (!cpuid)
			return NULL;
		cpuid->nent = n;
		if (ioctl(kvm, KVM_GET_SUPPORTED_CPUID, cpuid) == 0)
			return cpuid;
		err = errno;
		free(cpuid);
		errno = err;
		if (err != E2BIG)
			break;
	}
	return NULL;
}

static int set_cpuid(struct pc *pc, struct pc_vcpu *vcpu)
{
	struct kvm_cpuid2 *cpuid = supported_cpuid(pc->kvm);
	bool deadline = ioctl(pc->kvm, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0;
	int r = 0;

	if (!cpuid)
		return pc_fail(&pc->error, -errno, "KVM_GET_SUPPORTED_CPUID: %s", strerror(errno));
	set_levels(cpuid, vcpu->id, pc->options.cpus);
	for (unsigned i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *e = &cpuid->entries[i];

		set_topology(e, vcpu->id, pc->options.cpus);
		/* KVM leaves out what the VMM has to decide: that it's a virtual machine, and a timer that needs
		 * KVM's own local APIC, which this one has. */
		if (e->function == 1)
			e->ecx |= HYPERVISOR | (deadline ? TSC_DEADLINE : 0);
		if (e->function == KVM_CPUID_FEATURES && pc->options.no_pv_eoi)
			e->eax &= ~(1u << KVM_FEATURE_PV_EOI);
	}
	if (ioctl(vcpu->fd, KVM_SET_CPUID2, cpuid) < 0)
		r = pc_fail(&pc->error, -errno, "vCPU %u: KVM_SET_CPUID2: %s", vcpu->id,
			    strerror(errno));
	free(cpuid);
	return r;
}

/* ------------------------------------------------------------------------------- local APIC --- */

enum { LVT_LINT0 = 0x350, LVT_LINT1 = 0x360, MODE_NMI = 4 << 8, MODE_EXTINT = 7 << 8 };

/* As firmware leaves it: the PIC's interrupts come by LINT0 of the first processor. */
static int set_local_apic(struct pc *pc, struct pc_vcpu *vcpu)
{
	const uint32_t extint = MODE_EXTINT, nmi = MODE_NMI;
	struct kvm_lapic_state lapic;

	if (ioctl(vcpu->fd, KVM_GET_LAPIC, &lapic) < 0)
		return pc_fail(&pc->error, -errno, "vCPU %u: KVM_GET_LAPIC: %s", vcpu->id,
			       strerror(errno));
	if (vcpu->id == 0)
		memcpy(lapic.regs + LVT_LINT0, &extint, sizeof(extint));
	memcpy(lapic.regs + LVT_LINT1, &nmi, sizeof(nmi));
	if (ioctl(vcpu->fd, KVM_SET_LAPIC, &lapic) < 0)
		return pc_fail(&pc->error, -errno, "vCPU %u: KVM_SET_LAPIC: %s", vcpu->id,
			       strerror(errno));
	return 0;
}

/* No guest memory is in the way yet, so none of these need pass the gate. */
int x86_init_cpu(struct pc *pc, struct pc_vcpu *vcpu)
{
	int r = set_cpuid(pc, vcpu);

	return r < 0 ? r : set_local_apic(pc, vcpu);
}

/* ------------------------------------------------------------------------------- where it begins --- */

enum { CODE = 0x10, DATA = 0x18, GDT_ENTRIES = 4 }; /* the boot protocol's selectors */

#define CR0_PE_ET_NE_PG 0x80000031ULL
#define CR4_PAE 0x20ULL
#define EFER_LME_LMA 0x500ULL
#define PTE_TABLE 0x3ULL /* present, writable */
#define PTE_2M 0x83ULL	 /* and large */

static struct kvm_segment flat(uint16_t selector, bool code)
{
	return (struct kvm_segment){.limit = 0xffffffff,
				    .selector = selector,
				    .type = code ? 11 : 3,
				    .present = 1,
				    .db = !code,
				    .s = 1,
				    .l = code,
				    .g = 1};
}

/* A GDT with the same segments, and tables that show the first 4 GiB as they are. */
static void write_tables(void *gdt_page, void *page_tables)
{
	static const uint64_t gdt[GDT_ENTRIES] = {
		[CODE / 8] = 0x00af9b000000ffff,
		[DATA / 8] = 0x00cf93000000ffff,
	};
	uint64_t *table = page_tables;

	memcpy(gdt_page, gdt, sizeof(gdt));
	table[0] = (X86_PAGE_TABLES + 0x1000) | PTE_TABLE;
	for (uint64_t i = 0; i < 4; i++)
		table[512 + i] = (X86_PAGE_TABLES + 0x2000 + i * 0x1000) | PTE_TABLE;
	for (uint64_t i = 0; i < 4 * 512; i++)
		table[1024 + i] = i << 21 | PTE_2M;
}

int x86_start_at(struct pc *pc, uint64_t entry)
{
	struct gpamap_vcpu *gate = pc->vcpus[0].gate;
	struct kvm_regs regs = {.rip = entry, .rsi = X86_ZERO_PAGE, .rflags = 2};
	struct kvm_segment data = flat(DATA, false);
	struct kvm_sregs s;
	int r = gpamap_vcpu_ioctl(gate, KVM_GET_SREGS, &s);

	if (r < 0)
		return pc_fail(&pc->error, r, "KVM_GET_SREGS: %s", strerror(-r));
	write_tables(pc_ram_at(&pc->ram, X86_GDT, 0x1000),
		     pc_ram_at(&pc->ram, X86_PAGE_TABLES, 0x6000));
	s.cs = flat(CODE, true);
	s.ds = s.es = s.fs = s.gs = s.ss = data;
	s.gdt.base = X86_GDT;
	s.gdt.limit = GDT_ENTRIES * 8 - 1;
	s.cr0 = CR0_PE_ET_NE_PG;
	s.cr3 = X86_PAGE_TABLES;
	s.cr4 = CR4_PAE;
	s.efer = EFER_LME_LMA;
	r = gpamap_vcpu_ioctl(gate, KVM_SET_SREGS, &s);
	if (r < 0)
		return pc_fail(&pc->error, r, "KVM_SET_SREGS, which begins 64-bit mode: %s",
			       strerror(-r));
	r = gpamap_vcpu_ioctl(gate, KVM_SET_REGS, &regs);
	return r < 0 ? pc_fail(&pc->error, r, "KVM_SET_REGS: %s", strerror(-r)) : 0;
}
