/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What host and guest agree on: the control block of a vCPU, and what stands where in the pages of its
 * window. The guest's code is in guest.c and what guest_arch.h chooses; sim_guest.c does the same on the
 * simulated VM.
 */
#ifndef TORTURE_GUEST_H
#define TORTURE_GUEST_H

#include <stdint.h>

enum hazard {
	HAZARD_DATA,
	HAZARD_STRING,
	HAZARD_LOCKED,
	HAZARD_STACK,
	HAZARD_FETCH,
	HAZARD_PAGETABLE,
	HAZARD_COUNT,
};

/* How a guest uses a page of its window. */
enum page_kind {
	PAGE_GAP, /* not at all: edits may take it away */
	PAGE_RW,
	PAGE_RO, /* reads only: edits may write-protect it */
};

#define GUEST_PAGE 4096u
/* Pages in a window. */
#define WINDOW_PAGES 32u

/* Words of 8 bytes within a page. */
#define WORDS 512u
#define HEAD_WORDS 8u /* the first ones, and as many at the end, are for string and stack */
#define HEAD_WORD 5u  /* of these the one that the stack reaches across a page boundary */
#define COUNT_WORD 32u
#define CONST_WORD 128u
#define CODE_WORD 256u

/* Stands in CONST_WORD of every page, never written. As a page-table entry it is not present. */
#define CONST_VALUE UINT64_C(0x67617061c0de5ec8)
/* The first word of page-table target t is this plus t. */
#define TARGET_VALUE UINT64_C(0x7461726765740000)
#define TARGET_PAGES 16u
/* Page-table entries that one step walks through. */
#define WALKS_PER_STEP 8u
/* Pages that are on show in the edit `instant`, and the places of each; see look.h. */
#define SHOW_PAGES 8u
#define SHOW_PLACES 4u
#define SHOW_ABSENT UINT64_MAX
#define SHOW_MOVED UINT64_C(0x6d6f766564706167)
#define SHOW_NUMBER UINT64_C(0x6e75000000000000) /* plus the generation */
/* What guest_blob computes with. */
#define BLOB_KEY UINT64_C(0x9e3779b97f4a7c15)
#define BLOB_ROUNDS 8u

enum look_stage { LOOK_FIRST, LOOK_BETWEEN, LOOK_AGAIN };

/* A guest's look at two of the pages on show. */
struct look {
	uint64_t count;	     /* of looks begun */
	uint64_t floor;	     /* a generation that this vCPU or its peer had seen before */
	uint64_t generation; /* that the first page shows, or may show */
	uint64_t between;    /* what was read from the other page */
	uint32_t stage;	     /* enum look_stage */
	uint32_t page;
	uint32_t other;
	uint32_t ahead; /* look for the other page at its next place */
};

/*
 * One for each vCPU, in memory that no edit touches. The guest alone writes the second half.
 *
 * Values that a guest stores are a tag of its own in the upper 16 bits and a generation that only grows
 * below: so a word that is older than what was stored last tells of a lost store, and a word without
 * the tag of a wrong read.
 */
struct guest_ctl {
	uint32_t stop; /* by the host while the guest runs */
	uint32_t hazard;
	uint64_t window;   /* where the window is, as the guest addresses it */
	uint64_t walk;	   /* where the page tables in the window map the targets */
	uint64_t doorbell; /* no memory: a store ends the run */
	uint64_t tag;
	uint64_t shows;		   /* are there pages on show? */
	uint64_t show[SHOW_PAGES]; /* where the first place of each is, as the guest addresses it */
	uint64_t peer;		   /* from this control block to another vCPU's, in bytes */
	uint8_t kind[WINDOW_PAGES + 1]; /* enum page_kind; the last is a PAGE_GAP */
	uint8_t id[WINDOW_PAGES];	/* pages that show the same memory have the same id */

	uint64_t ops;	/* steps */
	uint64_t wrong; /* reads that gave what was never there */
	uint64_t lost;	/* stores that a later read did not find */
	uint64_t gen;
	uint64_t page;	/* the next step's */
	uint64_t entry; /* the next page-table entry */
	uint64_t
		count[WINDOW_PAGES]; /* by id: data: the last value stored. locked: how many adds */
	uint64_t last[WINDOW_PAGES]; /* locked: the greatest value seen */
	uint64_t head
		[WINDOW_PAGES]; /* string, stack: the last value stored at the begin of a page */
	uint64_t tail[WINDOW_PAGES]; /* and at its end */
	uint64_t bounce[2 * HEAD_WORDS];
	uint64_t bad_read; /* the last wrong one, for whoever looks into it */
	uint64_t bad_page;
	struct look look;
	uint64_t seen;	/* the newest generation seen; others read it */
	uint64_t looks; /* that told something */
	uint64_t mixes; /* of generations */
};

/* What a call of guest_blob returns. */
static inline uint64_t guest_blob_result(uint64_t x)
{
	uint64_t v = x ^ BLOB_KEY;

	for (uint64_t i = BLOB_ROUNDS; i; i--)
		v = ((v << 13) | (v >> 51)) + i;
	return v;
}

#endif
