/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Blackouts of all rivals with one guest. In a turn, each of them makes the same number of changes; turns of
 * several rounds follow one another, so that whatever else the machine does hits all alike.
 */
#ifndef BENCH_ROUND_H
#define BENCH_ROUND_H

#include "rival.h"

enum round_rival { ROUND_OURS, ROUND_BY_HAND, ROUND_INHIBIT, ROUND_FLOOR, NR_ROUND_RIVALS };

const char *round_rival_name(enum round_rival rival);

/* What was measured of vCPUs in one state, in us. Of the floor, which knows no states, all stands in the first. */
struct round_series {
	struct series blackout[NR_ROUND_RIVALS];
	struct series back[NR_ROUND_RIVALS];
};

struct round {
	struct layout layout;
	int vcpus;
	struct ours ours;
	struct hand hand; /* by hand, and the floor */
	struct inhibit inhibit;
	struct round_series state[NR_CREW_STATES];
};

/* NULL: the host has not enough memory for the slots. */
struct round *round_new(int kvm, const struct layout *l, int vcpus);
void round_free(struct round *r);
/* Can its vCPUs be in this state? */
bool round_can(const struct round *r, enum crew_state state);
/* Each rival protects a page and takes that back, @cycles times. */
void round_turn(struct round *r, enum crew_state state, int cycles);

#endif
