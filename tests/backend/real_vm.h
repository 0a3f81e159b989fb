/* SPDX-License-Identifier: BSD-3-Clause */
/* A small real VM for tests: memory at 0, and a vCPU, on x86 in real mode, on arm64 at EL1, that starts at CODE. */
#ifndef TEST_REAL_VM_H
#define TEST_REAL_VM_H

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#ifdef __aarch64__
#include "../boot/arm64.h"
#endif

#define MEM_SIZE 0x10000u
#define CODE 0x1000u
#define DATA 0x2000u
#define TABLE 0x3000u

struct real_vm {
	int kvm;
	int vm;
	int vcpu;
	struct kvm_run *run;
	size_t run_size;
	uint8_t *mem;
};

/* False: there is no KVM, and the reason is printed. Any test program that needs it then exits with 77. */
static inline bool real_vm_open(struct real_vm *v)
{
	const char *path = getenv("GPAMAP_KVM_DEVICE");

	*v = (struct real_vm){.kvm = -1, .vm = -1, .vcpu = -1};
	if (!path)
		path = "/dev/kvm";
	v->kvm = open(path, O_RDWR | O_CLOEXEC);
	if (v->kvm < 0) {
		printf("SKIP: can't open %s\n", path);
		return false;
	}
	v->vm = ioctl(v->kvm, KVM_CREATE_VM, 0);
	if (v->vm < 0) {
		printf("SKIP: %s makes no VM\n", path);
		close(v->kvm);
		return false;
	}
	v->mem = mmap(NULL, MEM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return v->mem != MAP_FAILED;
}

static inline void real_vm_close(struct real_vm *v)
{
	if (v->run)
		munmap(v->run, v->run_size);
	if (v->vcpu >= 0)
		close(v->vcpu);
	munmap(v->mem, MEM_SIZE);
	close(v->vm);
	close(v->kvm);
}

#ifdef __x86_64__
static inline int real_vm_boot(struct real_vm *v)
{
	struct kvm_sregs sregs;

	if (ioctl(v->vcpu, KVM_GET_SREGS, &sregs))
		return errno;
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	return ioctl(v->vcpu, KVM_SET_SREGS, &sregs) ? errno : 0;
}

static inline bool real_vm_rewind(struct real_vm *v)
{
	struct kvm_regs regs = {.rip = CODE, .rflags = 2, .rsp = MEM_SIZE};

	return !ioctl(v->vcpu, KVM_SET_REGS, &regs);
}
#elif defined(__aarch64__)
static inline int real_vm_boot(struct real_vm *v)
{
	int err = boot_init(v->vm, v->vcpu);

	boot_vectors(v->mem + CODE);
	boot_table(v->mem + TABLE, false);
	return err ? err : boot_system(v->vcpu, false, TABLE, CODE);
}

/* x0: DATA */
static inline bool real_vm_rewind(struct real_vm *v)
{
	return !boot_set(v->vcpu, CORE(pc), CODE) && !boot_set(v->vcpu, CORE(regs[0]), DATA);
}
#else
static inline int real_vm_boot(struct real_vm *v)
{
	(void)v;
	return ENOTSUP;
}

static inline bool real_vm_rewind(struct real_vm *v)
{
	(void)v;
	return false;
}
#endif

static inline bool real_vm_add_vcpu(struct real_vm *v, const void *code, size_t size)
{
	memcpy(v->mem + CODE, code, size);
	v->vcpu = ioctl(v->vm, KVM_CREATE_VCPU, 0);
	v->run_size = (size_t)ioctl(v->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	v->run = mmap(NULL, v->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, v->vcpu, 0);
	return v->vcpu >= 0 && v->run != MAP_FAILED && !real_vm_boot(v) && real_vm_rewind(v);
}

#endif
