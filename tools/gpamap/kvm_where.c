/* SPDX-License-Identifier: BSD-3-Clause */
/* Where in stable memory a vCPU of KVM finds its own. */
#include "guest_image.h"
#include "kvm_boot.h"

uint64_t boot_vcpu_gpa(unsigned vcpu)
{
	return STABLE_GPA + STABLE_VCPUS + vcpu * STABLE_VCPU_SIZE;
}

uint64_t boot_table_gpa(unsigned vcpu, unsigned table)
{
	return boot_vcpu_gpa(vcpu) + VCPU_TABLES + table * PAGE;
}

uint64_t boot_entry(void)
{
	return STABLE_GPA + STABLE_CODE +
	       (uint64_t)((const uint8_t *)guest_entry - __start_guest_text);
}
