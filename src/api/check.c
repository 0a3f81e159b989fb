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
	struct gm_range all = {0, UINT64_MAX};

	gm_tree_for_each (node, slots->tree.base, all) {
		if (!gm_slot_of(node)->missing)
			return gm_slot_of(node);
	}
	return NULL;
}

static bool is_unknown(const struct gm_commit *c, const struct gm_op *op)
{
	return op->kind == GM_OP_CREATE &&
	       !gm_ids_is_known(&c->m->slots[op->to.space].ids, op->to.id);
}

static int check_ids_of(struct gm_commit *c, unsigned space, uint32_t *ids)
{
	struct gm_slots *slots = &c->m->slots[space];
	struct gm_backend *b = c->m->backend;
	uint32_t taken = 0;
	size_t n = 0;
	int err;

	for (size_t i = 0; i < c->plan.n; i++) {
		const struct gm_op *op = &c->plan.ops[i];

		if (is_unknown(c, op) && op->to.space == space)
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
 */
static int check_ids(struct gm_commit *c)
{
	struct gpamap *m = c->m;
	uint32_t *ids;
	size_t n = 0;
	int err = 0;

	for (size_t i = 0; i < c->plan.n; i++)
		n += is_unknown(c, &c->plan.ops[i]);
	if (!n)
		return 0;
	ids = gm_calloc(&m->alloc, n, sizeof(*ids));
	if (!ids)
		return -ENOMEM;
	for (unsigned i = 0; !err && i < m->nr_spaces; i++)
		err = check_ids_of(c, i, ids);
	gm_free(&m->alloc, ids);
	return err;
}

int gm_commit_check(struct gm_commit *c)
{
	int err = check_limits(c);

	return err ? err : check_ids(c);
}
