/* SPDX-License-Identifier: BSD-3-Clause */
/* The changes, and which one comes next. */
#ifndef JUDGE_CHANGE_H
#define JUDGE_CHANGE_H

#include "pages.h"

enum change_kind {
	CHANGE_REBACK,	 /* pages get the other host address, or their first one back */
	CHANGE_SPLIT,	 /* pages have to be a slot of their own, or need not any more */
	CHANGE_MERGE,	 /* all RAM becomes one piece again */
	CHANGE_READONLY, /* pages that are only read become read-only, or not any more */
	CHANGE_BESIDE,	 /* more or less memory beside */
	CHANGE_LOG,	 /* on or off */
	CHANGE_FETCH,	 /* the dirty log */
	CHANGE_LIMIT,	 /* fewer slots may be used */
	CHANGE_KINDS,
};

extern const char *const change_names[CHANGE_KINDS];

struct change {
	enum change_kind kind;
	size_t first, count; /* the pages that it is about */
};

/* Choose one, and make @p what it will be. *@random is the state of the choice. */
struct change change_next(struct pages *p, uint64_t *random);
/* A number from 0 to @below - 1. */
uint64_t change_random(uint64_t *random, uint64_t below);

#endif
