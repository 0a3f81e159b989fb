/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * arm64: the guest runs at EL1 or EL0, with its MMU and caches on from the first instruction. See kvm_boot.h.
 *
 * Where there is no memory, KVM tries nothing again: a fetch, a walk of page tables, and a store that it can't
 * tell the meaning of end in an external abort in the guest, or in an exit of a kind of its own. The guest's
 * vectors make an exit of the first, too: a store to DEATH_GPA.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>

#include "guest_image.h"
#include "its.h"
#include "kvm_boot.h"

extern const uint8_t guest_vectors[] __attribute__((visibility("hidden")));
_Static_assert(GVA_DEATH == 0x80001000, "guest_arm64.S has it written down");

/* Descriptors: all are inner shareable and accessed. Memory that EL0 may write can't be executed at EL1, so it
 * depends on the mode, and the vectors have a mapping of their own. */
#define DESC_BLOCK 0x701u
#define DESC_TABLE 0x003u
#define DESC_DEVICE (1u << 2) /* number 1 of MAIR */
#define DESC_EL0 (1u << 6)
#define DESC_READONLY (1u << 7)

/* Normal memory, write-back, read and write allocate; device memory without gathering and reordering. */
#define MAIR UINT64_C(0x04ff)
/* Addresses of 32 bits by TTBR0, none by TTBR1; 4 KiB; tables in write-back, inner shareable memory. */
#define TCR (UINT64_C(32) | 1u << 8 | 1u << 10 | 3u << 12 | 1u << 23)
#define TCR_IPS_SHIFT 32
#define MAX_IPS 5u /* 48 bits: more take descriptors of another format */
/* MMU, caches, and the bits that have to be set. No check of alignment, of the stack's neither. SPAN is one of
 * them: at EL1, what EL0 may access can be. */
#define SCTLR UINT64_C(0x30d01805)

#define PSTATE_MASKED 0x3c0u /* all interrupts */
#define PSTATE_EL0T 0x0u
#define PSTATE_EL1H 0x5u

#define CORE(name) \
	(KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | KVM_REG_ARM_CORE_REG(name))
#define SYSREG_SCTLR ARM64_SYS_REG(3, 0, 1, 0, 0)
#define SYSREG_CPACR ARM64_SYS_REG(3, 0, 1, 0, 2)
#define SYSREG_TTBR0 ARM64_SYS_REG(3, 0, 2, 0, 0)
#define SYSREG_TCR ARM64_SYS_REG(3, 0, 2, 0, 2)
#define SYSREG_MAIR ARM64_SYS_REG(3, 0, 10, 2, 0)
#define SYSREG_VBAR ARM64_SYS_REG(3, 0, 12, 0, 0)
#define SYSREG_MMFR0 ARM64_SYS_REG(3, 0, 0, 7, 0)

struct reg {
	uint64_t id;
	uint64_t value;
};

int arch_vm_new(int kvm_fd)
{
	/* Type 0 is 40 bits of guest-physical address, which a host may not have. */
	int bits = ioctl(kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_ARM_VM_IPA_SIZE);
	struct kvm_enable_cap nisv = {.cap = KVM_CAP_ARM_NISV_TO_USER};
	int fd;

	if (bits < 0)
		bits = 0;
	if (bits > 48)
		bits = 48;
	fd = ioctl(kvm_fd, KVM_CREATE_VM, KVM_VM_TYPE_ARM_IPA_SIZE((unsigned)bits));
	if (fd < 0)
		return -errno;
	/* If KVM can't, its KVM_RUN fails with ENOSYS, and writes to the kernel's log each time. */
	ioctl(fd, KVM_ENABLE_CAP, &nisv);
	return fd;
}

/* Page 0 is all zeros, which is an undefined instruction. */
void arch_memory(const struct arena *a)
{
	(void)a;
}

uint64_t arch_table(uint64_t gpa)
{
	return gpa | DESC_TABLE;
}

