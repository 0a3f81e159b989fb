/* SPDX-License-Identifier: BSD-3-Clause */
/* What the KVM here says that it has, of what matters to memory maps: of the system, and of a VM, which may have less. */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/utsname.h>
#include <unistd.h>

/* By number: headers are often older than kernels. */
static const struct {
	const char *name;
	long number;
} capabilities[] = {
	{"NR_VCPUS", 9},
	{"NR_MEMSLOTS", 10},
	{"SYNC_MMU", 16},
	{"READONLY_MEM", 81},
	{"X86_SMM", 117},
	{"MULTI_ADDRESS_SPACE", 118},
	{"IMMEDIATE_EXIT", 136},
	{"ARM_VM_IPA_SIZE", 165},
	{"MANUAL_DIRTY_LOG_PROTECT2", 168},
	{"STEAL_TIME", 187},
	{"DIRTY_LOG_RING", 192},
	{"DISABLE_QUIRKS2", 213},
	{"DIRTY_LOG_RING_ACQ_REL", 223},
	{"DIRTY_LOG_RING_WITH_BITMAP", 225},
	{"ARM_EAGER_SPLIT_CHUNK_SIZE", 228},
	{"USER_MEMORY2", 231},
	{"MEMORY_FAULT_INFO", 232},
	{"MEMORY_ATTRIBUTES", 233},
	{"GUEST_MEMFD", 234},
	{"VM_TYPES", 235},
	{"PRE_FAULT_MEMORY", 236},
};

static void show(int fd, long number)
{
	int value = ioctl(fd, KVM_CHECK_EXTENSION, number);

	if (value < 0)
		printf("%12s", "-");
	else
		printf("%#12x", (unsigned)value);
}

int main(void)
{
	const char *path = getenv("GPAMAP_KVM_DEVICE");
	struct utsname host;
	int kvm, vm;

	if (!path)
		path = "/dev/kvm";
	kvm = open(path, O_RDWR | O_CLOEXEC);
	vm = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0);
	if (vm < 0) {
		printf("SKIP: %s makes no VM\n", path);
		return 77;
	}
	uname(&host);
	printf("Linux %s, %s, pages of %ld bytes\n", host.release, host.machine,
	       sysconf(_SC_PAGESIZE));
	printf("%-28s%12s%12s\n", "KVM_CAP_", "system", "VM");
	for (size_t i = 0; i < sizeof(capabilities) / sizeof(capabilities[0]); i++) {
		printf("%-28s", capabilities[i].name);
		show(kvm, capabilities[i].number);
		show(vm, capabilities[i].number);
		putchar('\n');
	}
	return 0;
}
