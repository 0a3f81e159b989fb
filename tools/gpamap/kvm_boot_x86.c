/* SPDX-License-Identifier: BSD-3-Clause */
/* x86-64, from nothing to long mode: see kvm_boot.h. */
#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "kvm_boot.h"

#define CPUID_ENTRIES 256u

/* Page-table bits: present, writable, user, accessed, dirty, large. */
#define PTE_TABLE 0x27u
#define PTE_LARGE 0xe7u

enum { CR0_PE = 1u << 0, CR0_ET = 1u << 4, CR0_NE = 1u << 5, CR0_WP = 1u << 16, CR0_PG = 1u << 31 };
enum { CR4_PAE = 1u << 5 };
enum { EFER_SCE = 1u << 0, EFER_LME = 1u << 8, EFER_LMA = 1u << 10 };
enum { SEL_CODE0 = 0x08, SEL_DATA0 = 0x10, SEL_DATA3 = 0x1b, SEL_CODE3 = 0x23, SEL_TSS = 0x28 };

int arch_vm_new(int kvm_fd)
{
	int fd = ioctl(kvm_fd, KVM_CREATE_VM, 0);

	return fd < 0 ? -errno : fd;
}

int arch_its_probe(int vm_fd)
{
	(void)vm_fd;
	return -ENOTSUP;
}

/* Never called: the probe fails. */
int arch_its_new(const struct arena *a, int vm_fd)
{
	(void)a;
	(void)vm_fd;
	return -ENOTSUP;
}

void arch_memory(const struct arena *a)
{
	static const uint64_t gdt[] = {
		0,
		UINT64_C(0x00af9b000000ffff), /* code, level 0 */
		UINT64_C(0x00cf93000000ffff), /* data, level 0 */
		UINT64_C(0x00cff3000000ffff), /* data, level 3 */
		UINT64_C(0x00affb000000ffff), /* code, level 3 */
	};
	static const uint8_t ud2[] = {0x0f, 0x0b};

	for (size_t i = 0; i < PAGE; i += sizeof(ud2))
		memcpy(a->stable + i, ud2, sizeof(ud2));
	memcpy(a->stable + STABLE_ARCH, gdt, sizeof(gdt));
}

uint64_t arch_table(uint64_t gpa)
{
	return gpa | PTE_TABLE;
}

uint64_t arch_block(uint64_t gpa, enum mode mode, enum boot_memory memory)
{
	/* What level 3 may do level 0 may, too; and what is no memory needs no other mapping. */
	(void)mode;
	(void)memory;
	return gpa | PTE_LARGE;
}

void arch_tables(uint64_t *tables, unsigned vcpu)
{
	tables[TABLE_TOP * WORDS] = arch_table(boot_table_gpa(vcpu, TABLE_MIDDLE));
}

static struct kvm_segment segment(unsigned selector, unsigned type, enum mode mode, bool code)
{
	return (struct kvm_segment){
		.limit = 0xffffffff,
		.selector = (uint16_t)selector,
		.type = (uint8_t)type,
		.present = 1,
		.dpl = mode == MODE_USER ? 3 : 0,
		.db = !code,
		.s = 1,
		.l = code,
		.g = 1,
	};
}

static void set_segments(struct kvm_sregs *s, enum mode mode)
{
	bool user = mode == MODE_USER;

	s->cs = segment(user ? SEL_CODE3 : SEL_CODE0, 11, mode, true);
	s->ss = segment(user ? SEL_DATA3 : SEL_DATA0, 3, mode, false);
	s->ds = s->ss;
	s->es = s->ss;
	s->fs = s->ss;
	s->gs = s->ss;
	s->tr = (struct kvm_segment){.limit = 0x67, .selector = SEL_TSS, .type = 11, .present = 1};
	s->ldt = (struct kvm_segment){.unusable = 1};
	s->gdt = (struct kvm_dtable){.base = STABLE_GPA + STABLE_ARCH, .limit = 5 * 8 - 1};
	/* No interrupt table: a fault of the guest is a shutdown, which the host counts. */
	s->idt = (struct kvm_dtable){0};
}

int arch_vcpu_again(const struct boot_vcpu *v)
{
	uint64_t base = boot_vcpu_gpa(v->index);
	struct kvm_mp_state mp = {.mp_state = KVM_MP_STATE_RUNNABLE};
	struct kvm_vcpu_events events;
	struct kvm_sregs s;
	struct kvm_regs r = {
		.rip = boot_entry(),
		/* As after a call. */
		.rsp = base + VCPU_STACK_TOP - 8,
		.rdi = base + VCPU_CTL,
		.rflags = 2,
	};

	memset(&events, 0, sizeof(events));
	if (ioctl(v->fd, KVM_GET_SREGS, &s))
		return -errno;
	memset(s.interrupt_bitmap, 0, sizeof(s.interrupt_bitmap));
	s.cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_WP | CR0_PG;
	s.cr2 = 0;
	s.cr3 = boot_table_gpa(v->index, TABLE_TOP);
	s.cr4 = CR4_PAE;
	s.efer = EFER_LME | EFER_LMA | EFER_SCE;
	set_segments(&s, v->mode);
	if (ioctl(v->fd, KVM_SET_VCPU_EVENTS, &events) || ioctl(v->fd, KVM_SET_SREGS, &s) ||
	    ioctl(v->fd, KVM_SET_REGS, &r) || ioctl(v->fd, KVM_SET_MP_STATE, &mp))
		return -errno;
	return 0;
}

static int set_cpuid(const struct boot_vcpu *v)
{
	struct kvm_cpuid2 *cpuid =
		calloc(1, sizeof(*cpuid) + CPUID_ENTRIES * sizeof(cpuid->entries[0]));
	int ret = 0;

	if (!cpuid)
		return -ENOMEM;
	cpuid->nent = CPUID_ENTRIES;
	if (ioctl(v->kvm_fd, KVM_GET_SUPPORTED_CPUID, cpuid) || ioctl(v->fd, KVM_SET_CPUID2, cpuid))
		ret = -errno;
	free(cpuid);
	return ret;
}

int arch_vcpu_new(const struct boot_vcpu *v)
{
	int ret = set_cpuid(v);

	return ret ? ret : arch_vcpu_again(v);
}