uint64_t arch_block(uint64_t gpa, enum mode mode, enum boot_memory memory)
{
	return gpa | DESC_BLOCK | (mode == MODE_USER ? DESC_EL0 : 0) |
	       (memory == BOOT_DOORBELL ? DESC_DEVICE : 0);
}

/* The begin of stable memory once more, for EL1 to execute; and the interrupt controller, if there is one. */
void arch_tables(uint64_t *tables, unsigned vcpu)
{
	uint64_t *t = tables + TABLE_DOORBELL * WORDS;

	(void)vcpu;
	t[BLOCK_ARCH] = STABLE_GPA | DESC_BLOCK | DESC_READONLY;
	for (unsigned i = 0; i < ITS_GIC_BLOCKS; i++)
		t[BLOCK_GIC + i] = (ITS_GIC_GPA + i * ARENA_ALIGN) | DESC_BLOCK | DESC_DEVICE;
}

static int set_registers(const struct boot_vcpu *v, const struct reg *regs, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		struct kvm_one_reg r = {.id = regs[i].id, .addr = (uint64_t)&regs[i].value};

		if (ioctl(v->fd, KVM_SET_ONE_REG, &r))
			return -errno;
	}
	return 0;
}

/* As many bits of physical address as the processor has. */
static int get_ips(const struct boot_vcpu *v, uint64_t *ret)
{
	uint64_t value;
	struct kvm_one_reg r = {.id = SYSREG_MMFR0, .addr = (uint64_t)&value};

	if (ioctl(v->fd, KVM_GET_ONE_REG, &r))
		return -errno;
	*ret = (value & 0xf) < MAX_IPS ? value & 0xf : MAX_IPS;
	return 0;
}

static int set_all(const struct boot_vcpu *v)
{
	uint64_t base = boot_vcpu_gpa(v->index), stack = base + VCPU_STACK_TOP, ips = 0;
	int ret = get_ips(v, &ips);
	const struct reg regs[] = {
		{CORE(regs.pc), boot_entry()},
		{CORE(regs.regs[0]), base + VCPU_CTL},
		{CORE(regs.sp), stack},
		{CORE(sp_el1), stack},
		{CORE(regs.pstate),
		 PSTATE_MASKED | (v->mode == MODE_USER ? PSTATE_EL0T : PSTATE_EL1H)},
		{SYSREG_MAIR, MAIR},
		{SYSREG_TCR, TCR | ips << TCR_IPS_SHIFT},
		{SYSREG_TTBR0, boot_table_gpa(v->index, TABLE_MIDDLE)},
		{SYSREG_VBAR,
		 GVA_ARCH + STABLE_CODE + (uint64_t)(guest_vectors - __start_guest_text)},
		{SYSREG_CPACR, 0}, /* no floating point: an instruction of it is a fault */
		{SYSREG_SCTLR, SCTLR},
	};

	return ret ? ret : set_registers(v, regs, sizeof(regs) / sizeof(regs[0]));
}

int arch_vcpu_new(const struct boot_vcpu *v)
{
	struct kvm_vcpu_init init;

	if (ioctl(v->vm_fd, KVM_ARM_PREFERRED_TARGET, &init) ||
	    ioctl(v->fd, KVM_ARM_VCPU_INIT, &init))
		return -errno;
	return set_all(v);
}

/*
 * KVM completes a store to where no memory is in the next KVM_RUN: it goes on to the next instruction, of
 * whatever the program counter is then. So this KVM_RUN comes first, and does nothing else. The flag stays
 * set, since somebody who kicks this vCPU now sets it, too: it costs the next KVM_RUN, which is done again.
 */
int arch_vcpu_again(const struct boot_vcpu *v)
{
	__atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	if (!ioctl(v->fd, KVM_RUN, 0) || errno != EINTR)
		return -EIO;
	return arch_vcpu_new(v);
}
