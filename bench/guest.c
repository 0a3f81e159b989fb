/* SPDX-License-Identifier: BSD-3-Clause */
/* A VM on real KVM for the benchmarks. */
#include <err.h>
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "guest.h"

/* Where things are in guest memory. */
enum { PML4 = 0x1000, PDPT = 0x2000, PD = 0x3000, CODE = 0x4000, COUNTERS = 0x5000 };

/* Page-table entries and control registers, as in the processor manuals. */
#define PTE_USER_RW 0x7ULL
#define PTE_LARGE 0x80ULL
#define PTE_ACCESSED_DIRTY 0x60ULL
#define CR0_PE_MP_ET_NE_PG 0x80000033ULL
#define CR4_PAE 0x20ULL
#define EFER_LME_LMA 0x500ULL

/* again: inc qword [rdi]; jmp again */
static const unsigned char code[] = {0x48, 0xff, 0x07, 0xeb, 0xfb};

static void write_u64(struct guest *g, uint64_t gpa, uint64_t value)
{
	memcpy(g->memory + gpa, &value, sizeof(value));
}

/* The first 2 MiB of memory stand at their own addresses. */
static void fill_memory(struct guest *g)
{
	memcpy(g->memory + CODE, code, sizeof(code));
	write_u64(g, PML4, PDPT | PTE_USER_RW | PTE_ACCESSED_DIRTY);
	write_u64(g, PDPT, PD | PTE_USER_RW | PTE_ACCESSED_DIRTY);
	write_u64(g, PD, PTE_LARGE | PTE_USER_RW | PTE_ACCESSED_DIRTY);
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
	struct kvm_regs regs = {.rip = CODE, .rflags = 2, .rdi = COUNTERS + 64 * (uint64_t)i};
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

static void make_vcpu(struct guest *g, int i)
{
	struct guest_vcpu *v = &g->vcpu[i];

	v->fd = ioctl(g->fd, KVM_CREATE_VCPU, i);
	if (v->fd < 0)
		err(1, "KVM_CREATE_VCPU");
	v->run = mmap(NULL, g->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
	if (v->run == MAP_FAILED)
		err(1, "kvm_run");
}

void guest_init(struct guest *g, int kvm, uint64_t size, int nr_vcpus)
{
	int run_size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);

	*g = (struct guest){.kvm = kvm, .size = size, .nr_vcpus = nr_vcpus};
	g->fd = ioctl(kvm, KVM_CREATE_VM, 0);
	if (g->fd < 0 || run_size < 0)
		err(1, "KVM_CREATE_VM");
	g->run_size = (size_t)run_size;
	g->memory = reserve_memory(size);
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
	munmap(g->memory, g->size);
}

int guest_slot(struct guest *g, uint32_t slot, uint32_t flags, uint64_t gpa, uint64_t size)
{
	struct kvm_userspace_memory_region r = {.slot = slot};

	if (size) {
		r.flags = flags;
		r.guest_phys_addr = gpa;
		r.memory_size = size;
		r.userspace_addr = (uint64_t)(uintptr_t)g->memory + gpa;
	}
	return ioctl(g->fd, KVM_SET_USER_MEMORY_REGION, &r) < 0 ? -errno : 0;
}
