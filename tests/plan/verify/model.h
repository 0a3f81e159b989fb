/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The verifier's own: a model of the kernel's slots that obeys the kernel's rules, and what the next views say.
 * Shares nothing with the planner but KVM's rules, so that both would have to be wrong in the same way.
 */
#ifndef TEST_PLAN_MODEL_H
#define TEST_PLAN_MODEL_H

#include "verify.h"

/*
 * All slots that the kernel has at some time, sorted by space and GPA, and which of them it has now. Those that
 * it has never overlap, so the one that holds an address is the last one that begins at or before it.
 */
struct gm_model {
	const struct gm_verify_input *in;
	const struct gm_plan *plan;
	struct gm_msg *msg;
	struct gm_msg
		why; /* of the last rule that was found broken, where it is more than a constant */
	struct gm_slot *slot; /* by rank */
	size_t n;
	size_t *rank;	 /* of old slots, then of what each operation makes */
	uint64_t *alive; /* one bit per rank */
	uint64_t *words; /* one bit per word of alive: is there anything in it? */
	size_t *by_id;	 /* by space and id: rank + 1; 0: not there */
	uint32_t id_room;
	uint32_t *count; /* by space */
};

/* model.c */

/* -EINVAL: the old slots can't be what a kernel has. -ENOMEM. */
int gm_model_init(struct gm_model *m, const struct gm_plan *plan, const struct gm_verify_input *in,
		  struct gm_msg *msg);
void gm_model_destroy(struct gm_model *m);
/* Do operation @i, as a kernel would: -EINVAL if it would refuse. (V1) */
int gm_model_do(struct gm_model *m, size_t i);
/* The slot that holds @gpa now; NULL: none. */
const struct gm_slot *gm_model_at(const struct gm_model *m, uint32_t space, uint64_t gpa);
/* The slot of @space that begins at @gpa, or else the next one above; NULL: none. */
const struct gm_slot *gm_model_next(const struct gm_model *m, uint32_t space, uint64_t gpa);

/* views.c */

/* What a guest finds at an address. */
struct gm_sight {
	uint64_t hva;
	uint64_t gmem_offset;
	int gmem_fd;
	uint32_t flags; /* GM_SLOT_*, without LOG */
	bool log;
};

struct gm_sight gm_sight_of_slot(const struct gm_slot *s, uint64_t gpa);
/* Without a look at log. */
bool gm_sight_same(const struct gm_sight *a, const struct gm_sight *b);

/* Whole pages that a view backs with memory that goes on from the first byte to the last. */
struct gm_stretch {
	struct gm_range range;
	struct gm_sight sight; /* at range.first */
};

struct gm_sight gm_stretch_at(const struct gm_stretch *s, uint64_t gpa);
/* The first stretch in @within, whole pages, clipped to it. False: none is left. */
bool gm_stretch_find(const struct gm_node *view, uint64_t page_size, struct gm_range within,
		     struct gm_stretch *ret);
/* Are the slots of the model just what the views say? -EINVAL. (V3) */
int gm_model_compare(const struct gm_model *m);

#endif
