/* SPDX-License-Identifier: BSD-3-Clause */
/* The options of the judge. */
#ifndef JUDGE_OPTIONS_H
#define JUDGE_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "strategy.h"

struct options {
	const char *kernel, *initrd, *append;
	const struct strategy *strategy;
	uint64_t memory;
	unsigned cpus;
	bool no_pv_eoi;
	double every_ms; /* from the end of a change to the next */
	uint64_t seed;
	double limit_s;	 /* for the whole boot */
	double silent_s; /* a guest that writes nothing for so long is hung */
	bool show;	 /* what it writes, on standard error */
};

/* False: they are wrong, and the reason is on stderr. */
bool options_parse(struct options *o, int argc, char **argv);

#endif
