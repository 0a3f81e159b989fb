/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Keeps a VM with a vCPU for as long as the bed lives.
 *
 * With the first VM, and with the first vCPU without a local APIC, KVM patches the scheduler's code and its own; with
 * the last one it does again. QEMU before 8.1 may go on to execute what stood there before: a scheduler that does
 * not tell KVM, so that vCPUs hang or die, or the breakpoint that is there meanwhile. With this VM it happens once,
 * before anything is tested.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <unistd.h>

int main(void)
{
	int kvm = open("/dev/kvm", O_RDWR);
	int vm = ioctl(kvm, KVM_CREATE_VM, 0);

	if (ioctl(vm, KVM_CREATE_VCPU, 0) < 0)
		return 1;
	/* The first process goes on, the second one keeps what both have. */
	if (fork() != 0)
		return 0;
	for (;;)
		pause();
}
