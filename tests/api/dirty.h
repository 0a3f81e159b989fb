/* SPDX-License-Identifier: BSD-3-Clause */
/* A logged region that is shown in several places, and random changes of them, for the tests of dirty pages. */
#ifndef GM_TESTS_API_DIRTY_H
#define GM_TESTS_API_DIRTY_H

#include "common.h"

enum { LOGGED = 1, OTHER };

#define PAGES 64 /* of the logged region */
#define GPAS 160

extern uint8_t *memory, *memory_again; /* of the region, at two addresses */

struct dirty {
	struct vm vm;
	struct random random;
	struct gpamap_region *logged;
	struct gpamap_region *whole;  /* an alias of all of it, somewhere */
	struct gpamap_region *window; /* an alias of a part */
	struct gpamap_region *screen; /* a read-only one */
	unsigned faults;
	unsigned repairs;
};

/* The set-up of a group of tests. */
int dirty_memory(void **state);
void dirty_open(struct dirty *d, const char *name, uint64_t seed);
void dirty_close(struct dirty *d);
/* Must succeed. */
void dirty_commit(struct gpamap_txn *txn);
/* Some edits, and a commit that fails at times; in the end it, or another one, has succeeded. */
void dirty_change(struct dirty *d, bool faults);
/* No more rules of the fault plan. */
void dirty_disarm(struct dirty *d);
/* The bits of all pages. */
uint64_t dirty_fetch_all(struct dirty *d);

#endif
