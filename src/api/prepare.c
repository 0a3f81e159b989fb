/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The part of a commit that touches nothing: flatten the windows that edits touched, plan, and allocate all
 * that the execution will need, so that from its first ioctl on only an ioctl or the gate can fail.
 */
#include <errno.h>

#include "api/impl.h"
#include "ops/change.h"
#include "ops/dirty.h"

/* In a broken map the views and the slots differ where an undo failed: let the planner look there. */
static int add_wreck(struct gpamap *m)
{
	struct gm_range all = {0, UINT64_MAX};

	for (unsigned i = 0; i < m->nr_spaces; i++) {
		gm_tree_for_each (node, m->slots[i].tree.base, all) {
			if (gm_slot_of(node)->missing &&
			    gm_windows_add(&m->map.spaces[i].windows, node->range))
				return -ENOMEM;
		}
	}
	for (size_t i = 0; i < m->nr_strays; i++) {
		const struct gm_slot *s = &m->strays[i];

		if (gm_windows_add(&m->map.spaces[s->space].windows, s->gpa))
			return -ENOMEM;
	}
	return 0;
}

static int flatten(struct gm_commit *c)
{
	struct gpamap *m = c->m;
	int err = m->broken ? add_wreck(m) : 0;

	c->nothing_to_do = !m->broken;
	for (unsigned i = 0; !err && i < m->nr_spaces; i++) {
		struct gm_windows *w = &m->map.spaces[i].windows;

		gm_windows_normalise(w);
		m->windows[i] = *w;
		if (w->n) {
			c->nothing_to_do = false;
			err = gm_flatten(&m->map, i, w, &m->views[i], NULL, c->msg);
		}
		m->next_roots[i] = m->views[i].root;
	}
	return err;
}

static int plan(struct gm_commit *c, unsigned flags)
{
	struct gpamap *m = c->m;
	int err;

	c->in = (struct gm_plan_input){
		.alloc = &m->alloc,
		.page_size = m->map.page_size,
		.max_slot_size = m->max_slot_size,
		/* In a broken map nothing runs, and strays may hold ids and ranges that others get. Where faults
		 * may block, no vCPU may be inside while an ioctl waits for KVM's SRCU (P6). */
		.one_instant =
			m->broken || m->faults_may_block || (flags & GPAMAP_COMMIT_ONE_INSTANT),
		.stamp = m->stamp + 1,
		.nr_spaces = m->nr_spaces,
		.slots = m->slots,
		.views = m->next_roots,
		.windows = m->windows,
		.strays = m->strays,
		.nr_strays = m->nr_strays,
	};
	err = gm_plan_make(&c->plan, &c->in, c->msg);
	c->planned = !err;
	return err;
}

static int allocate(struct gm_commit *c)
{
	struct gpamap *m = c->m;
	size_t words = 0;

	for (size_t i = 0; i < c->plan.n; i++) {
		const struct gm_op *op = &c->plan.ops[i];
		size_t need = gm_dirty_words(&op->from, m->map.page_size);

		if (op->kind == GM_OP_DELETE && (op->from.flags & GM_SLOT_LOG) && need > words)
			words = need;
	}
	if (words && !(c->scratch = gm_calloc(&m->alloc, words, sizeof(*c->scratch))))
		return -ENOMEM;
	if (m->nr_strays + c->plan.n) {
		c->strays = gm_calloc(&m->alloc, m->nr_strays + c->plan.n, sizeof(*c->strays));
		if (!c->strays)
			return -ENOMEM;
	}
	c->next =
		gm_calloc(&m->alloc, 1, sizeof(*c->next) + m->nr_spaces * sizeof(c->next->root[0]));
	if (!c->next)
		return -ENOMEM;
	c->next->nr_spaces = m->nr_spaces;
	for (unsigned i = 0; i < m->nr_spaces; i++)
		c->next->root[i] = m->next_roots[i];
	return 0;
}

int gm_commit_prepare(struct gm_commit *c, unsigned flags)
{
	struct gpamap *m = c->m;
	int err;

	gm_plan_init(&c->plan, &m->alloc);
	if (flags & ~(unsigned)GPAMAP_COMMIT_ONE_INSTANT)
		return gm_fail(c->msg, -EINVAL, "unknown commit flags 0x%x", flags);
	pthread_mutex_lock(&m->edit);
	err = flatten(c);
	pthread_mutex_unlock(&m->edit);
	if (err || c->nothing_to_do)
		return err;
	err = plan(c, flags);
	if (!err)
		err = gm_commit_check(c);
	if (!err)
		err = allocate(c);
	return err;
}

void gm_commit_cancel(struct gm_commit *c)
{
	struct gpamap *m = c->m;

	if (c->planned)
		gm_plan_reject(&c->plan, &c->in);
	for (unsigned i = 0; i < m->nr_spaces; i++)
		gm_tree_abort(&m->views[i]);
	gm_free(&m->alloc, c->next);
	gm_free(&m->alloc, c->scratch);
	gm_free(&m->alloc, c->strays);
	gm_change_free(c->change);
	gm_plan_destroy(&c->plan);
}
