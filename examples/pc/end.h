/* SPDX-License-Identifier: BSD-3-Clause */
/* How a machine ends: who says so first decides. For devices and exits. */
#ifndef PC_END_H
#define PC_END_H

#include "pc.h"

/* @vcpu: whose exit it was, or NULL. The vCPUs stop as soon as they can; this does not wait for them. */
void pc_end(struct pc *pc, const struct pc_vcpu *vcpu, enum pc_ending how, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
bool pc_ended(struct pc *pc);

/* For all that have to leave KVM_RUN: the lock is held. */
void pc_call_attention(struct pc *pc);

#endif
