/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What KVM can't be asked, found out by slot requests: which ids are in use, and how far addresses go.
 *
 * All rests on the order in which KVM looks at a request (plan/kvm_rules.c). A probe is a request for one page of
 * host memory that is the library's own, so no slot but a probe's can have it. Then
 *
 *     the id is in use                              -EINVAL: other host memory; nothing happens (K46)
 *     it is free, and a slot is at that GPA         -EEXIST: nothing happens (K46)
 *     it is free, and nothing is there              0: a slot is made; or an errno of the architecture's
 *
 * A slot that has been made is deleted before the function returns. Invariant PB1: `left` is false when no function
 * is under way, unless that delete failed; then the next one, and the end, try it again.
 *
 * Why that can't harm, even if vCPUs run:
 *  - A refused request changes nothing, and waits for nobody but who is changing slots.
 *  - A slot is made only at a GPA where there was none, for some microseconds, and only where no refusal can tell:
 *    for the limits, and for ids while the map has no slot yet. Its GPA is the lowest of the upper half of what the
 *    VM can have. Its memory is a page of zeros that nobody uses, and read-only where KVM has that: a guest that
 *    stores there meanwhile exits as it would without it, one that loads there may get zeros for once.
 *  - Like any slot operation it waits for vCPUs that are inside KVM. A map is best made before there are any.
 */
#ifndef GM_BACKEND_PROBE_H
#define GM_BACKEND_PROBE_H

#include "backend/backend.h"

struct gm_probe {
	struct gm_backend *b;
	uint64_t hva; /* of a page that is in no slot */
	uint64_t gpa; /* one that a slot may have; GM_NO_LIMIT: none is known */
	bool left;    /* `slot` is in KVM */
	struct gm_slot slot;
};

/*
 * Learn limits.last_gpa and limits.last_hva of @p->b, which are GM_NO_LIMIT where it can't be known: no free id
 * among the last ones, no memory, or an architecture that has other rules. Neither is less than the truth: both are
 * one less than a power of two, and exact where the truth is. -errno: a probe could not be removed.
 */
int gm_probe_limits(struct gm_probe *p);
/* As gm_backend_ops.ids_free. Where it can't be told, since the map has no slot and no legal GPA is known, or
 * the kernel gives -EINVAL for each id, none counts as taken. */
int gm_probe_ids(struct gm_probe *p, unsigned space, const uint32_t *ids, size_t n,
		 const struct gm_slot *ours, uint32_t *taken);
/* Try again to remove what is left. 0 or -errno. */
int gm_probe_end(struct gm_probe *p);

#endif
