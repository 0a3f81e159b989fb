/* SPDX-License-Identifier: BSD-3-Clause */
/* The guest of these tests; all that depends on the processor. */
#ifndef TEST_KVM_GUEST_H
#define TEST_KVM_GUEST_H

#include "vm.h"

/* Words in a vCPU's own page. */
enum { OWN_COUNT, OWN_SAW, OWN_DOOR };

/* Why there is none for this processor; NULL: there is. */
extern const char *const guest_missing;
/* Is there an instruction for COPY? */
extern const bool guest_has_copy;

/* Write code and tables to guest memory. */
void guest_write(struct vm *vm);
/* Once for each vCPU, before guest_set(). 0 or an errno, as the one below it. */
int guest_init(struct vcpu *v);
/* Let it begin anew, with these addresses. */
int guest_set(struct vcpu *v, enum mode mode, enum program program, uint64_t own, uint64_t watched,
	      uint64_t door);

#endif
