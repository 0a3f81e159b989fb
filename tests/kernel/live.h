/* SPDX-License-Identifier: BSD-3-Clause */
/* Changes of slots under a vCPU that spins. */
#ifndef TEST_KERNEL_LIVE_H
#define TEST_KERNEL_LIVE_H

#include "kvm.h"

struct live_guest {
	const char *what;
	enum mode mode;
	enum program program;
	/* Its page tables are in SLOT_TEST, and not what it watches. */
	bool tables;
	/* What it watches is that many pages behind TEST. */
	unsigned page;
};

struct live_change {
	/* Before the vCPU runs. Or NULL. */
	void (*before)(struct kvm *k);
	/* The change number @n, from 0. */
	void (*step)(struct kvm *k, unsigned n);
	/* Is the vCPU held meanwhile? */
	bool held;
	/* For the next step, while the vCPU is held. Or NULL. */
	void (*undo)(struct kvm *k);
	/* At least that long; if there is an exit, no longer than one needs to count some. */
	double seconds;
	/* Go on until there was an exit. */
	bool until_hole;
};

struct live_result {
	unsigned changes;
	unsigned long holes;
	char why[64]; /* what it could not go on from, or "" */
};

/* After each change the guest goes around once. */
struct live_result live_run(struct live_guest guest, struct live_change change);

#endif
