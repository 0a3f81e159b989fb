/* SPDX-License-Identifier: BSD-3-Clause */
/* The VM and its slots; see kvm.h. */
#include "kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "fact.h"

static const char *device(void)
{
	const char *path = getenv("GPAMAP_KVM_DEVICE");

	return path ? path : "/dev/kvm";
}

const char *kvm_missing(void)
{
	static char why[128];
	int sys = open(device(), O_RDWR | O_CLOEXEC);
	int fd = sys < 0 ? -1 : ioctl(sys, KVM_CREATE_VM, 0);

	if (sys < 0)
		snprintf(why, sizeof(why), "can't open %s", device());
	else if (fd < 0)
		snprintf(why, sizeof(why), "%s makes no VM", device());
	if (fd >= 0)
		close(fd);
	if (sys >= 0)
		close(sys);
	return fd < 0 ? why : NULL;
}

int kvm_ioctl(int fd, unsigned long request, void *arg)
{
	return ioctl(fd, request, arg) < 0 ? errno : 0;
}

int kvm_capability(const struct kvm *k, long number)
{
	int value = ioctl(k->fd, KVM_CHECK_EXTENSION, number);

	return value > 0 ? value : 0;
}

void kvm_open(struct kvm *k)
{
	*k = (struct kvm){.page = (uint64_t)sysconf(_SC_PAGESIZE)};
	k->sys = open(device(), O_RDWR | O_CLOEXEC);
	need(k->sys >= 0);
	k->fd = ioctl(k->sys, KVM_CREATE_VM, 0);
	need(k->fd >= 0);
	k->memory = mmap(NULL, MEMORY_PAGES * k->page, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	need(k->memory != MAP_FAILED);
	for (unsigned i = 0; i < TEST_PAGES; i++)
		*test_word(k, i, 0) = 100 + i;
	k->nr_slots = (uint32_t)kvm_capability(k, KVM_CAP_NR_MEMSLOTS);
	k->nr_spaces = (uint32_t)kvm_capability(k, KVM_CAP_MULTI_ADDRESS_SPACE);
	k->nr_spaces = k->nr_spaces ? k->nr_spaces : 1;
	need(!slot_put(k, SLOT_LOW, 0, LOW_PAGES, 0));
	need(!slot_put_test(k, 0, TEST));
}

void kvm_close(struct kvm *k)
{
	close(k->fd);
	close(k->sys);
	munmap(k->memory, MEMORY_PAGES * k->page);
}

int slot_set(const struct kvm *k, struct kvm_userspace_memory_region r)
{
	return kvm_ioctl(k->fd, KVM_SET_USER_MEMORY_REGION, &r);
}

struct kvm_userspace_memory_region slot(const struct kvm *k, uint32_t id, uint64_t at, uint64_t n,
					uint64_t first)
{
	return (struct kvm_userspace_memory_region){
		.slot = id,
		.guest_phys_addr = at * k->page,
		.memory_size = n * k->page,
		.userspace_addr = (uintptr_t)k->memory + first * k->page,
	};
}

int slot_put(const struct kvm *k, uint32_t id, uint64_t at, uint64_t n, uint64_t first)
{
	return slot_set(k, slot(k, id, at, n, first));
}

int slot_put_test(const struct kvm *k, uint32_t flags, uint64_t at)
{
	struct kvm_userspace_memory_region r = slot(k, SLOT_TEST, at, TEST_PAGES, MEMORY_TEST);

	r.flags = flags;
	return slot_set(k, r);
}

int slot_delete(const struct kvm *k, uint32_t id)
{
	return slot_set(k, (struct kvm_userspace_memory_region){.slot = id});
}

bool slot_at(const struct kvm *k, uint64_t at)
{
	int err = slot_put(k, k->nr_slots - 1, at, 1, 0);

	if (err == EEXIST)
		return true;
	need(!err);
	need(!slot_delete(k, k->nr_slots - 1));
	return false;
}

int slot_log(const struct kvm *k, uint32_t id, uint64_t *ret)
{
	struct kvm_dirty_log log = {.slot = id, .dirty_bitmap = ret};

	return kvm_ioctl(k->fd, KVM_GET_DIRTY_LOG, &log);
}

_Atomic uint64_t *own_word(const struct kvm *k, unsigned word)
{
	return (_Atomic uint64_t *)(void *)(k->memory + PAGE_OWN * k->page) + word;
}

_Atomic uint64_t *test_word(const struct kvm *k, unsigned page, unsigned word)
{
	uint8_t *p = k->memory + (MEMORY_TEST + page) * k->page;

	return (_Atomic uint64_t *)(void *)p + word;
}

void sleep_us(unsigned us)
{
	struct timespec t = {.tv_nsec = (long)us * 1000};

	nanosleep(&t, NULL);
}

double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}
