/* SPDX-License-Identifier: BSD-3-Clause */
/* `gpamap torture`: strategies one after the other, what each showed, and the verdict. */
#ifndef TORTURE_TORTURE_H
#define TORTURE_TORTURE_H

#include <stdio.h>

#include "options.h"
#include "percentiles.h"
#include "run.h"

#define MAX_CELLS (HAZARD_COUNT * MODE_COUNT)

/* One hazard in one mode. */
struct cell {
	enum hazard hazard;
	enum mode mode;
	struct tally tally;
};

/* What one strategy showed. */
struct result {
	const struct strategy *strategy;
	struct tally total;
	struct cell cell[MAX_CELLS];
	unsigned cells;
	struct samples blackout_us;
	char message[280]; /* of the first commit that failed */
};

enum verdict {
	VERDICT_KEPT = 0,     /* gpamap showed no violation, and naive, the control, did */
	VERDICT_BROKEN = 1,   /* gpamap showed a violation */
	VERDICT_UNPROVEN = 2, /* one of them did not run, or the control showed nothing */
};

struct report {
	const struct options *options;
	const struct port *port;
	struct result result[STRATEGY_COUNT];
	unsigned results;
	enum verdict verdict;
};

/* Run one cell for @seconds, and add what it shows to @res. 0 or -errno, with a message on stderr. */
int cell_run(const struct options *o, const struct port *port, double seconds, struct cell *cell,
	     struct result *res);

/* Everything. Returns the exit status. */
int torture(const struct options *o);

/* The table (report.c) and the JSON (json.c): 0 or -errno. */
void report_table(const struct report *r, FILE *f);
int report_json(const struct report *r, FILE *f);

#endif
