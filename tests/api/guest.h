/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Guests that store, load, add, fetch and walk in pages that are always backed, and check what they find. All
 * that they did is counted, so that it can be told in the end whether something was lost.
 */
#ifndef GM_TESTS_API_GUEST_H
#define GM_TESTS_API_GUEST_H

#include "common.h"

enum { RAM = 1, PLAIN, MOVER };

#define STEPS_PER_RUN 200

/* Pages of the guest. */
#define RAM_AT 0       /* 32 pages of ram, always */
#define WINDOW_AT 8    /* 8 of them are read-only at times */
#define PLAIN_RO_AT 64 /* 16 pages, read-only at times */
#define PLAIN_RW_AT 80 /* 16 pages */
#define MOVER_AT 128   /* 16 pages, at this or one of the next 4 */
#define HOTPLUG_AT 200
#define PAGES 256

extern uint8_t *ram_hva[3], *plain_hva[2], *mover_hva; /* the same memory at each address */

struct guest {
	unsigned id;
	struct random random;
	unsigned steps;
	/* The next access; kept until it's done. */
	bool chosen;
	unsigned kind;
	uint64_t page;
	/* What it has done. */
	uint64_t stored[PAGES];
	uint64_t added[PAGES];
	uint64_t ops;
	uint64_t wrong;
};

/* The set-up of a group of tests. */
int guest_memory(void **state);
/* All that guests have stored is 0 again. */
void guest_clear_memory(void);
/* Where a plain page's memory is. */
uint8_t *guest_plain_at(uint64_t page);

/* Are there stores to the page? Else it may be read-only. */
bool guest_may_write(uint64_t page);
/* May the page's first word be @tag? */
bool guest_right_tag(uint64_t page, uint64_t tag);
/* The next page, and what to do there. */
void guest_choose(struct guest *g);
/* One step of a guest. After STEPS_PER_RUN of them it halts. */
int guest_step(struct gpamap_sim_vcpu *vcpu, void *opaque);

#endif
