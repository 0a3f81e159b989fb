/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The judge of dirty pages. It looks at some words of pages, chosen anew each time, and again before a fetch: a page that
 * is not as it was has been written by the guest in between, so it must be among those that were fetched.
 */
#ifndef JUDGE_DIRTY_H
#define JUDGE_DIRTY_H

#include "strategy.h"

#define DIRTY_SAMPLES 4096u
#define DIRTY_WORDS 8u

struct dirty {
	size_t page[DIRTY_SAMPLES];
	uint64_t word[DIRTY_SAMPLES][DIRTY_WORDS];
	uint64_t seen;	/* pages that were fetched */
	uint64_t known; /* pages that were known to be written */
	uint64_t lost;	/* those that were not fetched */
};

/* Logging is on, and all fetched until now is forgotten. */
void dirty_begin(struct dirty *d, struct boot *b, uint64_t *random);
/* Fetch, and compare; then begin anew. 0 or the strategy's -errno. */
int dirty_fetch(struct dirty *d, struct boot *b, uint64_t *random);

#endif
