/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Listeners for tests: they write down what they are called for, fail on demand, and look each time whether the
 * map that they see is the one that they were promised.
 */
#ifndef GM_TESTS_API_LISTENING_H
#define GM_TESTS_API_LISTENING_H

#include "gpamap-listener.h"
#include "common.h"

#define EARS 3

struct ear {
	struct vm *vm;
	char id;
	int refuses;  /* what prepare answers */
	int fails;    /* what quiesce answers */
	unsigned nth; /* and only at this call of it, from 1; 0: each */
	unsigned quiesced;
	/* Called in each callback, with its letter: p, q, + or - (resume), a, c. */
	void (*also)(struct ear *e, char at);
	/* Set by prepare: where the views first differ in space 0, and what is there. */
	bool checks;
	uint64_t gpa;
	struct seen before;
	struct seen after;
	struct gpamap_listener *l;
};

extern struct ear ears[EARS];
extern char heard[512];

/* Three of them, a, b and c by priority, but not added in this order. What the additions said is forgotten. */
void ears_open(struct vm *vm);
/* Their names are "ear a" and so on. */
void ear_add(struct vm *vm, struct ear *e, char id, int priority);
void ears_close(void);
/* Fails nowhere any more. */
void ears_reset(void);

/* What has been called since the last time. */
#define expect_heard(calls)                          \
	do {                                         \
		assert_string_equal(heard, (calls)); \
		heard[0] = '\0';                     \
	} while (0)

/* A VM of which pages 0 to 15 are A and page 40, a region with a release callback, is B, with listeners. The set-up of
 * each test, and of all. */
int ears_memory(void **state);
int ears_setup(void **state);
int ears_teardown(void **state);
#define each(test) cmocka_unit_test_setup_teardown(test, ears_setup, ears_teardown)

/* A split, which is critical, with something early and something late. */
struct gpamap_txn *begin_split(void);
void check_split(void);

#endif
