/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A VM on real KVM for the benchmarks: its vCPUs count in a page of their own at CPL3, which is native code
 * whatever the host, and never touch the memory that is changed.
 */
#ifndef BENCH_GUEST_H
#define BENCH_GUEST_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

#include "bench.h"

enum { NR_VCPUS = 2 };

struct guest_vcpu {
	int fd;
	struct kvm_run *run;
};

struct guest {
	int kvm;
	int fd;
	char *memory;
	uint64_t size;
	size_t run_size;
	struct guest_vcpu vcpu[NR_VCPUS];
};

/* A VM with @size bytes of memory that no slot shows yet; and no vCPUs if !@with_vcpus. */
void guest_init(struct guest *g, int kvm, uint64_t size, bool with_vcpus);
void guest_destroy(struct guest *g);
/* After the memory has slots: let the vCPUs begin at their loop. */
void guest_reset(struct guest *g);
/* What vCPU @i has counted. */
uint64_t guest_count(const struct guest *g, int i);
/* KVM_SET_USER_MEMORY_REGION; memory from offset @gpa on. @size 0: delete. 0 or -errno. */
int guest_slot(struct guest *g, uint32_t slot, uint32_t flags, uint64_t gpa, uint64_t size);

#endif
