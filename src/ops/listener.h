/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Listeners: the order in which they are called, and who is due for what. The commit says when.
 *
 * Invariants:
 *  L1  The list is sorted by priority; among equals who was added first comes first.
 *  L2  `prepared` is set while a listener has agreed to a change and has not been told how it ended: one
 *      of applied and cancelled comes for each prepare that succeeded, and only then.
 *  L3  `quiesced` is set from a quiesce that succeeded until resume: one resume comes for each such
 *      quiesce. It outlives the commit where the map is broken.
 *  L4  The list changes between the calls of a commit only.
 */
#ifndef GM_OPS_LISTENER_H
#define GM_OPS_LISTENER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/alloc.h"
#include "gpamap-listener.h"

struct gpamap_listener {
	struct gpamap *map;
	struct gpamap_listener_desc desc;
	struct gpamap_listener *next;
	struct gpamap_listener *prev;
	bool prepared;
	bool quiesced;
	bool gone; /* removed, but still on the list */
	char name[];
};

struct gm_listeners {
	struct gpamap_listener *first;
	struct gpamap_listener *last;
};

/* A listener on no list. Free it with gm_free(). -ENOMEM. */
int gm_listener_new(struct gpamap *map, const struct gpamap_listener_desc *desc,
		    const struct gm_alloc *alloc, struct gpamap_listener **ret);
void gm_listeners_insert(struct gm_listeners *ls, struct gpamap_listener *l); /* L1 */
void gm_listeners_unlink(struct gm_listeners *ls, struct gpamap_listener *l);

/* Ask all, in order. If one refuses, those before it are told that it is cancelled, *@who is set, and its errno is
 * returned. */
int gm_listeners_prepare(struct gm_listeners *ls, const struct gpamap_change *change,
			 const struct gpamap_listener **who);
/* Quiesce those that are not, in order, each with its share of the time until @deadline_ns. If one fails, *@who is
 * set, its errno is returned, and those before it stay quiesced. */
int gm_listeners_quiesce(struct gm_listeners *ls, uint64_t deadline_ns,
			 const struct gpamap_listener **who);
/* The rest in reverse order. Those that are quiesced go on. */
void gm_listeners_resume(struct gm_listeners *ls, bool changed);
/* Those that were prepared are told that the change is the map now, or that it will not be. */
void gm_listeners_applied(struct gm_listeners *ls, const struct gpamap_change *change);
void gm_listeners_cancelled(struct gm_listeners *ls);

#endif
