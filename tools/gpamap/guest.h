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
	HAZARD_ITS, /* not one of `all`: few hosts can have it. See its.h */
	HAZARD_COUNT,
};

/* How a guest uses a page of its window. */
enum page_kind {
	PAGE_GAP, /* to ask only (see ask.h): edits may take it away */
	PAGE_RW,
	PAGE_RO,   /* to read, and to ask: edits may write-protect it */
	PAGE_SIGN, /* to read, and to ask: edits may put one memory there or another */
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

/* Of each vCPU one, from this one on: the guest stores it in pages that it asks. */
#define OWN_WORD 320u

/* Stands in CONST_WORD of every page, never written. As a page-table entry it is not present. */
#define CONST_VALUE UINT64_C(0x67617061c0de5ec8)
/* Stands there instead in memory that edits exchange for another. Neither is this one present. */
#define OTHER_VALUE UINT64_C(0x6f74686572de5ec8)
/* What the host answers to a load where there's no memory. */
#define ABSENT UINT64_MAX
/* The first word of page-table target t is this plus t. */
#define TARGET_VALUE UINT64_C(0x7461726765740000)
#define TARGET_PAGES 16u
/* Page-table entries that one step walks through. */
#define WALKS_PER_STEP 8u
/* Pages that are on show in the edit `instant`, and the places of each; see look.h. */
#define SHOW_PAGES 8u
#define SHOW_PLACES 4u
#define SHOW_MOVED UINT64_C(0x6d6f766564706167)
#define SHOW_NUMBER UINT64_C(0x6e75000000000000) /* plus the generation */
/* What guest_blob computes with. */
#define BLOB_KEY UINT64_C(0x9e3779b97f4a7c15)
#define BLOB_ROUNDS 8u

enum look_stage { LOOK_FIRST, LOOK_BETWEEN, LOOK_AGAIN };

/* A guest's look at two of the pages on show. */
struct look {
	uint64_t count;	     /* of looks begun */
	uint64_t floor;	     /* a generation that there was before: LK3, LK4 */
	uint64_t generation; /* that the first page shows, or may show */
	uint64_t between;    /* what was read from the other page */
	uint32_t stage;	     /* enum look_stage */
	uint32_t page;
	uint32_t other;
	uint32_t ahead; /* look for the other page at its next place */
};

#define ASK_NONE (WINDOW_PAGES + SHOW_PAGES)

/* What the host tells a vCPU, see ask.h. */
struct told {
	uint64_t count; /* odd while a commit is under way */
	uint64_t
		page; /* that it has changed: of the window; from WINDOW_PAGES on, on show; or ASK_NONE */
	uint64_t memory;     /* what its CONST_WORD is, or ABSENT */
	uint64_t writable;   /* stores arrive there */
	uint64_t generation; /* on show; no older one is any more, see look.h */
};

/* The accesses by which a page is asked, in this order. */
enum ask_stage { ASK_MEMORY, ASK_BEFORE, ASK_STORE, ASK_AFTER, ASK_STAGES };

/* A guest that asks a page. */
struct ask {
	uint64_t count; /* this and the next four: as in struct told */
	uint64_t page;
	uint64_t memory;
	uint64_t writable;
	uint64_t generation;
	uint64_t value;		  /* that it stores */
	uint64_t got[ASK_STAGES]; /* what it has read */
	uint32_t stage;		  /* enum ask_stage */
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
	uint64_t own_word;
	uint64_t vcpu;	  /* its number */
	uint64_t its;	  /* where struct its_ctl is, as the guest addresses it; see its.h */
	struct told told; /* by the host while the guest runs */
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
	struct ask ask;
	uint64_t asks; /* that told something */
	struct look look;
	uint64_t seen;	/* the newest generation seen; others read it */
	uint64_t looks; /* that told something */
	uint64_t mixes; /* of generations */
	uint64_t its_begun;
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
