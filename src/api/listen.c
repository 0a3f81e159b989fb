/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Listeners of a map: adding and removing them, and what a commit says to them.
 *
 * All of it happens with slots_lock held; `calling` names the thread that holds it while it is in a listener's
 * callback, so that whoever would wait for the lock there is told instead (A5).
 */
#include <errno.h>
#include <string.h>

#include "api/impl.h"
#include "ops/change.h"

/* ------------------------------------------------------------------- who must not wait --- */

static void calls_begin(struct gpamap *m)
{
	atomic_store(&m->calling, gm_thread_id());
}

static void calls_end(struct gpamap *m)
{
	atomic_store(&m->calling, 0);
}

bool gm_in_callback(struct gpamap *m)
{
	pid_t calling = atomic_load(&m->calling);

	return calling && calling == gm_thread_id();
}

int gm_may_wait(struct gpamap *m, const char *what, struct gm_msg *msg)
{
	if (gm_gate_inside(&m->gate))
		return gm_fail(msg, -EDEADLK, "%s from inside the gate: leave it first", what);
	if (gm_in_callback(m))
		return gm_fail(msg, -EDEADLK, "%s from a listener's callback", what);
	return 0;
}

/* ------------------------------------------------------------------------ in a commit --- */

/* What the commit changes. In a broken map listeners may be quiesced, and wait for the one that repairs it. Otherwise
 * NULL where there is no difference. */
static int find_change(struct gm_commit *c)
{
	struct gpamap *m = c->m;
	int err = 0;

	c->change = gm_change_new(&m->alloc, m->nr_spaces);
	if (!c->change)
		return -ENOMEM;
	for (unsigned i = 0; !err && i < m->nr_spaces; i++) {
		const struct gm_windows *w = &m->windows[i];

		c->change->views[i] = (struct gm_change_views){m->views[i].base, m->views[i].root};
		for (size_t j = 0; !err && j < w->n; j++)
			err = gm_change_add(c->change, i, w->r[j]);
	}
	if (err || (!c->change->n && !m->broken)) {
		gm_change_free(c->change);
		c->change = NULL;
	}
	return err;
}

static int refused(const struct gpamap_listener *who, int err, struct gm_msg *msg)
{
	return gm_fail(msg, err, "listener \"%s\" refuses the change: %s", who->name,
		       strerror(-err));
}

int gm_listen_prepare(struct gm_commit *c)
{
	struct gpamap *m = c->m;
	const struct gpamap_listener *who;
	int err;

	if (!m->listeners.first)
		return 0;
	err = find_change(c);
	if (err || !c->change)
		return err;
	calls_begin(m);
	err = gm_listeners_prepare(&m->listeners, c->change, &who);
	calls_end(m);
	return err ? refused(who, err, c->msg) : 0;
}

/* Accessors are waited for next, and an eighth of what is left is theirs. */
static uint64_t deadline_of_all(const struct gm_commit *c)
{
	uint64_t now = gm_now_ns();

	if (!c->takes_memory || now >= c->deadline_ns)
		return c->deadline_ns;
	return c->deadline_ns - (c->deadline_ns - now) / 8;
}

int gm_listen_quiesce(struct gm_commit *c)
{
	struct gpamap *m = c->m;
	const struct gpamap_listener *who;
	int err;

	if (!c->change)
		return 0;
	calls_begin(m);
	err = gm_listeners_quiesce(&m->listeners, deadline_of_all(c), &who);
	calls_end(m);
	if (err == -ETIMEDOUT) {
		atomic_fetch_add(&m->counters.timeouts, 1);
		c->stuck_listener = who;
		return gm_fail(c->msg, err, "listener \"%s\" did not quiesce within %u ms",
			       who->name, c->timeout_ms);
	}
	return err ? gm_fail(c->msg, err, "listener \"%s\" can't quiesce: %s", who->name,
			     strerror(-err))
		   : 0;
}

void gm_listen_resume(struct gm_commit *c, bool changed)
{
	if (!c->change)
		return;
	calls_begin(c->m);
	gm_listeners_resume(&c->m->listeners, changed);
	calls_end(c->m);
}

