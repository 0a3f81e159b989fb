/* SPDX-License-Identifier: BSD-3-Clause */
/* What both hypervisors have in common. See port.h. */
#include "port.h"

int port_vm_new(const struct port *port, const struct arena *a, unsigned vcpus, enum mode mode,
		struct port_vm **ret)
{
	struct port_slot stable = {
		.id = STABLE_SLOT, .gpa = STABLE_GPA, .size = a->stable_size, .hva = a->stable};
	struct port_vm *vm = NULL;
	int err = port->vm_new(a, vcpus, &vm);

	if (!err)
		err = port->set_slot(vm, &stable);
	for (unsigned i = 0; !err && i < vcpus; i++)
		err = port->vcpu_new(vm, a, i, mode);
	if (err) {
		port->vm_free(vm);
		return err;
	}
	*ret = vm;
	return 0;
}
