/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * KVM's rules as data.
 *
 * They stand in the kernel's kvm_set_memory_region() (what a request is, and what is refused before anything is
 * done), kvm_set_memslot() (in which order a slot is changed) and kvm_arch_prepare_memory_region() (an
 * architecture's own limits). Two things of that order matter most:
 *
 *  - A request is compared with the slot that has its id before it is compared with other slots. So one for an
 *    id that is in use is never EEXIST, unless it is a MOVE.
 *  - The architecture is asked last: for MOVE and DELETE that is when the slot is INVALID already. Of these, only
 *    MOVE is refused there on x86 and arm64 (the greatest GPA; KVMGT). DELETE can only fail before that, for
 *    want of memory.
 */
#include <errno.h>
#include <stddef.h>

#include "plan/kvm_rules.h"

static const struct gm_rule rules[] = {
	[GM_OP_CREATE] =
		{
			.name = "create",
			.new_gpa = true,
			.takes_range = true,
			.guest_memfd = true,
			.kernel = "kvm_set_memory_region, kvm_check_memslot_overlap, kvm_gmem_bind",
			.facts = "K1 K3 K4 K5 K6 K7 K8 K15",
		},
	[GM_OP_DELETE] =
		{
			.name = "delete",
			.frees_range = true,
			.guest_memfd = true,
			.invalid = true,
			.loses_log = true,
			.kernel =
				"kvm_set_memory_region, kvm_invalidate_memslot, kvm_delete_memslot",
			.facts = "K9 K10",
		},
	[GM_OP_MOVE] =
		{
			.name = "move",
			.new_gpa = true,
			.new_log = true,
			.takes_range = true,
			.frees_range = true,
			.invalid = true,
			.leaves_trace = true,
			.kernel =
				"kvm_set_memory_region, kvm_invalidate_memslot, kvm_move_memslot, "
				"kvm_arch_prepare_memory_region",
			.facts = "K2 K12 K13",
		},
	[GM_OP_FLAGS] =
		{
			.name = "set the flags of",
			.new_log = true,
			.kernel = "kvm_set_memory_region, kvm_update_flags_memslot",
			.facts = "K2 K11",
		},
};

const struct gm_rule *gm_rule_of(enum gm_op_kind kind)
{
	return kind >= GM_OP_CREATE && kind <= GM_OP_FLAGS ? &rules[kind] : NULL;
}

/* ---------------------------------------------------------------------------------- limits --- */

const char *gm_rules_why_no_slot(uint64_t page_size, const struct gm_slot *s)
{
	uint64_t mask = page_size - 1, past = s->gpa.last - s->gpa.first;
	bool gmem = s->flags & GM_SLOT_GUEST_MEMFD;

	if (s->gpa.first > s->gpa.last || (s->gpa.first & mask) || (~s->gpa.last & mask))
		return "it is not made of whole pages";
	if ((s->hva & mask) || s->hva > UINT64_MAX - past)
		return "its memory is misaligned or wraps";
	if (gmem && ((s->gmem_offset & mask) || s->gmem_offset > UINT64_MAX - past))
		return "its offset in the guest_memfd is misaligned or wraps";
	if (s->flags & ~(uint32_t)(GM_SLOT_READONLY | GM_SLOT_LOG | GM_SLOT_GUEST_MEMFD))
		return "it has an unknown flag";
	if (gmem && s->flags != GM_SLOT_GUEST_MEMFD)
		return "guest_memfd goes with no other flag: neither read-only nor a dirty log";
	return NULL;
}

static int check_had(const struct gm_kvm_limits *l, const struct gm_slot *s, struct gm_msg *msg)
{
	unsigned long long gpa = s->gpa.first;

	if ((s->flags & GM_SLOT_READONLY) && !l->readonly_mem)
		return gm_fail(msg, -ENOTSUP, "read-only memory at 0x%llx: this KVM has none", gpa);
	if ((s->flags & GM_SLOT_GUEST_MEMFD) && !l->guest_memfd)
		return gm_fail(msg, -ENOTSUP, "guest_memfd at 0x%llx: this VM has none", gpa);
	if ((s->flags & GM_SLOT_LOG) && !l->log)
		return gm_fail(msg, -ENOTSUP,
			       "dirty log at 0x%llx: this VM has a dirty ring, and no log", gpa);
	return 0;
}

static int check_addresses(const struct gm_kvm_limits *l, const struct gm_slot *s,
			   struct gm_msg *msg)
{
	uint64_t past = s->gpa.last - s->gpa.first;
	unsigned long long gpa = s->gpa.first, last = s->gpa.last;

	/* KVM adds the size to the GPA, and takes the 0 that comes out here for a range that wraps. */
	if (s->gpa.last == UINT64_MAX)
		return gm_fail(msg, -ERANGE,
			       "memory at 0x%llx ends at 2^64: KVM has none in the last page", gpa);
	if (s->gpa.last > l->last_gpa)
		return gm_fail(
			msg, -ERANGE,
			"memory at 0x%llx ends at 0x%llx: the VM's greatest address is 0x%llx", gpa,
			last, (unsigned long long)l->last_gpa);
	if (past / l->page_size >= l->max_slot_pages)
		return gm_fail(msg, -ERANGE, "memory at 0x%llx is more than 0x%llx pages", gpa,
			       (unsigned long long)l->max_slot_pages);
	if (s->hva + past > l->last_hva)
		return gm_fail(
			msg, -ERANGE,
			"memory for 0x%llx is at 0x%llx to 0x%llx of the host: beyond user space",
			gpa, (unsigned long long)s->hva, (unsigned long long)(s->hva + past));
	return 0;
}

int gm_rules_check_slot(const struct gm_kvm_limits *limits, const struct gm_slot *s,
			struct gm_msg *msg)
{
	const char *why = gm_rules_why_no_slot(limits->page_size, s);
	int err;

	if (why)
		return gm_fail(msg, -EINVAL, "memory at 0x%llx: %s",
			       (unsigned long long)s->gpa.first, why);
	if (s->space >= limits->nr_spaces)
		return gm_fail(msg, -ERANGE, "there is no address space %u", s->space);
	if (s->id >= limits->nr_slots)
		return gm_fail(msg, -ERANGE, "slot %u: KVM has %u in each address space", s->id,
			       limits->nr_slots);
	err = check_had(limits, s, msg);
	if (!err)
		err = check_addresses(limits, s, msg);
	return err;
}

/* ------------------------------------------------------------------------------- two slots --- */

bool gm_rules_share_guest_memfd(const struct gm_slot *a, const struct gm_slot *b)
{
	if (!(a->flags & b->flags & GM_SLOT_GUEST_MEMFD) || a->gmem_fd != b->gmem_fd)
		return false;
	return a->gmem_offset < b->gmem_offset
		       ? b->gmem_offset - a->gmem_offset <= a->gpa.last - a->gpa.first
		       : a->gmem_offset - b->gmem_offset <= b->gpa.last - b->gpa.first;
}

bool gm_rules_clash(const struct gm_slot *a, const struct gm_slot *b)
{
	return (a->space == b->space && gm_range_overlap(a->gpa, b->gpa)) ||
	       gm_rules_share_guest_memfd(a, b);
}

const char *gm_rules_why_not_in_place(const struct gm_slot *from, const struct gm_slot *to)
{
	if (from->space != to->space || from->id != to->id)
		return "it would be another slot";
	if ((from->flags | to->flags) & GM_SLOT_GUEST_MEMFD)
		return "a guest_memfd slot can't change";
	if (from->hva != to->hva ||
	    from->gpa.last - from->gpa.first != to->gpa.last - to->gpa.first)
		return "memory and size can't change in place";
	if ((from->flags ^ to->flags) & ~(uint32_t)GM_SLOT_LOG)
		return "only LOG can change in place";
	return NULL;
}

enum gm_op_kind gm_rules_tell(const struct gm_slot *from, const struct gm_slot *to)
{
	if (from->gpa.first != to->gpa.first)
		return GM_OP_MOVE;
	return from->flags != to->flags ? GM_OP_FLAGS : (enum gm_op_kind)0;
}

/* ----------------------------------------------------------------------------------- errnos --- */

struct hint {
	int err;
	enum gm_op_kind kind; /* 0: any */
	const char *text;
};

/* The first that fits is told. */
static const struct hint hints[] = {
	{EEXIST, 0,
	 "another slot is there: not this map's, or one of KVM's own (x86: TSS, identity map, APIC "
	 "page); or its "
	 "guest_memfd is bound there"},
	{EINVAL, GM_OP_CREATE,
	 "somebody else may use the id (gpamap_reserve_slots()), its address be beyond the VM's, "
	 "or its "
	 "guest_memfd not the VM's, or bound"},
	{EINVAL, GM_OP_DELETE, "somebody else has deleted it"},
	{EINVAL, GM_OP_MOVE,
	 "its address may be beyond the VM's, somebody else have changed it, or KVMGT forbid "
	 "moves"},
	{EINVAL, GM_OP_FLAGS, "somebody else has changed the slot"},
	{EFAULT, 0, "its address is beyond what the VM has"},
	{ENOMEM, 0,
	 "no memory, or none left in the memory cgroup, for the kernel's own data of the slot"},
	{EBADF, 0, "its guest_memfd is not open"},
	{EPERM, 0, "a protected VM does not have its slots changed so"},
	{EIO, 0,
	 "the VM belongs to another process, or KVM has given it up after a fault of its own"},
	{ENOTTY, 0, "the fd is not the VM's any more"},
};

const char *gm_rules_explain(enum gm_op_kind kind, int err)
{
	for (size_t i = 0; i < sizeof(hints) / sizeof(hints[0]); i++) {
		if (hints[i].err == -err && (!hints[i].kind || hints[i].kind == kind))
			return hints[i].text;
	}
	return "";
}
