/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * KVM's rules for memory slots, once: for the planner, the verifier, the backends and the simulated VM. Pure.
 *
 * A request is told by the slot that has its id now: none, CREATE; size 0, DELETE; another GPA, MOVE; another LOG,
 * FLAGS; no difference, nothing. What each may do, and what it leaves behind when it is refused, is a table in
 * kvm_rules.c. Facts (K1 ...) are those of doc/kernels.md.
 */
#ifndef GM_PLAN_KVM_RULES_H
#define GM_PLAN_KVM_RULES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/msg.h"
#include "plan/plan.h"

/* A limit that is not known: KVM is left to refuse what is beyond it. */
#define GM_NO_LIMIT UINT64_MAX
/* No slot of KVM's has more pages (K4). */
#define GM_KVM_MAX_SLOT_PAGES ((UINT64_C(1) << 31) - 1)

/* What one VM can have. */
struct gm_kvm_limits {
	uint64_t page_size;
	uint64_t last_gpa; /* the greatest GPA that a slot may have; or GM_NO_LIMIT */
	uint64_t last_hva; /* of user space; or GM_NO_LIMIT */
	uint64_t max_slot_pages;
	uint32_t nr_slots; /* per address space */
	unsigned nr_spaces;
	bool readonly_mem;
	bool guest_memfd;
	bool log; /* false: the VM has a dirty ring, so there are no logs to be read */
};

/* What an operation is and does. */
struct gm_rule {
	const char *name;
	bool new_gpa;	  /* it may change the slot's GPA; of a create, it gives it one */
	bool new_log;	  /* it may change LOG */
	bool takes_range; /* its range must be free: no slot may be there but the one that it changes */
	bool frees_range; /* what it is done to is not there afterwards */
	bool guest_memfd; /* it can be done to a slot with a guest_memfd */
	/* Done: the slot is INVALID, and its old place not backed, for a while before the operation is over. */
	bool invalid;
	/*
	 * Refused: a guest may have noticed. The slot has been INVALID and all that was mapped of it was dropped;
	 * then it is as before. Without it a refused operation leaves nothing.
	 */
	bool leaves_trace;
	bool loses_log;	    /* Done: dirty bits that have not been read are gone */
	const char *kernel; /* the kernel's functions that this rests on */
	const char *facts;  /* ... and the facts that test it */
};

/* NULL: there is no such kind. */
const struct gm_rule *gm_rule_of(enum gm_op_kind kind);

/* Why no kernel could have @s, whatever its limits, numbers and other slots are; NULL: one could. */
const char *gm_rules_why_no_slot(uint64_t page_size, const struct gm_slot *s);
/*
 * Could a VM with these limits have @s? Its id is looked at only as a number. If not: the errno, and which limit:
 * -ERANGE: beyond an address, a number or a size that KVM has. -EINVAL: not made of whole pages, or flags that
 * don't go together. -ENOTSUP: something that this VM has not got.
 */
int gm_rules_check_slot(const struct gm_kvm_limits *limits, const struct gm_slot *s,
			struct gm_msg *msg);

/*
 * Is it impossible for KVM to have both at a time, whatever their ids? They overlap in one address space, or share
 * pages of a guest_memfd, which are in one slot at a time, of all address spaces.
 */
bool gm_rules_clash(const struct gm_slot *a, const struct gm_slot *b);
/* The second half of it alone. */
bool gm_rules_share_guest_memfd(const struct gm_slot *a, const struct gm_slot *b);

/* Why @from can't become @to in place, by one request; NULL: it can. Other slots are not looked at. */
const char *gm_rules_why_not_in_place(const struct gm_slot *from, const struct gm_slot *to);
/* What KVM takes a request for @to as, if @from has its id: GM_OP_MOVE or GM_OP_FLAGS, or 0 where nothing differs.
 * pre: gm_rules_why_not_in_place() is NULL. */
enum gm_op_kind gm_rules_tell(const struct gm_slot *from, const struct gm_slot *to);

/* What the errno (negative, as operations return it) of an operation that KVM refused most likely means, to be added
 * to a message; "": nothing more than the errno says. Never NULL. */
const char *gm_rules_explain(enum gm_op_kind kind, int err);

#endif
