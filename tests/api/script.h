/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A script of transactions that has every sort of change, on a VM with two address spaces, and what the VM
 * looks like after each of them. For tests that let something fail in the midst of it.
 */
#ifndef GM_TESTS_API_SCRIPT_H
#define GM_TESTS_API_SCRIPT_H

#include "common.h"

#define STEPS 17

struct script {
	struct vm vm;
	struct gpamap_region *ram;    /* resizable, A, first at page 0 */
	struct gpamap_region *logged; /* C, at page 40 */
	struct gpamap_region *window; /* onto logged, read-only, not there at first */
	struct gpamap_region *gmem;   /* resizable, the file from its beginning */
	struct gpamap_region *gmem_2; /* from its fifth page */
	struct gpamap_region *rom;
	struct gpamap_region *device;
	struct gpamap_region *small; /* C, at page 30 */
	struct gpamap_sim_vcpu *sim_vcpu;
	struct gpamap_vcpu *vcpu;
	uint8_t *b; /* memory B */
	bool again; /* an edit that fails is done once more */
};

struct step {
	int (*edits)(struct script *s, struct gpamap_txn *txn);
	unsigned flags;
};

extern const struct step steps[STEPS];

/* Before each step, and at the end. */
extern struct world worlds[STEPS + 1];
/* Find them out: the set-up of a group of tests. */
int script_record(void **state);

/* A VM after the first @done steps. */
void script_open(struct script *s, size_t done);
void script_close(struct script *s);
/* One step, which must succeed. */
void script_commit(struct script *s, size_t step);
/* A transaction without edits. */
void script_empty_commit(struct script *s);
/* Whoever wants to pass the gate can; or is told that the map is broken. */
void script_check_runs(struct script *s, bool broken);

#endif
