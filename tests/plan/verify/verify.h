/* SPDX-License-Identifier: BSD-3-Clause */
/* Is a plan right? For tests and fuzzers of the planner, and of what stands on it. */
#ifndef TEST_PLAN_VERIFY_H
#define TEST_PLAN_VERIFY_H

#include "plan/plan.h"

/*
 * The verifier: replays @plan on a model of the kernel with @old slots, and proves that
 *  V1 no operation breaks a rule of the kernel (overlap, ids, what may change in place, limits),
 *  V2 no page backed before and after is unbacked, or shows other memory than before or after, outside
 *     of the critical part; and what is outside of it is early, late or decisive by the rules of plan.h,
 *  V3 the slots at the end are just what the next views say, page by page, over the whole space.
 * Shares no code with the planner but the types and KVM's rules (plan/kvm_rules.h), which kernels are asked to
 * confirm (doc/kernels.md). Linear in the slots. 0, or -EINVAL and the reason.
 */
struct gm_verify_input {
	const struct gm_alloc *alloc;
	uint64_t page_size;
	uint64_t most_slot_size;
	unsigned nr_spaces;
	uint32_t max_slots;	   /* per address space, at any time */
	const struct gm_slot *old; /* in any order */
	size_t nr_old;
	const struct gm_node *const *old_views; /* roots of the views before */
	const struct gm_node *const *views;	/* roots of the next views */
};
int gm_plan_verify(const struct gm_plan *plan, const struct gm_verify_input *in,
		   struct gm_msg *msg);

#endif
