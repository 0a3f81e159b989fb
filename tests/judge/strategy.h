/* SPDX-License-Identifier: BSD-3-Clause */
/* Ways to bring changes to KVM while a guest boots. Functions give 0 or -errno, and on failure may say why in .message. */
#ifndef JUDGE_STRATEGY_H
#define JUDGE_STRATEGY_H

#include "change.h"
#include "pages.h"
#include "pc.h"

struct strategy;

/* A guest's boot, as the strategies see it. */
struct boot {
	const struct strategy *strategy;
	struct pc *pc;
	uint32_t slots; /* that KVM has */
	struct pages pages;
	uint64_t *dirty; /* bit i is page i: those fetched since the judge has looked */
	void *state;	 /* the strategy's */
	char message[200];
	/* What was done. */
	uint64_t changes[CHANGE_KINDS];
	uint64_t kicks;
	uint64_t gate_shut, merges; /* gpamap's own counters, at the end */
};

struct strategy {
	const char *name;
	unsigned map_flags; /* of gpamap_options */
	bool changes;	    /* does it? */
	bool kicks;	    /* nothing but signals */
	/* All slots, as boot->pages says. There are no vCPUs yet. */
	int (*start)(struct boot *b);
	/* boot->pages is what it is to be after this change. */
	int (*apply)(struct boot *b, const struct change *c);
	/* Add to boot->dirty, and clear. pre: pages.log */
	int (*fetch)(struct boot *b);
	/* Before the machine is freed; no vCPU runs. */
	void (*stop)(struct boot *b);
};

/* The map by the library. The strategies that change nothing have this, too. */
int ours_start(struct boot *b);
int ours_apply(struct boot *b, const struct change *c);
int ours_fetch(struct boot *b);
void ours_stop(struct boot *b);

/* By hand: one slot for each piece, deleted and created anew when the piece changes. The first while vCPUs run, the second
 * while they are held, and with the dirty bits of slots that go. */
int hand_start(struct boot *b);
int hand_apply_naive(struct boot *b, const struct change *c);
int hand_apply_inhibit(struct boot *b, const struct change *c);
int hand_fetch(struct boot *b);
void hand_stop(struct boot *b);

#endif
