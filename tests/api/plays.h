/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Small commits that give the ids and places of slots to others, where to the kernel the new slot is the old one
 * changed. For tests that let them fail, and their undo, too.
 */
#ifndef GM_TESTS_API_PLAYS_H
#define GM_TESTS_API_PLAYS_H

#include "common.h"

enum { MEMORY = 4 };

#define REGIONS 6
#define EACH 2 /* pages of a region */
#define AT(i) (PAGE * EACH * (i))

/* Regions r[0] to r[3] have memory of their own, r[4] has that of r[0] and r[5] that of r[1]. */
struct scene {
	struct vm vm;
	struct gpamap_region *root;
	struct gpamap_region *r[REGIONS];
};

/* What is there, and a commit that changes it. All of r[0] is logged where the first says so. */
struct play {
	const char *name;
	void (*first)(struct scene *s, struct gpamap_txn *txn);
	void (*edits)(struct scene *s, struct gpamap_txn *txn);
	unsigned flags;
	bool logs;
};

enum { RELABEL, CHAIN, PLAYS = 7 };

extern const struct play plays[PLAYS];

/* Once, before all. */
void plays_memory(void);
void scene_open(struct scene *s);
void scene_close(struct scene *s);

/* Edits; they must succeed. */
void scene_add(struct scene *s, struct gpamap_txn *txn, int r, uint64_t gpa);
void scene_move(struct scene *s, struct gpamap_txn *txn, int r, uint64_t gpa);
void scene_drop(struct scene *s, struct gpamap_txn *txn, int r);
void scene_log(struct scene *s, struct gpamap_txn *txn, int r);

/* The dirty bits of region @r. */
uint64_t scene_fetch(struct scene *s, int r);
/* A guest finds region @r at @gpa. */
void scene_check_region(struct scene *s, int r, uint64_t gpa);

#endif
