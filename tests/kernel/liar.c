/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Makes another kernel of this one, to see the facts fail: put before the program by LD_PRELOAD. What GPAMAP_LIE names
 * is one thing that KVM then does otherwise; selftest.py has which facts have to notice.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define IDS 8
/* As in kvm.h. */
#define SLOT_TEST 1
#define SLOT_OTHER 2
#define LOG_BYTES 8
#define SET_REGION2_NR 0x49

static struct kvm_userspace_memory_region slots[IDS]; /* as KVM has them; of size 0: none */
static bool was_deleted[IDS];
static struct kvm_run *run;

static bool lie(const char *name)
{
	const char *told = getenv("GPAMAP_LIE");

	return told && !strcmp(told, name);
}

static int call(int fd, unsigned long request, void *arg)
{
	return (int)syscall(SYS_ioctl, fd, request, arg);
}

static int refuse(int err)
{
	errno = err;
	return -1;
}

static int set(int fd, struct kvm_userspace_memory_region r)
{
	int ret = call(fd, KVM_SET_USER_MEMORY_REGION, &r);

	if (ret >= 0 && r.slot < IDS) {
		was_deleted[r.slot] |= !r.memory_size;
		slots[r.slot] = r;
	}
	return ret;
}

static int delete_and_create(int fd, struct kvm_userspace_memory_region r)
{
	return set(fd, (struct kvm_userspace_memory_region){.slot = r.slot}) < 0 ? -1 : set(fd, r);
}

static bool is_mapped(uint64_t hva)
{
	unsigned char in_core;

	return !mincore((void *)(uintptr_t)hva, 1, &in_core) || errno != ENOMEM;
}

/* The same memory: what a kernel does in place. */
static bool in_place(const struct kvm_userspace_memory_region *old,
		     const struct kvm_userspace_memory_region *r)
{
	return old->memory_size && old->memory_size == r->memory_size &&
	       old->userspace_addr == r->userspace_addr;
}

static int set_lying(int fd, struct kvm_userspace_memory_region r)
{
	struct kvm_userspace_memory_region none = {0}, *old = r.slot < IDS ? &slots[r.slot] : &none;

	if (lie("read-write"))
		r.flags &= ~KVM_MEM_READONLY;
	if (lie("refuse") && r.memory_size && (old->memory_size || !is_mapped(r.userspace_addr)))
		return refuse(EINVAL);
	if (lie("recreate") && in_place(old, &r))
		return delete_and_create(fd, r);
	if (lie("stay") && old->memory_size &&
	    (!r.memory_size || r.guest_phys_addr != old->guest_phys_addr))
		return 0;
	if (lie("forget") && r.slot < IDS && !old->memory_size && was_deleted[r.slot])
		return 0;
	return set(fd, r);
}

static int set_and_shake(int fd, struct kvm_userspace_memory_region r)
{
	int ret = set_lying(fd, r);

	if (lie("shake") && r.slot == SLOT_OTHER && slots[SLOT_TEST].memory_size)
		delete_and_create(fd, slots[SLOT_TEST]);
	return ret;
}

static int read_log(int fd, struct kvm_dirty_log *log)
{
	int ret = call(fd, KVM_GET_DIRTY_LOG, log);

	if (!ret && (lie("empty") || lie("full")))
		memset(log->dirty_bitmap, lie("full") ? 0xff : 0, LOG_BYTES);
	return ret;
}

static int run_vcpu(int fd)
{
	int ret;

	if (lie("deaf") && run)
		run->immediate_exit = 0;
	ret = call(fd, KVM_RUN, NULL);
	return ret < 0 && errno == EINTR && lie("other end") ? refuse(EAGAIN) : ret;
}

/* The same pages as those of the program. */
static int create_vcpu(int fd, void *arg)
{
	int vcpu = call(fd, KVM_CREATE_VCPU, arg);
	void *p = mmap(NULL, sizeof(*run), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);

	run = p == MAP_FAILED ? NULL : p;
	return vcpu;
}

static int answer(int fd, unsigned long request, void *arg)
{
	switch (request) {
	case KVM_CREATE_VM:
		memset(slots, 0, sizeof(slots));
		memset(was_deleted, 0, sizeof(was_deleted));
		break;
	case KVM_CREATE_VCPU:
		return create_vcpu(fd, arg);
	case KVM_SET_USER_MEMORY_REGION:
		/* It may be a pointer to nothing, which is for the kernel to say. */
		if (lie("other errno"))
			break;
		return set_and_shake(fd, *(struct kvm_userspace_memory_region *)arg);
	case KVM_GET_DIRTY_LOG:
		return read_log(fd, arg);
	case KVM_RUN:
		return run_vcpu(fd);
	case KVM_GET_REGS:
	case KVM_GET_ONE_REG:
		if (lie("at once"))
			return 0;
		break;
	default:
		break;
	}
	return call(fd, request, arg);
}

int ioctl(int fd, unsigned long request, ...)
{
	unsigned long number = _IOC_NR(request);
	va_list args;
	void *arg;
	int ret;

	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);
	ret = answer(fd, request, arg);
	if (ret < 0 && lie("other errno") &&
	    (number == _IOC_NR(KVM_SET_USER_MEMORY_REGION) || number == SET_REGION2_NR ||
	     number == _IOC_NR(KVM_GET_DIRTY_LOG)))
		return refuse(EIO);
	return ret;
}
