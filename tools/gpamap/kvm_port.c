/* SPDX-License-Identifier: BSD-3-Clause */
/* The torture on a real KVM, with guest code of its own. See port.h. */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kvm_boot.h"
#include "port.h"

struct port_vm {
	int kvm_fd;
	int fd;
	int its; /* or negative */
	size_t run_size;
	unsigned vcpus;
	struct boot_vcpu vcpu[];
};

const char *port_kvm_device(void)
{
	const char *name = getenv("GPAMAP_KVM_DEVICE");

	return name && *name ? name : "/dev/kvm";
}

static int open_kvm(void)
{
	int fd = open(port_kvm_device(), O_RDWR | O_CLOEXEC), ret;

	if (fd < 0)
		return -errno;
	ret = ioctl(fd, KVM_GET_API_VERSION, 0);
	if (ret == KVM_API_VERSION)
		return fd;
	ret = ret < 0 ? -errno : -ENOTSUP;
	close(fd);
	return ret;
}

int port_kvm_probe(void)
{
	int fd = open_kvm();

	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

static int kvm_set_slot(struct port_vm *vm, const struct port_slot *slot)
{
	struct kvm_userspace_memory_region r = {.slot = slot->id};

	if (slot->size) {
		r.flags = (slot->readonly ? KVM_MEM_READONLY : 0) |
			  (slot->log ? KVM_MEM_LOG_DIRTY_PAGES : 0);
		r.guest_phys_addr = slot->gpa;
		r.memory_size = slot->size;
		r.userspace_addr = (uint64_t)slot->hva;
	}
	return ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &r) ? -errno : 0;
}

static int kvm_get_dirty(struct port_vm *vm, uint32_t id, uint64_t *bitmap)
{
	struct kvm_dirty_log log = {.slot = id, .dirty_bitmap = bitmap};

	return ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log) ? -errno : 0;
}

static int kvm_vcpu_new(struct port_vm *vm, const struct arena *a, unsigned i, enum mode mode)
{
	struct boot_vcpu *v = &vm->vcpu[i];
	void *run;

	v->fd = ioctl(vm->fd, KVM_CREATE_VCPU, i);
	if (v->fd < 0)
		return -errno;
	run = mmap(NULL, vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
	if (run == MAP_FAILED)
		return -errno;
	v->run = run;
	v->kvm_fd = vm->kvm_fd;
	v->vm_fd = vm->fd;
	v->index = i;
	v->mode = mode;
	kvm_boot_tables(a, i, mode);
	return arch_vcpu_new(v);
}

static void kvm_vm_free(struct port_vm *vm)
{
	if (!vm)
		return;
	for (unsigned i = 0; i < vm->vcpus; i++) {
		if (vm->vcpu[i].run)
			munmap(vm->vcpu[i].run, vm->run_size);
		if (vm->vcpu[i].fd >= 0)
			close(vm->vcpu[i].fd);
	}
	if (vm->its >= 0)
		close(vm->its);
	if (vm->fd >= 0)
		close(vm->fd);
	if (vm->kvm_fd >= 0)
		close(vm->kvm_fd);
	free(vm);
}

static int vm_open(struct port_vm *vm)
{
	int size;

	vm->kvm_fd = open_kvm();
	if (vm->kvm_fd < 0)
		return vm->kvm_fd;
	size = ioctl(vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (size < 0)
		return -errno;
	vm->run_size = (size_t)size;
	vm->fd = arch_vm_new(vm->kvm_fd);
	return vm->fd < 0 ? vm->fd : 0;
}

static int kvm_vm_new(const struct arena *a, unsigned vcpus, struct port_vm **ret)
{
	struct port_vm *vm = calloc(1, sizeof(*vm) + vcpus * sizeof(vm->vcpu[0]));
	int err;

	if (!vm)
		return -ENOMEM;
	vm->kvm_fd = -1;
	vm->fd = -1;
	vm->its = -1;
	vm->vcpus = vcpus;
	for (unsigned i = 0; i < vcpus; i++)
		vm->vcpu[i].fd = -1;
	err = vm_open(vm);
	if (!err)
		err = kvm_boot_memory(a);
	if (err) {
		kvm_vm_free(vm);
		return err;
	}
	*ret = vm;
	return 0;
}

static int kvm_map_new(struct port_vm *vm, const struct gpamap_options *opt, struct gpamap **ret)
{
	return gpamap_new_kvm(vm->fd, opt, ret);
}

static int kvm_attach(struct port_vm *vm, unsigned vcpu, struct gpamap *map,
		      struct gpamap_vcpu **ret)
{
	return gpamap_vcpu_attach(map, vm->vcpu[vcpu].fd, vm->vcpu[vcpu].run, vcpu, ret);
}

static int kvm_run_vcpu(struct port_vm *vm, unsigned vcpu)
{
	return ioctl(vm->vcpu[vcpu].fd, KVM_RUN, 0) ? -errno : 0;
}

static int kvm_ioctl(struct port_vm *vm, int device, unsigned long request, void *arg)
{
	int ret = ioctl(device == PORT_VM ? vm->fd : device, request, arg);

	return ret < 0 ? -errno : ret;
}

static int kvm_its_probe(void)
{
	int kvm_fd = open_kvm(), fd, ret;

	if (kvm_fd < 0)
		return kvm_fd;
	fd = arch_vm_new(kvm_fd);
	ret = fd < 0 ? fd : arch_its_probe(fd);
	if (fd >= 0)
		close(fd);
	close(kvm_fd);
	return ret;
}

static int kvm_its_new(struct port_vm *vm, const struct arena *a)
{
	vm->its = arch_its_new(a, vm->fd);
	return vm->its;
}

static int kvm_reset(struct port_vm *vm, unsigned vcpu)
{
	return arch_vcpu_again(&vm->vcpu[vcpu]);
}

static struct kvm_run *kvm_kvm_run(struct port_vm *vm, unsigned vcpu)
{
	return vm->vcpu[vcpu].run;
}

const struct port port_kvm = {
	.name = "kvm",
	.vm_new = kvm_vm_new,
	.vcpu_new = kvm_vcpu_new,
	.vm_free = kvm_vm_free,
	.set_slot = kvm_set_slot,
	.get_dirty = kvm_get_dirty,
	.map_new = kvm_map_new,
	.attach = kvm_attach,
	.run = kvm_run_vcpu,
	.ioctl = kvm_ioctl,
	.its_probe = kvm_its_probe,
	.its_new = kvm_its_new,
	.reset = kvm_reset,
	.kvm_run = kvm_kvm_run,
};
