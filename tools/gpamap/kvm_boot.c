/* SPDX-License-Identifier: BSD-3-Clause */
/* See kvm_boot.h. */
#include "kvm_boot.h"

#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>

#include "guest_image.h"

/* Page-table bits: present, writable, user, accessed, dirty, large. The guest's tables never change:
 * all that the processor would set is set. */
#define PTE_TABLE 0x27u
#define PTE_LARGE 0xe7u

enum { CR0_PE = 1u << 0, CR0_ET = 1u << 4, CR0_NE = 1u << 5, CR0_WP = 1u << 16, CR0_PG = 1u << 31 };
enum { CR4_PAE = 1u << 5 };
enum { EFER_SCE = 1u << 0, EFER_LME = 1u << 8, EFER_LMA = 1u << 10 };
enum { SEL_CODE0 = 0x08, SEL_DATA0 = 0x10, SEL_DATA3 = 0x1b, SEL_CODE3 = 0x23, SEL_TSS = 0x28 };

#define TABLE_PML4 0u
#define TABLE_PDPT 1u
#define TABLE_PD 2u /* 4 of them, 1 GiB each */

static uint64_t vcpu_gpa(unsigned vcpu)
{
	return STABLE_GPA + STABLE_VCPUS + vcpu * STABLE_VCPU_SIZE;
}

static uint64_t table_gpa(unsigned vcpu, unsigned table)
{
	return vcpu_gpa(vcpu) + VCPU_TABLES + table * PAGE;
}

int kvm_boot_memory(const struct arena *a)
{
	static const uint64_t gdt[] = {
		0,
		UINT64_C(0x00af9b000000ffff), /* code, level 0 */
		UINT64_C(0x00cf93000000ffff), /* data, level 0 */
		UINT64_C(0x00cff3000000ffff), /* data, level 3 */
		UINT64_C(0x00affb000000ffff), /* code, level 3 */
	};
	static const uint8_t ud2[] = {0x0f, 0x0b};
	size_t size = (size_t)(__stop_guest_text - __start_guest_text);

	if (size > STABLE_CODE_SIZE)
		return -EFBIG;
	for (size_t i = 0; i < PAGE; i += sizeof(ud2))
		memcpy(a->stable + i, ud2, sizeof(ud2));
	memcpy(a->stable + STABLE_GDT, gdt, sizeof(gdt));
	memcpy(a->stable + STABLE_CODE, __start_guest_text, size);
	return 0;
}

void kvm_boot_tables(const struct arena *a, unsigned vcpu)
{
	struct guest_ctl *c = arena_ctl(a, vcpu);
	uint64_t *t = (uint64_t *)(a->stable + table_gpa(vcpu, 0) - STABLE_GPA);
	unsigned window = vcpu % a->windows;

	t[TABLE_PML4 * WORDS] = table_gpa(vcpu, TABLE_PDPT) | PTE_TABLE;
	for (unsigned i = 0; i < 4; i++)
		t[TABLE_PDPT * WORDS + i] = table_gpa(vcpu, TABLE_PD + i) | PTE_TABLE;
	t += TABLE_PD * WORDS;
	for (unsigned i = 0; i < a->stable_size / ARENA_ALIGN; i++)
		t[i] = (STABLE_GPA + i * ARENA_ALIGN) | PTE_LARGE;
	t += WORDS;
	for (unsigned i = 0; i < a->size / ARENA_ALIGN; i++)
		t[i] = (RAM_GPA + a->offset + i * ARENA_ALIGN) | PTE_LARGE;
	t += WORDS;
	t[0] = DOORBELL_GPA | PTE_LARGE;
	t += WORDS;
	for (unsigned i = 0; c->hazard == HAZARD_PAGETABLE && i < WINDOW_PAGES; i++)
		t[i] = (arena_window_gpa(a, window) + i * PAGE) | PTE_TABLE;

	c->window = GVA_ARENA + arena_window_gpa(a, window) - RAM_GPA - a->offset;
	c->walk = GVA_WALK;
	c->doorbell = GVA_DOORBELL;
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
	s->gdt = (struct kvm_dtable){.base = STABLE_GPA + STABLE_GDT, .limit = 5 * 8 - 1};
	/* No interrupt table: a fault of the guest is a shutdown, which the host counts. */
	s->idt = (struct kvm_dtable){0};
}

int kvm_boot_registers(int vcpu_fd, unsigned vcpu, enum mode mode)
{
	uint64_t base = vcpu_gpa(vcpu);
	struct kvm_mp_state mp = {.mp_state = KVM_MP_STATE_RUNNABLE};
	struct kvm_vcpu_events events;
	struct kvm_sregs s;
	struct kvm_regs r = {
		.rip = STABLE_GPA + STABLE_CODE +
		       (uint64_t)((const uint8_t *)guest_entry - __start_guest_text),
		/* As after a call. */
		.rsp = base + VCPU_STACK_TOP - 8,
		.rdi = base + VCPU_CTL,
		.rflags = 2,
	};

	memset(&events, 0, sizeof(events));
	if (ioctl(vcpu_fd, KVM_GET_SREGS, &s))
		return -errno;
	memset(s.interrupt_bitmap, 0, sizeof(s.interrupt_bitmap));
	s.cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_WP | CR0_PG;
	s.cr2 = 0;
	s.cr3 = table_gpa(vcpu, TABLE_PML4);
	s.cr4 = CR4_PAE;
	s.efer = EFER_LME | EFER_LMA | EFER_SCE;
	set_segments(&s, mode);
	if (ioctl(vcpu_fd, KVM_SET_VCPU_EVENTS, &events) || ioctl(vcpu_fd, KVM_SET_SREGS, &s) ||
	    ioctl(vcpu_fd, KVM_SET_REGS, &r) || ioctl(vcpu_fd, KVM_SET_MP_STATE, &mp))
		return -errno;
	return 0;
}
