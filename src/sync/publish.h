/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Publication of flat views by RCU: readers take the current set of views without a lock, the committer
 * replaces it for all address spaces at once, and frees the old one when no reader can hold it.
 *
 * A read section is short and never blocks: whoever needs memory for longer takes a reference on its
 * region in the section. So the grace period that a commit waits for is short (P6).
 */
#ifndef GM_SYNC_PUBLISH_H
#define GM_SYNC_PUBLISH_H

#include <stdatomic.h>

#include "base/tree.h"

struct gm_views {
	unsigned nr_spaces;
	const struct gm_node *root[]; /* by address space */
};

struct gm_publish {
	_Atomic(struct gm_views *) current;
};

void gm_read_lock(void);
void gm_read_unlock(void);
/* Valid until gm_read_unlock(). */
static inline const struct gm_views *gm_views_get(struct gm_publish *p)
{
	return atomic_load_explicit(&p->current, memory_order_acquire);
}
/* Make @views current; returns the old ones, to be freed after gm_synchronize(). */
struct gm_views *gm_views_set(struct gm_publish *p, struct gm_views *views);
/* Wait until every read section that has begun before has ended. Not from within one. */
void gm_synchronize(void);

#endif
