/* SPDX-License-Identifier: BSD-3-Clause */
/* vCPUs of arm64: how they begin, and what can end them. */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "arch.h"
#include "arm64.h"
#include "end.h"

/* The first one begins at the kernel; the others sleep until it starts them by PSCI, which is in KVM. */
int arch_init_vcpu(struct pc *pc, struct pc_vcpu *vcpu)
{
	struct kvm_vcpu_init init;
	int r = gpamap_vm_ioctl(pc->map, KVM_ARM_PREFERRED_TARGET, &init);

	if (r == 0) {
		init.features[0] |= 1u << KVM_ARM_VCPU_PSCI_0_2;
		if (vcpu->id > 0)
			init.features[0] |= 1u << KVM_ARM_VCPU_POWER_OFF;
		r = ioctl(vcpu->fd, KVM_ARM_VCPU_INIT, &init) < 0 ? -errno : 0;
	}
	if (r < 0)
		return pc_fail(&pc->error, r, "KVM does not start vCPU %u: %s", vcpu->id,
			       strerror(-r));
	return 0;
}

int pc_cpu_get(struct pc_vcpu *vcpu, uint64_t id, uint64_t *ret)
{
	struct kvm_one_reg reg = {.id = id, .addr = (uintptr_t)ret};

	return gpamap_vcpu_ioctl(vcpu->gate, KVM_GET_ONE_REG, &reg);
}

int pc_cpu_set(struct pc_vcpu *vcpu, uint64_t id, uint64_t value)
{
	struct kvm_one_reg reg = {.id = id, .addr = (uintptr_t)&value};

	return gpamap_vcpu_ioctl(vcpu->gate, KVM_SET_ONE_REG, &reg);
}

uint64_t arch_instruction(struct pc_vcpu *vcpu)
{
	uint64_t pc = 0;

	pc_cpu_get(vcpu, ARM64_CORE(pc), &pc);
	return pc;
}

/* The processor tells KVM what a load or store was only if it is a simple one. */
int arch_exit(struct pc *pc, struct pc_vcpu *vcpu)
{
	if (vcpu->run->exit_reason != KVM_EXIT_ARM_NISV)
		return -ENOSYS;
	pc_end(pc, vcpu, PC_ERROR,
	       "vCPU %u: at 0x%llx the guest has accessed 0x%llx, where there is no memory, in a "
	       "way that can't be"
	       " emulated",
	       vcpu->id, (unsigned long long)arch_instruction(vcpu),
	       (unsigned long long)vcpu->run->arm_nisv.fault_ipa);
	return 0;
}
