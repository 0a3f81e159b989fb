/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The planner: old slots + next flat view -> slot operations, each early, critical or late. Pure.
 *
 * What it decides, and why:
 *  - Only slots that overlap a window (a range that an edit touched) are looked at.
 *  - A slot all of whose pages show the same memory in the next view stays. If only LOG differs, and on
 *    the whole slot, that is one FLAGS operation in place. If only region or group differ, the table's entry
 *    is changed, without an operation.
 *  - Any other touched slot goes. What the next view has there and no slot that stays covers is created:
 *    the pieces of a split, the part that is new of a slot that grows (which itself stays).
 *  - Created slots are cut at multiples of the greatest slot size, and where memory, flags, region or
 *    group change. Bytes of memory that don't fill a page get no slot.
 *  - Each operation has a phase, by what would be seen if the commit failed after it, or if it failed itself:
 *
 *      early      It can be taken back, and nobody notices: a create at addresses where the old view has
 *                 nothing at all, and LOG on.
 *      late       It can stay undone for a while, and does no harm: a delete where the next view has nothing
 *                 at all, of memory that is not given back before its release callback was called; LOG off.
 *      critical   All else, behind the gate, where whatever fails is taken back before anybody looks.
 *
 *    Critical are, so: what overlaps, because a range that goes meets one that comes, in guest addresses or in
 *    pages of a guest_memfd (KVM has a page of it in one slot at a time); the delete of a slot that logs, whose
 *    last dirty bits can be read only when no vCPU writes (P4); moves, since KVM makes a slot invalid before
 *    it refuses to move it; and decisive operations, see next. With one_instant all are.
 *  - An operation is decisive if neither taking it back nor leaving it undone would pass unnoticed: the create
 *    of memory over a device or a mapping that traps, the delete of memory below which such a thing comes to
 *    light, the delete of memory whose owner frees it when the commit returns. If a plan has nothing critical
 *    but one decisive operation, the gate need not be shut for it: it is the last of the early ones. Either
 *    it fails and has changed nothing, or the commit can't fail any more.
 *  - In the critical part deletes come first, then moves, then creates, then flags. A move is used where it
 *    does in one operation what would be two critical ones.
 *  - Ids are reused; those that a late operation frees are not used before. When ids run short, memory that goes
 *    to another place moves there; pieces that could be one slot are merged again, the oldest first; slots may be
 *    larger, by doubling, than they are otherwise; and what fits only once something is deleted becomes critical,
 *    with what makes room for it. If that doesn't help: -ENOSPC. Then the least number of slots is too large, but for
 *    those of a guest_memfd, which are never merged.
 */
#ifndef GM_PLAN_PLAN_H
#define GM_PLAN_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/alloc.h"
#include "base/msg.h"
#include "map/windows.h"
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
	bool decisive;		/* the last early operation is; then nothing is critical */
	uint32_t merged;	/* slots fewer by merging */
	struct gm_plan_id *ids; /* the planner's own, until accept or reject */
	size_t nr_ids;
	size_t ids_room;
};

struct gm_plan_input {
	const struct gm_alloc *alloc;
	uint64_t page_size;
	uint64_t max_slot_size;	 /* of what is created, unless ids run short; a power of two */
	uint64_t most_slot_size; /* of any slot; not less, and a power of two */
	bool one_instant;
	uint64_t stamp; /* of this commit, for new slots */
	unsigned nr_spaces;
	/* Per address space: */
	struct gm_slots *slots;			/* as the kernel has them */
	const struct gm_node *const *old_views; /* roots of the flat views as they are */
	const struct gm_node *const *views;	/* and of the next ones */
	struct gm_windows *windows; /* normalised; where the next view may differ from the slots */
};

void gm_plan_init(struct gm_plan *plan, const struct gm_alloc *alloc);
void gm_plan_destroy(struct gm_plan *plan);

/*
 * Make the plan and, in the working version of each slots tree, the next table; ids are taken for what is
 * created. Then, one of:
 *   gm_plan_accept(): the operations are done: the tables become the committed ones, ids that went are
 *                     free again.
 *   gm_plan_reject(): none are done, or all are undone: tables and ids as before.
 * Both can't fail. -ENOMEM, -ENOSPC, -EPERM (read-only guest_memfd), -EBUSY (a page of a guest_memfd shown
 * twice): rejected already. pre: the trees are not edited.
 */
int gm_plan_make(struct gm_plan *plan, const struct gm_plan_input *in, struct gm_msg *msg);
void gm_plan_accept(struct gm_plan *plan, const struct gm_plan_input *in);
void gm_plan_reject(struct gm_plan *plan, const struct gm_plan_input *in);

#endif
