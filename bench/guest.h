/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A VM on real KVM for the benchmarks: its vCPUs count in a page of their own at CPL3, which is native code
 * whatever the host, and never touch the memory that is changed; or they sweep over memory.
 */
#ifndef BENCH_GUEST_H
#define BENCH_GUEST_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

#include "bench.h"

enum { MAX_VCPUS = 16 };

/* As far as page tables can go. */
#define GUEST_MAPPED_END (64 * GIB)

struct guest_vcpu {
	int fd;
	struct kvm_run *run;
};

struct guest {
	int kvm;
	int fd;
	char *memory;
	uint64_t
		size; /* and after it a page that no layout shows: other memory for a page that changes */
	size_t run_size;
	bool can_halt; /* it has interrupt controllers in the kernel */
	uint64_t sweep_at, sweep_step, sweep_end;
	int nr_vcpus;
	struct guest_vcpu vcpu[MAX_VCPUS];
};

/* A VM with @size bytes of memory that no slot shows yet, and @nr_vcpus vCPUs. */
void guest_init(struct guest *g, int kvm, uint64_t size, int nr_vcpus);
void guest_destroy(struct guest *g);
/* To be called before guest_reset(): the vCPUs write to @n pages, one in each @step bytes, again and again, and count
 * pages. @step is at most GIB. Below GUEST_MAPPED_END, and not in the first 2 MiB. */
void guest_sweep(struct guest *g, uint64_t at, uint64_t step, uint64_t n);
/* After the memory has slots: let the vCPUs begin at their loop. */
void guest_reset(struct guest *g);
/* No vCPU may run now. From the next KVM_RUN on they wait in the kernel, as after HLT; or they count.
 * pre: can_halt, if @halted. */
void guest_halt(struct guest *g, bool halted);
/* Are all of them halted? */
bool guest_is_halted(const struct guest *g);
/* What vCPU @i has counted. */
uint64_t guest_count(const struct guest *g, int i);
/* KVM_SET_USER_MEMORY_REGION; memory from offset @gpa on. @size 0: delete. 0 or -errno. */
int guest_slot(struct guest *g, uint32_t slot, uint32_t flags, uint64_t gpa, uint64_t size);
/* The same; memory from @offset on. */
int guest_slot_of(struct guest *g, uint32_t slot, uint32_t flags, uint64_t gpa, uint64_t size,
		  uint64_t offset);
/* What GPAMAP_ZAP_SLOT_ONLY asks of KVM, without gpamap. 0 or -errno. */
int guest_zap_slot_only(struct guest *g);

#endif
