/* SPDX-License-Identifier: BSD-3-Clause */
/* A PC: where its RAM is, interrupt controllers and timer of KVM's, devices, exits. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arch.h"
#include "end.h"
#include "layout_x86.h"
#include "serial_16550.h"
#include "x86.h"

enum { LEAST_MIB = 2 };

int arch_vm_type(struct pc *pc, unsigned long *ret)
{
	if (pc->options.cpus > X86_CPUS_MAX)
		return pc_fail(&pc->error, -EINVAL, "%u vCPUs: a PC has at most %d here",
			       pc->options.cpus, X86_CPUS_MAX);
	*ret = 0;
	return 0;
}

int arch_ram_ranges(struct pc *pc)
{
	uint64_t size = pc->options.memory;
	uint64_t low = size < X86_HOLE ? size : X86_HOLE;
	struct pc_ram *ram = &pc->ram;

	if (size < (uint64_t)LEAST_MIB << 20 || size % (uint64_t)sysconf(_SC_PAGESIZE))
		return pc_fail(&pc->error, -EINVAL,
			       "%llu bytes of memory: a PC needs %d MiB or more, in whole pages",
			       (unsigned long long)size, LEAST_MIB);
	ram->range[ram->ranges++] = (struct pc_ram_range){0, low, 0};
	if (size > low)
		ram->range[ram->ranges++] = (struct pc_ram_range){X86_HOLE_END, size - low, low};
	return 0;
}

int arch_init_vm(struct pc *pc)
{
	/* With the speaker's port, by which Linux measures time. */
	struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};
	uint64_t identity_map = X86_IDENTITY_MAP;
	const struct {
		const char *name;
		unsigned long request;
		void *arg;
	} steps[] = {
		{"KVM_SET_IDENTITY_MAP_ADDR", KVM_SET_IDENTITY_MAP_ADDR, &identity_map},
		{"KVM_SET_TSS_ADDR", KVM_SET_TSS_ADDR, (void *)(uintptr_t)X86_TSS},
		{"KVM_CREATE_IRQCHIP", KVM_CREATE_IRQCHIP, NULL},
		{"KVM_CREATE_PIT2", KVM_CREATE_PIT2, &pit},
	};

	for (unsigned i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		int r = gpamap_vm_ioctl(pc->map, steps[i].request, steps[i].arg);

		if (r < 0)
			return pc_fail(&pc->error, r, "%s: %s", steps[i].name, strerror(-r));
	}
	return 0;
}

int arch_init_vcpu(struct pc *pc, struct pc_vcpu *vcpu)
{
	return x86_init_cpu(pc, vcpu);
}

static void com1_interrupt(void *opaque, bool level)
{
	struct pc *pc = opaque;
	struct kvm_irq_level line = {{.irq = X86_COM1_IRQ}, level};
	int r = gpamap_vm_ioctl(pc->map, KVM_IRQ_LINE, &line);

	if (r < 0)
		pc_end(pc, NULL, PC_ERROR, "the serial port's interrupt: %s", strerror(-r));
}

int arch_init_devices(struct pc *pc)
{
	const struct pc_serial_wiring wiring = {
		.output = pc->options.output,
		.output_opaque = pc->options.opaque,
		.interrupt = com1_interrupt,
		.interrupt_opaque = pc,
	};
	int r;

	pc->serial = pc_serial_new(&wiring);
	if (!pc->serial)
		return pc_fail(&pc->error, -ENOMEM, "no memory for a serial port");
	r = pc_ports_add(&pc->ports, X86_COM1_PORT, PC_SERIAL_SIZE, &pc_serial_ops, pc->serial);
	if (r < 0)
		return pc_fail(&pc->error, r, "COM1: %s", strerror(-r));
	return x86_add_power(pc);
}

int arch_load(struct pc *pc)
{
	uint64_t entry = 0;
	int r = x86_load_linux(pc, &entry);

	return r < 0 ? r : x86_start_at(pc, entry);
}

int arch_exit(struct pc *pc, struct pc_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	char *data = (char *)run + run->io.data_offset;
	int r = 0;

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		for (unsigned i = 0; i < run->io.count && r == 0; i++)
			r = pc_ports_access(&pc->ports, run->io.port, data + i * run->io.size,
					    run->io.size, run->io.direction == KVM_EXIT_IO_OUT);
		return r;
	case KVM_EXIT_SHUTDOWN:
		/* Where is not told: KVM resets the vCPU on AMD's processors. */
		pc_end(pc, vcpu, PC_TRIPLE_FAULT, "vCPU %u: a triple fault", vcpu->id);
		return 0;
	}
	return -ENOSYS;
}

uint64_t arch_instruction(struct pc_vcpu *vcpu)
{
	struct kvm_regs regs = {.rip = 0};

	/* Of a message only: it has 0 for what can't be read. */
	(void)gpamap_vcpu_ioctl(vcpu->gate, KVM_GET_REGS, &regs);
	return regs.rip;
}

void arch_free(struct pc *pc)
{
	pc_serial_free(pc->serial);
	pc->serial = NULL;
	free(pc->arch);
	pc->arch = NULL;
}
