/* SPDX-License-Identifier: BSD-3-Clause */
/* The torture on the library's simulated VM: supervisor mode is a guest whose accesses are emulated, user
 * mode one whose accesses are hardware page faults. See port.h. */
#include <errno.h>
#include <stdlib.h>

#include "gpamap-sim.h"
#include "port.h"
#include "sim_guest.h"

struct sim_vcpu {
	struct gpamap_sim_vcpu *vcpu;
	struct sim_guest guest;
};

struct port_vm {
	struct gpamap_sim *sim;
	unsigned vcpus;
	struct sim_vcpu vcpu[];
};

static int sim_set_slot(struct port_vm *vm, const struct port_slot *slot)
{
	struct gpamap_sim_slot s = {.slot = slot->id};

	if (slot->size) {
		s.flags = (slot->readonly ? GPAMAP_SIM_READONLY : 0) |
			  (slot->log ? GPAMAP_SIM_LOG_DIRTY : 0);
		s.gpa = slot->gpa;
		s.size = slot->size;
		s.hva = (uint64_t)(uintptr_t)slot->hva;
	}
	return gpamap_sim_set_slot(vm->sim, &s);
}

static int sim_get_dirty(struct port_vm *vm, uint32_t id, uint64_t *bitmap)
{
	return gpamap_sim_get_dirty_log(vm->sim, id, bitmap);
}

static void sim_vm_free(struct port_vm *vm)
{
	if (!vm)
		return;
	for (unsigned i = 0; i < vm->vcpus; i++)
		gpamap_sim_vcpu_free(vm->vcpu[i].vcpu);
	gpamap_sim_free(vm->sim);
	free(vm);
}

static int sim_vcpu_new(struct port_vm *vm, const struct arena *a, unsigned i, enum mode mode)
{
	struct guest_ctl *c = arena_ctl(a, i);
	struct sim_vcpu *v = &vm->vcpu[i];

	c->window = arena_window_gpa(a, i % a->windows);
	c->doorbell = DOORBELL_GPA;
	for (unsigned p = 0; p < SHOW_PAGES; p++)
		c->show[p] = arena_show_gpa(p, 0);
	sim_guest_init(&v->guest, c);
	return gpamap_sim_vcpu_new(vm->sim, i, mode == MODE_SUPERVISOR ? GPAMAP_SIM_EMULATED : 0,
				   sim_guest_step, &v->guest, &v->vcpu);
}

static int sim_vm_new(const struct arena *a, unsigned vcpus, struct port_vm **ret)
{
	struct port_vm *vm = calloc(1, sizeof(*vm) + vcpus * sizeof(vm->vcpu[0]));
	int err;

	(void)a;
	if (!vm)
		return -ENOMEM;
	vm->vcpus = vcpus;
	err = gpamap_sim_new(NULL, &vm->sim);
	if (err) {
		sim_vm_free(vm);
		return err;
	}
	*ret = vm;
	return 0;
}

static int sim_map_new(struct port_vm *vm, const struct gpamap_options *opt, struct gpamap **ret)
{
	return gpamap_new_sim(vm->sim, opt, ret);
}

static int sim_attach(struct port_vm *vm, unsigned vcpu, struct gpamap *map,
		      struct gpamap_vcpu **ret)
{
	return gpamap_sim_vcpu_attach(map, vm->vcpu[vcpu].vcpu, ret);
}

static int sim_run(struct port_vm *vm, unsigned vcpu)
{
	return gpamap_sim_vcpu_run(vm->vcpu[vcpu].vcpu);
}

static int sim_reset(struct port_vm *vm, unsigned vcpu)
{
	sim_guest_init(&vm->vcpu[vcpu].guest, vm->vcpu[vcpu].guest.ctl);
	return 0;
}

static struct kvm_run *sim_kvm_run(struct port_vm *vm, unsigned vcpu)
{
	return gpamap_sim_vcpu_kvm_run(vm->vcpu[vcpu].vcpu);
}

const struct port port_sim = {
	.name = "sim",
	.vm_new = sim_vm_new,
	.vcpu_new = sim_vcpu_new,
	.vm_free = sim_vm_free,
	.set_slot = sim_set_slot,
	.get_dirty = sim_get_dirty,
	.map_new = sim_map_new,
	.attach = sim_attach,
	.run = sim_run,
	.reset = sim_reset,
	.kvm_run = sim_kvm_run,
};
