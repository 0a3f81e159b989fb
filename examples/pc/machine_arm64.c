/* SPDX-License-Identifier: BSD-3-Clause */
/* The arm64 machine: RAM, a GICv3, a 16550. Power-off and reset are PSCI's, which is in KVM. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "arch.h"
#include "arm64.h"
#include "serial_16550.h"

#define MIB (UINT64_C(1) << 20)
#define DEFAULT_BITS 40

/* How many bits an address of the guest has. What KVM gives if it isn't asked is enough, but not every host has it. */
static unsigned address_bits(struct pc *pc)
{
	int bits = ioctl(pc->kvm, KVM_CHECK_EXTENSION, KVM_CAP_ARM_VM_IPA_SIZE);

	return bits > 0 && bits < DEFAULT_BITS ? (unsigned)bits : DEFAULT_BITS;
}

int arch_vm_type(struct pc *pc, unsigned long *ret)
{
	unsigned bits = address_bits(pc);

	*ret = bits == DEFAULT_BITS ? 0 : KVM_VM_TYPE_ARM_IPA_SIZE(bits);
	return 0;
}

int arch_ram_ranges(struct pc *pc)
{
	uint64_t size = pc->options.memory, max = (UINT64_C(1) << address_bits(pc)) - ARM64_RAM;

	if (size == 0 || size % MIB)
		return pc_fail(&pc->error, -EINVAL, "%llu bytes of memory: it has to be whole MiB",
			       (unsigned long long)size);
	if (size > max)
		return pc_fail(&pc->error, -EINVAL,
			       "%llu MiB of memory: a VM has at most %llu here",
			       (unsigned long long)(size / MIB), (unsigned long long)(max / MIB));
	pc->ram.range[0] = (struct pc_ram_range){.gpa = ARM64_RAM, .size = size};
	pc->ram.ranges = 1;
	return 0;
}

int arch_init_vm(struct pc *pc)
{
	/* Accesses that KVM can't emulate become an exit of their own, or else KVM_RUN fails without a word. */
	struct kvm_enable_cap cap = {.cap = KVM_CAP_ARM_NISV_TO_USER};
	struct pc_arm64 *arm = calloc(1, sizeof(*arm));

	if (!arm)
		return pc_fail(&pc->error, -ENOMEM, "no memory");
	arm->gic = arm->its = -1;
	pc->arch = arm;
	if (pc->options.cpus > ARM64_MAX_CPUS)
		return pc_fail(&pc->error, -EINVAL, "%u vCPUs: this machine has at most %u",
			       pc->options.cpus, ARM64_MAX_CPUS);
	gpamap_vm_ioctl(pc->map, KVM_ENABLE_CAP, &cap);
	return pc_gic_new(pc);
}

static void serial_line(void *opaque, bool level)
{
	pc_gic_line(opaque, ARM64_UART_IRQ, level);
}

int arch_init_devices(struct pc *pc)
{
	struct pc_serial_wiring wiring = {
		.output = pc->options.output,
		.output_opaque = pc->options.opaque,
		.interrupt = serial_line,
		.interrupt_opaque = pc,
	};
	int r = pc_gic_init(pc);

	if (r < 0)
		return r;
	pc->serial = pc_serial_new(&wiring);
	if (!pc->serial)
		return pc_fail(&pc->error, -ENOMEM, "no memory");
	return pc_mmio_add(pc->map, "serial port", ARM64_UART, PC_SERIAL_SIZE, &pc_serial_ops,
			   pc->serial, &pc->error);
}

void arch_free(struct pc *pc)
{
	struct pc_arm64 *arm = pc->arch;

	pc_serial_free(pc->serial);
	if (!arm)
		return;
	if (arm->its >= 0)
		close(arm->its);
	if (arm->gic >= 0)
		close(arm->gic);
	free(arm);
}
