/* SPDX-License-Identifier: BSD-3-Clause */
/* vCPUs: made, run in threads of their own, brought to a stop. */
#ifndef PC_VCPU_H
#define PC_VCPU_H

#include "pc.h"

/* Make all of them, under the map's gate. */
int pc_vcpus_new(struct pc *pc);
int pc_vcpus_start(struct pc *pc);
/* Wait for their threads, which must have been told to end. */
void pc_vcpus_join(struct pc *pc);
void pc_vcpus_free(struct pc *pc);

#endif
