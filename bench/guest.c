/* SPDX-License-Identifier: BSD-3-Clause */
/* A VM on real KVM for the benchmarks. */
#include <err.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "guest.h"

/* Where things are in guest memory. A page directory for each GiB, from PDS on. */
enum { PML4 = 0x1000, PDPT = 0x2000, CODE = 0x4000, COUNTERS = 0x5000, PDS = 0x10000 };

/* Page-table entries and control registers, as in the processor manuals. */
#define PTE_USER_RW 0x7ULL
#define PTE_LARGE 0x80ULL
#define PTE_ACCESSED_DIRTY 0x60ULL
#define CR0_PE_MP_ET_NE_PG 0x80000033ULL
#define CR4_PAE 0x20ULL
#define EFER_LME_LMA 0x500ULL

#define MAX_CPUID 256

/* Linux 6.12; older headers lack it. */
#define QUIRK_SLOT_ZAP_ALL (1ULL << 7)

/* again: inc qword [rdi]; jmp again */
static const unsigned char code[] = {0x48, 0xff, 0x07, 0xeb, 0xfb};

/* The same, and before it a write to the page that is next in turn. */
static const unsigned char sweep_code[] = {
	0x48, 0x89, 0xd6, /* again: mov rsi, rdx */
	0x48, 0xff, 0x06, /* page: inc qword [rsi] */
	0x48, 0xff, 0x07, /* inc qword [rdi] */
	0x48, 0x01, 0xde, /* add rsi, rbx */
	0x48, 0x39, 0xce, /* cmp rsi, rcx */
	0x72, 0xf2,	  /* jb page */
	0xeb, 0xed,	  /* jmp again */
};

static void write_u64(struct guest *g, uint64_t gpa, uint64_t value)
{
	memcpy(g->memory + gpa, &value, sizeof(value));
}

/* Memory stands at its own addresses: the first 2 MiB of it, and what is swept over. */
static void map_large(struct guest *g, uint64_t at)
{
	uint64_t pd = PDS + at / GIB * PAGE;

	write_u64(g, PDPT + at / GIB * sizeof(uint64_t), pd | PTE_USER_RW | PTE_ACCESSED_DIRTY);
	write_u64(g, PDS + at / (2 * MIB) * sizeof(uint64_t),
		  at | PTE_LARGE | PTE_USER_RW | PTE_ACCESSED_DIRTY);
}

static void fill_memory(struct guest *g)
{
	memcpy(g->memory + CODE, code, sizeof(code));
	write_u64(g, PML4, PDPT | PTE_USER_RW | PTE_ACCESSED_DIRTY);
	map_large(g, 0);
	/* What the host has not got yet is read in one fault, and written in another. */
	write_u64(g, COUNTERS, 0);
}

void guest_sweep(struct guest *g, uint64_t at, uint64_t step, uint64_t n)
{
	uint64_t end = at + (n - 1) * step + PAGE;

	if (at < 2 * MIB || at % PAGE || step % PAGE || end > GUEST_MAPPED_END || end > g->size)
		errx(1, "no sweep there");
	memcpy(g->memory + CODE, sweep_code, sizeof(sweep_code));
	for (uint64_t i = 0; i < n; i++)
		map_large(g, (at + i * step) / (2 * MIB) * (2 * MIB));
	g->sweep_at = at;
	g->sweep_step = step;
	g->sweep_end = end;
}

static struct kvm_segment flat_segment(bool is_code)
{
	return (struct kvm_segment){
		.limit = 0xffffffff,
		.selector = is_code ? 0x33 : 0x2b,
		.type = is_code ? 11 : 3,
		.present = 1,
		.dpl = 3,
		.db = !is_code,
		.s = 1,
		.l = is_code,
		.g = 1,
	};
}

static void reset_vcpu(struct guest *g, int i)
{
	struct kvm_regs regs = {
		.rip = CODE,
		.rflags = 2,
		.rdi = COUNTERS + 64 * (uint64_t)i,
		.rbx = g->sweep_step,
		.rdx = g->sweep_at,
		.rcx = g->sweep_end,
	};
	struct kvm_sregs sregs;
	int fd = g->vcpu[i].fd;

	if (ioctl(fd, KVM_GET_SREGS, &sregs) < 0)
		err(1, "KVM_GET_SREGS");
	sregs.cs = flat_segment(true);
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = flat_segment(false);
	sregs.cr0 = CR0_PE_MP_ET_NE_PG;
	sregs.cr3 = PML4;
	sregs.cr4 = CR4_PAE;
	sregs.efer = EFER_LME_LMA;
	if (ioctl(fd, KVM_SET_SREGS, &sregs) < 0)
		err(1, "KVM_SET_SREGS");
	if (ioctl(fd, KVM_SET_REGS, &regs) < 0)
		err(1, "KVM_SET_REGS");
}

