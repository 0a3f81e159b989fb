/* SPDX-License-Identifier: BSD-3-Clause */
/* What stands in the memory that the guest only reads: the same for the judge, which writes it, and the guest. */
#ifndef JUDGE_ROM_H
#define JUDGE_ROM_H

#include <stdint.h>

/* Word @i: no two are alike, and none is zero or all ones, which is what is read where nothing is. */
static inline uint64_t rom_word(uint64_t i)
{
	uint64_t x = (i + 1) * UINT64_C(0x9e3779b97f4a7c15);

	x ^= x >> 31;
	return x * UINT64_C(0xbf58476d1ce4e5b9) | 1;
}

#endif
