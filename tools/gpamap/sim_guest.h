/* SPDX-License-Identifier: BSD-3-Clause */
/* The guest of the simulated VM: what guest.c does, as a state machine with one access in each step. */
#ifndef TORTURE_SIM_GUEST_H
#define TORTURE_SIM_GUEST_H

#include <stdbool.h>

#include "gpamap-sim.h"
#include "guest.h"

struct sim_guest {
	struct guest_ctl *ctl;
	uint64_t page;	/* that the hazard is at work on */
	uint64_t value; /* that is being stored, or was */
	unsigned phase; /* 0: between two pages */
	unsigned word;	/* within a phase */
	bool asking;	/* a page that has changed */
	bool looking;	/* at the pages on show */
};

void sim_guest_init(struct sim_guest *g, struct guest_ctl *ctl);
/* A gpamap_sim_guest; @opaque is the struct sim_guest. */
int sim_guest_step(struct gpamap_sim_vcpu *v, void *opaque);

#endif
