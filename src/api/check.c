/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The part of a commit that asks whether KVM could do it: limits that can be known are known before the first
 * operation (P3), and no id of somebody else's is touched.
 */
#include <errno.h>
#include <string.h>

#include "api/impl.h"

static int check_limits(struct gm_commit *c)
{
	struct gm_backend *b = c->m->backend;
	bool asked = false;

	for (size_t i = 0; i < c->plan.n; i++) {
		const struct gm_op *op = &c->plan.ops[i];
		int err;

		if (op->kind == GM_OP_DELETE)
			continue;
		if (op->to.flags & GM_SLOT_LOG && !asked) {
			b->caps.limits.log = b->ops->has_log(b);
			asked = true;
		}
		err = gm_rules_check_slot(&b->caps.limits, &op->to, c->msg);
		if (err)
			return err;
	}
	return 0;
}

static const struct gm_slot *any_slot(const struct gm_slots *slots)
{
	const struct gm_node *n = gm_tree_first(slots->tree.base, (struct gm_range){0, UINT64_MAX});

	return n ? gm_slot_of(n) : NULL;
}

static bool is_unknown(const struct gm_commit *c, const struct gm_op *op, enum gm_phase phase)
{
	return op->kind == GM_OP_CREATE && op->phase == phase &&
	       !gm_ids_is_known(&c->m->slots[op->to.space].ids, op->to.id);
}

/* pre: @ids has room for all operations. */
static int check_ids_of(struct gm_commit *c, unsigned space, enum gm_phase phase, uint32_t *ids)
{
	struct gm_slots *slots = &c->m->slots[space];
	struct gm_backend *b = c->m->backend;
	uint32_t taken = 0;
	size_t n = 0;
	int err;

	for (size_t i = 0; i < c->plan.n; i++) {
		const struct gm_op *op = &c->plan.ops[i];

		if (is_unknown(c, op, phase) && op->to.space == space)
			ids[n++] = op->to.id;
	}
	if (!n)
		return 0;
	err = b->ops->ids_free(b, space, ids, n, any_slot(slots), &taken);
	if (err == -EBUSY)
		return gm_fail(
			c->msg, err,
			"slot %u of address space %u is not this map's: another map on this VM, or "
			"one that gpamap_reserve_slots() was not told of",
			taken, space);
	if (err)
		return gm_fail(c->msg, err, "KVM can't be asked whose slot ids are: %s",
			       strerror(-err));
	for (size_t i = 0; i < n; i++)
		gm_ids_set_known(&slots->ids, ids[i]);
	return 0;
}

/*
 * KVM takes a request for an id that is in use as one to change that slot. With the same memory and size it would do
 * it: somebody else's slot would move to where ours should be, and the commit succeed.
 *
 * To ask takes KVM's slot lock, as an operation does. An ioctl of the caller's that is stuck may hold that for ever, and
 * whoever then waits for it is stuck as well. So what is asked for the critical part is asked behind the gate, where no
 * ioctl is inside (P6).
 */
int gm_commit_check_ids(struct gm_commit *c, enum gm_phase phase)
{
	int err = 0;

	for (unsigned i = 0; !err && i < c->m->nr_spaces; i++)
		err = check_ids_of(c, i, phase, c->new_ids);
	return err;
}

int gm_commit_check(struct gm_commit *c)
{
	int err = check_limits(c);

	if (err || !c->plan.n)
		return err;
	c->new_ids = gm_calloc(&c->m->alloc, c->plan.n, sizeof(*c->new_ids));
	if (!c->new_ids)
		return -ENOMEM;
	return gm_commit_check_ids(c, GM_EARLY);
}
