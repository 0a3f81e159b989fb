/* SPDX-License-Identifier: BSD-3-Clause */
/* What other programs did with the processors meanwhile. Figures taken on a busy machine are worth little, and a
 * ratio that was missed on one says nothing. */
#ifndef BENCH_OTHERS_H
#define BENCH_OTHERS_H

struct others {
	double wall;
	double busy; /* of all processors, and what a hypervisor took of them */
	double own;  /* of this process */
};

void others_begin(struct others *o);
/* How many processors were not ours since then, on average. The kernel's own threads count as others, also
 * where they work for us. Negative: it can't be known here. */
double others_end(const struct others *o);

#endif
