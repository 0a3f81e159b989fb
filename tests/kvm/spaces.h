/* SPDX-License-Identifier: BSD-3-Clause */
/* What the tests of two address spaces share: pages of memory for either, and slots that the library knows nothing of. */
#ifndef TEST_KVM_SPACES_H
#define TEST_KVM_SPACES_H

#include <sys/ioctl.h>

#include "vm.h"

/* The slot id of our own, in both spaces. */
#define PROBE 100
/* No memory there. */
#define ELSEWHERE 160

/* What a test has; open_vm(): with two address spaces. */
static struct vm vm;

static inline int open_vm(void **state)
{
	(void)state;
	vm_open_spaces(&vm, 0, 2);
	return 0;
}

static inline int close_vm(void **state)
{
	(void)state;
	vm_close(&vm);
	return 0;
}

/* Are there two here? If not, it prints why: return 77 then. */
static inline bool spaces_available(void)
{
	if (!vm_available())
		return false;
	if (vm_spaces() < 2)
		puts("SKIP: VMs have one address space here");
	return vm_spaces() >= 2;
}

static inline void map_page(struct gpamap_txn *txn, unsigned space, unsigned page, void *hva)
{
	ok(gpamap_map_pages(txn, space, vm_gpa(&vm, page), vm.page, hva, GPAMAP_RW));
}

static inline void unmap_page(struct gpamap_txn *txn, unsigned space, unsigned page)
{
	ok(gpamap_unmap_pages(txn, space, vm_gpa(&vm, page), vm.page));
}

/* Memory that nothing shows but the slots of a test. */
static inline uint8_t *spare(unsigned page)
{
	return vm.other + vm_gpa(&vm, page);
}

static inline void reserve_probes(void)
{
	ok(gpamap_reserve_slots(vm.map, 0, PROBE, 1));
	ok(gpamap_reserve_slots(vm.map, 1, PROBE, 1));
}

/* Our own slot; size 0: delete it. With no gate shut. 0 or a negative errno. */
static inline int set_probe(unsigned space, unsigned page, size_t size)
{
	struct kvm_userspace_memory_region r = {
		.slot = space << 16 | PROBE,
		.guest_phys_addr = size ? vm_gpa(&vm, page) : 0,
		.memory_size = size,
		.userspace_addr = size ? (uintptr_t)spare(0) : 0,
	};

	return gpamap_vm_ioctl(vm.map, KVM_SET_USER_MEMORY_REGION, &r);
}

#endif
