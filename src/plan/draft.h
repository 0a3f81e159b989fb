/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The planner's own: the draft of one address space, and the steps that fill it.
 *
 *     classify    old slots, next view -> slots that go, slots that stay, slots that come
 *     moves       which of them overlap; which may go and come as one
 *     bindings    over all spaces: which share pages of a guest_memfd
 *     phases      the phase of each
 *     budget      do they fit into the ids? If not: merge (and classify again), or go critical
 *     number      give out ids
 *
 * Invariants of a draft that is classified:
 *  DR1  gone, kept and come are sorted by GPA. No slot is in both gone and kept, and no two of gone and kept,
 *       and no two of kept and come, overlap.
 *  DR2  Every touched slot is in gone or kept. Whatever the next view backs, in a whole page of the touched
 *       ranges or of a slot that goes, is in kept or come, and nothing else is in come.
 *  DR3  gone[g].mate == c if and only if come[c].mate == g: both are one MOVE.
 */
#ifndef GM_PLAN_DRAFT_H
#define GM_PLAN_DRAFT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "plan/plan.h"

#define GM_NO_MATE SIZE_MAX

/* Memory of the next view that could be one slot. */
struct gm_run {
	struct gm_range range;
	struct gm_seg seg; /* as seen from range.first on */
};

/* A slot that goes or comes. */
struct gm_piece {
	struct gm_slot slot;
	size_t mate;
	enum gm_phase phase; /* of its delete, create or (the same in both) move */
	bool hit; /* it overlaps one of the other sort, or shares pages of a guest_memfd with it */
	bool decisive; /* see plan.h */
	bool last;     /* the one decisive operation, to be done last of the early ones */
};

struct gm_pieces {
	struct gm_piece *p;
	size_t n;
	size_t room;
};

/* A touched slot that stays. */
struct gm_kept {
	struct gm_slot from;
	struct gm_slot to;   /* as the table will have it */
	bool relabel;	     /* another region, offset or group of the same memory: no operation */
	bool flags;	     /* LOG differs: a FLAGS operation */
	enum gm_phase phase; /* of that */
};

struct gm_draft {
	const struct gm_plan_input *in;
	const struct gm_alloc *alloc;
	struct gm_msg *msg;
	unsigned space;
	struct gm_slots *slots;
	const struct gm_node *old_view;
	const struct gm_node *view;
	uint64_t block;		   /* no piece that comes is larger; grows when ids run short */
	struct gm_windows touched; /* ranges to look at, in whole pages */
	struct gm_windows area;	   /* of these, and of what goes, the part that no slot keeps */
	struct gm_pieces gone;
	struct gm_pieces come;
	struct gm_kept *kept;
	size_t nr_kept;
	size_t kept_room;
	uint64_t *forced; /* where slots begin that are to go to be merged; sorted */
	size_t nr_forced;
	size_t forced_room;
	uint32_t merged;
	size_t more_moves; /* to be used although they don't pay, because they need no id */
};

/* draft.c */

/* How many slots the space may have at a time. */
uint32_t gm_draft_capacity(const struct gm_draft *d);
/* The index of the first entry of @p that ends at @gpa or beyond; @p->n: none. */
size_t gm_pieces_from(const struct gm_pieces *p, uint64_t gpa);
/* The order of draft->forced, for qsort() and bsearch(). */
int gm_compare_u64(const void *a, const void *b);
void gm_draft_destroy(struct gm_draft *d);

/* runs.c */

/* The first run of backed memory in @within, clipped to it. False: none is left. */
bool gm_run_find(const struct gm_node *view, struct gm_range within, struct gm_run *ret);
/* The slot that @run would be: no id, no stamp. */
struct gm_slot gm_run_slot(const struct gm_run *run, unsigned space);
/* The whole pages in @r, or, with @outward, those that it touches. False: none. */
bool gm_range_to_pages(struct gm_range r, uint64_t page_size, bool outward, struct gm_range *ret);

/* classify.c */

/* Let what comes have twice the size. False: no slot may be larger. To be classified anew. */
bool gm_draft_widen(struct gm_draft *d);
/* Fill touched, gone, kept, area and come, anew; widened where what comes could never fit otherwise. -ENOMEM, -ENOSPC,
 * -EPERM. */
int gm_draft_classify(struct gm_draft *d);

/* moves.c: mark what overlaps, and pair what could be one move. -ENOMEM. */
int gm_draft_pair(struct gm_draft *d);

/* bindings.c: mark what goes and comes with the same pages of a guest_memfd, in whatever spaces. -ENOMEM; -EBUSY: some
 * would be in two slots. pre: all @n drafts are paired. */
int gm_drafts_bind(struct gm_draft *drafts, unsigned n);

/* phases.c */

/* Settle which pairs are moves, and give each piece and flag its phase. pre: paired, and bound. */
void gm_draft_phase(struct gm_draft *d);
/* If the only critical operation of @n drafts is decisive, and critical for no other reason, let it be the last of
 * the early ones. True: it is. */
bool gm_drafts_decide(struct gm_draft *drafts, unsigned n);

/* budget.c */

/* If more slots are needed than allowed, use moves, and if that isn't enough merge pieces, and if there are none left
 * to be merged widen. *@again: then it is paired anew, to be bound and phased, and relieved again. -ENOMEM, -ENOSPC,
 * -EPERM. pre: phased. */
int gm_draft_relieve(struct gm_draft *d, bool *again);
/* See to it that no more slots than allowed are needed at any time. -ENOSPC. pre: phased. */
int gm_draft_fit(struct gm_draft *d);

/* number.c: give ids to what comes, and write down in @plan which ids change hands. On failure (-ENOMEM) what
 * was taken is written down as well. pre: gm_draft_fit(). */
int gm_draft_number(struct gm_draft *d, struct gm_plan *plan);

/* merge.c: force slots that could be one with a neighbour to go, the oldest first, so that the space has
 * @want slots less if there are as many. *@found: whether there are any. -ENOMEM. */
int gm_draft_merge(struct gm_draft *d, size_t want, bool *found);

#endif