void guest_reset(struct guest *g)
{
	for (int i = 0; i < g->nr_vcpus; i++)
		reset_vcpu(g, i);
}

uint64_t guest_count(const struct guest *g, int i)
{
	return *(const volatile uint64_t *)(g->memory + COUNTERS + 64 * i);
}

/* Newer kernels refuse long mode to a processor that isn't said to have it. */
static void set_cpuid(struct guest *g, int fd)
{
	struct kvm_cpuid2 *cpuid =
		calloc(1, sizeof(*cpuid) + MAX_CPUID * sizeof(cpuid->entries[0]));

	if (!cpuid)
		err(1, "cpuid");
	cpuid->nent = MAX_CPUID;
	if (ioctl(g->kvm, KVM_GET_SUPPORTED_CPUID, cpuid) < 0 ||
	    ioctl(fd, KVM_SET_CPUID2, cpuid) < 0)
		err(1, "KVM_SET_CPUID2");
	free(cpuid);
}

static void make_vcpu(struct guest *g, int i)
{
	struct guest_vcpu *v = &g->vcpu[i];

	v->fd = ioctl(g->fd, KVM_CREATE_VCPU, i);
	if (v->fd < 0)
		err(1, "KVM_CREATE_VCPU");
	v->run = mmap(NULL, g->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
	if (v->run == MAP_FAILED)
		err(1, "kvm_run");
	set_cpuid(g, v->fd);
}

void guest_init(struct guest *g, int kvm, uint64_t size, int nr_vcpus)
{
	int run_size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);

	*g = (struct guest){.kvm = kvm, .size = size, .nr_vcpus = nr_vcpus};
	g->fd = ioctl(kvm, KVM_CREATE_VM, 0);
	if (g->fd < 0 || run_size < 0)
		err(1, "KVM_CREATE_VM");
	g->run_size = (size_t)run_size;
	g->memory = reserve_memory(size + PAGE);
	if (!nr_vcpus)
		return;
	fill_memory(g);
	g->can_halt = !ioctl(g->fd, KVM_CREATE_IRQCHIP, 0);
	for (int i = 0; i < nr_vcpus; i++)
		make_vcpu(g, i);
	if (g->can_halt)
		guest_halt(g, false);
}

void guest_halt(struct guest *g, bool halted)
{
	struct kvm_mp_state state = {halted ? KVM_MP_STATE_HALTED : KVM_MP_STATE_RUNNABLE};

	for (int i = 0; g->can_halt && i < g->nr_vcpus; i++) {
		if (ioctl(g->vcpu[i].fd, KVM_SET_MP_STATE, &state) < 0)
			err(1, "KVM_SET_MP_STATE");
	}
}

bool guest_is_halted(const struct guest *g)
{
	for (int i = 0; i < g->nr_vcpus; i++) {
		struct kvm_mp_state state;

		if (ioctl(g->vcpu[i].fd, KVM_GET_MP_STATE, &state) < 0)
			err(1, "KVM_GET_MP_STATE");
		if (state.mp_state != KVM_MP_STATE_HALTED)
			return false;
	}
	return true;
}

void guest_destroy(struct guest *g)
{
	for (int i = 0; i < g->nr_vcpus; i++) {
		munmap(g->vcpu[i].run, g->run_size);
		close(g->vcpu[i].fd);
	}
	close(g->fd);
	munmap(g->memory, g->size + PAGE);
}

int guest_slot_of(struct guest *g, uint32_t slot, uint32_t flags, uint64_t gpa, uint64_t size,
		  uint64_t offset)
{
	struct kvm_userspace_memory_region r = {.slot = slot};

	if (size) {
		r.flags = flags;
		r.guest_phys_addr = gpa;
		r.memory_size = size;
		r.userspace_addr = (uint64_t)(uintptr_t)g->memory + offset;
	}
	return ioctl(g->fd, KVM_SET_USER_MEMORY_REGION, &r) < 0 ? -errno : 0;
}

int guest_slot(struct guest *g, uint32_t slot, uint32_t flags, uint64_t gpa, uint64_t size)
{
	return guest_slot_of(g, slot, flags, gpa, size, gpa);
}

int guest_zap_slot_only(struct guest *g)
{
	struct kvm_enable_cap cap = {.cap = KVM_CAP_DISABLE_QUIRKS2, .args = {QUIRK_SLOT_ZAP_ALL}};

	return ioctl(g->fd, KVM_ENABLE_CAP, &cap) < 0 ? -errno : 0;
}
