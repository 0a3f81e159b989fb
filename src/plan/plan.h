/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The planner: old slots + next flat view -> slot operations, each early, critical or late. Pure.
 *
 * What it decides, and why:
 *  - Only slots that overlap a window (a range that an edit touched) are looked at.
 *  - A slot all of whose pages show the same memory in the next view stays. If only LOG differs, and on
 *    the whole slot, that is one FLAGS operation in place: on is early, off is late. If only region or
 *    group differ, the table's entry is changed, without an operation.
 *  - Any other touched slot goes. What the next view has there and no slot that stays covers is created:
 *    the pieces of a split, the part that is new of a slot that grows (which itself stays).
 *  - Created slots are cut at multiples of the greatest slot size, and where memory, flags, region or
 *    group change. Bytes of memory that don't fill a page get no slot.
 *  - A slot that goes and one that comes with the same size, memory and flags elsewhere are one MOVE, if
 *    nothing that is still there at that time is in the way.
 *  - An operation is critical if a range that goes (delete, source of a move) overlaps one that comes
 *    (create, target of a move), or if it deletes or moves a slot that logs: its last dirty bits can be read
 *    only when no vCPU writes, and a processor may still hold some by their old GPA (P4). Of the others, creates are early, moves and deletes late: memory does not
 *    vanish from where a guest may be using it while the commit can still fail or time out. With
 *    one_instant all are critical.
 *  - In the critical part deletes come first, then moves, then creates, then flags.
 *  - Ids are reused; those that a late operation frees are not used before. When ids run short, pieces
 *    that could be one slot are merged again, the oldest first; and what fits only once something is
 *    deleted becomes critical, with what makes room for it. If that doesn't help: -ENOSPC.
 */
#ifndef GM_PLAN_PLAN_H
#define GM_PLAN_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/alloc.h"
#include "base/msg.h"
#include "plan/slot.h"

enum gm_op_kind { GM_OP_CREATE = 1, GM_OP_DELETE, GM_OP_MOVE, GM_OP_FLAGS };
enum gm_phase { GM_EARLY = 1, GM_CRITICAL, GM_LATE };

struct gm_op {
	enum gm_phase phase;
	enum gm_op_kind kind;
	struct gm_slot from; /* delete, move, flags: the slot as it is */
	struct gm_slot to;   /* create, move, flags: as it will be */
};

/* An id that changes hands with a plan: taken by it and free before, or free after it and taken before. */
struct gm_plan_id {
	uint32_t space;
	uint32_t id;
	bool fresh;
};

/* Operations in the order in which they are to be done: early, critical, late. They hold no references:
 * after accept or reject, the regions that they name may be gone. */
struct gm_plan {
	const struct gm_alloc *alloc;
	struct gm_op *ops;
	size_t n;
	size_t room;
	size_t nr_early;
	size_t nr_critical;
	size_t nr_late;
	uint32_t merged;	/* slots fewer by merging */
	struct gm_plan_id *ids; /* the planner's own, until accept or reject */
	size_t nr_ids;
	size_t ids_room;
};

struct gm_plan_input {
	const struct gm_alloc *alloc;
	uint64_t page_size;
	uint64_t max_slot_size;
	bool one_instant;
	uint64_t stamp; /* of this commit, for new slots */
	unsigned nr_spaces;
	/* Per address space: */
	struct gm_slots *slots;		    /* as the kernel has them */
	const struct gm_node *const *views; /* roots of the next flat views */
	struct gm_windows *windows; /* normalised; where the view may differ from the slots */
	/* Slots that a failed undo left in the kernel and no table has; deleted first, in the critical
	 * part. */
	const struct gm_slot *strays;
	size_t nr_strays;
};

void gm_plan_init(struct gm_plan *plan, const struct gm_alloc *alloc);
void gm_plan_destroy(struct gm_plan *plan);

/*
 * Make the plan and, in the working version of each slots tree, the next table; ids are taken for what is
 * created. Slots of the table that are `missing` are replaced without a delete. Then, one of:
 *   gm_plan_accept(): the operations are done: the tables become the committed ones, ids that went are
 *                     free again.
 *   gm_plan_reject(): none are done, or all are undone: tables and ids as before.
 * Both can't fail. -ENOMEM, -ENOSPC, -EPERM (read-only guest_memfd): rejected already.
 * pre: `missing` slots are in windows; the trees are not edited.
 */
int gm_plan_make(struct gm_plan *plan, const struct gm_plan_input *in, struct gm_msg *msg);
void gm_plan_accept(struct gm_plan *plan, const struct gm_plan_input *in);
void gm_plan_reject(struct gm_plan *plan, const struct gm_plan_input *in);

#endif
