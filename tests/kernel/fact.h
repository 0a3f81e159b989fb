/* SPDX-License-Identifier: BSD-3-Clause */
/* A fact about kernels, and what became of it on this one. */
#ifndef TEST_KERNEL_FACT_H
#define TEST_KERNEL_FACT_H

#include <stdbool.h>
#include <stddef.h>

enum verdict { HOLDS, DIFFERS, NOT_HERE };

/* Holds until something says otherwise. The first that differs is what is told. */
struct outcome {
	enum verdict verdict;
	char text[256]; /* what differs, why it can't be had, or what was measured */
};

struct fact {
	const char *id; /* never given to another one */
	const char *statement;
	/* Does the library rest on it? Others are here to be known: kernels differ. */
	bool must;
	void (*test)(struct outcome *o);
};

/* Each ends with an entry without an id. */
extern const struct fact slot_facts[], space_facts[], dirty_facts[], live_facts[], change_facts[],
	kick_facts[], wide_facts[], host_facts[];
/* Only if they are asked for by name: they may make the kernel warn, and not every kernel lives on after that. */
extern const struct fact warning_facts[];

const char *errno_name(int err);
/* Errnos are positive here, and 0 is success. @what: in which case. */
void expect_errno(struct outcome *o, const char *what, int got, int want);
/* The text says what is the case if the condition is not. */
__attribute__((format(printf, 3, 4))) void expect(struct outcome *o, bool condition,
						  const char *otherwise, ...);
/* It can't be had here, and why. Return then. */
__attribute__((format(printf, 2, 3))) void not_here(struct outcome *o, const char *why, ...);
/* Add to the text of a fact that holds. */
__attribute__((format(printf, 2, 3))) void measured(struct outcome *o, const char *value, ...);

/* The tests themselves can't go on. */
__attribute__((noreturn)) void die(const char *what);
#define need(condition)                  \
	do {                             \
		if (!(condition))        \
			die(#condition); \
	} while (0)

#endif
