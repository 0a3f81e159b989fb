/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Single tests of a program that can't be done everywhere. With the name of one as its argument the program does that
 * alone, and a skip of it is one of the whole program: so meson.build can name it, and its skip is counted.
 */
#ifndef TEST_PART_H
#define TEST_PART_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static bool part_chosen, part_skipped;

/* Ends the calling test. */
static inline void part_skip(const char *why)
{
	printf("SKIP: %s\n", why);
	part_skipped = true;
	skip();
}

/* Before the tests run: false, if the argument names none of them. */
static inline bool part_choose(const struct CMUnitTest *tests, size_t n, int argc, char **argv)
{
	if (argc < 2)
		return true;
	for (size_t i = 0; i < n && !part_chosen; i++)
		part_chosen = !strcmp(tests[i].name, argv[1]);
	if (part_chosen)
		cmocka_set_test_filter(argv[1]);
	else
		fprintf(stderr, "there is no test %s\n", argv[1]);
	return part_chosen;
}

/* After them: the program's exit status. */
static inline int part_status(int failed)
{
	return failed ? 1 : part_chosen && part_skipped ? 77 : 0;
}

#endif
