/* SPDX-License-Identifier: BSD-3-Clause */
/* The options of `gpamap torture`, and the names of what can be chosen. */
#ifndef TORTURE_OPTIONS_H
#define TORTURE_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "edits.h"
#include "guest.h"
#include "port.h"

enum backend { BACKEND_AUTO, BACKEND_KVM, BACKEND_SIM };
enum strategy_id { STRATEGY_NAIVE, STRATEGY_INHIBIT, STRATEGY_GPAMAP, STRATEGY_COUNT };

struct options {
	enum backend backend;
	unsigned vcpus;
	double seconds;	     /* for each strategy */
	unsigned strategies; /* sets of bits, by enum */
	unsigned hazards;
	unsigned modes;
	enum edit edit;
	bool no_instant; /* see options_one_instant() */
	uint64_t seed;
	uint64_t memory;
	uint32_t max_slots; /* for gpamap; 0: as many as there are */
	const char *json;   /* file name, "-" or NULL */
};

extern const char *const strategy_names[STRATEGY_COUNT];
extern const char *const hazard_names[HAZARD_COUNT];
extern const char *const mode_names[MODE_COUNT];
extern const char *const edit_names[EDIT_COUNT];

/* Read the arguments after `torture`. False: they are wrong, and the reason is on stderr. */
bool options_parse(struct options *o, int argc, char **argv);
/* Does gpamap commit with GPAMAP_COMMIT_ONE_INSTANT? */
static inline bool options_one_instant(const struct options *o)
{
	return o->edit == EDIT_INSTANT && !o->no_instant;
}
/* Is this hazard in this mode one of those chosen? And how many are. */
static inline bool options_cell(const struct options *o, enum hazard hazard, enum mode mode)
{
	return o->hazards & (1u << hazard) && o->modes & (1u << mode) &&
	       (hazard != HAZARD_ITS || mode == MODE_SUPERVISOR);
}
unsigned options_cells(const struct options *o);
/* What `gpamap --help` says of them. */
extern const char options_help[];

#endif