void gm_listen_applied(struct gm_commit *c)
{
	if (!c->change)
		return;
	calls_begin(c->m);
	gm_listeners_applied(&c->m->listeners, c->change);
	calls_end(c->m);
}

void gm_listen_cancelled(struct gm_commit *c)
{
	if (!c->change)
		return;
	calls_begin(c->m);
	gm_listeners_cancelled(&c->m->listeners);
	calls_end(c->m);
}

/* ------------------------------------------------------------------- adding, removing --- */

static void drop(struct gpamap *m, struct gpamap_listener *l)
{
	gm_listeners_unlink(&m->listeners, l);
	gm_free(&m->alloc, l);
}

void gm_listen_sweep(struct gpamap *m)
{
	struct gpamap_listener *next;

	for (struct gpamap_listener *l = m->listeners.first; l; l = next) {
		next = l->next;
		if (l->gone)
			drop(m, l);
	}
}

void gm_listen_end(struct gpamap *m)
{
	while (m->listeners.first)
		drop(m, m->listeners.first);
}

/* From nothing to the map as it is. */
static int whole_map(struct gpamap *m, struct gpamap_change **ret)
{
	struct gpamap_change *change = gm_change_new(&m->alloc, m->nr_spaces);
	struct gm_range all = {0, UINT64_MAX};
	int err = change ? 0 : -ENOMEM;

	for (unsigned i = 0; !err && i < m->nr_spaces; i++) {
		change->views[i].after = m->views[i].base;
		err = gm_change_add(change, i, all);
	}
	if (err) {
		gm_change_free(change);
		return err;
	}
	*ret = change;
	return 0;
}

/* Let @l know the map, as though it had just been made. */
static int introduce(struct gpamap *m, struct gpamap_listener *l, struct gm_msg *msg)
{
	struct gm_listeners alone = {0};
	const struct gpamap_listener *who;
	struct gpamap_change *change;
	int err = whole_map(m, &change);

	if (err)
		return err;
	gm_listeners_insert(&alone, l);
	calls_begin(m);
	err = gm_listeners_prepare(&alone, change, &who);
	if (!err)
		gm_listeners_applied(&alone, change);
	calls_end(m);
	gm_listeners_unlink(&alone, l);
	gm_change_free(change);
	return err ? refused(l, err, msg) : 0;
}

static int add(struct gpamap *m, const struct gpamap_listener_desc *desc, struct gm_msg *msg,
	       struct gpamap_listener **ret)
{
	struct gpamap_listener *l;
	int err = gm_may_wait(m, "a listener is added", msg);

	if (err)
		return err;
	if (!desc->name || !desc->name[0])
		return gm_fail(msg, -EINVAL, "a listener needs a name");
	err = gm_listener_new(m, desc, &m->alloc, &l);
	if (err)
		return err;
	gm_slots_lock(m);
	err = introduce(m, l, msg);
	if (!err)
		gm_listeners_insert(&m->listeners, l);
	gm_listen_sweep(m);
	gm_slots_unlock(m);
	if (err) {
		gm_free(&m->alloc, l);
		return err;
	}
	*ret = l;
	return 0;
}

int gpamap_listener_add(struct gpamap *m, const struct gpamap_listener_desc *desc,
			struct gpamap_listener **ret)
{
	struct gm_msg msg = {""};
	int cancel, err;

	/* A callback may be a point at which a thread can be cancelled, and would be with the lock held. */
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	err = add(m, desc, &msg, ret);
	pthread_setcancelstate(cancel, NULL);
	return err ? gm_map_fail(m, err, &msg) : 0;
}

void gpamap_listener_remove(struct gpamap_listener *l)
{
	struct gpamap *m;

	if (!l)
		return;
	m = l->map;
	if (gm_in_callback(m)) {
		l->gone = true;
		return;
	}
	gm_slots_lock(m);
	drop(m, l);
	gm_slots_unlock(m);
}
