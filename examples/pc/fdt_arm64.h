/* SPDX-License-Identifier: BSD-3-Clause */
/* The device tree: what an arm64 kernel is told of the machine. Has no KVM in it, so it is tested on any host. */
#ifndef PC_FDT_ARM64_H
#define PC_FDT_ARM64_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pc_fdt_range {
	uint64_t base;
	uint64_t size; /* 0: it is not there */
};

struct pc_fdt {
	struct pc_fdt_range ram;
	struct pc_fdt_range initrd;
	const char *append;    /* the command line */
	const uint64_t *mpidr; /* of each vCPU, as KVM has it */
	unsigned vcpus;
	struct pc_fdt_range gicd, gicr, its;
	struct pc_fdt_range uart; /* a 16550 with registers of one byte side by side */
	unsigned uart_irq;	  /* counted from the first shared interrupt of the GIC */
	unsigned uart_clock;	  /* in Hz */
	const void *seed;	  /* for the kernel's random numbers; a secret of this boot */
	size_t seed_size;
};

/* Room that is enough for the tree of @desc. */
size_t pc_fdt_size(const struct pc_fdt *desc);

/* Write it to @at. 0, or one of libfdt's negative numbers, for fdt_strerror(). */
int pc_fdt_make(void *at, size_t size, const struct pc_fdt *desc);

#endif
