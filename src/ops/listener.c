/* SPDX-License-Identifier: BSD-3-Clause */
/* Listeners: calling them in order, with their shares of the time; see listener.h. */
#include <errno.h>
#include <string.h>

#include "ops/listener.h"
#include "sync/gate.h"

int gm_listener_new(struct gpamap *map, const struct gpamap_listener_desc *desc,
		    const struct gm_alloc *alloc, struct gpamap_listener **ret)
{
	size_t size = strlen(desc->name) + 1;
	struct gpamap_listener *l = gm_calloc(alloc, 1, sizeof(*l) + size);

	if (!l)
		return -ENOMEM;
	l->map = map;
	l->desc = *desc;
	memcpy(l->name, desc->name, size);
	l->desc.name = l->name;
	*ret = l;
	return 0;
}

void gm_listeners_insert(struct gm_listeners *ls, struct gpamap_listener *l)
{
	struct gpamap_listener *at = ls->last;

	while (at && at->desc.priority > l->desc.priority)
		at = at->prev;
	l->prev = at;
	l->next = at ? at->next : ls->first;
	*(l->next ? &l->next->prev : &ls->last) = l;
	*(at ? &at->next : &ls->first) = l;
}

void gm_listeners_unlink(struct gm_listeners *ls, struct gpamap_listener *l)
{
	*(l->next ? &l->next->prev : &ls->last) = l->prev;
	*(l->prev ? &l->prev->next : &ls->first) = l->next;
	l->next = l->prev = NULL;
}

/* What a callback has answered, as 0 or a negative errno: whoever commits must not take a refusal for anything else,
 * least of all for a broken map. */
static int answer(int r)
{
	return r > 0 || r == -ENOTRECOVERABLE ? -EINVAL : r;
}

int gm_listeners_prepare(struct gm_listeners *ls, const struct gpamap_change *change,
			 const struct gpamap_listener **who)
{
	for (struct gpamap_listener *l = ls->first; l; l = l->next) {
		int err = l->desc.prepare ? answer(l->desc.prepare(l->desc.opaque, change)) : 0;

		if (err) {
			gm_listeners_cancelled(ls);
			*who = l;
			return err;
		}
		l->prepared = true;
	}
	return 0;
}

/* How many have to be waited for, from @l on? */
static unsigned count_due(const struct gpamap_listener *l)
{
	unsigned n = 0;

	for (; l; l = l->next)
		n += !l->quiesced && l->desc.quiesce;
	return n;
}

/* An equal part of what is left, so that one that takes all of its own leaves the others theirs. */
static uint64_t share(uint64_t deadline_ns, unsigned due)
{
	uint64_t now = gm_now_ns();

	return now < deadline_ns ? now + (deadline_ns - now) / due : now;
}

int gm_listeners_quiesce(struct gm_listeners *ls, uint64_t deadline_ns,
			 const struct gpamap_listener **who)
{
	unsigned due = count_due(ls->first);

	for (struct gpamap_listener *l = ls->first; l; l = l->next) {
		if (l->quiesced)
			continue;
		if (l->desc.quiesce) {
			int err =
				answer(l->desc.quiesce(l->desc.opaque, share(deadline_ns, due--)));

			if (err) {
				*who = l;
				return err;
			}
		}
		l->quiesced = true;
	}
	return 0;
}

void gm_listeners_resume(struct gm_listeners *ls, bool changed)
{
	for (struct gpamap_listener *l = ls->last; l; l = l->prev) {
		if (l->quiesced && l->desc.resume)
			l->desc.resume(l->desc.opaque, changed);
		l->quiesced = false;
	}
}

void gm_listeners_applied(struct gm_listeners *ls, const struct gpamap_change *change)
{
	for (struct gpamap_listener *l = ls->last; l; l = l->prev) {
		if (l->prepared && l->desc.applied)
			l->desc.applied(l->desc.opaque, change);
		l->prepared = false;
	}
}

void gm_listeners_cancelled(struct gm_listeners *ls)
{
	for (struct gpamap_listener *l = ls->last; l; l = l->prev) {
		if (l->prepared && l->desc.cancelled)
			l->desc.cancelled(l->desc.opaque);
		l->prepared = false;
	}
}
