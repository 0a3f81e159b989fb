/* SPDX-License-Identifier: BSD-3-Clause */
/* The interrupt controller of the hazard `its`, in the kernel: see its.h and kvm_boot.h. */
#include <errno.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "its.h"
#include "kvm_boot.h"

_Static_assert(ITS_SAVE_GROUP == KVM_DEV_ARM_VGIC_GRP_CTRL &&
		       ITS_SAVE_ATTR == KVM_DEV_ARM_ITS_SAVE_TABLES,
	       "its.h has them written down");

static int new_device(int vm_fd, uint32_t type, uint32_t flags)
{
	struct kvm_create_device d = {.type = type, .flags = flags};

	return ioctl(vm_fd, KVM_CREATE_DEVICE, &d) ? -errno : (int)d.fd;
}

static int set_attribute(int device, uint32_t group, uint64_t attribute, uint64_t value)
{
	const struct kvm_device_attr attr = {
		.group = group, .attr = attribute, .addr = (uint64_t)&value};

	return ioctl(device, KVM_SET_DEVICE_ATTR, &attr) ? -errno : 0;
}

static int set_address(int device, uint64_t type, uint64_t gpa)
{
	return set_attribute(device, KVM_DEV_ARM_VGIC_GRP_ADDR, type, gpa);
}

static int start_device(int device)
{
	return set_attribute(device, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT, 0);
}

/* The VM keeps its devices when their fds are closed. */
static int new_gic(int vm_fd)
{
	int fd = new_device(vm_fd, KVM_DEV_TYPE_ARM_VGIC_V3, 0), ret;

	if (fd < 0)
		return fd;
	ret = set_address(fd, KVM_VGIC_V3_ADDR_TYPE_DIST, ITS_GIC_GPA + ITS_GIC_DIST);
	if (!ret)
		ret = set_address(fd, KVM_VGIC_V3_ADDR_TYPE_REDIST, ITS_GIC_GPA + ITS_GIC_REDIST);
	if (!ret)
		ret = start_device(fd);
	close(fd);
	return ret;
}

static int new_its(int vm_fd)
{
	int fd = new_device(vm_fd, KVM_DEV_TYPE_ARM_VGIC_ITS, 0), ret;

	if (fd < 0)
		return fd;
	ret = set_address(fd, KVM_VGIC_ITS_ADDR_TYPE, ITS_GIC_GPA + ITS_GIC_ITS);
	if (!ret)
		ret = start_device(fd);
	if (!ret)
		return fd;
	close(fd);
	return ret;
}

int arch_its_probe(int vm_fd)
{
	int ret = new_device(vm_fd, KVM_DEV_TYPE_ARM_VGIC_V3, KVM_CREATE_DEVICE_TEST);

	if (ret >= 0)
		ret = new_device(vm_fd, KVM_DEV_TYPE_ARM_VGIC_ITS, KVM_CREATE_DEVICE_TEST);
	return ret < 0 ? ret : 0;
}

int arch_its_new(const struct arena *a, int vm_fd)
{
	int ret = new_gic(vm_fd);

	arena_its(a)->gic = GVA_GIC;
	return ret ? ret : new_its(vm_fd);
}
