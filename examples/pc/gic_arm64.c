/* SPDX-License-Identifier: BSD-3-Clause */
/* KVM's interrupt controller: a GICv3, and an ITS for MSIs where KVM has that. */
#include <errno.h>
#include <string.h>

#include "arm64.h"

/* A number that KVM takes: it divides those of the vCPUs from those that are shared by 32. */
#define IRQS 64u

static int device_new(struct pc *pc, uint32_t type, int *fd)
{
	struct kvm_create_device create = {.type = type};
	int r = gpamap_vm_ioctl(pc->map, KVM_CREATE_DEVICE, &create);

	if (r == 0)
		*fd = (int)create.fd;
	return r;
}

static int set(struct pc *pc, int fd, uint32_t group, uint64_t attr, void *value)
{
	struct kvm_device_attr a = {.group = group, .attr = attr, .addr = (uintptr_t)value};

	return gpamap_device_ioctl(pc->map, fd, KVM_SET_DEVICE_ATTR, &a);
}

static int set_address(struct pc *pc, int fd, uint64_t type, uint64_t address)
{
	return set(pc, fd, KVM_DEV_ARM_VGIC_GRP_ADDR, type, &address);
}

static int init(struct pc *pc, int fd)
{
	return set(pc, fd, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT, NULL);
}

int pc_gic_new(struct pc *pc)
{
	struct pc_arm64 *arm = pc->arch;
	uint32_t irqs = IRQS;
	int r = device_new(pc, KVM_DEV_TYPE_ARM_VGIC_V3, &arm->gic);

	if (r == -ENODEV)
		return pc_fail(
			&pc->error, r,
			"this KVM has no GICv3: the host needs one, or a GICv4, and not a GICv2");
	r = r < 0 ? r : set_address(pc, arm->gic, KVM_VGIC_V3_ADDR_TYPE_DIST, ARM64_GICD);
	r = r < 0 ? r : set_address(pc, arm->gic, KVM_VGIC_V3_ADDR_TYPE_REDIST, ARM64_GICR);
	r = r < 0 ? r : set(pc, arm->gic, KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0, &irqs);
	if (r < 0)
		return pc_fail(&pc->error, r, "KVM makes no GICv3: %s", strerror(-r));
	return 0;
}

int pc_gic_init(struct pc *pc)
{
	struct pc_arm64 *arm = pc->arch;
	int r = init(pc, arm->gic);

	if (r < 0)
		return pc_fail(&pc->error, r, "KVM's GICv3 does not start: %s", strerror(-r));
	r = device_new(pc, KVM_DEV_TYPE_ARM_VGIC_ITS, &arm->its);
	if (r == -ENODEV)
		return 0;
	r = r < 0 ? r : set_address(pc, arm->its, KVM_VGIC_ITS_ADDR_TYPE, ARM64_ITS);
	r = r < 0 ? r : init(pc, arm->its);
	if (r < 0)
		return pc_fail(&pc->error, r, "KVM makes no ITS: %s", strerror(-r));
	return 0;
}

void pc_gic_line(struct pc *pc, unsigned irq, bool level)
{
	struct kvm_irq_level line = {.irq = KVM_ARM_IRQ_TYPE_SPI << KVM_ARM_IRQ_TYPE_SHIFT |
					    (ARM64_FIRST_SHARED_IRQ + irq),
				     .level = level};

	gpamap_vm_ioctl(pc->map, KVM_IRQ_LINE, &line);
}
