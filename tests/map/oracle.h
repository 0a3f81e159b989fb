/* SPDX-License-Identifier: BSD-3-Clause */
/* What the random test and its comparisons share. */
#ifndef TESTS_MAP_ORACLE_H
#define TESTS_MAP_ORACLE_H

#include "fixture.h"
#include "model.h"

/* Where devices that aren't page-aligned begin and end, mostly. */
#define GRANULE 256

/* The library's side, the model's side, and which region is which. */
extern struct env env;
extern struct model now;
extern struct gpamap_region *ptr[MODEL_REGIONS];

extern uint64_t rng; /* state of rnd() */
uint64_t rnd(uint64_t n);
bool chance(unsigned one_in);

static inline uint64_t pages(uint64_t n)
{
	return n * PAGE;
}

/* A flat view of @space is what the model says. */
void compare_view(const struct gm_node *view, unsigned space);
/* Segments don't overlap, and are as long as can be. */
void check_segments(const struct gm_node *view);
/* RG1: places and entries are the same. */
void check_places(void);
/* PM1 and PM2: the pieces, and each region's list of its own. */
void check_pieces(void);
/* All of that, with everything flattened anew. */
void check_all(void);

#endif
