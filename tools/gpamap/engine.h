/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Slots as a program without the library keeps them: one for each piece of the flat map, deleted and
 * created anew whenever the piece changes. naive and inhibit share it, and differ in who is held.
 */
#ifndef TORTURE_ENGINE_H
#define TORTURE_ENGINE_H

#include "run.h"

struct engine_slot {
	struct seg seg;
	uint32_t id;
	bool stays; /* in the next map as it is, but for the log flag */
};

struct engine {
	struct run *run;
	size_t room;
	size_t count;
	struct engine_slot *slot; /* by gpa */
	size_t next_count;
	struct engine_slot *next;
	struct seg *flat;
	bool *used;	  /* by id */
	uint64_t *bitmap; /* of one slot */
	uint64_t *carry;  /* dirty pages of the arena from slots that are gone */
	uint64_t ioctls;
};

/* Make the slots of run->arena. 0 or -errno. */
int engine_init(struct engine *e, struct run *r);
void engine_destroy(struct engine *e);

/* Work out the slots of run->arena as it is now: what stays, goes and comes. */
void engine_plan(struct engine *e);
/* Of the plan: does a slot that goes overlap one that comes? */
bool engine_overlaps(const struct engine *e);
/* Carry out the plan: log flags, then all deletes, then all creates. With @harvest the dirty bits of a
 * slot that goes are kept. *@ns: from the first delete to the last create; 0 if there was not both. */
int engine_do(struct engine *e, bool harvest, uint64_t *ns);
/* As strategy.fetch_dirty. */
int engine_fetch_dirty(struct engine *e, uint64_t *bitmap);

#endif
