/* SPDX-License-Identifier: BSD-3-Clause */
/* For tests: an allocator that counts, and can fail the nth allocation or all from then on. */
#ifndef GM_TESTS_COUNTING_H
#define GM_TESTS_COUNTING_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <stdio.h>

#include "base/alloc.h"

struct counting {
	struct gm_alloc alloc;
	size_t live;  /* not yet freed */
	size_t calls; /* of alloc */
	size_t fail;  /* which call fails, from 1; 0: none */
	bool for_good;
};

static void *counting_alloc(void *opaque, size_t size)
{
	struct counting *c = opaque;
	void *ptr;

	c->calls++;
	if (c->fail && (c->calls == c->fail || (c->for_good && c->calls > c->fail)))
		return NULL;
	ptr = malloc(size);
	if (ptr) {
		memset(ptr, 0xa5, size);
		c->live++;
	}
	return ptr;
}

static void counting_free(void *opaque, void *ptr)
{
	struct counting *c = opaque;

	c->live--;
	free(ptr);
}

static inline void counting_init(struct counting *c)
{
	*c = (struct counting){.alloc = {counting_alloc, counting_free, c}};
}

/* Let the @nth allocation from now on fail; 0: none. */
static inline void counting_fail(struct counting *c, size_t nth, bool for_good)
{
	c->fail = nth ? c->calls + nth : 0;
	c->for_good = for_good;
}

/* Random numbers from a seed that is printed, and taken from GPAMAP_TEST_SEED. */
static uint64_t random_state;

static inline void random_init(void)
{
	const char *seed = getenv("GPAMAP_TEST_SEED");

	random_state = seed ? strtoull(seed, NULL, 0) : 0x5eed;
	printf("seed: GPAMAP_TEST_SEED=%llu\n", (unsigned long long)random_state);
}

static inline uint64_t random_next(void)
{
	uint64_t z = random_state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

/* 0 <= result < @n */
static inline uint64_t random_below(uint64_t n)
{
	return random_next() % n;
}

#endif
