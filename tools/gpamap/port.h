/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the torture needs of a hypervisor: a VM with slots, and vCPUs that run the guest. There are two:
 * KVM and the library's simulated VM.
 */
#ifndef TORTURE_PORT_H
#define TORTURE_PORT_H

#include <stdint.h>

#include "arena.h"
#include "gpamap.h"

struct kvm_run;
struct port_vm;

enum mode { MODE_SUPERVISOR, MODE_USER, MODE_COUNT };

struct port_slot {
	uint32_t id;
	bool readonly;
	bool log;
	uint64_t gpa;
	uint64_t size; /* 0: delete */
	char *hva;
};

struct port {
	const char *name;
	/* The parts of port_vm_new(): a VM with no slots and room for @vcpus vCPUs; and vCPU @i, ready to run in @mode,
	 * when the slot of stable memory is there. 0 or -errno. What there is of a VM, its vCPUs included, is freed by
	 * vm_free, which takes NULL. */
	int (*vm_new)(const struct arena *a, unsigned vcpus, struct port_vm **ret);
	int (*vcpu_new)(struct port_vm *vm, const struct arena *a, unsigned i, enum mode mode);
	void (*vm_free)(struct port_vm *vm);
	/* The slot ioctl, and the one that reads and clears dirty bits. 0 or -errno. */
	int (*set_slot)(struct port_vm *vm, const struct port_slot *slot);
	int (*get_dirty)(struct port_vm *vm, uint32_t id, uint64_t *bitmap);
	/* The library's map over this VM, and a vCPU under its gate. */
	int (*map_new)(struct port_vm *vm, const struct gpamap_options *opt, struct gpamap **ret);
	int (*attach)(struct port_vm *vm, unsigned vcpu, struct gpamap *map,
		      struct gpamap_vcpu **ret);
	/* KVM_RUN, with nothing around it. */
	int (*run)(struct port_vm *vm, unsigned vcpu);
	/* An ioctl of a device or, for PORT_VM, of the VM, with nothing around it: what it returned, or -errno. NULL with
	 * its_new. */
	int (*ioctl)(struct port_vm *vm, int device, unsigned long request, void *arg);
	/* Can it have an ITS in the kernel? 0 or -errno. And give one to a VM whose vCPUs are all there, for the hazard its:
	 * the device, which is the VM's, or -errno. NULL: it can't. */
	int (*its_probe)(void);
	int (*its_new)(struct port_vm *vm, const struct arena *a);
	/* Bring a vCPU that died to its first instruction. Its control block stays. */
	int (*reset)(struct port_vm *vm, unsigned vcpu);
	struct kvm_run *(*kvm_run)(struct port_vm *vm, unsigned vcpu);
};

#define STABLE_SLOT 0u
#define PORT_VM (-1)

/* Make a VM over @a with @vcpus vCPUs ready to run in @mode, and the slot of stable memory, which has id STABLE_SLOT.
 * 0 or -errno. */
int port_vm_new(const struct port *port, const struct arena *a, unsigned vcpus, enum mode mode,
		struct port_vm **ret);

extern const struct port port_kvm, port_sim;

/* Is there a KVM? 0, or -errno from the device that GPAMAP_KVM_DEVICE names, else /dev/kvm. */
int port_kvm_probe(void);
/* The name of that device. */
const char *port_kvm_device(void);

#endif
